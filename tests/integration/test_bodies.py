"""Bodies before the library: offers, answers and keys that ended the process, in every place where they may stand."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.rigs.screened import DTLS, KEY, Caller, Target, caller, screened, tag_of

pytestmark = pytest.mark.integration

AUDIO = "m=audio 7000 RTP/AVP 0\r\n"
PATIENT_S = 40.0  # each change of the media takes a machine that is busy a while
OWN = "c=IN IP4 127.0.0.1\r\n"


def described(media: str, connection: str = OWN) -> str:
    return f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n{connection}t=0 0\r\n{media}"


GOOD = described(AUDIO)
TAKEN = {
    "off, without a c= line, behind audio with one": described(AUDIO + OWN + "m=video 0 RTP/AVP 96\r\n", ""),
    "video before the audio": described("m=video 7002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n" + AUDIO),
    "fax before the audio": described("m=image 7002 udptl t38\r\n" + AUDIO),
    "text, off, of IPv6": described("m=text 0 RTP/AVP 98\r\nc=IN IP6 ::1\r\n" + AUDIO),
    "floor control": described("m=application 9 TCP/BFCP *\r\nc=IN IP4 host.invalid\r\n" + AUDIO),
    "data channel": described("m=application 9 DTLS/SCTP 5000\r\n" + AUDIO),
    "audio that is off before audio": described("m=audio 0 RTP/AVP 0\r\n" + AUDIO),
    "two of audio": described(AUDIO + AUDIO),
    "DTLS beside": described(DTLS + AUDIO),
    "a number without an rtpmap": described("m=audio 7000 RTP/AVP 0 101\r\n"),
    "numbers twice": described("m=audio 7000 RTP/AVP 101 0 101 0\r\na=rtpmap:101 telephone-event/16000\r\n"),
    "a number for PCMA": described("m=audio 7000 RTP/AVP 97\r\na=rtpmap:97 PCMA/8000\r\n"),
    "on hold": described(AUDIO + "a=inactive\r\n", "c=IN IP4 0.0.0.0\r\n"),
    "odd numbers": described(AUDIO + "a=ptime:65000\r\na=maxptime:0\r\na=rtcp:0\r\na=rtpmap:65535 X/1\r\na=ssrc:\r\n"),
}
REFUSED = {
    "the first datagram that ended the process": (
        "v=0\r\no=kit 1 1 IN IP4 127.0.0.3\r\ns=-\r\na=rtpmap:0\r\nm=audio 0 RTP/AVP 0\r\nt=0 0\r\n"
        "m=audio 40000 RTP/AVP 0 101\r\nc=IN IP6 ::1\r\na=rtpmap:101 telephone-event/8000\r\np=+1\r\n"
    ),
    "nothing but video": described("m=video 7000 RTP/AVP 96\r\n"),
    "audio that is off": described("m=audio 0 RTP/AVP 0\r\n"),
    "no line": described(""),
    "no address": described(AUDIO, ""),
    "a name": described(AUDIO, "c=IN IP4 host.invalid\r\n"),
    "an unknown profile": described("m=audio 7000 RTP/X 0\r\n"),
    "many lines": described(AUDIO * 20),
    "many keys with blanks": described("m=audio 7000 RTP/SAVP 0\r\n" + KEY + "a=crypto 2 A inline:x\r\n" * 62),
    "no description": "hello\r\n",
}


@contextmanager
def process_with_a_call(srtp: str) -> Iterator[Target]:
    """A process with a call that must live through all that comes."""
    with screened({"srtp": srtp}) as target, caller(target) as live:
        tag = live.call()
        yield target
        assert live.ask(live.request("BYE", cseq=2, to_tag=tag)).startswith("SIP/2.0 200")


@pytest.fixture(scope="module")
def plain() -> Iterator[Target]:
    with process_with_a_call("off") as target:
        yield target


@pytest.fixture(scope="module")
def secure() -> Iterator[Target]:
    with process_with_a_call("optional") as target:
        yield target


@pytest.fixture(params=["plain", "secure"])
def busy(request: pytest.FixtureRequest) -> Target:
    target: Target = request.getfixturevalue(request.param)
    time.sleep(0.1)  # the library frees the handles of a call half a second after it, and has 64
    return target


def media_lines(text: str) -> list[tuple[str, bool]]:
    """Return kind and whether it is on, of each media line."""
    return [(kind, port != "0") for kind, port in re.findall(r"^m=(\S+) (\d+)", text, re.MULTILINE)]


def fits(answer: str, offer: str) -> bool:
    offered, answered = media_lines(offer), media_lines(answer)
    return [kind for kind, _ in answered] == [kind for kind, _ in offered] and sum(on for _, on in answered) == 1


def hang_up(one: Caller, tag: str) -> None:
    one.send(one.request("BYE", cseq=20, to_tag=tag))
    until = time.monotonic() + 10
    while not re.search(r"^CSeq: 20 BYE", answer := one.receive(2), re.MULTILINE):
        assert answer or time.monotonic() < until


@pytest.mark.parametrize("offer", TAKEN.values(), ids=TAKEN)
def test_an_awkward_offer_makes_a_call_and_changes_one(busy: Target, offer: str) -> None:
    with caller(busy) as one:
        answer = one.ask(one.request("INVITE", branch=one.call_id, body=offer))
        assert answer.startswith("SIP/2.0 200"), answer
        assert fits(answer, offer)
        tag = tag_of(answer)
        one.send(one.request("ACK", to_tag=tag))
        hang_up(one, tag)
    with caller(busy) as one:
        tag = one.call(GOOD)
        for cseq, method in enumerate(("INVITE", "UPDATE"), start=2):
            answer = one.ask(one.request(method, cseq=cseq, to_tag=tag, body=offer))
            assert answer.startswith("SIP/2.0 200"), answer
            assert fits(answer, offer)
            if method == "INVITE":
                one.send(one.request("ACK", cseq=cseq, to_tag=tag))
        hang_up(one, tag)
    assert busy.alive()


@pytest.mark.parametrize("offer", REFUSED.values(), ids=REFUSED)
def test_an_impossible_offer_is_refused_and_the_call_stands(busy: Target, offer: str) -> None:
    with caller(busy) as one:
        assert re.match("SIP/2.0 4(00|88) ", one.ask(one.request("INVITE", body=offer)))
    with caller(busy) as one:
        tag = one.call(GOOD)
        for cseq, method in enumerate(("INVITE", "UPDATE", "PRACK"), start=2):
            answer = one.ask(one.request(method, cseq=cseq, to_tag=tag, body=offer, more="RAck: 1 1 INVITE\r\n"))
            assert re.match("SIP/2.0 4(00|88) ", answer), answer
            if method == "INVITE":
                one.send(one.request("ACK", cseq=cseq, to_tag=tag))
        hang_up(one, tag)
    assert busy.alive()


@pytest.mark.parametrize("answer", [*TAKEN.values(), *REFUSED.values()], ids=[*TAKEN, *REFUSED])
def test_no_answer_in_an_ack_ends_the_process(busy: Target, answer: str) -> None:
    with caller(busy) as one:
        tag = tag_of(one.ask(one.request("INVITE", branch=one.call_id)))
        one.send(one.request("ACK", to_tag=tag, body=answer))
        one.send(one.request("ACK", to_tag=tag, body=answer))
        hang_up(one, tag)
    assert busy.alive()


# --- lines that come and go ---

VIDEO = "m=video 7002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
SECURE = "m=audio 7000 RTP/SAVP 0\r\n" + KEY
FIRST = {"audio": AUDIO, "video and audio": VIDEO + AUDIO}
LATER = {
    "the same": AUDIO,
    "video behind": AUDIO + VIDEO,
    "video before": VIDEO + AUDIO,
    "two of audio": AUDIO + AUDIO,
    "many": VIDEO * 5 + AUDIO + VIDEO * 5,
}


def shape(media: str) -> list[bool]:
    """Return which lines of an offer are the one that is taken."""
    kinds = [kind for kind, _ in media_lines(media)]
    return [at == kinds.index("audio") for at in range(len(kinds))]


@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
@pytest.mark.parametrize("stage", ["early", "answered", "acknowledged"])
def test_lines_come_and_go_only_in_a_call_that_is_acknowledged(
    busy: Target, stage: str, first: str, later: str, method: str, request: pytest.FixtureRequest
) -> None:
    if "secure" in request.node.callspec.params.values():
        later = later.replace(AUDIO, SECURE)
    with caller(busy) as one:
        user = "early" if stage == "early" else "1000"
        invite = one.request("INVITE", branch=one.call_id, body=described(first)).replace("1000@", f"{user}@")
        one.send(invite)
        answer = until_answered(one, "1 INVITE", "183" if stage == "early" else "200")
        tag = tag_of(answer)
        if stage == "early":  # an ACK that acknowledges nothing yet, and one of another call with the same names
            one.send(one.request("ACK", to_tag=tag))
        if stage == "acknowledged":
            one.send(one.request("ACK", to_tag=tag))
        answer = one.ask(one.request(method, cseq=2, to_tag=tag, body=described(later)))
        while "CSeq: 1 INVITE" in answer:  # the 200 again
            answer = one.receive()
        if stage == "acknowledged":
            assert answer.startswith("SIP/2.0 200"), answer
            assert fits(answer, described(later))
        else:
            code = "491" if method == "INVITE" or shape(first) != shape(later) else "200"
            assert answer.startswith(f"SIP/2.0 {code}"), answer
        if method == "INVITE":
            one.send(one.request("ACK", cseq=2, to_tag=tag))
        if stage == "early":
            one.send(one.request("CANCEL", branch=one.call_id).replace("1000@", "early@"))
            until_answered(one, "1 INVITE", "487")
            one.send(one.request("ACK", branch=one.call_id, to_tag=tag))
        else:
            hang_up(one, tag)
    assert busy.alive()


def until_answered(one: Caller, cseq: str, code: str) -> str:
    """Return the response of this code to a request."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        one.sock.settimeout(max(0.01, until - time.monotonic()))
        text = one.sock.recv(65535).decode()
        if text.startswith(f"SIP/2.0 {code}") and f"CSeq: {cseq}" in text:
            return text
    raise AssertionError(code)


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_whoever_we_call_adds_no_lines_before_the_call_is_answered(busy: Target, later: str) -> None:
    with caller(busy) as sock:
        one = Callee(busy, sock.sock).called()
        one.reply("183 Session Progress", GOOD)
        answer = one.ask(one.inside("UPDATE", 5, described(later)))
        assert answer.startswith(f"SIP/2.0 {'200' if later == AUDIO else '491'}"), answer
        one.reply("200 OK", GOOD)
        assert one.take("ACK")
        assert one.ask(one.inside("UPDATE", 6, described(later))).startswith("SIP/2.0 200")
        assert one.bye().startswith("SIP/2.0 200")
    assert busy.alive()


