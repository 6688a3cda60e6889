"""What a caller types (RFC 4733) reaches the model, or a shortcut, and no record where it is masked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.simulator.script import Script
from tests.rigs.house import MakeHouse
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, EXPECT_BYE, expect_refer, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

CARD = "90217744"
PLAN = """
agents:
  clerk: {instructions: Be kind., greeting: Say hello.}
  discreet: {instructions: Be kind., greeting: Say hello., keypad: {masked: true}}
  switch: {instructions: Be kind., greeting: Say hello., keypad: {shortcuts: {'0': 'sip:desk@192.0.2.9'}}}
routes:
  - {name: masked, match: {to: '1001'}, agent: discreet}
  - {name: shortcut, match: {to: '1002'}, agent: switch}
  - {name: told, agent: clerk}
"""


def says(*sentences: str) -> SimulatorOptions:
    answers = [{"output": [{"say": sentence, "for_s": 0.3}]} for sentence in sentences]
    return SimulatorOptions(script=Script.model_validate({"answers": answers}))


def spaced(keys: str) -> str:
    return " ".join(keys)


async def test_keys_are_told_to_the_model_or_obeyed_and_a_masked_number_stands_nowhere(
    house: MakeHouse, tmp_path: Path
) -> None:
    options = says("Hello.", f"You pressed {spaced(CARD)}, that is {CARD}.")
    async with house(dialplan=PLAN, simulator=options, GATEWAY_LOG__LEVEL="debug") as here:

        async def call(service: str, keys: str, *steps: str) -> None:
            async with RtpPeer() as phone:
                first = (invite(phone.port, payloads="0 101"), ANSWERED)
                async with Sipp(here.port, (*first, *steps), tmp_path / service, service=service) as sipp:
                    phone.talk()
                    await until(lambda: phone.reception.packets, what="audio")
                    await asyncio.sleep(0.6)
                    phone.press(keys, for_ms=60)
                    assert await sipp.finish() == 0, sipp.output

        stay = (pause(700 + 180 * (len(CARD) + 1) + 900), BYE)
        await asyncio.gather(
            call("1000", "123#", *stay),
            call("1001", f"{CARD}#", *stay),
            call("1002", "0", expect_refer("200 OK"), EXPECT_BYE),
        )
        told = {tuple(each.told): each for each in here.simulator.connections}
        assert set(told) == {("The caller pressed: 1 2 3 #",), (f"The caller pressed: {spaced(CARD)} #",), ()}
        for texts, connection in told.items():
            assert not connection.violations
            assert len(connection.spoken) == (2 if texts else 1)  # the greeting, and an answer to the number
        ends = await here.end_reasons(3)
        events = await here.store.events()
        masked = next(event["call_id"] for event in events if event.get("route") == "masked")
        pressed = [event for event in events if event["event"] == "digit_pressed"]
        assert sorted(event["digit"] for event in pressed if event["call_id"] != masked) == ["#", "0", "1", "2", "3"]
        assert {event["digit"] for event in pressed if event["call_id"] == masked} == {"*"}
        lines = [*here.gateway.lines, *map(str, events), str(await here.store.call(masked))]
        written = "\n".join(line for line in lines if masked in line)
        assert "You pressed * * * * * * * *" in written
        assert CARD not in written
        assert spaced(CARD) not in written
        assert ends == ["caller_hung_up", "caller_hung_up", "transferred"]
