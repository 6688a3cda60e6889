"""Both voices between the phone and the wire."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from gateway.audio.pcm import MODEL, PHONE, WIDEBAND
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.resample import Downsampler, Resampler, Upsampler
from gateway.audio.uplink import UplinkTap
from gateway.realtime.voice import AgentVoice, AudioFormatName, CallerVoice
from gateway.threads import check_threads

pytestmark = pytest.mark.unit

TONE = (8000 * np.sin(np.arange(1600) / 3)).astype("<i2").tobytes()  # 200 ms
FRAMES = [TONE[start : start + PHONE.frame_bytes] for start in range(0, len(TONE), PHONE.frame_bytes)]


@pytest.fixture(autouse=True)
def one_thread_plays_all_parts(thread_marks_are_checked: None) -> None:
    check_threads(enabled=False)


def new_caller(
    audio_format: AudioFormatName = "pcm", *, batch_ms: int = 20, early_ms: int = 0
) -> tuple[UplinkTap, CallerVoice]:
    tap = UplinkTap(capacity_frames=100)
    return tap, CallerVoice(tap, audio_format, batch_ms=batch_ms, early_ms=early_ms)


def played(playout: PlayoutBuffer) -> bytes:
    frames = []
    while (frame := playout.read_frame()) is not None:
        frames.append(frame)
    return b"".join(frames)


@pytest.mark.parametrize(
    ("audio_format", "expected"),
    [("pcm", Upsampler().process(TONE)), ("pcmu", pcm_to_ulaw(TONE)), ("pcma", pcm_to_alaw(TONE))],
)
def test_the_caller_is_heard_in_the_sessions_format(audio_format: AudioFormatName, expected: bytes) -> None:
    tap, caller = new_caller(audio_format)
    heard = []
    for frame in FRAMES:
        tap.write_frame(frame)
        heard.append(caller.take())

    assert b"".join(heard) == expected


def test_a_message_is_not_sent_before_it_is_full() -> None:
    tap, caller = new_caller("pcmu", batch_ms=60)
    sizes = []
    for frame in FRAMES[:6]:
        tap.write_frame(frame)
        sizes.append(len(caller.take()))

    assert sizes == [0, 0, 480, 0, 0, 480]


def test_what_comes_too_early_is_forgotten_unless_it_is_to_be_held() -> None:
    tap, caller = new_caller()
    for frame in FRAMES:
        tap.write_frame(frame)
        caller.hold()

    assert caller.take_early() == b""
    assert caller.take() == b""


def test_of_what_is_held_the_newest_stays() -> None:
    tap, caller = new_caller("pcmu", early_ms=50)
    for frame in FRAMES:
        tap.write_frame(frame)
        caller.hold()

    assert caller.take_early() == pcm_to_ulaw(TONE)[-400:]
    assert caller.take_early() == b""


def test_what_still_waits_when_the_session_is_ready_is_held_too() -> None:
    tap, caller = new_caller("pcmu", early_ms=1000)
    tap.write_frame(FRAMES[0])
    caller.hold()
    tap.write_frame(FRAMES[1])

    assert caller.take_early() == pcm_to_ulaw(FRAMES[0] + FRAMES[1])


@pytest.mark.parametrize(
    ("audio_format", "coded", "expected"),
    [
        ("pcmu", pcm_to_ulaw(TONE), ulaw_to_pcm(pcm_to_ulaw(TONE))),
        ("pcma", pcm_to_alaw(TONE), alaw_to_pcm(pcm_to_alaw(TONE))),
    ],
)
def test_speech_in_the_phones_own_format_is_decoded_and_nothing_else(
    audio_format: AudioFormatName, coded: bytes, expected: bytes
) -> None:
    playout = PlayoutBuffer(PHONE)
    agent = AgentVoice(playout, audio_format)
    for start in range(0, len(coded), 333):
        agent.play("item_a", coded[start : start + 333])
    agent.end("item_a")

    assert played(playout) == expected


def test_speech_at_24_khz_is_resampled_and_its_tail_is_heard() -> None:
    speech = Upsampler().process(TONE)
    playout = PlayoutBuffer(PHONE)
    agent = AgentVoice(playout, "pcm")
    agent.play("item_a", speech)
    agent.end_all()
    agent.end_all()

    downsampler = Downsampler()
    expected = downsampler.process(speech) + downsampler.tail()
    assert played(playout)[: len(expected)] == expected


def test_a_new_item_ends_the_one_before() -> None:
    playout = PlayoutBuffer(PHONE)
    agent = AgentVoice(playout, "pcm")
    agent.play("item_a", bytes(4800))
    agent.play("item_b", bytes(4800))
    agent.end("item_a")
    agent.end("item_b")

    assert len(played(playout)) >= 2 * PHONE.bytes_of(100)
    assert playout.position() is None


WIDE = (8000 * np.sin(np.arange(3200) / 5)).astype("<i2").tobytes()  # 200 ms at 16 kHz
TO_MODEL, TO_G711 = Resampler(16000, 24000), Resampler(16000, 8000)
WIDE_AT_8_KHZ = TO_G711.process(WIDE)


@pytest.mark.parametrize(
    ("audio_format", "expected"),
    [
        ("pcm", TO_MODEL.process(WIDE)),
        ("pcmu", pcm_to_ulaw(WIDE_AT_8_KHZ)),
        ("pcma", pcm_to_alaw(WIDE_AT_8_KHZ)),
    ],
)
def test_a_wideband_caller_is_resampled_once(audio_format: AudioFormatName, expected: bytes) -> None:
    tap = UplinkTap(capacity_frames=100)
    caller = CallerVoice(tap, audio_format, batch_ms=20, early_ms=0, phone=WIDEBAND)
    heard = []
    for start in range(0, len(WIDE), WIDEBAND.frame_bytes):
        tap.write_frame(WIDE[start : start + WIDEBAND.frame_bytes])
        heard.append(caller.take())

    assert b"".join(heard) == expected
    assert all(heard), "a frame of 20 ms fills a message of 20 ms"


@pytest.mark.parametrize(
    ("audio_format", "coded", "decoded", "rate_hz"),
    [
        ("pcm", TONE[:2880], TONE[:2880], MODEL.rate_hz),
        ("pcmu", pcm_to_ulaw(TONE), ulaw_to_pcm(pcm_to_ulaw(TONE)), PHONE.rate_hz),
        ("pcma", pcm_to_alaw(TONE), alaw_to_pcm(pcm_to_alaw(TONE)), PHONE.rate_hz),
    ],
)
def test_speech_for_a_wideband_phone_is_resampled_once_and_its_tail_is_heard(
    audio_format: AudioFormatName, coded: bytes, decoded: bytes, rate_hz: int
) -> None:
    playout = PlayoutBuffer(WIDEBAND)
    agent = AgentVoice(playout, audio_format, phone=WIDEBAND)
    for start in range(0, len(coded), 334):
        agent.play("item_a", coded[start : start + 334])
    agent.end("item_a")

    resampler = Resampler(rate_hz, WIDEBAND.rate_hz)
    expected = resampler.process(decoded) + resampler.tail()
    heard = played(playout)
    assert heard[: len(expected)] == expected
    assert not any(heard[len(expected) :])
    assert len(heard) % WIDEBAND.frame_bytes == 0


def test_early_speech_of_a_wideband_caller_is_counted_in_milliseconds() -> None:
    tap = UplinkTap(capacity_frames=100)
    caller = CallerVoice(tap, "pcmu", batch_ms=60, early_ms=50, phone=WIDEBAND)
    for start in range(0, len(WIDE), WIDEBAND.frame_bytes):
        tap.write_frame(WIDE[start : start + WIDEBAND.frame_bytes])
        caller.hold()

    assert len(caller.take_early()) == 50 * 8
