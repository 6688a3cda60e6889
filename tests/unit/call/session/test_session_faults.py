from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.call.events import (
    AgentClosed,
    CallerSpoke,
    LegClosed,
    StopAsked,
)
from gateway.call.outcome import EndReason, Outcome
from gateway.call.session.session import CLOSE_LIMIT_S
from tests.fakes.stage import CALL, Stage, settle

pytestmark = pytest.mark.unit

BYE = LegClosed(CALL, by_caller=True, code=200, reason="OK")


async def test_an_order_that_raises_ends_the_call_through_the_one_door(stage: Stage) -> None:
    stage.leg.raises["answer"] = KeyError("slot")
    await stage.ring()
    stage.agent.ready()
    with pytest.raises(KeyError, match="slot"):
        await stage.end()
    assert stage.agent.closed
    assert stage.leg.hung_up == 500
    assert stage.session.outcome == Outcome(EndReason.INTERNAL_ERROR, "KeyError", 500)
    record = stage.store.record()
    assert (record["end_reason"], record["sip_code"]) == ("internal_error", 500)


async def test_orders_beside_the_one_that_raised_are_still_carried_out(stage: Stage) -> None:
    stage.leg.raises["ring"] = RuntimeError("no thread")
    stage.task = asyncio.create_task(stage.session.run())
    with pytest.raises(RuntimeError, match="no thread"):
        await stage.end()
    assert (stage.agent.opens, stage.agent.closed) == (1, True)
    assert stage.leg.hung_up == 500


async def test_a_hang_up_that_raises_leaves_nothing_open(stage: Stage) -> None:
    stage.leg.raises["hang_up"] = RuntimeError("no thread")
    await stage.talk()
    stage.session.post(StopAsked(CALL, "drain"))
    with pytest.raises(RuntimeError, match="no thread"):
        await stage.end()
    assert stage.agent.closed
    assert stage.session.outcome == Outcome(EndReason.SHUTDOWN, "drain")
    assert stage.store.record()["end_reason"] == "shutdown"


async def test_a_call_that_fails_before_it_began_has_no_agent_to_close(stage: Stage) -> None:
    stage.store.raises = RuntimeError("store")
    stage.task = asyncio.create_task(stage.session.run())
    with pytest.raises(RuntimeError, match="store"):
        await stage.end()
    assert (stage.agent.opens, stage.agent.closes, stage.leg.hung_up) == (0, 0, 500)


async def test_a_store_that_raises_leaves_nothing_open(stage: Stage) -> None:
    await stage.talk()
    stage.store.raises = RuntimeError("store")
    stage.session.post(CallerSpoke(CALL, "item_1", "hello"))
    with pytest.raises(RuntimeError, match="store"):
        await stage.end()
    assert stage.agent.closed
    assert stage.leg.hung_up == 500
    assert stage.session.outcome is not None


async def test_a_cancelled_call_hangs_up_and_closes_its_agent(stage: Stage) -> None:
    await stage.talk()
    assert stage.task is not None
    stage.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stage.end()
    assert stage.agent.closed
    assert stage.leg.hung_up == 503
    assert stage.store.record()["end_reason"] == "shutdown"


async def test_a_call_cancelled_while_ending_keeps_its_cause(stage: Stage) -> None:
    await stage.talk()
    stage.agent.emit(AgentClosed(CALL, 1000, ""))
    await settle()
    assert stage.task is not None
    stage.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stage.end()
    assert stage.store.record()["end_reason"] == "agent_closed"
    assert len([order for order in stage.leg.orders if order[0] == "hang_up"]) == 1


async def test_the_call_ends_only_when_its_agent_is_closed(stage: Stage) -> None:
    await stage.talk()
    stage.agent.close_gate = asyncio.Event()
    stage.session.post(BYE)
    await settle()
    assert stage.task is not None
    assert not stage.task.done()
    stage.agent.close_gate.set()
    await stage.end()
    assert stage.agent.closed


async def test_an_agent_that_does_not_close_in_time_is_abandoned(stage: Stage) -> None:
    await stage.talk()
    stage.agent.close_gate = asyncio.Event()
    stage.session.post(BYE)
    await settle()
    with capture_logs() as logs:
        stage.clock.advance(CLOSE_LIMIT_S)
        assert (await stage.end()).reason is EndReason.CALLER_HUNG_UP
        await settle()
    assert [entry["event"] for entry in logs] == ["not_closed"]


async def test_tools_that_fail_to_close_are_logged_and_the_agent_is_closed_all_the_same(stage: Stage) -> None:
    await stage.talk()
    stage.tools.close_raises = OSError("socket")
    with capture_logs() as logs:
        stage.session.post(BYE)
        assert (await stage.end()).reason is EndReason.CALLER_HUNG_UP
    assert [entry["event"] for entry in logs] == ["close_failed"]
    assert stage.agent.closed


async def test_an_agent_that_fails_to_close_is_logged_and_no_more(stage: Stage) -> None:
    await stage.talk()
    stage.agent.close_raises = OSError("socket")
    with capture_logs() as logs:
        stage.session.post(BYE)
        assert (await stage.end()).reason is EndReason.CALLER_HUNG_UP
    assert [entry["event"] for entry in logs] == ["close_failed"]
