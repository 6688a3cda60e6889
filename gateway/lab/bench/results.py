"""What the bench has measured, as values; the JSON that other programs read, and the rows of the table for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.lab.figures.measure import percentile

Row = tuple[str, str, str, str]
"""A name, the gateway's figure, the floor's, the unit."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """
    CPU over a window, in percent of one core.

    Attributes:
        gateway: all processes of the gateway: workers and supervisor; of the floor, all loopbacks.
        edge: the SIP proxy in front.
        redis: its store.
        model: the simulated voice model.
        callers: the bench itself, which is all callers.
        machine: everything on this machine, the above and what else ran; up to 100 per core.
    """

    gateway: float = 0.0
    edge: float = 0.0
    redis: float = 0.0
    model: float = 0.0
    callers: float = 0.0
    machine: float = 0.0

    @property
    def others(self) -> float:
        """What other programs and the kernel's own threads used."""
        own = self.gateway + self.edge + self.redis + self.model + self.callers
        return max(0.0, self.machine - own)


@dataclass(frozen=True, slots=True)
class Window:
    """
    What so many calls cost and heard, over some time.

    Attributes:
        calls: calls that were up all the time.
        seconds: its length.
        cpu: see there.
        interval_p50_ms: time between packets at the receivers, all calls together.
        interval_p99_ms: the same, 99 % are not longer.
        interval_max_ms: the longest.
        received: packets, all calls together.
        fewest: packets of the call with the fewest.
        lost: packets that never came.
        dropped: packets that came and the bench was too slow to read; they count as lost, too.
        speech_share: share of packets with speech, of the call with the least.
    """

    calls: int
    seconds: float
    cpu: Cpu
    interval_p50_ms: float
    interval_p99_ms: float
    interval_max_ms: float
    received: int
    fewest: int
    lost: int
    dropped: int
    speech_share: float

    @property
    def cpu_per_call(self) -> float:
        """CPU of the gateway per call, in percent of one core."""
        return self.cpu.gateway / max(self.calls, 1)

    @property
    def is_whole(self) -> bool:
        """Whether every call received audio all the time."""
        return self.fewest >= 0.95 * self.seconds * 50

    def to_json(self) -> dict[str, float | int]:
        """Return the figures of one step of the ramp."""
        return {
            "calls": self.calls,
            "seconds": round(self.seconds, 1),
            "cpu_percent_per_call": round(self.cpu_per_call, 3),
            "edge_cpu_percent": round(self.cpu.edge, 2),
            "redis_cpu_percent": round(self.cpu.redis, 2),
            "model_cpu_percent": round(self.cpu.model, 2),
            "callers_cpu_percent": round(self.cpu.callers, 2),
            "others_cpu_percent": round(self.cpu.others, 1),
            "machine_cpu_percent": round(self.cpu.machine, 1),
            "rtp_interval_p50_ms": round(self.interval_p50_ms, 2),
            "rtp_interval_p99_ms": round(self.interval_p99_ms, 2),
            "rtp_interval_max_ms": round(self.interval_max_ms, 2),
            "rtp_received": self.received,
            "rtp_lost": self.lost,
            "rtp_dropped_by_the_bench": self.dropped,
            "speech_share": round(self.speech_share, 3),
        }


@dataclass(frozen=True, slots=True)
class Setup:
    """
    How the calls of a ramp began, in milliseconds, a figure for each call.

    Attributes:
        asked: calls that were placed.
        refused: how many were refused, by the code.
        setup_ms: from the INVITE sent to its 200 received.
        after_ack_ms: from the 200 (our ACK leaves at once) to the first packet with speech.
        after_delta_ms: from the model's first audio to the first packet with speech, less what the sentence itself
            is silent at its beginning.
    """

    asked: int
    refused: Mapping[int, int]
    setup_ms: Sequence[float]
    after_ack_ms: Sequence[float]
    after_delta_ms: Sequence[float]


