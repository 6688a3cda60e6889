"""Fixtures that every category shares, and the checks that nothing is left behind."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from gateway.threads import check_threads, enter_role

if TYPE_CHECKING:
    from tests.rigs.redis_server import RedisServer

check_threads()  # before any other module of the gateway is loaded
# A slow machine is no mistake.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")

_MAKEFILE = Path(__file__).parents[1] / "Makefile"
_INSTALLED = frozenset(re.findall(r"^(/usr/\S+):", _MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE))
# Every Debian has uname, which the platform module asks, and unshare; matplotlib asks fc-list, where there is one.
_EVERYWHERE = frozenset({"/usr/bin/uname", "/usr/bin/unshare", "/usr/bin/fc-list", "fc-list"})
_started: list[str] = []


def _note_program(event: str, arguments: tuple[object, ...]) -> None:
    if event == "subprocess.Popen":
        _started.append(str(arguments[0]))


sys.addaudithook(_note_program)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, on a free TCP port."""
    from tests.rigs.redis_server import RedisServer as Server  # loads the gateway, which the checks of threads precede

    server = Server(tcp=True)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def a_test_runs_on_the_loop() -> None:
    """Every test is the loop's thread; ``tests/fakes/threads.py`` plays the others."""
    enter_role("loop")


@pytest.fixture(autouse=True)
def every_program_is_installed() -> Iterator[None]:
    """A test that starts a program fails, unless it is ours, the test's own, or one that the Makefile installs."""
    _started.clear()
    yield
    paths = {shutil.which(name) or name for name in _started} - _INSTALLED - _EVERYWHERE
    foreign = [path for path in paths if not path.startswith((sys.prefix, tempfile.gettempdir()))]
    assert not foreign, f"installed by no target of the Makefile: {foreign}"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """A test that leaves a thread of ours running fails; asyncio keeps its own, and those that wait for a child."""
    before = set(threading.enumerate())
    yield
    new = set(threading.enumerate()) - before
    ours = [thread for thread in new if not thread.name.startswith(("asyncio", "ThreadPoolExecutor", "waitpid-"))]
    for thread in ours:
        thread.join(5)  # one that has given its result may still be on its last lines
    left = [thread.name for thread in ours if thread.is_alive()]
    assert not left, f"threads left running: {left}"


@pytest.fixture(autouse=True)
def no_task_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An asynchronous test whose loop still holds a task when it is closed fails."""
    left: list[str] = []
    cancel_all_tasks = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined] # no name of it is public

    def note_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
        left.extend(str(task) for task in asyncio.all_tasks(loop))
        cancel_all_tasks(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", note_and_cancel)
    yield
    assert not left, f"tasks left running: {left}"
