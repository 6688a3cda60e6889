"""
How a conversation and a call are left: last words, the join with a second leg, and the one door that every end passes.

Before the call ends, or the caller is transferred, the agent's last words are heard. A caller who speaks meanwhile is
heard, and the wait starts again when they stop.
"""

from __future__ import annotations

from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine import legs, recording
from gateway.call.machine.phase import ENDING, ENDING_LIMIT_S, GOODBYE, MAX_LENGTH, OF_THE_CALL, CallStage, Phase
from gateway.call.machine.playback import fall_silent, flush
from gateway.call.machine.state import CallState, Orders, cancel_timer, enter, start_timer
from gateway.call.outcome import EndReason, Outcome

OVER_BUDGET = "the time for this call is used up"
"""Why an agent says goodbye whose call is over its budget: money is nothing for the caller to hear of."""

# Last words


def leave(call: CallState, outcome: Outcome, detail: str) -> Orders:
    """
    End the call once the agent has said goodbye; ``detail`` tells it why.

    A hang-up, a transfer or a take-over under way goes first. A caller on hold would not hear a goodbye.
    """
    if call.leaving is not None or call.agent.transfer is not None or call.agent.taker:
        call.agent.overdue = call.agent.overdue or (outcome, detail)
        return ()
    return end(call, outcome) if call.leg.on_hold else say_goodbye(call, outcome, detail)


def say_goodbye(call: CallState, outcome: Outcome, detail: str) -> Orders:
    """Let the agent say goodbye, then end the call."""
    call.stage, call.outcome = CallStage.GOODBYE, outcome
    return (do.SayGoodbye(detail), *await_words(call, call.agent.routed.goodbye_limit_s))


def await_words(call: CallState, limit_s: float) -> Orders:
    """Wait until the last words were heard."""
    call.agent.spoken_over = call.agent.caller_speaks
    return (do.AwaitPlayedOut(), *start_timer(call, GOODBYE, limit_s))


def await_anew(call: CallState) -> Orders:
    """Start the wait for quiet again after a turn of the caller, which the agent may answer."""
    if not call.agent.spoken_over or call.agent.caller_speaks:
        return ()
    call.agent.spoken_over = False
    return (do.AwaitPlayedOut(),) if call.awaits_words else recording.await_quiet(call)


def parting(call: CallState) -> str | None:
    """Return why the call cannot be ended or transferred once more; None when it can."""
    if call.leaving is not None:
        return "Error: the call is ending already."
    if call.agent.taker:
        return "Error: a person of the staff takes this call over."
    return "Error: a transfer is under way already." if call.agent.transfer is not None else None


# Commands that wait for what becomes of them


def answer_command(call: CallState, *, done: bool, detail: str = "") -> Orders:
    """Answer the command for a transfer or a take-over, if one waits for that."""
    command_id, call.command = call.command, ""
    return (do.AnswerCommand(command_id, done, detail),) if command_id else ()


# Joined with the second leg


def join(call: CallState, outcome: Outcome) -> Orders:
    """
    Let the caller talk with the second leg, without an agent; the limits of the whole call still hold.

    Args:
        call: its second leg is up.
        outcome: how the call ends when either of them leaves.
    """
    call.outcome = outcome
    cancelled = cancel_timer(call, *sorted(call.timers.keys() - OF_THE_CALL))
    # A call that got too long while it was being joined has the same time once more.
    limit = () if MAX_LENGTH in call.timers else start_timer(call, MAX_LENGTH, call.limits.max_length_s)
    enter(call, Phase.JOINED)
    return (*cancelled, *limit, do.JoinLegs(), *close_agent(call), *answer_command(call, done=True))


def close_agent(call: CallState) -> Orders:
    """Close the agent, if it is open."""
    was_open, call.agent.open = call.agent.open, False
    return (do.CloseAgent(),) if was_open else ()


# The end


def end(call: CallState, outcome: Outcome, *, leg_open: bool = True) -> Orders:
    """
    Close what was opened: the one door that every ending passes, whatever caused it.

    Args:
        call: not ending yet.
        outcome: how the call ends.
        leg_open: the SIP side has to be hung up; the call waits until it is over.
    """
    call.outcome = outcome
    transferred = outcome.reason is EndReason.TRANSFERRED and not call.agent.taker
    answered = answer_command(call, done=transferred, detail="" if transferred else "the call ended before")
    closed = (*answered, *close_agent(call), *cancel_timer(call, *call.timers))
    unheard = flush(call) if call.phase is Phase.ACTIVE else ()  # what was not heard by now never will be
    orders = (*closed, *unheard, *fall_silent(call), *legs.drop_second(call))
    if not leg_open:
        enter(call, Phase.ENDED)
        return (*orders, do.Finish(outcome))
    hang_up = do.HangUp(outcome.code(answered=call.leg.answered), outcome.words, outcome.contacts, outcome.cause)
    enter(call, Phase.ENDING)
    return (*orders, hang_up, *start_timer(call, ENDING, ENDING_LIMIT_S))


def finish(call: CallState, _event: ev.CallEvent) -> Orders:
    """Let go of a call that passed ``end`` and waited for its leg; the first cause is the one recorded."""
    assert call.outcome is not None
    enter(call, Phase.ENDED)
    return (*cancel_timer(call, *call.timers), do.Finish(call.outcome))