@dataclass(frozen=True, slots=True)
class Memory:
    """
    Memory with all calls up, in MiB.

    Attributes:
        calls: calls that were up.
        age_s: how long the last of them had been up.
        gateway: proportional set size of all processes of the gateway together.
        edge: of the SIP proxy's.
        processes: of the gateway.
        workers: of these, those that take calls.
        largest_rss: resident set of the largest of the gateway's processes.
    """

    calls: int
    age_s: float
    gateway: float
    edge: float
    processes: int
    workers: int
    largest_rss: float

    @property
    def per_call(self) -> float:
        """Memory of the gateway per call."""
        return self.gateway / max(self.calls, 1)


@dataclass(frozen=True, slots=True)
class Canary:
    """
    One call among the others that gets its own voice back, in milliseconds.

    Attributes:
        setup_ms: from INVITE to 200.
        delay_ms: from its mouth to its ear through the gateway, the model and the gateway, median of half seconds.
        longest_delay_ms: the longest of these.
        interval_p99_ms: between its packets.
        interval_max_ms: the longest.
        lost: packets.
        seconds: how long it spoke.
    """

    setup_ms: float
    delay_ms: float
    longest_delay_ms: float
    interval_p99_ms: float
    interval_max_ms: float
    lost: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ShortCalls:
    """
    Many short calls, one after the other.

    Attributes:
        rate: calls per second that were placed.
        seconds: for how long.
        hold_s: each was up for so long.
        placed: calls.
        answered: of these.
        refused: of these, by the code.
        lost: no final answer, or none to our BYE, or ended by the far end too soon.
        setup_ms: from INVITE to 200 of each answered one.
        sockets: of the gateway's processes before the first, after the last, and ``after_s`` later.
        memory_mb: the same of their memory.
        after_s: seconds between the last call and the last figures.
        cpu: during the calls.
    """

    rate: float
    seconds: float
    hold_s: float
    placed: int
    answered: int
    refused: Mapping[int, int]
    lost: int
    setup_ms: Sequence[float]
    sockets: tuple[int, int, int]
    memory_mb: tuple[float, float, float]
    after_s: float
    cpu: Cpu

    def to_json(self) -> dict[str, object]:
        """Return the figures by the names that other programs read."""
        return {
            "rate_per_s": self.rate,
            "seconds": self.seconds,
            "hold_s": self.hold_s,
            "placed": self.placed,
            "answered": self.answered,
            "refused": {str(code): count for code, count in sorted(self.refused.items())},
            "lost": self.lost,
            "setup_p50_ms": _percentile(self.setup_ms, 50),
            "setup_p95_ms": _percentile(self.setup_ms, 95),
            "cpu_ms_per_call": round(self.cpu.gateway / 100 * self.seconds / max(self.answered, 1) * 1000, 1),
            "edge_cpu_percent": round(self.cpu.edge, 1),
            "sockets": list(self.sockets),
            "memory_mb": [round(each, 1) for each in self.memory_mb],
            "after_s": self.after_s,
        }


