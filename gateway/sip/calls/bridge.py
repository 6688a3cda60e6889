"""Who hears whom in a call: the caller, the agent, and perhaps a second leg."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, Protocol

from gateway.audio.filler import FillerLoop, tone_filler
from gateway.audio.pcm import PcmFormat
from gateway.audio.tap import AudioTap
from gateway.audio.uplink import UplinkTap
from gateway.sip.calls.media_port import AgentMediaPort, FrameSource
from gateway.threads import runs_on

Far = Literal["caller", "second"]
"""An end whose stream comes and goes with its dialog."""

_End = Literal["caller", "second", "agent", "waiting", "caller's listener", "second's listener"]
_Wire = tuple[_End, _End]
_SOMETIMES: tuple[_End, ...] = ("waiting", "caller's listener", "second's listener")
"""Ports that a call has only while a wire needs them."""
Ports = Callable[[], AgentMediaPort]


class AudioEnd(Protocol):
    """An end in the conference bridge, as ``pj.AudioMedia`` has it: a stream, or a port of ours."""

    def getPortId(self) -> int:
        """Return its number in the bridge."""

    def startTransmit(self, sink: Any, /) -> None:
        """Let another end hear it."""

    def stopTransmit(self, sink: Any, /) -> None:
        """Let another end hear it no more."""


class Talkers(Enum):
    """Who talks with whom."""

    AGENT_AND_CALLER = "agent and caller"
    AGENT_AND_SECOND = "agent and second leg"
    CALLER_AND_SECOND = "caller and second leg"


_WIRES: dict[Talkers, frozenset[_Wire]] = {
    Talkers.AGENT_AND_CALLER: frozenset({("caller", "agent"), ("agent", "caller")}),
    # The caller's own voice goes to the waiting port for the recording's sake.
    Talkers.AGENT_AND_SECOND: frozenset(
        {("second", "agent"), ("agent", "second"), ("waiting", "caller"), ("caller", "waiting")}
    ),
    Talkers.CALLER_AND_SECOND: frozenset({("caller", "second"), ("second", "caller")}),
}
_LISTENED: frozenset[_Wire] = frozenset({("caller", "caller's listener"), ("second", "second's listener")})
"""Two people who talk past our ports are heard through ports of their own."""


class WaitingTone:
    """What a caller hears who waits: the comfort tone, over and over."""

    def __init__(self, pcm: PcmFormat) -> None:
        self._loop = FillerLoop(tone_filler(pcm), pcm)
        self._loop.start()

    @runs_on("clock")
    def read_frame(self) -> bytes | None:
        """Give the next frame. Thread: clock."""
        return self._loop.blend(None, held=False)


class _Both:
    """Gives both sides to a recording and a listener."""

    def __init__(self, one: AudioTap, other: AudioTap) -> None:
        self._taps = (one, other)

    @runs_on("clock")
    def write_caller(self, frame: bytes | None) -> None:
        for tap in self._taps:
            tap.write_caller(frame)

    @runs_on("clock")
    def write_agent(self, frame: bytes | None) -> None:
        for tap in self._taps:
            tap.write_agent(frame)


class _OneSide:
    """Gives what comes into a port as one of a tap's sides; nothing goes out of such a port."""

    def __init__(self, write: Callable[[bytes | None], None]) -> None:
        self.write_caller = write

    @runs_on("clock")
    def write_agent(self, frame: bytes | None) -> None:
        """Take nothing."""