# --- answers of whoever we call ---


class Callee(Caller):
    """A telephone that the process calls."""

    invite: str = ""

    def called(self) -> Callee:
        assert self.target.process.stdin
        host, port = self.sock.getsockname()
        self.target.process.stdin.write(f"sip:x@{host}:{port}\n")
        self.target.process.stdin.flush()
        self.invite = self.take("INVITE")
        assert self.invite
        return self

    def take(self, method: str, limit_s: float = 5) -> str:
        """Return the next request of a method; nothing when none came."""
        until = time.monotonic() + limit_s
        while (left := until - time.monotonic()) > 0:
            if (text := self.receive(left)).startswith(method):
                return text
        return ""

    def reply(self, status: str, body: str = "", to: str = "") -> None:
        head = (to or self.invite).partition("\r\n\r\n")[0].split("\r\n")[1:]
        kept = [line for line in head if line.split(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")]
        lines = [line + ";tag=there" if line.startswith("To:") and ";tag=" not in line else line for line in kept]
        host, port = self.sock.getsockname()
        kind = "Content-Type: application/sdp\r\n" if body else ""
        lines += [f"Contact: <sip:x@{host}:{port}>", f"{kind}Content-Length: {len(body)}", "", body]
        self.send(f"SIP/2.0 {status}\r\n" + "\r\n".join(lines))

    def bye(self) -> str:
        """End the call from here and return what came of it."""
        return self.ask(self.inside("BYE", 7))

    def inside(self, method: str, cseq: int, body: str = "") -> str:
        """Return a request of ours inside the call."""
        ours = re.search(r"^From:.*;tag=([^;\s]+)", self.invite, re.MULTILINE)
        name = re.search(r"^Call-ID: (\S+)", self.invite, re.MULTILINE)
        assert ours
        assert name
        self.call_id = name[1]
        return self.request(method, cseq=cseq, to_tag=ours[1], body=body).replace(";tag=here", ";tag=there")


@pytest.mark.parametrize("answer", [*TAKEN.values(), *REFUSED.values()], ids=[*TAKEN, *REFUSED])
def test_no_answer_ends_the_process_and_no_early_one_decides_about_its_call(busy: Target, answer: str) -> None:
    with caller(busy) as sock:
        one = Callee(busy, sock.sock).called()
        one.reply("180 Ringing", answer)
        one.reply("183 Session Progress", answer)
        one.reply("200 OK", GOOD)
        assert one.take("ACK")
        assert one.bye().startswith("SIP/2.0 200")
    with caller(busy) as sock:
        one = Callee(busy, sock.sock).called()
        one.reply("200 OK", answer)
        assert one.take("ACK")
        if bye := one.take("BYE", 0.1):
            one.reply("200 OK", to=bye)
        else:
            one.bye()
    assert busy.alive()


# --- other bodies ---


KINDS = ("application/dtmf-relay", "application/dtmf", "application/media_control+xml", "text/plain")


@pytest.mark.parametrize(
    "body",
    ["Signal=5", "Signal=5\n", "Signal=", "Signal", "Signal=5 Duration=160", "\n", "\x01", "5", "Signal=5\r\n\r\n"],
)
def test_no_info_ends_the_process_or_its_call(plain: Target, body: str) -> None:
    with caller(plain) as one:
        tag = one.call(GOOD)
        for cseq, kind in enumerate(KINDS, start=2):
            text = one.request("INFO", cseq=cseq, to_tag=tag, body=body).replace("application/sdp", kind)
            assert one.ask(text).startswith("SIP/2.0 ")
        hang_up(one, tag)
    assert plain.alive()


# --- handles ---


def test_calls_without_end_use_up_no_handles(plain: Target) -> None:
    with caller(plain) as one:
        taken = 0
        for _ in range(80):
            one.call_id = f"{time.monotonic_ns():x}"
            answer = one.ask(one.request("INVITE", branch=one.call_id, body=GOOD), PATIENT_S)
            if answer.startswith("SIP/2.0 200"):
                taken += 1
                tag = tag_of(answer)
                one.send(one.request("ACK", to_tag=tag))
                hang_up(one, tag)
        assert taken >= 5
    assert plain.alive()
    time.sleep(1)
    with caller(plain) as one:
        tag = one.call(GOOD)
        for cseq in range(2, 82):
            offer = (TAKEN["video before the audio"], GOOD)[cseq % 2]  # another place: another pair of sockets
            answer = one.ask(one.request("INVITE", cseq=cseq, to_tag=tag, body=offer), PATIENT_S)
            assert answer.startswith(("SIP/2.0 200", "SIP/2.0 488")), answer  # 488: no handle is left
            one.send(one.request("ACK", cseq=cseq, to_tag=tag))
        hang_up(one, tag)
    assert plain.alive()
    time.sleep(1)
