"""
Everything that can happen to a call: frozen facts, in the past tense.

They are made where the thing happened (SIP thread, realtime client, timers), carried to the call's inbox and handed to
``CallMachine.handle`` one by one. Audio is not among them: frames have their own short path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.audio.played import PlayoutPosition
from gateway.call.steps import Step
from gateway.errors import AgentError
from gateway.ids import CallId

# --- time, operators, the gateway itself ---


@dataclass(frozen=True, slots=True)
class CallEvent:
    """Something that happened to the call ``call_id``."""

    call_id: CallId


@dataclass(frozen=True, slots=True)
class StampedEvent(CallEvent):
    """
    Something that may cut the agent off: the session stamps it before the machine sees it.

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
    """Carrying out an order raised an exception nobody expected: a fault of ours; ``detail`` says which."""

    detail: str


@dataclass(frozen=True, slots=True)
class Noted(CallEvent):
    """Something for the call's record alone (tokens, latencies, rate limits, errors); ``fields`` go to the stream."""

    name: str
    fields: Mapping[str, str | int | float]


# --- the dialplan ---


@dataclass(frozen=True, slots=True)
class Keypad:
    """
    What the caller's keys do beside the agent.

    Attributes:
        to_agent: the agent is told which keys were pressed, together once none came for ``pause_s`` or at ``#``.
        pause_s: the pause that ends a number.
        shortcuts: key -> URI the caller is transferred to at once.
        masked: keys stand as ``*`` in records and logs (card numbers); the agent is told them all the same.
    """

    to_agent: bool = True
    pause_s: float = 1.5
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Planned(CallEvent):
    """
    The dialplan decided what is done with a call that came in: its steps can be taken. The machine's first event.

    Attributes:
        step: the first step.
        setup_limit_s: how long an agent may take to be ready, and a leg to have its media up.
        max_length_s: longest answered call, whoever speaks with the caller.
        refusal_code: SIP status for a caller whose agent cannot be had.
        hold_limit_s: the longest time on hold.
    """

    step: Step
    setup_limit_s: float
    max_length_s: float
    refusal_code: int = 503
    hold_limit_s: float = 900


@dataclass(frozen=True, slots=True)
class ChoiceFailed(CallEvent):
    """The agent that a step names could not be made for this call; ``detail`` says why."""

    detail: str


@dataclass(frozen=True, slots=True)
class Routed(CallEvent):
    """
    An agent was chosen. The machine's first event where nothing else was planned; else each ``ChooseAgent`` brings one.

    After ``Planned`` its limits of the whole call (``setup_limit_s``, ``max_length_s``, ``refusal_code``,
    ``hold_limit_s``) stand, not these.

    Attributes:
        outbound: we place this call; the far end is called once the agent is ready.
        ring_limit_s: outbound: how long it may ring; also for a second leg.
        hold_limit_s: the longest time on hold.
        keypad: what the caller's keys do.
        transfers: how callers are transferred: by REFER, by REFER or else in the gateway, or always in the gateway.
        recording: record from the answer on.
        announces: nothing is recorded before the agent's announcement of it was heard to its end.
        can_record: there is something to record with; set by the session.
        setup_limit_s: how long the caller may ring before the agent is ready.
        max_length_s: longest answered call.
        refusal_code: SIP status for a caller whose agent cannot be had.
        guard_ms: speech of the caller that is told to be over within so long was none (a cough, noise) and only holds
            the agent up; 0 is off. Counted from ``SpeechStarted`` to ``SpeechStopped``: whoever sets it adds the
            silence by which the upstream knows the end of speech.
        goodbye_limit_s: the longest wait for the agent's last words to be heard.
        tool_filler_after_s: a tool that runs longer lets the caller hear the filler; None: never.
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
class DigitPressed(StampedEvent):
    """
    The far end pressed a key, once for each press, however it was told (RFC 4733, SIP INFO).

    Attributes:
        digit: one of ``0-9*#A-D``.
    """

    digit: str
    item_id: str | None = None
    played_ms: int = 0


@dataclass(frozen=True, slots=True)
class SecondRinging(CallEvent):
    """The second leg rings, or sounds already (183): ``code`` is its provisional answer."""

    code: int


@dataclass(frozen=True, slots=True)
class SecondUp(StampedEvent):
    """
    The second leg was answered and audio flows there.

    Attributes:
        codec: as in SDP, e.g. ``PCMU/8000``.
    """

    codec: str
    item_id: str | None = None
    played_ms: int = 0


@dataclass(frozen=True, slots=True)
class SecondDigit(StampedEvent):
    """
    Whoever is on the second leg pressed a key.

    Attributes:
        digit: one of ``0-9*#A-D``.
    """

    digit: str
    item_id: str | None = None
    played_ms: int = 0


@dataclass(frozen=True, slots=True)
class SecondClosed(StampedEvent):
    """
    The second leg is over, or never came to be. Always its last event, exactly once for each ``CallSecond``.

    Attributes:
        code: last SIP status of that leg (200 after a BYE).
        reason: its reason phrase.
        cause: why, as its telephone network says it (ITU-T Q.850); 0 when it does not.
        contacts: URIs that a 3xx points to, the best first.
    """

    code: int
    reason: str
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


# --- the voice model ---


@dataclass(frozen=True, slots=True)
class AgentReady(CallEvent):
    """The upstream session echoed our configuration and can hear and speak; ``session_id`` is the upstream's own."""

    session_id: str


