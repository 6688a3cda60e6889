"""
Everything a call can ask for: frozen orders, named in the imperative.

``CallMachine.handle`` returns them and ``call/session/session.py`` carries them out. An order reports nothing back:
what comes of it arrives as a later event (``events.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.call.events import Scalar
from gateway.call.outcome import Outcome
from gateway.call.steps import TalkTo


@dataclass(frozen=True, slots=True)
class CallAction:
    """An order of the call."""


@dataclass(frozen=True, slots=True)
class Ring(CallAction):
    """Send 180 Ringing."""


@dataclass(frozen=True, slots=True)
class Progress(CallAction):
    """Send 183 Session Progress with SDP, so that the caller hears us before the answer; ``EarlyMediaUp`` follows."""


@dataclass(frozen=True, slots=True)
class Answer(CallAction):
    """Send 200 OK."""


@dataclass(frozen=True, slots=True)
class Dial(CallAction):
    """Place the outbound call of this session."""


@dataclass(frozen=True, slots=True)
class HangUp(CallAction):
    """
    End the SIP leg: a final response ``code`` before the answer, a BYE with ``Reason`` after it.

    Attributes:
        code: SIP status.
        reason: its reason phrase; empty takes the usual one of the code.
        contacts: where a 3xx sends the caller, the best first.
        cause: ITU-T Q.850 cause to send; 0 takes the usual one of the code.
    """

    code: int
    reason: str
    contacts: tuple[str, ...] = ()
    cause: int = 0


@dataclass(frozen=True, slots=True)
class ChooseAgent(CallAction):
    """Set up the agent that a step names; ``Routed`` or ``ChoiceFailed`` follows."""

    step: TalkTo


@dataclass(frozen=True, slots=True)
class OpenAgent(CallAction):
    """Connect the agent that was chosen last to the upstream, and configure its session."""


@dataclass(frozen=True, slots=True)
class CloseAgent(CallAction):
    """Close the agent's upstream session in an orderly way. Exactly one for each ``OpenAgent``."""


@dataclass(frozen=True, slots=True)
class Greet(CallAction):
    """Let the agent speak first; ``text`` is what to say instead of its greeting."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class AnnounceRecording(CallAction):
    """Let the agent say that the call is recorded; ``AnnouncementSaid`` or ``AnnouncementFailed`` follows."""


@dataclass(frozen=True, slots=True)
class Play(CallAction):
    """Queue sounds of the dialplan for the caller, one after the other, by their names."""

    sounds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlushPlayout(CallAction):
    """Drop all speech that is queued for the caller."""


@dataclass(frozen=True, slots=True)
class Truncate(CallAction):
    """Tell the upstream that only the first ``played_ms`` of item ``item_id`` were heard."""

    item_id: str
    played_ms: int


@dataclass(frozen=True, slots=True)
class PausePlayout(CallAction):
    """Hold the queued speech; the caller hears silence until it is resumed or flushed."""


@dataclass(frozen=True, slots=True)
class ResumePlayout(CallAction):
    """Go on with the held speech where it stopped."""


@dataclass(frozen=True, slots=True)
class CancelResponse(CallAction):
    """Stop the response being generated, if there is one, where the upstream does not do so by itself."""


@dataclass(frozen=True, slots=True)
class StartFiller(CallAction):
    """Let the caller hear the profile's filler while no speech is queued."""


@dataclass(frozen=True, slots=True)
class StopFiller(CallAction):
    """End the filler; does nothing if there is none."""


@dataclass(frozen=True, slots=True)
class RunTool(CallAction):
    """Run a tool of the profile's own; ``ToolFinished`` follows."""

    tool_call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class AnswerTool(CallAction):
    """Give the model a tool's output; with ``respond`` it speaks once all tools of its response are answered."""

    tool_call_id: str
    output: str
    respond: bool = True


