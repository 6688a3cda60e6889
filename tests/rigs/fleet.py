"""A fleet as a child process, on free ports, with a simulator of its own; what is left of its processes."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.child_process import ChildProcess
from gateway.lab.callers.gateway_process import on_loopback
from gateway.settings.sources import environment_for_child

START_LIMIT_S = 60.0


class Fleet(ChildProcess):
    """``gateway serve --calls N``; ready inside the block, ended with SIGTERM behind it."""

    def __init__(self, calls: int, variables: dict[str, str], *flags: str) -> None:
        super().__init__(
            *(sys.executable, "-X", "dev", "-m", "gateway", "serve", "--calls", str(calls), *flags),
            name="the fleet",
            environment=environment_for_child(variables),
            kept_lines=None,
            stop_limit_s=60,
        )
        self.port = 0

    async def ready(self) -> int:
        """Wait until it takes calls; return its SIP port."""
        self.port = int((await self.find(r"ready: sip:[^ ]*:(\d+)", START_LIMIT_S))[1])
        return self.port

    def worker_ports(self) -> list[int]:
        """Return the SIP ports of workers that were ready so far."""
        return [int(port) for port in re.findall(r"worker_ready .*sip=127\.0\.0\.1:(\d+)", self.output)]

    def worker_pids(self) -> list[int]:
        """Return the process ids of workers that were ready so far."""
        return [int(pid) for pid in re.findall(r"worker_ready .*name=\S+-(\d+) ", self.output)]

    def tree(self) -> set[int]:
        """Return the process ids of everything that it has started and that lives."""
        return descendants(self.pid)


@asynccontextmanager
async def open_fleet(
    folder: Path, calls: int = 12, *, simulate: bool = True, exit_code: int = 0, **variables: str
) -> AsyncIterator[Fleet]:
    """Run a fleet on the example plan; fails when it did not end in order, or left a process behind."""
    given = on_loopback(Path("dialplans/hello.yaml"), "ws://127.0.0.1:9/")
    # Calls are taken on a machine that is busy with other tests, too.
    given |= {"GATEWAY_FLEET__CONTROL": str(folder / "fleet.sock"), "GATEWAY_SIP__LATE_PERCENT": "0", **variables}
    async with Fleet(calls, given, *(["--simulate"] if simulate else [])) as fleet:
        await fleet.ready()
        yield fleet
        tree = fleet.tree() if fleet.exit_code is None else set()
        code = await fleet.stop()
    assert code == exit_code, fleet.output
    assert not [pid for pid in tree if is_running(pid)], fleet.output


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
