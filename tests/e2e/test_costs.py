"""Calls that cost too much, and more calls than a model may have sessions."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from gateway.call.machine.rules import WIND_UP
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import Connection, Script, SimulatorOptions
from gateway.lab.speech import caller_speech
from tests.rigs.house import House, MakeHouse
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import ACK_REFUSAL, ANSWERED, BYE, EXPECT_BYE, RINGING, invite, pause, refused
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

MODEL, OTHER = "gpt-realtime-2.1", "gpt-realtime-2.1-mini"
ONLY_SPEECH = json.dumps({MODEL: {"text_in": 0, "audio_in": 0, "text_out": 0, "audio_out": 64}})
HALF_A_SECOND = {"answers": [{"output": [{"say": "Well.", "for_s": 0.5}]}] * 9}
"""10 tokens of speech each; a thousand times that are 0.64 US dollars."""


def plan(limits: str = "{}", agent: str = "") -> str:
    profile = f"instructions: Be kind., greeting: Say hello., transcription: null{agent}"
    return f"agents:\n  front: {{{profile}}}\nroutes:\n  - {{name: all, limits: {limits}, agent: front}}\n"


def simulator(sessions: int | None = None) -> SimulatorOptions:
    return SimulatorOptions(script=Script.model_validate(HALF_A_SECOND), faults=("usage=1000",), sessions=sessions)


async def events_of_money(house: House) -> list[dict[str, str]]:
    wanted = ("usage", "budget_low", "budget_used_up", "ended")
    return [event for event in await house.store.events() if event["event"] in wanted]


def has_spoken(connection: Connection, answers: int) -> bool:
    return len(connection.spoken) >= answers


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ("{max_usd: 1.4}", "max_usd 1.4"),
        ("{usd_per_day: 1.4, over: {action: reject, code: 486}}", "usd_per_day 1.4"),
        ("{per_caller: {usd_per_day: 1.4}}", "per_caller.usd_per_day 1.4"),
        ("{}", "cost.usd_per_day 1.4"),
    ],
)
async def test_a_call_is_warned_and_ended_as_its_money_runs_out_and_the_next_is_refused(
    house: MakeHouse, tmp_path: Path, limits: str, limit: str
) -> None:
    overall = {} if limits != "{}" else {"GATEWAY_COST__USD_PER_DAY": "1.4"}
    async with house(simulator=simulator(), dialplan=plan(limits), GATEWAY_PRICES=ONLY_SPEECH, **overall) as here:
        async with RtpPeer() as phone, Sipp(here.port, (invite(phone.port), ANSWERED, EXPECT_BYE), tmp_path) as sipp:
            phone.talk()
            connection = await here.simulator.connection(1)
            for answers in (1, 2):
                await until(partial(has_spoken, connection, answers), what="an answer")
                await asyncio.sleep(1)
                phone.say(caller_speech(1.0))
            assert await sipp.finish() == 0, sipp.output
        end = await here.ended_record()
        told = [
            (event["event"], event.get("cost_usd"), event.get("spent_usd")) for event in await events_of_money(here)
        ]
        print(f"\n{limit}:", *told, sep="\n  ")
        assert (end["end_reason"], end["ended_by"]) == ("budget_used_up", "gateway")
        names = [name for name, *_ in told]
        assert names.index("budget_low") < names.index("budget_used_up") < names.index("ended")
        assert connection.detail()["told"] == [WIND_UP]
        record = await here.store.call(end["call_id"])
        assert record is not None
        assert record.limit_exceeded == limit
        assert record.cost_usd == pytest.approx(4 * 0.64, abs=0.1), "two answers, the one too many, the goodbye"
        if limit.startswith("max_usd"):
            return
        before = len(here.simulator.connections)
        sipp = await play(here.port, tmp_path / "next", invite(), refused(486))
        print("  next call:", sipp.first("SIP/2.0 486").first_line)
        assert len(here.simulator.connections) == before


async def test_the_third_call_gets_the_other_model_where_a_model_may_have_two_sessions(
    house: MakeHouse, tmp_path: Path
) -> None:
    agent = f", when_full: {{model: {OTHER}, code: 486}}"
    most = json.dumps({MODEL: 2, OTHER: 1})
    async with house(
        simulator=simulator(sessions=2), dialplan=plan(agent=agent), GATEWAY_REALTIME__SESSIONS_MAX=most
    ) as here:
        steps = (invite(), ANSWERED, pause(4000), BYE)
        async with Sipp(here.port, steps, tmp_path / "three", calls=3, at_once=3) as three:
            await until(lambda: len(here.simulator.connections) == 3, what="three sessions")
            models = sorted(each.model for each in here.simulator.connections)
            assert models == [MODEL, MODEL, OTHER]
            full = await here.happened("sessions_full")
            assert (full["limit_exceeded"], full["then"]) == (f"realtime.sessions_max.{MODEL} 2", OTHER)
            fourth = await play(here.port, tmp_path / "fourth", invite(), refused(486))
            print("\nmodels of three calls at once:", *models, "\nfourth call:", fourth.first("SIP/2.0 486").first_line)
            assert await three.finish() == 0, three.output
        assert await here.end_reasons(4) == ["caller_hung_up"] * 3 + ["rejected"]
        assert await play(here.port, tmp_path / "later", invite(), ANSWERED, BYE)
        later = await here.simulator.connection(4)
        print("a call after them:", later.model)
        assert later.model == MODEL
        assert not [each.refused for each in here.simulator.connections if each.refused]


async def test_without_another_model_a_full_one_ends_the_call_with_its_own_reason(
    house: MakeHouse, tmp_path: Path
) -> None:
    async with house(
        simulator=simulator(), dialplan=plan(), GATEWAY_REALTIME__SESSIONS_MAX=json.dumps({MODEL: 0})
    ) as here:
        await play(here.port, tmp_path / "call", invite(), refused(503))
        end = await here.ended_record()
        assert (end["end_reason"], end["sip_code"]) == ("sessions_full", "503")
        assert end["end_detail"] == f"{MODEL} has 0 sessions, no more are allowed"
        assert not here.simulator.connections


async def test_a_simulator_refuses_more_sessions_than_it_has(house: MakeHouse, tmp_path: Path) -> None:
    settings = {"GATEWAY_CALL__SETUP_LIMIT_S": "2"}
    first = (invite(), ANSWERED, pause(5000), BYE)
    async with (
        house(simulator=simulator(sessions=1), dialplan=plan(), **settings) as here,
        Sipp(here.port, first, tmp_path / "one") as one,
    ):
        await here.happened("active")
        await play(here.port, tmp_path / "two", invite(), RINGING, '<recv response="503"/>', ACK_REFUSAL)
        assert "too many sessions" in {each.refused for each in here.simulator.connections}
        assert await one.finish() == 0, one.output
