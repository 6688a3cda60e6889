"""A fleet as a child process, on free ports, with a simulator of its own; what is left of its processes."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.child_process import ChildProcess
from gateway.fleet.control import ask
from gateway.lab.callers.gateway_process import on_loopback
from gateway.settings.sources import environment_for_child

START_LIMIT_S = 60.0


class Fleet(ChildProcess):
    """
    ``gateway serve --calls N``, started inside the block and ended with SIGTERM behind it.

    Attributes:
        port: SIP port of its edge, once it is ready; 0 for an edge elsewhere.
        control: its socket for ``gateway fleet``.
    """

    def __init__(self, folder: Path, calls: int, *flags: str, variables: dict[str, str]) -> None:
        self.control = folder / "fleet.sock"
        given = on_loopback(Path("dialplans/hello.yaml"), "ws://127.0.0.1:9/")
        # Calls are taken on a machine that is busy with other tests, too.
        given |= {"GATEWAY_SIP__LATE_PERCENT": "0", "GATEWAY_CALL__SETUP_LIMIT_S": "25"}
        given |= {"GATEWAY_FLEET__CONTROL": str(self.control), **variables}
        super().__init__(
            *(sys.executable, "-X", "dev", "-m", "gateway", "serve", "--calls", str(calls), *flags),
            name="the fleet",
            environment=environment_for_child(given),
            kept_lines=None,
            stop_limit_s=60,
        )
        self.port = 0

    async def ready(self) -> None:
        """Wait until it takes calls."""
        found = await self.find(r"^ready: (?:sip:[^ ]*:(\d+)|workers)", START_LIMIT_S)
        self.port = int(found[1] or 0)

    async def status(self) -> dict[str, Any]:
        """Return what ``gateway fleet status`` shows."""
        return await ask(self.control, "status")

    def worker_pids(self) -> list[int]:
        """Return the process ids of all workers that were ready so far."""
        return [int(pid) for pid in re.findall(r"worker_ready .*worker=\S+-(\d+)\b", self.output)]

    async def workers(self) -> dict[str, dict[str, Any]]:
        """Return its workers, by name."""
        return {worker["worker"]: worker for worker in (await self.status())["workers"]}

    def tree(self) -> set[int]:
        """Return the process ids of everything that it has started and that lives."""
        return descendants(self.pid)


@asynccontextmanager
async def open_fleet(
    folder: Path, variables: dict[str, str] | None = None, *, calls: int = 12, exit_code: int = 0
) -> AsyncIterator[Fleet]:
    """Run a fleet on the example plan; fails when it did not end with this code, or left a process or a file."""
    async with Fleet(folder, calls, "--simulate", variables=variables or {}) as fleet:
        await fleet.ready()
        yield fleet
        tree = fleet.tree() if fleet.exit_code is None else set()
        code = await fleet.stop()
    assert code == exit_code, fleet.output
    assert not [pid for pid in tree if is_running(pid)], fleet.output
    if code == 0:
        assert not fleet.control.exists()
        for found in re.findall(r"/\S*gateway-(?:redis|edge)-\w+", fleet.output):
            assert not Path(found).exists(), found


def pid_of(worker: str) -> int:
    """Return the process id in the name of a worker."""
    return int(worker.rpartition("-")[2])


def descendants(pid: int) -> set[int]:
    """Return the process ids of all below a process."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        below.setdefault(parent, []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in below.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
