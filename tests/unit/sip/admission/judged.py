"""A screening with its surroundings, and the messages it judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.admission.access_list import AccessList
from gateway.sip.admission.screening import Drop, Occupancy, Pass, Respond, Screening
from gateway.sip.core.message import Message, parse_message
from gateway.sip.core.source import Source

STRANGER, TRUNK = "203.0.113.9:5060", "198.51.100.7:5060"
PLAIN = "m=audio 7000 RTP/AVP 0 8\r\n"
KEY = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0\r\n"
SAVP = "m=audio 7000 RTP/SAVP 0\r\n"
DTLS = "m=audio 7000 UDP/TLS/RTP/SAVPF 0\r\n"


def sdp(*media: str, address: str = "203.0.113.9") -> str:
    return f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n" + "".join(media or (PLAIN,))


def message(
    first: str = "INVITE",
    *,
    call: str = "a",
    cseq: int = 1,
    method: str = "",
    from_tag: str = "here",
    to: str = "<sip:1@c>",
    to_tag: str = "",
    branch: str = "1",
    contact: str = "<sip:a@203.0.113.9>",
    more: str = "",
    body: str = "",
) -> str:
    line = first if first.startswith("SIP/") else f"{first} sip:1@192.0.2.1 SIP/2.0"
    method = method or ("INVITE" if first.startswith("SIP/") else first)
    tag = f";tag={to_tag}" if to_tag else ""
    more += f"Contact: {contact}\r\n" if contact else ""
    kind = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n" if body else ""
    return (
        f"{line}\r\nVia: SIP/2.0/UDP 203.0.113.9;branch=z9hG4bK{branch}\r\n"
        f"From: <sip:a;tag=no@b>;tag={from_tag}\r\n"
        f"To: {to}{tag}\r\nCall-ID: {call}\r\nCSeq: {cseq} {method}\r\n{more}{kind}\r\n{body}"
    )


@dataclass
class House:
    """A screening with its surroundings."""

    sip: dict[str, Any] = field(default_factory=dict)
    trunk: dict[str, Any] | None = None
    full: bool = False
    draining: bool = False
    late: bool = False
    calls: int = 0
    scarce: bool = False
    now: float = 100.0

    def __post_init__(self) -> None:
        settings = SipSettings.model_validate(self.sip)
        given = {} if self.trunk is None else {"main": {"host": "198.51.100.7", **self.trunk}}
        trunks = {name: TrunkSettings.model_validate(trunk) for name, trunk in given.items()}
        occupancy = Occupancy(
            lambda: self.full, lambda: self.draining, lambda trunk: self.calls, lambda: self.scarce, lambda: self.late
        )
        secrets = {"pw": SecretStr("secret")}
        self.rules = Screening(settings, AccessList(settings, trunks), trunks, secrets=secrets, occupancy=occupancy)

    def ask(self, text: str, source: str = STRANGER) -> Any:
        self.now += 0.02
        return self.request(text, source, self.now)

    def request(self, text: str, hop: str, now: float) -> Any:
        """Have a message judged as the screen does: before the library has read it, and then as a request."""
        source = self.rules.source_of(text, hop, now)
        if not isinstance(source, Source):
            return source
        admitted = self.rules.admit(text, len(text), source, now)
        return self.rules.request(admitted, source, now) if isinstance(admitted, Message) else admitted

    def response(self, text: str, hop: str = STRANGER) -> Any:
        source = self.rules.source_of(text, hop, self.now)
        assert isinstance(source, Source)
        admitted = self.rules.admit(text, len(text), source, self.now)
        return self.rules.response(admitted, source, self.now) if isinstance(admitted, Message) else admitted

    def sent(self, text: str, target: str = STRANGER) -> None:
        """Have a message of ours go out."""
        self.rules.sent(parse_message(text), target, self.now)

    def code(self, text: str, source: str = STRANGER) -> int:
        """Return the status that a request gets; 0 when it passes, -1 when it is dropped."""
        verdict = self.ask(text, source)
        return verdict.code if isinstance(verdict, Respond) else -1 if isinstance(verdict, Drop) else 0

    def call(self, name: str = "a", source: str = STRANGER) -> None:
        """Have a call that is answered and acknowledged."""
        assert self.code(message(call=name, body=sdp()), source) == 0
        self.sent(message("SIP/2.0 200 OK", call=name, to_tag="us"), source)
        assert self.code(message("ACK", call=name, to_tag="us"), source) == 0

    def dial(self, name: str = "ours", target: str = STRANGER) -> None:
        """Have a call out that was answered."""
        self.sent(message(call=name, from_tag="us", branch=name), target)
        answer = message("SIP/2.0 200 OK", call=name, from_tag="us", to_tag="them", branch=name)
        assert self.response(answer, target) == Pass()
