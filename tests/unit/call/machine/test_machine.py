from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from docs.generate.samples import SAMPLES, WAYS
from gateway.audio.played import PlayoutPosition
from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.commands import CommandGiven
from gateway.call.end_reasons import fault_of
from gateway.call.machine import machine as machine_module
from gateway.call.machine.machine import RULES, CallMachine
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Fault, Outcome, Side
from gateway.errors import AgentLost, AgentRefused, IllegalEvent, WireError
from gateway.ids import CallId

pytestmark = pytest.mark.unit

CALL = CallId("call")
ROUTED = ev.Routed(CALL, setup_limit_s=8, max_length_s=600, refusal_code=480)
READY = ev.AgentReady(CALL, "sess_1")
UP = ev.MediaUp(CALL, "PCMU/8000")
CANCEL = ev.LegClosed(CALL, by_caller=True, code=487, reason="Request Terminated")
BYE = ev.LegClosed(CALL, by_caller=True, code=200, reason="OK")
TO_RINGING = (ROUTED,)
TO_ANSWERING = (ROUTED, READY)
TO_ACTIVE = (ROUTED, READY, UP)


def machine_after(*events: ev.CallEvent) -> CallMachine:
    machine = CallMachine()
    for event in events:
        machine.handle(event)
    return machine


def outcome_in(actions: tuple[do.CallAction, ...]) -> Outcome:
    assert isinstance(actions[-1], do.Finish)
    return actions[-1].outcome


def test_a_routed_call_rings_and_opens_its_agent_with_a_limit() -> None:
    machine = CallMachine()
    assert machine.handle(ROUTED) == (do.Ring(), do.OpenAgent(), do.StartTimer("setup", 8))
    assert machine.phase is Phase.RINGING


def test_the_call_is_answered_only_when_the_agent_is_ready() -> None:
    machine = machine_after(*TO_RINGING)
    assert machine.handle(READY) == (do.Answer(),)
    assert machine.phase is Phase.ANSWERING


def test_the_agent_greets_when_media_is_up_and_the_length_is_bounded() -> None:
    machine = machine_after(*TO_ANSWERING)
    assert machine.handle(UP) == (do.CancelTimer("setup"), do.Greet(), do.StartTimer("max_length", 600))
    assert machine.phase is Phase.ACTIVE


def test_barge_in_flushes_what_waits_and_truncates_the_item_where_it_was_cut() -> None:
    machine = machine_after(*TO_ACTIVE)
    speaks = ev.SpeechStarted(CALL, at=PlayoutPosition("item_1", 740))
    assert machine.handle(speaks) == (do.FlushPlayout(), do.Truncate("item_1", 740))
    assert machine.phase is Phase.ACTIVE


def test_speech_over_a_silent_agent_truncates_nothing() -> None:
    assert machine_after(*TO_ACTIVE).handle(ev.SpeechStarted(CALL)) == (do.FlushPlayout(),)


@pytest.mark.parametrize(
    "event",
    [
        ev.SpeechStopped(CALL),
        ev.CallerSpoke(CALL, "item_1", "hello"),
        ev.AgentSpoke(CALL, "item_2", "hi"),
        ev.Noted(CALL, "usage", {"input_tokens": 5}),
        UP,
    ],
)
def test_what_is_only_for_the_record_orders_nothing(event: ev.CallEvent) -> None:
    machine = machine_after(*TO_ACTIVE)
    assert machine.handle(event) == ()
    assert machine.phase is Phase.ACTIVE


@pytest.mark.parametrize("way", [TO_RINGING, TO_ANSWERING])
def test_caller_cancelling_before_the_answer_closes_the_agent(way: tuple[ev.CallEvent, ...]) -> None:
    machine = machine_after(*way)
    outcome = Outcome(EndReason.CALLER_CANCELLED, "487 Request Terminated", 487)
    assert machine.handle(CANCEL) == (do.CloseAgent(), do.CancelTimer("setup"), do.Finish(outcome))
    assert machine.phase is Phase.ENDED
    assert outcome.ended_by is Side.CALLER


