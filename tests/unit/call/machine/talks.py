"""Machines in the middle of a talk, for the tests of what happens there."""

from __future__ import annotations

from dataclasses import replace

from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine.machine import CallMachine
from gateway.call.machine.phase import Phase
from gateway.call.outcome import Outcome
from gateway.ids import CallId

CALL = CallId("call")
KEYPAD = ev.Keypad(pause_s=1.5, shortcuts={"0": "sip:desk@192.0.2.7"})
ROUTED = ev.Routed(
    CALL, setup_limit_s=8, max_length_s=600, goodbye_limit_s=7, ring_limit_s=20, hold_limit_s=90, keypad=KEYPAD
)
GUARDED = replace(ROUTED, guard_ms=400)
READY = ev.AgentReady(CALL, "sess_1")
UP = ev.MediaUp(CALL, "PCMU/8000")
BYE = ev.LegClosed(CALL, by_caller=True, code=200, reason="OK")


def after(*events: ev.CallEvent) -> CallMachine:
    """Return a machine that saw these events."""
    machine = CallMachine()
    for event in events:
        machine.handle(event)
    return machine


def talking(*events: ev.CallEvent, routed: ev.Routed = ROUTED) -> CallMachine:
    """Return a machine in a talk that saw these events there."""
    machine = after(routed, READY, UP, *events)
    assert machine.phase is Phase.ACTIVE
    return machine


def outcome_of(machine: CallMachine, actions: tuple[do.CallAction, ...]) -> Outcome:
    """Check that the call is being ended by these actions, or has ended; return its outcome."""
    if machine.phase is Phase.ENDING:
        assert any(isinstance(action, do.HangUp) for action in actions)
        actions = machine.handle(ev.LegClosed(CALL, by_caller=False, code=200, reason="OK"))
    else:
        assert do.CloseAgent() not in actions[1:]
    assert machine.phase is Phase.ENDED
    outcome = getattr(actions[-1], "outcome", None)
    assert isinstance(outcome, Outcome)
    return outcome
