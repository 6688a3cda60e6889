"""
Bodies of SIP messages: which of them the library gets, and as what.

Every message passes here once. What carries an offer or an answer is read by ``sip/core/sdp.py``, judged by
``sip/core/negotiation.py`` and replaced by what was printed there; a NOTIFY's sipfrag (RFC 3420) is cut down to its
status line. Every other body is taken away, because the library's readers trust it: an INFO of ``application/dtmf-
relay`` without a line end ended the process. Code of ours that needs such a body reads it in the text of the message.
No I/O.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.sip.admission.newest import keep_newest
from gateway.sip.core.message import QUOTED, TOKEN, Message
from gateway.sip.core.negotiation import (
    NotAcceptable,
    Terms,
    answer_for_library,
    no_answer_for_library,
    offer_for_library,
)
from gateway.sip.core.sdp import BadSdp, SessionDescription, parse_sdp
from gateway.threads import runs_on

SDP = "application/sdp"
SIPFRAG = "message/sipfrag"
ACCEPT = ("Accept", f"{SDP}, multipart/mixed")
_WITH_SDP = ("INVITE", "UPDATE", "PRACK")
_MULTIPART = ("multipart/mixed", "multipart/alternative", "multipart/related")
_MAX_PARTS = 16
_CALLS = 1024  # many times what a process holds; each is a few words

_TYPE = re.compile(rf"({TOKEN})[ \t]*/[ \t]*({TOKEN})[ \t]*(;.*)?", re.DOTALL)
_PARAMETER = re.compile(rf";[ \t]*({TOKEN})[ \t]*=[ \t]*({TOKEN}|{QUOTED})[ \t]*")
_FRAGMENT = re.compile(r"SIP/2\.0 ([1-6]\d\d)(?: ([^\x00-\x1f\x7f]*))?[ \t]*(?:[\r\n]|\Z)", re.ASCII)
_MAX_PHRASE = 100

MayOffer = Callable[[tuple[bool, ...]], bool]


@dataclass(frozen=True, slots=True)
class Body:
    """
    What the library gets for a body.

    Attributes:
        kind: media type.
        text: the body.
        lines: of an offer: which media lines are on.
    """

    kind: str
    text: str
    lines: tuple[bool, ...] = field(default=(), compare=False)  # they are in the text


@dataclass(frozen=True, slots=True)
class BodyRefusal:
    """How a request is answered for its body's sake; ``why`` is counted."""

    why: str
    code: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _OwnOffer:
    """
    Our newest offer in a call.

    Attributes:
        offer: its description.
        cseq: of our request that carried it, or of the far end's INVITE that our response with it answers.
        waits: whether it went out in a response, and its answer has not come yet in an ACK or PRACK.
    """

    offer: SessionDescription
    cseq: int
    in_request: bool
    waits: bool


def anything(_lines: tuple[bool, ...]) -> bool:
    """Let every offer through."""
    return True


class Bodies:
    """Decides on the body of each message that goes to the library. Memory is bounded; thread: sip."""

    def __init__(self) -> None:
        # The tag keeps apart what strangers send with the Call-ID of another's call: ours, and the far end's.
        self._calls: OrderedDict[tuple[str, str], _OwnOffer] = OrderedDict()
        # CSeq of an INVITE whose offer is to be ours, and whether a call begins with it.
        self._late: OrderedDict[tuple[str, str], tuple[int, bool]] = OrderedDict()

    @runs_on("sip")
    def request(self, message: Message, terms: Terms, may_offer: MayOffer = anything) -> Body | BodyRefusal | None:
        """
        Return what the library gets for the body of a request, None for nothing, or how to refuse it.

        An ACK cannot be refused: with an answer of no use in it the library ends the call.

        Args:
            message: the request.
            terms: what we can take of its sender.
            may_offer: from the active media lines of an offer, or none for an UPDATE, decides whether it may come now.
        """
        call = self._calls.get((message.call_id, message.to_tag))
        if message.method in ("INVITE", "UPDATE") and self._too_early(message, call, may_offer):
            return _TOO_EARLY
        if not message.body.strip():
            self._bare(message, call)
            return None
        if message.method == "NOTIFY":
            return _fragment(message)
        if message.method not in (*_WITH_SDP, "ACK"):
            return None
        if message.method == "ACK" or (message.method == "PRACK" and call is not None and call.waits):
            return self._answered(message, call, terms)
        try:
            offer = offer_for_library(_session(message), terms)
        except _Refused as refused:
            return refused.refusal
        except BadSdp as error:
            return BodyRefusal("bad SDP", 400, "Bad SDP", _warning(399, error.reason))
        except NotAcceptable as error:
            return BodyRefusal(error.reason, 488, "Not Acceptable Here", _warning(error.warning, error.reason))
        return Body(SDP, offer.text, offer.lines) if may_offer(offer.lines) else _TOO_EARLY

    @runs_on("sip")
    def response(self, message: Message, terms: Terms) -> Body | None:
        """
        Return what the library gets for the body of a response, None for nothing.

        An answer that cannot be used is none: an early one does not decide about the call, and without a final one the
        library ends it. Nor is what answers no offer of ours, since the library would take it for an offer.
        """
        call = self._calls.get((message.call_id, message.from_tag))
        if message.cseq_method not in _WITH_SDP or message.code >= 300 or not message.body.strip():
            return None
        asked = call is not None and call.in_request and call.cseq == message.cseq
        return _answer(message, call, terms) if call is not None and asked else None

    @runs_on("sip")
    def sent(self, message: Message) -> tuple[bool, ...]:
        """Learn from a message of ours that goes out; returns which media lines an offer in it has on."""
        if not message.body or message.first("content-type").lower() != SDP:
            return ()
        late = self._late.get((message.call_id, message.from_tag), (-1,))[0] == message.cseq
        key = message.call_id, message.from_tag if message.is_request else message.to_tag
        if not message.is_request and not late:
            return ()  # an answer
        try:
            offer = parse_sdp(message.body)
        except BadSdp:
            self._calls.pop(key, None)
            return ()
        call = _OwnOffer(offer, message.cseq, in_request=message.is_request, waits=not message.is_request)
        keep_newest(self._calls, key, call, _CALLS)
        return offer.lines_on()

    def _too_early(self, message: Message, call: _OwnOffer | None, may_offer: MayOffer) -> bool:
        """Whether an offer of ours has no answer yet (RFC 3261 section 14.2, RFC 3311 section 5.2)."""
        if call is not None and call.waits:
            return True
        if message.method != "UPDATE":
            return False
        # Before our offer the library has no negotiator, and asks it: an assertion.
        late = (message.call_id, message.from_tag) in self._late
        return late or (not message.body.strip() and not may_offer(()))

    def _bare(self, message: Message, call: _OwnOffer | None) -> None:
        """Note an INVITE whose offer is to be ours, and an ACK that brings no answer to it."""
        if message.method == "INVITE":
            begins = message.cseq, not message.to_tag
            keep_newest(self._late, (message.call_id, message.from_tag), begins, _CALLS)
        elif message.method == "ACK" and call is not None and call.waits:
            late = self._late.pop((message.call_id, message.from_tag), None)
            if late is not None and not late[1]:
                call.waits = False  # the library takes its offer back, unless the call began with it

    def _answered(self, message: Message, call: _OwnOffer | None, terms: Terms) -> Body | None:
        # Without the entry an ACK has passed before; with it the same response sent again would offer anew.
        if call is None or not call.waits or self._late.pop((message.call_id, message.from_tag), None) is None:
            return None
        call.waits = False
        return _answer(message, call, terms) or Body(SDP, no_answer_for_library(call.offer))


