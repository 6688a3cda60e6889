"""Where PJMEDIA's clock meets a call's two buffers: the two frame callbacks, nothing else."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.sip.binding import pj
from gateway.sip.frame_bytes import FrameAccess
from gateway.threads import runs_on

_SILENCE = bytes(PHONE.frame_bytes)


class AgentMediaPort(pj.AudioMediaPort):
    """
    A port of the conference bridge that gives the agent's speech and takes the caller's.

    Ports are made once and lent to one call after another: removing one from a running bridge is where this library
    asserts. A port that is lent to no call gives and takes silence.

    Args:
        access: how frames are read and written.
        index: number of the port, for PJMEDIA's log.
    """

    def __init__(self, access: FrameAccess, index: int) -> None:
        super().__init__()
        self._read, self._write = access.read, access.write
        self._uplink: UplinkTap | None = None
        self._playout: PlayoutBuffer | None = None
        self._kept_thread = 0
        fmt = pj.MediaFormatAudio()
        fmt.init(pj.PJMEDIA_FORMAT_PCM, PHONE.rate_hz, 1, PHONE.ptime_ms * 1000, 16)
        self.createPort(f"agent-{index}", fmt)

    @runs_on("sip")
    def lend(self, uplink: UplinkTap, playout: PlayoutBuffer) -> None:
        """Serve this call from the next frame on."""
        self._uplink, self._playout = uplink, playout

    @runs_on("sip")
    def take_back(self) -> None:
        """Serve no call any more."""
        self._uplink = self._playout = None

    @runs_on("clock")
    def onFrameRequested(self, frame: Any) -> None:
        """Give the next frame of the agent's speech, or say that there is none."""
        if threading.get_ident() != self._kept_thread:
            self._keep_thread_state()
        playout = self._playout
        speech = playout.read_frame() if playout is not None else None
        if speech is None:
            frame.type = pj.PJMEDIA_FRAME_TYPE_NONE
            return
        self._write(frame, speech)
        frame.size = len(speech)
        frame.type = pj.PJMEDIA_FRAME_TYPE_AUDIO

    @runs_on("clock")
    def onFrameReceived(self, frame: Any) -> None:
        """Take a frame of the caller's voice; an empty one is silence."""
        uplink = self._uplink
        if uplink is not None:
            uplink.write_frame(self._read(frame) or _SILENCE)

    def _keep_thread_state(self) -> None:
        """
        Let this thread keep its Python state from one callback to the next.

        The clock is a thread of the library's: Python makes a state for it at each callback and drops it after, half of
        what a callback costs. One reference more, never given back, keeps it until the process ends.
        """
        self._kept_thread = threading.get_ident()
        ctypes.pythonapi.PyGILState_Ensure()