class Bridge:
    """
    The wires of one call in the conference bridge. Thread: sip.

    What is wanted follows from a few facts, and only what differs from it is changed. A wire ends with the stream at
    one of its ends: the library has removed it then, and touching it would end the process. So each stream's end must
    be told with ``stream_gone``.

    Args:
        borrow: gives a port.
        give_back: takes it back.
        pcm: format of the bridge.
    """

    def __init__(self, borrow: Ports, give_back: Callable[[AgentMediaPort], None], pcm: PcmFormat) -> None:
        self._borrow = borrow
        self._give_back = give_back
        self._pcm = pcm
        self._buffers: tuple[UplinkTap, FrameSource, AudioTap | None] | None = None
        self._ends: dict[_End, AudioEnd] = {}
        self._ports: dict[_End, AgentMediaPort] = {}
        self._wires: set[_Wire] = set()
        self._talk = Talkers.AGENT_AND_CALLER
        self._tone: WaitingTone | None = None
        self._listener: AudioTap | None = None
        self._held = False

    @property
    def carries_caller(self) -> bool:
        """Whether the caller's stream is joined with something."""
        return any("caller" in wire for wire in self._wires)

    @runs_on("sip")
    def serve(self, uplink: UplinkTap, playout: FrameSource, recorder: AudioTap | None) -> None:
        """Take the agent's buffers; nothing is joined before."""
        self._buffers = (uplink, playout, recorder)

    @runs_on("sip")
    def stream_up(self, end: Far, stream: AudioEnd) -> None:
        """There is a stream, perhaps the same as before."""
        known = self._ends.get(end)
        if known is not None and known.getPortId() != stream.getPortId():
            self._forget(end)
        self._ends[end] = stream
        self._apply()

    @runs_on("sip")
    def stream_gone(self, end: Far) -> None:
        """The library has taken the stream off the bridge, and its wires with it."""
        self._forget(end)
        self._apply()

    @runs_on("sip")
    def hold(self, *, held: bool) -> None:
        """The caller has us on hold: what comes from there is music, not speech."""
        self._held = held
        self._apply()

    @runs_on("sip")
    def let_talk(self, talk: Talkers) -> None:
        """Change who talks with whom. An end that is not there yet is joined when it comes."""
        self._talk = talk
        self._apply()

    @runs_on("sip")
    def listen(self, tap: AudioTap | None) -> None:
        """Let ``tap`` have what the caller says and hears, whoever talks with them; None: no longer."""
        self._listener = tap
        self._apply()

    @runs_on("sip")
    def close(self) -> None:
        """Remove every remaining wire, and give the ports back."""
        self._buffers = None
        for wire in tuple(self._wires):
            self._cut(wire)
        for port in self._ports.values():
            port.take_back()
            self._give_back(port)
        self._ports.clear()
        self._ends.clear()

    def _wanted(self) -> frozenset[_Wire]:
        if self._buffers is None:
            return frozenset()
        wires = _WIRES[self._talk]
        if self._listener is not None and self._talk is Talkers.CALLER_AND_SECOND:
            wires |= _LISTENED
        there = {"agent", "waiting", "caller's listener", "second's listener", *self._ends}
        return frozenset(wire for wire in wires if there.issuperset(wire))

    def _apply(self) -> None:
        wanted = self._wanted()
        for wire in self._wires - wanted:
            self._cut(wire)
        self._set_port("agent", needed=bool(wanted) or "agent" in self._ports)
        for end in _SOMETIMES:
            self._set_port(end, needed=any(end in wire for wire in wanted))
        self._lend()
        for wire in wanted - self._wires:
            self._ends[wire[0]].startTransmit(self._ends[wire[1]])
            self._wires.add(wire)

    def _set_port(self, end: _End, *, needed: bool) -> None:
        if needed and end not in self._ports:
            self._ends[end] = self._ports[end] = self._borrow()
        elif not needed and end in self._ports:
            del self._ends[end]
            port = self._ports.pop(end)
            port.take_back()
            self._give_back(port)

    def _lend(self) -> None:
        """Let each port serve its present purpose; what is recorded or listened to is always the caller's end."""
        if self._buffers is None:
            return
        uplink, playout, recorder = self._buffers
        tap = self._listener if recorder is None else recorder
        if recorder is not None and self._listener is not None:
            tap = _Both(recorder, self._listener)
        with_caller = self._talk is Talkers.AGENT_AND_CALLER
        if "agent" in self._ports:
            self._ports["agent"].lend(uplink, playout, tap if with_caller else None)
            self._ports["agent"].set_deaf(deaf=self._held and with_caller)
        if "waiting" in self._ports:
            self._tone = self._tone or WaitingTone(self._pcm)
            self._ports["waiting"].lend(None, self._tone, tap)
        if self._listener is not None and "caller's listener" in self._ports:
            self._ports["caller's listener"].lend(None, None, _OneSide(self._listener.write_caller))
        if self._listener is not None and "second's listener" in self._ports:
            self._ports["second's listener"].lend(None, None, _OneSide(self._listener.write_agent))

    def _cut(self, wire: _Wire) -> None:
        self._wires.discard(wire)
        self._ends[wire[0]].stopTransmit(self._ends[wire[1]])

    def _forget(self, end: Far) -> None:
        self._ends.pop(end, None)
        self._wires = {wire for wire in self._wires if end not in wire}
