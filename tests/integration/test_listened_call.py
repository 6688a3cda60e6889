"""A real call that somebody listens to through a real Redis: they hear both sides, soon, whoever talks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gateway.audio.pcm import PHONE
from gateway.audio.resample import Downsampler
from gateway.audio.uplink import UplinkRounds
from gateway.call.actions import CallSecond
from gateway.call.events import LegClosed, MediaUp, SecondUp
from gateway.ids import CallId
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import located_segments, segment_correlation
from gateway.lab.speech import agent_sentences, caller_speech
from gateway.settings.sections import RedisSettings
from gateway.sip.leg import PjLeg
from gateway.store.audio import AudioBlock, AudioPublisher, listen_to
from gateway.worker.listening import BLOCK_MS, Listening
from gateway.worker.worker import LoopClock
from tests.rigs.redis_server import RedisServer
from tests.rigs.sip_agent import SipAgent, sip_agent
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, EXPECT_BYE, invite, pause, take_call
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

SAID = caller_speech(4)
SPOKEN = b"".join(sentence.pcm24k for sentence in agent_sentences())
AGENT = Downsampler().process(SPOKEN)[: PHONE.bytes_of(4000)]


class Ear:
    """Somebody who listens to a call, and when they heard what."""

    def __init__(self) -> None:
        self.blocks: list[AudioBlock] = []
        self.heard_at: list[float] = []
        self.begun = asyncio.Event()
        self.ended = False

    async def listen(self, settings: RedisSettings, call_id: CallId) -> None:
        async with aclosing(listen_to(settings, call_id, self._begin)) as messages:
            async for message in messages:
                self.heard_at.append(time.monotonic())
                self.blocks.append(AudioBlock.unpacked(message))
        self.ended = True

    async def _begin(self) -> None:
        self.begun.set()

    def side(self, channel: int) -> bytes:
        """Return what was heard: 0 of the caller, 1 of what the caller heard."""
        pcm = np.frombuffer(b"".join(block.pcm for block in self.blocks), "<i2").reshape(-1, 2)
        return pcm[:, channel].tobytes()

    def delays_ms(self, sent: bytes, sent_at: list[float]) -> list[float]:
        """Return how long after it was sent each stretch of the caller's speech was heard."""
        found = located_segments(sent, self.side(0), PHONE.rate_hz, 2000)
        places = [(at_ms, round(at_ms + place.lag_ms)) for at_ms, place in found if place.peak > 0.9]
        ends = [len(block.pcm) // 4 * 1000 // PHONE.rate_hz for block in self.blocks]
        assert set(ends) <= {BLOCK_MS, 0}
        heard = [(at_ms, place // BLOCK_MS) for at_ms, place in places]
        return [1000 * (self.heard_at[number] - sent_at[at_ms // PHONE.ptime_ms]) for at_ms, number in heard]


@asynccontextmanager
async def listened(
    redis: RedisServer, codecs: tuple[str, ...] = ("PCMU",)
) -> AsyncIterator[tuple[SipAgent, Listening]]:
    """A worker's SIP side that answers, and the listening to its calls."""
    async with (
        sip_agent(PjLeg.answer, codecs=codecs) as here,
        AudioPublisher(redis.settings()) as publisher,
    ):
        rounds = UplinkRounds(asyncio.get_running_loop(), BLOCK_MS)
        listening = Listening("w1", publisher, LoopClock(), rounds, here.info.pcm)
        try:
            yield here, listening
        finally:
            listening.close()


async def answered(here: SipAgent, listening: Listening) -> CallId:
    """Wait for the call that comes in; return its id."""
    await until(lambda: here.seen(MediaUp), what="the answer")
    call_id = here.seen(MediaUp)[0].call_id
    listening.begin(call_id, here.legs[0])
    listening.answered(call_id)
    return call_id


@pytest.mark.parametrize("codecs", [("PCMU",), ("G722", "PCMU")], ids=["at 8 kHz", "at 16 kHz"])
async def test_two_listeners_hear_the_caller_and_the_agent_each_in_a_channel(
    redis: RedisServer, tmp_path: Path, codecs: tuple[str, ...]
) -> None:
    ears = Ear(), Ear()
    async with listened(redis, codecs) as (here, listening), RtpPeer() as peer:
        steps = (invite(peer.port, payloads="0"), ANSWERED, pause(5500), BYE)
        async with Sipp(here.port, steps, tmp_path) as sipp:
            peer.talk()
            call_id = await answered(here, listening)
            tasks = [asyncio.create_task(ear.listen(redis.settings(), call_id)) for ear in ears]
            for ear in ears:
                await ear.begun.wait()
            assert listening.listen(call_id, 60)
            await until(lambda: all(ear.blocks for ear in ears), what="the first sound")
            first = len(peer.sent_at)
            peer.say(SAID)
            here.playout.write("greeting", AGENT if here.info.pcm == PHONE else caller_speech(4, here.info.pcm))
            here.playout.complete("greeting")
            assert await sipp.finish() == 0, sipp.output
            await until(lambda: here.seen(LegClosed))
            listening.end(call_id)
            await asyncio.gather(*tasks)
    one, two = ears
    assert one.blocks == two.blocks
    assert [block.number for block in one.blocks] == list(range(len(one.blocks))), "nothing was lost"
    times = [block.at_ms for block in one.blocks[1:-1]]
    assert {later - earlier for earlier, later in pairwise(times)} == {BLOCK_MS}
    agent_said = AGENT if here.info.pcm == PHONE else caller_speech(4)
    caller = segment_correlation(SAID, one.side(0), PHONE.rate_hz, 2000)
    agent = segment_correlation(agent_said, one.side(1), PHONE.rate_hz, 2000)
    delays = one.delays_ms(SAID, peer.sent_at[first:])
    print(
        f"\ncaller {caller.peak:.4f}, agent {agent.peak:.4f}, delay {np.median(delays):.0f} ms, most {max(delays):.0f}"
    )
    assert caller.peak > 0.9
    assert agent.peak > 0.9


async def test_two_people_who_are_joined_are_both_heard_and_nobody_else_hears_the_listener(
    redis: RedisServer, tmp_path: Path
) -> None:
    ear, theirs = Ear(), caller_speech(6)[PHONE.bytes_of(1500) :]
    async with (
        listened(redis) as (here, listening),
        RtpPeer() as peer,
        RtpPeer() as other,
        Sipp(here.port, (take_call(other.port), EXPECT_BYE), tmp_path / "callee") as called,
    ):
        steps = (invite(peer.port, payloads="0"), ANSWERED, pause(7000), BYE)
        async with Sipp(here.port, steps, tmp_path / "caller") as sipp:
            peer.talk()
            other.talk()
            call_id = await answered(here, listening)
            task = asyncio.create_task(ear.listen(redis.settings(), call_id))
            await ear.begun.wait()
            listening.listen(call_id, 60)
            here.legs[0].call_second(CallSecond(f"sip:1000@127.0.0.1:{called.port}"))
            here.legs[0].join()
            await until(lambda: here.seen(SecondUp), what="the second leg")
            await until(lambda: ear.blocks)
            peer.say(SAID)
            other.say(theirs)
            assert await sipp.finish() == 0, sipp.output
            await until(lambda: here.seen(LegClosed))
            listening.end(call_id)
            await task
        assert await called.finish() == 0, called.output
    caller = segment_correlation(SAID, ear.side(0), PHONE.rate_hz, 3000)
    second = segment_correlation(theirs[: len(SAID)], ear.side(1), PHONE.rate_hz, 3000)
    print(f"\ncaller {caller.peak:.4f}, second leg {second.peak:.4f}")
    assert caller.peak > 0.9
    assert second.peak > 0.9
    assert ear.ended
