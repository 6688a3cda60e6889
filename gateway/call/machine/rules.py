"""What follows from the legs' events, from the limits of the whole call and from what ends it, in any phase."""

from __future__ import annotations

from dataclasses import replace

from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine import ivr, legs
from gateway.call.machine.barge_in import end_turn, settle
from gateway.call.machine.ending import OVER_BUDGET, await_anew, end, leave
from gateway.call.machine.ivr import too_long
from gateway.call.machine.phase import Phase
from gateway.call.machine.state import CallState, Orders
from gateway.call.outcome import EndReason, Outcome, outcome_of, outcome_of_no_answer, outcome_of_own_end
from gateway.errors import SipError

WIND_UP = "This call cannot go on for much longer. Bring the conversation to a natural end soon, and say goodbye."
"""What the agent is told when most of the call's budget is spent."""

# Media and hold


def media_up(call: CallState, _event: ev.MediaUp) -> Orders:
    """Go on with a step that waits for the caller's media, if one does."""
    if call.leg.up or not call.leg.answered:
        return ()
    legs.media_up(call)
    return (*legs.bound(call), *ivr.heard(call))


def early_media_up(call: CallState, _event: ev.EarlyMediaUp) -> Orders:
    """Go on with a step that needs no answer, if one waits."""
    legs.early_media_up(call)
    return ivr.heard_early(call)


def held(call: CallState, _event: ev.LegHeld) -> Orders:
    """Remember that the caller does not listen."""
    return legs.hold(call)


def resumed(call: CallState, _event: ev.LegResumed) -> Orders:
    """Remember that the caller listens again."""
    return legs.resume(call)


def held_in_ivr(call: CallState, _event: ev.LegHeld) -> Orders:
    """Pause a step's sounds, and await no key."""
    limit = legs.hold(call)
    return (*(ivr.hold(call) if call.leg.on_hold else ()), *limit)


def resumed_in_ivr(call: CallState, _event: ev.LegResumed) -> Orders:
    """Go on with the step."""
    return (*legs.resume(call), *ivr.resume(call))


def held_in_conversation(call: CallState, _event: ev.LegHeld) -> Orders:
    """Pause the agent. What began as an interruption can no longer be told from noise."""
    was_held = call.leg.held
    limit = legs.hold(call)
    return (*(() if was_held else end_turn(call)), *await_anew(call), *limit)


def resumed_in_conversation(call: CallState, _event: ev.LegResumed) -> Orders:
    """Let the agent go on."""
    return (*legs.resume(call), *settle(call))


def media_lost(call: CallState, event: ev.MediaLost) -> Orders:
    """End the call, unless silence is what must be expected: on hold, or of a voicemail that listens."""
    if call.leg.on_hold or call.message_left:
        return ()
    return end(call, Outcome(EndReason.NO_RTP, f"no RTP for {event.silent_s:g} s"))


# Ends


def second_gone(call: CallState, _event: ev.SecondClosed) -> Orders:
    """Note the end of a second leg that nothing waits for."""
    legs.second_closed(call)
    return ()


def partner_gone(call: CallState, event: ev.SecondClosed) -> Orders:
    """End a call whose caller talked with the second leg."""
    legs.second_closed(call)
    assert call.outcome is not None
    return end(call, replace(call.outcome, cause=event.cause))


def leg_failed(call: CallState, event: ev.LegFailed) -> Orders:
    """End the call."""
    return end(call, outcome_of(SipError(event.detail)))


def stop_asked(call: CallState, event: ev.StopAsked) -> Orders:
    """End the call."""
    return end(call, Outcome(EndReason.SHUTDOWN, event.detail))


def order_failed(call: CallState, event: ev.OrderFailed) -> Orders:
    """End the call."""
    return end(call, Outcome(EndReason.INTERNAL_ERROR, event.detail, 500))


def leg_closed(call: CallState, event: ev.LegClosed) -> Orders:
    """End the call: its SIP side is over."""
    return end(call, _closed(call, event), leg_open=False)


def not_answered(call: CallState, event: ev.LegClosed) -> Orders:
    """End a call that we placed and that was not answered; its code says why."""
    if event.code < 300:  # answered, and gone before the media was up
        return leg_closed(call, event)
    outcome = outcome_of_no_answer(event.code, event.reason, event.cause, event.contacts)
    if not event.by_caller:
        ours = outcome_of_own_end(event.code, event.reason)
        unusable = ours.reason is EndReason.NO_COMMON_MEDIA
        outcome = ours if unusable else outcome_of_no_answer(event.code, event.reason)
    return end(call, outcome, leg_open=False)


def _closed(call: CallState, event: ev.LegClosed) -> Outcome:
    if not event.by_caller:
        return outcome_of_own_end(event.code, event.reason)
    if call.phase is Phase.JOINED and call.outcome is not None:
        return call.outcome
    # RFC 3261 section 9.2: a cancelled INVITE is answered with 487.
    cancelled = event.code == 487 and not call.leg.up and not call.agent.routed.outbound
    reason = EndReason.CALLER_CANCELLED if cancelled else EndReason.CALLER_HUNG_UP
    return Outcome(reason, f"{event.code} {event.reason}".rstrip(), event.code)


# Limits of the whole call


def held_too_long(call: CallState, _event: ev.TimerFired) -> Orders:
    """End the call."""
    return end(call, Outcome(EndReason.HELD_TOO_LONG, f"on hold for {call.limits.hold_limit_s:g} s"))


def lasted_too_long(call: CallState, _event: ev.TimerFired) -> Orders:
    """End the call at once: no agent is there to say goodbye."""
    return end(call, too_long(call))


def budget_low(call: CallState, event: ev.BudgetLow) -> Orders:
    """Tell the agent to come to an end, which it may do in its own way."""
    if call.leaving is not None or call.agent.transfer is not None:
        return ()
    return (do.TellAgent(WIND_UP, respond=False),)


def budget_used_up(call: CallState, event: ev.BudgetUsedUp) -> Orders:
    """Let the agent say goodbye; where none speaks now, the next one says nothing else."""
    call.over_budget = Outcome(EndReason.BUDGET_USED_UP, f"{event.limit}: {event.spent_usd:.4g} US dollars spent", 503)
    return leave(call, call.over_budget, OVER_BUDGET) if call.phase is Phase.ACTIVE else ()


def talked_too_long(call: CallState, _event: ev.TimerFired) -> Orders:
    """Let the agent say goodbye, if it speaks with the caller."""
    if call.taken_over:
        return end(call, too_long(call))
    return leave(call, too_long(call), "the call has reached its longest permitted length")
