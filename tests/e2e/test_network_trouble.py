"""Speech through networks that lose, delay and reorder; phones that pause and renumber. ``-s`` shows the figures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gateway.audio.pcm import PHONE
from gateway.lab.bench.delay import heard_by_model, heard_by_phone, leg_ms, said, spoken_by_model
from gateway.lab.callers.relay import CLEAN, Trouble
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import damaged_share, longest_dropout_ms, segment_correlation, segments
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.simulator.transport.connection import Connection
from gateway.lab.speech import caller_speech
from tests.rigs.house import MakeHouse
from tests.rigs.lines import Line, Speak, call, calls
from tests.rigs.rounds import best_of, slowness

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

RATE = PHONE.rate_hz
REACH_MS = 4000
ECHO = SimulatorOptions(echo=True)
SPEECH_S = 8
BAD = Trouble(loss=0.05, jitter_ms=30, swapped=0.02)
NETWORKS = {"clean": CLEAN, "reordered": Trouble(swapped=0.1), "jittery": Trouble(jitter_ms=30), "bad": BAD}


def figures(line: Line, speech: bytes, name: str) -> dict[str, float]:
    """Measure both ways of a call: what the model heard, and what came back of what the model said."""
    heard, back = heard_by_model(line.connection), heard_by_phone(line.phone)
    spoken = spoken_by_model(line.connection)
    up, down = (
        segment_correlation(first, second, RATE, REACH_MS)
        for first, second in ((speech, heard.pcm), (spoken.pcm, back.pcm))
    )
    found = {
        "up": up.peak,
        "up_damaged": damaged_share(speech, heard.pcm, RATE, REACH_MS),
        "up_gap_ms": longest_dropout_ms(speech, heard.pcm, RATE, up.lag_ms),
        "up_delay_ms": float(np.median(leg_ms(said(line.phone, speech), heard))),
        "down": down.peak,
        "down_gap_ms": longest_dropout_ms(spoken.pcm, back.pcm, RATE, down.lag_ms),
        "down_delay_ms": float(np.median(leg_ms(spoken, back))),
        "lost": float(line.relay.outward.lost + line.relay.inward.lost),
    }
    print(f"\n{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in found.items()), end="")
    return found


@best_of(3)
async def test_speech_survives_loss_jitter_and_reordering_both_ways(house: MakeHouse, tmp_path: Path) -> None:
    speech = caller_speech(SPEECH_S)
    async with house(simulator=ECHO) as here:
        starts = [
            partial(call, here, tmp_path / name, speech, seconds=SPEECH_S, trouble=trouble)
            for name, trouble in NETWORKS.items()
        ]
        lines = dict(zip(NETWORKS, await calls(*starts, house=here), strict=True))
        found = {name: figures(line, speech, name) for name, line in lines.items()}
    clean, reordered, jittery, bad = found.values()
    slower = slowness()
    assert lines["reordered"].relay.outward.swapped > 20
    assert lines["bad"].relay.outward.lost > 10
    assert lines["bad"].relay.inward.lost > 10
    for each in (clean, reordered, jittery):
        assert each["up"] > 0.95
        assert each["down"] > 0.95
        assert each["up_damaged"] < 0.1
        assert each["up_gap_ms"] <= 60 * slower
    assert bad["up"] > 0.5, "one packet of twenty never came, and the jitter buffer moves in the middle of stretches"
    assert bad["down"] > 0.85
    assert bad["up_damaged"] < 0.4
    assert bad["up_gap_ms"] <= 120 * slower
    assert bad["up_delay_ms"] - clean["up_delay_ms"] < 120 * slower
    assert bad["down_delay_ms"] - clean["down_delay_ms"] < 60 * slower, "nothing waits in the gateway on the way down"


def timeline_ms(connection: Connection) -> tuple[float, float]:
    """Return the milliseconds of audio that came to the model, and the time in which they came."""
    marks = connection.caller_audio.marks
    return marks[-1][1] - marks[0][1], (marks[-1][0] - marks[0][0]) * 1000


def assert_continuous(connection: Connection) -> None:
    audio_ms, took_ms = timeline_ms(connection)
    slower = slowness()
    assert abs(audio_ms - took_ms) < 150 * slower, "as much audio as time"
    marks = connection.caller_audio.marks
    assert max(later[0] - earlier[0] for earlier, later in pairwise(marks)) < 0.5 * slower


def pausing(voice: bytes, *, comfort_noise: bool) -> Speak:
    """Say the voice, send nothing for 3 s, say it again."""

    async def speak(phone: RtpPeer) -> None:
        await asyncio.sleep(2)
        phone.rest(comfort_noise=comfort_noise)
        await asyncio.sleep(3)
        phone.say(voice)
        phone.go_on()

    return speak


@best_of(3)
async def test_a_pause_of_the_phone_is_silence_of_the_same_length(house: MakeHouse, tmp_path: Path) -> None:
    voice = caller_speech(2)
    async with house(simulator=ECHO) as here:
        starts = [
            partial(call, here, tmp_path / name, voice, seconds=7, then_silence=True, speak=speak)
            for name, speak in {
                "nothing": pausing(voice, comfort_noise=False),
                "noise": pausing(voice, comfort_noise=True),
            }.items()
        ]
        lines = await calls(*starts, house=here)
    for line in lines:
        assert_continuous(line.connection)
        heard = heard_by_model(line.connection).pcm
        first = segments(voice, heard, RATE, REACH_MS, 1500)[0]
        rest = heard[PHONE.bytes_of(round(first.lag_ms) + 3500) :]
        second = segments(voice, rest, RATE, REACH_MS, 1500)[0]
        apart_ms = second.lag_ms + 3500
        paused_ms = max(later - earlier for earlier, later in pairwise(line.phone.sent_at)) * 1000
        print(f"\nthe second voice came {apart_ms:.0f} ms after the first, the phone paused for {paused_ms:.0f} ms")
        assert min(first.peak, second.peak) > 0.9
        assert paused_ms > 2500
        assert abs(apart_ms - (2000 + paused_ms)) < 150 * slowness()
        begin_ms = round(first.lag_ms) + 2300
        pause = heard[PHONE.bytes_of(begin_ms) : PHONE.bytes_of(begin_ms + 2200)]
        assert np.abs(np.frombuffer(pause, "<i2")).max() < 300, "silence, not the last sound over and over"


def renumbering(change: Callable[[RtpPeer], None]) -> Speak:
    """In the middle of the speech, change the phone's numbers."""

    async def speak(phone: RtpPeer) -> None:
        await asyncio.sleep(2)
        change(phone)

    return speak


