"""One call among the others whose voice the model sends back: what a caller gets while the machine is busy."""

from __future__ import annotations

import asyncio
import statistics

from gateway.lab.bench.child import BenchFailed
from gateway.lab.bench.delay import heard_by_phone, leg_ms, said
from gateway.lab.bench.results import Canary
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.callers.signalling import Signalling, place_call
from gateway.lab.figures.measure import percentile
from gateway.lab.speech import caller_speech

_PLACE_S = 1.0  # until the place of the call before is free for certain
_END_LIMIT_S = 20.0


async def measure_canary(signalling: Signalling, port: int, seconds: float) -> Canary:
    """
    Place the call, speak, listen, hang up.

    Args:
        signalling: places it.
        port: where calls go.
        seconds: how long it speaks.

    Raises:
        CallsFailed: it was refused, or not answered in time.
        BenchFailed: its voice did not come back.
    """
    pcm = caller_speech(seconds)
    async with RtpPeer(pcm) as phone:
        await asyncio.sleep(_PLACE_S)
        call = await place_call(signalling, port, phone, called="echo")
        await asyncio.sleep(seconds)
        signalling.hang_up(call)
        await asyncio.wait([asyncio.ensure_future(call.has_ended.wait())], timeout=_END_LIMIT_S)
    delays = leg_ms(said(phone, pcm), heard_by_phone(phone))
    intervals = phone.reception.intervals_ms()
    if not delays or not intervals:
        raise BenchFailed("the canary's voice did not come back")
    return Canary(
        setup_ms=call.setup_ms,
        delay_ms=statistics.median(delays),
        longest_delay_ms=max(delays),
        interval_p99_ms=percentile(intervals, 99),
        interval_max_ms=max(intervals),
        lost=phone.reception.counts().lost,
        seconds=seconds,
    )
