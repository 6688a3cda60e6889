"""Who listens to a worker's calls: begun, renewed, shared, and over when nobody hears it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from gateway.audio.both_sides import BothSides
from gateway.audio.level import SILENCE_DBFS
from gateway.audio.pcm import PHONE, WIDEBAND, PcmFormat
from gateway.ids import CallId
from gateway.store.audio import AudioBlock
from gateway.worker.listening import ASK_EVERY_S, GRACE_S, LEVELS_EVERY_S, BlockMaker, Listening
from tests.fakes.clock import FakeClock
from tests.fakes.leg import FakeLeg
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit

ONE, TWO = CallId("one"), CallId("two")
Levels = dict[CallId, tuple[float, float]]


class Wire:
    """Redis: so many hear the sound, and so many the levels."""

    def __init__(self) -> None:
        self.listeners = 1
        self.watchers = 0
        self.blocks: list[tuple[CallId, AudioBlock]] = []
        self.levels: list[Levels] = []

    def offer_block(self, call_id: CallId, block: AudioBlock, heard: Callable[[int], None]) -> None:
        self.blocks.append((call_id, block))
        heard(self.listeners)

    def offer_levels(self, worker: str, levels: Levels, heard: Callable[[int], None]) -> None:
        assert worker == "w1"
        self.levels.append(levels)
        heard(self.watchers)


class Rounds:
    """Rounds that are made by hand."""

    def __init__(self) -> None:
        self.visits: list[Callable[[], None]] = []

    def join(self, tap: Any, visit: Callable[[], None]) -> None:
        self.visits.append(visit)

    def leave(self, visit: Callable[[], None]) -> None:
        self.visits.remove(visit)


class Bench:
    """A worker's calls."""

    def __init__(self, fmt: PcmFormat = PHONE) -> None:
        self.fmt = fmt
        self.wire, self.rounds, self.clock = Wire(), Rounds(), FakeClock()
        self.listening = Listening("w1", cast("Any", self.wire), self.clock, cast("Any", self.rounds), fmt)
        self.legs: dict[CallId, FakeLeg] = {}

    def call(self, call_id: CallId) -> FakeLeg:
        leg = self.legs[call_id] = FakeLeg(call_id)
        self.listening.begin(call_id, leg)
        self.listening.answered(call_id)
        return leg

    def tap(self, call_id: CallId) -> BothSides | None:
        taps = [order[1] for order in self.legs[call_id].orders if order[0] == "listen"]
        return cast("BothSides | None", taps[-1]) if taps else None

    def talk(self, call_id: CallId, caller: int, agent: int, frames: int = 2) -> None:
        """The clock brings a few frames, and a round is made."""
        self.clock.advance(frames * 0.02)
        tap = self.tap(call_id)
        if tap is not None:
            with playing("clock"):
                for _ in range(frames):
                    tap.write_agent(np.full(self.fmt.frame_samples, agent, "<i2").tobytes())
                    tap.write_caller(np.full(self.fmt.frame_samples, caller, "<i2").tobytes())
            tap.written_at = self.clock.monotonic()
        for visit in tuple(self.rounds.visits):
            visit()


def test_a_call_that_nobody_listens_to_is_not_touched() -> None:
    bench = Bench()
    leg = bench.call(ONE)
    bench.talk(ONE, 1, 2)
    bench.listening.end(ONE)
    assert leg.orders == []
    assert bench.wire.blocks == []


def test_a_listener_gets_both_sides_in_numbered_blocks_of_40_ms() -> None:
    bench = Bench()
    bench.call(ONE)
    bench.clock.advance(3)
    assert bench.listening.listen(ONE, 60)
    for _ in range(3):
        bench.talk(ONE, 7, -7)
    assert [(call, block.number, block.at_ms) for call, block in bench.wire.blocks] == [
        (ONE, 0, 3000),
        (ONE, 1, 3040),
        (ONE, 2, 3080),
    ]
    pcm = np.frombuffer(bench.wire.blocks[0][1].pcm, "<i2").reshape(-1, 2)
    assert pcm.shape == (320, 2)
    assert (pcm[:, 0] == 7).all()
    assert (pcm[:, 1] == -7).all()
    number, at_ms, samples = AudioBlock.unpacked(bench.wire.blocks[1][1].packed())
    assert (number, at_ms, samples) == bench.wire.blocks[1][1]


def test_a_call_that_is_not_there_cannot_be_listened_to() -> None:
    assert not Bench().listening.listen(ONE, 60)


def test_two_listeners_share_one_stream_and_the_longer_time_counts() -> None:
    bench = Bench()
    bench.call(ONE)
    bench.listening.listen(ONE, 60)
    bench.talk(ONE, 1, 1)
    bench.listening.listen(ONE, 1)
    assert len(bench.rounds.visits) == 1
    assert [order[0] for order in bench.legs[ONE].orders] == ["listen"]
    bench.clock.advance(1.5)
    bench.talk(ONE, 1, 1)
    assert [block.number for _, block in bench.wire.blocks] == [0, 1]
    assert bench.tap(ONE) is not None


def test_a_stream_that_nobody_hears_ends_after_a_while_and_can_begin_again() -> None:
    bench = Bench()
    bench.call(ONE)
    bench.wire.listeners = 0
    bench.listening.listen(ONE, 600)
    bench.talk(ONE, 1, 1)
    bench.clock.advance(GRACE_S / 2)
    bench.talk(ONE, 1, 1)
    assert bench.tap(ONE) is not None, "the listener may be on the way"
    bench.clock.advance(GRACE_S)
    bench.talk(ONE, 1, 1)
    assert bench.tap(ONE) is None
    assert bench.rounds.visits == []
    sent = len(bench.wire.blocks)
    bench.talk(ONE, 1, 1)
    assert len(bench.wire.blocks) == sent
    bench.wire.listeners = 1
    bench.listening.listen(ONE, 600)
    bench.talk(ONE, 1, 1)
    assert bench.wire.blocks[-1][1].number == sent, "the numbers go on"


