"""
Both voices of a call between the phone (PCM at 8 or 16 kHz) and the wire: the caller's on the way up, the agent's down.

The one place where the rate changes: ``audio/pcm`` is at 24 kHz, ``audio/pcmu`` and ``audio/pcma`` are at 8 kHz. A
phone at 8 kHz is not resampled for the latter, one at 16 kHz (G.722) once for either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gateway.audio.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, peak, ulaw_to_pcm
from gateway.audio.pcm import MODEL, PHONE, PcmFormat
from gateway.audio.playout import Place, PlayoutBuffer
from gateway.audio.resample import Resampler
from gateway.audio.uplink import UplinkTap

AudioFormatName = Literal["pcm", "pcmu", "pcma"]

_ENCODE = {"pcmu": pcm_to_ulaw, "pcma": pcm_to_alaw}
_DECODE = {"pcmu": ulaw_to_pcm, "pcma": alaw_to_pcm}
_RATES_HZ = {"pcm": MODEL.rate_hz, "pcmu": PHONE.rate_hz, "pcma": PHONE.rate_hz}

MAX_STREAMS = 64
"""Items that may be open at once; of more, the oldest is ended."""


class CallerVoice:
    """
    The caller's voice on its way to the model. Thread: loop.

    Args:
        uplink: frames of the phone's PCM.
        audio_format: of the session.
        early_ms: how much is kept of what is said while no session listens; the newest stays.
        phone: format of the frames.
    """

    def __init__(
        self,
        uplink: UplinkTap,
        audio_format: AudioFormatName,
        *,
        early_ms: int,
        phone: PcmFormat = PHONE,
    ) -> None:
        self.uplink = uplink
        target_hz = _RATES_HZ[audio_format]
        self._resampler = Resampler(phone.rate_hz, target_hz) if target_hz != phone.rate_hz else None
        self._encode: Callable[[bytes], bytes] | None = _ENCODE.get(audio_format)
        self._early_bytes = phone.bytes_of(early_ms)
        self._heard = b""
        self._taken = b""

    def hold(self) -> None:
        """Keep the newest of what waits, or nothing, while there is no session."""
        early = self.uplink.read()
        if self._early_bytes:
            self._heard, self._taken = (self._heard + early)[-self._early_bytes :], b""
        else:
            self._heard, self._taken = b"", early

    def take_early(self) -> bytes:
        """Return what was held, in the session's format, in one piece; may be empty."""
        self.hold()
        early, self._heard = self._heard, b""
        return self._convert(early) if early else b""

    def take(self) -> bytes:
        """Return what waits, in the session's format; may be empty."""
        heard = self.uplink.read()
        if self._heard:
            heard, self._heard = self._heard + heard, b""
        self._taken = heard
        return self._convert(heard) if heard else b""

    @property
    def peak(self) -> int:
        """The largest sample (0 to 32,767) of what was taken last, or forgotten."""
        return peak(self._taken)

    def _convert(self, pcm: bytes) -> bytes:
        if self._resampler is not None:
            pcm = self._resampler.process(pcm)
        return self._encode(pcm) if self._encode is not None else pcm


@dataclass(frozen=True, slots=True)
class _Stream:
    """An item of the agent's that has begun: where it belongs, and what converts it."""

    place: Place
    resampler: Resampler | None


class AgentVoice:
    """
    The agent's speech on its way to the caller: each item is a stream of its own. Thread: loop.

    Args:
        playout: the phone's PCM, by item.
        audio_format: of the session.
        phone: format of the playout.
    """

    def __init__(self, playout: PlayoutBuffer, audio_format: AudioFormatName, *, phone: PcmFormat = PHONE) -> None:
        self._playout = playout
        self._source_hz, self._target_hz = _RATES_HZ[audio_format], phone.rate_hz
        self._decode: Callable[[bytes], bytes] | None = _DECODE.get(audio_format)
        self._streams: dict[str, _Stream] = {}  # of items that have not ended
        self._newest = self._left_out = -1  # numbers of responses: of the newest, and of the last that is not played
        self._session = playout.new_session()

    def play(self, item_id: str, audio: bytes, place: tuple[int, int]) -> None:
        """Queue speech of an item, any number of bytes; ``place``: number of its response, index in that."""
        stream = self._streams.get(item_id)
        if stream is None or stream.place[1:] != place:
            stream = self._open(item_id, place)
            if stream is None:
                return
        pcm = self._decode(audio) if self._decode is not None else audio
        if stream.resampler is not None:
            pcm = stream.resampler.process(pcm)
        self._playout.write(item_id, pcm, stream.place)

    def end(self, item_id: str) -> None:
        """Say that an item's speech came to its end; what still comes of it is a stream of its own."""
        stream = self._streams.pop(item_id, None)
        if stream is None:
            return
        if stream.resampler is not None:
            self._playout.write(item_id, stream.resampler.tail(), stream.place)
        self._playout.complete(item_id, stream.place)

    def cut_off(self) -> dict[str, int]:
        """Return how many milliseconds were heard of each item of this session that was dropped from the playout."""
        return self._playout.cut_off(self._session)

    def leave_out(self) -> None:
        """Play nothing more of the responses that have begun, whatever still comes of them."""
        self._left_out = self._newest
        for item_id in tuple(self._streams):
            self.end(item_id)

    def begin_session(self) -> None:
        """Take what comes from now on for another session's: its items are others, whatever their ids."""
        for item_id in tuple(self._streams):
            self.end(item_id)
        self._session = self._playout.new_session()
        self._newest = self._left_out = -1

    def _open(self, item_id: str, place: tuple[int, int]) -> _Stream | None:
        self.end(item_id)  # of another response, which has an item of the same id
        self._newest = max(self._newest, place[0])
        if place[0] <= self._left_out:
            return None
        converts = self._source_hz != self._target_hz
        resampler = Resampler(self._source_hz, self._target_hz) if converts else None
        stream = self._streams[item_id] = _Stream(Place(self._session, *place), resampler)
        if len(self._streams) > MAX_STREAMS:
            self.end(next(iter(self._streams)))
        return stream