_TOO_EARLY = BodyRefusal("offer too early", 491, "Request Pending")


def _answer(message: Message, call: _OwnOffer, terms: Terms) -> Body | None:
    try:
        return Body(SDP, answer_for_library(_session(message), terms, call.offer))
    except (_Refused, BadSdp, NotAcceptable):
        return None


def _warning(code: int, text: str) -> tuple[tuple[str, str], ...]:
    return (("Warning", f'{code} sip-voice-gateway "{text}"'),)


# --- what is in it ---


class _Refused(Exception):
    def __init__(self, code: int, reason: str, *headers: tuple[str, str]) -> None:
        super().__init__(reason)
        self.refusal = BodyRefusal(reason.lower(), code, reason, headers)


def _session(message: Message) -> SessionDescription:
    """
    Return the description that a message carries.

    Raises:
        _Refused: another type, encoding or disposition (RFC 3261 section 8.2.3).
        BadSdp: it is not one.
    """
    if message.first("content-encoding").lower() not in ("", "identity"):
        raise _Refused(415, "Unsupported Media Type", ("Accept-Encoding", "identity"))
    kind, parameters = _typed(message.first("content-type"))
    if kind == SDP and _session_alone(message.first("content-disposition")):
        return parse_sdp(message.body)
    if kind not in _MULTIPART:
        raise _Refused(415, "Unsupported Media Type", ACCEPT)
    return parse_sdp(_sdp_part(message.body, parameters.get("boundary", "")))


def _session_alone(disposition: str) -> bool:
    return disposition.partition(";")[0].strip().lower() in ("", "session")


def _typed(value: str) -> tuple[str, dict[str, str]]:
    """Return a media type in lower case, and its parameters."""
    found = _TYPE.fullmatch(value)
    if found is None:
        return "", {}
    pairs = _PARAMETER.findall(found[3] or "")
    return f"{found[1]}/{found[2]}".lower(), {name.lower(): _unquoted(text) for name, text in reversed(pairs)}


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _sdp_part(body: str, boundary: str) -> str:
    """
    Return the one part of a multipart body (RFC 2046) that is a session description.

    The others are ignored, unless one says that it must be understood (RFC 5621 section 5).
    """
    if not boundary:
        raise _Refused(400, "Multipart Without Boundary")
    parts = re.split(rf"(?:\A|\r?\n)--{re.escape(boundary)}(?=[ \t]*(?:\r?\n|--|\Z))", body)[1:]
    if len(parts) < 2 or len(parts) > _MAX_PARTS or not parts[-1].startswith("--"):
        raise _Refused(400, "Bad Multipart Body")
    found: list[str] = []
    for part in parts[:-1]:
        head, _, content = part.replace("\r\n", "\n").partition("\n\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\n"))
        }
        if _typed(headers.get("content-type", ""))[0] == SDP and _session_alone(headers.get("content-disposition", "")):
            found.append(content)
        elif "handling=required" in headers.get("content-disposition", "").replace(" ", "").lower():
            raise _Refused(415, "Unsupported Media Type", ACCEPT)
    if len(found) != 1:
        raise _Refused(415 if not found else 400, "Unsupported Media Type" if not found else "Two Bodies", ACCEPT)
    return found[0]


def _fragment(message: Message) -> Body | None:
    """Return the status line of a sipfrag, which tells how a transfer goes."""
    if _typed(message.first("content-type"))[0] != SIPFRAG:
        return None
    found = _FRAGMENT.match(message.body.lstrip("\r\n"))
    return None if found is None else Body(SIPFRAG, f"SIP/2.0 {found[1]} {(found[2] or 'Unknown')[:_MAX_PHRASE]}\r\n")
