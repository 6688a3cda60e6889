"""A program that the bench starts and measures."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gateway
from gateway.child_process import ChildProcess
from gateway.errors import ConfigError, GatewayError

PYTHON = (sys.executable, "-X", "utf8")
_SOURCE = Path(gateway.__file__).parents[1]
_STOP_S = 8.0


class BenchFailed(GatewayError):
    """A measurement could not be made; says why."""


class MeasuredProcess(ChildProcess):
    """
    One running program.

    Args:
        name: for messages.
        command: program and arguments.
        work_dir: its working directory.
        environment: all of its environment but for what Python needs to find the gateway: settings of the person
            who runs the bench do not reach what is measured.
    """

    def __init__(
        self, name: str, command: Sequence[str], work_dir: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        python = {"PYTHONPATH": str(_SOURCE), "PYTHONUNBUFFERED": "1", "TERM": "dumb"}
        environment = {**python, **(environment or {})}
        super().__init__(*command, name=name, environment=environment, folder=work_dir, stop_limit_s=_STOP_S)

    def cpu_s(self) -> float:
        """Return the seconds of CPU that this process alone has used, user and system, all its threads."""
        times = _psutil().Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Return the memory that this process alone holds now, in MiB."""
        return float(_psutil().Process(self.pid).memory_info().rss / 2**20)


def _psutil() -> Any:
    try:
        import psutil
    except ImportError:
        raise ConfigError(
            "the bench needs psutil, which is not installed: pip install 'sip-voice-gateway[lab]'"
        ) from None
    return psutil