@dataclass(frozen=True, slots=True)
class AgentFailed(CallEvent):
    """The agent was refused or lost, before or after it was ready. No further agent event follows."""

    error: AgentError


@dataclass(frozen=True, slots=True)
class AgentClosed(CallEvent):
    """The upstream ended the session in an orderly way (close code 1000) without being asked."""

    close_code: int
    reason: str


@dataclass(frozen=True, slots=True)
class SpeechStarted(StampedEvent):
    """
    The caller began to speak, by the upstream's voice activity detection.

    Attributes:
        interrupts: the upstream's session is set to let the caller interrupt the agent.
        responding: the agent was generating, or about to; stamped by the session like ``at``.
    """

    interrupts: bool = True
    responding: bool = False


@dataclass(frozen=True, slots=True)
class SpeechStopped(CallEvent):
    """The caller stopped speaking, by the upstream's voice activity detection."""


@dataclass(frozen=True, slots=True)
class AgentSpoke(CallEvent):
    """A piece of the agent's speech was generated in full (not: played); ``text`` is its transcript."""

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class CallerSpoke(CallEvent):
    """A turn of the caller was transcribed."""

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class AgentAway(CallEvent):
    """The upstream was lost in mid-call and the agent tries to come back: ``AgentBack`` or ``AgentFailed`` follows."""

    detail: str


@dataclass(frozen=True, slots=True)
class AgentBack(CallEvent):
    """The agent goes on in a new upstream session that knows what was said before."""

    session_id: str


@dataclass(frozen=True, slots=True)
class AnswerLate(CallEvent):
    """The caller waits to hear the agent for longer than one should; ``AnswerCame`` follows once they need not."""


@dataclass(frozen=True, slots=True)
class AnswerCame(CallEvent):
    """What was late can be heard now, or the caller speaks instead."""


@dataclass(frozen=True, slots=True)
class ApologyAsked(CallEvent):
    """The agent cannot answer, nor say so: a recorded apology takes its place."""

    sound: str


@dataclass(frozen=True, slots=True)
class AgentExpiring(CallEvent):
    """The upstream session ends in ``left_s`` seconds and no other takes over."""

    left_s: float


@dataclass(frozen=True, slots=True)
class ToolAsked(CallEvent):
    """The agent calls a tool of the profile's own; ``arguments`` is JSON text from the model, not checked yet."""

    tool_call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolFinished(CallEvent):
    """A tool came to an end: ``output`` is what the model is told, also when it ``failed``."""

    tool_call_id: str
    name: str
    output: str
    failed: bool
    took_ms: int


