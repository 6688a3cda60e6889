"""How long either side stays on the line after the other has left; run with ``-s`` to see the figures."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tests.rigs.house import MakeHouse, moment
from tests.rigs.rounds import best_of
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, EXPECT_BYE, invite, pause

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

CALLS = 20
LIMIT_S = 10.0
"""Far above what it takes; the figures themselves are printed, since machines are shared."""


def show(what: str, delays_s: list[float]) -> None:
    figures = sorted(delay * 1000 for delay in delays_s)
    print(f"\n{what}: median {statistics.median(figures):.1f} ms, longest {figures[-1]:.1f} ms, {len(figures)} calls")
    assert figures[-1] < LIMIT_S * 1000


@best_of(3)
async def test_a_bye_closes_the_socket_soon(house: MakeHouse, tmp_path: Path) -> None:
    async with house() as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), ANSWERED, pause(150), BYE, calls=CALLS)
        byes = [message.at for message in sipp.messages if message.first_line.startswith("BYE")]
        ends = [moment(await here.closed(number)) for number in range(1, CALLS + 1)]
    show("caller BYE -> upstream CLOSE", [end - bye for bye, end in zip(byes, ends, strict=True)])


@best_of(3)
async def test_a_closed_socket_sends_bye_soon(house: MakeHouse, tmp_path: Path) -> None:
    async with house("close=0.4") as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), ANSWERED, EXPECT_BYE, calls=CALLS)
        byes = [message.at for message in sipp.messages if message.first_line.startswith("BYE")]
        # The simulator's own CLOSE goes out, at the latest, when the client's answer to it comes.
        ends = [moment(await here.closed(number)) for number in range(1, CALLS + 1)]
    show("upstream CLOSE -> BYE", [bye - end for bye, end in zip(byes, ends, strict=True)])
