"""Messages of the gateway's to the model, and the tools that ask the gateway for something, over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.audio.pcm import WIDEBAND
from gateway.call.builtin_tools import HangUpAsked, LeaveMessageAsked, RecordingAsked, TransferAsked
from gateway.call.events import AgentBack, AgentReady, AgentSpoke, CallEvent
from gateway.dialplan.model.agent import AgentProfile
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.lab.simulator.faults.faults import parse_fault
from gateway.lab.simulator.script import Script
from gateway.lab.simulator.transport.connection import Connection
from gateway.upstream.core.prompts import RESUMED
from tests.fakes.realtime_service import CALL, KEY, calling
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

KEYS = "The caller pressed: 1 2 3 #"
TOOLS = {
    "builtin": ["hang_up", "transfer_call", "leave_message", "start_recording", "pause_recording"],
    "transfer_targets": {"boss": {"uri": "tel:+15550199", "warm": True}},
}


def profile(**more: Any) -> AgentProfile:
    return AgentProfile.model_validate({"instructions": "Be brief.", "model": "gpt-realtime-2.1"} | more)


def options(*answers: dict[str, Any], **more: Any) -> SimulatorOptions:
    script = Script.model_validate({"answers": answers}) if answers else None
    return SimulatorOptions(key=KEY, think_ms=0, speed=1000.0, script=script, **more)


def count(connection: Connection, name: str) -> int:
    return [event.type for event in connection.sent].count(name)


def at(connection: Connection, name: str, number: int = 0) -> float:
    """When an event of either side was seen."""
    return [event.at for event in (*connection.events, *connection.sent) if event.type == name][number]


async def test_the_agent_speaks_about_a_message_after_what_it_says() -> None:
    async with Simulator(options({"output": [{"sentence": 0, "for_s": 1}], "speed": 2.0})) as simulator:
        async with calling(simulator.url, profile=profile(greeting="Hello.")) as call:
            await call.event()
            call.agent.greet()
            seen = await simulator.connection(1)
            await until(lambda: count(seen, "response.output_audio.delta") > 0)
            call.agent.tell("The caller holds the line.", respond=False)
            call.agent.tell(KEYS, respond=True)
            await until(lambda: count(seen, "response.done") == 2)
        await seen.wait_closed()

    assert seen.told == ["The caller holds the line.", KEYS]
    first_done = at(seen, "response.done")
    assert at(seen, "conversation.item.create", 1) < first_done < at(seen, "response.create", 1)
    assert seen.violations == []


async def test_an_agent_that_is_not_ready_is_told_when_it_is() -> None:
    async with Simulator(options(faults=("slow=0.2",))) as simulator:
        async with calling(simulator.url, profile=profile()) as call:
            call.agent.tell(KEYS, respond=True)
            assert call.agent.responding
            assert isinstance(await call.event(), AgentReady)
            assert isinstance(await call.event(1), AgentSpoke)
            seen = await simulator.connection(1)
        await seen.wait_closed()

    assert seen.told == [KEYS]
    assert at(seen, "session.updated") < at(seen, "conversation.item.create") < at(seen, "response.create")
    assert seen.violations == []


async def test_an_agent_that_comes_back_knows_what_it_was_told_before_and_meanwhile() -> None:
    async with Simulator(options()) as simulator:
        async with calling(simulator.url, profile=profile(on_loss={"action": "reconnect"})) as call:
            await call.event()
            call.agent.tell(KEYS, respond=False)
            await until(lambda: simulator.connections[0].told == [KEYS])
            simulator.add_fault(1, parse_fault("drop=0"))
            await call.event(1)
            call.agent.tell("The caller pressed: 4", respond=True)
            await call.first(AgentBack)
            await call.first(AgentSpoke)
            second = await simulator.connection(2)
        await second.wait_closed()

    assert second.told == [KEYS, "The caller pressed: 4", RESUMED]
    assert [event.type for event in second.events].count("response.create") == 1
    assert second.violations == []


@pytest.mark.parametrize(
    ("tool", "arguments", "event"),
    [
        ("leave_message", {}, LeaveMessageAsked),
        ("start_recording", {}, RecordingAsked),
        ("pause_recording", {}, RecordingAsked),
        ("hang_up", {"reason": "done"}, HangUpAsked),
        ("transfer_call", {"target": "boss", "summary": "A complaint."}, TransferAsked),
    ],
)
async def test_a_tool_the_model_calls_is_asked_of_the_call(
    tool: str, arguments: dict[str, Any], event: type[CallEvent]
) -> None:
    answers: list[dict[str, Any]] = [{"output": [{"call": tool, "arguments": arguments}]}, {}]
    async with Simulator(options(*answers)) as simulator:
        async with calling(simulator.url, profile=profile(tools=TOOLS, greeting="Hello.")) as call:
            await call.event()
            call.agent.greet()
            asked = await call.first(event)
            assert isinstance(asked, HangUpAsked | LeaveMessageAsked | RecordingAsked | TransferAsked)
            call.agent.answer_tool(asked.tool_call_id, "ok", respond=True)
            await call.first(AgentSpoke)
            seen = await simulator.connection(1)
        await seen.wait_closed()

    if isinstance(asked, RecordingAsked):
        assert asked.on is (tool == "start_recording")
    if isinstance(asked, TransferAsked):
        assert (asked.target, asked.warm, asked.summary) == ("tel:+15550199", True, "A complaint.")
    assert asked.call_id == CALL
    assert seen.violations == []


async def test_a_warm_transfer_without_a_summary_is_asked_for_again() -> None:
    answers = [
        {"output": [{"call": "transfer_call", "arguments": {"target": "boss"}}]},
        {"output": [{"call": "transfer_call", "arguments": {"target": "boss", "summary": "A complaint."}}]},
    ]
    async with Simulator(options(*answers)) as simulator:
        async with calling(simulator.url, profile=profile(tools=TOOLS, greeting="Hello.")) as call:
            await call.event()
            call.agent.greet()
            asked = await call.first(TransferAsked)
            rejected = await call.note("tool_rejected")
            seen = await simulator.connection(1)
        await seen.wait_closed()

    assert asked.summary == "A complaint."
    assert "what boss shall be told" in rejected["detail"]
    assert seen.violations == []


async def test_the_agent_can_be_told_of_a_transfer_whose_tool_is_not_answered_yet() -> None:
    transfer = {"call": "transfer_call", "arguments": {"target": "boss", "summary": "A complaint."}}
    async with Simulator(options({"output": [transfer]}, {}, {})) as simulator:
        async with calling(simulator.url, profile=profile(tools=TOOLS, greeting="Hello.")) as call:
            await call.event()
            call.agent.greet()
            asked = await call.first(TransferAsked)
            seen = await simulator.connection(1)
            call.agent.mute_caller()
            call.agent.tell("You are speaking with the boss now.", respond=True)
            await until(lambda: count(seen, "response.done") == 2)
            call.agent.answer_tool(asked.tool_call_id, "They took the caller.", respond=True)
            await until(lambda: count(seen, "response.done") == 3)
        await seen.wait_closed()

    assert seen.told == ["You are speaking with the boss now."]
    assert seen.violations == []


async def test_a_phone_at_16_khz_is_heard_and_hears() -> None:
    async with Simulator(options()) as simulator:
        async with calling(simulator.url, profile=profile(greeting="Hello."), more={"phone": WIDEBAND}) as call:
            await call.event()
            seen = await simulator.connection(1)
            call.agent.greet()
            await call.first(AgentSpoke)
            await until(lambda: count(seen, "response.done") == 1)
            for _ in range(25):  # 500 ms in frames of 10 ms: each of the fake's is half as long at twice the rate
                await call.speak(2)
                await asyncio.sleep(0.002)
            await until(lambda: seen.heard_ms >= 480)
            queued_ms = call.playout.queued_ms
        await seen.wait_closed()

    assert seen.heard_ms <= 500
    said_ms = len(seen.spoken[0].pcm24k) / 48
    assert abs(queued_ms - 2 * said_ms) < 50, "the fake's playout counts at 8 kHz"
    assert seen.violations == []