def test_caller_cancelling_before_the_route_is_known_has_no_agent_to_close() -> None:
    machine = CallMachine()
    assert outcome_in(machine.handle(CANCEL)).reason is EndReason.CALLER_CANCELLED
    assert machine.phase is Phase.ENDED
    assert machine.handle(ROUTED) == ()


def test_caller_hanging_up_before_the_answer_without_a_cancel_hung_up() -> None:
    gone = ev.LegClosed(CALL, by_caller=True, code=408, reason="Request Timeout")
    assert outcome_in(machine_after(*TO_ANSWERING).handle(gone)).reason is EndReason.CALLER_HUNG_UP


def test_caller_hanging_up_in_the_talk_closes_the_agent_and_hangs_up_nothing() -> None:
    outcome = Outcome(EndReason.CALLER_HUNG_UP, "200 OK", 200)
    actions = machine_after(*TO_ACTIVE).handle(BYE)
    assert actions == (do.CloseAgent(), do.CancelTimer("max_length"), do.FlushPlayout(), do.Finish(outcome))


@pytest.mark.parametrize("way", [(), TO_RINGING, TO_ANSWERING, TO_ACTIVE])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (408, EndReason.SIGNALLING_LOST),  # the session timer, or a request of ours that was never answered
        (481, EndReason.SIGNALLING_LOST),
        (415, EndReason.NO_COMMON_MEDIA),  # an ACK without SDP
        (488, EndReason.NO_COMMON_MEDIA),
        (500, EndReason.SIP_ERROR),
    ],
)
def test_a_dialog_that_ends_unasked_on_our_side_is_not_the_callers_doing(
    way: tuple[ev.CallEvent, ...], code: int, reason: EndReason
) -> None:
    gone = ev.LegClosed(CALL, by_caller=False, code=code, reason="Words")
    outcome = outcome_in(machine_after(*way).handle(gone))
    fault = Fault.CARRIER if reason is EndReason.SIP_ERROR else None
    assert outcome == Outcome(reason, f"{code} Words", code, fault=fault)
    assert (outcome.ended_by, fault_of(outcome)) == (Side.GATEWAY, Fault.CARRIER)


@pytest.mark.parametrize("way", [TO_RINGING, TO_ANSWERING])
@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (AgentRefused("wrong key"), EndReason.AGENT_REFUSED, "Agent refused"),
        (AgentLost("no route"), EndReason.AGENT_LOST, "Agent lost"),
        (WireError("not JSON"), EndReason.AGENT_LOST, "Agent lost"),
    ],
)
def test_an_agent_that_fails_before_the_answer_refuses_the_call_with_its_code(
    way: tuple[ev.CallEvent, ...], error: AgentRefused | AgentLost | WireError, reason: EndReason, words: str
) -> None:
    machine = machine_after(*way)
    assert machine.handle(ev.AgentFailed(CALL, error)) == (
        do.CloseAgent(),
        do.CancelTimer("setup"),
        do.HangUp(480, words),
        do.StartTimer("ending", 5.0),
    )
    refused = ev.LegClosed(CALL, by_caller=False, code=480, reason=words)
    assert machine.handle(refused) == (do.CancelTimer("ending"), do.Finish(Outcome(reason, str(error), 480)))
    assert machine.phase is Phase.ENDED


