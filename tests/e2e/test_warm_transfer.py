"""A warm transfer: the agent tells whoever answers what it is about, and they take the caller or do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.free_port import free_port
from gateway.lab.callers.rtp_peer import RtpPeer
from tests.rigs.house import House, MakeHouse
from tests.rigs.scripts import BACK, desk, scripted
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import (
    ANSWERED,
    BYE,
    CALLEE_BYE,
    EXPECT_ACK,
    EXPECT_BYE,
    EXPECT_INVITE,
    RING,
    callee_info,
    invite,
    pause,
    respond,
    sdp,
)
from tests.rigs.tones import hears_only_waiting, hears_speech, until_they_hear_each_other
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

SUMMARY = "Somebody whose door does not close."
TRANSFER: dict[str, object] = {"call": "transfer_call", "arguments": {"target": "desk", "summary": SUMMARY}}
BRIEFED_MS = 1700
"""The callee listens for so long before deciding."""


def press(key: int) -> str:
    return callee_info("application/dtmf-relay", f"Signal={key}\nDuration=160\n")


@dataclass
class Briefing:
    """A caller, whoever is told of the caller, and what both hear."""

    house: House
    caller: RtpPeer
    callee: RtpPeer
    calling: Sipp
    called: Sipp

    async def until_told(self) -> None:
        """Wait until the callee heard the agent, and insist that the caller heard only the waiting tone."""
        await self.house.happened("second_up")
        await until(lambda: hears_speech(self.callee), what="the agent's words")
        await until(lambda: hears_only_waiting(self.caller), what="the waiting tone alone")
        assert not hears_speech(self.caller)

    async def finish(self) -> None:
        assert await self.calling.finish() == 0, self.calling.output
        assert await self.called.finish() == 0, self.called.output


@asynccontextmanager
async def briefing(
    house: MakeHouse, folder: Path, caller_end: tuple[str, ...], decision: tuple[str, ...]
) -> AsyncIterator[Briefing]:
    port = free_port()
    script = scripted([TRANSFER], [{"sentence": 1}], BACK)
    async with (
        house(simulator=script, profile=desk(port, warm=True)) as here,
        RtpPeer(looped=True) as caller,
        RtpPeer(looped=True) as callee,
    ):
        answers = (EXPECT_INVITE, RING, respond("200 OK", sdp(callee.port)), EXPECT_ACK, pause(BRIEFED_MS))
        async with (
            Sipp(here.port, (*answers, *decision), folder / "callee", port=port) as called,
            Sipp(here.port, (invite(caller.port), ANSWERED, *caller_end), folder / "caller") as calling,
        ):
            caller.talk()
            callee.talk()
            yield Briefing(here, caller, callee, calling, called)


async def test_whoever_takes_the_call_is_joined_with_the_caller(house: MakeHouse, tmp_path: Path) -> None:
    async with briefing(house, tmp_path, (EXPECT_BYE,), (press(1), pause(2000), CALLEE_BYE)) as parts:
        await parts.until_told()
        told = parts.house.simulator.connections[0].told
        assert any(SUMMARY in text and "press 1 to take the call" in text for text in told)
        await parts.house.happened("joined")
        await until_they_hear_each_other(parts.caller, parts.callee)
        assert parts.house.simulator.connections[0].closed_at is not None
        await parts.finish()
        assert (await parts.house.ended_record())["end_reason"] == "transferred"
        assert not parts.house.simulator.connections[0].violations


@pytest.mark.parametrize(
    ("decision", "cause"),
    [((press(2), EXPECT_BYE), "they declined the call"), ((CALLEE_BYE,), "they hung up")],
    ids=["declined", "left"],
)
async def test_a_caller_whom_nobody_takes_is_back_with_the_agent(
    house: MakeHouse, tmp_path: Path, decision: tuple[str, ...], cause: str
) -> None:
    async with briefing(house, tmp_path, (EXPECT_BYE,), decision) as parts:
        await parts.until_told()
        await parts.house.happened("second_closed")
        parts.caller.reception.clear()
        assert parts.house.tool_outputs()[0] == f"The transfer failed: {cause}. You speak with the caller again."
        await until(lambda: hears_speech(parts.caller), what="the agent's words")
        await parts.finish()
        assert (await parts.house.ended_record())["end_reason"] == "agent_hung_up"


async def test_a_caller_who_leaves_during_the_briefing_ends_it_for_everybody(house: MakeHouse, tmp_path: Path) -> None:
    async with briefing(house, tmp_path, (pause(1800), BYE), (EXPECT_BYE,)) as parts:
        await parts.house.happened("second_up")
        await parts.finish()
        assert (await parts.house.ended_record())["end_reason"] == "caller_hung_up"
        await until(lambda: parts.house.simulator.connections[0].closed_at is not None, what="the agent's end")
        for _ in range(2):  # two full sets of lines: none was kept
            lines = (invite(), ANSWERED, pause(100), BYE)
            async with Sipp(parts.house.port, lines, tmp_path / "after", calls=4, at_once=4) as after:
                assert await after.finish() == 0, after.output
