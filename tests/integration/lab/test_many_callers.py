"""Many callers over few sockets: their media against a plain socket, their signalling against a SIP user agent."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise

import pytest

from gateway.lab.callers.datagrams import Receiver, Sender, drops, media_socket
from gateway.lab.callers.media import Media, Voice
from gateway.lab.callers.phones import phones
from gateway.lab.callers.reception import RtpPacket
from gateway.lab.callers.signalling import Signalling
from gateway.lab.speech import caller_speech
from gateway.sip.leg import PjLeg
from tests.rigs.sip_agent import sip_agent
from tests.rigs.waiting import LIMIT_S, until

pytestmark = pytest.mark.integration


async def test_a_batch_arrives_as_it_was_sent_with_the_time_and_the_sender() -> None:
    here, there = media_socket("127.0.0.1"), media_socket("127.0.0.1")
    with here, there:
        sender = Sender(here, [there.getsockname()] * 3, 172)
        sender.data[:] = [[7], [8], [9]]
        receiver = Receiver(there)
        assert not receiver.receive().lengths.size
        sender.send()
        sender.send()
        came = receiver.receive()
        assert came.data[:, 171].tolist() == [7, 8, 9] * 2
        assert set(came.lengths.tolist()) == {172}
        assert set(came.ports.tolist()) == {here.getsockname()[1]}
        assert all(later >= earlier > 0 for earlier, later in pairwise(came.at_ns))
        assert drops(there) == 0


async def test_a_full_socket_says_how_much_it_dropped() -> None:
    here, there = media_socket("127.0.0.1"), media_socket("127.0.0.1")
    with here, there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sender = Sender(here, [there.getsockname()] * 100, 172)
        sender.send()
        received = len(Receiver(there).receive().lengths)
        assert 0 < received < 100
        assert drops(there) == 100 - received


async def test_each_caller_sends_its_own_stream_and_hears_its_own() -> None:
    ears = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(6)]
    speech = caller_speech(2.0)
    try:
        async with Media(speech) as media:
            for ear in ears:
                ear.bind(("127.0.0.1", 0))
                ear.setblocking(False)
                media.add(Voice(ear.getsockname(), is_speaking=True))
            streams: list[list[RtpPacket]] = [[] for _ in ears]

            def heard() -> bool:
                for ear, stream in zip(ears, streams, strict=True):
                    while data := _waiting(ear):
                        ear.sendto(data, ("127.0.0.1", media.port))
                        packet = RtpPacket.parse(data, 0.0)
                        assert packet is not None
                        stream.append(packet)
                return all(len(stream) >= 60 for stream in streams) and len(media.heard_from) == len(ears)

            await until(heard, LIMIT_S, "60 packets at each ear, and speech from each")
            assert len({stream[0].ssrc for stream in streams}) == len(ears)
            for stream in streams:
                steps = {(late.sequence - early.sequence) % 2**16 for early, late in pairwise(stream)}
                assert steps == {1}
                assert (stream[1].timestamp - stream[0].timestamp) % 2**32 == 160
            back = media.packets()
            assert {len(back.of(ear.getsockname()[1])) >= 50 for ear in ears} == {True}
            assert all(back.of(ear.getsockname()[1]).lost == 0 for ear in ears)
    finally:
        for ear in ears:
            ear.close()


async def test_a_call_is_answered_and_ended_by_the_caller() -> None:
    async with sip_agent() as agent, phones([agent.port]) as callers:
        (call,) = await callers.ramp(1, 0)
        await asyncio.wait_for(call.is_settled.wait(), LIMIT_S)
        assert call.code == 200
        assert call.setup_ms > 0
        assert callers.up == [call]
        await callers.hang_up([call], LIMIT_S)
        assert call.has_ended.is_set()
        assert not call.ended_by_far
        assert not call.was_lost
        assert callers.up == []


async def test_a_refusal_is_counted_by_its_code() -> None:
    def busy(leg: PjLeg) -> None:
        leg.hang_up(486, "")

    async with sip_agent(busy) as agent, phones([agent.port]) as callers:
        calls = await callers.ramp(3, 0.1)
        await callers.all_heard(calls, LIMIT_S)
        assert callers.codes == {486: 3}
        assert callers.up == []


async def test_the_far_end_can_end_a_call() -> None:
    async with sip_agent() as agent, Signalling() as signalling:
        call = signalling.invite(("127.0.0.1", agent.port), "caller", 40000)
        await asyncio.wait_for(call.is_settled.wait(), LIMIT_S)
        await until(lambda: bool(agent.legs), LIMIT_S, "a leg")
        agent.legs[0].hang_up(200, "")
        await asyncio.wait_for(call.has_ended.wait(), LIMIT_S)
        assert call.ended_by_far


def _waiting(ear: socket.socket) -> bytes:
    try:
        return ear.recv(2048)
    except BlockingIOError:
        return b""
