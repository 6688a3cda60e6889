"""
The state machine of one call: events in, orders out, nothing performed.

Theory of operation. ``CallMachine.handle`` takes one event (``call/events.py``: what happened) and returns the orders
that follow from it (``call/actions.py``: what to do), in the order in which they are to be carried out. It is
synchronous, knows no clock and does no I/O. Its only caller is ``call/session/session.py``, on the loop, with one
event after the other. What comes of an order returns as a later event; time returns as ``TimerFired``, asked for with
``StartTimer``.

All that the machine remembers is one ``CallState`` (``state.py``). Where the call is, is its *phase*; what it waits
for inside the phases ``attending`` and ``active`` is its *stage* (``phase.py``). Rules are functions of the state and
an event; they change the state and return orders. A fact is kept once and everything else is derived from it: the
agent's speech is held because the guard's timer runs, the agent is deaf because the caller has us on hold.

``RULES``, below, is the one table: the rule for each event in each phase. Three answers exist: a rule; *ignored*: the
event may come there and changes nothing; absent: it cannot come there, ``IllegalEvent`` is raised and the call stays
as it was. A timer that is running has a key of its own, its name. ``TimerFired`` itself is the key of a timer that ran
out just before it was cancelled, and ignored.

A call goes like this. A caller rings (``routing``), and the dialplan's steps are taken (``attending``): sounds, menus,
second legs. A step for an agent asks for it (``ChooseAgent``), ``Routed`` opens it, and the caller is answered only
when the agent is ready (``ringing``, ``answering``), so that no caller pays for dead air; a caller whom an earlier
step answered waits for it (``waiting``). A call that we place opens its agent first, too (``preparing``, ``dialing``).
With agent and media there, the conversation begins (``active``). It ends with the call, with the dialplan's next step
(a key, or the ``otherwise`` of an agent that was lost: back to ``attending``), or with the caller joined to a second
leg (``joined``). Every ending passes one door, ``ending.end``: it closes the agent, stops timers, sounds and the
second leg, and hangs up. Then the call waits for its SIP side (``ending``); ``Finish`` is its last order (``ended``).
The first cause of an ending is the one recorded.

The rules by subject; each module imports only those above it:

    playback      what the caller hears of us: pauses, flushes, the filler
    legs          what the caller's side was told, hold, the second leg
    tool_calls    the agent's tools, and the silences that the filler bridges
    recording     the recording, with the announcement before it
    ending        last words, the join with a second leg, the one door out
    barge_in      interruptions: who is heard by whom
    ivr           the dialplan's steps, and what follows an agent that was lost
    transfer      by REFER or over a second leg, blind or warm
    take_over     a person speaks in the agent's place
    dtmf          the caller's keys beside an agent
    conversation  from the agent's choice to its end
    control       what an operator orders
    rules         media, hold, ends and limits, in any phase

``docs/call-states.md`` shows it all, drawn from this table and from random calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final, TypeVar

from gateway.call import builtin_tools as tool
from gateway.call import commands as given
from gateway.call import events as ev
from gateway.call.machine import (
    barge_in,
    control,
    conversation,
    dtmf,
    ending,
    ivr,
    recording,
    rules,
    tool_calls,
    transfer,
)
from gateway.call.machine import phase as timer
from gateway.call.machine.phase import CallStage, Phase
from gateway.call.machine.state import CallState, Orders
from gateway.errors import IllegalEvent


class CallMachine:
    """
    Decides what one call does.

    Attributes:
        state: all that it remembers; for looking at only.
    """

    def __init__(self) -> None:
        self.state = CallState()

    @property
    def phase(self) -> Phase:
        """Where the call is now."""
        return self.state.phase

    @property
    def stage(self) -> CallStage:
        """What the call waits for inside its phase."""
        inside = self.phase in (Phase.ROUTING, Phase.ATTENDING, Phase.ACTIVE)
        return self.state.stage if inside else CallStage.NONE

    def handle(self, event: ev.CallEvent) -> Orders:
        """
        Take one event and return the orders that follow from it, to be carried out in this order.

        Raises:
            IllegalEvent: the event cannot happen in this phase. The call stays as it was.
        """
        call = self.state
        key = _key(call, event)
        rule = RULES.get((call.phase, key))
        if rule is None:
            raise IllegalEvent(call.phase, type(event).__name__)
        if isinstance(key, str):
            del call.timers[key]
        return () if isinstance(rule, _Ignored) else rule(call, event)


class _Ignored(Enum):
    """The answer of the table for an event that may come and changes nothing."""

    IGNORED = "ignored"


IGNORED: Final = _Ignored.IGNORED

Event = TypeVar("Event", bound=ev.CallEvent)
Key = tuple[Phase, type[ev.CallEvent] | str]
"""A phase, and the class of an event or the name of a timer that runs."""

_Row = Iterable[tuple[Key, Callable[[CallState, Any], Orders]]]


def _key(call: CallState, event: ev.CallEvent) -> type[ev.CallEvent] | str:
    return event.name if isinstance(event, ev.TimerFired) and event.name in call.timers else type(event)


def _on(kind: type[Event], rule: Callable[[CallState, Event], Orders], *phases: Phase) -> _Row:
    """Return the row of an event; its type and the rule's have to agree."""
    return [((phase, kind), rule) for phase in phases]


