"""
What the fuzzer tries: for each mode, a case of each number.

A case follows from mode, seed and number alone, so that any can be made again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from tests.fuzz.case import Case, Step
from tests.fuzz.material import (
    ATTRIBUTES,
    AUDIO,
    BODIES,
    CRYPTO,
    EVENTS,
    FINALS,
    HEADERS,
    HERE,
    LINES,
    METHODS,
    SECURE,
    USERS,
    reports,
    request,
    response,
    rtp,
    sdp,
)
from tests.fuzz.mutate import ANY_TEXT, Mutation, change_number, insert_line, mutate, mutate_bytes

_MEDIA_LINE = re.compile(r"^m=(\S+) (\S+) (\S+)(.*)$", re.MULTILINE)
_PORTS = ("0", "0", "0", "1", "65535", "65536", "-1", "40000/2", "%media%", "")
_PROFILES = (
    "RTP/AVP",
    "RTP/AVPF",
    "RTP/SAVP",
    "RTP/SAVPF",
    "UDP/TLS/RTP/SAVP",
    "UDP/TLS/RTP/SAVPF",
    "udptl",
    "TCP/RTP/AVP",
    "x",
    "",
)
_FORMATS = (
    "0",
    "0 0 0",
    "8 0",
    "9",
    "",
    "*",
    "13 0",
    "101",
    "255 -1",
    "t38",
    " ".join(map(str, range(60))),
    "96 97 98 0",
)
_FRAMES = tuple(rtp(0, n, n * 160, bytes((n,)) * 160) for n in range(1, 6))
_PRESSES = tuple(rtp(101, 10 + n, 1600, bytes((5, 0x80 if n > 2 else 0, 0, n * 20)), marker=not n) for n in range(5))
_OK = sdp()


def case_of(mode: str, seed: int, number: int) -> Case:
    """Return the case of a number in a mode of ``MODES``."""
    dice = random.Random(f"{mode} {seed} {number}")
    return Case(f"{mode}-{seed}-{number}", tuple(MODES[mode](dice)))


# --- session descriptions ---


def _change_media(dice: random.Random, text: str, change: Callable[[re.Match[str]], str]) -> str:
    lines = list(_MEDIA_LINE.finditer(text))
    if not lines:
        return text
    line = dice.choice(lines)
    return text[: line.start()] + change(line) + text[line.end() :]


def port_of_a_line(dice: random.Random, text: str) -> str:
    port = dice.choice(_PORTS)
    return _change_media(dice, text, lambda line: f"m={line[1]} {port} {line[3]}{line[4]}")


def profile_of_a_line(dice: random.Random, text: str) -> str:
    profile = dice.choice(_PROFILES)
    return _change_media(dice, text, lambda line: f"m={line[1]} {line[2]} {profile}{line[4]}")


def formats_of_a_line(dice: random.Random, text: str) -> str:
    formats = dice.choice(_FORMATS)
    return _change_media(dice, text, lambda line: f"m={line[1]} {line[2]} {line[3]} {formats}")


def another_line(dice: random.Random, text: str) -> str:
    """Put media lines before or behind the ones there are."""
    first = text.find("m=")
    at = dice.choice((first if first >= 0 else len(text), len(text)))
    return text[:at] + dice.choice(LINES) * dice.choice((1, 1, 1, 2, 8)) + text[at:]


def address_elsewhere(dice: random.Random, text: str) -> str:
    """Take the session's c= line away, and give it to some media lines or none."""
    text = text.replace(HERE, "", dice.choice((0, 1)))
    line = dice.choice((HERE, "c=IN IP6 ::1\r\n", "c=IN IP4 0.0.0.0\r\n", ""))
    return _MEDIA_LINE.sub(lambda found: found[0] + "\n" + line if dice.random() < 0.5 else found[0], text)


SDP_ONLY: tuple[Mutation, ...] = (
    *(
        port_of_a_line,
        port_of_a_line,
        profile_of_a_line,
        formats_of_a_line,
        another_line,
        another_line,
        address_elsewhere,
    ),
    *(address_elsewhere, insert_line(ATTRIBUTES), insert_line(ATTRIBUTES), change_number),
)


def description(dice: random.Random) -> str:
    """Return a mutated session description."""
    start = sdp(
        dice.choice((AUDIO, AUDIO, SECURE, AUDIO + SECURE, AUDIO + CRYPTO, f"m=audio %media% RTP/AVP 0\r\n{EVENTS}"))
    )
    most = dice.choice((SDP_ONLY, SDP_ONLY, (*SDP_ONLY, *ANY_TEXT), ANY_TEXT))
    return mutate(dice, start, most, most=5)


# --- the modes ---


def _text(kind: str, text: str) -> Step:
    return Step(kind, text.encode("utf-8", "surrogateescape"))  # type: ignore[arg-type]


def _ack(cseq: int = 1, body: str = "") -> Step:
    return _text("send", request("ACK", cseq=cseq, inside=True, body=body))


