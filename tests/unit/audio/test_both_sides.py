"""Both sides of a call, laid down by the clock."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.both_sides import BothSides, interleaved
from gateway.audio.pcm import PHONE, WIDEBAND, PcmFormat
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit


def frame(value: int, fmt: PcmFormat = PHONE) -> bytes:
    return np.full(fmt.frame_samples, value, "<i2").tobytes()


def firsts(pcm: bytes, fmt: PcmFormat = PHONE) -> list[int]:
    """Return the first sample of each frame."""
    return [int(sample) for sample in np.frombuffer(pcm, "<i2")[:: fmt.frame_samples]]


def tick(sides: BothSides, caller: int, agent: int) -> None:
    with playing("clock"):
        sides.write_agent(frame(agent, sides.fmt))
        sides.write_caller(frame(caller, sides.fmt))


@pytest.mark.parametrize("fmt", [PHONE, WIDEBAND])
def test_what_was_said_and_heard_in_one_tick_stays_together(fmt: PcmFormat) -> None:
    sides = BothSides(fmt, 1000)
    for number in range(1, 6):
        tick(sides, number, -number)
    caller, agent = sides.take(60)
    assert (firsts(caller, fmt), firsts(agent, fmt)) == ([1, 2, 3], [-1, -2, -3])
    caller, agent = sides.take(1000)
    assert (firsts(caller, fmt), firsts(agent, fmt)) == ([4, 5], [-4, -5])
    assert sides.take(1000) == (b"", b"")


def test_a_side_that_is_missing_is_silence() -> None:
    sides = BothSides(PHONE, 1000)
    with playing("clock"):
        sides.write_agent(frame(1))
        sides.write_agent(frame(2))
        sides.write_caller(frame(2))
        sides.write_caller(frame(3)[:10])
        sides.write_agent(None)
        sides.write_caller(None)
        sides.write_agent(frame(9))
        sides.forget_tick()
        sides.write_caller(b"")
    caller, agent = sides.take(1000)
    assert firsts(caller) == [0, 2, 3, 0, 0]
    assert firsts(agent) == [1, 2, 0, 0, 0]
    assert len(caller) == len(agent) == 5 * PHONE.frame_bytes


def test_when_full_the_oldest_goes_and_is_counted() -> None:
    sides = BothSides(PHONE, 60)
    assert sides.written_at == 0
    for number in range(1, 6):
        tick(sides, number, number)
    assert sides.dropped_frames == 2
    assert firsts(sides.take(1000)[0]) == [3, 4, 5]
    assert sides.written_at > 0
    tick(sides, 6, 6)
    sides.clear()
    assert sides.take(1000) == (b"", b"")


def test_two_channels_become_one_sample_by_sample() -> None:
    left, right = np.arange(4, dtype="<i2").tobytes(), np.arange(10, 14, dtype="<i2").tobytes()
    assert np.frombuffer(interleaved(left, right), "<i2").tolist() == [0, 10, 1, 11, 2, 12, 3, 13]
    assert interleaved(b"", b"") == b""
