"""The options of a simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from gateway.errors import ConfigError
from gateway.lab.simulator.faults.faults import parse_fault
from gateway.lab.simulator.script import Script


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """
    Where the simulator listens and how it behaves.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        key: the only key accepted; None accepts any that is not empty.
        echo: send back every piece of audio as it comes, instead of listening and answering.
        think_ms: from ``response.created`` to the first audio.
        delta_ms: speech per audio delta.
        speed: seconds of speech sent per second; real services are several times faster than real time.
        faults: what goes wrong on every connection, each ``name`` or ``name=value`` (see ``faults.py``).
        script: what the agent does, response by response; a file, or what one would hold.
        context_tokens: the most input a model reads; None takes what the session's model has.
        require_safety_identifier: a connection without ``OpenAI-Safety-Identifier`` is a violation.
        sessions: of one model at once; more are refused with HTTP 429. None takes any number.
        shutdown: model -> the day on which it goes, as the list of models has it (YYYY-MM-DD, empty for none).
        tls_cert: PEM file of the certificate; with it and ``tls_key`` the simulator speaks TLS.
        tls_key: PEM file of its key.
        record_dir: where each connection's audio is written as WAV at its end.
        keep_audio_s: audio kept per connection and direction; 0 keeps none.
        keep_connections: ended connections kept for inspection; the oldest go first.

    Raises:
        ConfigError: a value that cannot work, all of them at once.
    """

    host: str = "127.0.0.1"
    port: int = 0
    key: str | None = None
    echo: bool = False
    think_ms: int = 150
    delta_ms: int = 250
    speed: float = 8.0
    faults: tuple[str, ...] = ()
    script: Path | Script | None = None
    context_tokens: int | None = None
    require_safety_identifier: bool = False
    sessions: int | None = None
    shutdown: Mapping[str, str] = field(default_factory=dict)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    record_dir: Path | None = None
    keep_audio_s: float = 600.0
    keep_connections: int = 500

    def __post_init__(self) -> None:
        problems = []
        if self.think_ms < 0:
            problems.append(f"think_ms: {self.think_ms} is negative; give 0 or more")
        if self.delta_ms < 20:
            problems.append(f"delta_ms: {self.delta_ms} is too short; give 20 or more")
        if not self.speed > 0:
            problems.append(f"speed: {self.speed} would never send anything; give a number above 0")
        if self.sessions is not None and self.sessions < 0:
            problems.append(f"sessions: {self.sessions} is negative; give 0 or more")
        problems += [
            f"shutdown: {model}={day} has no date; write YYYY-MM-DD"
            for model, day in self.shutdown.items()
            if not _is_day(day)
        ]
        if (self.tls_cert is None) != (self.tls_key is None):
            problems.append("tls_cert, tls_key: one of them is missing; give both")
        for fault in self.faults:
            try:
                parse_fault(fault)
            except ConfigError as error:
                problems.extend(error.problems)
        if problems:
            raise ConfigError(*problems)


def _is_day(text: str) -> bool:
    try:
        return not text or bool(date.fromisoformat(text))
    except ValueError:
        return False