def _bye(cseq: int = 90) -> Step:
    return _text("send", request("BYE", cseq=cseq, inside=True))


def message(dice: random.Random) -> Sequence[Step]:
    """Any message, out of the blue."""
    mutations = (*ANY_TEXT, insert_line(HEADERS, "Via"), insert_line(HEADERS, "Via"))
    if dice.random() < 0.12:
        text = f"SIP/2.0 {dice.choice(FINALS)}\r\n" + request(dice.choice(METHODS), inside=True).partition("\r\n")[2]
    else:
        text = request(
            dice.choice((*METHODS, "INVITE", "INVITE")), user=dice.choice(USERS), body=dice.choice(("", _OK))
        )
    return (_text("send", mutate(dice, text, mutations)),)


def offer(dice: random.Random) -> Sequence[Step]:
    """An INVITE that offers odd media, or whose ACK answers oddly."""
    more = dice.choice(("", "", "Supported: timer, 100rel\r\n", "Session-Expires: 90\r\nSupported: timer\r\n"))
    user = dice.choice(("1000", "1000", "1000", "early"))
    if dice.random() < 0.15:
        return (_text("ask", request("INVITE", user=user, more=more)), _ack(body=description(dice)), _bye())
    return (_text("ask", request("INVITE", user=user, more=more, body=description(dice))), _ack(), _bye())


def answer(dice: random.Random) -> Sequence[Step]:
    """Odd answers to the target's own INVITE."""
    steps = [Step("dial")]
    for _ in range(dice.choice((0, 0, 1, 2))):
        body = dice.choice((_OK, description(dice), ""))
        more = dice.choice(("", "Require: 100rel\r\nRSeq: 1\r\n"))
        steps.append(
            _text("reply", response(dice.choice(("180 Ringing", "183 Session Progress")), more=more, body=body))
        )
    body = dice.choice((description(dice), description(dice), description(dice), _OK, ""))
    status = dice.choice(("200 OK", "200 OK", "200 OK", *FINALS))
    text = response(status, body=body)
    if dice.random() < 0.15:
        text = mutate(dice, text, (*ANY_TEXT, insert_line(HEADERS, "SIP")))
    steps.append(_text("reply", text))
    if dice.random() < 0.5:
        steps.append(_text("ask", _as_callee(dice, dice.choice(("INVITE", "UPDATE", "INFO")), description(dice))))
    steps.append(_text("send", _as_callee(dice, "BYE", "")))
    return steps


def _as_callee(dice: random.Random, method: str, body: str) -> str:
    """Return a request of ours inside a call that the target began."""
    text = request(method, cseq=dice.randrange(1, 99), body=body)
    text = re.sub(r"^From:.*$", "From: %their-to%", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"^To:.*$", "To: %their-from%", text, count=1, flags=re.MULTILINE)
    return text.replace("Call-ID: %id%", "Call-ID: %their-id%")


def dialog(dice: random.Random) -> Sequence[Step]:
    """A call, and inside it requests in odd orders with odd bodies."""
    user = dice.choice((*USERS, "1000", "1000", "early", "second-%sip%"))
    more = dice.choice(("", "Supported: timer, 100rel\r\n", "Allow: UPDATE, PRACK, INFO, REFER\r\n"))
    steps = [_text("ask", request("INVITE", user=user, more=more, body=dice.choice((_OK, _OK, _OK, sdp(SECURE), ""))))]
    if dice.random() < 0.85:
        steps.append(_ack(body=dice.choice(("", "", _OK, description(dice)))))
    for cseq in range(2, 2 + dice.choice((1, 2, 3, 6))):
        steps.extend(_inside(dice, cseq if dice.random() < 0.9 else dice.choice((0, 1, 2, 2147483647, 4294967295))))
    steps.append(_bye())
    return steps


def _inside(dice: random.Random, cseq: int) -> Sequence[Step]:
    method = dice.choice(
        (
            "INVITE",
            "INVITE",
            "UPDATE",
            "UPDATE",
            "PRACK",
            "ACK",
            "INFO",
            "NOTIFY",
            "BYE",
            "CANCEL",
            "REFER",
            "OPTIONS",
            "MESSAGE",
        )
    )
    kind, body = "", dice.choice((_OK, description(dice), description(dice), ""))
    if method in ("INFO", "NOTIFY", "MESSAGE") or dice.random() < 0.1:
        kind, body = _odd_body(dice)
    more = ""
    if method == "PRACK":
        more = dice.choice(("RAck: %rseq% 1 INVITE\r\n", "RAck: 1 1 INVITE\r\n", "RAck: x\r\n", ""))
    elif dice.random() < 0.2:
        more = dice.choice(HEADERS) + "\r\n"
    text = request(method, cseq=cseq, inside=dice.random() < 0.95, more=more, body=body, kind=kind)
    if dice.random() < 0.15:
        text = mutate(dice, text, (*ANY_TEXT, insert_line(HEADERS, "Via")), most=2)
    if method == "INVITE" and dice.random() < 0.8:
        return (_text("ask", text), _ack(cseq, dice.choice(("", "", "", description(dice)))))
    return (_text(dice.choice(("send", "ask")), text),)


