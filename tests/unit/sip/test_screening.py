"""The rules in front of the library."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.settings import SipSettings, TrunkSettings
from gateway.sip.screening import Drop, Occupancy, Pass, Respond, Screening
from gateway.sip.sources import Sources

pytestmark = pytest.mark.unit

STRANGER, TRUNK = "203.0.113.9:5060", "198.51.100.7:5060"
PLAIN = "m=audio 7000 RTP/AVP 0 8\r\n"
KEY = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc\r\n"
SAVP = "m=audio 7000 RTP/SAVP 0\r\n"
DTLS = "m=audio 7000 UDP/TLS/RTP/SAVPF 0\r\n"


def sdp(*media: str, address: str = "203.0.113.9") -> str:
    return f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n" + "".join(media or (PLAIN,))


def message(
    first: str = "INVITE",
    *,
    call: str = "a",
    cseq: int = 1,
    to_tag: str = "",
    branch: str = "1",
    more: str = "",
    body: str = "",
) -> str:
    line = first if first.startswith("SIP/") else f"{first} sip:1@192.0.2.1 SIP/2.0"
    method = "INVITE" if first.startswith("SIP/") or first == "ACK" else first
    method = "ACK" if first == "ACK" else method
    tag = f";tag={to_tag}" if to_tag else ""
    return (
        f"{line}\r\nVia: SIP/2.0/UDP 203.0.113.9;branch=z9hG4bK{branch}\r\nFrom: <sip:a;tag=no@b>;tag=here\r\n"
        f"To: <sip:1@c>{tag}\r\nCall-ID: {call}\r\nCSeq: {cseq} {method}\r\n{more}\r\n{body}"
    )


@dataclass
class House:
    """A screening with its surroundings."""

    sip: dict[str, Any] = field(default_factory=dict)
    trunk: dict[str, Any] | None = None
    full: bool = False
    draining: bool = False
    calls: int = 0
    now: float = 100.0

    def __post_init__(self) -> None:
        settings = SipSettings.model_validate(self.sip)
        given = {} if self.trunk is None else {"main": {"host": "198.51.100.7", **self.trunk}}
        trunks = {name: TrunkSettings.model_validate(trunk) for name, trunk in given.items()}
        occupancy = Occupancy(lambda: self.full, lambda: self.draining, lambda trunk: self.calls)
        secrets = {"pw": SecretStr("secret")}
        self.rules = Screening(settings, Sources(settings, trunks), trunks, secrets=secrets, occupancy=occupancy)

    def ask(self, text: str, source: str = STRANGER) -> Any:
        self.now += 0.02
        return self.rules.request(text, source, self.now)

    def code(self, text: str, source: str = STRANGER) -> int:
        """Return the status that a request gets; 0 when it passes, -1 when it is dropped."""
        verdict = self.ask(text, source)
        return verdict.code if isinstance(verdict, Respond) else -1 if isinstance(verdict, Drop) else 0

    def call(self, name: str = "a", source: str = STRANGER) -> None:
        """Have a call that is answered and acknowledged."""
        assert self.code(message(call=name, body=sdp()), source) == 0
        self.rules.sent(message("SIP/2.0 200 OK", call=name, to_tag="us"), self.now)
        assert self.code(message("ACK", call=name, to_tag="us"), source) == 0


# --- who ---


def test_a_scanner_hears_nothing_but_a_trunk_may_call_itself_as_it_likes() -> None:
    scanner = message("OPTIONS", more="User-Agent: FRIENDLY-scanner\r\n")
    house = House(trunk={}, sip={"allow_from": "0.0.0.0/0"})
    assert house.ask(scanner) == Drop("scanner")
    assert house.ask(scanner, TRUNK) == Pass()


def test_a_stranger_is_denied_a_few_times_and_then_now_and_then() -> None:
    house = House(trunk={}, sip={"deny_code": 404})
    assert [house.code(message(call=str(number))) for number in range(6)] == [404, 404, 404, -1, -1, -1]
    house.now += 10
    assert [house.code(message(call="later")) for _ in range(2)] == [404, -1]
    assert house.code(message("ACK"), "203.0.113.10:1") == -1  # nobody answers an ACK


def test_a_source_over_its_limit_gets_no_answer_until_it_was_calm() -> None:
    house = House(sip={"requests_per_second": 10})
    verdicts = [house.rules.request(message(call=str(n)), STRANGER, 100) for n in range(200)]
    assert verdicts == [Pass()] * 10 + [Drop("too many")] * 190
    assert house.rules.request(message(call="soon"), STRANGER, 101) == Drop("too many")
    assert house.rules.request(message(call="calm"), STRANGER, 104) == Pass()
    assert house.rules.request(message(call="other"), "203.0.113.10:1", 100) == Pass()


def test_trunks_and_calls_that_stand_have_more_room() -> None:
    house = House(sip={"requests_per_second": 10, "allow_from": "0.0.0.0/0"}, trunk={})
    assert sum(house.rules.request(message(call=f"t{n}"), TRUNK, 100) == Pass() for n in range(200)) == 100
    house.call()
    flood = [house.rules.request(message(call=f"f{n}"), STRANGER, house.now) for n in range(200)]
    assert flood[-1] == Drop("too many")
    assert house.ask(message("BYE", to_tag="us")) == Pass()
    assert (
        sum(house.rules.request(message("INFO", to_tag="us"), STRANGER, house.now) == Pass() for _ in range(300)) < 110
    )


def test_a_call_that_stands_survives_a_flood_from_everywhere_and_memory_is_bounded() -> None:
    house = House()
    house.call()
    for number in range(20_000):
        source = f"10.{number % 250}.{number // 250}.1:5060"
        house.rules.request(message(call=str(number), body=sdp()), source, house.now)
    assert house.code(message(body=sdp())) == 482
    assert house.ask(message("BYE", to_tag="us")) == Pass()
    assert len(house.rules._strangers) <= 4096
    assert len(house.rules._invites._waiting) <= 1024


def test_a_dialog_may_go_on_from_an_address_that_could_not_begin_one() -> None:
    house = House(trunk={})
    house.call(source=TRUNK)
    assert house.ask(message("BYE", to_tag="us"), STRANGER) == Pass()
    assert house.code(message("BYE", call="b", to_tag="us"), STRANGER) == 403


# --- what ---


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("REGISTER", 405),
        ("PUBLISH", 405),
        ("MESSAGE", 405),
        ("SUBSCRIBE", 405),
        ("REFER", 405),
        ("FOO", 501),
        ("invite", 501),
    ]
    + [(method, 0) for method in ("OPTIONS", "BYE", "CANCEL", "UPDATE", "INFO", "NOTIFY", "PRACK", "INVITE")],
)
def test_methods_outside_a_call(method: str, code: int) -> None:
    assert House().code(message(method)) == code


def test_inside_a_call_options_are_answered_and_refer_is_the_calls_own_matter() -> None:
    house = House()
    house.call()
    verdict = house.ask(message("OPTIONS", to_tag="us"))
    assert (verdict.code, [name for name, _ in verdict.headers]) == (200, ["Allow", "Accept"])
    assert house.ask(message("REFER", to_tag="us")) == Pass()


def test_a_stray_ack_and_a_stray_response_are_dropped() -> None:
    house = House()
    assert house.ask(message("ACK")) == Drop("stray ACK")
    assert house.rules.response(message("SIP/2.0 200 OK"), STRANGER, 1) == Drop("stray response")
    house.rules.sent(message("INVITE", call="ours"), 1)
    assert house.rules.response(message("SIP/2.0 200 OK", call="ours"), STRANGER, 1) == Pass()
    assert house.ask(message("BYE", call="ours", to_tag="us")) == Pass()


def test_replaces_is_refused_from_anybody() -> None:
    replaces = message(call="new", more="Replaces: a;to-tag=us;from-tag=here\r\n", body=sdp())
    house = House(sip={"allow_from": "0.0.0.0/0"})
    assert house.code(replaces) == 481
    house.call()
    assert house.code(replaces) == 486
    assert house.code(replaces, TRUNK) == 486


# --- copies ---


def test_a_copy_of_an_invite_is_told_from_a_retransmission() -> None:
    house = House()
    first = message(body=sdp())
    assert [house.code(first) for _ in range(3)] == [0, 0, 0]
    assert house.code(message(branch="2", body=sdp())) == 482
    house.rules.sent(message("SIP/2.0 180 Ringing", to_tag="us"), house.now)
    assert house.code(first) == 0
    house.rules.sent(message("SIP/2.0 200 OK", to_tag="us"), house.now)
    assert house.ask(first) == Drop("answered already")
    assert house.code(message(branch="2", body=sdp())) == 482
    assert house.code(message("ACK", to_tag="us", branch="3")) == 0
    assert house.code(first) == 482
    assert house.code(message(branch="2", body=sdp())) == 482
    assert house.code(message(branch="4", cseq=2, body=sdp())) == 0


def test_a_refused_invite_may_come_again_by_another_way_only() -> None:
    house = House()
    first = message(body=sdp())
    assert house.code(first) == 0
    house.rules.sent(message("SIP/2.0 404 Not Found", to_tag="us"), house.now)
    assert house.code(first) == 404
    assert house.code(message("ACK", to_tag="us")) == 0
    assert house.ask(first) == Drop("answered already")
    assert house.code(message(branch="2", body=sdp())) == 0


# --- room ---


def test_a_full_or_draining_process_or_trunk_says_when_to_come_again() -> None:
    house = House(trunk={"max_calls": 2}, sip={"retry_after_s": 9, "allow_from": "0.0.0.0/0"})
    first = message(body=sdp())
    assert house.code(first) == 0
    house.full = True
    assert house.code(first) == 0  # a retransmission of one that got in
    assert house.ask(message(call="b")).headers == (("Retry-After", "9"),)
    assert house.code(message("OPTIONS", call="c")) == 0
    house.full, house.draining = False, True
    assert [house.code(message("INVITE", call="b")), house.code(message("OPTIONS", call="c"))] == [503, 503]
    house.draining, house.calls = False, 2
    assert [house.code(message(call="d"), source) for source in (TRUNK, STRANGER)] == [503, 0]


def test_a_challenged_trunk_must_bring_its_password() -> None:
    house = House(trunk={"challenge": True, "username": "kit", "password_from": "pw"}, sip={"allow_from": "0.0.0.0/0"})
    assert house.code(message(call="b", body=sdp())) == 0
    first = house.ask(message(body=sdp()), TRUNK)
    assert (first.code, first.why) == (401, "challenged")
    wrong = 'Authorization: Digest username="kit", realm="x", nonce="y", uri="z", response="0"\r\n'
    assert house.ask(message(cseq=2, more=wrong), TRUNK).why == "password wrong"
    assert not isinstance(house.ask(message("BYE", call="c", to_tag="x"), TRUNK), Respond)


def test_a_challenge_without_a_password_lets_nobody_in() -> None:
    house = House(trunk={"challenge": True, "username": "kit"})
    assert house.code(message(body=sdp()), TRUNK) == 401
    assert len(house.rules._credentials["main"].password) > 30


# --- media ---


@pytest.mark.parametrize(
    ("policy", "media", "code"),
    [
        ("off", PLAIN, 0),
        ("off", DTLS, 0),  # the library refuses it in order
        ("off", SAVP + KEY, 488),
        ("off", SAVP + KEY + PLAIN, 0),
        ("optional", PLAIN, 0),
        ("optional", SAVP + KEY, 0),
        ("optional", SAVP, 488),
        ("optional", DTLS, 488),
        ("optional", DTLS.lower().replace("m=audio", "m=Audio"), 488),
        ("optional", PLAIN + DTLS, 488),
        ("optional", "m=video 7000 UDP/TLS/RTP/SAVPF 96\r\n" + PLAIN, 0),
        ("optional", SAVP + KEY * 17, 488),
        ("required", PLAIN, 488),
        ("required", SAVP + KEY, 0),
        ("required", PLAIN + SAVP + KEY, 0),
        ("required", "", 0),  # a delayed offer: ours says what we want
    ],
)
def test_srtp_policy(policy: str, media: str, code: int) -> None:
    body = sdp(media) if media else ""
    assert House(sip={"srtp": policy}).code(message(body=body)) == code
    trunk = House(sip={"srtp": "off"}, trunk={"srtp": policy})
    assert trunk.code(message(body=body), TRUNK) == code


def test_deadly_sdp_is_seen_wherever_it_stands_and_whoever_sends_it() -> None:
    house = House(trunk={"srtp": "optional"}, sip={"allow_from": "0.0.0.0/0"})
    house.call()
    assert house.code(message(call="b", body=sdp(DTLS))) == 488  # a stranger without SRTP: not worth the risk
    assert house.code(message(call="c", more="X: y\r\n" + DTLS)) == 488
    assert house.code(message("INVITE", cseq=2, to_tag="us", body=sdp(DTLS))) == 488
    assert house.code(message("UPDATE", cseq=3, to_tag="us", body=sdp(DTLS))) == 488
    assert house.ask(message("ACK", to_tag="us", body=sdp(DTLS))) == Drop("deadly SDP")
    house.rules.sent(message("INVITE", call="ours"), 1)
    assert house.rules.response(message("SIP/2.0 200 OK", call="ours", body=sdp(DTLS)), TRUNK, 1) == Drop("deadly SDP")


@pytest.mark.parametrize(
    ("address", "source", "code"),
    [
        ("224.0.0.1", STRANGER, 488),
        ("255.255.255.255", STRANGER, 488),
        ("127.0.0.1", STRANGER, 488),
        ("127.0.0.1", "127.0.0.2:5060", 0),
        ("0.0.0.0", STRANGER, 0),
        ("10.1.2.3", STRANGER, 0),
        ("host.example.net", STRANGER, 0),
    ],
)
def test_media_addresses_that_cannot_be_meant_are_refused(address: str, source: str, code: int) -> None:
    assert House().code(message(body=sdp(address=address)), source) == code


@pytest.mark.parametrize(
    ("media", "code"),
    [
        (PLAIN, 0),
        ("m=audio 7000 RTP/AVP 18\r\n", 488),
        ("m=audio 7000 RTP/AVP 96\r\na=rtpmap:96 pcma/8000\r\n", 0),
        ("m=audio 7000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n", 488),
        ("m=audio 7000 RTP/AVP 0\r\na=rtpmap:0 G729/8000\r\n", 488),
        ("m=audio 0 RTP/AVP 0\r\n", 488),
        ("m=image 7000 udptl t38\r\n", 488),
        (PLAIN + "c=IN IP4 127.0.0.1\r\n", 488),
    ],
)
def test_an_impossible_offer_inside_a_call_is_refused(media: str, code: int) -> None:
    house = House()
    house.call()
    assert house.code(message(cseq=2, to_tag="us", body=sdp(media))) == code
    assert house.code(message(call="new", body=sdp(media).replace("127.0.0.1", "10.0.0.1"))) == 0  # the library's


# --- nonsense ---


def test_no_text_makes_the_rules_raise() -> None:
    chance = random.Random(7)
    house = House(
        trunk={"challenge": True, "srtp": "optional"}, sip={"allow_from": "0.0.0.0/0", "requests_per_second": 1e9}
    )
    base = message(
        more='Authorization: Digest username="a", nc=1\r\nReplaces: x\r\n', body=sdp(SAVP + KEY, "a=rtpmap:9\r\n")
    )
    for _ in range(3000):
        text = list(base)
        for _ in range(chance.randrange(1, 20)):
            place = chance.randrange(len(text) or 1)
            text[place : place + chance.randrange(3)] = chance.choice(
                ["\r", "\n", "\0", "\udc80", ":", ";", "=", "9" * 30, ""]
            )
        house.rules.request("".join(text), chance.choice((TRUNK, STRANGER, "", "x")), house.now)
        house.rules.response("".join(text), STRANGER, house.now)
        house.rules.sent("".join(text), house.now)
