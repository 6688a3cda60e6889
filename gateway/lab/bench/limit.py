"""When a machine has too many calls: the first thing that callers would notice."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.lab.bench.results import Window

INTERVAL_P99_MS = 25.0
INTERVAL_MAX_MS = 60.0


def gave_way(window: Window, refused: Mapping[int, int]) -> str | None:
    """
    Return what a window shows to have given way, in words; None where all calls were as they should be.

    Args:
        window: with all calls.
        refused: how many calls were refused on the way up, by the code.
    """
    if refused:
        told = ", ".join(f"{count} with {code}" for code, count in sorted(refused.items()))
        return f"admission: calls were refused ({told})"
    noticed = _noticed(window)
    if noticed is None:
        return None
    return f"{noticed}, while everything on this machine used {window.cpu.machine:.0f} % of one core"


def _noticed(window: Window) -> str | None:
    if window.dropped:
        return f"the bench: it was too slow to read {window.dropped} packets of its callers"
    if not window.is_whole:
        return f"audio: a call received {window.fewest} packets in {window.seconds:.0f} s"
    if window.lost:
        return f"audio: {window.lost} RTP packets were lost"
    if window.interval_p99_ms > INTERVAL_P99_MS:
        return f"audio: RTP interval p99 of {window.interval_p99_ms:.1f} ms, more than {INTERVAL_P99_MS:g}"
    if window.interval_max_ms > INTERVAL_MAX_MS:
        return f"audio: a gap of {window.interval_max_ms:.0f} ms, more than {INTERVAL_MAX_MS:g}"
    return None
