"""What happens on the voice model's side: the agent itself, and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.call.events.gateway import CallEvent
from gateway.errors import AgentError


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
class SpeechStarted(CallEvent):
    """
    The caller began to speak, by the upstream's voice activity detection.

    The session stamps what was being played at that moment before the machine sees the event.

    Attributes:
        item_id: the agent's item that was being played; None when nothing was.
        played_ms: milliseconds of that item that were really clocked out to RTP.
        interrupts: the upstream's session is set to let the caller interrupt the agent.
        responding: the agent was generating, or about to; stamped by the session too.
    """

    item_id: str | None = None
    played_ms: int = 0
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