@best_of(3)
async def test_a_stream_may_change_its_numbers_in_the_middle(house: MakeHouse, tmp_path: Path) -> None:
    speech = caller_speech(6)
    changes: dict[str, Callable[[RtpPeer], None]] = {
        "new source": lambda phone: phone.renumber(sequence=7, timestamp=99, ssrc=0xDECADE),
        "wrap": lambda phone: phone.renumber(sequence=0xFFC0, timestamp=2**32 - 8000),
        "timestamp jump": lambda phone: phone.renumber(timestamp=0x7FFF0000),
        "sequence jump": lambda phone: phone.renumber(sequence=0x4000),
    }
    async with house(simulator=ECHO) as here:
        starts = [
            partial(call, here, tmp_path / name.replace(" ", "-"), speech, seconds=6, speak=renumbering(change))
            for name, change in changes.items()
        ]
        lines = dict(zip(changes, await calls(*starts, house=here), strict=True))
    for name, line in lines.items():
        assert_continuous(line.connection)
        heard = heard_by_model(line.connection).pcm
        before = segments(speech[: PHONE.bytes_of(1500)], heard, RATE, REACH_MS)
        after = segments(bytes(PHONE.bytes_of(3500)) + speech[PHONE.bytes_of(3500) :], heard, RATE, REACH_MS)
        peaks = [[round(each.peak, 2) for each in found] for found in (before, after)]
        print(f"\n{name}: before {peaks[0]}, after {peaks[1]}")
        assert np.median([each.peak for each in before]) > 0.9, name
        assert np.median([each.peak for each in after]) > 0.9, name
        assert line.phone.reception.longest_gap_ms() < 100 * slowness(), name