@dataclass(frozen=True, slots=True)
class McpCallBegan(CallEvent):
    """The service calls the tool ``name`` of an MCP server; one ``McpCallEnded`` of the same ``item_id`` follows."""

    item_id: str
    server_label: str
    name: str


@dataclass(frozen=True, slots=True)
class McpCallEnded(CallEvent):
    """A call that the service makes to an MCP server came to an end, ``failed`` or not, or is waited for no longer."""

    item_id: str
    server_label: str
    name: str
    failed: bool


@dataclass(frozen=True, slots=True)
class HangUpAsked(CallEvent):
    """The agent wants the call to end (built-in tool ``hang_up``), once what it said has been heard."""

    tool_call_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class TransferAsked(CallEvent):
    """
    The agent wants the caller transferred (built-in tool ``transfer_call``), once what it said has been heard.

    Attributes:
        tool_call_id: empty when it was a key of the caller's, not the agent, who wants it.
        target: SIP or tel URI.
        warm: the agent speaks with whoever answers first, who then takes the caller with the key 1 (or not, with 2).
        summary: warm: what the agent shall tell them.
    """

    tool_call_id: str
    target: str
    warm: bool = False
    summary: str = ""


@dataclass(frozen=True, slots=True)
class DigitsAsked(CallEvent):
    """The agent wants DTMF digits to be sent to the caller's side (built-in tool ``send_dtmf``)."""

    tool_call_id: str
    digits: str


@dataclass(frozen=True, slots=True)
class WaitAsked(CallEvent):
    """The agent wants to stay silent until it is spoken to (built-in tool ``wait``)."""

    tool_call_id: str


@dataclass(frozen=True, slots=True)
class LeaveMessageAsked(CallEvent):
    """The agent reached a voicemail (built-in tool ``leave_message``): it says its message, then the call ends."""

    tool_call_id: str


@dataclass(frozen=True, slots=True)
class RecordingAsked(CallEvent):
    """The agent wants the recording to go on, or to pause (built-in tools ``start_recording``, ``pause_recording``)."""

    tool_call_id: str
    on: bool


@dataclass(frozen=True, slots=True)
class AnnouncementSaid(CallEvent):
    """The agent said all of the announcement that the call is recorded: generated as speech, not yet heard."""


@dataclass(frozen=True, slots=True)
class AnnouncementFailed(CallEvent):
    """The agent could not say it, and is not asked again; ``detail`` says why."""

    detail: str


@dataclass(frozen=True, slots=True)
class RecordingFailed(CallEvent):
    """The recording stopped for good (disk full); the call goes on."""

    detail: str


@dataclass(frozen=True, slots=True)
class RecordingSaved(CallEvent):
    """The recording is complete at ``path`` and ``seconds`` long; comes while the call is being closed."""

    path: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PlayedOut(CallEvent):
    """
    The agent, if there is one, generates nothing more and everything that was to be heard was clocked out.

    Attributes:
        mark: of the ``AwaitPlayedOut`` that asked for it.
    """

    mark: int = 0


OF_THE_AGENT: tuple[type[CallEvent], ...] = (
    AgentReady,
    AgentFailed,
    AgentClosed,
    AgentAway,
    AgentBack,
    AgentExpiring,
    AnswerLate,
    AnswerCame,
    ApologyAsked,
    SpeechStarted,
    SpeechStopped,
    AgentSpoke,
    CallerSpoke,
    ToolAsked,
    ToolFinished,
    McpCallBegan,
    McpCallEnded,
    HangUpAsked,
    TransferAsked,
    DigitsAsked,
    WaitAsked,
    LeaveMessageAsked,
    RecordingAsked,
    AnnouncementSaid,
    AnnouncementFailed,
    RecordingFailed,
    RecordingSaved,
    PlayedOut,
)
"""Every event of this file."""
