"""The input audio buffer: the caller's audio, its clock, and the turns heard in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.lab.simulator.session.vad import EnergyVad, VadSettings, VoiceBegan, VoiceEnded
from gateway.lab.simulator.transport.connection import KeptAudio
from gateway.lab.simulator.wire.audio_formats import bytes_per_ms, rate_hz, to_pcm
from gateway.lab.simulator.wire.schema import ClientMistake

LEAST_COMMIT_MS = 100
SEMANTIC_PADDING_MS = 300


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the caller's audio, by the input clock in milliseconds."""

    start_ms: float
    end_ms: float

    @property
    def length_ms(self) -> float:
        """How long it is."""
        return self.end_ms - self.start_ms


class CallerAudio:
    """
    Counts the caller's audio and listens for turns in it.

    The clock is the milliseconds of audio written to the buffer in this session, never the wall's.

    Args:
        recording: keeps the audio.
        listens: without it no turns are detected, whatever the session says.
    """

    def __init__(self, recording: KeptAudio, *, listens: bool = True) -> None:
        self.clock_ms = 0.0
        self.turn_detection: dict[str, Any] | None = None
        self.format_type = ""
        self._recording = recording
        self._listens = listens
        self._vad: EnergyVad | None = None
        self._start_ms = 0.0

    def configure(self, settings: dict[str, Any]) -> None:
        """Take over ``session.audio.input``; a turn that is open goes on unless its detection changed."""
        format_type, detection = settings["format"]["type"], settings["turn_detection"]
        wanted = VadSettings.of(detection) if detection is not None and self._listens else None
        same = self._vad is not None and self._vad.settings == wanted and format_type == self.format_type
        self.format_type = format_type
        self.turn_detection = detection
        if not same:
            self._listen(wanted)

    def append(self, audio: bytes) -> list[VoiceBegan | VoiceEnded]:
        """
        Take the next part of the caller's audio.

        Args:
            audio: whole samples in the input format.

        Returns:
            What was noticed in it.
        """
        self._recording.add(self.format_type, audio)
        self.clock_ms += len(audio) / bytes_per_ms(self.format_type)
        return self._vad.process(to_pcm(self.format_type, audio)) if self._vad is not None else []

    def padded_start_ms(self, started: VoiceBegan) -> int:
        """Take the prefix padding off a start of speech and make the buffer begin there."""
        detection = self.turn_detection or {}
        padding = detection.get("prefix_padding_ms", SEMANTIC_PADDING_MS)
        self._start_ms = max(self._start_ms, started.start_ms - padding)
        return int(self._start_ms)

    def commit(self) -> Stretch:
        """
        Take what is in the buffer because the client asks, and start a new one; an open turn ends with it.

        Raises:
            ClientMistake: there is less than 100 ms.
        """
        stretch = Stretch(self._start_ms, self.clock_ms)
        if stretch.length_ms < LEAST_COMMIT_MS:
            message = (
                f"Error committing input audio buffer: expected at least {LEAST_COMMIT_MS}ms of audio, "
                f"but the buffer only has {stretch.length_ms:.2f}ms."
            )
            raise ClientMistake("input_audio_buffer_commit_empty", message)
        self.clear()
        return stretch

    def take_turn(self, stopped: VoiceEnded) -> Stretch:
        """Take the turn that has just ended; what came behind it stays in the buffer."""
        stretch = Stretch(self._start_ms, stopped.end_ms)
        self._start_ms = stopped.end_ms
        return stretch

    def take_silence(self, start_ms: float) -> Stretch:
        """Take the audio since ``start_ms``, without speech."""
        stretch = Stretch(min(start_ms, self.clock_ms), self.clock_ms)
        self._start_ms = self.clock_ms
        return stretch

    def clear(self) -> None:
        """Forget what is in the buffer, and an open turn with it."""
        self._start_ms = self.clock_ms
        self._listen(self._vad.settings if self._vad is not None else None)

    def _listen(self, settings: VadSettings | None) -> None:
        self._vad = None
        if settings is not None:
            rate = rate_hz(self.format_type)
            self._vad = EnergyVad(settings, rate_hz=rate, clock_ms=int(self.clock_ms))
