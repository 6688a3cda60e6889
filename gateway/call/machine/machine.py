"""
The state machine of one call: facts in, orders out, nothing performed.

``RULES`` says what may happen when; ``docs/call-states.md`` is printed from it. What follows is in ``decisions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from gateway.call.actions import CallAction
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
    AnswerCame,
    AnswerLate,
    ApologyAsked,
    CallerSpoke,
    CallEvent,
    ChoiceFailed,
    DigitPressed,
    EarlyMediaUp,
    LegClosed,
    LegFailed,
    LegHeld,
    LegResumed,
    LegRinging,
    MediaLost,
    MediaUp,
    Noted,
    OrderFailed,
    Planned,
    RecordingFailed,
    Routed,
    SecondClosed,
    SecondDigit,
    SecondRinging,
    SecondUp,
    SpeechStarted,
    SpeechStopped,
    StopAsked,
    TimerFired,
    TransferEnded,
)
from gateway.call.machine.conversation import Talk
from gateway.call.machine.ivr import Attendant
from gateway.call.machine.phase import Phase
from gateway.call.machine.rules import Decision, Decisions
from gateway.call.machine.timers import running_after
from gateway.errors import IllegalEvent


class CallMachine:
    """Decides what one call does; holds all its control state."""

    def __init__(self) -> None:
        self._decisions = Decisions()

    @property
    def phase(self) -> Phase:
        """Where the call stands now."""
        return self._decisions.phase

    def handle(self, event: CallEvent) -> tuple[CallAction, ...]:
        """
        Take one fact and return the orders that follow from it, to be carried out in this order.

        Raises:
            IllegalEvent: the event cannot happen in this phase. The call stands as it stood.
        """
        rule = RULES[self.phase].get(type(event))
        if rule is None:
            raise IllegalEvent(self.phase, type(event).__name__)
        if isinstance(rule, Ignored):
            return ()
        decisions = self._decisions
        decisions.phase, actions = rule(decisions, event)
        decisions.timers = running_after(actions, decisions.timers)
        return actions


class Ignored(Enum):
    """The answer of the table for an event that may come and changes nothing."""

    IGNORED = "ignored"


IGNORED: Final = Ignored.IGNORED

Rule = Callable[[Decisions, Any], Decision] | Ignored
_Rules = Mapping[type[CallEvent], Rule]

_FAULTS: _Rules = {
    LegClosed: Decisions.leg_closed,
    LegFailed: Decisions.leg_failed,
    StopAsked: Decisions.stop_asked,
    OrderFailed: Decisions.order_failed,
}

_FAULTS_WITH_AGENT: _Rules = {
    **_FAULTS,
    AgentFailed: Decisions.agent_failed,
    AgentClosed: Decisions.agent_closed,
    TimerFired: Decisions.timer_fired,
}

_HOLD: _Rules = {LegHeld: Decisions.held, LegResumed: Decisions.resumed}

_FOR_THE_RECORD: _Rules = dict.fromkeys((CallerSpoke, AgentSpoke, Noted), IGNORED)

# Of a leg whose call is not up yet: a hold takes effect when it is, keys mean nothing to anybody.
_EARLY: _Rules = {**_HOLD, DigitPressed: IGNORED}

# What is left of a step that was taken before the agent's.
_LEFT: _Rules = {
    **dict.fromkeys((SecondRinging, SecondUp, SecondDigit, TransferEnded), IGNORED),
    SecondClosed: Decisions.second_closed,
    EarlyMediaUp: Decisions.early_media_up,
}

# Of an agent that is ready before the call is up. Whoever is heard upstream then, nothing is being played yet.
_EARLY_WITH_AGENT: _Rules = {
    **_EARLY,
    **_FOR_THE_RECORD,
    **dict.fromkeys((AnswerLate, AnswerCame, ApologyAsked), IGNORED),
    AgentAway: Decisions.talked,
    AgentBack: Decisions.talked,
    AgentExpiring: Decisions.expires_early,
    SpeechStarted: IGNORED,
    SpeechStopped: IGNORED,
}

# Whatever was on its way when the end was decided.
_LATE: _Rules = dict.fromkeys(
    (*OF_THE_AGENT, *OF_THE_LEG, Planned, Routed, ChoiceFailed, TimerFired, StopAsked, OrderFailed, Noted), IGNORED
)

RULES: Mapping[Phase, _Rules] = {
    Phase.ROUTING: {
        **_FAULTS,
        Planned: Decisions.planned,
        Routed: Decisions.routed,
        ChoiceFailed: Decisions.choice_failed,
    },
    Phase.ATTENDING: {
        # What is late of an agent that was closed says nothing new.
        **dict.fromkeys((*OF_THE_AGENT, *OF_THE_LEG, Noted), IGNORED),
        **_FAULTS,
        **_HOLD,
        **dict.fromkeys(Attendant.RULES, Decisions.attended),
        TimerFired: Decisions.timer_fired,
        MediaUp: Decisions.media_up_early,
        EarlyMediaUp: Decisions.early_media_up,
        MediaLost: Decisions.media_lost,
        RecordingFailed: Decisions.recording_failed,
        Routed: Decisions.routed,
        ChoiceFailed: Decisions.choice_failed,
    },
    Phase.RINGING: {
        **_FAULTS_WITH_AGENT,
        **_EARLY,
        **_LEFT,
        AgentReady: Decisions.answer,
        Noted: IGNORED,
    },
    Phase.ANSWERING: {**_FAULTS_WITH_AGENT, **_EARLY_WITH_AGENT, **_LEFT, MediaUp: Decisions.media_up},
    Phase.PREPARING: {**_FAULTS_WITH_AGENT, AgentReady: Decisions.dial, Noted: IGNORED},
    Phase.DIALING: {
        **_FAULTS_WITH_AGENT,
        **_EARLY_WITH_AGENT,
        LegRinging: IGNORED,
        LegClosed: Decisions.not_answered,
        MediaUp: Decisions.media_up,
    },
    Phase.WAITING: {
        **dict.fromkeys(OF_THE_LEG, IGNORED),
        **_FAULTS_WITH_AGENT,
        **_HOLD,
        **_LEFT,
        AgentReady: Decisions.take_over,
        MediaUp: Decisions.media_up_early,
        MediaLost: Decisions.media_lost,
        RecordingFailed: Decisions.recording_failed,
        Noted: IGNORED,
    },
    Phase.ACTIVE: {
        **_FAULTS_WITH_AGENT,
        **_FOR_THE_RECORD,
        **dict.fromkeys(Talk.RULES, Decisions.talked),
        **_HOLD,
        RecordingFailed: Decisions.recording_failed,
        MediaLost: Decisions.media_lost,
        MediaUp: IGNORED,  # a re-INVITE brings the media up anew
        EarlyMediaUp: IGNORED,
        LegRinging: IGNORED,  # another branch of a call that was answered
    },
    Phase.JOINED: {
        # What is late of the agent says nothing new, and the keys they press are for each other.
        **dict.fromkeys((*OF_THE_AGENT, *OF_THE_LEG, Noted), IGNORED),
        **_FAULTS,
        **_HOLD,
        SecondClosed: Decisions.second_closed,
        TimerFired: Decisions.timer_fired,
        MediaLost: Decisions.media_lost,
    },
    Phase.ENDING: {**_LATE, LegClosed: Decisions.leg_closed, TimerFired: Decisions.timer_fired},
    Phase.ENDED: _LATE,
}
"""Phase -> event -> rule. What is absent cannot happen and raises ``IllegalEvent``."""
