"""
Everything call control remembers of one call: ``CallState``, the only thing in this folder that changes.

A fact is kept once. What follows from others is a property: the agent speaks with the second leg because a transfer is
at that stage, a guard holds its speech because the guard's timer runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto

from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine.phase import OF_THE_CALL, CallStage, Phase
from gateway.call.outcome import EndReason, Outcome
from gateway.call.steps import Step, TalkTo
from gateway.ids import CallId

Orders = tuple[do.CallAction, ...]
"""What a rule answers with: orders, in their order."""

_NO_LIMITS = ev.Routed(CallId(""), setup_limit_s=0, max_length_s=0)


class Signal(IntEnum):
    """The most that the caller's side was told, or has; each includes those before it."""

    NONE = auto()
    RINGING = auto()
    PROGRESS = auto()
    EARLY_MEDIA = auto()
    """183 took effect: the caller hears us unanswered."""
    ANSWERED = auto()
    MEDIA = auto()
    """Answered, and audio flows both ways."""


class SecondLegState(Enum):
    """Whether there is a second leg. One at a time, or it would be unclear which of them has closed."""

    CLOSED = auto()
    OPEN = auto()
    DROPPED = auto()
    """It was ordered to end and has not reported that it did."""


@dataclass(slots=True)
class LegState:
    """The caller's leg. Held: as the far end says, even before the media is up."""

    signal: Signal = Signal.NONE
    held: bool = False

    @property
    def answered(self) -> bool:
        """200 OK went out, or is on its way."""
        return self.signal >= Signal.ANSWERED

    @property
    def up(self) -> bool:
        """The call is answered and audio flows both ways."""
        return self.signal is Signal.MEDIA

    @property
    def early_up(self) -> bool:
        """The caller hears us, unanswered."""
        return self.signal is Signal.EARLY_MEDIA

    @property
    def on_hold(self) -> bool:
        """The caller does not listen."""
        return self.held and self.up


@dataclass(slots=True)
class PlaybackState:
    """What was ordered of the playout: whether it is paused, and whether the filler is on."""

    paused: bool = False
    filler: bool = False


@dataclass(slots=True)
class IvrState:
    """
    The dialplan's steps.

    Attributes:
        step: the one being taken; an agent's as long as the agent is there.
        mark: of the sounds being played; ``PlayedOut`` of earlier ones is stale.
        tries: prompts of a menu, or contacts of a redirect, tried so far.
    """

    step: Step | None = None
    mark: int = 0
    tries: int = 0

    @property
    def agent(self) -> TalkTo | None:
        """The step that the agent was chosen for."""
        return self.step if isinstance(self.step, TalkTo) else None


@dataclass(slots=True)
class RecordingState:
    """
    The recording as long as one agent speaks.

    Attributes:
        runs: what is said is written down.
        heard: the caller heard the announcement.
        announcing: the announcement is to be heard before the recording runs.
        wanted: the agent is saying it, or is about to, as far as we did not cancel that.
        said: the agent has said all of it, and the caller did not cut it off.
        count: how often it was tried.
        greet: the greeting, which follows the announcement.
        asked: the agent is to be told what came of it.
    """

    runs: bool = False
    heard: bool = False
    announcing: bool = False
    wanted: bool = False
    said: bool = False
    count: int = 0
    greet: do.Greet | None = None
    asked: bool = False


@dataclass(slots=True)
class AgentState:
    """
    The agent that was chosen last, and the conversation with it. Each ``Routed`` begins a new one.

    Attributes:
        routed: the limits of the conversation.
        open: it was opened and not closed.
        expiring: it has no time left, though the call is not up yet.
        away: it lost its session and tries to come back.
        late: it owes the caller an answer.
        muted: it hears nothing, as ordered.
        caller_speaks: a turn of the caller is open.
        interrupted: and it is no cough.
        spoken_over: the caller spoke since the last words were awaited.
        tool_calls: every tool call, so that none is answered twice.
        running: tools that have not finished, and calls that the service makes itself.
        keys: the number that the caller is keying in.
        transfer: the transfer under way.
        given_up: a transfer by REFER that was not heard of in time.
        overdue: what else ends the call, and its words for the agent, if the hang-up or transfer under way is off.
        lost: the agent is gone, its last words, its transfer or the person who takes over are not.
        taker: who takes the call over, or is to: SIP or tel URI.
        recording: of this conversation.
    """

    routed: ev.Routed = _NO_LIMITS
    open: bool = False
    expiring: ev.AgentExpiring | None = None
    away: bool = False
    late: bool = False
    muted: bool = False
    caller_speaks: bool = False
    interrupted: bool = False
    spoken_over: bool = False
    tool_calls: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    keys: list[str] = field(default_factory=list)
    transfer: tool.TransferAsked | None = None
    given_up: tool.TransferAsked | None = None
    overdue: tuple[Outcome, str] | None = None
    lost: Outcome | None = None
    taker: str = ""
    recording: RecordingState = field(default_factory=RecordingState)


