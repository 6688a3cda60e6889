"""Figures of many streams of RTP."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.lab.callers.streams import PACKET, Packets, all_intervals_ms

pytestmark = pytest.mark.unit


def packets(*rows: tuple[int, int, int, int, bool]) -> Packets:
    """Return packets of (ms, port, sequence, ssrc, is_speech)."""
    made = np.zeros(len(rows), PACKET)
    for place, (at_ms, port, sequence, ssrc, is_speech) in enumerate(rows):
        made[place] = (at_ms * 1_000_000, port, sequence, ssrc, is_speech)
    return Packets(made)


def test_calls_are_told_apart_by_port_and_time() -> None:
    both = packets((0, 5000, 1, 7, False), (5, 6000, 1, 8, True), (20, 5000, 2, 7, True), (90, 5000, 3, 7, True))
    assert len(both.of(5000)) == 3
    assert len(both.of(5000, since_ns=10_000_000, until_ns=50_000_000)) == 1
    assert len(both.of(1)) == 0
    assert all_intervals_ms([both.of(5000), both.of(6000), both.of(1)]).tolist() == [20.0, 70.0]


def test_missing_numbers_are_lost_over_a_wrap_and_out_of_order() -> None:
    wrapped = packets(*((0, 1, number, 7, False) for number in (65534, 65535, 1, 0, 4)))
    assert wrapped.lost == 2
    assert packets((0, 1, 9, 7, False), (0, 1, 9, 7, False)).lost == 0
    assert packets((0, 1, 9, 7, False), (0, 1, 500, 8, False)).lost == 0, "another source counts for itself"
    assert packets().lost == 0


def test_the_share_of_speech_is_that_of_the_packets() -> None:
    assert packets((0, 1, 1, 1, True), (1, 1, 2, 1, False)).speech_share == 0.5
    assert packets().speech_share == 0.0
