"""Both voices between the phone and the wire."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from gateway.audio.pcm import MODEL, PHONE, WIDEBAND
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.resample import Downsampler, Resampler, Upsampler
from gateway.audio.uplink import UplinkTap
from gateway.upstream.audio import MAX_STREAMS, AgentVoice, AudioFormatName, CallerVoice
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit

TONE = (8000 * np.sin(np.arange(1600) / 3)).astype("<i2").tobytes()  # 200 ms
FRAMES = [TONE[start : start + PHONE.frame_bytes] for start in range(0, len(TONE), PHONE.frame_bytes)]


def write(tap: UplinkTap, frame: bytes) -> None:
    with playing("clock"):
        tap.write_frame(frame)


def read(playout: PlayoutBuffer) -> bytes | None:
    with playing("clock"):
        return playout.read_frame()


def new_caller(audio_format: AudioFormatName = "pcm", *, early_ms: int = 0) -> tuple[UplinkTap, CallerVoice]:
    tap = UplinkTap(capacity_frames=100)
    return tap, CallerVoice(tap, audio_format, early_ms=early_ms)


def played(playout: PlayoutBuffer) -> bytes:
    frames = []
    while (frame := read(playout)) is not None:
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
        write(tap, frame)
        heard.append(caller.take())

    assert b"".join(heard) == expected


def test_a_message_holds_all_that_waits() -> None:
    tap, caller = new_caller("pcmu")
    assert caller.take() == b""
    for frame in FRAMES[:3]:
        write(tap, frame)

    assert caller.take() == pcm_to_ulaw(b"".join(FRAMES[:3]))
    assert caller.take() == b""


def test_what_comes_too_early_is_forgotten_unless_it_is_to_be_held() -> None:
    tap, caller = new_caller()
    for frame in FRAMES:
        write(tap, frame)
        caller.hold()

    assert caller.take_early() == b""
    assert caller.take() == b""


def test_of_what_is_held_the_newest_stays() -> None:
    tap, caller = new_caller("pcmu", early_ms=50)
    for frame in FRAMES:
        write(tap, frame)
        caller.hold()

    assert caller.take_early() == pcm_to_ulaw(TONE)[-400:]
    assert caller.take_early() == b""


def test_what_still_waits_when_the_session_is_ready_is_held_too() -> None:
    tap, caller = new_caller("pcmu", early_ms=1000)
    write(tap, FRAMES[0])
    caller.hold()
    write(tap, FRAMES[1])

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
        agent.play("item_a", coded[start : start + 333], (1, 0))
    agent.end("item_a")

    assert played(playout) == expected


def test_speech_at_24_khz_is_resampled_and_its_tail_is_heard() -> None:
    speech = Upsampler().process(TONE)
    playout = PlayoutBuffer(PHONE)
    agent = AgentVoice(playout, "pcm")
    agent.play("item_a", speech, (1, 0))
    agent.end("item_a")
    agent.end("item_a")

    downsampler = Downsampler()
    expected = downsampler.process(speech) + downsampler.tail()
    assert played(playout)[: len(expected)] == expected


SPEECH = np.random.default_rng(7).integers(-9000, 9000, 12_000, np.int16).tobytes()  # 500 ms at 24 kHz


def alone(speech: bytes) -> bytes:
    """Return what is heard of an item that nothing is mixed with."""
    downsampler = Downsampler()
    return downsampler.process(speech) + downsampler.tail()


def test_items_whose_deltas_overlap_are_resampled_apart_and_played_one_after_the_other() -> None:
    playout = PlayoutBuffer(PHONE)
    agent = AgentVoice(playout, "pcm")
    first, second = SPEECH[:9000], SPEECH[9000:]
    for start in range(0, 15_000, 1000):
        agent.play("item_b", second[start : start + 1000], (1, 1))
        agent.play("item_a", first[start : start + 1000], (1, 0))
    agent.end("item_b")
    agent.end("item_a")

    assert played(playout).rstrip(b"\0") == (alone(first) + alone(second)).rstrip(b"\0")
    assert playout.position() is None


def test_another_session_may_use_the_same_ids_for_other_items() -> None:
    playout = PlayoutBuffer(PHONE)
    agent = AgentVoice(playout, "pcm")
    agent.play("item_1", SPEECH, (1, 0))
    read(playout)
    playout.flush()
    assert agent.cut_off() == {"item_1": 20}
    agent.play("item_1", SPEECH, (1, 0))
    assert played(playout) == b"", "what still comes of an item that was cut off is dropped"

    agent.begin_session()
    agent.play("item_1", SPEECH, (1, 0))
    agent.begin_session()
    agent.play("item_1", SPEECH[:6000], (1, 0))
    agent.end("item_1")

    assert agent.cut_off() == {}
    assert played(playout).rstrip(b"\0") == (alone(SPEECH) + alone(SPEECH[:6000])).rstrip(b"\0")


def test_another_response_may_use_the_same_id_for_another_item() -> None:
    playout = PlayoutBuffer(PHONE)
    agent = AgentVoice(playout, "pcm")
    agent.play("item_1", SPEECH, (1, 0))
    playout.flush()
    agent.play("item_1", SPEECH[:6000], (2, 0))
    agent.play("item_1", SPEECH[:9000], (3, 0))
    agent.end("item_1")

    assert played(playout).rstrip(b"\0") == (alone(SPEECH[:6000]) + alone(SPEECH[:9000])).rstrip(b"\0")


def test_the_items_that_are_open_at_once_are_bounded() -> None:
    playout = PlayoutBuffer(PHONE)
    agent = AgentVoice(playout, "pcmu")
    for number in range(MAX_STREAMS + 3):
        agent.play(f"item_{number}", bytes(160), (1, number))

    assert len(agent._streams) == MAX_STREAMS
    agent.begin_session()
    assert len(played(playout)) == (MAX_STREAMS + 3) * PHONE.frame_bytes, "none is lost"


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
    caller = CallerVoice(tap, audio_format, early_ms=0, phone=WIDEBAND)
    heard = []
    for start in range(0, len(WIDE), WIDEBAND.frame_bytes):
        write(tap, WIDE[start : start + WIDEBAND.frame_bytes])
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
        agent.play("item_a", coded[start : start + 334], (1, 0))
    agent.end("item_a")

    resampler = Resampler(rate_hz, WIDEBAND.rate_hz)
    expected = resampler.process(decoded) + resampler.tail()
    heard = played(playout)
    assert heard[: len(expected)] == expected
    assert not any(heard[len(expected) :])
    assert len(heard) % WIDEBAND.frame_bytes == 0


def test_early_speech_of_a_wideband_caller_is_counted_in_milliseconds() -> None:
    tap = UplinkTap(capacity_frames=100)
    caller = CallerVoice(tap, "pcmu", early_ms=50, phone=WIDEBAND)
    for start in range(0, len(WIDE), WIDEBAND.frame_bytes):
        write(tap, WIDE[start : start + WIDEBAND.frame_bytes])
        caller.hold()

    assert len(caller.take_early()) == 50 * 8