@dataclass(frozen=True, slots=True)
class AwaitPlayedOut(CallAction):
    """Report ``PlayedOut(mark)`` once the agent generates nothing more and all queued speech was clocked out."""

    mark: int = 0


@dataclass(frozen=True, slots=True)
class SayGoodbye(CallAction):
    """Let the agent say goodbye, because the call must end; ``detail`` says why, in words for the model."""

    detail: str


@dataclass(frozen=True, slots=True)
class Transfer(CallAction):
    """Send the caller to the SIP or tel URI ``target`` (REFER, RFC 3515); ``TransferEnded`` follows."""

    target: str


@dataclass(frozen=True, slots=True)
class SendDigits(CallAction):
    """Send DTMF digits to the caller's side (RFC 4733)."""

    digits: str


@dataclass(frozen=True, slots=True)
class Say(CallAction):
    """Let the agent say this sentence, word for word."""

    text: str


@dataclass(frozen=True, slots=True)
class Whisper(CallAction):
    """Give the agent an operator's instruction; it does not answer to that."""

    text: str


@dataclass(frozen=True, slots=True)
class AnswerCommand(CallAction):
    """Answer an operator's command, once: it is ``done``, or refused because of ``detail``."""

    command_id: str
    done: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TraceCall(CallAction):
    """Keep the SIP messages of this call from now on."""


@dataclass(frozen=True, slots=True)
class MuteCaller(CallAction):
    """Let the agent hear nothing of the caller from now on; its turn detection pauses meanwhile."""


@dataclass(frozen=True, slots=True)
class UnmuteCaller(CallAction):
    """Let the agent hear the caller again."""


@dataclass(frozen=True, slots=True)
class TellAgent(CallAction):
    """Give the agent a message of the gateway (keys, how a transfer went); with ``respond`` it answers."""

    text: str
    respond: bool


@dataclass(frozen=True, slots=True)
class CallSecond(CallAction):
    """
    Call ``target`` on a second leg; ``SecondRinging``, ``SecondUp``, ``SecondClosed`` follow.

    Attributes:
        target: SIP or tel URI, or a number of the trunk's.
        trunk: the trunk it goes out through; empty leaves it to the SIP side.
        headers: extra headers of the INVITE.
        caller_id: the number it shows: ``caller``, ``trunk`` or a number; empty leaves it to the trunk's settings.
        diverted_from: the number it says the call was diverted from: ``called``, ``nobody`` or a number.
    """

    target: str
    trunk: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    caller_id: str = ""
    diverted_from: str = "called"


@dataclass(frozen=True, slots=True)
class TalkToSecond(CallAction):
    """Connect the agent with the second leg as soon as it is up; the caller hears a waiting tone from now on."""


@dataclass(frozen=True, slots=True)
class TalkToCaller(CallAction):
    """Connect the agent with the caller again."""


@dataclass(frozen=True, slots=True)
class JoinLegs(CallAction):
    """Connect the caller with the second leg; neither hears the agent any more."""


@dataclass(frozen=True, slots=True)
class DropSecond(CallAction):
    """End the second leg. ``SecondClosed`` follows."""


@dataclass(frozen=True, slots=True)
class StartRecording(CallAction):
    """Write both sides of the call into its recording from now on."""


@dataclass(frozen=True, slots=True)
class PauseRecording(CallAction):
    """Write nothing until the recording is started again."""


@dataclass(frozen=True, slots=True)
class StartTimer(CallAction):
    """Report ``TimerFired(name)`` after ``seconds``; an earlier timer of that name is replaced."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CancelTimer(CallAction):
    """Stop the timer; does nothing if it is not running."""

    name: str


@dataclass(frozen=True, slots=True)
class Note(CallAction):
    """Write ``name`` with ``fields`` into the call's history, named as in the stream of events."""

    name: str
    fields: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Finish(CallAction):
    """End the call with ``outcome``: nothing is left to do. Always the last action, exactly once."""

    outcome: Outcome
