"""Two RTP peers that talk to each other over loopback."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import time

import pytest

from gateway.audio.g711 import alaw_to_pcm, pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from gateway.errors import ConfigError
from gateway.lab.callers.reception import Counts
from gateway.lab.callers.rtp_peer import Codec, RtpPeer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

FRAMES = 15
TONE = struct.pack(f"<{160 * FRAMES}h", *(round(9000 * math.sin(n * 0.4)) for n in range(160 * FRAMES)))


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_what_one_peer_says_once_the_other_hears_whole(codec: Codec) -> None:
    there_and_back = {"PCMU": ulaw_to_pcm(pcm_to_ulaw(TONE)), "PCMA": alaw_to_pcm(pcm_to_alaw(TONE))}[codec]
    async with RtpPeer(TONE, codec=codec, then_silence=False) as talker, RtpPeer() as hearer:
        began = time.monotonic()
        talker.talk(("127.0.0.1", hearer.port))
        await talker.finished()
        await until(lambda: len(hearer.reception.packets) == FRAMES)
        packets = hearer.reception.packets
    assert hearer.reception.received_pcm() == there_and_back
    assert hearer.reception.counts() == Counts(FRAMES, 0, 0, 0)
    assert talker.sent_packets == FRAMES
    assert [packet.marker for packet in packets] == [True] + [False] * (FRAMES - 1)
    assert {packet.payload_type for packet in packets} == {{"PCMU": 0, "PCMA": 8}[codec]}
    assert began - 0.01 <= packets[0].arrived_at <= time.monotonic()
    span_ms = (packets[-1].arrived_at - packets[0].arrived_at) * 1000
    assert 10 * FRAMES < span_ms < 100 * FRAMES, "one every 20 ms, neither all at once nor one a second"


async def test_a_peer_that_was_told_no_address_answers_whoever_sends() -> None:
    async with RtpPeer(TONE, looped=True) as learner, RtpPeer(TONE, looped=True) as other:
        learner.talk()
        await asyncio.sleep(0.1)
        assert learner.sent_packets == 0
        other.talk(("127.0.0.1", learner.port))
        await until(lambda: len(other.reception.packets) > FRAMES + 2)
    heard = other.reception.received_pcm()
    assert heard[: len(TONE)] == ulaw_to_pcm(pcm_to_ulaw(TONE))
    assert heard[len(TONE) : len(TONE) + 320] == heard[:320]  # and again from its start


async def test_speech_is_followed_by_silence_if_asked() -> None:
    async with RtpPeer(TONE[:640]) as talker, RtpPeer() as hearer:
        talker.talk(("127.0.0.1", hearer.port))
        await until(lambda: len(hearer.reception.packets) >= 5)
        await talker.hush()
        sent = talker.sent_packets
        await asyncio.sleep(0.06)
        assert talker.sent_packets == sent
    assert hearer.reception.received_pcm()[640:1600] == bytes(960)


async def test_the_ports_are_an_even_pair_and_free_again_after_closing() -> None:
    peer = RtpPeer()
    assert peer.port % 2 == 0
    with pytest.raises(ConfigError, match=f"ports {peer.port} and {peer.port + 1} are to be had"):
        RtpPeer(port=peer.port)
    await peer.close()
    await peer.close()
    again = RtpPeer(port=peer.port)
    assert again.port == peer.port
    await again.close()


async def test_an_odd_port_is_refused() -> None:
    with pytest.raises(ConfigError, match="odd"):
        RtpPeer(port=20001)


async def test_a_peer_that_is_gone_does_not_stop_the_sender() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = probe.getsockname()
    async with RtpPeer(TONE, looped=True) as talker:
        talker.talk(nobody)
        await until(lambda: talker.sent_packets > 5)


async def test_a_peer_can_be_told_to_say_something_else_in_mid_stream() -> None:
    async with RtpPeer(looped=True) as talker, RtpPeer() as hearer:
        talker.talk(("127.0.0.1", hearer.port))
        await until(lambda: len(hearer.reception.packets) >= 2)
        talker.say(TONE)
        await until(lambda: len(hearer.reception.packets) >= FRAMES + 4)
    heard = hearer.reception.received_pcm()
    assert heard.startswith(bytes(640))
    assert ulaw_to_pcm(pcm_to_ulaw(TONE)) in heard
    assert hearer.reception.counts().lost == 0
    assert len({packet.ssrc for packet in hearer.reception.packets}) == 1


async def test_a_pause_lets_the_timestamps_go_on_and_marks_what_follows() -> None:
    async with RtpPeer(TONE, then_silence=True) as talker, RtpPeer() as hearer:
        talker.talk(("127.0.0.1", hearer.port))
        await asyncio.sleep(0.1)
        talker.rest(comfort_noise=True)
        await asyncio.sleep(0.3)
        talker.go_on()
        await asyncio.sleep(0.1)
        await talker.hush()
        packets = hearer.reception.packets
    kinds = [packet.payload_type for packet in packets]
    noise = kinds.index(13)
    assert kinds.count(13) == 1
    assert len(packets[noise].payload) == 1
    assert hearer.reception.counts().lost == 0, "the sequence has no hole"
    assert [packet.marker for packet in packets].count(True) == 2
    assert packets[noise + 1].marker
    assert packets[noise + 1].timestamp - packets[noise].timestamp >= 160 * 8


async def test_the_numbers_of_a_stream_can_be_changed() -> None:
    async with RtpPeer(then_silence=True) as talker, RtpPeer() as hearer:
        talker.renumber(sequence=0xFFFE, timestamp=2**32 - 160, ssrc=7)
        talker.talk(("127.0.0.1", hearer.port))
        async with asyncio.timeout(40):
            while len(hearer.reception.packets) < 4:
                await asyncio.sleep(0.02)
        await talker.hush()
        packets = hearer.reception.packets[:4]
        assert len(talker.sent_at) == talker.sent_packets
    assert [packet.sequence for packet in packets] == [0xFFFE, 0xFFFF, 0, 1]
    assert [packet.timestamp for packet in packets] == [2**32 - 160, 0, 160, 320]
    assert {packet.ssrc for packet in packets} == {7}
