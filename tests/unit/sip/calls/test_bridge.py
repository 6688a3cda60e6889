"""Who hears whom: the wires, without a library behind them."""

from __future__ import annotations

import itertools
import random
from typing import Any, Literal, cast

import pytest

from gateway.audio.pcm import PHONE, WIDEBAND
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.sip.calls.bridge import Bridge, Talkers, WaitingTone
from gateway.threads import enter_role

pytestmark = pytest.mark.unit

ENDS: tuple[Literal["caller"], Literal["second"]] = ("caller", "second")


class Board:
    """The conference bridge: it refuses what would end a process."""

    def __init__(self) -> None:
        self.wires: set[tuple[str, str]] = set()
        self.alive: set[Jack] = set()
        self.ports: list[Jack] = []
        self.idle: list[Any] = []
        self.numbers = itertools.count()

    def stream(self, name: str) -> Jack:
        return Jack(self, name)

    def gone(self, jack: Jack) -> None:
        self.alive.discard(jack)
        self.wires = {wire for wire in self.wires if jack.name not in wire}

    def borrow(self) -> Any:
        if self.idle:
            return self.idle.pop()
        self.ports.append(Jack(self, f"port{len(self.ports)}"))
        return self.ports[-1]

    def bridge(self) -> Bridge:
        return Bridge(self.borrow, self.idle.append, PHONE)


class Jack:
    """A stream, or a port of ours."""

    def __init__(self, board: Board, name: str) -> None:
        self.board = board
        self.name = name
        self.number = next(board.numbers)
        self.lent: tuple[Any, ...] = ()
        self.deaf = False
        board.alive.add(self)

    def getPortId(self) -> int:
        return self.number

    def startTransmit(self, sink: Jack) -> None:
        assert {self, sink} <= self.board.alive
        self.board.wires.add((self.name, sink.name))

    def stopTransmit(self, sink: Jack) -> None:
        assert {self, sink} <= self.board.alive, "touches a stream that is gone"
        self.board.wires.remove((self.name, sink.name))

    def lend(self, *what: Any) -> None:
        self.lent = what

    def take_back(self) -> None:
        self.lent, self.deaf = (), False

    def set_deaf(self, *, deaf: bool) -> None:
        self.deaf = deaf


UPLINK = UplinkTap(capacity_frames=1)
PLAYOUT = PlayoutBuffer(PHONE)
RECORDER = cast("Any", object())


def served() -> tuple[Board, Bridge, Jack]:
    board = Board()
    bridge = board.bridge()
    bridge.serve(UPLINK, PLAYOUT, RECORDER)
    caller = board.stream("caller")
    bridge.stream_up("caller", caller)
    return board, bridge, caller


def test_the_caller_and_the_agent_hear_each_other() -> None:
    board, bridge, _ = served()
    assert board.wires == {("caller", "port0"), ("port0", "caller")}
    assert board.ports[0].lent == (UPLINK, PLAYOUT, RECORDER)
    assert bridge.carries_caller


def test_nothing_is_joined_before_there_is_somebody_to_serve() -> None:
    board = Board()
    board.bridge().stream_up("caller", board.stream("caller"))
    assert not board.wires


def test_the_caller_waits_while_the_agent_speaks_with_the_second_leg() -> None:
    board, bridge, _ = served()
    bridge.let_talk(Talkers.AGENT_AND_SECOND)
    assert board.wires == {("port1", "caller"), ("caller", "port1")}
    bridge.stream_up("second", board.stream("second"))
    assert board.wires == {("port1", "caller"), ("caller", "port1"), ("second", "port0"), ("port0", "second")}
    agent, waiting = board.ports
    assert agent.lent == (UPLINK, PLAYOUT, None)
    assert waiting.lent[0] is None
    assert isinstance(waiting.lent[1], WaitingTone)
    assert waiting.lent[2] is RECORDER
    bridge.let_talk(Talkers.AGENT_AND_CALLER)
    assert board.wires == {("caller", "port0"), ("port0", "caller")}
    assert board.idle == [waiting]
    assert waiting.lent == ()
    assert agent.lent == (UPLINK, PLAYOUT, RECORDER)


def test_joined_legs_hear_each_other_and_no_agent() -> None:
    board, bridge, _ = served()
    second = board.stream("second")
    bridge.stream_up("second", second)
    bridge.let_talk(Talkers.CALLER_AND_SECOND)
    assert board.wires == {("caller", "second"), ("second", "caller")}
    board.gone(second)
    bridge.stream_gone("second")
    assert not board.wires
    bridge.let_talk(Talkers.AGENT_AND_CALLER)
    assert board.wires == {("caller", "port0"), ("port0", "caller")}