@dataclass(frozen=True, slots=True)
class BenchResult:
    """
    All figures of one run on one machine.

    Attributes:
        asked: calls that were wanted at once.
        setup: how they began.
        steps: a window for each step of the ramp, the last with all calls.
        floors: the same calls looped inside PJMEDIA, before and after; empty where that was left out.
        floor_rss_mb: memory of one such process.
        idle_percent: CPU of one worker without calls, in percent of one core; None where not measured.
        idle_workers: how many of them were there.
        memory: with all calls up.
        canary: None where not measured.
        short: None where not asked for.
        uplink_ms: caller audio per message to the model.
        machine: name -> what it ran on.
        gave_first: of a search for the most calls, what gave way beyond ``asked``; empty for no search.
        errors: what went wrong, in words.
        notes: what was not measured, or in another way, in words.
        command: repeats the run.
        log: what the gateway wrote.
    """

    asked: int
    setup: Setup
    steps: Sequence[Window]
    memory: Memory
    floors: Sequence[Window] = ()
    floor_rss_mb: float = 0.0
    idle_percent: float | None = None
    idle_workers: int = 0
    canary: Canary | None = None
    short: ShortCalls | None = None
    uplink_ms: int = 20
    machine: Mapping[str, str] = field(default_factory=dict)
    gave_first: str = ""
    errors: Sequence[str] = ()
    notes: Sequence[str] = ()
    command: str = ""
    log: str = ""

    @property
    def full(self) -> Window:
        """The window with all calls."""
        return self.steps[-1]

    @property
    def floor_per_call(self) -> float | None:
        """CPU of a call inside PJMEDIA alone, in percent of one core: the mean of the two windows."""
        return statistics.fmean(each.cpu_per_call for each in self.floors) if self.floors else None

    @property
    def floor_ratio(self) -> float | None:
        """CPU of the gateway per call as a multiple of the least the same calls can cost."""
        floor = self.floor_per_call
        return self.full.cpu_per_call / max(floor, 1e-9) if floor is not None else None

    @property
    def idle_ratio(self) -> float | None:
        """CPU of an idle worker as a multiple of the least that one call can cost."""
        floor = self.floor_per_call
        return None if floor is None or self.idle_percent is None else self.idle_percent / max(floor, 1e-9)

    def to_json(self) -> dict[str, object]:
        """Return the figures by the names that other programs read; milliseconds, MiB, percent of one core."""
        full, setup, memory = self.full, self.setup, self.memory
        figures: dict[str, object] = {
            **full.to_json(),
            "asked": self.asked,
            "refused": {str(code): count for code, count in sorted(setup.refused.items())},
            "floor_ratio": _rounded(self.floor_ratio, 2),
            "floor_cpu_percent_per_call": _rounded(self.floor_per_call, 3),
            "idle_worker_cpu_percent": _rounded(self.idle_percent, 3),
            "idle_ratio": _rounded(self.idle_ratio, 3),
            "pss_mb_per_call": round(memory.per_call, 2),
            "pss_mb": round(memory.gateway, 1),
            "pss_age_s": round(memory.age_s),
            "edge_pss_mb": round(memory.edge, 1),
            "processes": memory.processes,
            "workers": memory.workers,
            "rss_mb": round(memory.largest_rss, 1),
            "setup_p50_ms": _percentile(setup.setup_ms, 50),
            "setup_p95_ms": _percentile(setup.setup_ms, 95),
            "first_audio_ms": _percentile(setup.after_ack_ms, 50),
            "first_audio_max_ms": _percentile(setup.after_ack_ms, 100),
            "first_audio_after_delta_p50_ms": _percentile(setup.after_delta_ms, 50),
            "first_audio_after_delta_p95_ms": _percentile(setup.after_delta_ms, 95),
            "uplink_ms": self.uplink_ms,
            "steps": [step.to_json() for step in self.steps],
            "canary": None if self.canary is None else _canary(self.canary),
            "short_calls": None if self.short is None else self.short.to_json(),
            "gave_first": self.gave_first,
            "errors": list(self.errors),
            "notes": list(self.notes),
            "machine": dict(self.machine),
            "command": self.command,
        }
        if self.floors:
            figures["floor_rss_mb"] = round(self.floor_rss_mb, 1)
            figures["floor_rtp_interval_p99_ms"] = round(max(each.interval_p99_ms for each in self.floors), 2)
            figures["floor_windows_cpu_percent_per_call"] = [round(each.cpu_per_call, 3) for each in self.floors]
        return figures

    def rows(self) -> Iterator[Row]:
        """Yield the table for people."""
        full, floors, setup = self.full, self.floors, self.setup
        yield "calls held", f"{full.calls} of {self.asked}", f"{floors[-1].calls}" if floors else "", ""
        floor = self.floor_per_call
        yield "CPU per call", f"{full.cpu_per_call:.2f}", _figure(floor, "{:.2f}"), "% of one core"
        yield "as a multiple of the floor", _figure(self.floor_ratio, "{:.1f}"), "1.0" if floors else "", ""
        yield from self._idle_and_memory()
        yield "setup, INVITE to 200: p50 / p95", _pair(setup.setup_ms), "", "ms"
        yield "first audio after the model's first delta: p50 / p95", _pair(setup.after_delta_ms), "", "ms"
        yield "first audio after the ACK: p50 / p95", _pair(setup.after_ack_ms), "", "ms"
        for name, key in (("median", "p50"), ("99 %", "p99"), ("longest", "max")):
            own = getattr(full, f"interval_{key}_ms")
            least = max((getattr(each, f"interval_{key}_ms") for each in floors), default=None)
            yield f"RTP interval, {name}", f"{own:.1f}", _figure(least, "{:.1f}"), "ms"
        lost = str(sum(each.lost for each in floors)) if floors else ""
        yield "RTP packets lost", f"{full.lost} of {full.received + full.lost}", lost, ""
        share = f"{min(each.speech_share for each in floors):.0%}" if floors else ""
        yield "packets with speech, least of the calls", f"{full.speech_share:.0%}", share, ""
        yield from self._canary_rows()
        yield from self._share_rows()

    def _idle_and_memory(self) -> Iterator[Row]:
        if self.idle_percent is not None:
            yield f"CPU of an idle worker (of {self.idle_workers})", f"{self.idle_percent:.2f}", "", "% of one core"
            yield "as a multiple of a call of the floor", _figure(self.idle_ratio, "{:.2f}"), "", ""
        memory = self.memory
        yield f"memory (PSS) per call, {memory.age_s:.0f} s old", f"{memory.per_call:.1f}", "", "MiB"
        of = f"{memory.processes} processes, {memory.workers} workers"
        floor = f"{self.floor_rss_mb:.1f}" if self.floors else ""
        yield f"memory of all ({of})", f"{memory.gateway:.1f}", "", "MiB"
        yield "memory (RSS) of the largest process", f"{memory.largest_rss:.1f}", floor, "MiB"

    def _canary_rows(self) -> Iterator[Row]:
        if self.canary is None:
            return
        seen = self.canary
        yield "canary: setup", f"{seen.setup_ms:.0f}", "", "ms"
        delays = f"{seen.delay_ms:.0f} / {seen.longest_delay_ms:.0f}"
        yield "canary: its voice and back, median / longest", delays, "", "ms"
        intervals = f"{seen.interval_p99_ms:.1f} / {seen.interval_max_ms:.1f}"
        yield "canary: RTP interval, 99 % / longest", intervals, "", "ms"
        yield "canary: packets lost", str(seen.lost), "", ""

    def _share_rows(self) -> Iterator[Row]:
        cpu = self.full.cpu
        floor = self.floors[-1].cpu if self.floors else None
        for name in ("gateway", "edge", "redis", "model", "callers", "others"):
            title = {"redis": "Redis", "model": "model (simulated)", "others": "other programs of this machine"}
            least = _figure(None if floor is None else getattr(floor, name), "{:.1f}")
            yield f"CPU of {title.get(name, name)}", f"{getattr(cpu, name):.1f}", least, "% of one core"


