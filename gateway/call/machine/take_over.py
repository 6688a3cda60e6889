"""
A take-over: an operator has a person called, who speaks with the caller in the agent's place.

Caller and agent talk on until that person answers; if they do not, the call stays as it was. Then caller and person are
joined, and the agent, whose session stays open, neither hears nor speaks. When the person hangs up, or the operator
gives the call back, the caller is with the agent again. An agent that is lost meanwhile is missed only then.
"""

from __future__ import annotations

from typing import Final

from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine import legs, recording
from gateway.call.machine.barge_in import end_turn, stop
from gateway.call.machine.ending import answer_command, leave
from gateway.call.machine.ivr import without_agent
from gateway.call.machine.phase import KEYS, MAX_LENGTH, SECOND, CallStage
from gateway.call.machine.playback import flush
from gateway.call.machine.state import CallState, Orders, cancel_timer, start_timer
from gateway.call.machine.tool_calls import settle_filler
from gateway.call.outcome import EndReason

AWAY: Final = "A person of the staff speaks with the caller now. You hear neither of them. Say nothing until then."
BACK: Final = (
    "You speak with the caller again. In between they spoke with a person of the staff, which you did not hear. "
    "Go on: ask briefly what else they need."
)


def begin(call: CallState, target: str, command_id: str) -> Orders:
    """Call the person; what becomes of it answers the command."""
    call.command, call.agent.taker, call.stage = command_id, target, CallStage.SUMMONING
    called = legs.call_second(call, do.CallSecond(target, diverted_from="nobody"))
    return (*called, *start_timer(call, SECOND, call.agent.routed.ring_limit_s))


def second_up(call: CallState, event: ev.SecondUp) -> Orders:
    """Let the person speak with the caller; the agent is cut off."""
    if not call.summoning:
        return ()
    hushed = (*cancel_timer(call, SECOND, KEYS), *stop(call, event.at))
    call.agent.keys.clear()
    call.stage = CallStage.TAKEN_OVER
    told = () if call.agent.lost is not None else (do.TellAgent(AWAY, respond=False),)
    return (
        *hushed,
        *end_turn(call),
        *settle_filler(call),
        *recording.interrupt(call),
        do.JoinLegs(),
        *told,
        *_time_once_more(call),
        do.Note("taken_over", {"target": call.agent.taker}),
        *answer_command(call, done=True),
    )


def second_closed(call: CallState, event: ev.SecondClosed) -> Orders:
    """Return to the agent, or stay with it: the person hung up, or cannot be reached."""
    if not legs.second_closed(call):
        return ()
    if call.summoning:
        return _stay(call, f"{event.code} {event.reason}".rstrip())
    return _return(call, "they hung up")


def second_overdue(call: CallState, _event: ev.TimerFired) -> Orders:
    """Give up a person who does not answer."""
    return _stay(call, f"no answer within {call.agent.routed.ring_limit_s:g} s")


def give_back(call: CallState, by: str) -> Orders:
    """Let the caller speak with the agent again; a person who was only called is called no longer."""
    cause = f"given back by {by}"
    return _stay(call, cause) if call.summoning else _return(call, cause)


def _stay(call: CallState, cause: str) -> Orders:
    """Leave the call as it was."""
    call.agent.taker, call.stage = "", CallStage.NONE
    stopped = (*cancel_timer(call, SECOND), *legs.drop_second(call), *answer_command(call, done=False, detail=cause))
    if call.agent.lost is not None:
        return (*stopped, *without_agent(call, call.agent.lost))
    return (*stopped, *_leave_if_due(call))


def _return(call: CallState, cause: str) -> Orders:
    """Connect the agent with the caller again."""
    call.agent.taker, call.stage = "", CallStage.NONE
    left = (*legs.drop_second(call), do.Note("given_back", {"detail": cause}))
    # What the agent may have said meanwhile is not for the caller.
    back = (*flush(call), do.TalkToCaller(), *end_turn(call), *settle_filler(call), *recording.resume(call))
    if call.agent.lost is not None:
        return (*left, *back, *without_agent(call, call.agent.lost))
    due = call.agent.overdue is not None
    return (*left, *back, do.TellAgent(BACK, respond=not due), *_leave_if_due(call))


def _leave_if_due(call: CallState) -> Orders:
    """End the call with a goodbye, if it had to end meanwhile."""
    overdue, call.agent.overdue = call.agent.overdue, None
    return () if overdue is None else leave(call, *overdue)


def _time_once_more(call: CallState) -> Orders:
    """Give a call that got too long while the person was called the same time once more, as ``ending.join`` does."""
    if MAX_LENGTH in call.timers:
        return ()
    if call.agent.overdue is not None and call.agent.overdue[0].reason is EndReason.MAX_LENGTH:
        call.agent.overdue = None
    return start_timer(call, MAX_LENGTH, call.limits.max_length_s)
