"""
The bench. A run measures the gateway between two measurements of the floor, and whatever happens stops what it started.

How this folder works. ``run_bench`` goes through these phases, each a function here or a module beside:

1. The floor: the same calls go to loopbacks (``gateway.sip.library.loopback``), which join each call with itself inside
   PJMEDIA: the least that they can cost with this stack. Each loopback has as many calls as a worker holds. Half of
   this window comes before the gateway's and half after, so that a machine that grows faster or slower meanwhile
   changes both.
2. The house (``house.py``): Redis, a model (``model.py``), and ``gateway serve`` with its workers and its edge, each a
   process of its own. What its workers use without calls is measured first.
3. The ramp: callers in this process (``lab/callers/phones.py``) go up to the calls asked for in steps. At each step
   all calls are up and the agents have been heard, then a window begins: CPU by the scheduler's clock of each process
   (``load.py``), the times of packets by the kernel.
4. The canary (``canary.py``): one call gives way to one whose voice the model sends back.
5. Memory, when the calls have been up for a while.
6. Short calls (``short_calls.py``), where asked for, when the others have ended.

``results.py`` holds the figures, ``picture.py`` draws them, ``limit.py`` says when calls are too many for a machine
(``--calls max``). ``delay.py`` and ``routes.py`` measure other things in their own ways. What each figure means:
``docs/performance.md``.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gateway.audio.pcm import MODEL
from gateway.lab.bench.canary import measure_canary
from gateway.lab.bench.child import BenchFailed
from gateway.lab.bench.house import House, floor, house
from gateway.lab.bench.limit import gave_way
from gateway.lab.bench.load import CpuWindow, Programs
from gateway.lab.bench.machine import describe_machine
from gateway.lab.bench.results import BenchResult, Canary, Memory, Setup, ShortCalls, Window
from gateway.lab.bench.short_calls import ShortCallsPlan, measure_short_calls
from gateway.lab.callers.media import SPEECH_RMS
from gateway.lab.callers.phones import Phones, phones
from gateway.lab.callers.signalling import CallsFailed
from gateway.lab.callers.streams import all_intervals_ms
from gateway.lab.figures.measure import percentile
from gateway.lab.speech import agent_sentences
from gateway.threads import run_in_pool

STEPS = (4, 10, 20, 40)
PACE_S = 0.25
"""Between one INVITE and the next, unless the ramp has a time of its own."""
HEARD_LIMIT_S = 40.0
_USUAL_AGE_S = 120.0
_PROGRESS_S = 10.0
_IDLE_SETTLE_S = 45.0  # a worker has returned memory then, and looks for garbage seldom
_IDLE_SETTLES = 4.5  # at most, as a multiple of the window
_IDLE_S = 10.0
_SEARCH_STEP = 8
_MUCH_PERCENT = 20.0
_LEAST_SPEECH = 0.05
_TURNS_S = 15.0  # in a window this long the agent has had several turns

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """
    What a run does.

    Attributes:
        calls: calls at once; 0 takes as many as one worker holds.
        is_search: look for the most calls that this machine takes, at most ``calls``; without canary, memory of old
            calls and short calls.
        seconds: length of the gateway's window with all calls, and of both windows of the floor together.
        step_seconds: length of the windows before.
        age_s: how long the calls are up before memory is measured.
        settle_s: between all calls being up and a window.
        idle_s: how long workers without calls are measured; 0 leaves it out.
        ramp_s: all calls are placed within this time, without steps; None goes by steps.
        has_floor: measure the floor.
        canary_s: how long the canary speaks; 0 leaves it out.
        short: many short calls; None leaves them out.
        uplink_ms: caller audio per message to the model.
        command: repeats the run; for the record.
    """

    calls: int = 0
    is_search: bool = False
    seconds: float = 60.0
    step_seconds: float = 20.0
    age_s: float = _USUAL_AGE_S
    settle_s: float = 5.0
    idle_s: float = _IDLE_S
    ramp_s: float | None = None
    has_floor: bool = True
    canary_s: float = 12.0
    short: ShortCallsPlan | None = None
    uplink_ms: int = 20
    command: str = ""


@dataclass
class _Run:
    """What one run has to work with, and has found so far."""

    plan: BenchPlan
    calls: int
    work_dir: Path
    tell: Tell
    steps: list[Window] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    gave_first: str = ""


async def run_bench(plan: BenchPlan, tell: Tell) -> BenchResult:
    """
    Measure the gateway beside the floor. Everything started is stopped again, whatever happens.

    Args:
        plan: what to do.
        tell: takes a line of progress.

    Raises:
        ConfigError: psutil is not installed, or this is not Linux.
        ChildFailed: a program did not start, or ended.
        CallsFailed: calls were not heard.
        BenchFailed: a search held no call.
        StoreError: Redis did not start.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        work_dir = Path(folder)
        capacity = await _capacity(work_dir)
        run = _Run(plan, plan.calls or capacity, work_dir, tell)
        floors: list[Window] = []
        rss_mb = 0.0
        if plan.has_floor and not plan.is_search:
            before, rss_mb = await _measure_floor(run, capacity)
            floors.append(before)
        async with house(work_dir, plan.calls, uplink_ms=plan.uplink_ms) as built:
            result = await _measure_house(run, built)
        if plan.has_floor:
            after, rss_mb = await _measure_floor(run, capacity)
            floors.append(after)
        else:
            run.notes.append("the floor was not measured: the figures are not put beside the least that calls cost")
        return result(floors, rss_mb)


