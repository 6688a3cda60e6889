"""Who is on a call: INVITEs and orders to call become sessions, facts go to their call."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.call.events import LegClosed, MediaUp, Noted
from gateway.call.machine.ending import OVER_BUDGET
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Outcome
from gateway.dialplan.model.plan import Dialplan
from gateway.errors import ConfigError
from gateway.ids import CallId
from gateway.settings.privacy import PrivacySettings
from gateway.settings.sections import CallSettings
from gateway.store.limits import Caps, RouteAdmission, RouteLimits
from gateway.worker.switchboard import DialOrder
from tests.fakes.stage import settle
from tests.fakes.switchboard import AGENT, INVITE, House, until

pytestmark = pytest.mark.unit


async def test_an_invite_becomes_a_call_of_the_agent_its_route_names() -> None:
    house = House()
    house.switchboard.on_event(INVITE)
    await until(lambda: house.store.record(INVITE.call_id).get("state") == "active")
    record = house.store.record(INVITE.call_id)
    assert (record["route"], record["agent"], record["trunk"], record["direction"]) == (
        "all",
        "desk",
        "main",
        "inbound",
    )
    assert house.switchboard.live_calls == 1
    house.switchboard.on_event(LegClosed(INVITE.call_id, by_caller=True, code=200, reason="OK"))
    await until(lambda: house.switchboard.live_calls == 0)
    assert house.store.record(INVITE.call_id)["recording"] == "recordings/call.wav"


async def test_a_call_has_the_limits_of_the_settings_and_the_ways_of_its_agent_and_trunk() -> None:
    house = House()
    house.switchboard.on_event(INVITE)
    routed = await house.routed()
    assert (routed.ring_limit_s, routed.hold_limit_s, routed.transfers) == (20, 60, "bridge")
    assert (routed.recording, routed.outbound) == (True, False)
    assert (routed.keypad.shortcuts, routed.keypad.pause_s) == ({"0": "sip:desk@192.0.2.7"}, 2)
    assert routed.keypad.masked
    await house.switchboard.stop("the test is over")


async def test_a_call_from_no_trunk_has_none_in_its_record() -> None:
    house = House()
    house.switchboard.on_event(replace(INVITE, trunk=""))
    await settle()
    assert "trunk" not in house.store.record(INVITE.call_id)
    await house.switchboard.stop("the test is over")


async def test_a_route_that_rejects_makes_no_agent() -> None:
    house = House()
    house.switchboard.on_event(replace(INVITE, to_uri="sip:closed@192.0.2.2"))
    await until(lambda: house.switchboard.live_calls == 0 and bool(house.gate.released))
    assert house.legs[INVITE.call_id].orders == [("hang_up", 486, "Gone home")]
    assert house.cast_as == []
    record = house.store.record(INVITE.call_id)
    assert (record["state"], record["end_reason"], record["direction"]) == ("ended", "rejected", "inbound")


async def test_a_number_that_no_route_takes_is_refused_without_a_call() -> None:
    house = House()
    house.switchboard.on_event(replace(INVITE, to_uri="tel:", from_uri=""))
    assert [code for _, code, _ in house.refused] == [404]
    assert not house.legs


async def test_a_call_beyond_a_limit_takes_the_limits_own_step() -> None:
    house = House()
    house.gate.answer = RouteAdmission(admitted=False, exceeded="calls_per_day 5")
    house.switchboard.on_event(replace(INVITE, to_uri="sip:short@192.0.2.2", caller="alice", called="short"))
    await until(lambda: bool(house.gate.released))
    assert house.legs[INVITE.call_id].orders[0][:2] == ("hang_up", 480)
    assert house.gate.asked == [("short", "alice", RouteLimits(Caps(calls_per_day=5)))]
    record = house.store.record(INVITE.call_id)
    assert (record["limit_exceeded"], record["caller"], record["called"]) == ("calls_per_day 5", "alice", "short")


async def test_a_call_that_has_cost_what_its_route_allows_ends_with_a_goodbye() -> None:
    house = House()
    house.switchboard.on_event(replace(INVITE, to_uri="sip:dear@192.0.2.2"))
    await until(lambda: house.store.record(INVITE.call_id).get("state") == "active")
    agent = house.agents[INVITE.call_id]
    for _ in range(3):
        agent.emit(Noted(INVITE.call_id, "usage", {"audio_out": 2}))
    await until(lambda: "budget_used_up" in house.store.events(INVITE.call_id))
    assert house.gate.asked == [("dear", "alice", RouteLimits(Caps(usd_per_day=20)))]
    assert [round(usd, 6) for _, usd in house.gate.spent] == [0.2, 0.4, 0.6]
    assert agent.goodbyes == [OVER_BUDGET]
    record = house.store.record(INVITE.call_id)
    assert (record["limit_exceeded"], record["cost_usd"]) == ("max_usd 0.5", 0.6)
    house.clock.advance(20)
    await until(lambda: bool(house.gate.released))
    assert house.store.record(INVITE.call_id)["end_reason"] == "budget_used_up"


async def test_a_call_that_may_book_no_more_of_the_day_is_warned_and_ended() -> None:
    house = House(usd_per_day=50, reserve_usd=1)
    house.switchboard.on_event(INVITE)
    await until(lambda: house.store.record(INVITE.call_id).get("state") == "active")
    assert house.gate.asked == [("all", "alice", RouteLimits(gateway=Caps(usd_per_day=50), reserve_usd=1))]
    agent = house.agents[INVITE.call_id]
    agent.emit(Noted(INVITE.call_id, "usage", {"audio_out": 2}))
    await settle()
    house.gate.told(0.21, "cost.usd_per_day 50")
    await until(lambda: "budget_low" in house.store.events(INVITE.call_id))
    house.gate.told(0.2, "cost.usd_per_day 50")
    await settle()
    house.clock.advance(20)
    await until(lambda: bool(house.gate.released))
    record = house.store.record(INVITE.call_id)
    assert (record["end_reason"], record["limit_exceeded"]) == ("budget_used_up", "cost.usd_per_day 50")


async def test_no_call_is_placed_when_the_days_money_is_spent() -> None:
    house = House(usd_per_day=50)
    house.gate.answer = RouteAdmission(admitted=False, exceeded="cost.usd_per_day 50")
    outcome = await house.switchboard.dial(DialOrder("sip:bob@192.0.2.9", "desk"))
    assert outcome == Outcome(EndReason.BUDGET_USED_UP, "cost.usd_per_day 50", 503)
    assert not house.legs


async def test_the_minutes_that_are_left_of_the_day_cut_the_call() -> None:
    house = House()
    house.gate.answer = RouteAdmission(admitted=True, minutes_left=0.5)
    house.switchboard.on_event(replace(INVITE, to_uri="sip:short@192.0.2.2"))
    assert (await house.routed()).max_length_s == 30
    await house.switchboard.stop("the test is over")


async def test_a_caller_who_leaves_before_the_gate_opens_has_left() -> None:
    house = House()
    house.gate.open.clear()
    house.switchboard.on_event(INVITE)
    await settle()
    house.switchboard.on_event(LegClosed(INVITE.call_id, by_caller=True, code=487, reason=""))
    house.gate.open.set()
    await until(lambda: bool(house.gate.released))
    assert house.store.record(INVITE.call_id)["end_reason"] == "caller_cancelled"
    assert house.gate.released == [(INVITE.call_id, 0)]


async def test_a_call_that_waits_at_the_gate_when_the_worker_stops_is_ended() -> None:
    house = House()
    house.gate.open.clear()
    house.switchboard.on_event(INVITE)
    stopping = asyncio.create_task(house.switchboard.stop("stop"))
    await settle()
    house.gate.open.set()
    await stopping
    assert house.store.record(INVITE.call_id)["end_reason"] == "shutdown"


async def test_the_time_since_the_answer_is_what_counts() -> None:
    house = House()
    house.switchboard.on_event(INVITE)
    await until(lambda: house.store.record(INVITE.call_id).get("state") == "active")
    house.clock.advance(90)
    house.switchboard.on_event(LegClosed(INVITE.call_id, by_caller=True, code=200, reason="OK"))
    await until(lambda: bool(house.gate.released))
    assert house.gate.released == [(INVITE.call_id, 90)]


async def test_a_call_whose_parts_cannot_be_made_is_refused() -> None:
    house = House()
    house.fault = RuntimeError("no thread")
    house.switchboard.on_event(INVITE)
    await until(lambda: bool(house.refused))
    assert house.refused == [(INVITE.call_id, 500, "Internal error")]


async def test_a_call_that_fails_at_the_gate_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()

    async def broken(*_given: object, **_more: object) -> RouteAdmission:
        raise RuntimeError("no gate")

    monkeypatch.setattr(house.gate, "admit", broken)
    house.switchboard.on_event(INVITE)
    await until(lambda: bool(house.refused))
    monkeypatch.undo()
    late = LegClosed(INVITE.call_id, by_caller=True, code=487, reason="")
    house.switchboard.on_event(late)
    house.switchboard.on_event(INVITE)  # a call of that id waits anew, and hears nothing of the one before
    await until(lambda: house.store.record(INVITE.call_id).get("state") == "active")
    await house.switchboard.stop("the test is over")


async def test_a_call_whose_route_cannot_be_looked_for_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("gateway.worker.switchboard.find_route", broken)
    house = House()
    house.switchboard.on_event(INVITE)
    assert house.refused == [(INVITE.call_id, 500, "Internal error")]
    record = house.store.record(INVITE.call_id)
    assert (record["state"], record["end_reason"]) == ("ended", "internal_error")


async def test_only_the_answer_of_a_call_that_lives_starts_its_minutes() -> None:
    house = House()
    house.switchboard.on_event(MediaUp(INVITE.call_id, "PCMU/8000"))  # of one that is over
    house.clock.advance(600)
    house.gate.open.clear()
    house.switchboard.on_event(INVITE)
    await settle()
    house.switchboard.on_event(LegClosed(INVITE.call_id, by_caller=True, code=487, reason=""))
    house.gate.open.set()
    await until(lambda: bool(house.gate.released))
    assert house.gate.released == [(INVITE.call_id, 0)]


async def test_an_agent_for_calls_beyond_a_limit_can_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    over = {"name": "full", "limits": {"calls_per_day": 1, "over": "desk"}, "action": "reject", "code": 486}
    plan = Dialplan.model_validate({"agents": {"desk": AGENT}, "routes": [over]})
    monkeypatch.setattr("tests.fakes.switchboard.PLAN", plan)
    house = House()
    house.gate.answer = RouteAdmission(admitted=False, exceeded="calls_per_day 1")
    house.switchboard.on_event(INVITE)
    await until(lambda: house.store.record(INVITE.call_id).get("state") == "active")
    await house.switchboard.stop("the test is over")
    assert house.store.record(INVITE.call_id)["recording"] == "recordings/call.wav"


async def test_the_longest_call_is_that_of_the_settings_or_a_shorter_one_of_its_route() -> None:
    house = House()
    house.switchboard.on_event(INVITE)
    house.switchboard.on_event(replace(INVITE, call_id=CallId("c2"), to_uri="sip:short@192.0.2.2"))
    await until(lambda: len(house.cast_as) == 2)
    assert [routed.max_length_s for _, routed in house.cast_as] == [CallSettings().max_length_s, 120]
    await house.switchboard.stop("the test is over")


async def test_somebody_is_called_by_an_order_and_its_outcome_is_told() -> None:
    house = House()
    order = DialOrder("sip:bob@192.0.2.9", "plain", trunk="main", caller_id="+15550100")
    call = asyncio.create_task(house.switchboard.dial(order))
    await until(lambda: ("dial",) in house.legs[order.call_id].orders if order.call_id in house.legs else False)
    record = house.store.record(order.call_id)
    assert (record["to_uri"], record["from_uri"]) == ("sip:bob@192.0.2.9", "+15550100")
    assert (record["caller"], record["called"]) == ("+15550100", "sip:bob@192.0.2.9")
    assert (record["direction"], record["trunk"], record["agent"]) == ("outbound", "main", "plain")
    assert "route" not in record
    house.switchboard.on_event(MediaUp(order.call_id, "PCMU/8000"))
    await until(lambda: house.agents[order.call_id].greeted == 1)
    house.switchboard.on_event(LegClosed(order.call_id, by_caller=True, code=200, reason="OK"))
    assert (await call).reason is EndReason.CALLER_HUNG_UP
    assert (await house.routed()).outbound


async def test_a_call_that_is_refused_tells_why() -> None:
    house = House()
    order = DialOrder("+15550100", "plain", trunk="main")
    call = asyncio.create_task(house.switchboard.dial(order))
    await until(lambda: house.store.record(order.call_id).get("state") == Phase.DIALING)
    house.switchboard.on_event(LegClosed(order.call_id, by_caller=True, code=404, reason="Not Found"))
    assert await call == Outcome(EndReason.NO_SUCH_NUMBER, "404 Not Found", 404)


async def test_whoever_stops_waiting_for_a_call_leaves_it_as_it_is() -> None:
    house = House()
    order = DialOrder("sip:bob@192.0.2.9", "plain")
    waiting = asyncio.create_task(house.switchboard.dial(order))
    await until(lambda: house.switchboard.live_calls == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert house.switchboard.live_calls == 1
    await house.switchboard.stop("the test is over")
    assert house.store.record(order.call_id)["end_reason"] == "shutdown"


async def test_an_agent_that_is_not_there_calls_nobody() -> None:
    house = House()
    with pytest.raises(ConfigError, match=r"no agent 'desks'; name one of 'desk', 'plain'"):
        await house.switchboard.dial(DialOrder("sip:bob@192.0.2.9", "desks"))
    assert house.cast_as == []


async def test_nobody_is_called_or_answered_any_more_once_it_drains() -> None:
    house = House()
    await house.switchboard.drain()
    assert (await house.switchboard.dial(DialOrder("sip:bob@192.0.2.9", "plain"))).reason is EndReason.SHUTDOWN
    house.switchboard.on_event(INVITE)
    assert [code for _, code, _ in house.refused] == [503]
    assert house.cast_as == []


async def test_every_order_to_call_has_an_id_of_its_own() -> None:
    assert DialOrder("a", "plain").call_id != DialOrder("a", "plain").call_id


async def test_a_fault_in_a_call_ends_that_call_and_tells_its_outcome() -> None:
    house = House()
    order = DialOrder("sip:bob@192.0.2.9", "plain")
    call = asyncio.create_task(house.switchboard.dial(order))
    await until(lambda: order.call_id in house.legs)
    house.legs[order.call_id].raises["hang_up"] = RuntimeError("no thread")
    await until(lambda: house.store.record(order.call_id).get("state") == Phase.DIALING)
    await house.switchboard.stop("drain")
    assert (await call).reason is EndReason.SHUTDOWN
    assert house.switchboard.live_calls == 0


async def test_a_trunk_whose_lines_are_counted_has_one_busy_while_a_call_lasts() -> None:
    house = House()
    house.switchboard.on_event(replace(INVITE, trunk="counted"))
    await until(lambda: house.store.record(INVITE.call_id).get("state") == "active")
    assert house.gate.asked[0] == ("trunk:counted", "", RouteLimits(Caps(max_calls=3)))
    assert house.gate.released == []
    house.switchboard.on_event(LegClosed(INVITE.call_id, by_caller=True, code=200, reason="OK"))
    await until(lambda: not house.switchboard.is_busy)
    assert (f"{INVITE.call_id}:line", 0) in house.gate.released


async def test_a_call_beyond_the_lines_of_its_trunk_is_turned_away() -> None:
    house = House()
    house.gate.answer = RouteAdmission(admitted=False, exceeded="max_calls 3")
    house.switchboard.on_event(replace(INVITE, trunk="counted"))
    await until(lambda: not house.switchboard.is_busy)
    assert house.refused == [(INVITE.call_id, 503, "all lines of the trunk are busy")]
    record = house.store.record(INVITE.call_id)
    assert (record["state"], record["end_reason"], record["sip_code"]) == ("ended", "rejected", 503)
    assert [call for call, _ in house.gate.released] == [f"{INVITE.call_id}:line", INVITE.call_id]


async def test_a_call_of_which_only_counts_are_kept_is_not_recorded() -> None:
    house = House(PrivacySettings(routes={"all": "counts"}))
    house.switchboard.on_event(INVITE)
    await until(lambda: house.store.record(INVITE.call_id).get("state") == "active")
    await house.switchboard.stop("over")
    assert "recording" not in house.store.record(INVITE.call_id)
