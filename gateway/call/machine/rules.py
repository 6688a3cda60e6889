"""
What follows from each event in a call, when it may happen at all: facts in, orders out, nothing performed.

``machine.py`` says which event may happen when. What goes on inside a phase is decided by the parts: ``line.py`` (the
caller's leg), ``attendant.py`` (the dialplan's steps), ``talk.py`` (an agent speaks with the caller).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from gateway.call.actions import (
    CallAction,
    CancelTimer,
    ChooseAgent,
    CloseAgent,
    Dial,
    Finish,
    FlushPlayout,
    HangUp,
    JoinLegs,
    OpenAgent,
    StartTimer,
)
from gateway.call.events import (
    AgentClosed,
    AgentExpiring,
    AgentFailed,
    AgentReady,
    CallEvent,
    ChoiceFailed,
    EarlyMediaUp,
    LegClosed,
    LegFailed,
    LegHeld,
    LegResumed,
    MediaLost,
    MediaUp,
    OrderFailed,
    Planned,
    RecordingFailed,
    Routed,
    SecondClosed,
    StopAsked,
    TimerFired,
)
from gateway.call.machine.conversation import Reply, Take, Talk
from gateway.call.machine.ivr import Attendant, Connected, Turn
from gateway.call.machine.legs import Line
from gateway.call.machine.phase import ENDING, ENDING_LIMIT_S, HOLD, MAX_LENGTH, PATIENCE, RINGING, SETUP, Phase
from gateway.call.machine.second_leg import SecondLeg
from gateway.call.machine.timers import running_after
from gateway.call.machine.transfer import Join
from gateway.call.outcome import EndReason, Outcome, outcome_of, outcome_of_no_answer, outcome_of_own_end
from gateway.call.steps import Step, TalkTo
from gateway.errors import SipError
from gateway.ids import CallId

Decision = tuple[Phase, tuple[CallAction, ...]]
"""What a rule answers with: the phase the call is in from now on, and the orders in their order."""

_OF_THE_CALL = frozenset({MAX_LENGTH, HOLD})
"""Timers that run on, whoever speaks with the caller."""

_WITHOUT_AGENT = frozenset(
    {EndReason.AGENT_REFUSED, EndReason.AGENT_LOST, EndReason.AGENT_CLOSED, EndReason.SETUP_TIMEOUT}
)
"""Ends of an agent after which the dialplan may have something else for the caller."""


class Decisions:
    """
    All control state of one call. Synchronous, without clock and I/O: time arrives as ``TimerFired``.

    Attributes:
        phase: where the call stands now.
        timers: those that run, in order of their start; the machine keeps them.
    """

    phase = Phase.ROUTING

    def __init__(self) -> None:
        self.timers: dict[str, None] = {}
        self._routed = Routed(CallId(""), setup_limit_s=0, max_length_s=0)
        self._limits: Planned | Routed = self._routed
        self._line = Line()
        self._second = SecondLeg()
        self._attendant = Attendant(self._line, self._second, 0)
        self._talk = Talk(self._routed, self._second)
        self._step: TalkTo | None = None  # that an agent was chosen for
        self._choosing = False
        self._can_record = True
        self._agent_open = False
        self._leg_open = True
        self._joined: Outcome | None = None
        self._outcome: Outcome | None = None

    # The dialplan's steps

    def planned(self, event: Planned) -> Decision:
        """Take the first step of the dialplan."""
        if self._choosing:
            return self.phase, ()
        self._limits = event
        self._attendant = Attendant(self._line, self._second, event.setup_limit_s)
        return self._attend(self._attendant.take(event.step))

    def attended(self, event: CallEvent) -> Decision:
        """Let the attendant take a fact."""
        return self._attend(self._attendant.handle(event))

    def _attend(self, turn: Turn, before: tuple[CallAction, ...] = ()) -> Decision:
        orders = (*before, *turn.orders)
        match turn.then:
            case Outcome():
                return self._end(turn.then, orders)
            case Connected(outcome=outcome):
                return self._join(Join(orders, outcome))
            case TalkTo() as step:
                self._step, self._choosing = step, True
                phase = Phase.ROUTING if self.phase is Phase.ROUTING else Phase.ATTENDING
                return phase, (*orders, ChooseAgent(step))
            case _:
                return Phase.ATTENDING, orders

    def _move_on(self, step: Step, cause: str) -> Decision:
        """Leave the agent, if there is one, and take the next step."""
        left = self._talk.part() if self.phase is Phase.ACTIVE else self._talk.close()
        closed = (CloseAgent(),) if self._agent_open else ()
        timers = tuple(CancelTimer(name) for name in self.timers if name not in _OF_THE_CALL)
        orders = (*left, *self._attendant.close(), *closed, *timers)
        self._agent_open, self._step = False, None
        return self._attend(self._attendant.take(step, cause), orders)

    def _without_agent(self, outcome: Outcome) -> Decision:
        """Take the step for a call whose agent is not there, or end it."""
        step = self._step.otherwise if self._step is not None else None
        if step is None:
            return self._end(outcome)
        if self._line.up and MAX_LENGTH not in self.timers:  # it ran out while a transfer was under way
            return self._end(self._too_long_at_once())
        return self._move_on(step, f"{outcome.reason}: {outcome.detail}")

    # Agents

    def routed(self, event: Routed) -> Decision:
        """Open the agent that was chosen."""
        if not self._choosing:
            if self.phase is not Phase.ROUTING:
                return self.phase, ()
            self._limits = event
        self._choosing = False
        placed = event.outbound and self._step is None
        self._routed = replace(event, outbound=placed, can_record=event.can_record and self._can_record)
        self._talk = Talk(self._routed, self._second, self._step)
        self._agent_open = True
        opened = (OpenAgent(), StartTimer(SETUP, self._limits.setup_limit_s))
        if placed:
            return Phase.PREPARING, opened
        if self._line.answered:
            return Phase.WAITING, (*self._attendant.bridge_silence(), *opened)
        rings_s = 0 if self._step is None else self._step.answer_after_s
        patience = (StartTimer(PATIENCE, rings_s),) if rings_s else ()
        return Phase.RINGING, (*self._line.ring(), *opened, *patience)

    def choice_failed(self, event: ChoiceFailed) -> Decision:
        """Go on without the agent that was to be chosen."""
        if not self._choosing:
            return self.phase, ()
        self._choosing = False
        return self._without_agent(Outcome(EndReason.INTERNAL_ERROR, event.detail, 500))

    def answer(self, _event: AgentReady) -> Decision:
        """Answer the caller, who may have to ring for a while yet."""
        if PATIENCE in self.timers:
            return Phase.ANSWERING, (CancelTimer(SETUP),)
        return Phase.ANSWERING, self._line.answer()

    def dial(self, _event: AgentReady) -> Decision:
        """Call the far end."""
        return Phase.DIALING, (CancelTimer(SETUP), Dial(), StartTimer(RINGING, self._routed.ring_limit_s))

    def take_over(self, _event: AgentReady) -> Decision:
        """Let the agent speak with a caller who was answered before."""
        if not self._line.up:
            return Phase.ANSWERING, ()
        return Phase.ACTIVE, (CancelTimer(SETUP), *self._begin())

    def media_up(self, _event: MediaUp) -> Decision:
        """Let the agent speak: it waited for the caller's media."""
        if PATIENCE in self.timers:
            return self.phase, ()
        waited = RINGING if self.phase is Phase.DIALING else SETUP
        up = self._up()
        return Phase.ACTIVE, (CancelTimer(waited), *self._begin(), *up)

    def _begin(self) -> tuple[CallAction, ...]:
        return (*self._attendant.close(), *self._talk.begin(on_hold=self._line.on_hold))

    def media_up_early(self, _event: MediaUp) -> Decision:
        """Go on with a step that waits for the caller's media, if one does."""
        if self._line.up or not self._line.answered:
            return self.phase, ()
        up = self._up()
        if self.phase is not Phase.ATTENDING or self._choosing:
            return self.phase, up
        return self._attend(self._attendant.media_up(), up)

    def early_media_up(self, _event: EarlyMediaUp) -> Decision:
        """Go on with a step that needs no answer, if one waits."""
        self._line.early_media_up()
        if self.phase is not Phase.ATTENDING or self._choosing:
            return self.phase, ()
        return self._attend(self._attendant.early_media_up())

    def _up(self) -> tuple[CallAction, ...]:
        limit = StartTimer(MAX_LENGTH, self._limits.max_length_s)
        return (*self._line.media_up(self._limits.hold_limit_s), limit)

    def expires_early(self, event: AgentExpiring) -> Decision:
        """Keep in mind that the agent has no time left."""
        self._talk.expires_early(event)
        return self.phase, ()

    def talked(self, event: CallEvent) -> Decision:
        """Let the talk take a fact."""
        return self._go_on(self._talk.handle(event))

    def _go_on(self, reply: Reply) -> Decision:
        """Stay in this phase, unless the talk has come to its end."""
        match reply:
            case Outcome(reason=reason):
                # Whose media is missing would hear nothing else either.
                no_media = reason is EndReason.SETUP_TIMEOUT and self.phase is Phase.ANSWERING
                return self._end(reply) if no_media or reason not in _WITHOUT_AGENT else self._without_agent(reply)
            case Join():
                return self._join(reply)
            case Take(step=step, cause=cause):
                return self._move_on(step, cause)
            case _:
                return self.phase, reply

    def _join(self, join: Join) -> Decision:
        """Let the caller talk with the second leg; the limits of the whole call still hold."""
        self._joined = join.outcome
        running = running_after(join.orders, self.timers)
        # A call that got too long while it was being joined has the same time once more.
        limit = () if MAX_LENGTH in running else (StartTimer(MAX_LENGTH, self._limits.max_length_s),)
        cancelled = tuple(CancelTimer(name) for name in sorted(running) if name not in _OF_THE_CALL)
        closed = (CloseAgent(),) if self._agent_open else ()
        self._agent_open = False
        return Phase.JOINED, (*join.orders, *cancelled, *limit, JoinLegs(), *closed)

    def agent_failed(self, event: AgentFailed) -> Decision:
        """Go on without the agent, or end."""
        return self._go_on(self._talk.lose_agent(outcome_of(event.error, sip_code=self._limits.refusal_code)))

    def agent_closed(self, event: AgentClosed) -> Decision:
        """Go on without the agent, or end."""
        detail = f"{event.close_code} {event.reason}".rstrip()
        return self._go_on(self._talk.lose_agent(Outcome(EndReason.AGENT_CLOSED, detail, self._limits.refusal_code)))

    def recording_failed(self, event: RecordingFailed) -> Decision:
        """Keep in mind that no later agent can record either."""
        self._can_record = False
        return self.talked(event) if self.phase is Phase.ACTIVE else (self.phase, ())

    # Legs

    def held(self, _event: LegHeld) -> Decision:
        """Pause whatever sounds."""
        limit = self._line.hold(self._limits.hold_limit_s)
        if self.phase is Phase.ACTIVE:
            return self.phase, (*self._talk.hold(), *limit)
        paused = self._attendant.hold() if self.phase is Phase.ATTENDING and self._line.on_hold else ()
        return self.phase, (*paused, *limit)

    def resumed(self, _event: LegResumed) -> Decision:
        """Go on with it."""
        stopped = self._line.resume()
        if self.phase is Phase.ACTIVE:
            return self.phase, (*stopped, *self._talk.resume())
        return self.phase, (*stopped, *(self._attendant.resume() if self.phase is Phase.ATTENDING else ()))

    def media_lost(self, event: MediaLost) -> Decision:
        """End the call, unless silence is what must be expected."""
        outcome = Outcome(EndReason.NO_RTP, f"no RTP for {event.silent_s:g} s")
        if self.phase is Phase.ACTIVE:
            return self._go_on(self._talk.lose_media(outcome))
        return (self.phase, ()) if self._line.on_hold else self._end(outcome)

    def second_closed(self, event: SecondClosed) -> Decision:
        """Take the end of a second leg that nobody waits for, or that the caller talked with."""
        self._second.closed()
        return (self.phase, ()) if self._joined is None else self._end(replace(self._joined, cause=event.cause))

    def leg_failed(self, event: LegFailed) -> Decision:
        """End the call."""
        return self._end(outcome_of(SipError(event.detail)))

    def stop_asked(self, event: StopAsked) -> Decision:
        """End the call."""
        return self._end(Outcome(EndReason.SHUTDOWN, event.detail))

    def order_failed(self, event: OrderFailed) -> Decision:
        """End the call."""
        return self._end(Outcome(EndReason.INTERNAL_ERROR, event.detail, 500))

    def leg_closed(self, event: LegClosed) -> Decision:
        """End the call, or finish the one that ends."""
        self._leg_open = False
        if self._outcome is not None:  # asked for: the first cause of the end stands
            return self._finish(self._outcome)
        if event.by_caller and self._joined is not None:
            return self._end(self._joined)
        # RFC 3261 section 9.2: a cancelled INVITE is answered with 487.
        cancelled = event.code == 487 and not self._line.up and not self._routed.outbound
        if not event.by_caller:
            return self._end(outcome_of_own_end(event.code, event.reason))
        reason = EndReason.CALLER_CANCELLED if cancelled else EndReason.CALLER_HUNG_UP
        return self._end(Outcome(reason, f"{event.code} {event.reason}".rstrip(), event.code))

    def not_answered(self, event: LegClosed) -> Decision:
        """Take the end of a call that we placed: only its code tells why nobody is there."""
        if event.code < 300:  # answered, and gone before the media was up
            return self.leg_closed(event)
        self._leg_open = False
        if event.by_caller:
            return self._end(outcome_of_no_answer(event.code, event.reason, event.cause, event.contacts))
        ours = outcome_of_own_end(event.code, event.reason)
        unusable = ours.reason is EndReason.NO_COMMON_MEDIA
        return self._end(ours if unusable else outcome_of_no_answer(event.code, event.reason))

    # Time

    def timer_fired(self, event: TimerFired) -> Decision:
        """Take the end of a timer."""
        if event.name not in self.timers:  # ran out just before it was cancelled
            return self.phase, ()
        del self.timers[event.name]
        if self._outcome is not None:
            return self._finish(self._outcome)
        if self.phase is Phase.ATTENDING and event.name not in _OF_THE_CALL:
            return self._attend(self._attendant.timer_fired(event))
        overdue = self._OVERDUE.get(event.name)
        return self._go_on(self._talk.timer_fired(event) if overdue is None else overdue(self))

    def _set_up_overdue(self) -> Reply:
        missing = "media" if self.phase is Phase.ANSWERING else "agent"
        detail = f"no {missing} within {self._limits.setup_limit_s:g} s"
        return Outcome(EndReason.SETUP_TIMEOUT, detail, self._limits.refusal_code)

    def _rung_enough(self) -> Reply:
        """Answer, if the agent waits for it."""
        if self.phase is not Phase.ANSWERING:
            return ()
        return (*self._line.answer(), StartTimer(SETUP, self._limits.setup_limit_s))

    def _answer_overdue(self) -> Reply:
        return Outcome(EndReason.NO_ANSWER, f"no answer within {self._routed.ring_limit_s:g} s", 487)

    def _held_too_long(self) -> Reply:
        return Outcome(EndReason.HELD_TOO_LONG, f"on hold for {self._limits.hold_limit_s:g} s")

    def _too_long(self) -> Reply:
        if self.phase is not Phase.ACTIVE:
            return self._too_long_at_once()
        return self._talk.leave(self._too_long_at_once(), "the call has reached its longest permitted length")

    def _too_long_at_once(self) -> Outcome:
        return Outcome(EndReason.MAX_LENGTH, f"longer than {self._limits.max_length_s:g} s")

    _OVERDUE: ClassVar[Mapping[str, Callable[[Decisions], Reply]]] = {
        SETUP: _set_up_overdue,
        PATIENCE: _rung_enough,
        RINGING: _answer_overdue,
        MAX_LENGTH: _too_long,
        HOLD: _held_too_long,
    }

    # The end

    def _end(self, outcome: Outcome, before: tuple[CallAction, ...] = ()) -> Decision:
        """Close what was opened: the one door that every ending passes, whoever caused it."""
        self._outcome = outcome
        actions: list[CallAction] = [*before]
        if self._agent_open:
            self._agent_open = False
            actions.append(CloseAgent())
        actions += map(CancelTimer, running_after(before, self.timers))
        if self.phase is Phase.ACTIVE:
            actions.append(FlushPlayout())  # what was not heard by now never will be
        actions += (*self._talk.close(), *self._attendant.close(), *self._second.drop())
        if not self._leg_open:
            return Phase.ENDED, (*actions, Finish(outcome))
        code = outcome.code(answered=self._line.answered)
        actions += [HangUp(code, outcome.words, outcome.contacts, outcome.cause), StartTimer(ENDING, ENDING_LIMIT_S)]
        return Phase.ENDING, tuple(actions)

    def _finish(self, outcome: Outcome) -> Decision:
        """Let go of a call that passed ``_end`` and waited for its leg."""
        return Phase.ENDED, (*map(CancelTimer, self.timers), Finish(outcome))