async def _capacity(work_dir: Path) -> int:
    """Return how many calls one worker holds: as many as one loopback says."""
    async with floor(work_dir, 1, 1) as (started, _):
        return int((await started[0].find(r"holds (\d+) calls", 1.0))[1])


async def _measure_floor(run: _Run, capacity: int) -> tuple[Window, float]:
    """Return a window of half the length, and the memory of one loopback."""
    plan, seconds = run.plan, run.plan.seconds / 2
    async with floor(run.work_dir, run.calls, capacity) as (started, ports):
        run.tell(f"floor: {run.calls} calls looped inside PJMEDIA by {len(started)} processes, {seconds:g} s")
        async with phones(ports, is_patient=False) as callers:
            await callers.ramp(run.calls, PACE_S * min(run.calls, 4 * capacity))
            await callers.all_heard(callers.placed, HEARD_LIMIT_S)
            await asyncio.sleep(plan.settle_s)
            programs = Programs(tuple(each for child in started for each in child.processes()))
            window = await _window(run, callers, programs, seconds)
            _check(run, window, "the floor")
            rss_mb = max(child.rss_mb() for child in started)
            await callers.hang_up(callers.up)
    return window, rss_mb


async def _measure_house(run: _Run, built: House) -> Callable[[list[Window], float], BenchResult]:
    """Go through the phases of the gateway; return what makes the result of them and of the floor."""
    plan = run.plan
    idle_percent, idle_workers = await _measure_idle(run, built)
    async with phones([built.port]) as callers:
        if plan.is_search:
            await _search(run, built, callers)
        elif plan.ramp_s is None:
            for calls in [*(step for step in STEPS if step < run.calls), run.calls]:
                await _step(run, built, callers, calls, (calls - len(callers.placed)) * PACE_S)
        else:
            await _step(run, built, callers, run.calls, plan.ramp_s)
        last_up = time.monotonic()
        setup = _setup(run, callers, built)
        canary = await _canary(run, built, callers)
        memory = await _measure_memory(run, built, callers, last_up - run.steps[-1].seconds)
        _note_ends(run, callers)
        await callers.hang_up(callers.up)
    short = await _short_calls(run, built)
    run.errors += [f"protocol violation towards the model: {each}" for each in dict.fromkeys(built.violations())]
    machine = await run_in_pool(describe_machine)
    others = run.steps[-1].cpu.others
    if others > _MUCH_PERCENT:
        run.notes.append(f"other programs used {others:.0f} % of one core meanwhile; run it on an idle machine")

    def finish(floors: list[Window], floor_rss_mb: float) -> BenchResult:
        return BenchResult(
            asked=run.calls,
            gave_first=run.gave_first,
            setup=setup,
            steps=run.steps,
            memory=memory,
            floors=floors,
            floor_rss_mb=floor_rss_mb,
            idle_percent=idle_percent,
            idle_workers=idle_workers,
            canary=canary,
            short=short,
            uplink_ms=plan.uplink_ms,
            machine=machine,
            errors=run.errors,
            notes=run.notes,
            command=plan.command,
            log=built.gateway.output,
        )

    return finish