def _odd_body(dice: random.Random) -> tuple[str, str]:
    kind = dice.choice(sorted(BODIES))
    body = dice.choice(BODIES[dice.choice((kind, kind, kind, dice.choice(sorted(BODIES))))])
    if dice.random() < 0.6:
        body = mutate(dice, body, ANY_TEXT, most=2)
    if dice.random() < 0.15:
        kind = mutate(dice, kind, ANY_TEXT, most=1).replace("\r", "").replace("\n", "")
    return kind, body


def info(dice: random.Random) -> Sequence[Step]:
    """Bodies of INFO, NOTIFY and MESSAGE, before and after the answer."""
    user = dice.choice(("1000", "1000", "ringing", "early", "refer-%sip%"))
    steps = [_text("ask", request("INVITE", user=user, body=_OK))]
    if user != "ringing":
        steps.append(_ack())
    for cseq in range(2, 2 + dice.choice((1, 4, 8))):
        kind, body = _odd_body(dice)
        method = dice.choice(("INFO", "INFO", "INFO", "NOTIFY", "MESSAGE"))
        more = "Event: refer\r\nSubscription-State: active\r\n" if method == "NOTIFY" else ""
        steps.append(_text("ask", request(method, cseq=cseq, inside=True, more=more, body=body or " ", kind=kind)))
    steps.append(_bye() if user != "ringing" else _text("send", request("CANCEL")))
    return steps


def media(dice: random.Random) -> Sequence[Step]:
    """Packets to the ports of a call's audio."""
    body = dice.choice((_OK, _OK, sdp(SECURE), sdp(AUDIO + CRYPTO)))
    steps = [_text("ask", request("INVITE", body=body)), _ack()]
    for _ in range(dice.choice((5, 20, 60))):
        roll = dice.random()
        if roll < 0.25:
            steps.append(Step("rtcp", mutate_bytes(dice, b"".join(dice.choices(reports(), k=dice.choice((1, 2, 6)))))))
        elif roll < 0.35:
            steps.append(Step("rtp", dice.randbytes(dice.choice((0, 1, 2, 11, 12, 13, 60, 1400)))))
        elif roll < 0.45:
            kind = dice.choice((0, 8, 13, 101, 127, dice.randrange(128)))
            steps.append(
                Step(
                    "rtp",
                    rtp(
                        kind,
                        dice.getrandbits(16),
                        dice.getrandbits(32),
                        dice.randbytes(dice.choice((0, 1, 3, 4, 160, 1000))),
                    ),
                )
            )
        else:
            packet = dice.choice((*_FRAMES, *_PRESSES, *reports()))
            steps.append(Step("rtp", mutate_bytes(dice, packet) if dice.random() < 0.7 else packet))
        if dice.random() < 0.03:
            steps.append(Step("wait", b"25"))
    steps.append(_bye())
    return steps


def stream(dice: random.Random) -> Sequence[Step]:
    """Messages over TCP: in pieces, several at once, of a wrong length, on connections that end anywhere."""
    steps = [Step("connect")]
    for _ in range(dice.choice((1, 2, 4))):
        methods = dice.choices(
            ("OPTIONS", "INVITE", "INVITE", "BYE", "REGISTER", "CANCEL", "NONSENSE"), k=dice.choice((1, 1, 2, 5))
        )
        texts = [request(method, body=_OK if method == "INVITE" else "", over="TCP") for method in methods]
        if dice.random() < 0.6:
            texts = [
                _other_length(dice, mutate(dice, text, ANY_TEXT, most=2) if dice.random() < 0.5 else text)
                for text in texts
            ]
        data = dice.choice(("", "\r\n\r\n", "\r\n", "\0")) + "".join(texts) + dice.choice(("", "\r\n\r\n", "x"))
        size = dice.choice((len(data) or 1, 1 + len(data) // 2, 1 + len(data) // 7, 400))
        steps.extend(_text("write", data[at : at + size]) for at in range(0, len(data), size))
        if dice.random() < 0.3:
            steps.append(dice.choice((Step("close"), Step("reset"), Step("wait", b"20"))))
            steps.append(Step("connect"))
    steps.append(dice.choice((Step("close"), Step("reset"), Step("wait", b"5"))))
    return steps


def _other_length(dice: random.Random, text: str) -> str:
    length = dice.choice(
        ("%length%", "%length%", "0", "1", "-1", "5000", "4294967296", "99999999999999999999", "x", "", "% length%")
    )
    return text.replace("%length%", length)


MODES: dict[str, Callable[[random.Random], Sequence[Step]]] = {
    "message": message,
    "offer": offer,
    "answer": answer,
    "dialog": dialog,
    "info": info,
    "rtp": media,
    "tcp": stream,
}
