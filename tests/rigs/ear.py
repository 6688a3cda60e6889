"""What a caller hears, frame by frame: words, or the filler's tone."""

from __future__ import annotations

import numpy as np

from gateway.audio.g711 import ulaw_to_pcm
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.turns import SPEECH_LEVEL

_WORD_FRAMES, _WITHIN_FRAMES = 5, 10
_TONE_BINS, _TONE_SHARE = slice(7, 14), 0.9  # of 50 Hz: the filler's notes at 440 and 554 Hz


class Ear:
    """What a phone received, frame by frame: words, or the filler's tone, by when they came."""

    def __init__(self, phone: RtpPeer) -> None:
        self._phone = phone
        self._taken = 0
        self._kinds: list[tuple[float, str]] = []

    def frames(self) -> list[tuple[float, str]]:
        """Return (monotonic seconds, ``word``, ``tone`` or nothing) of each frame so far."""
        packets = self._phone.reception.packets
        for packet in packets[self._taken :]:
            self._kinds.append((packet.arrived_at, _kind(ulaw_to_pcm(packet.payload))))
        self._taken = len(packets)
        return self._kinds

    def words(self, since: float) -> list[float]:
        """Return when each frame of words came; a stray loud frame is none."""
        late = [(at, kind == "word") for at, kind in self.frames() if at >= since]
        if not late:
            return []
        marks = np.convolve([is_word for _, is_word in late], np.ones(_WITHIN_FRAMES), "full")[_WITHIN_FRAMES - 1 :]
        return [at for (at, is_word), near in zip(late, marks, strict=False) if is_word and near >= _WORD_FRAMES]

    def first_sound(self, since: float) -> float | None:
        """Return when the first loud frame came, of whatever kind."""
        return next((at for at, kind in self.frames() if at >= since and kind), None)


def _kind(pcm: bytes) -> str:
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float64)
    if np.abs(samples).mean() <= SPEECH_LEVEL:
        return ""
    energy = np.abs(np.fft.rfft(samples * np.hanning(samples.size))) ** 2
    return "tone" if energy[_TONE_BINS].sum() > _TONE_SHARE * energy.sum() else "word"
