"""The caller's leg, as far as orders depend on it, and the second leg. Nothing is signalled twice, or too late."""

from __future__ import annotations

from gateway.call import actions as do
from gateway.call.machine.phase import HOLD, MAX_LENGTH
from gateway.call.machine.state import CallState, Orders, SecondLegState, Signal, cancel_timer, start_timer


def ring(call: CallState) -> Orders:
    """Let the caller hear ringing, unless there is more to hear already."""
    return _tell(call, Signal.RINGING, do.Ring())


def progress(call: CallState) -> Orders:
    """Let the caller hear us without an answer."""
    return _tell(call, Signal.PROGRESS, do.Progress())


def answer(call: CallState) -> Orders:
    """Answer the call."""
    return _tell(call, Signal.ANSWERED, do.Answer())


def _tell(call: CallState, signal: Signal, order: do.CallAction) -> Orders:
    if call.leg.signal >= signal:
        return ()
    call.leg.signal = signal
    return (order,)


def early_media_up(call: CallState) -> None:
    """Take note that the caller hears us unanswered."""
    if call.leg.signal is Signal.PROGRESS:
        call.leg.signal = Signal.EARLY_MEDIA


def media_up(call: CallState) -> None:
    """Take note that the call is answered and audio flows."""
    call.leg.signal = Signal.MEDIA


def bound(call: CallState) -> Orders:
    """Bound a call whose media has come up. A hold that began before counts from now on."""
    hold = start_timer(call, HOLD, call.limits.hold_limit_s) if call.leg.held else ()
    return (*hold, *start_timer(call, MAX_LENGTH, call.limits.max_length_s))


def hold(call: CallState) -> Orders:
    """Take note that the caller put us on hold."""
    if call.leg.held:
        return ()
    call.leg.held = True
    return start_timer(call, HOLD, call.limits.hold_limit_s) if call.leg.up else ()


def resume(call: CallState) -> Orders:
    """Take note that the caller listens again."""
    call.leg.held = False
    return cancel_timer(call, HOLD)


def call_second(call: CallState, order: do.CallSecond) -> Orders:
    """Call a target on a second leg; only when there is none."""
    call.second = SecondLegState.OPEN
    return (order,)


def drop_second(call: CallState) -> Orders:
    """End the second leg, if there is one."""
    if call.second is not SecondLegState.OPEN:
        return ()
    call.second = SecondLegState.DROPPED
    return (do.DropSecond(),)


def second_closed(call: CallState) -> bool:
    """Take note that the second leg is over; return whether that is news."""
    was_open, call.second = call.second is SecondLegState.OPEN, SecondLegState.CLOSED
    return was_open
