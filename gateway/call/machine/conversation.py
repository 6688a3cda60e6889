"""
A conversation of the caller with an agent, from the agent's choice to its last words.

What goes on inside it is in ``barge_in``, ``tool_calls``, ``dtmf``, ``transfer`` and ``recording``.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine import legs, recording, take_over, transfer
from gateway.call.machine.barge_in import end_turn
from gateway.call.machine.ending import OVER_BUDGET, await_anew, await_words, end, leave, parting, say_goodbye
from gateway.call.machine.ivr import bridge_silence, without_agent
from gateway.call.machine.phase import MESSAGE_LIMIT_S, PATIENCE, RINGING, SETUP, CallStage, Phase
from gateway.call.machine.state import AgentState, CallState, Orders, cancel_timer, enter, start_timer
from gateway.call.machine.tool_calls import is_new, settle_filler
from gateway.call.outcome import EndReason, Fault, Outcome, outcome_of

# To the conversation


def routed(call: CallState, event: ev.Routed) -> Orders:
    """Open the agent that was chosen."""
    if call.stage is not CallStage.CHOOSING:
        if call.phase is not Phase.ROUTING:
            return ()
        call.limits = event
    step = call.ivr.agent
    placed = event.outbound and step is None
    call.stage = CallStage.NONE
    call.agent = AgentState(replace(event, outbound=placed), open=True)
    opened = (do.OpenAgent(), *start_timer(call, SETUP, call.limits.setup_limit_s))
    if placed:
        enter(call, Phase.PREPARING)
        return opened
    if call.leg.answered:
        enter(call, Phase.WAITING)
        return (*bridge_silence(call), *opened)
    patience = start_timer(call, PATIENCE, step.answer_after_s) if step is not None and step.answer_after_s else ()
    enter(call, Phase.RINGING)
    return (*legs.ring(call), *opened, *patience)


def answer(call: CallState, _event: ev.AgentReady) -> Orders:
    """Answer the caller, who may have to hear ringing for a while yet."""
    enter(call, Phase.ANSWERING)
    return cancel_timer(call, SETUP) if PATIENCE in call.timers else legs.answer(call)


def dial(call: CallState, _event: ev.AgentReady) -> Orders:
    """Call the far end."""
    enter(call, Phase.DIALING)
    stopped = cancel_timer(call, SETUP)
    return (*stopped, do.Dial(), *start_timer(call, RINGING, call.agent.routed.ring_limit_s))


def join_in(call: CallState, _event: ev.AgentReady) -> Orders:
    """Let the agent speak with a caller who was answered before."""
    if not call.leg.up:
        enter(call, Phase.ANSWERING)
        return ()
    return (*cancel_timer(call, SETUP), *_begin(call))


def media_up(call: CallState, _event: ev.MediaUp) -> Orders:
    """Let the agent speak: it waited for the caller's media."""
    if PATIENCE in call.timers:
        return ()
    stopped = cancel_timer(call, SETUP, RINGING)
    legs.media_up(call)
    begun = _begin(call)
    return (*stopped, *begun, *legs.bound(call))


def expires_early(call: CallState, event: ev.AgentExpiring) -> Orders:
    """Keep in mind that the agent has no time left, though the call is not up yet."""
    call.agent.expiring = event
    return ()


def agent_overdue(call: CallState, _event: ev.TimerFired) -> Orders:
    """Go on without an agent that is not ready in time."""
    return without_agent(call, _set_up_overdue(call, "agent"))


def media_overdue(call: CallState, _event: ev.TimerFired) -> Orders:
    """End a call whose media does not come up: nothing else would be heard either."""
    return end(call, replace(_set_up_overdue(call, "media"), fault=Fault.CARRIER))


def rung_enough(call: CallState, _event: ev.TimerFired) -> Orders:
    """Answer: the agent waits for it."""
    return (*legs.answer(call), *start_timer(call, SETUP, call.limits.setup_limit_s))


def answer_overdue(call: CallState, _event: ev.TimerFired) -> Orders:
    """End a call that we placed and that is not answered."""
    detail = f"no answer within {call.agent.routed.ring_limit_s:g} s"
    return end(call, Outcome(EndReason.NO_ANSWER, detail, 487))


def _set_up_overdue(call: CallState, missing: str) -> Outcome:
    detail = f"no {missing} within {call.limits.setup_limit_s:g} s"
    return Outcome(EndReason.SETUP_TIMEOUT, detail, call.limits.refusal_code)


def _begin(call: CallState) -> Orders:
    """Open the conversation: agent and media are there."""
    enter(call, Phase.ACTIVE)
    bridged = settle_filler(call)
    step, expiring = call.ivr.agent, call.agent.expiring
    leaves = None if expiring is None else _expired(expiring)
    if call.over_budget is not None:
        leaves = call.over_budget, OVER_BUDGET
    greet = do.Greet("" if step is None else step.prompt)
    begun = recording.begin(call, greet if leaves is None else None)
    goodbye = () if leaves is None else say_goodbye(call, *leaves)
    return (*bridged, *begun, *goodbye, *(end_turn(call) if call.leg.on_hold else ()))


