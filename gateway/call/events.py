"""
Everything that can happen to a call: frozen events, named in the past tense.

Theory of operation
-------------------
An event is made where something happened: on the SIP thread, by the agent of the voice model, by the built-in tools,
by a timer of the session. It is carried to the call's inbox, stamped there if it asks for that (``StampedEvent``), and
handed to ``CallMachine.handle``; what follows is decided there alone. Audio is not among the events: frames have a
short path of their own.

An event also says how it is written down. ``note`` is its name in the call's history, ``fields()`` what goes with it. A
new event needs its class here, the code that emits it, and its rule in ``call/machine/``; nothing lists it besides.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from gateway.audio.played import PlayoutPosition
from gateway.call.steps import Step
from gateway.errors import AgentError
from gateway.ids import CallId

Scalar = str | int | float
"""What a call's record and its stream of events hold."""

# --- time, operators, the gateway itself ---


@dataclass(frozen=True, slots=True)
class CallEvent:
    """
    Something that happened to the call ``call_id``.

    Attributes:
        note: the event's name in the call's history; None: it is not noted there.
    """

    note: ClassVar[str | None] = None

    call_id: CallId

    def fields(self) -> dict[str, Scalar]:
        """
        Return what is written down of the event, named as in the record and in the stream of events.

        By default all that a noted event has of its own, but for keyword-only fields: those the session stamps.
        """
        if self.note is None:
            return {}
        own = (each.name for each in dataclasses.fields(self) if not each.kw_only)
        return {name: getattr(self, name) for name in own if name != "call_id"}


@dataclass(frozen=True, slots=True)
class LegEvent(CallEvent):
    """Something that happened on the SIP side of a call, on its first or second leg."""


@dataclass(frozen=True, slots=True)
class AgentEvent(CallEvent):
    """Something that happened on the voice model's side of a call, or to what the agent uses there."""


@dataclass(frozen=True, slots=True)
class StampedEvent(CallEvent):
    """
    Something that may cut the agent off. The session stamps it before the machine sees it.

    Attributes:
        at: what was being played at that moment, and how far it was; None when nothing was, or not stamped yet.
    """

    at: PlayoutPosition | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class TimerFired(StampedEvent):
    """The timer ``name``, asked for with ``StartTimer``, ran out."""

    name: str


@dataclass(frozen=True, slots=True)
class StopAsked(CallEvent):
    """The worker wants this call to end now (drain limit reached, second SIGTERM)."""

    detail: str


@dataclass(frozen=True, slots=True)
class OrderFailed(CallEvent):
    """Carrying out an order raised an unexpected exception: a fault of the gateway; ``detail`` names it."""

    detail: str


@dataclass(frozen=True, slots=True)
class Noted(CallEvent):
    """Something for the call's record alone (tokens, latencies, rate limits, errors), under ``name``."""

    name: str
    values: Mapping[str, Scalar]

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        return dict(self.values)


@dataclass(frozen=True, slots=True)
class BudgetLow(CallEvent):
    """
    The call has spent most of what it may.

    Attributes:
        spent_usd: US dollars so far.
        limit: the limit that is near, as it is written: ``max_usd 0.5``.
    """

    note = "budget_low"

    spent_usd: float
    limit: str


@dataclass(frozen=True, slots=True)
class BudgetUsedUp(CallEvent):
    """The call has spent what it may; attributes as of ``BudgetLow``."""

    note = "budget_used_up"

    spent_usd: float
    limit: str

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        return {"spent_usd": self.spent_usd, "limit_exceeded": self.limit}


# --- the dialplan ---


@dataclass(frozen=True, slots=True)
class Keypad:
    """
    What the caller's keys do while an agent speaks with them.

    Attributes:
        to_agent: the agent gets the keys as one number, after ``#`` or a pause of ``pause_s``.
        pause_s: the pause that ends a number.
        shortcuts: key -> URI the caller is transferred to at once.
        masked: records and logs show keys as ``*`` (card numbers); the agent gets them all the same.
    """

    to_agent: bool = True
    pause_s: float = 1.5
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Planned(CallEvent):
    """
    The dialplan decided what to do with a call that came in. The first event of such a call.

    Attributes:
        step: the first step.
        setup_limit_s: how long an agent may take to be ready, and a leg to have its media up.
        max_length_s: how long an answered call may last, over all its steps.
        refusal_code: SIP status for a caller when no agent can be had.
        hold_limit_s: how long the caller may hold the call.
    """

    step: Step
    setup_limit_s: float
    max_length_s: float
    refusal_code: int = 503
    hold_limit_s: float = 900


