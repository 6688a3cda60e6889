"""From a route to the steps of one call, and what the machine needs to know of an agent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.call.machine.ivr import DialTo, Menu, PlaySounds, RefuseCall
from gateway.call.steps import TalkTo
from gateway.dialplan.model.agent import AgentProfile, TurnDetection
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.routing.call_facts import facts_of_call
from gateway.dialplan.routing.index import compile_routes
from gateway.dialplan.routing.route import Route, find_route
from gateway.ids import CallId
from gateway.settings.sections import CallSettings
from gateway.worker.compile import CompiledSteps, compile_steps, talk_with

pytestmark = pytest.mark.unit

AGENTS = {
    "front": {"instructions": "You talk to {{ caller }}."},
    "reader": {"instructions": "Read it out.", "recording": {"mode": "on"}},
    "booked": {"instructions": "Talk.", "when_full": {"announcement": "busy.wav"}},
    "coded": {"instructions": "Talk.", "when_full": {"code": 486, "model": "other"}},
}


def compiled(step: dict[str, Any], **rule: Any) -> CompiledSteps:
    plan = Dialplan.model_validate({"agents": AGENTS, "routes": [{"name": "r", **rule, **step}]})
    call = facts_of_call(to="1000", caller="+4930", at=datetime(2026, 1, 5, tzinfo=UTC))
    route = find_route(compile_routes(plan), call)
    assert isinstance(route, Route)
    return compile_steps(route)


def test_in_a_hunt_the_next_step_follows_where_nothing_else_is_said() -> None:
    steps = compiled({"action": "hunt", "steps": [{"agent": "front"}, {"action": "dial", "to": "sip:a@h"}, "486"]})
    busy = RefuseCall(486)
    assert steps.first == TalkTo("front", otherwise=DialTo("sip:a@h", 30, otherwise=busy))


def test_an_agent_whose_model_is_full_takes_its_own_way_out() -> None:
    full = RefuseCall(503, "", "busy.wav")
    assert compiled({"agent": "booked"}).first == TalkTo("booked", full=full)
    menu = compiled({"action": "menu", "say": "Press 1.", "agent": "booked", "keys": {"1": "front"}}).first
    assert isinstance(menu, TalkTo)
    assert menu.full == full
    assert compiled({"agent": "coded"}).first == TalkTo("coded", full=RefuseCall(486))
    assert compiled({"agent": "front"}).first == TalkTo("front")


def test_a_step_that_cannot_be_filled_in_is_left_out_and_logged() -> None:
    bad = {"action": "dial", "to": "{{ headers['X-To'] | default('nowhere') }}"}
    with capture_logs() as logs:
        steps = compiled({"action": "hunt", "steps": [bad, "sorry.wav"]})
    assert steps.first == PlaySounds(("sorry.wav",))
    assert [(log["event"], log["action"]) for log in logs] == [("step_not_filled_in", "dial")]
    with capture_logs():
        assert compiled(bad).first == RefuseCall(500, "Server Internal Error")


def test_the_profile_of_an_agent_is_that_of_its_step() -> None:
    keys = {"1": {"agent": "front", "keypad": {"masked": True}}, "2": "front"}
    steps = compiled({"action": "menu", "say": "Press 1, {{ caller }}.", "agent": "reader", "keys": keys})
    assert isinstance(steps.first, TalkTo)
    assert (steps.first.prompt, steps.profile(steps.first).instructions) == ("Press 1, +4930.", "Read it out.")
    one, two = steps.first.keys["1"], steps.first.keys["2"]
    assert isinstance(one, TalkTo)
    assert isinstance(two, TalkTo)
    assert [steps.profile(each).keypad.masked for each in (one, two)] == [True, False]
    assert steps.profile(one).instructions == "You talk to +4930."


def test_a_call_may_be_recorded_when_any_agent_it_may_reach_records() -> None:
    menu = {"action": "menu", "prompt": "a.wav", "keys": {"1": "front"}}
    assert compiled(menu).may_record is False
    assert compiled({**menu, "otherwise": "reader"}).may_record is True
    over = compiled(menu, limits={"over": "reader"})
    assert (over.may_record, over.over) == (True, TalkTo("reader"))
    assert isinstance(over.first, Menu)


@pytest.mark.parametrize(("guard_ms", "waits_ms"), [(0, 0), (200, 700)])
def test_a_guard_waits_until_the_end_of_a_short_sound_would_be_reported(guard_ms: int, waits_ms: int) -> None:
    profile = AgentProfile(instructions="Be brief.", turn_detection=TurnDetection(guard_ms=guard_ms))
    routed = talk_with(
        *(profile, CallSettings()),
        call_id=CallId("call-1"),
        longest_s=600,
        outbound=False,
        transfers="refer",
        end_of_speech_ms=500,
    )
    assert routed.guard_ms == waits_ms
