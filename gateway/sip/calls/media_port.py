"""Where PJMEDIA's clock meets a call's two buffers: a frame each way, nothing else."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import ClassVar, Protocol

from gateway.audio.pcm import PcmFormat
from gateway.audio.tap import AudioTap
from gateway.audio.uplink import UplinkTap
from gateway.sip.calls.overload import ClockTicks
from gateway.sip.library.frame_bytes import FrameAccess
from gateway.sip.library.pj import pj
from gateway.sip.native.port_frames import PortFrames
from gateway.threads import runs_on

_LOCKED = 0  # PyGILState_LOCKED: whoever called us still holds it


class FrameSource(Protocol):
    """Where the frames that go out come from."""

    def read_frame(self) -> bytes | None:
        """Give the next frame; None is silence. Thread: clock."""


class _ClockThread(threading.local):
    """What the clock's present thread knows of itself: PJMEDIA ends it a while after the last call."""

    keeps_state = False


_clock = _ClockThread()


class AgentMediaPort(pj.AudioMediaPort):
    """
    A port of the conference bridge that gives the agent's speech and takes the caller's.

    Ports are made once and lent to one call after another: removing one from a running bridge is where this library
    asserts. A port that is lent to no call gives and takes silence.

    Args:
        access: how frames are read and written where pjsua2 is asked.
        index: number of the port, for PJMEDIA's log.
        pcm: format of the frames: the bridge's.
        clock: counts the clock's ticks.
        frames: a shorter way to the frames, if there is one.
    """

    _lent: ClassVar[set[int]] = set()  # numbers of the ports that serve a call

    def __init__(
        self, access: FrameAccess, index: int, pcm: PcmFormat, clock: ClockTicks, frames: PortFrames | None = None
    ) -> None:
        super().__init__()
        self._clock = clock
        self._note_tick = clock.note
        self._index = index
        self._read, self._write = access.read, access.write
        self._silence = bytes(pcm.frame_bytes)
        self._uplink: UplinkTap | None = None
        self._playout: FrameSource | None = None
        self._tap: AudioTap | None = None
        self._deaf = False
        fmt = pj.MediaFormatAudio()
        fmt.init(pj.PJMEDIA_FORMAT_PCM, pcm.rate_hz, 1, pcm.ptime_ms * 1000, 16)
        self.createPort(f"agent-{index}", fmt)
        self._exchanged = frames.exchange(self._give, self._take) if frames is not None else None

    @runs_on("sip")
    def close(self) -> None:
        """Have pjsua2 ask for frames again, before the port goes; the clock must have ended."""
        exchanged, self._exchanged = self._exchanged, None  # its functions hold this port, which must go at once
        if exchanged is not None:
            exchanged.restore()

    @runs_on("sip")
    def lend(self, uplink: UplinkTap | None, playout: FrameSource | None, tap: AudioTap | None = None) -> None:
        """Serve this call from the next frame on; what is None is not served."""
        if not self._lent:
            self._clock.begin()
        self._lent.add(self._index)
        self._uplink, self._playout, self._tap = uplink, playout, tap

    @runs_on("sip")
    def take_back(self) -> None:
        """Serve no call any more."""
        self._lent.discard(self._index)
        self._uplink = self._playout = self._tap = None
        self._deaf = False

    @runs_on("sip")
    def set_deaf(self, *, deaf: bool) -> None:
        """Pass on silence instead of the far end's audio (its music on hold), or the audio again."""
        self._deaf = deaf

    @runs_on("clock", foreign=True)
    def onFrameRequested(self, frame: pj.MediaFrame) -> None:
        """Give the next frame of the agent's speech, or say that there is none; where pjsua2 asks for it."""
        speech = self._give()
        if speech is None:
            frame.type = pj.PJMEDIA_FRAME_TYPE_NONE
            return
        self._write(frame, speech)
        frame.size = len(speech)
        frame.type = pj.PJMEDIA_FRAME_TYPE_AUDIO

    @runs_on("clock", foreign=True)
    def onFrameReceived(self, frame: pj.MediaFrame) -> None:
        """Take a frame of the caller's voice; where pjsua2 brings it."""
        self._take(self._read(frame))

    def _give(self) -> bytes | None:
        """Return the next frame of the agent's speech; None is silence. Thread: clock."""
        if not _clock.keeps_state:
            _keep_thread_state()
        self._note_tick(time.monotonic())
        playout, tap = self._playout, self._tap
        speech = playout.read_frame() if playout is not None else None
        if tap is not None:
            tap.write_agent(speech)
        return speech

    def _take(self, voice: bytes) -> None:
        """Take a frame of the caller's voice; an empty one is silence. Thread: clock."""
        uplink, tap = self._uplink, self._tap
        if uplink is None and tap is None:
            if _clock.keeps_state and not self._lent:
                _drop_thread_state()
            return
        if self._deaf or not voice:
            voice = self._silence
        if uplink is not None:
            uplink.write_frame(voice)
        if tap is not None:
            tap.write_caller(voice)


def _keep_thread_state() -> None:
    """
    Let this thread keep its Python state from one callback to the next.

    The clock is a thread of the library's: Python makes a state for it at each callback and drops it after, half of
    what a callback costs. One reference more keeps it.
    """
    _clock.keeps_state = True
    ctypes.pythonapi.PyGILState_Ensure()


def _drop_thread_state() -> None:
    """Give that reference back: no call is up, and the thread may end before the next one."""
    _clock.keeps_state = False
    ctypes.pythonapi.PyGILState_Release(_LOCKED)
