"""The plan changes again and again while people talk: they notice nothing, and the next caller gets the last plan."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from pathlib import Path

import pytest

from gateway.audio.pcm import PHONE
from gateway.dialplan.read.loader import load_dialplan
from gateway.errors import DialplanError
from gateway.lab.bench.delay import heard_by_model, heard_by_phone, spoken_by_model
from gateway.lab.figures.measure import segment_correlation
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.speech import caller_speech
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.reload_requests import ReloadRequests
from gateway.worker.live_plan import PlanState
from tests.rigs.house import House, MakeHouse
from tests.rigs.lines import Line, call, calls
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

CALLS, CHANGES, SPEECH_S = 4, 50, 12
REACH_MS = 4000
PLAN = """
agents:
  tester:
    instructions: This is plan {number}.
    greeting: Say hello.
routes:
  - name: route-{number}
    agent: tester
"""
BROKEN = (
    PLAN.replace("instructions", "instructons"),
    PLAN[: PLAN.index("routes")],
    PLAN + "  - name: sorry\n    action: announce\n    files: missing-{number}.wav\n",
    PLAN.replace("agent: tester", "agent: nobody"),
    PLAN + "\t{number}",
)


def write(plan: Path, text: str, *, in_place: bool) -> None:
    """Write as some editors do, or as others."""
    if in_place:
        plan.write_text(text, encoding="utf-8")
        return
    new = plan.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(plan)


async def told(here: House) -> dict[str, str]:
    """Return how the worker says its plan is."""
    states = await here.store.dialplans()
    return states[0] if states else {}


async def told_that(here: House, limit_s: float = 40, **wanted: str) -> dict[str, str]:
    async with asyncio.timeout(limit_s):
        while not (state := await told(here)).items() >= wanted.items():
            await asyncio.sleep(0.01)
    return state


def in_redis(refusal: DialplanError) -> str:
    return str(PlanState("", 0, 0, 0, 0, refusal.problems).fields()["mistakes"])


async def change_often(here: House, plan: Path) -> None:
    """Change the plan, every other time for the worse, and see each time that the worker has noticed."""
    await until(lambda: len(here.simulator.connections) == CALLS, what="the calls")
    version = (await told_that(here, state="current"))["version"]
    for number in range(1, CHANGES + 1):
        if number % 2:
            text = BROKEN[number // 2 % len(BROKEN)].format(number=number)
            write(plan, text, in_place=number % 3 == 0)
            with pytest.raises(DialplanError) as refusal:
                load_dialplan(plan)
            await told_that(here, state="refused", mistakes=in_redis(refusal.value))
            assert (await told(here))["version"] == version
        else:
            write(plan, PLAN.format(number=number), in_place=number % 3 == 0)
            version = load_dialplan(plan).version
            await told_that(here, version=version, state="current")
    assert len(await here.store.live_calls()) == CALLS, "the plan was changed while they talked"


def unharmed(line: Line, speech: bytes) -> None:
    """Both sides heard each other to the end, in one session."""
    heard, spoken = heard_by_model(line.connection), spoken_by_model(line.connection)
    up = segment_correlation(speech, heard.pcm, PHONE.rate_hz, REACH_MS)
    down = segment_correlation(spoken.pcm, heard_by_phone(line.phone).pcm, PHONE.rate_hz, REACH_MS)
    print(f"\nup {up.peak:.3f}, down {down.peak:.3f}, gap {line.phone.reception.longest_gap_ms():.0f} ms", end="")
    assert up.peak > 0.9
    assert down.peak > 0.9
    assert line.phone.reception.counts().lost == 0
    assert (line.connection.violations, line.connection.close_code) == ([], 1000)
    assert "This is plan 0." in str(line.connection.session)


async def test_fifty_changes_harm_no_call_and_the_next_one_gets_the_last_plan(house: MakeHouse, tmp_path: Path) -> None:
    plan, speech = tmp_path / "plan.yaml", caller_speech(SPEECH_S)
    async with house(simulator=SimulatorOptions(echo=True), GATEWAY_DIALPLAN_EVERY_S="0.05") as here:
        write(plan, PLAN.format(number=0), in_place=False)
        first = load_dialplan(plan).version
        await told_that(here, version=first)
        starts = [partial(call, here, tmp_path / f"call{number}", speech, seconds=SPEECH_S) for number in range(CALLS)]
        lines, _ = await asyncio.gather(calls(*starts, house=here), change_often(here, plan))
        for line in lines:
            await line.connection.wait_closed()
            unharmed(line, speech)
        assert len(here.simulator.connections) == CALLS, "nobody connected anew"

        await play(here.port, tmp_path / "last", invite(), ANSWERED, pause(300), BYE)
        assert f"This is plan {CHANGES}." in str(here.simulator.connections[CALLS].session)
        state = await told(here)
        last = load_dialplan(plan).version
        assert (state["version"], state["state"]) == (last, "current")
        assert int(state["failures"]) >= CHANGES // 2
        async with asyncio.timeout(40):
            while await here.store.live_calls():
                await asyncio.sleep(0.02)
        begun = [event for event in await here.store.events() if "dialplan" in event]
        assert [(event["dialplan"], event["route"]) for event in begun] == [
            *[(first, "route-0")] * CALLS,
            (last, f"route-{CHANGES}"),
        ]
        assert (await here.ended_record())["end_reason"] == "caller_hung_up"


async def test_a_worker_that_does_not_look_loads_when_it_is_asked(house: MakeHouse, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    async with house(GATEWAY_DIALPLAN_EVERY_S="0") as here:
        began = (await told_that(here, state="current"))["version"]
        write(plan, PLAN.format(number=1), in_place=True)
        await asyncio.sleep(0.3)
        assert (await told(here))["version"] == began
        here.gateway.send_signal(signal.SIGHUP)
        await told_that(here, version=load_dialplan(plan).version)
        write(plan, PLAN.format(number=2), in_place=True)
        settings = RedisSettings.model_validate({"url": here.redis_url})
        store = RedisCallStore(settings, "test")
        await ReloadRequests(settings, store).ask()
        await store.close()
        await told_that(here, version=load_dialplan(plan).version)
        write(plan, BROKEN[0].format(number=3), in_place=True)
        here.gateway.send_signal(signal.SIGHUP)
        assert (await told_that(here, state="refused"))["failures"] == "1"
        await play(here.port, tmp_path / "sipp", invite(), ANSWERED, pause(200), BYE)
        assert "This is plan 2." in str(here.simulator.connections[0].session)
