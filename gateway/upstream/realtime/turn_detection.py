"""
Whether a session listens to the caller: its turn detection, and the rest it is given while the caller is muted.

While it rests the service detects no turn, answers no silence (``idle_timeout_ms``) and is sent none of the caller's
audio; the responses the gateway asks for go on as ever.
"""

from __future__ import annotations

import math

from gateway.upstream.realtime.wire.client import ClientEvent, InputAudioBufferClear, SessionUpdate
from gateway.upstream.realtime.wire.objects import EchoedSession
from gateway.upstream.realtime.wire.session import (
    AudioConfig,
    AudioFormat,
    AudioInput,
    G711Audio,
    SemanticVad,
    ServerVad,
    SessionConfig,
    TurnDetection,
)

LONGEST_WAIT_S = {"low": 8.0, "medium": 4.0, "auto": 4.0, "high": 2.0}
"""How long semantic turn detection waits for the caller to go on, by its eagerness."""

LATE_STOP_S = 3.0
"""How much longer than the pause that ends a turn the service may take to say that it ended."""

CLEAR_EVERY_MS = 60_000
"""Without turns nothing ever takes silence out of the service's buffer: so much is left in it, then it is emptied."""

_SILENCE = {"audio/pcm": b"\x00", "audio/pcmu": b"\xff", "audio/pcma": b"\xd5"}  # G.711: the codes nearest to 0


class TurnDetectionState:
    """
    A session's ear for the caller. Orders return the events to send.

    Args:
        config: the session asked for.
        interrupts: the caller's speech interrupts the agent; None: as the session says.

    Attributes:
        interrupts: the same, settled.
        server_interrupts: the service stops its response by itself when the caller speaks.
        caller_speaks: a turn of the caller is open.
        muted: the caller is not to be heard.
        longest_pause_s: the silence of the caller after which a turn is over, whatever the service says.
    """

    def __init__(self, config: SessionConfig, interrupts: bool | None) -> None:
        heard = config.audio.input if config.audio is not None else None
        self._detection: TurnDetection | None = heard.turn_detection if heard is not None else None
        audio: AudioFormat | None = heard.format if heard is not None else None
        self._silence = _SILENCE[audio.type] if audio is not None else b"\x00"
        self._bytes_per_ms = 8 if isinstance(audio, G711Audio) else 48
        self._silent_bytes = 0
        self._asked_id = ""  # of the last update, until it was refused once
        self._count = 0
        self.server_interrupts = self._detection is not None and self._detection.interrupt_response
        self.interrupts = self.server_interrupts if interrupts is None else interrupts
        self.caller_speaks = False
        self.muted = False
        self.longest_pause_s = _longest_pause_s(self._detection)

    @property
    def expects_no_answer(self) -> bool:
        """Whether no turn of the caller's is due an answer: it goes on, or is not heard."""
        return self.caller_speaks or self.muted

    def mute(self) -> tuple[ClientEvent, ...]:
        """Let turn detection rest and forget what is not a turn yet; nothing when it rests already."""
        if self.muted:
            return ()
        self.muted, self.caller_speaks, self._silent_bytes = True, False, 0
        return self._update(None), self._clear()

    def unmute(self) -> tuple[ClientEvent, ...]:
        """
        Listen again, as the session was asked for; nothing when it does.

        The buffer is emptied first: silence from before is no part of the next turn, and a service was seen to ask
        "are you still there?" at once when detection came back after longer than its idle time.
        """
        if not self.muted:
            return ()
        self.muted = False
        return self._clear(), self._update(self._detection)

    def silence(self, size_bytes: int) -> tuple[bytes, tuple[ClientEvent, ...]]:
        """Return silence of that size in the session's format, and what is to be sent after it."""
        self._silent_bytes += size_bytes
        silence = self._silence * size_bytes
        if self._silent_bytes < CLEAR_EVERY_MS * self._bytes_per_ms:
            return silence, ()
        self._silent_bytes = 0
        return silence, (self._clear(),)

    def speech_started(self) -> bool:
        """Take note that a turn began; False where it is of no concern, since the caller was muted meanwhile."""
        self.caller_speaks = not self.muted
        return self.caller_speaks

    def speech_stopped(self) -> bool:
        """Take note that no turn is open; False where it is of no concern."""
        self.caller_speaks = False
        return not self.muted

    def confirmed(self, echo: EchoedSession) -> None:
        """Take the session as it began: whether the service interrupts is as it says, if it does."""
        heard = echo.audio.input if echo.audio is not None else None
        turns = heard.turn_detection if heard is not None else None
        if turns is not None and turns.interrupt_response is not None:
            self.server_interrupts = turns.interrupt_response

    def updated(self, echo: EchoedSession) -> bool:
        """Take the session as it is now; True if an open turn was dropped with its detection and will never stop."""
        heard = echo.audio.input if echo.audio is not None else None
        rests = heard is not None and "turn_detection" in heard.model_fields_set and heard.turn_detection is None
        dropped = self.caller_speaks and rests
        if dropped:
            self.caller_speaks = False
        return dropped

    def refused(self, event_id: str | None) -> tuple[ClientEvent, ...]:
        """Note an error about an event; a change that is still wanted is requested once more."""
        if not self._asked_id or event_id != self._asked_id:
            return ()
        update = self._update(None if self.muted else self._detection)
        self._asked_id = ""
        return (update,)

    def _update(self, detection: TurnDetection | None) -> SessionUpdate:
        # All fields of it: what becomes of those that are left out is documented nowhere.
        heard = AudioInput(turn_detection=detection)
        self._asked_id = self._next_id("turns")
        return SessionUpdate(event_id=self._asked_id, session=SessionConfig(audio=AudioConfig(input=heard)))

    def _clear(self) -> InputAudioBufferClear:
        return InputAudioBufferClear(event_id=self._next_id("clear"))

    def _next_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"


def _longest_pause_s(detection: TurnDetection | None) -> float:
    match detection:
        case ServerVad(silence_duration_ms=int(silence_ms)):
            return silence_ms / 1000 + LATE_STOP_S
        case SemanticVad(eagerness=eagerness):
            return LONGEST_WAIT_S[eagerness or "auto"] + LATE_STOP_S
        case _:
            return math.inf