class Ear:
    """Writes down which side was given."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes | None]] = []

    def write_caller(self, frame: bytes | None) -> None:
        self.heard.append(("caller", frame))

    def write_agent(self, frame: bytes | None) -> None:
        self.heard.append(("agent", frame))


def test_a_listener_hears_the_caller_and_the_agent_beside_the_recording() -> None:
    board, bridge, _ = served()
    recording, ear = Ear(), Ear()
    bridge.listen(ear)
    assert board.wires == {("caller", "port0"), ("port0", "caller")}, "no other wire is needed"
    bridge.serve(UPLINK, PLAYOUT, None)
    bridge.listen(ear)
    assert board.ports[0].lent == (UPLINK, PLAYOUT, ear)
    bridge.serve(UPLINK, PLAYOUT, recording)
    bridge.listen(ear)
    enter_role("clock")
    both = board.ports[0].lent[2]
    both.write_agent(b"a")
    both.write_caller(b"c")
    enter_role("sip")
    assert ear.heard == recording.heard == [("agent", b"a"), ("caller", b"c")]
    bridge.listen(None)
    assert board.ports[0].lent == (UPLINK, PLAYOUT, recording)


def test_a_listener_hears_two_people_who_are_joined_through_ports_of_its_own() -> None:
    board, bridge, _ = served()
    ear = Ear()
    bridge.stream_up("second", board.stream("second"))
    bridge.let_talk(Talkers.CALLER_AND_SECOND)
    before = set(board.wires)
    bridge.listen(ear)
    assert board.wires == before | {("caller", "port1"), ("second", "port2")}
    _, of_caller, of_second = board.ports
    enter_role("clock")
    for port, frame in ((of_caller, b"c"), (of_second, b"s")):
        uplink, playout, tap = port.lent
        assert (uplink, playout) == (None, None)
        tap.write_agent(None)
        tap.write_caller(frame)
    enter_role("sip")
    assert ear.heard == [("caller", b"c"), ("agent", b"s")]
    assert board.ports[0].lent == (UPLINK, PLAYOUT, None), "the agent hears nothing of it"
    bridge.listen(None)
    assert board.wires == before
    assert {*board.idle} == {of_caller, of_second}


def test_a_stream_made_anew_is_joined_again() -> None:
    board, bridge, caller = served()
    board.gone(caller)
    bridge.stream_gone("caller")
    assert not board.wires
    bridge.stream_up("caller", board.stream("caller"))
    assert board.wires == {("caller", "port0"), ("port0", "caller")}


def test_the_music_of_whoever_holds_us_is_not_passed_on() -> None:
    board, bridge, _ = served()
    bridge.hold(held=True)
    assert board.ports[0].deaf
    bridge.stream_up("second", board.stream("second"))
    bridge.let_talk(Talkers.AGENT_AND_SECOND)
    assert not board.ports[0].deaf
    bridge.let_talk(Talkers.AGENT_AND_CALLER)
    assert board.ports[0].deaf
    bridge.hold(held=False)
    assert not board.ports[0].deaf


def test_a_closed_bridge_has_given_everything_back() -> None:
    board, bridge, caller = served()
    second = board.stream("second")
    bridge.stream_up("second", second)
    bridge.let_talk(Talkers.AGENT_AND_SECOND)
    board.gone(caller)
    bridge.stream_gone("caller")
    bridge.close()
    assert not board.wires
    assert len(board.idle) == len(board.ports) == 2
    assert not any(port.lent for port in board.ports)
    board.gone(second)
    bridge.stream_gone("second")
    bridge.let_talk(Talkers.AGENT_AND_CALLER)
    assert not board.wires


def test_no_order_of_events_touches_what_is_gone() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        board, bridge, caller = served()
        streams: dict[Any, Jack] = {"caller": caller}
        for _ in range(12):
            match chance.randrange(5):
                case 0:
                    bridge.let_talk(chance.choice(list(Talkers)))
                case 1:
                    bridge.hold(held=chance.random() < 0.5)
                case 2:
                    bridge.listen(chance.choice([None, Ear()]))
                case 3:
                    end = chance.choice(ENDS)
                    if end in streams:
                        board.gone(streams.pop(end))
                        bridge.stream_gone(end)
                case _:
                    end = chance.choice(ENDS)
                    bridge.stream_up(end, streams.setdefault(end, board.stream(end)))
        bridge.close()
        assert not board.wires
        assert len(board.idle) == len(board.ports)


@pytest.mark.parametrize("pcm", [PHONE, WIDEBAND])
def test_the_waiting_tone_sounds_in_the_format_of_the_bridge(pcm: Any) -> None:
    enter_role("clock")
    tone = WaitingTone(pcm)
    frames = [tone.read_frame() for _ in range(50)]
    assert {len(frame or b"") for frame in frames} == {pcm.frame_bytes}
    assert any(any(frame or b"") for frame in frames)
