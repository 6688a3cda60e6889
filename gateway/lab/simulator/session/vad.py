"""Voice activity by energy: when the caller starts to speak and when the turn ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

WINDOW_MS = 20
ONSET_MS = 60
HYSTERESIS_DB = 6.0
# Levels are RMS against full scale. Telephone speech lies around -25 dB, a quiet line's noise below -55 dB.
QUIETEST_DB = -60.0
LOUDEST_DB = -20.0
SEMANTIC_SILENCE_MS = {"low": 1500, "medium": 800, "auto": 800, "high": 400}


@dataclass(frozen=True, slots=True)
class VoiceBegan:
    """The caller began to speak at ``start_ms`` of the input clock; padding is not taken off."""

    start_ms: int


@dataclass(frozen=True, slots=True)
class VoiceEnded:
    """
    The silence after the caller's speech lasted long enough to end the turn.

    Attributes:
        end_ms: input clock now, the silence included.
        spoken_ms: from the first to the last loud window.
    """

    end_ms: int
    spoken_ms: int


@dataclass(frozen=True, slots=True)
class VadSettings:
    """What ``turn_detection`` asks for, in the terms of an energy detector."""

    threshold: float = 0.5
    silence_duration_ms: int = 500

    @classmethod
    def of(cls, turn_detection: dict[str, Any]) -> VadSettings:
        """Translate the session's ``turn_detection``; a semantic one becomes a fixed silence by its eagerness."""
        if turn_detection["type"] == "semantic_vad":
            return cls(silence_duration_ms=SEMANTIC_SILENCE_MS[turn_detection["eagerness"]])
        return cls(turn_detection["threshold"], turn_detection["silence_duration_ms"])

    @property
    def onset_db(self) -> float:
        """Level from which a window counts as the start of speech: -40 dB at a threshold of 0.5."""
        return QUIETEST_DB + (LOUDEST_DB - QUIETEST_DB) * self.threshold


class EnergyVad:
    """
    Detects turns in a stream of PCM by the energy of 20 ms windows.

    Speech starts after 60 ms above the onset level, and ends once ``silence_duration_ms`` stayed 6 dB below it.

    Args:
        settings: threshold and silence.
        rate_hz: sample rate of what ``process`` is given.
        clock_ms: input clock at the first sample.
    """

    def __init__(self, settings: VadSettings, *, rate_hz: int, clock_ms: int = 0) -> None:
        self.settings = settings
        self._window = rate_hz * WINDOW_MS // 1000
        self._rest = np.empty(0, dtype=np.int16)
        self._clock_ms = clock_ms
        self._onset = _energy(settings.onset_db)
        self._release = _energy(settings.onset_db - HYSTERESIS_DB)
        self._speaking = False
        self._loud_ms = 0
        self._quiet_ms = 0
        self._start_ms = 0

    @property
    def speaking(self) -> bool:
        """Whether a turn is open."""
        return self._speaking

    def process(self, pcm: bytes) -> list[VoiceBegan | VoiceEnded]:
        """
        Listen to the next part of the stream.

        Args:
            pcm: whole samples of signed 16-bit little-endian mono; any number.

        Returns:
            What was noticed, in order; mostly nothing.
        """
        samples = np.frombuffer(pcm, dtype="<i2")
        if self._rest.size:
            samples = np.concatenate((self._rest, samples))
        count = samples.size // self._window
        used = count * self._window
        self._rest = samples[used:]
        if not count:
            return []
        windows = samples[:used].astype(np.float32).reshape(count, self._window)
        energies = np.einsum("ij,ij->i", windows, windows) / self._window
        noticed: list[VoiceBegan | VoiceEnded] = []
        for energy in energies.tolist():
            self._clock_ms += WINDOW_MS
            event = self._silence_or_speech(energy) if self._speaking else self._onset_reached(energy)
            if event is not None:
                noticed.append(event)
        return noticed

    def _onset_reached(self, energy: float) -> VoiceBegan | None:
        self._loud_ms = self._loud_ms + WINDOW_MS if energy >= self._onset else 0
        if self._loud_ms < ONSET_MS:
            return None
        self._speaking = True
        self._start_ms = self._clock_ms - self._loud_ms
        self._loud_ms = self._quiet_ms = 0
        return VoiceBegan(self._start_ms)

    def _silence_or_speech(self, energy: float) -> VoiceEnded | None:
        self._quiet_ms = self._quiet_ms + WINDOW_MS if energy < self._release else 0
        if not self._quiet_ms or self._quiet_ms < self.settings.silence_duration_ms:
            return None
        self._speaking = False
        return VoiceEnded(self._clock_ms, self._clock_ms - self._quiet_ms - self._start_ms)


def _energy(level_db: float) -> float:
    """Return the mean square of 16-bit samples at a level against full scale."""
    return float(32768.0**2 * 10 ** (level_db / 10))
