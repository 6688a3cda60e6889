"""What happens on the SIP side: the caller's leg, and a second one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.call.events.gateway import CallEvent


@dataclass(frozen=True, slots=True)
class IncomingInvite(CallEvent):
    """
    Someone calls. For the switchboard, which makes a call of it; the machine never sees this one.

    Attributes:
        sip_call_id: the ``Call-ID`` header.
        from_uri: SIP URI of the caller, without display name and parameters.
        to_uri: SIP URI that was called (the Request-URI).
        source: ``address:port`` the INVITE came from.
        headers: header name in lower case -> its lines with commas between, whole (RFC 3261 section 7.3.1).
        trunk: name of the trunk it came through; empty when from none.
        caller: the caller's number as the trunk's settings read it (E.164 where they can), else the user part.
        called: the called number, likewise.
        asserted: ``caller`` is the trunk's word for who calls (P-Asserted-Identity), not what From says.
    """

    sip_call_id: str
    from_uri: str
    to_uri: str
    source: str
    headers: Mapping[str, str] = field(default_factory=dict)
    trunk: str = ""
    caller: str = ""
    called: str = ""
    asserted: bool = False


@dataclass(frozen=True, slots=True)
class LegRinging(CallEvent):
    """The far end of a call that we placed answered provisionally with ``code`` (180, 183)."""

    code: int


@dataclass(frozen=True, slots=True)
class MediaUp(CallEvent):
    """
    The call is answered (200 OK went out) and audio flows, or will once the far end takes us off hold.

    Told again when the codec changes: ``codec`` as in SDP, e.g. ``PCMU/8000``; empty on hold with no stream yet.
    """

    codec: str


@dataclass(frozen=True, slots=True)
class EarlyMediaUp(CallEvent):
    """The caller hears us though the call is not answered (183 with SDP went out); ``codec`` as in SDP."""

    codec: str


@dataclass(frozen=True, slots=True)
class MediaLost(CallEvent):
    """No RTP has come from the caller for ``silent_s`` seconds, though the call is up and not on hold."""

    silent_s: float


@dataclass(frozen=True, slots=True)
class LegClosed(CallEvent):
    """
    The SIP dialog is over. Always the leg's last event, exactly once.

    Attributes:
        by_caller: the far end ended it, by BYE, CANCEL or a refusal.
        code: last SIP status of the call (200 after a BYE, 487 after a CANCEL).
        reason: its reason phrase.
        cause: why, as the far end's telephone network says it (ITU-T Q.850); 0 when it does not.
        contacts: URIs that a 3xx points to, the best first.
    """

    by_caller: bool
    code: int
    reason: str
    cause: int = 0
    contacts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LegFailed(CallEvent):
    """The SIP stack could not carry out an order, or a callback raised; ``detail`` says which."""

    detail: str


@dataclass(frozen=True, slots=True)
class LegHeld(CallEvent):
    """The far end put us on hold (its media is sendonly, inactive or has no address): it does not listen."""


@dataclass(frozen=True, slots=True)
class LegResumed(CallEvent):
    """The far end took us off hold."""


@dataclass(frozen=True, slots=True)
class DigitPressed(CallEvent):
    """
    The far end pressed a key, once for each press, however it was told (RFC 4733, SIP INFO).

    Attributes:
        digit: one of ``0-9*#A-D``.
        item_id: the agent's item that was being played, stamped by the session; None when nothing was.
        played_ms: milliseconds of it that were clocked out.
    """

    digit: str
    item_id: str | None = None
    played_ms: int = 0


@dataclass(frozen=True, slots=True)
class SecondRinging(CallEvent):
    """The second leg rings, or sounds already (183): ``code`` is its provisional answer."""

    code: int


@dataclass(frozen=True, slots=True)
class SecondUp(CallEvent):
    """
    The second leg was answered and audio flows there.

    Attributes:
        codec: as in SDP, e.g. ``PCMU/8000``.
        item_id: the agent's item that was being played, stamped by the session; None when nothing was.
        played_ms: milliseconds of it that were clocked out.
    """

    codec: str
    item_id: str | None = None
    played_ms: int = 0


@dataclass(frozen=True, slots=True)
class SecondDigit(CallEvent):
    """
    Whoever is on the second leg pressed a key.

    Attributes:
        digit: one of ``0-9*#A-D``.
        item_id: the agent's item that was being played, stamped by the session; None when nothing was.
        played_ms: milliseconds of it that were clocked out.
    """

    digit: str
    item_id: str | None = None
    played_ms: int = 0


@dataclass(frozen=True, slots=True)
class SecondClosed(CallEvent):
    """
    The second leg is over, or never came to be. Always its last event, exactly once for each ``CallSecond``.

    Attributes:
        code: last SIP status of that leg (200 after a BYE).
        reason: its reason phrase.
        item_id: the agent's item that was being played, stamped by the session; None when nothing was.
        played_ms: milliseconds of it that were clocked out.
        cause: why, as its telephone network says it (ITU-T Q.850); 0 when it does not.
        contacts: URIs that a 3xx points to, the best first.
    """

    code: int
    reason: str
    item_id: str | None = None
    played_ms: int = 0
    cause: int = 0
    contacts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferEnded(CallEvent):
    """
    The transfer came to its end: 2xx, the caller is with someone else; any other, the caller is still here.

    Attributes:
        code: SIP status of the REFER when that failed, else the last one a NOTIFY told.
        reason: its reason phrase.
        refused: the REFER itself got a final failure: nobody was called yet. False when a NOTIFY told the end.
    """

    code: int
    reason: str
    refused: bool = False


OF_THE_LEG: tuple[type[CallEvent], ...] = (
    LegRinging,
    MediaUp,
    EarlyMediaUp,
    MediaLost,
    LegClosed,
    LegFailed,
    LegHeld,
    LegResumed,
    DigitPressed,
    SecondRinging,
    SecondUp,
    SecondDigit,
    SecondClosed,
    TransferEnded,
)
"""Every event of this file that a call can meet."""
