from __future__ import annotations

import os
import sys

import pytest

from gateway.fleet import handover
from gateway.fleet.handover import ChildState, Handover, MemberState

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("more", [[], ["--resume", "7"]])
def test_the_program_is_started_again_with_its_own_command_line(
    more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "gateway", "serve", "--calls", "40", *more, "--port", "0"])
    command = [sys.executable, "-m", "gateway", "serve", "--calls", "40", "--port", "0", "--resume", "9"]
    assert handover.program(9) == command


def test_what_is_handed_over_comes_out_as_it_went_in(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, output = os.pipe()
    child = ChildState(7, pipe, output, "half a li")
    condition = {"worker": "w-7", "state": "ready", "live_calls": 2, "capacity": 4, "sip": "127.0.0.1:5070"}
    member = MemberState(child, 3, 0, 5070, 1.5, 2.5, condition, leaving=False, old=True)
    given = Handover((member,), {"redis_url": "unix:///r"}, redis="[1, 2]", simulator=child, is_ready=False)
    memories: list[int] = []
    masks: list[object] = []

    def execute(program: str, words: list[str]) -> None:
        memories.append(int(words[-1]))
        assert os.get_inheritable(pipe)
        assert os.get_inheritable(output)

    monkeypatch.setattr(os, "execv", execute)
    monkeypatch.setattr("signal.pthread_sigmask", lambda how, signals: masks.append(signals))
    handover.become(given)
    assert masks == [handover.SIGNALS]
    assert handover.resumed(memories[0]) == given
    assert not os.get_inheritable(pipe)
    os.close(pipe)
    os.close(output)
