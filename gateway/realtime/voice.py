"""
Both voices of a call between the phone (PCM at 8 or 16 kHz) and the wire: the caller's on the way up, the agent's down.

The one place where the rate changes: ``audio/pcm`` is at 24 kHz, ``audio/pcmu`` and ``audio/pcma`` are at 8 kHz. A
phone at 8 kHz is not resampled for the latter, one at 16 kHz (G.722) once for either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from gateway.audio.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from gateway.audio.pcm import MODEL, PHONE, PcmFormat
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.resample import Resampler
from gateway.audio.uplink import UplinkTap

AudioFormatName = Literal["pcm", "pcmu", "pcma"]

_ENCODE = {"pcmu": pcm_to_ulaw, "pcma": pcm_to_alaw}
_DECODE = {"pcmu": ulaw_to_pcm, "pcma": alaw_to_pcm}
_RATES_HZ = {"pcm": MODEL.rate_hz, "pcmu": PHONE.rate_hz, "pcma": PHONE.rate_hz}


class CallerVoice:
    """
    The caller's voice on its way to the model. Thread: loop.

    Args:
        uplink: frames of the phone's PCM.
        audio_format: of the session.
        batch_ms: audio per message.
        early_ms: how much is kept of what is said while no session listens; the newest stays.
        phone: format of the frames.
    """

    def __init__(
        self,
        uplink: UplinkTap,
        audio_format: AudioFormatName,
        *,
        batch_ms: int,
        early_ms: int,
        phone: PcmFormat = PHONE,
    ) -> None:
        self._uplink = uplink
        target_hz = _RATES_HZ[audio_format]
        self._resampler = Resampler(phone.rate_hz, target_hz) if target_hz != phone.rate_hz else None
        self._encode: Callable[[bytes], bytes] | None = _ENCODE.get(audio_format)
        self._batch_bytes = phone.bytes_of(batch_ms)
        self._early_bytes = phone.bytes_of(early_ms)
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

    def _convert(self, pcm: bytes) -> bytes:
        if self._resampler is not None:
            pcm = self._resampler.process(pcm)
        return self._encode(pcm) if self._encode is not None else pcm


class AgentVoice:
    """
    The agent's speech on its way to the caller. Thread: loop.

    Args:
        playout: the phone's PCM, by item.
        audio_format: of the session.
        phone: format of the playout.
    """

    def __init__(self, playout: PlayoutBuffer, audio_format: AudioFormatName, *, phone: PcmFormat = PHONE) -> None:
        self._playout = playout
        source_hz = _RATES_HZ[audio_format]
        self._decode: Callable[[bytes], bytes] | None = _DECODE.get(audio_format)
        self._resampler = Resampler(source_hz, phone.rate_hz) if source_hz != phone.rate_hz else None
        self._speaking: str | None = None  # item whose audio is in the resampler

    def play(self, item_id: str, audio: bytes) -> None:
        """Queue speech of an item; any number of bytes."""
        if item_id != self._speaking:
            if self._speaking is not None:
                self.end(self._speaking)
            self._speaking = item_id
        if self._decode is not None:
            audio = self._decode(audio)
        self._playout.write(item_id, audio if self._resampler is None else self._resampler.process(audio))

    def end(self, item_id: str) -> None:
        """Say that no more speech of an item comes."""
        if item_id == self._speaking:
            self._speaking = None
            if self._resampler is not None:
                self._playout.write(item_id, self._resampler.tail())
        self._playout.complete(item_id)

    def end_all(self) -> None:
        """Say that no more speech comes of whatever was being said: its session is gone."""
        if self._speaking is not None:
            self.end(self._speaking)