def test_a_stream_ends_when_its_time_is_up() -> None:
    bench = Bench()
    bench.call(ONE)
    bench.listening.listen(ONE, 1)
    bench.talk(ONE, 1, 1)
    bench.clock.advance(1)
    bench.talk(ONE, 1, 1)
    assert bench.tap(ONE) is None


def test_the_end_of_a_call_is_the_last_message() -> None:
    bench = Bench()
    bench.call(ONE)
    bench.listening.listen(ONE, 60)
    bench.talk(ONE, 1, 1)
    bench.listening.end(ONE)
    bench.listening.end(ONE)
    assert [(block.number, len(block.pcm)) for _, block in bench.wire.blocks] == [(0, 1280), (1, 0)]
    assert bench.rounds.visits == []
    assert not bench.listening.listen(ONE, 60)


def test_time_before_the_answer_is_none() -> None:
    bench = Bench()
    bench.legs[ONE] = leg = FakeLeg(ONE)
    bench.listening.begin(ONE, leg)
    bench.listening.listen(ONE, 60)
    bench.talk(ONE, 1, 1, frames=4)
    bench.clock.advance(1)
    bench.listening.answered(ONE)
    bench.talk(ONE, 1, 1)
    bench.clock.advance(1)
    bench.talk(ONE, 1, 1)
    assert [block.at_ms for _, block in bench.wire.blocks] == [0, 0, 0, 1040], "a time that was missed is missing"


def test_wideband_calls_are_heard_at_8_khz() -> None:
    maker = BlockMaker(WIDEBAND)
    wave = np.rint(8000 * np.sin(np.arange(32000) * 2 * np.pi * 500 / 16000)).astype("<i2").tobytes()
    blocks = []
    for at in range(0, len(wave), 640):
        blocks += list(maker.blocks(wave[at : at + 640], bytes(640), round(at / 32) + 20))
    assert len(blocks) == 50
    assert {len(block.pcm) for block in blocks} == {1280}
    heard = np.frombuffer(b"".join(block.pcm for block in blocks), "<i2").reshape(-1, 2)
    said = np.sin((np.arange(len(heard))) * 2 * np.pi * 500 / 8000)
    assert max(np.corrcoef(heard[200:-200, 0], np.roll(said, lag)[200:-200])[0, 1] for lag in range(40)) > 0.99
    assert not heard[:, 1].any()


def test_levels_are_told_while_somebody_watches_and_a_worker_without_calls_says_nothing() -> None:
    bench = Bench()
    bench.clock.advance(60)
    assert bench.wire.levels == []
    assert bench.clock.running == 0
    bench.call(ONE)
    bench.clock.advance(ASK_EVERY_S)
    assert bench.wire.levels == [{}, {}], "it asks whether anyone watches"
    assert bench.tap(ONE) is None
    bench.wire.watchers = 2
    bench.clock.advance(ASK_EVERY_S)
    assert bench.tap(ONE) is not None
    bench.call(TWO)
    assert bench.tap(TWO) is not None
    bench.talk(ONE, 16384, 0, frames=5)
    bench.clock.advance(LEVELS_EVERY_S)
    assert bench.wire.levels[-1] == {ONE: (-6.0, SILENCE_DBFS), TWO: (SILENCE_DBFS, SILENCE_DBFS)}
    bench.wire.watchers = 0
    bench.clock.advance(LEVELS_EVERY_S)
    assert bench.tap(ONE) is None
    assert bench.tap(TWO) is None
    told = len(bench.wire.levels)
    bench.clock.advance(ASK_EVERY_S * 3)
    assert len(bench.wire.levels) == told + 3
    for call in (ONE, TWO):
        bench.listening.end(call)
    bench.clock.advance(60)
    assert bench.clock.running == 0
    assert len(bench.wire.levels) == told + 3


def test_whoever_watches_learns_that_the_last_call_has_ended() -> None:
    bench = Bench()
    bench.wire.watchers = 1
    bench.call(ONE)
    bench.clock.advance(LEVELS_EVERY_S)
    bench.listening.end(ONE)
    bench.clock.advance(LEVELS_EVERY_S)
    assert bench.wire.levels[-1] == {}
    assert bench.clock.running == 0


def test_a_call_is_listened_to_and_watched_at_once() -> None:
    bench = Bench()
    bench.wire.watchers = 1
    bench.call(ONE)
    bench.clock.advance(0.01)
    bench.listening.listen(ONE, 60)
    for _ in range(8):
        bench.talk(ONE, 16384, -16384)
    assert {ONE: (-6.0, -6.0)} in bench.wire.levels
    assert [block.number for _, block in bench.wire.blocks] == list(range(8))
    bench.wire.listeners = 0
    bench.clock.advance(GRACE_S)
    bench.talk(ONE, 16384, -16384)
    assert bench.rounds.visits == []
    assert bench.tap(ONE) is not None, "it is still watched"
    bench.wire.watchers = 0
    bench.clock.advance(ASK_EVERY_S)
    assert bench.tap(ONE) is None


def test_a_worker_that_stops_taps_no_call() -> None:
    bench = Bench()
    bench.wire.watchers = 1
    for call in (ONE, TWO):
        bench.call(call)
    bench.listening.listen(ONE, 60)
    bench.listening.close()
    assert bench.clock.running == 0
    assert bench.tap(ONE) is None
    assert bench.tap(TWO) is None