@dataclass(slots=True)
class CallState:
    """
    All control state of one call.

    Attributes:
        phase: where the call is; ``enter`` alone changes it.
        stage: what it waits for inside its phase.
        timers: those that run, in order of their start; the machine drops one that fires.
        limits: of the whole call.
        outcome: how the call ends: once the last words were heard (stage goodbye), when either side leaves (joined),
            as soon as the SIP side is over (ending).
        recording_failed: nothing can be recorded any more.
        over_budget: how the call ends that has spent what it may; no agent says more than goodbye.
        leg: the caller's.
        second: the second leg.
        playback: what the caller hears of us.
        ivr: the dialplan's steps.
        agent: the agent and the conversation with it.
        command: id of the command whose answer is what becomes of a transfer or a take-over; empty without one.
    """

    phase: Phase = Phase.ROUTING
    stage: CallStage = CallStage.NONE
    timers: dict[str, None] = field(default_factory=dict)
    limits: ev.Planned | ev.Routed = _NO_LIMITS
    outcome: Outcome | None = None
    recording_failed: bool = False
    over_budget: Outcome | None = None
    leg: LegState = field(default_factory=LegState)
    second: SecondLegState = SecondLegState.CLOSED
    playback: PlaybackState = field(default_factory=PlaybackState)
    ivr: IvrState = field(default_factory=IvrState)
    agent: AgentState = field(default_factory=AgentState)
    command: str = ""

    @property
    def leaving(self) -> Outcome | None:
        """With what the call ends once the agent's last words were heard."""
        return self.outcome if self.stage is CallStage.GOODBYE else None

    @property
    def message_left(self) -> bool:
        """The last words are a message for a voicemail."""
        return self.leaving is not None and self.leaving.reason is EndReason.MESSAGE_LEFT

    @property
    def awaits_words(self) -> bool:
        """The call ends, or the caller is transferred, once the last words were heard."""
        return self.leaving is not None or self.stage is CallStage.LAST_WORDS

    @property
    def calls_warm(self) -> bool:
        """A transfer's target is being called while the caller stays with the agent."""
        return self._at(CallStage.CALLING) and self.agent.transfer is not None and self.agent.transfer.warm

    @property
    def calls_blind(self) -> bool:
        """A transfer's target is being called and the caller hears that it rings."""
        return self._at(CallStage.CALLING) and self.agent.transfer is not None and not self.agent.transfer.warm

    @property
    def summoning(self) -> bool:
        """A person who is to take the call over is being called."""
        return self._at(CallStage.SUMMONING)

    @property
    def taken_over(self) -> bool:
        """A person talks with the caller in the agent's place."""
        return self._at(CallStage.TAKEN_OVER)

    @property
    def with_second(self) -> bool:
        """The agent is connected with the second leg."""
        return self.calls_blind or self._at(CallStage.BRIEFING)

    def _at(self, stage: CallStage) -> bool:
        return self.phase is Phase.ACTIVE and self.stage is stage


def enter(call: CallState, phase: Phase) -> None:
    """Change the phase."""
    call.phase = phase


def start_timer(call: CallState, name: str, seconds: float) -> Orders:
    """Start a timer."""
    call.timers[name] = None
    return (do.StartTimer(name, seconds),)


def cancel_timer(call: CallState, *names: str) -> Orders:
    """Cancel those of these timers that run."""
    running = [name for name in names if name in call.timers]
    for name in running:
        del call.timers[name]
    return tuple(map(do.CancelTimer, running))


def cancel_stage_timers(call: CallState) -> Orders:
    """Cancel every timer but those of the whole call, in order of their start."""
    return cancel_timer(call, *(name for name in call.timers if name not in OF_THE_CALL))
