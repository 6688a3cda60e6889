from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from gateway.lab.simulator.agent.speech import utterance
from gateway.lab.simulator.transport.connection import KeptAudio
from gateway.lab.simulator.wire.audio_formats import PCM, PCMA, PCMU, bytes_per_ms, to_pcm24k
from gateway.lab.speech import agent_sentences, caller_wav

pytestmark = pytest.mark.unit


def test_the_greeting_comes_first_and_all_sentences_are_clear_speech() -> None:
    sentences = agent_sentences()
    assert sentences[0].text.startswith("Hello")
    assert len(sentences) >= 4
    for sentence in sentences:
        samples = np.frombuffer(sentence.pcm24k, dtype="<i2").astype(float)
        assert 24000 < samples.size < 5 * 24000
        assert 0.5 < np.abs(samples).max() / 32768 < 0.9, "loud, and not clipped"


def test_the_shipped_speech_stays_small() -> None:
    assert sum(file.stat().st_size for file in Path(caller_wav()).parent.glob("*.*")) < 700_000


@pytest.mark.parametrize("format_type", [PCM, PCMU, PCMA])
def test_a_sentence_is_cut_into_deltas_of_the_length_asked(format_type: str) -> None:
    deltas = utterance(0, format_type, 250).deltas
    assert {len(delta.audio) for delta in deltas[:-1]} == {250 * bytes_per_ms(format_type)}
    assert all(base64.b64decode(delta.encoded) == delta.audio for delta in deltas)
    spoken = to_pcm24k(format_type, b"".join(delta.audio for delta in deltas))
    original = np.frombuffer(agent_sentences()[0].pcm24k, dtype="<i2").astype(float)
    received = np.frombuffer(spoken, dtype="<i2").astype(float)
    lag = 0 if format_type == PCM else 120  # 2.5 ms for each of two resamplers
    size = min(original.size, received.size) - lag
    assert np.corrcoef(original[:size], received[lag : lag + size])[0, 1] > 0.97


def test_a_recording_keeps_its_order_and_its_limit() -> None:
    recording = KeptAudio(0.05)
    recording.add(PCM, b"\x01\x00" * 480)
    recording.add(PCMU, b"\xff" * 160)
    recording.add(PCM, b"\x02\x00" * 480)
    recording.add(PCM, b"\x03\x00" * 480)
    kept = recording.pcm24k()
    assert kept[:960] == b"\x01\x00" * 480
    assert kept[-960:] == b"\x02\x00" * 480
    assert len(kept) == 3 * 960
