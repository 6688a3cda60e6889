"""
A transfer from request to end: by REFER, or over a second leg of our own; blind, or with words to the target first.

One transfer at a time: the last words are heard, then it goes out by REFER, or the target is called on a second leg.
There a blind one joins caller and target as soon as they answer; a warm one lets the agent speak with them first, and
they take the call with 1 or decline with 2. One that fails returns to the caller, if the agent is still there.
"""

from __future__ import annotations

from typing import Final

from gateway.audio.played import PlayoutPosition
from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine import legs, recording
from gateway.call.machine.barge_in import end_turn, stop
from gateway.call.machine.ending import answer_command, end, join, say_goodbye
from gateway.call.machine.ivr import without_agent
from gateway.call.machine.phase import (
    BRIEFING,
    BRIEFING_LIMIT_S,
    GOODBYE,
    SECOND,
    TRANSFER,
    TRANSFER_LIMIT_S,
    CallStage,
)
from gateway.call.machine.playback import fill, flush
from gateway.call.machine.state import CallState, Orders, SecondLegState, cancel_timer, start_timer
from gateway.call.machine.tool_calls import settle_filler
from gateway.call.outcome import EndReason, Outcome, Side

TAKE, DECLINE = "1", "2"
_TIMERS: Final = (GOODBYE, TRANSFER, SECOND, BRIEFING)
"""Of the stages of a transfer; one of them runs."""


def ask(call: CallState, asked: tool.TransferAsked) -> Orders:
    """Transfer the caller once the last words were heard."""
    call.agent.transfer, call.stage = asked, CallStage.LAST_WORDS
    return (do.AwaitPlayedOut(), *start_timer(call, GOODBYE, call.agent.routed.goodbye_limit_s))


def ask_at_once(call: CallState, asked: tool.TransferAsked) -> Orders:
    """Transfer the caller without last words."""
    call.agent.transfer, call.stage = asked, CallStage.LAST_WORDS
    return words_over(call)


def words_over(call: CallState, at: PlayoutPosition | None = None) -> Orders:
    """Go on: everything the agent said was heard, or it took too long and is cut off ``at`` this position."""
    asked = call.agent.transfer
    if asked is None or call.stage is not CallStage.LAST_WORDS:
        return ()
    if asked.warm or call.agent.routed.transfers == "bridge":
        return _call(call, asked, at)
    call.stage = CallStage.REFERRED
    return (*_stop_timer(call), do.Transfer(asked.target), *start_timer(call, TRANSFER, TRANSFER_LIMIT_S))


def agent_lost(call: CallState) -> Orders:
    """Join the caller with a target that is being briefed: the agent cannot say any more."""
    asked = call.agent.transfer
    return () if asked is None or call.stage is not CallStage.BRIEFING else _join(call, asked)


# By REFER


def refer_ended(call: CallState, event: ev.TransferEnded) -> Orders:
    """Take the end of a REFER or of the transfer it began, however late."""
    asked, given_up = call.agent.transfer, call.agent.given_up
    if asked is None and given_up is not None and 200 <= event.code < 300:
        return end(call, _transferred(call, given_up))
    if asked is None or call.stage is not CallStage.REFERRED:
        return ()
    if 200 <= event.code < 300:
        return end(call, _transferred(call, asked))
    # A target that was called and is busy would be busy for us, too.
    if event.refused and call.agent.routed.transfers == "refer_or_bridge":
        return _call(call, asked)
    return _fail(call, f"{event.code} {event.reason}".rstrip())


def refer_overdue(call: CallState, _event: ev.TimerFired) -> Orders:
    """Stop waiting for news of a transfer: it may still succeed, and be reported later."""
    call.agent.given_up = call.agent.transfer
    return _fail(call, f"no answer within {TRANSFER_LIMIT_S:g} s")


# Over a second leg


def second_up(call: CallState, event: ev.SecondUp) -> Orders:
    """Join the target that answered with the caller, or let the agent speak with them first."""
    asked = call.agent.transfer
    if asked is None or call.stage is not CallStage.CALLING:
        return ()
    if call.agent.lost is not None or not asked.warm:
        return _join(call, asked)
    cut, stopped = stop(call, event.at), _stop_timer(call)
    call.stage = CallStage.BRIEFING
    return (
        *stopped,
        *settle_filler(call),
        *cut,
        do.TalkToSecond(),
        *end_turn(call),
        do.TellAgent(_briefing(asked), respond=True),
        *start_timer(call, BRIEFING, BRIEFING_LIMIT_S),
    )