async def _measure_idle(run: _Run, built: House) -> tuple[float | None, int]:
    """Return the CPU of one worker without calls, in percent of one core, and how many there are."""
    if not run.plan.idle_s:
        run.notes.append("workers without calls were not measured")
        return None, 0
    settle_s = min(_IDLE_SETTLE_S, _IDLE_SETTLES * run.plan.idle_s)
    run.tell(f"gateway: up, {run.plan.idle_s:g} s without calls, from {settle_s:g} s on")
    await asyncio.sleep(settle_s)
    workers = tuple(each for each in built.gateway.processes() if each.is_worker)
    window = CpuWindow(Programs(workers))
    await asyncio.sleep(run.plan.idle_s)
    return window.so_far().gateway / max(len(workers), 1), len(workers)


async def _step(run: _Run, built: House, callers: Phones, calls: int, within_s: float) -> None:
    """
    Go up to so many calls, and keep a window.

    Raises:
        ChildFailed: calls were not answered or not heard.
    """
    seconds = run.plan.seconds if calls == run.calls else run.plan.step_seconds
    try:
        window = await _go_up(run, built, callers, calls, within_s, seconds)
    except CallsFailed as failed:
        raise built.gateway.failure(f"was called in vain ({failed})") from failed
    if not window.calls:
        raise built.gateway.failure(f"took no call, it refused with {dict(callers.codes)}")
    _check(run, window, f"the window of {calls} calls")
    run.steps.append(window)


async def _search(run: _Run, built: House, callers: Phones) -> None:
    """
    Go up until something gives way, and keep the windows before that.

    Raises:
        BenchFailed: the first step is too much.
    """
    for calls in range(_SEARCH_STEP, run.plan.calls + 1, _SEARCH_STEP):
        try:
            window = await _go_up(run, built, callers, calls, _SEARCH_STEP * PACE_S, run.plan.step_seconds)
            if gave_way(window, callers.codes) and not callers.codes:  # once more: other programs are noisy, too
                window = await _window(run, callers, programs_of(built), run.plan.step_seconds)
            run.gave_first = gave_way(window, callers.codes) or ""
        except CallsFailed as failed:
            run.gave_first = f"setup: {failed}"
        if run.gave_first:
            run.tell(f"  {calls} calls are too many: {run.gave_first}")
            break
        run.steps.append(window)
        run.calls = calls
    if not run.steps:
        raise BenchFailed(f"not even {_SEARCH_STEP} calls: {run.gave_first}")
    run.gave_first = run.gave_first or "nothing: more calls can be held than were looked for"


async def _go_up(run: _Run, built: House, callers: Phones, calls: int, within_s: float, seconds: float) -> Window:
    """
    Place calls until there are so many, and measure a window.

    Raises:
        CallsFailed: one got no answer, or heard nothing.
    """
    more = calls - len(callers.placed)
    run.tell(f"gateway: {more} more calls within {within_s:g} s, {calls} in all")
    await callers.all_heard(await callers.ramp(more, within_s), HEARD_LIMIT_S)
    await asyncio.sleep(run.plan.settle_s)
    return await _window(run, callers, programs_of(built), seconds)


def programs_of(built: House) -> Programs:
    """Return whose CPU counts as whose."""
    return Programs(tuple(built.gateway.processes()), built.model.pid, built.redis_pid)


async def _window(run: _Run, callers: Phones, programs: Programs, seconds: float) -> Window:
    """Measure what is up, for so long."""
    calls, dropped = callers.up, callers.media.dropped
    cpu, began, began_ns = CpuWindow(programs), time.monotonic(), time.time_ns()
    while (left := began + seconds - time.monotonic()) > 0:
        await asyncio.sleep(min(left, _PROGRESS_S))
        used = cpu.so_far()
        run.tell(
            f"  {time.monotonic() - began:3.0f} s: {used.gateway / max(len(calls), 1):.2f} % of a core per call, "
            f"{used.machine:.0f} % for everything on this machine"
        )
    used, lasted_s = cpu.so_far(), time.monotonic() - began
    packets = callers.media.packets(began_ns)
    heard = [packets.of(call.media[1]) for call in calls if call.media is not None]
    intervals = all_intervals_ms(heard).tolist() or [0.0]
    return Window(
        calls=len(calls),
        seconds=lasted_s,
        cpu=used,
        interval_p50_ms=percentile(intervals, 50),
        interval_p99_ms=percentile(intervals, 99),
        interval_max_ms=max(intervals),
        received=sum(map(len, heard)),
        fewest=min(map(len, heard), default=0),
        lost=sum(each.lost for each in heard),
        dropped=callers.media.dropped - dropped,
        speech_share=min((each.speech_share for each in heard), default=0.0),
    )


