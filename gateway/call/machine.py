"""
The state machine of one call: facts in, orders out, nothing performed.

``RULES`` at the end of this file says what may happen when; ``docs/call-states.md`` is printed from it. What a call
does while its phase stays ``ACTIVE`` is in ``talk.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, StrEnum
from typing import Any, ClassVar, Final

from gateway.call.actions import (
    Answer,
    CallAction,
    CancelTimer,
    CloseAgent,
    Dial,
    Finish,
    FlushPlayout,
    HangUp,
    JoinLegs,
    OpenAgent,
    Ring,
    StartTimer,
)
from gateway.call.events import (
    OF_THE_AGENT,
    OF_THE_LEG,
    AgentAway,
    AgentBack,
    AgentClosed,
    AgentExpiring,
    AgentFailed,
    AgentReady,
    AgentSpoke,
    CallerSpoke,
    CallEvent,
    DigitPressed,
    LegClosed,
    LegFailed,
    LegHeld,
    LegResumed,
    LegRinging,
    MediaLost,
    MediaUp,
    Noted,
    OrderFailed,
    Routed,
    SecondClosed,
    SpeechStarted,
    SpeechStopped,
    StopAsked,
    TimerFired,
)
from gateway.call.handover import Join
from gateway.call.outcome import EndReason, Outcome, outcome_of, outcome_of_no_answer
from gateway.call.speech import HOLD
from gateway.call.talk import Reply, Talk
from gateway.errors import IllegalEvent, SipError
from gateway.ids import CallId

SETUP = "setup"
"""Timer: from the route until audio flows; of a call that we place, until the agent is ready."""

RINGING = "ringing"
"""Timer: how long a call that we place may ring."""

MAX_LENGTH = "max_length"
"""Timer: the longest answered call."""

ENDING = "ending"
"""Timer: how long the SIP side may take to say that its dialog is over."""

ENDING_LIMIT_S = 5.0


class Phase(StrEnum):
    """Where a call stands; the value is the ``state`` of the call's record."""

    ROUTING = "routing"
    RINGING = "ringing"
    ANSWERING = "answering"
    PREPARING = "preparing"
    DIALING = "dialing"
    ACTIVE = "active"
    JOINED = "joined"
    ENDING = "ending"
    ENDED = "ended"


Step = tuple[Phase, tuple[CallAction, ...]]
"""What a rule answers with: the phase the call is in from now on, and the orders in their order."""