def second_digit(call: CallState, event: ev.SecondDigit) -> Orders:
    """Act on the decision of the target of a warm transfer."""
    asked = call.agent.transfer
    if asked is None or call.stage is not CallStage.BRIEFING or event.digit not in (TAKE, DECLINE):
        return ()
    return _join(call, asked) if event.digit == TAKE else _fail(call, "they declined the call", event)


def second_closed(call: CallState, event: ev.SecondClosed) -> Orders:
    """Return to the caller: the target cannot be reached, or hung up on the agent."""
    if not legs.second_closed(call):
        return ()
    if call.stage is CallStage.CALLING:
        return _fail(call, f"{event.code} {event.reason}".rstrip(), event)
    return _fail(call, "they hung up", event) if call.stage is CallStage.BRIEFING else ()


def second_overdue(call: CallState, event: ev.TimerFired) -> Orders:
    """Give up a target that does not answer."""
    return _fail(call, f"no answer within {call.agent.routed.ring_limit_s:g} s", event)


def briefing_overdue(call: CallState, event: ev.TimerFired) -> Orders:
    """Give up a target that does not decide."""
    return _fail(call, f"they did not take the call within {BRIEFING_LIMIT_S:g} s", event)


def _call(call: CallState, asked: tool.TransferAsked, at: PlayoutPosition | None = None) -> Orders:
    if call.second is not SecondLegState.CLOSED:
        return _fail(call, "the call to somebody else before it is still being ended")
    # Blind: the caller hears that it rings; the agent is not to answer announcements. Warm: they stay together.
    cut = () if asked.warm else stop(call, at)
    stopped = _stop_timer(call)
    call.stage = CallStage.CALLING
    ring = start_timer(call, SECOND, call.agent.routed.ring_limit_s)
    called = (*stopped, *legs.call_second(call, do.CallSecond(asked.target)), *ring)
    return (*called, *settle_filler(call)) if asked.warm else (*called, *cut, do.TalkToSecond(), *end_turn(call))


def _join(call: CallState, asked: tool.TransferAsked) -> Orders:
    quiet = (*_stop_timer(call), *fill(call, on=False), *flush(call))
    return (*quiet, *join(call, _transferred(call, asked)))


# Back


def _fail(call: CallState, cause: str, event: ev.StampedEvent | None = None) -> Orders:
    """Return to the caller from any stage; if the agent is lost, take what follows that instead."""
    asked, spoke = call.agent.transfer, call.stage is CallStage.BRIEFING
    if asked is None:
        return ()
    answered = answer_command(call, done=False, detail=cause)
    if call.agent.lost is not None:
        return (*answered, *without_agent(call, call.agent.lost))
    orders = (*answered, *_turn_back(call, event))
    overdue, call.agent.overdue = call.agent.overdue, None
    here = "You speak with the caller again." if spoke else "The caller is still here."
    told = _tell(asked, f"The transfer failed: {cause}. {here}", respond=overdue is None)
    recording.cut(call, cancelled=True)  # what was to be heard before was not, or not by the caller
    if overdue is None:
        return (*orders, told, *recording.await_quiet(call))
    return (*orders, told, *say_goodbye(call, *overdue))


def _turn_back(call: CallState, event: ev.StampedEvent | None) -> Orders:
    """Connect the agent with the caller again and drop the target."""
    stopped = _stop_timer(call)
    # What was meant for others is not for the caller.
    cut = stop(call, event.at) if call.stage is CallStage.BRIEFING and event is not None else ()
    elsewhere = call.with_second
    call.agent.transfer, call.stage = None, CallStage.NONE
    orders = (*stopped, *settle_filler(call), *cut)
    back = (do.TalkToCaller(), *end_turn(call)) if elsewhere else ()
    return (*orders, *back, *legs.drop_second(call))


def _tell(asked: tool.TransferAsked, words: str, *, respond: bool) -> do.CallAction:
    if asked.tool_call_id:
        return do.AnswerTool(asked.tool_call_id, words, respond=respond)
    return do.TellAgent(words, respond=respond)


def _stop_timer(call: CallState) -> Orders:
    return cancel_timer(call, *_TIMERS)


def _transferred(call: CallState, asked: tool.TransferAsked) -> Outcome:
    return Outcome(EndReason.TRANSFERRED, asked.target, 200, by=Side.OPERATOR if call.command else None)


def _briefing(asked: tool.TransferAsked) -> str:
    summary = asked.summary or "who is calling, and why."
    return (
        f"You now speak with {asked.target}, not with the caller, who is waiting and does not hear you. "
        f"Tell them: {summary} Ask them to press {TAKE} to take the call or {DECLINE} to decline it."
    )