def _fired(name: str, rule: Callable[[CallState, ev.TimerFired], Orders], *phases: Phase) -> _Row:
    """Return the row of a timer that runs."""
    return [((phase, name), rule) for phase in phases]


def _ignored(phases: Iterable[Phase], *kinds: type[ev.CallEvent] | str) -> Iterable[Key]:
    """Return what may come in these phases and, where there is no rule for it, changes nothing."""
    return [(phase, kind) for phase in phases for kind in kinds]


def _table(
    ignored: Iterable[Iterable[Key]], rows: Iterable[_Row]
) -> Mapping[Key, Callable[[CallState, Any], Orders] | _Ignored]:
    return {**{key: IGNORED for keys in ignored for key in keys}, **{key: rule for row in rows for key, rule in row}}


_OPEN = tuple(phase for phase in Phase if phase not in (Phase.ENDING, Phase.ENDED))
_OPENING = (Phase.RINGING, Phase.PREPARING, Phase.WAITING)
"""The agent's session is being opened."""
_READY = (Phase.ANSWERING, Phase.DIALING)
"""The agent is ready, the call is not up."""
_WITH_AGENT = (*_OPENING, *_READY, Phase.ACTIVE)
_WITHOUT = (Phase.ATTENDING, Phase.JOINED, Phase.ENDING, Phase.ENDED)
"""No agent is there, or none that matters: what is late of one says nothing new."""
_AFTER_STEPS = (Phase.RINGING, Phase.ANSWERING, Phase.WAITING)
"""Steps without an agent may have come before: what is left of them says nothing new."""
_UP = (Phase.ATTENDING, Phase.WAITING, Phase.ACTIVE, Phase.JOINED)
"""The call may be answered, with its media up."""