class CallMachine:
    """
    Decides what one call does.

    Holds all control state of the call. Synchronous, without clock and I/O: time arrives as ``TimerFired``.
    """

    _phase = Phase.ROUTING

    def __init__(self) -> None:
        self._limits = Routed(CallId(""), setup_limit_s=0, max_length_s=0)
        self._talk = Talk(self._limits)
        self._agent_open = False
        self._leg_open = True
        self._timers: dict[str, None] = {}  # those that run, in order of their start
        self._outcome: Outcome | None = None

    @property
    def phase(self) -> Phase:
        """Where the call stands now."""
        return self._phase

    def handle(self, event: CallEvent) -> tuple[CallAction, ...]:
        """
        Take one fact and return the orders that follow from it, to be carried out in this order.

        Raises:
            IllegalEvent: the event cannot happen in this phase. The call stands as it stood.
        """
        rule = RULES[self._phase].get(type(event))
        if rule is None:
            raise IllegalEvent(self._phase, type(event).__name__)
        if isinstance(rule, Ignored):
            return ()
        self._phase, actions = rule(self, event)
        for action in actions:
            if isinstance(action, StartTimer):
                self._timers[action.name] = None
            elif isinstance(action, CancelTimer):
                del self._timers[action.name]
        return actions

    def _routed(self, event: Routed) -> Step:
        self._limits = event
        self._talk = Talk(event)
        self._agent_open = True
        opened = (OpenAgent(), StartTimer(SETUP, event.setup_limit_s))
        return (Phase.PREPARING, opened) if event.outbound else (Phase.RINGING, (Ring(), *opened))

    def _answer(self, _event: AgentReady) -> Step:
        return Phase.ANSWERING, (Answer(),)

    def _dial(self, _event: AgentReady) -> Step:
        return Phase.DIALING, (CancelTimer(SETUP), Dial(), StartTimer(RINGING, self._limits.ring_limit_s))

    def _media_up(self, _event: MediaUp) -> Step:
        waited = RINGING if self._phase is Phase.DIALING else SETUP
        limit = StartTimer(MAX_LENGTH, self._limits.max_length_s)
        return Phase.ACTIVE, (CancelTimer(waited), *self._talk.begin(), limit)

    def _before(self, event: CallEvent) -> Step:
        self._talk.before(event)
        return self._phase, ()

    def _talked(self, event: CallEvent) -> Step:
        return self._go_on(self._talk.handle(event))

    def _go_on(self, reply: Reply) -> Step:
        """Stay in this phase, unless the talk has come to its end."""
        match reply:
            case Outcome():
                return self._end(reply)
            case Join():
                return self._join(reply)
            case _:
                return self._phase, reply

    def _join(self, join: Join) -> Step:
        """Let the caller talk with the second leg; the limits of the whole call still hold."""
        stopped = {order.name for order in join.orders if isinstance(order, CancelTimer)}
        others = self._timers.keys() - stopped - {MAX_LENGTH, HOLD}
        # A call that got too long while it was being joined has the same time once more.
        limit = () if MAX_LENGTH in self._timers else (StartTimer(MAX_LENGTH, self._limits.max_length_s),)
        cancelled = map(CancelTimer, sorted(others))
        self._agent_open = False
        return Phase.JOINED, (*join.orders, *cancelled, *limit, JoinLegs(), CloseAgent())

    def _agent_failed(self, event: AgentFailed) -> Step:
        return self._go_on(self._talk.lose_agent(outcome_of(event.error, sip_code=self._limits.refusal_code)))

    def _agent_closed(self, event: AgentClosed) -> Step:
        detail = f"{event.close_code} {event.reason}".rstrip()
        return self._go_on(self._talk.lose_agent(Outcome(EndReason.AGENT_CLOSED, detail, self._limits.refusal_code)))

    def _media_lost(self, event: MediaLost) -> Step:
        return self._go_on(self._talk.lose_media(Outcome(EndReason.NO_RTP, f"no RTP for {event.silent_s:g} s")))

    def _leg_failed(self, event: LegFailed) -> Step:
        return self._end(outcome_of(SipError(event.detail)))

    def _stop_asked(self, event: StopAsked) -> Step:
        return self._end(Outcome(EndReason.SHUTDOWN, event.detail))

    def _order_failed(self, event: OrderFailed) -> Step:
        return self._end(Outcome(EndReason.INTERNAL_ERROR, event.detail, 500))

    def _leg_closed(self, event: LegClosed) -> Step:
        self._leg_open = False
        if self._outcome is not None:  # asked for: the first cause of the end stands
            return self._finish(self._outcome)
        if event.by_caller and (joined := self._talk.caller_left()) is not None:
            return self._end(joined)
        # RFC 3261 section 9.2: a cancelled INVITE is answered with 487.
        cancelled = event.code == 487 and self._phase in (Phase.ROUTING, Phase.RINGING, Phase.ANSWERING)
        reason = EndReason.CALLER_CANCELLED if cancelled else EndReason.CALLER_HUNG_UP
        if not event.by_caller:
            reason = EndReason.SIP_ERROR
        return self._end(Outcome(reason, f"{event.code} {event.reason}".rstrip(), event.code))

    def _not_answered(self, event: LegClosed) -> Step:
        """Take the end of a call that we placed: only its code tells why nobody is there."""
        if event.code < 300:  # answered, and gone before the media was up
            return self._leg_closed(event)
        self._leg_open = False
        return self._end(outcome_of_no_answer(event.code, event.reason))

    def _timer_fired(self, event: TimerFired) -> Step:
        if event.name not in self._timers:  # ran out just before it was cancelled
            return self._phase, ()
        del self._timers[event.name]
        if self._outcome is not None:
            return self._finish(self._outcome)
        overdue = self._OVERDUE.get(event.name)
        return self._go_on(self._talk.timer_fired(event) if overdue is None else overdue(self))

    def _set_up_overdue(self) -> Reply:
        missing = "media" if self._phase is Phase.ANSWERING else "agent"
        detail = f"no {missing} within {self._limits.setup_limit_s:g} s"
        return Outcome(EndReason.SETUP_TIMEOUT, detail, self._limits.refusal_code)

    def _answer_overdue(self) -> Reply:
        return Outcome(EndReason.NO_ANSWER, f"no answer within {self._limits.ring_limit_s:g} s", 487)

    def _too_long(self) -> Reply:
        outcome = Outcome(EndReason.MAX_LENGTH, f"longer than {self._limits.max_length_s:g} s")
        if self._phase is Phase.JOINED:
            return outcome
        return self._talk.leave(outcome, "the call has reached its longest permitted length")

    _OVERDUE: ClassVar[Mapping[str, Callable[[CallMachine], Reply]]] = {
        SETUP: _set_up_overdue,
        RINGING: _answer_overdue,
        MAX_LENGTH: _too_long,
    }

    def _end(self, outcome: Outcome) -> Step:
        """Close what was opened: the one door that every ending passes, whoever caused it."""
        self._outcome = outcome
        actions: list[CallAction] = []
        if self._agent_open:
            self._agent_open = False
            actions.append(CloseAgent())
        actions += map(CancelTimer, self._timers)
        if self._phase is Phase.ACTIVE:
            actions.append(FlushPlayout())  # what was not heard by now never will be
        actions += self._talk.close()
        if not self._leg_open:
            return Phase.ENDED, (*actions, Finish(outcome))
        words = outcome.reason.replace("_", " ").capitalize()
        actions += [HangUp(outcome.sip_code, words), StartTimer(ENDING, ENDING_LIMIT_S)]
        return Phase.ENDING, tuple(actions)

    def _finish(self, outcome: Outcome) -> Step:
        """Let go of a call that passed ``_end`` and waited for its leg."""
        return Phase.ENDED, (*map(CancelTimer, self._timers), Finish(outcome))