@pytest.mark.parametrize(
    ("event", "reason", "detail"),
    [
        (ev.AgentFailed(CALL, AgentLost("reset")), EndReason.AGENT_LOST, "reset"),
        (ev.AgentClosed(CALL, 1000, "bye"), EndReason.AGENT_CLOSED, "1000 bye"),
        (ev.AgentClosed(CALL, 1000, ""), EndReason.AGENT_CLOSED, "1000"),
        (ev.MediaLost(CALL, 30), EndReason.NO_RTP, "no RTP for 30 s"),
        (ev.StopAsked(CALL, "drain limit"), EndReason.SHUTDOWN, "drain limit"),
        (ev.LegFailed(CALL, "answer"), EndReason.SIP_ERROR, "answer"),
        (ev.OrderFailed(CALL, "KeyError"), EndReason.INTERNAL_ERROR, "KeyError"),
    ],
)
def test_what_ends_a_talk_closes_the_agent_and_hangs_up(event: ev.CallEvent, reason: EndReason, detail: str) -> None:
    machine = machine_after(*TO_ACTIVE)
    actions = machine.handle(event)
    assert actions[0] == do.CloseAgent()
    assert actions[-1] == do.StartTimer("ending", 5.0)
    assert isinstance(actions[-2], do.HangUp)
    assert actions[-2].code >= 400
    assert do.CancelTimer("max_length") in actions
    assert do.FlushPlayout() in actions
    outcome = outcome_in(machine.handle(ev.LegClosed(CALL, by_caller=False, code=200, reason="OK")))
    assert (outcome.reason, outcome.detail) == (reason, detail)


@pytest.mark.parametrize(
    ("way", "detail", "fault"),
    [(TO_RINGING, "no agent within 8 s", Fault.UPSTREAM), (TO_ANSWERING, "no media within 8 s", Fault.CARRIER)],
)
def test_a_set_up_that_takes_too_long_refuses_the_call(
    way: tuple[ev.CallEvent, ...], detail: str, fault: Fault
) -> None:
    machine = machine_after(*way)
    assert machine.handle(ev.TimerFired(CALL, "setup")) == (
        do.CloseAgent(),
        do.HangUp(480, "Setup timeout"),
        do.StartTimer("ending", 5.0),
    )
    outcome = outcome_in(machine.handle(ev.TimerFired(CALL, "ending")))
    assert (outcome.reason, outcome.detail, outcome.sip_code) == (EndReason.SETUP_TIMEOUT, detail, 480)
    assert fault_of(outcome) is fault


@pytest.mark.parametrize(
    ("way", "hang_up"),
    [
        ((*TO_ACTIVE, ev.TimerFired(CALL, "max_length"), ev.TimerFired(CALL, "goodbye")), do.HangUp(200, "Max length")),
        (
            (*TO_ACTIVE, tool.HangUpAsked(CALL, "t", "bye"), ev.TimerFired(CALL, "goodbye")),
            do.HangUp(200, "Agent hung up"),
        ),
        ((*TO_ACTIVE, ev.StopAsked(CALL, "drain")), do.HangUp(503, "Shutdown")),
    ],
)
def test_only_a_fault_is_told_as_one_in_a_bye(way: tuple[ev.CallEvent, ...], hang_up: do.HangUp) -> None:
    assert hang_up in machine_after(*way[:-1]).handle(way[-1])


def test_a_leg_that_never_says_it_is_closed_is_given_up() -> None:
    machine = machine_after(*TO_ACTIVE, ev.StopAsked(CALL, "drain"))
    assert outcome_in(machine.handle(ev.TimerFired(CALL, "ending"))).reason is EndReason.SHUTDOWN
    assert machine.phase is Phase.ENDED
    assert machine.handle(BYE) == ()


@pytest.mark.parametrize("event", [ev.StopAsked(CALL, ""), ev.LegFailed(CALL, ""), ev.OrderFailed(CALL, "")])
def test_a_call_that_ends_before_its_route_is_known_is_refused_without_an_agent(event: ev.CallEvent) -> None:
    machine = CallMachine()
    hang_up, timer = machine.handle(event)
    assert isinstance(hang_up, do.HangUp)
    assert timer == do.StartTimer("ending", 5.0)
    assert machine.handle(ROUTED) == ()
    assert isinstance(machine.handle(BYE)[-1], do.Finish)