@dataclass(frozen=True, slots=True)
class ChoiceFailed(CallEvent):
    """The agent that a step names could not be set up for this call; ``detail`` says why."""

    note = "choice_failed"

    detail: str


@dataclass(frozen=True, slots=True)
class Routed(CallEvent):
    """
    An agent was chosen: the answer to ``ChooseAgent``, and the first event of a call that we place.

    The limits of the whole call (``setup_limit_s``, ``max_length_s``, ``refusal_code``, ``hold_limit_s``) are those of
    ``Planned``, if the call began with that; else these.

    Attributes:
        setup_limit_s: how long the caller may ring before the agent is ready.
        max_length_s: how long an answered call may last.
        refusal_code: SIP status for a caller when the agent cannot be had.
        guard_ms: caller speech shorter than this (a cough, noise) only pauses the agent instead of interrupting it; 0
            turns this off. It is measured from ``SpeechStarted`` to ``SpeechStopped``, so it includes the silence after
            which the upstream reports the end of speech.
        goodbye_limit_s: how long to wait for the agent's last words to be heard.
        tool_filler_after_s: the caller hears the filler when a tool takes longer than this; None: never.
        outbound: we place this call; the far end is called once the agent is ready.
        ring_limit_s: how long the far end of a call that we place may ring, and a second leg.
        hold_limit_s: how long the caller may hold the call.
        keypad: what the caller's keys do.
        transfers: how callers are transferred: by REFER; by REFER, or in the gateway if that is refused; or always in
            the gateway.
        recording: record from the answer on.
        announces: record nothing before the agent's announcement of it was heard to its end.
        can_record: there is something to record with; set by the session.
    """

    setup_limit_s: float
    max_length_s: float
    refusal_code: int = 503
    guard_ms: int = 0
    goodbye_limit_s: float = 10
    tool_filler_after_s: float | None = None
    outbound: bool = False
    ring_limit_s: float = 45
    hold_limit_s: float = 900
    keypad: Keypad = Keypad()
    transfers: Literal["refer", "refer_or_bridge", "bridge"] = "refer_or_bridge"
    recording: bool = False
    announces: bool = False
    can_record: bool = False


# --- SIP ---


@dataclass(frozen=True, slots=True)
class IncomingInvite(CallEvent):
    """
    An INVITE came in. The switchboard makes a call of it; no machine ever sees this event.

    Attributes:
        sip_call_id: the ``Call-ID`` header.
        from_uri: SIP URI of the caller, without display name and parameters.
        to_uri: SIP URI that is called (the Request-URI).
        source: ``address:port`` of who sent the INVITE, in front of the edge if there is one.
        headers: header name in lower case -> its values, joined by commas (RFC 3261 section 7.3.1).
        trunk: name of the trunk it came through; empty when it came through none.
        caller: the caller's number as the trunk's settings read it (E.164 if they can), else the user part.
        called: the called number, likewise.
        asserted: ``caller`` is who calls as the trunk asserts it (P-Asserted-Identity), not what From says.
        transport: ``udp``, ``tcp`` or ``tls``: what it came over.
        tls_name: name in the certificate of who sent it, as an edge has verified it; empty without one.
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
    transport: str = ""
    tls_name: str = ""


@dataclass(frozen=True, slots=True)
class LegRinging(LegEvent):
    """The far end of a call that we place sent the provisional response ``code`` (180, 183)."""

    note = "leg_ringing"

    code: int


@dataclass(frozen=True, slots=True)
class MediaUp(LegEvent):
    """
    The call is answered (200 OK was sent) and audio flows, or will once the far end takes us off hold.

    Comes again when the codec changes. ``codec`` is as in SDP, e.g. ``PCMU/8000``; empty on hold with no stream yet.
    """

    note = "media_up"

    codec: str

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        return {"codec": self.codec} if self.codec else {}


@dataclass(frozen=True, slots=True)
class EarlyMediaUp(LegEvent):
    """The caller hears us though the call is not answered (183 with SDP was sent); ``codec`` as in SDP."""

    note = "early_media_up"

    codec: str

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        return {"codec": self.codec} if self.codec else {}


@dataclass(frozen=True, slots=True)
class MediaLost(LegEvent):
    """No RTP came from the caller for ``silent_s`` seconds, though the call is up and not on hold."""

    silent_s: float


@dataclass(frozen=True, slots=True)
class LegClosed(LegEvent):
    """
    The SIP dialog is over. Always the leg's last event, exactly once.

    Attributes:
        by_caller: the far end ended it, by BYE, CANCEL or a refusal.
        code: last SIP status of the call (200 after a BYE, 487 after a CANCEL).
        reason: its reason phrase.
        cause: the ITU-T Q.850 cause the far end's telephone network gives; 0 when it gives none.
        contacts: URIs of a 3xx, the best first.
    """

    by_caller: bool
    code: int
    reason: str
    cause: int = 0
    contacts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LegFailed(LegEvent):
    """The SIP stack could not carry out an order, or a callback raised; ``detail`` says which."""

    detail: str


@dataclass(frozen=True, slots=True)
class LegHeld(LegEvent):
    """The far end put us on hold (its media is sendonly, inactive or has no address): it does not listen."""

    note = "held"


@dataclass(frozen=True, slots=True)
class LegResumed(LegEvent):
    """The far end took us off hold."""

    note = "resumed"


@dataclass(frozen=True, slots=True)
class DigitPressed(StampedEvent, LegEvent):
    """
    The far end pressed a key: one event for each press, by RFC 4733 or SIP INFO.

    Attributes:
        digit: one of ``0-9*#A-D``.
    """

    note = "digit_pressed"

    digit: str


@dataclass(frozen=True, slots=True)
class SecondRinging(LegEvent):
    """The second leg rings, or plays early media (183): ``code`` is its provisional response."""

    note = "second_ringing"

    code: int


@dataclass(frozen=True, slots=True)
class SecondUp(StampedEvent, LegEvent):
    """The second leg was answered and audio flows there; ``codec`` as in SDP."""

    note = "second_up"

    codec: str

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        return {"second_codec": self.codec}


@dataclass(frozen=True, slots=True)
class SecondDigit(StampedEvent, LegEvent):
    """The party on the second leg pressed the key ``digit``, one of ``0-9*#A-D``."""

    note = "second_digit"

    digit: str


