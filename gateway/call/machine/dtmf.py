"""The keys a caller presses while an agent speaks: a step of the dialplan, a shortcut, or a number for the agent."""

from __future__ import annotations

from typing import Final

from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine import recording, transfer
from gateway.call.machine.barge_in import stop
from gateway.call.machine.ending import parting
from gateway.call.machine.ivr import move_on
from gateway.call.machine.phase import KEYS
from gateway.call.machine.state import CallState, Orders, cancel_timer, start_timer
from gateway.call.steps import Step

MOST_KEYS: Final = 64
"""The agent is told a longer number in parts: a caller who leans on the keys cannot fill our memory."""


def digit_pressed(call: CallState, event: ev.DigitPressed) -> Orders:
    """Take a key of the caller's, unless it cannot be meant for the agent: hold music has tones too."""
    elsewhere = call.leg.on_hold or call.with_second or call.taken_over
    if call.leaving is not None or call.agent.lost is not None or elsewhere:
        return ()
    if (step := _chosen(call, event.digit)) is not None:
        return move_on(call, step, f"key {event.digit}")
    target = _shortcut(call, event.digit)
    if target is None and not call.agent.routed.keypad.to_agent:
        return ()
    if target is not None and parting(call) is not None:
        return ()
    recording.cut(call, cancelled=True)
    cut = stop(call, event.at)
    if target is None:
        told = _add(call, event.digit)
        return (*cut, *told, *recording.await_quiet(call))
    return (*cut, *transfer.ask_at_once(call, tool.TransferAsked(event.call_id, "", target)))


def keys_fired(call: CallState, _event: ev.TimerFired) -> Orders:
    """Tell the agent a number that has ended with a pause."""
    told = _tell(call, respond=parting(call) is None and not call.leg.on_hold)
    return (*told, *recording.await_quiet(call)) if call.agent.lost is None else ()


def _chosen(call: CallState, digit: str) -> Step | None:
    """Return the step that a key is for. A key in the midst of a number belongs to the number."""
    if call.ivr.agent is None or parting(call) is not None or call.agent.keys:
        return None
    return call.ivr.agent.keys.get(digit)


def _shortcut(call: CallState, digit: str) -> str | None:
    """Return whom this key transfers the caller to. A key in the midst of a number belongs to the number."""
    return None if call.agent.keys else call.agent.routed.keypad.shortcuts.get(digit)


def _add(call: CallState, digit: str) -> Orders:
    """Take a key of a number; ``#`` ends it."""
    stopped = cancel_timer(call, KEYS)
    call.agent.keys.append(digit)
    if digit == "#" or len(call.agent.keys) >= MOST_KEYS:
        return (*stopped, *_tell(call, respond=parting(call) is None))
    return (*stopped, *start_timer(call, KEYS, call.agent.routed.keypad.pause_s))


def _tell(call: CallState, *, respond: bool) -> Orders:
    text = f"The caller pressed: {' '.join(call.agent.keys)}"
    call.agent.keys.clear()
    return (do.TellAgent(text, respond),)
