"""The robot and the demo, as people run them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gateway.audio.pcm import PHONE
from gateway.audio.resample import Downsampler
from gateway.audio.wav import read_stereo_wav
from gateway.child_process import ChildProcess
from gateway.free_port import free_port
from gateway.lab.callers.robot import RobotExit
from gateway.lab.demo import run_demo
from gateway.lab.figures.measure import correlation
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.speech import agent_sentences
from tests.rigs.house import MakeHouse

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


async def robot(*words: object) -> tuple[int, str]:
    async with ChildProcess(sys.executable, "-m", "gateway", "call", *map(str, words)) as process:
        return await process.wait(60), process.output


async def test_the_demo_tells_the_story_of_a_call(tmp_path: Path) -> None:
    told: list[str] = []
    done = await run_demo(tmp_path, ROOT / "dialplans" / "hello.yaml", told.append)
    assert done.exit_code == RobotExit.HEARD
    assert len(told) == 4
    whats = [(line.who, line.what) for line in done.story]
    for expected in (
        ("robot", "ringing"),
        ("simulator", "got session.update"),
        ("robot", "answered"),
        ("robot", "first agent audio"),
        ("gateway", "caller spoke"),
        ("robot", "hang-up by the robot"),
        ("simulator", "socket closed"),
    ):
        assert expected in whats
    # The agent was configured before the phone was answered, and greeted after it. (Whether the robot notes the answer
    # before the simulator notes the greeting is a matter of a millisecond.)
    order = [what for _, what in whats]
    assert order.index("got session.update") < order.index("answering") < order.index("got response.create")
    assert order.index("answering") < order.index("answered")
    rate_hz, caller, agent = read_stereo_wav(done.recording)
    assert rate_hz == PHONE.rate_hz
    assert any(caller)
    greeting = Downsampler().process(agent_sentences()[0].pcm24k)
    assert correlation(greeting, agent, rate_hz, 3000).peak > 0.9
    assert done.picture.read_bytes().startswith(b"\x89PNG")


async def test_the_robot_says_that_it_was_refused(house: MakeHouse, tmp_path: Path) -> None:
    async with house("refuse=invalid_model") as here:
        report = tmp_path / "report.json"
        code, printed = await robot(f"sip:1000@127.0.0.1:{here.port}", "--report", report)
    assert code == RobotExit.REFUSED, printed
    assert "call over by the far end" in printed
    assert json.loads(report.read_text())["sip_code"] == 503


async def test_the_robot_says_that_the_agent_was_silent(house: MakeHouse) -> None:
    # The agent thinks for longer than this caller stays.
    async with house(simulator=SimulatorOptions(think_ms=10_000)) as here:
        code, printed = await robot(f"sip:1000@127.0.0.1:{here.port}", "--listen", "--seconds", "1.5")
    assert code == RobotExit.SILENCE, printed


async def test_the_robot_says_that_nobody_answered() -> None:
    code, printed = await robot(f"sip:1000@127.0.0.1:{free_port()}", "--answer-limit", "1")
    assert code == RobotExit.NO_ANSWER, printed


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("1000",), "is not a SIP URI"),
        (("sip:1000@no-such-host.invalid",), "cannot be reached"),
        (("sip:1000@127.0.0.1", "--play", "nothing.wav"), "give a WAV file"),
    ],
)
async def test_the_robot_refuses_what_it_cannot_use(words: tuple[str, ...], cure: str) -> None:
    code, printed = await robot(*words)
    assert code == RobotExit.FAILED
    assert cure in printed
    assert "Traceback" not in printed
