"""CPU over a window: of each program by the scheduler's clock, of the machine by the kernel's counters."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.lab.bench.child import Process
from gateway.lab.bench.results import Cpu

_CLOCK_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Programs:
    """
    Whose CPU counts as whose.

    Attributes:
        gateway: its processes, its edge among them; or those of the floor.
        model: pid of the model; 0 for none.
        redis: pid of Redis; 0 for none.
    """

    gateway: tuple[Process, ...]
    model: int = 0
    redis: int = 0


class CpuWindow:
    """Reads the clocks when it is made; ``so_far`` gives what was used since."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._before = _reading(programs)

    def so_far(self) -> Cpu:
        """Return the CPU used since, in percent of one core."""
        now, before = _reading(self._programs), self._before
        seconds = max(now["wall"] - before["wall"], 1e-9)
        used = {name: (now[name] - before[name]) / seconds * 100 for name in now if name != "wall"}
        return Cpu(**used)


def _reading(programs: Programs) -> dict[str, float]:
    return {
        "wall": time.monotonic(),
        "gateway": _sum(each for each in programs.gateway if each.kind == "gateway"),
        "edge": _sum(each for each in programs.gateway if each.kind == "edge"),
        "redis": _of(programs.redis) + _sum(each for each in programs.gateway if each.kind == "redis"),
        "model": _of(programs.model),
        "callers": time.process_time(),
        "machine": _machine_s(),
    }


def _sum(processes: Iterable[Process]) -> float:
    return sum(each.cpu_s() for each in processes)


def _of(pid: int) -> float:
    return Process(pid, "gateway", False).cpu_s() if pid else 0.0


def _machine_s() -> float:
    """Return the CPU that everything has used, without waiting and without what a host took away."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / _CLOCK_TICK