class Ignored(Enum):
    """The answer of the table for an event that may come and changes nothing."""

    IGNORED = "ignored"


IGNORED: Final = Ignored.IGNORED

Rule = Callable[[CallMachine, Any], Step] | Ignored

_FAULTS: Mapping[type[CallEvent], Rule] = {
    LegClosed: CallMachine._leg_closed,
    LegFailed: CallMachine._leg_failed,
    StopAsked: CallMachine._stop_asked,
    OrderFailed: CallMachine._order_failed,
}

_FAULTS_WITH_AGENT: Mapping[type[CallEvent], Rule] = {
    **_FAULTS,
    AgentFailed: CallMachine._agent_failed,
    AgentClosed: CallMachine._agent_closed,
    TimerFired: CallMachine._timer_fired,
}

_FOR_THE_RECORD: Mapping[type[CallEvent], Rule] = dict.fromkeys((CallerSpoke, AgentSpoke, Noted), IGNORED)

# Of a leg whose call is not up yet: a hold takes effect when it is, keys mean nothing to anybody.
_EARLY: Mapping[type[CallEvent], Rule] = {
    LegHeld: CallMachine._before,
    LegResumed: CallMachine._before,
    DigitPressed: IGNORED,
}

# Of an agent that is ready before the call is up. Whoever is heard upstream then, nothing is being played yet.
_EARLY_WITH_AGENT: Mapping[type[CallEvent], Rule] = {
    **_EARLY,
    **_FOR_THE_RECORD,
    AgentAway: CallMachine._talked,
    AgentBack: CallMachine._talked,
    AgentExpiring: CallMachine._before,
    SpeechStarted: IGNORED,
    SpeechStopped: IGNORED,
}

# Whatever was on its way when the end was decided.
_LATE: Mapping[type[CallEvent], Rule] = dict.fromkeys(
    (*OF_THE_AGENT, *OF_THE_LEG, Routed, TimerFired, StopAsked, OrderFailed, Noted), IGNORED
)

RULES: Mapping[Phase, Mapping[type[CallEvent], Rule]] = {
    Phase.ROUTING: {**_FAULTS, Routed: CallMachine._routed},
    Phase.RINGING: {**_FAULTS_WITH_AGENT, **_EARLY, AgentReady: CallMachine._answer, Noted: IGNORED},
    Phase.ANSWERING: {**_FAULTS_WITH_AGENT, **_EARLY_WITH_AGENT, MediaUp: CallMachine._media_up},
    Phase.PREPARING: {**_FAULTS_WITH_AGENT, AgentReady: CallMachine._dial, Noted: IGNORED},
    Phase.DIALING: {
        **_FAULTS_WITH_AGENT,
        **_EARLY_WITH_AGENT,
        LegRinging: IGNORED,
        LegClosed: CallMachine._not_answered,
        MediaUp: CallMachine._media_up,
    },
    Phase.ACTIVE: {
        **_FAULTS_WITH_AGENT,
        **_FOR_THE_RECORD,
        **dict.fromkeys(Talk.RULES, CallMachine._talked),
        MediaLost: CallMachine._media_lost,
        MediaUp: IGNORED,  # a re-INVITE brings the media up anew
        LegRinging: IGNORED,  # another branch of a call that was answered
    },
    Phase.JOINED: {
        # What is late of the agent says nothing new, and the keys they press are for each other.
        **dict.fromkeys((*OF_THE_AGENT, *OF_THE_LEG, Noted), IGNORED),
        **_FAULTS,
        **dict.fromkeys((LegHeld, LegResumed, SecondClosed), CallMachine._talked),
        TimerFired: CallMachine._timer_fired,
        MediaLost: CallMachine._media_lost,
    },
    Phase.ENDING: {**_LATE, LegClosed: CallMachine._leg_closed, TimerFired: CallMachine._timer_fired},
    Phase.ENDED: _LATE,
}
"""Phase -> event -> rule. What is absent cannot happen and raises ``IllegalEvent``."""