def test_the_first_cause_of_an_ending_stands() -> None:
    machine = machine_after(*TO_ACTIVE, ev.AgentClosed(CALL, 1000, ""))
    assert machine.handle(ev.AgentFailed(CALL, AgentLost("late"))) == ()
    assert machine.handle(ev.StopAsked(CALL, "drain")) == ()
    assert outcome_in(machine.handle(BYE)).reason is EndReason.AGENT_CLOSED


def test_an_answer_that_crosses_a_cancel_ends_as_cancelled() -> None:
    assert outcome_in(machine_after(*TO_RINGING, READY).handle(CANCEL)).reason is EndReason.CALLER_CANCELLED


def test_media_that_comes_up_after_the_agent_failed_starts_no_talk() -> None:
    machine = machine_after(*TO_ANSWERING, ev.AgentFailed(CALL, AgentLost("reset")))
    assert machine.handle(UP) == ()
    assert machine.phase is Phase.ENDING


def test_a_set_up_timer_that_ran_out_just_as_media_came_up_ends_nothing() -> None:
    machine = machine_after(*TO_ACTIVE)
    assert machine.handle(ev.TimerFired(CALL, "setup")) == ()
    assert machine.phase is Phase.ACTIVE


@pytest.mark.parametrize("way", [TO_RINGING, TO_ANSWERING, TO_ACTIVE, (*TO_ACTIVE, ev.StopAsked(CALL, ""))])
def test_what_is_noted_changes_nothing_wherever_there_is_an_agent(way: tuple[ev.CallEvent, ...]) -> None:
    assert machine_after(*way).handle(ev.Noted(CALL, "session_open", {"took_ms": 80})) == ()


def test_early_speech_while_answering_is_let_pass() -> None:
    machine = machine_after(*TO_ANSWERING)
    assert machine.handle(ev.SpeechStarted(CALL, at=PlayoutPosition("item_1", 20))) == ()
    assert machine.phase is Phase.ANSWERING


@pytest.mark.parametrize(
    ("way", "event"),
    [
        ((), READY),
        ((), ev.TimerFired(CALL, "setup")),
        (TO_RINGING, ROUTED),
        (TO_RINGING, UP),
        (TO_RINGING, ev.SpeechStarted(CALL)),
        ((), ev.Noted(CALL, "usage", {})),
        (TO_RINGING, ev.AgentAway(CALL, "")),
        (TO_ANSWERING, tool.HangUpAsked(CALL, "call_1", "done")),
        (TO_ANSWERING, READY),
        (TO_ANSWERING, ev.MediaLost(CALL, 30)),
        (TO_ACTIVE, READY),
        (TO_ACTIVE, ev.IncomingInvite(CALL, "id", "sip:a@x", "sip:b@y", "192.0.2.1:5060")),
    ],
)
def test_an_event_that_cannot_happen_is_refused_and_changes_nothing(
    way: tuple[ev.CallEvent, ...], event: ev.CallEvent
) -> None:
    machine = machine_after(*way)
    before = machine.phase
    with pytest.raises(IllegalEvent) as caught:
        machine.handle(event)
    assert (caught.value.phase, caught.value.event) == (before, type(event).__name__)
    assert machine.phase is before


@pytest.mark.parametrize("event", SAMPLES.values(), ids=SAMPLES)
def test_nothing_follows_the_end(event: ev.CallEvent) -> None:
    machine = machine_after(*WAYS[Phase.ENDED])
    actions = machine.handle(event)
    if isinstance(event, CommandGiven):  # somebody waits for an answer
        assert [(type(each), getattr(each, "done", None)) for each in actions] == [(do.AnswerCommand, False)]
    else:
        assert actions == ()
    assert machine.phase is Phase.ENDED


def test_every_phase_has_its_row() -> None:
    assert {phase for phase, _ in RULES} == set(Phase)


def test_the_phase_is_written_in_one_place() -> None:
    writes = [
        node
        for path in Path(inspect.getfile(machine_module)).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "phase" and isinstance(node.ctx, ast.Store)
    ]
    assert len(writes) == 1