@dataclass(frozen=True, slots=True)
class SecondClosed(StampedEvent, LegEvent):
    """
    The second leg is over, or could not be called. Always its last event, exactly once for each ``CallSecond``.

    Attributes:
        code: last SIP status of that leg (200 after a BYE).
        reason: its reason phrase.
        cause: the ITU-T Q.850 cause its telephone network gives; 0 when it gives none.
        contacts: URIs of a 3xx, the best first.
    """

    note = "second_closed"

    code: int
    reason: str
    cause: int = 0
    contacts: tuple[str, ...] = ()

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        contacts = {"contacts": ", ".join(self.contacts)} if self.contacts else {}
        return {"code": self.code, "reason": self.reason, **contacts}


@dataclass(frozen=True, slots=True)
class TransferEnded(LegEvent):
    """
    A transfer by REFER ended: with 2xx the caller is with somebody else, with any other code still here.

    Attributes:
        code: SIP status of the REFER if that failed, else the last one that a NOTIFY reported.
        reason: its reason phrase.
        refused: the REFER itself was refused, so the target was not called; False if a NOTIFY reported the end.
    """

    note = "transfer_ended"

    code: int
    reason: str
    refused: bool = False


# --- the voice model ---


@dataclass(frozen=True, slots=True)
class AgentReady(AgentEvent):
    """The upstream session ``session_id`` confirmed our configuration: the agent can hear and speak."""

    session_id: str

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        return {"upstream_session_id": self.session_id}


@dataclass(frozen=True, slots=True)
class AgentFailed(AgentEvent):
    """The agent was refused or lost, before or after it was ready. No other event of it follows."""

    error: AgentError


@dataclass(frozen=True, slots=True)
class AgentClosed(AgentEvent):
    """The upstream ended the session in an orderly way (close code 1000) without being asked."""

    close_code: int
    reason: str


@dataclass(frozen=True, slots=True)
class SpeechStarted(StampedEvent, AgentEvent):
    """
    The caller began to speak, as the upstream's turn detection says.

    Attributes:
        interrupts: the agent's session lets the caller interrupt.
        responding: the agent was generating, or about to; stamped by the session, like ``at``.
    """

    note = "speech_started"

    interrupts: bool = True
    responding: bool = field(default=False, kw_only=True)

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        return {} if self.at is None else {"item_id": self.at.item_id, "played_ms": self.at.played_ms}


@dataclass(frozen=True, slots=True)
class SpeechStopped(AgentEvent):
    """The caller stopped speaking, as the upstream's turn detection says."""

    note = "speech_stopped"