RULES = _table(
    ignored=(
        _ignored(_WITHOUT, *ev.OF_THE_AGENT, *tool.EVENTS, *ev.OF_THE_LEG, ev.Noted),
        _ignored((Phase.ENDING, Phase.ENDED), ev.Planned, ev.Routed, ev.ChoiceFailed, ev.StopAsked, ev.OrderFailed),
        _ignored(Phase, ev.BudgetLow, ev.BudgetUsedUp),
        _ignored(_WITH_AGENT, ev.Noted),
        _ignored((*_READY, Phase.ACTIVE), ev.CallerSpoke, ev.AgentSpoke),
        # Whatever is heard upstream before the call is up, nothing is being played that it could interrupt.
        _ignored(_READY, ev.SpeechStarted, ev.SpeechStopped, ev.AnswerLate, ev.AnswerCame, ev.ApologyAsked),
        # Keys mean nothing before the call is up.
        _ignored((*_AFTER_STEPS, Phase.DIALING), ev.DigitPressed),
        _ignored(_AFTER_STEPS, ev.SecondRinging, ev.SecondUp, ev.SecondDigit, ev.TransferEnded),
        _ignored((Phase.WAITING, Phase.DIALING), ev.LegRinging),
        # A re-INVITE brings the media up anew, and another branch of a call that was answered may ring.
        _ignored((Phase.ACTIVE,), ev.MediaUp, ev.EarlyMediaUp, ev.LegRinging, ev.SecondRinging),
        # A timer that ran out just before it was cancelled; no timer runs while the call is being routed.
        _ignored(set(Phase) - {Phase.ROUTING}, ev.TimerFired),
        _ignored((Phase.RINGING,), timer.PATIENCE),
    ),
    rows=(
        # The dialplan's steps
        _on(ev.Planned, ivr.planned, Phase.ROUTING),
        _on(ev.ChoiceFailed, ivr.choice_failed, Phase.ROUTING, Phase.ATTENDING),
        _on(ev.PlayedOut, ivr.played_out, Phase.ATTENDING),
        _on(ev.DigitPressed, ivr.digit_pressed, Phase.ATTENDING),
        _on(ev.SecondUp, ivr.second_up, Phase.ATTENDING),
        _on(ev.SecondClosed, ivr.second_closed, Phase.ATTENDING),
        _on(ev.TransferEnded, ivr.transfer_ended, Phase.ATTENDING),
        _fired(timer.SETUP, ivr.set_up_overdue, Phase.ATTENDING),
        _fired(timer.MENU, ivr.menu_fired, Phase.ATTENDING),
        _fired(timer.SECOND, ivr.second_overdue, Phase.ATTENDING),
        _fired(timer.TRANSFER, ivr.transfer_overdue, Phase.ATTENDING),
        # To a conversation with an agent
        _on(ev.Routed, conversation.routed, Phase.ROUTING, Phase.ATTENDING),
        _on(ev.AgentReady, conversation.answer, Phase.RINGING),
        _on(ev.AgentReady, conversation.dial, Phase.PREPARING),
        _on(ev.AgentReady, conversation.join_in, Phase.WAITING),
        _on(ev.AgentExpiring, conversation.expires_early, *_READY),
        _on(ev.MediaUp, conversation.media_up, *_READY),
        _fired(timer.SETUP, conversation.agent_overdue, *_OPENING),
        _fired(timer.SETUP, conversation.media_overdue, Phase.ANSWERING),
        _fired(timer.PATIENCE, conversation.rung_enough, Phase.ANSWERING),
        _fired(timer.RINGING, conversation.answer_overdue, Phase.DIALING),
        # The agent, wherever there is one
        _on(ev.AgentFailed, conversation.agent_failed, *_WITH_AGENT),
        _on(ev.AgentClosed, conversation.agent_closed, *_WITH_AGENT),
        _on(ev.AgentAway, conversation.agent_away, *_READY, Phase.ACTIVE),
        _on(ev.AgentBack, conversation.agent_back, *_READY, Phase.ACTIVE),
        # The conversation: interruptions
        _on(ev.SpeechStarted, barge_in.speech_started, Phase.ACTIVE),
        _on(ev.SpeechStopped, barge_in.speech_stopped, Phase.ACTIVE),
        _fired(timer.GUARD, barge_in.guard_fired, Phase.ACTIVE),
        # keys
        _on(ev.DigitPressed, dtmf.digit_pressed, Phase.ACTIVE),
        _fired(timer.KEYS, dtmf.keys_fired, Phase.ACTIVE),
        # tools and silences
        _on(ev.ToolAsked, tool_calls.tool_asked, Phase.ACTIVE),
        _on(ev.ToolFinished, tool_calls.tool_finished, Phase.ACTIVE),
        _on(ev.McpCallBegan, tool_calls.mcp_call_began, Phase.ACTIVE),
        _on(ev.McpCallEnded, tool_calls.mcp_call_ended, Phase.ACTIVE),
        _on(tool.DigitsAsked, tool_calls.digits_asked, Phase.ACTIVE),
        _on(tool.WaitAsked, tool_calls.wait_asked, Phase.ACTIVE),
        _on(ev.AnswerLate, tool_calls.answer_late, Phase.ACTIVE),
        _on(ev.AnswerCame, tool_calls.answer_came, Phase.ACTIVE),
        _on(ev.ApologyAsked, tool_calls.apology_asked, Phase.ACTIVE),
        _fired(timer.FILLER, tool_calls.filler_fired, Phase.ACTIVE),
        # the recording
        _on(tool.RecordingAsked, recording.recording_asked, Phase.ACTIVE),
        _on(ev.AnnouncementSaid, recording.announcement_said, Phase.ACTIVE),
        _on(ev.AnnouncementFailed, recording.announcement_failed, Phase.ACTIVE),
        _on(ev.RecordingFailed, recording.recording_failed, Phase.ATTENDING, Phase.WAITING, Phase.ACTIVE),
        # its end, and transfers
        _on(tool.HangUpAsked, conversation.hang_up_asked, Phase.ACTIVE),
        _on(tool.LeaveMessageAsked, conversation.leave_message_asked, Phase.ACTIVE),
        _on(tool.TransferAsked, conversation.transfer_asked, Phase.ACTIVE),
        _on(ev.AgentExpiring, conversation.agent_expiring, Phase.ACTIVE),
        _on(ev.PlayedOut, conversation.played_out, Phase.ACTIVE),
        _fired(timer.GOODBYE, conversation.goodbye_fired, Phase.ACTIVE),
        _on(ev.TransferEnded, transfer.refer_ended, Phase.ACTIVE),
        _on(ev.SecondUp, conversation.second_up, Phase.ACTIVE),
        _on(ev.SecondDigit, transfer.second_digit, Phase.ACTIVE),
        _on(ev.SecondClosed, conversation.second_closed, Phase.ACTIVE),
        _fired(timer.TRANSFER, transfer.refer_overdue, Phase.ACTIVE),
        _fired(timer.SECOND, conversation.second_overdue, Phase.ACTIVE),
        _fired(timer.BRIEFING, transfer.briefing_overdue, Phase.ACTIVE),
        # Commands of an operator
        _on(given.HangUpCommanded, control.hang_up, *_OPEN),
        _on(given.TransferCommanded, control.transfer, *_OPEN),
        _on(given.DigitsCommanded, control.send_digits, *_OPEN),
        _on(given.SayCommanded, control.say, *_OPEN),
        _on(given.WhisperCommanded, control.whisper, *_OPEN),
        _on(given.TakeOverCommanded, control.take_over_call, *_OPEN),
        _on(given.GiveBackCommanded, control.give_back, *_OPEN),
        _on(given.TraceCommanded, control.trace, *_OPEN),
        *(_on(kind, control.too_late, Phase.ENDING, Phase.ENDED) for kind in given.EVENTS),
        # Media and hold
        _on(ev.MediaUp, rules.media_up, Phase.ATTENDING, Phase.WAITING),
        _on(ev.EarlyMediaUp, rules.early_media_up, Phase.ATTENDING, *_AFTER_STEPS),
        _on(ev.MediaLost, rules.media_lost, *_UP),
        _on(ev.LegHeld, rules.held, *_AFTER_STEPS, Phase.DIALING, Phase.JOINED),
        _on(ev.LegHeld, rules.held_in_ivr, Phase.ATTENDING),
        _on(ev.LegHeld, rules.held_in_conversation, Phase.ACTIVE),
        _on(ev.LegResumed, rules.resumed, *_AFTER_STEPS, Phase.DIALING, Phase.JOINED),
        _on(ev.LegResumed, rules.resumed_in_ivr, Phase.ATTENDING),
        _on(ev.LegResumed, rules.resumed_in_conversation, Phase.ACTIVE),
        # Ends
        _on(ev.SecondClosed, rules.second_gone, *_AFTER_STEPS),
        _on(ev.SecondClosed, rules.partner_gone, Phase.JOINED),
        _on(ev.BudgetLow, rules.budget_low, Phase.ACTIVE),
        _on(ev.BudgetUsedUp, rules.budget_used_up, *_OPEN),
        _on(ev.LegFailed, rules.leg_failed, *_OPEN),
        _on(ev.StopAsked, rules.stop_asked, *_OPEN),
        _on(ev.OrderFailed, rules.order_failed, *_OPEN),
        _on(ev.LegClosed, rules.leg_closed, *(set(_OPEN) - {Phase.DIALING})),
        _on(ev.LegClosed, rules.not_answered, Phase.DIALING),
        _fired(timer.HOLD, rules.held_too_long, *_UP),
        _fired(timer.MAX_LENGTH, rules.lasted_too_long, Phase.ATTENDING, Phase.WAITING, Phase.JOINED),
        _fired(timer.MAX_LENGTH, rules.talked_too_long, Phase.ACTIVE),
        _on(ev.LegClosed, ending.finish, Phase.ENDING),
        _fired(timer.ENDING, ending.finish, Phase.ENDING),
    ),
)
"""(Phase, event) -> rule. What is absent cannot happen and raises ``IllegalEvent``."""
