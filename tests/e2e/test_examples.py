"""Every dialplan that ships takes a real call."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rigs.house import MakeHouse
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause, refused

pytestmark = pytest.mark.e2e

DIALPLANS = Path(__file__).parents[2] / "dialplans"
TALK = (invite(), ANSWERED, pause(600), BYE)
CALLS = {
    "hello": ("1000", TALK),
    "reception": ("1000", TALK),  # open or closed by now: the one is an agent, the other a menu, and both answer
    "multilingual": ("+33123456789", TALK),
    "campaign": ("+448001234567", TALK),
    "failover": ("1999", (invite(), refused(302))),
}


def test_no_example_is_forgotten() -> None:
    assert {path.stem for path in DIALPLANS.glob("*.yaml")} == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
async def test_an_example_takes_a_call(name: str, house: MakeHouse, tmp_path: Path) -> None:
    number, steps = CALLS[name]
    async with house(GATEWAY_DIALPLAN=str(DIALPLANS / f"{name}.yaml")) as here:
        await play(here.port, tmp_path / "sipp", *steps, service=number)
        record = await here.ended_record()
        call = await here.store.call(record["call_id"])
        assert call is not None
        assert call.route
        assert call.end_reason in ("caller_hung_up", "redirected")