def _check(run: _Run, window: Window, name: str) -> None:
    """Note where not every call really carried audio all the time: figures of such a window flatter."""
    if not window.is_whole:
        wanted = round(window.seconds * 50)
        run.errors.append(
            f"{name}: a call received {window.fewest} packets in {window.seconds:.0f} s instead of {wanted}, "
            f"while everything on this machine used {window.cpu.machine:.0f} % of one core"
        )
    if window.speech_share < _LEAST_SPEECH and window.seconds >= _TURNS_S:
        run.errors.append(f"{name}: a caller heard hardly any speech: {window.speech_share:.0%} of its packets")


def _setup(run: _Run, callers: Phones, built: House) -> Setup:
    """Return how all calls began."""
    spoke_ns, quiet_ms = built.spoke_ns(), _quiet_ms()
    placed = callers.placed[: run.calls]  # without those that were too many for a search
    answered = [call for call in placed if call.answered_ns]
    heard = [call for call in answered if call.heard_ns]
    return Setup(
        asked=len(placed),
        refused=callers.codes,
        setup_ms=[call.setup_ms for call in answered],
        after_ack_ms=[max(0.0, (call.heard_ns - call.answered_ns) / 1e6) for call in heard],
        after_delta_ms=[
            (call.heard_ns - spoke_ns[call.number]) / 1e6 - quiet_ms for call in heard if call.number in spoke_ns
        ],
    )


def _quiet_ms() -> float:
    """Return how long the greeting is silent at its beginning, in whole frames of 20 ms."""
    frame = MODEL.frame_samples
    samples = np.frombuffer(agent_sentences()[0].pcm24k, "<i2").astype(np.float64)
    power = (samples[: samples.size // frame * frame].reshape(-1, frame) ** 2).mean(axis=1)
    return float(np.argmax(power > SPEECH_RMS**2) * MODEL.ptime_ms)


async def _canary(run: _Run, built: House, callers: Phones) -> Canary | None:
    if not run.plan.canary_s or run.plan.is_search:
        run.notes.append("no canary was sent: the delay from mouth to ear was not measured")
        return None
    run.tell(f"canary: one call in the place of another, {run.plan.canary_s:g} s")
    await callers.hang_up(callers.up[-1:])
    try:
        canary = await measure_canary(callers.signalling, built.port, run.plan.canary_s)
    except (CallsFailed, BenchFailed) as failed:
        run.errors.append(f"the canary: {failed}")
        return None
    await callers.all_heard(await callers.ramp(1, 0), HEARD_LIMIT_S)  # the other call again
    return canary


async def _measure_memory(run: _Run, built: House, callers: Phones, up_since: float) -> Memory:
    """Wait until the calls are old enough, then measure."""
    age_s = 0.0 if run.plan.is_search else run.plan.age_s
    left_s = up_since + age_s - time.monotonic()
    if left_s > 0:
        run.tell(f"memory: in {left_s:.0f} s, when the calls have been up for {run.plan.age_s:g} s")
        await asyncio.sleep(left_s)
    if age_s < _USUAL_AGE_S:
        run.notes.append(f"memory is that of young calls; the usual age is {_USUAL_AGE_S:g} s")
    processes = built.gateway.processes()
    own = [each for each in processes if each.kind == "gateway"]
    return Memory(
        calls=len(callers.up),
        age_s=time.monotonic() - up_since,
        gateway=sum(each.pss_mb() for each in own),
        edge=sum(each.pss_mb() for each in processes if each.kind == "edge"),
        processes=len(own),
        workers=sum(each.is_worker for each in own),
        largest_rss=built.gateway.rss_mb(),
    )


def _note_ends(run: _Run, callers: Phones) -> None:
    """Note which calls were refused or did not stay up; that is no error of a search, which goes on until then."""
    for code, count in sorted(callers.codes.items()) if not run.plan.is_search else ():
        run.errors.append(f"{count} calls of the ramp were refused with {code}")
    ended = sum(call.ended_by_far for call in callers.placed)
    if ended:
        run.errors.append(f"{ended} calls were ended by the gateway")


async def _short_calls(run: _Run, built: House) -> ShortCalls | None:
    if run.plan.short is None or run.plan.is_search:
        run.notes.append("calls per second were not measured (--short-calls RATE:SECONDS)")
        return None
    short = await measure_short_calls(run.plan.short, built, programs_of(built), run.tell)
    if short.lost:
        run.errors.append(f"{short.lost} of the short calls were lost")
    return short