@dataclass(frozen=True, slots=True)
class AgentSpoke(AgentEvent):
    """A piece of the agent's speech was generated in full (not yet played); ``text`` is its transcript."""

    note = "agent_spoke"

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class CallerSpoke(AgentEvent):
    """A turn of the caller was transcribed."""

    note = "caller_spoke"

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class AgentAway(AgentEvent):
    """The upstream was lost in mid-call and the agent reconnects: ``AgentBack`` or ``AgentFailed`` follows."""

    note = "agent_away"

    detail: str


@dataclass(frozen=True, slots=True)
class AgentBack(AgentEvent):
    """The agent goes on in a new upstream session, which knows what was said before."""

    note = "agent_back"

    session_id: str

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        return {"upstream_session_id": self.session_id}


@dataclass(frozen=True, slots=True)
class AnswerLate(AgentEvent):
    """The caller has waited too long for the agent's answer; ``AnswerCame`` follows when the wait is over."""

    note = "answer_late"


@dataclass(frozen=True, slots=True)
class AnswerCame(AgentEvent):
    """The late answer can be heard now, or the caller speaks instead."""

    note = "answer_came"


@dataclass(frozen=True, slots=True)
class ApologyAsked(AgentEvent):
    """The agent can neither answer nor say so: the recorded apology ``sound`` takes its place."""

    note = "apology_asked"

    sound: str


@dataclass(frozen=True, slots=True)
class AgentExpiring(AgentEvent):
    """The upstream session ends in ``left_s`` seconds, and none takes over from it."""

    note = "agent_expiring"

    left_s: float


@dataclass(frozen=True, slots=True)
class ToolAsked(AgentEvent):
    """The agent called a tool of the profile's own; ``arguments`` is JSON text from the model, unchecked."""

    note = "tool_asked"

    tool_call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolFinished(AgentEvent):
    """A tool ended: ``output`` is what the model gets, also when it ``failed``."""

    note = "tool_finished"

    tool_call_id: str
    name: str
    output: str
    failed: bool
    took_ms: int


@dataclass(frozen=True, slots=True)
class McpCallBegan(AgentEvent):
    """The service called the tool ``name`` of an MCP server; one ``McpCallEnded`` of the same ``item_id`` follows."""

    note = "mcp_call_began"

    item_id: str
    server_label: str
    name: str


@dataclass(frozen=True, slots=True)
class McpCallEnded(AgentEvent):
    """A call that the service made to an MCP server ended, ``failed`` or not, or is given up."""

    note = "mcp_call_ended"

    item_id: str
    server_label: str
    name: str
    failed: bool


@dataclass(frozen=True, slots=True)
class AnnouncementSaid(AgentEvent):
    """The announcement that the call is recorded was generated in full as speech, but not yet heard."""

    note = "announcement_said"


@dataclass(frozen=True, slots=True)
class AnnouncementFailed(AgentEvent):
    """The agent could not announce the recording, and is not asked again; ``detail`` says why."""

    note = "announcement_failed"

    detail: str


@dataclass(frozen=True, slots=True)
class RecordingFailed(AgentEvent):
    """The recording stopped for good (disk full); the call goes on."""

    note = "recording_failed"

    detail: str


@dataclass(frozen=True, slots=True)
class RecordingSaved(AgentEvent):
    """
    The recording is complete at ``path`` and ``seconds`` long; comes while the call is being closed.

    Attributes:
        stretches: where each stretch between two pauses begins: seconds of the file, and Unix seconds.
    """

    note = "recording_saved"

    path: str
    seconds: float
    stretches: tuple[tuple[float, float], ...] = ()

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        begins = {"stretches": json.dumps(self.stretches)} if self.stretches else {}
        return {"recording": self.path, "seconds": self.seconds, **begins}


@dataclass(frozen=True, slots=True)
class PlayedOut(AgentEvent):
    """
    The agent, if there is one, generates nothing more, and all queued speech was clocked out.

    Attributes:
        mark: that of the ``AwaitPlayedOut`` that asked for it.
    """

    mark: int = 0


_BASES = (CallEvent, StampedEvent, LegEvent, AgentEvent)

EVENTS: tuple[type[CallEvent], ...] = tuple(
    kind
    for kind in tuple(globals().values())
    if isinstance(kind, type) and issubclass(kind, CallEvent) and kind not in _BASES
)
"""Every event but those of the built-in tools (``builtin_tools.py``)."""

OF_THE_LEG: tuple[type[CallEvent], ...] = tuple(kind for kind in EVENTS if issubclass(kind, LegEvent))
OF_THE_AGENT: tuple[type[CallEvent], ...] = tuple(kind for kind in EVENTS if issubclass(kind, AgentEvent))
