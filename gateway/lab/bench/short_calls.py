"""Many short calls at an even rate: how many are answered, and what stays behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.errors import ConfigError
from gateway.lab.bench.house import House
from gateway.lab.bench.load import CpuWindow, Programs
from gateway.lab.bench.results import ShortCalls
from gateway.lab.callers.phones import Phones, phones
from gateway.lab.callers.signalling import PlacedCall

HOLD_S = 0.5
AFTER_S = 40.0
"""The library keeps transactions for 32 s, and a worker without calls then gives memory back."""
_SETTLE_S = 2.0  # connections of the calls before are closing
_END_LIMIT_S = 40.0
_PROGRESS_S = 10.0


@dataclass(frozen=True, slots=True)
class ShortCallsPlan:
    """
    How many short calls there are.

    Attributes:
        rate: calls per second.
        seconds: for how long.
        hold_s: each caller hangs up so long after its answer.
        after_s: how long after the last call sockets and memory are measured again.
    """

    rate: float
    seconds: float
    hold_s: float = HOLD_S
    after_s: float = AFTER_S

    @classmethod
    def parse(cls, text: str) -> ShortCallsPlan:
        """
        Read ``RATE:SECONDS`` or ``RATE:SECONDS:HOLD``.

        Raises:
            ConfigError: it is neither.
        """
        try:
            plan = cls(*map(float, text.split(":")))
        except (TypeError, ValueError):
            plan = cls(0, 0)
        if (
            text.count(":") not in (1, 2)
            or not 0 < plan.rate <= 1000
            or not 0 < plan.seconds <= 3600
            or plan.hold_s < 0
        ):
            raise ConfigError(f"--short-calls {text}: give calls per second and seconds, such as 30:60, or 30:60:0.5")
        return plan


async def measure_short_calls(
    plan: ShortCallsPlan, built: House, programs: Programs, tell: Callable[[str], None]
) -> ShortCalls:
    """Place the calls, wait for the last one's end, and look at what is left."""
    tell(f"short calls: {plan.rate:g} per second for {plan.seconds:g} s, each {plan.hold_s:g} s long")
    await asyncio.sleep(_SETTLE_S)
    states = [_state(built)]
    async with phones([built.port]) as callers:
        cpu = CpuWindow(programs)
        hang_ups = await _place_all(plan, callers, tell)
        used = cpu.so_far()
        await _all_ended(callers.placed)
        await asyncio.gather(*hang_ups)
        states.append(_state(built))
        tell(f"  {len(callers.placed)} calls; sockets and memory once more in {plan.after_s:g} s")
        await asyncio.sleep(plan.after_s)
        states.append(_state(built))
    before, after, later = states
    return ShortCalls(
        rate=plan.rate,
        seconds=plan.seconds,
        hold_s=plan.hold_s,
        placed=len(callers.placed),
        answered=sum(bool(call.answered_ns) for call in callers.placed),
        refused=_refused(callers.placed),
        lost=sum(call.was_lost or call.ended_by_far or not call.has_ended.is_set() for call in callers.placed),
        setup_ms=[call.setup_ms for call in callers.placed if call.answered_ns],
        sockets=(before[0], after[0], later[0]),
        memory_mb=(before[1], after[1], later[1]),
        after_s=plan.after_s,
        cpu=used,
    )


async def _place_all(
    plan: ShortCallsPlan, callers: Phones, tell: Callable[[str], None]
) -> Sequence[asyncio.Task[None]]:
    """Place the calls; return the tasks that end them."""
    loop = asyncio.get_running_loop()
    began, told, hang_ups = loop.time(), 0, []
    for number in range(round(plan.rate * plan.seconds)):
        await asyncio.sleep(max(0.0, began + number / plan.rate - loop.time()))
        hang_ups.append(asyncio.create_task(_hang_up(callers, callers.place(), plan.hold_s)))
        if loop.time() - began >= (told + 1) * _PROGRESS_S:
            told += 1
            refused = sum(_refused(callers.placed).values())
            tell(f"  {loop.time() - began:3.0f} s: {number + 1} calls, {refused} refused")
    return hang_ups


async def _hang_up(callers: Phones, call: PlacedCall, hold_s: float) -> None:
    await call.is_settled.wait()
    await asyncio.sleep(hold_s)
    callers.signalling.hang_up(call)


async def _all_ended(calls: Sequence[PlacedCall]) -> None:
    """Wait until all have ended, for so long at most."""
    try:
        async with asyncio.timeout(_END_LIMIT_S):
            for call in calls:
                await call.has_ended.wait()
    except TimeoutError:
        return  # those that have not are counted as lost


def _refused(calls: Sequence[PlacedCall]) -> Counter[int]:
    return Counter(
        call.code for call in calls if call.is_settled.is_set() and not call.answered_ns and not call.was_lost
    )


def _state(built: House) -> tuple[int, float]:
    """Return how many sockets and how much memory the gateway has."""
    own = [each for each in built.gateway.processes() if each.kind == "gateway"]
    return sum(each.sockets() for each in own), sum(each.pss_mb() for each in own)