# Wishes of the agent


def hang_up_asked(call: CallState, event: tool.HangUpAsked) -> Orders:
    """End the call once the last words were heard."""
    if (refusal := _refusal(call, event.tool_call_id)) is not None:
        return refusal
    call.stage, call.outcome = CallStage.GOODBYE, Outcome(EndReason.AGENT_HUNG_UP, event.reason, 200)
    answered = do.AnswerTool(event.tool_call_id, "ok", respond=False)
    return (answered, *await_words(call, call.agent.routed.goodbye_limit_s))


def leave_message_asked(call: CallState, event: tool.LeaveMessageAsked) -> Orders:
    """End the call once the message was said. A voicemail goes on talking, and beeps: nothing of it cuts that off."""
    if (refusal := _refusal(call, event.tool_call_id)) is not None:
        return refusal
    call.stage, call.outcome = CallStage.GOODBYE, Outcome(EndReason.MESSAGE_LEFT, "the agent left a message", 200)
    words = "Say the message now, in one go; the call ends after it."
    answered = do.AnswerTool(event.tool_call_id, words, respond=True)
    return (*end_turn(call), answered, *await_words(call, MESSAGE_LIMIT_S))


def transfer_asked(call: CallState, event: tool.TransferAsked) -> Orders:
    """Transfer the caller once the last words were heard."""
    if event.tool_call_id and (refusal := _refusal(call, event.tool_call_id)) is not None:
        return refusal
    return () if parting(call) is not None else transfer.ask(call, event)


def _refusal(call: CallState, tool_call_id: str) -> Orders | None:
    """Return what to answer to a wish that cannot be fulfilled; None when it can."""
    if not is_new(call, tool_call_id):
        return ()
    words = parting(call)
    return None if words is None else (do.AnswerTool(tool_call_id, words, respond=False),)


# The second leg


def second_up(call: CallState, event: ev.SecondUp) -> Orders:
    """Go on with whoever was called: a transfer's target, or a person who takes the call over."""
    return take_over.second_up(call, event) if call.agent.taker else transfer.second_up(call, event)


def second_closed(call: CallState, event: ev.SecondClosed) -> Orders:
    """Go on without them."""
    return take_over.second_closed(call, event) if call.agent.taker else transfer.second_closed(call, event)


def second_overdue(call: CallState, event: ev.TimerFired) -> Orders:
    """Give up somebody who does not answer."""
    return take_over.second_overdue(call, event) if call.agent.taker else transfer.second_overdue(call, event)


# To the end of the conversation


def played_out(call: CallState, event: ev.PlayedOut) -> Orders:
    """Go on: the agent's words were heard."""
    # Of sounds from before the agent came; or too early; or it speaks with nobody now.
    if event.mark or call.agent.caller_speaks or call.taken_over:
        return ()
    if call.leaving is not None:
        return end(call, call.leaving)
    if call.agent.transfer is not None:
        return transfer.words_over(call)
    return () if call.agent.keys else recording.quiet(call)


def goodbye_fired(call: CallState, event: ev.TimerFired) -> Orders:
    """Go on: the last words took too long."""
    return transfer.words_over(call, event.at) if call.leaving is None else end(call, call.leaving)


def agent_expiring(call: CallState, event: ev.AgentExpiring) -> Orders:
    """Let an agent say goodbye that has no time left."""
    return leave(call, *_expired(event))


def agent_away(call: CallState, _event: ev.AgentAway) -> Orders:
    """Bridge the silence of an agent that lost its session, until it is back."""
    call.agent.away = True
    return (*end_turn(call), *await_anew(call), *settle_filler(call))


def agent_back(call: CallState, _event: ev.AgentBack) -> Orders:
    """Bridge it no longer."""
    if not call.agent.away:
        return ()
    call.agent.away = False
    return settle_filler(call)


def agent_failed(call: CallState, event: ev.AgentFailed) -> Orders:
    """Go on without the agent, or end."""
    return _lose_agent(call, outcome_of(event.error, sip_code=call.limits.refusal_code))


def agent_closed(call: CallState, event: ev.AgentClosed) -> Orders:
    """Go on without the agent, or end."""
    detail = f"{event.close_code} {event.reason}".rstrip()
    return _lose_agent(call, Outcome(EndReason.AGENT_CLOSED, detail, call.limits.refusal_code))


def _lose_agent(call: CallState, outcome: Outcome) -> Orders:
    """Go on without the agent, but let last words that are on their way to the caller be heard."""
    if call.leaving is None and call.agent.transfer is None and not call.agent.taker:
        return without_agent(call, outcome)
    call.agent.lost = outcome
    if call.agent.taker:
        return (*end_turn(call), *settle_filler(call))
    return transfer.agent_lost(call) or (*end_turn(call), *await_anew(call))


def _expired(event: ev.AgentExpiring) -> tuple[Outcome, str]:
    """Return how a call ends whose agent has no time left, and the words for it."""
    outcome = Outcome(EndReason.SESSION_EXPIRED, f"the agent's session had {event.left_s:g} s left")
    return outcome, "the longest time for a conversation is over"
