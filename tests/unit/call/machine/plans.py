"""Plans of a call, and machines that follow one, for the tests of a dialplan's steps."""

from __future__ import annotations

from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine.ivr import DialTo, Menu, PlaySounds
from gateway.call.machine.machine import CallMachine
from gateway.call.steps import Step, TalkTo
from gateway.errors import AgentLost
from gateway.ids import CallId

CALL = CallId("call")
ROUTED = ev.Routed(CALL, setup_limit_s=99, max_length_s=99, refusal_code=500, transfers="bridge")
READY = ev.AgentReady(CALL, "sess_1")
UP = ev.MediaUp(CALL, "PCMU/8000")
EARLY = ev.EarlyMediaUp(CALL, "PCMU/8000")
ANSWERED = ev.SecondUp(CALL, "PCMU/8000")
BUSY = ev.SecondClosed(CALL, 486, "Busy Here")
GONE = ev.SecondClosed(CALL, 200, "OK")
CANCEL = ev.LegClosed(CALL, by_caller=True, code=487, reason="Request Terminated")
BYE = ev.LegClosed(CALL, by_caller=True, code=200, reason="OK")
LOST = ev.AgentFailed(CALL, AgentLost("reset"))

AGENT = TalkTo("reception")
DESK = DialTo("sip:desk@192.0.2.7", ring_limit_s=20)
BELL = DialTo("+15550100", ring_limit_s=20, trunk="out", headers={"X-Campaign": "spring"})
HELLO = PlaySounds(("hello.wav", "hours.wav"))
SORRY = PlaySounds(("sorry.wav",))
MENU = Menu("choices.wav", keys={"1": AGENT, "2": DESK, "3": HELLO}, timeout_s=4, retries=1)


def planned(step: Step) -> ev.Planned:
    return ev.Planned(CALL, step, setup_limit_s=8, max_length_s=600, refusal_code=480, hold_limit_s=90)


def after(step: Step, *events: ev.CallEvent) -> CallMachine:
    machine = CallMachine()
    for event in (planned(step), *events):
        machine.handle(event)
    return machine


def told(action: str, target: str, detail: str = "") -> do.Note:
    fields = {"action": action, "target": target}
    fields |= {"agent": target} if action == "agent" else {}
    return do.Note("step", fields | ({"detail": detail} if detail else {}))


def orders(actions: tuple[do.CallAction, ...]) -> list[do.CallAction]:
    """Return what is ordered beside timers and notes."""
    return [action for action in actions if not isinstance(action, do.StartTimer | do.CancelTimer | do.Note)]


def played(mark: int = 1) -> ev.PlayedOut:
    return ev.PlayedOut(CALL, mark)


def key(digit: str) -> ev.DigitPressed:
    return ev.DigitPressed(CALL, digit)


def fired(timer: str) -> ev.TimerFired:
    return ev.TimerFired(CALL, timer)
