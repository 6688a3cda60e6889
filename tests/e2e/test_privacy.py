"""How much of the people in a call is found, after it, in Redis, in the log and in files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.simulator.script import Script
from gateway.settings.sections import RedisSettings
from gateway.store.erase import erase_caller
from tests.rigs.house import House, MakeHouse
from tests.rigs.redis_dump import dump_of
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

NUMBER, USER, DISPLAY = "4930123456789", "mallory.private", "Mallory Private"
SPOKEN = "030 1234 56789"
PLAN = """
agents:
  tester:
    instructions: Answer {{ caller }} shortly.
    greeting: Say hello.
    recording: {mode: "on"}
routes:
  - name: everyone
    agent: tester
    metadata: {caller: "{{ caller }}", called: "{{ called }}"}
    limits: {per_caller: {max_calls: 3}}
"""


@dataclass(frozen=True)
class Left:
    """What a call left behind, as text."""

    redis: str
    log: str
    files: dict[str, bytes]

    def finds(self, *words: str) -> set[str]:
        """Return in which of them any of the words is, files by their ending."""
        found = {
            name for name, text in (("redis", self.redis), ("log", self.log)) if any(word in text for word in words)
        }
        for name, data in self.files.items():
            if any(word in name or word.encode() in data for word in words):
                found.add(name[-4:])
        return found


def named(step: str, caller: str) -> str:
    """Return a step of SIPp in which somebody else calls, with a name."""
    step = step.replace('"caller" <sip:caller@', f'"{DISPLAY}" <sip:{caller}@').replace(
        "<sip:caller@", f"<sip:{caller}@"
    )
    return step.replace("Call-ID: [call_id]", f"Call-ID: {caller}///[call_id]")  # SIPp skips what is before


async def call(house: MakeHouse, folder: Path, caller: str, *, erased: bool = False, **settings: str) -> Left:
    """Make a call in which the agent repeats the caller's number; return what it left, once it was erased if asked."""
    files = folder / "files"
    words = f"Hello {DISPLAY.split()[0]}, your number is {SPOKEN}."
    script = Script.model_validate({"answers": [{"output": [{"say": words, "for_s": 1}]}]})
    given = {
        **{"GATEWAY_SIP__TRACE": "all", "GATEWAY_SIP__TRACE_FOLDER": str(files / "traces")},
        **{"GATEWAY_RECORDING__FOLDER": str(files / "recordings"), "GATEWAY_LOG__LEVEL": "debug"},
        **settings,
    }
    async with house(dialplan=PLAN, simulator=SimulatorOptions(script=script), **given) as here, RtpPeer() as phone:
        steps = tuple(named(step, caller) for step in (invite(phone.port), ANSWERED, pause(3000), BYE))
        async with Sipp(here.port, steps, folder / "sipp") as sipp:
            phone.talk()
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: ended(here), what="the end of the call in the log")
        if settings.get("GATEWAY_PRIVACY__MODE") != "counts":
            await here.ended_record()
            await until(lambda: len(list(files.rglob("*.pcap"))) == 1, what="the trace")
        if erased:
            await erase(here, files, caller)
        redis = dump_of(here.redis_url)
    left = {str(path.relative_to(files)): path.read_bytes() for path in files.rglob("*") if path.is_file()}
    return Left(redis, here.gateway.output, left)


async def erase(here: House, files: Path, caller: str) -> None:
    """Erase all that is kept of a caller; trying it first changes nothing."""
    settings = RedisSettings.model_validate({"url": here.redis_url})
    before = dump_of(here.redis_url)
    for dry_run in (True, False):
        found = await erase_caller(
            settings, caller, recordings=files / "recordings", traces=files / "traces", dry_run=dry_run
        )
        assert (len(found.calls), found.records, found.cdrs, found.limits, len(found.files)) == (1, 1, 1, 1, 3)
        assert found.events > 5
        assert found.live == found.files_elsewhere == ()
        assert not dry_run or "{gateway}:call:" in before


def ended(here: House) -> bool:
    return any("call_state" in line and re.search(r"\bended\b", line) for line in here.gateway.lines)


@pytest.mark.parametrize("caller", [f"+{NUMBER}", USER])
async def test_all_of_a_call_is_kept_unless_the_settings_say_otherwise(
    house: MakeHouse, tmp_path: Path, caller: str
) -> None:
    left = await call(house, tmp_path, caller)
    assert left.finds(caller) >= {"redis", ".txt", "pcap"}
    assert SPOKEN in left.redis
    assert any(name.endswith(".wav") for name in left.files)


@pytest.mark.parametrize("caller", [f"+{NUMBER}", USER])
async def test_numbers_and_users_are_shortened_wherever_they_are_written(
    house: MakeHouse, tmp_path: Path, caller: str
) -> None:
    left = await call(house, tmp_path, caller, GATEWAY_PRIVACY__MODE="shortened")
    assert left.finds(NUMBER, USER, DISPLAY, SPOKEN, NUMBER.removeprefix("49")) == set()
    assert ("+493012345****" if caller != USER else "m**************") in left.redis
    assert "030 1234 5****" in left.redis
    assert {Path(name).suffix for name in left.files} == {".txt", ".pcap", ".wav"}


@pytest.mark.parametrize("caller", [f"+{NUMBER}", USER])
async def test_nothing_but_counts_is_kept_where_that_is_what_is_asked_for(
    house: MakeHouse, tmp_path: Path, caller: str
) -> None:
    left = await call(house, tmp_path, caller, GATEWAY_PRIVACY__MODE="counts")
    assert left.finds(NUMBER, USER, DISPLAY, DISPLAY.split()[0], SPOKEN, NUMBER.removeprefix("49")) == set()
    assert left.files == {}
    assert ":events" not in left.redis
    assert ":cdrs" not in left.redis
    (mark,) = [line for line in left.redis.splitlines() if line.startswith("{gateway}:call:")]
    assert re.fullmatch(r"[^ ]+ {'call_id': '\w+', 'state': 'ended', 'privacy': 'counts', 'cdr': '-'}", mark), mark
    assert "{gateway}:totals:" in left.redis
    assert "end_reason" in left.log


@pytest.mark.parametrize("caller", [f"+{NUMBER}", USER])
async def test_nothing_of_a_person_is_left_once_it_was_erased(house: MakeHouse, tmp_path: Path, caller: str) -> None:
    left = await call(house, tmp_path, caller, erased=True)
    assert left.finds(NUMBER, USER, SPOKEN, NUMBER.removeprefix("49")) <= {"log"}
    assert left.files == {}
    assert "{gateway}:call:" not in left.redis
    assert "{gateway}:totals:" in left.redis
