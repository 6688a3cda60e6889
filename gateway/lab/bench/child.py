"""The programs that the bench starts, and what they use."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gateway
from gateway.child_process import ChildProcess
from gateway.errors import ConfigError, GatewayError
from gateway.settings.sources import environment_for_child

PYTHON = (sys.executable, "-X", "utf8")
Kind = Literal["gateway", "edge", "redis"]
_KINDS: dict[str, Kind] = {"kamailio": "edge", "rtpengine": "edge", "redis-server": "redis"}
_SOURCE = Path(gateway.__file__).parents[1]
_STOP_S = 20.0


class BenchFailed(GatewayError):
    """A measurement could not be made; says why."""


@dataclass(frozen=True, slots=True)
class Process:
    """
    One process of a program.

    Attributes:
        pid: its id.
        kind: a part of the gateway, the edge, or Redis.
        is_worker: of the gateway, it takes calls: it has a UDP socket.
    """

    pid: int
    kind: Kind
    is_worker: bool

    def cpu_s(self) -> float:
        """Return the CPU it has used, user and system, all threads, to the nanosecond; 0 where it has ended."""
        try:
            # What clock_getcpuclockid(3) gives for a process on Linux: the scheduler's clock (posix-timers.h).
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return 0.0

    def pss_mb(self) -> float:
        """Return its share of memory, in MiB: its own pages, and its part of those it shares; 0 where it has ended."""
        try:
            text = Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            return 0.0
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024

    def sockets(self) -> int:
        """Return how many sockets it has open; 0 where it has ended."""
        try:
            descriptors = [*Path(f"/proc/{self.pid}/fd").iterdir()]
        except OSError:
            return 0
        return sum(_is_socket(each) for each in descriptors)


def processes_of(pid: int) -> list[Process]:
    """Return a process, what it has started, and what those have started; raises ``psutil.Error`` if it has ended."""
    psutil = _psutil()
    root = psutil.Process(pid)
    made = []
    for each in [root, *root.children(recursive=True)]:
        try:
            kind = _KINDS.get(each.name(), "gateway")
            made.append(Process(each.pid, kind, kind == "gateway" and bool(each.net_connections("udp"))))
        except psutil.Error:  # ended meanwhile
            continue
    return made


class MeasuredProcess(ChildProcess):
    """
    One running program and all it has started.

    Args:
        name: for messages.
        command: program and arguments.
        work_dir: its working directory.
        environment: settings of the gateway; those of the person who runs the bench do not reach what is measured.
    """

    def __init__(
        self, name: str, command: Sequence[str], work_dir: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        python = {"PYTHONPATH": str(_SOURCE), "PYTHONUNBUFFERED": "1", "TERM": "dumb"}
        variables = environment_for_child({**python, **(environment or {})})
        super().__init__(
            *command, name=name, environment=variables, folder=work_dir, kept_lines=None, stop_limit_s=_STOP_S
        )

    def processes(self) -> list[Process]:
        """Return it and what it has started, and what those have started."""
        psutil = _psutil()
        try:
            return processes_of(self.pid)
        except psutil.Error:
            raise self.failure("has ended") from None

    def rss_mb(self) -> float:
        """Return the resident set of the largest process of the gateway's, in MiB."""
        psutil = _psutil()
        sizes = [0.0]
        for each in self.processes():
            try:
                sizes.append(float(psutil.Process(each.pid).memory_info().rss / 2**20))
            except psutil.Error:
                continue
        return max(sizes)


def _is_socket(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except OSError:
        return False


def _psutil() -> Any:
    try:
        import psutil
    except ImportError:
        raise ConfigError(
            "the bench needs psutil, which is not installed: pip install 'sip-voice-gateway[lab]'"
        ) from None
    return psutil