def short_rows(short: ShortCalls) -> Iterator[tuple[str, str]]:
    """Yield the table of the short calls."""
    refused = ", ".join(f"{count} with {code}" for code, count in sorted(short.refused.items())) or "0"
    yield "calls per second", f"{short.rate:g} for {short.seconds:g} s, each {short.hold_s:g} s long"
    yield "answered", f"{short.answered} of {short.placed}"
    yield "refused", refused
    yield "lost", str(short.lost)
    yield "setup, INVITE to 200: p50 / p95", f"{_pair(short.setup_ms)} ms"
    yield "CPU of the gateway, of the edge", f"{short.cpu.gateway:.0f} %, {short.cpu.edge:.0f} % of one core"
    when = f"before / after / {short.after_s:g} s later"
    yield f"sockets of the gateway {when}", " / ".join(map(str, short.sockets))
    yield f"memory (PSS) of the gateway {when}", " / ".join(f"{each:.0f}" for each in short.memory_mb) + " MiB"


def _canary(canary: Canary) -> dict[str, float]:
    return {
        "setup_ms": round(canary.setup_ms, 1),
        "delay_ms": round(canary.delay_ms, 1),
        "longest_delay_ms": round(canary.longest_delay_ms, 1),
        "rtp_interval_p99_ms": round(canary.interval_p99_ms, 2),
        "rtp_interval_max_ms": round(canary.interval_max_ms, 2),
        "rtp_lost": canary.lost,
        "seconds": canary.seconds,
    }


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return round(percentile(values, percent), 1) if values else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _pair(values: Sequence[float]) -> str:
    return f"{percentile(values, 50):.0f} / {percentile(values, 95):.0f}" if values else "not measured"
