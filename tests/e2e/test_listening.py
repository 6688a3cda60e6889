"""Somebody listens to a live call by a command: what they hear is what was said, soon, and after a take-over, too."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from gateway.audio.pcm import PHONE
from gateway.audio.resample import Downsampler
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import correlation, located_segments, segment_correlation
from gateway.lab.simulator import Script, SimulatorOptions
from gateway.lab.speech import caller_speech
from gateway.settings.sections import RedisSettings
from gateway.store.audio import AudioBlock, listen_to
from gateway.store.commands import CommandAnswer, CommandSender
from tests.rigs.house import House, MakeHouse
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, EXPECT_BYE, invite, pause, take_call
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

BLOCK_MS = 40
SAID = caller_speech(2.5)


class Listener:
    """Asks the call's worker for its sound, and keeps it with the times at which it came."""

    def __init__(self, house: House) -> None:
        self._redis = RedisSettings.model_validate({"url": house.redis_url})
        self._house = house
        self.answers: list[CommandAnswer] = []
        self.blocks: list[AudioBlock] = []
        self.heard_at: list[float] = []

    async def listen(self) -> None:
        """Listen to the only live call to its end."""
        (record,) = await self._house.store.live_calls()
        worker = record.worker or ""

        async def begin() -> None:
            fields = {"seconds": "60"}
            self.answers.append(
                await sender.send(worker, "listen", call_id=record.call_id, fields=fields, by="ann", wait_s=30)
            )

        async with (
            CommandSender(self._redis) as sender,
            aclosing(listen_to(self._redis, record.call_id, begin)) as messages,
        ):
            async for message in messages:
                self.heard_at.append(time.monotonic())
                self.blocks.append(AudioBlock.unpacked(message))

    def side(self, channel: int) -> bytes:
        """Return what was heard: 0 of the caller, 1 of what the caller heard."""
        pcm = np.frombuffer(b"".join(block.pcm for block in self.blocks), "<i2").reshape(-1, 2)
        return pcm[:, channel].tobytes()

    def delays_ms(self, sent: bytes, sent_at: list[float]) -> list[float]:
        """Return how long after it was sent each stretch of the caller's speech was heard."""
        found = located_segments(sent, self.side(0), PHONE.rate_hz, 8000)
        return [
            1000 * (self.heard_at[round(at_ms + place.lag_ms) // BLOCK_MS] - sent_at[at_ms // PHONE.ptime_ms])
            for at_ms, place in found
            if place.peak > 0.9
        ]


async def test_a_listener_hears_what_the_caller_and_the_agent_say(house: MakeHouse, tmp_path: Path) -> None:
    answers = [{"output": [{"say": "Hello.", "for_s": 3}]}, {"output": [{"say": "Yes.", "for_s": 2}]}]
    options = SimulatorOptions(script=Script.model_validate({"answers": answers}))
    async with house(simulator=options) as here, RtpPeer() as phone:
        listener = Listener(here)
        steps = (invite(phone.port, payloads="0"), ANSWERED, pause(9000), BYE)
        async with Sipp(here.port, steps, tmp_path / "sipp") as sipp:
            phone.talk()
            await here.happened("active")
            listening = asyncio.create_task(listener.listen())
            await until(lambda: listener.blocks, what="the first sound")
            connection = await here.simulator.connection(1)
            await asyncio.sleep(3.5)  # the greeting was heard
            first = len(phone.sent_at)
            phone.say(SAID)
            assert await sipp.finish() == 0, sipp.output
        await listening
        assert [answer.state for answer in listener.answers] == ["done"]
        assert [block.number for block in listener.blocks] == list(range(len(listener.blocks)))
        assert listener.blocks[-1].pcm == b"", "the call's end"
        greeting = Downsampler().process(connection.spoken[0].pcm24k)[PHONE.bytes_of(1000) : PHONE.bytes_of(2800)]
        caller = correlation(SAID, listener.side(0), PHONE.rate_hz, 9000)
        agent = correlation(greeting, listener.side(1), PHONE.rate_hz, 9000)
        delays = listener.delays_ms(SAID, phone.sent_at[first:])
        print(
            f"\ncaller {caller.peak:.4f}, agent {agent.peak:.4f}, delay {np.median(delays):.0f} ms, {max(delays):.0f}"
        )
        assert caller.peak > 0.9
        assert agent.peak > 0.9
        assert correlation(SAID, listener.side(1), PHONE.rate_hz, 9000).peak < 0.5


async def test_after_a_take_over_both_people_are_heard(house: MakeHouse, tmp_path: Path) -> None:
    theirs = caller_speech(6)[PHONE.bytes_of(1500) :][: len(SAID)]
    answers = [{"output": [{"say": "Hello.", "for_s": 0.5}]}]
    options = SimulatorOptions(script=Script.model_validate({"answers": answers}))
    async with (
        house(simulator=options) as here,
        RtpPeer() as phone,
        RtpPeer() as desk,
        Sipp(here.port, (take_call(desk.port), EXPECT_BYE), tmp_path / "desk") as called,
    ):
        listener = Listener(here)
        steps = (invite(phone.port, payloads="0"), ANSWERED, pause(12000), BYE)
        async with Sipp(here.port, steps, tmp_path / "sipp") as sipp:
            phone.talk()
            desk.talk()
            await here.happened("active")
            listening = asyncio.create_task(listener.listen())
            (record,) = await here.store.live_calls()
            async with CommandSender(RedisSettings.model_validate({"url": here.redis_url})) as sender:
                fields = {"target": f"sip:ann@127.0.0.1:{called.port}"}
                answer = await sender.send(
                    record.worker or "", "take_over", call_id=record.call_id, fields=fields, by="ann", wait_s=30
                )
            assert answer.state == "done", answer.detail
            await until(lambda: len(listener.blocks) > 5)
            phone.say(SAID)
            desk.say(theirs)
            assert await sipp.finish() == 0, sipp.output
        await listening
        assert await called.finish() == 0, called.output
    caller = segment_correlation(SAID, listener.side(0), PHONE.rate_hz, 11000)
    person = segment_correlation(theirs, listener.side(1), PHONE.rate_hz, 11000)
    print(f"\ncaller {caller.peak:.4f}, the person who took over {person.peak:.4f}")
    assert caller.peak > 0.9
    assert person.peak > 0.9
