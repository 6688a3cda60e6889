"""
Both voices of a call between the phone (8 kHz PCM) and the wire: the caller's on the way up, the agent's down.

``audio/pcm`` is resampled to 24 kHz and back; ``audio/pcmu`` and ``audio/pcma`` are coded at 8 kHz and are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from gateway.audio.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.resample import Downsampler, Upsampler
from gateway.audio.uplink import UplinkTap

AudioFormatName = Literal["pcm", "pcmu", "pcma"]

_ENCODE = {"pcmu": pcm_to_ulaw, "pcma": pcm_to_alaw}
_DECODE = {"pcmu": ulaw_to_pcm, "pcma": alaw_to_pcm}


class CallerVoice:
    """
    The caller's voice on its way to the model. Thread: loop.

    Args:
        uplink: frames of 20 ms at 8 kHz.
        audio_format: of the session.
        batch_ms: audio per message.
        early_ms: how much is kept of what is said while no session listens; the newest stays.
    """

    def __init__(self, uplink: UplinkTap, audio_format: AudioFormatName, *, batch_ms: int, early_ms: int) -> None:
        self._uplink = uplink
        self._convert: Callable[[bytes], bytes] = _ENCODE.get(audio_format) or Upsampler().process
        self._batch_bytes = PHONE.bytes_of(batch_ms)
        self._early_bytes = PHONE.bytes_of(early_ms)
        self._heard = b""

    def listen(self, wake: Callable[[], None] | None) -> None:
        """Call ``wake`` on the clock thread when frames wait; None: stop."""
        self._uplink.listen(wake)

    def hold(self) -> None:
        """Nobody listens: keep the newest of what waits, or nothing."""
        early = self._uplink.read()
        if self._early_bytes:
            self._heard = (self._heard + early)[-self._early_bytes :]
        else:
            self._heard = b""

    def take_early(self) -> bytes:
        """Return what was held, in the session's format, in one piece; may be empty."""
        self.hold()
        early, self._heard = self._heard, b""
        return self._convert(early) if early else b""

    def take(self) -> bytes:
        """Return what waits, in the session's format; empty as long as it fills no message."""
        self._heard += self._uplink.read()
        if len(self._heard) < self._batch_bytes:
            return b""
        heard, self._heard = self._heard, b""
        return self._convert(heard)


class AgentVoice:
    """
    The agent's speech on its way to the caller. Thread: loop.

    Args:
        playout: 8 kHz PCM, by item.
        audio_format: of the session.
    """

    def __init__(self, playout: PlayoutBuffer, audio_format: AudioFormatName) -> None:
        self._playout = playout
        self._decode = _DECODE.get(audio_format)
        self._downsampler = Downsampler()
        self._speaking: str | None = None  # item whose audio is in the downsampler

    def play(self, item_id: str, audio: bytes) -> None:
        """Queue speech of an item; any number of bytes."""
        if item_id != self._speaking:
            if self._speaking is not None:
                self.end(self._speaking)
            self._speaking = item_id
        self._playout.write(item_id, self._decode(audio) if self._decode else self._downsampler.process(audio))

    def end(self, item_id: str) -> None:
        """Say that no more speech of an item comes."""
        if item_id == self._speaking:
            self._speaking = None
            if self._decode is None:
                self._playout.write(item_id, self._downsampler.tail())
        self._playout.complete(item_id)

    def end_all(self) -> None:
        """Say that no more speech comes of whatever was being said: its session is gone."""
        if self._speaking is not None:
            self.end(self._speaking)
