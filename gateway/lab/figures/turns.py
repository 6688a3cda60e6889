"""Whose turn it is to speak, by the loudness of what is heard."""

from __future__ import annotations

import numpy as np

from gateway.audio.pcm import PHONE

SPEECH_LEVEL = 300  # mean absolute sample of a frame with speech; G.711 silence is 0 to 8
TURN_END_S = 0.9  # a speaker has finished when it was quiet this long


class TurnListener:
    """
    Finds the stretches of speech in what the robot hears.

    Attributes:
        turns: (start, end) of each finished stretch, in seconds of the recording.
        started_at: start of the stretch that is going on; None in silence.
    """

    def __init__(self) -> None:
        self.turns: list[tuple[float, float]] = []
        self.started_at: float | None = None
        self._loud_until = 0.0

    def hear(self, at_s: float, frame: bytes) -> bool:
        """Take one frame that starts ``at_s`` into the recording; return whether it holds speech."""
        samples = np.frombuffer(frame, dtype="<i2").astype(np.int32)
        loud = bool(np.abs(samples).mean() > SPEECH_LEVEL)
        if loud:
            self._loud_until = at_s + PHONE.ptime_ms / 1000
            if self.started_at is None:
                self.started_at = at_s
        elif self.started_at is not None and at_s - self._loud_until >= TURN_END_S:
            self.close()
        return loud

    def close(self) -> None:
        """End the stretch that is going on."""
        if self.started_at is not None:
            self.turns.append((round(self.started_at, 3), round(self._loud_until, 3)))
            self.started_at = None
