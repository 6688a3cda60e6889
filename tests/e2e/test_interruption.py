"""A caller who speaks over the agent: how soon it is silent, and how exactly what was heard is known."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gateway.audio.g711 import ulaw_to_pcm
from gateway.audio.pcm import MODEL, PHONE
from gateway.audio.resample import Downsampler
from gateway.audio.wav import read_wav
from gateway.lab.callers.reception import RtpPacket
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import correlation
from gateway.lab.simulator import Connection
from gateway.lab.speech import agent_sentences, caller_wav
from gateway.store.transcript import transcript_of
from tests.rigs.house import House, MakeHouse
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

CALLS = 5
ANSWER_MS = 900
"""No answer of the agent comes sooner after the caller began to speak: it speaks longer than that."""

LIMIT_MS = 60.0
"""Two frames of PJMEDIA, and one for a machine that others use too."""


@dataclass(frozen=True)
class Cut:
    """One interruption: milliseconds of stale audio on RTP, and of the greeting that were heard and reported."""

    stale_ms: float
    heard_ms: float
    reported_ms: int


def caller_speech(ms: int) -> bytes:
    """Return so much of the caller's voice, from where it is loud."""
    _, pcm = read_wav(caller_wav())
    samples = np.abs(np.frombuffer(pcm, "<i2").astype(np.int32))
    start = 2 * int(np.argmax(samples > 3000))
    return pcm[start : start + PHONE.bytes_of(ms)]


def is_loud(packet: RtpPacket) -> bool:
    """Tell a packet with any speech in it from G.711 silence."""
    return packet.payload_type == 0 and int(np.abs(np.frombuffer(ulaw_to_pcm(packet.payload), "<i2")).max()) > 8


async def interrupt(house: House, phone: RtpPeer, after_ms: int, speech: bytes, folder: Path) -> None:
    """Make a call, speak ``after_ms`` milliseconds into the greeting, hang up later."""
    async with Sipp(house.port, (invite(phone.port, payloads="0"), ANSWERED, pause(4800), BYE), folder) as sipp:
        phone.talk()
        await until(lambda: any(map(is_loud, phone.reception.packets)), what="the agent to speak")
        await asyncio.sleep(after_ms / 1000)
        phone.say(speech)
        assert await sipp.finish() == 0, sipp.output


def sent_at(connection: Connection, event_type: str) -> float:
    """Return when the simulator first sent an event, monotonic seconds."""
    return next(event.at for event in connection.sent if event.type == event_type)


def measure(connection: Connection, phone: RtpPeer) -> Cut:
    """Compare what the caller received with what the model was told."""
    started_at = sent_at(connection, "input_audio_buffer.speech_started")
    packets = phone.reception.packets
    last = [each for each in packets if each.arrived_at < started_at + ANSWER_MS / 1000 and is_loud(each)][-1]
    end_samples = (last.timestamp - packets[0].timestamp) % 2**32 + PHONE.frame_samples
    greeting = Downsampler().process(agent_sentences()[0].pcm24k)
    received = phone.reception.received_pcm()[: 2 * end_samples]
    begun = correlation(greeting, received, PHONE.rate_hz, 3000)
    assert begun.peak > 0.9
    (cut,) = [event for event in connection.received if event["type"] == "conversation.item.truncate"]
    heard_ms = end_samples * 1000 / PHONE.rate_hz - begun.lag_ms
    return Cut(max(0.0, (last.arrived_at - started_at) * 1000), heard_ms, int(cut["audio_end_ms"]))


async def events_of(house: House, call: int) -> list[dict[str, str]]:
    """Return what stands in the stream of the ``call``-th call, counted from 1; waits for its end."""
    async with asyncio.timeout(40):
        while True:
            events = await house.store.events()
            ended = [event["call_id"] for event in events if event["event"] == "ended"]
            if len(ended) >= call:
                return [event for event in events if event["call_id"] == ended[call - 1]]
            await asyncio.sleep(0.02)


def named(events: list[dict[str, str]], name: str) -> list[dict[str, str]]:
    return [event for event in events if event["event"] == name]


async def test_an_interrupted_agent_is_silent_at_once_and_what_was_heard_is_known(
    house: MakeHouse, tmp_path: Path
) -> None:
    cuts: list[Cut] = []
    async with house() as here:
        for call in range(1, CALLS + 1):
            async with RtpPeer() as phone:
                await interrupt(here, phone, 300 + 250 * call, caller_speech(1000), tmp_path / f"sipp{call}")
                connection = await here.simulator.connection(call)
                assert not connection.violations
                cuts.append(measure(connection, phone))
            events = await events_of(here, call)
            cut, *_ = named(events, "agent_heard")
            assert (cut["cut"], int(cut["played_ms"])) == ("true", cuts[-1].reported_ms)
            assert agent_sentences()[0].text.startswith(cut["text"])
            assert int(named(events, "interruption")[0]["interruption_ms"]) <= PHONE.ptime_ms
            assert named(events, "turn")
            print(f"\n{cuts[-1]}, heard: {cut['text']!r}, turn: {named(events, 'turn')[0]['turn_latency_ms']} ms")
    stale_ms = float(np.percentile([cut.stale_ms for cut in cuts], 95))
    error_ms = max(abs(cut.heard_ms - cut.reported_ms) for cut in cuts)
    print(f"stale audio p95 {stale_ms:.1f} ms, largest error of what was heard {error_ms:.1f} ms")
    assert stale_ms <= LIMIT_MS
    assert error_ms <= LIMIT_MS


async def test_a_cough_only_holds_a_guarded_agent_up(house: MakeHouse, tmp_path: Path) -> None:
    async with house(profile="turn_detection: {guard_ms: 400, silence_duration_ms: 300}") as here, RtpPeer() as phone:
        await interrupt(here, phone, 900, caller_speech(160), tmp_path / "sipp")
        connection = await here.simulator.connection(1)
        assert not connection.violations
        assert "conversation.item.truncate" not in [event.type for event in connection.events]
        events = await events_of(here, 1)
        assert named(events, "false_start")
        heard = named(events, "agent_heard")[0]
        greeting = agent_sentences()[0]
        assert (heard["cut"], heard["text"]) == ("false", greeting.text)
        assert int(heard["played_ms"]) == pytest.approx(MODEL.ms(len(greeting.pcm24k)), abs=20)
        # It was silent meanwhile, and went on where it stopped.
        loud = [packet.arrived_at for packet in phone.reception.packets if is_loud(packet)]
        started_at = sent_at(connection, "input_audio_buffer.speech_started")
        stopped_at = sent_at(connection, "input_audio_buffer.speech_stopped")
        assert not [at for at in loud if started_at + LIMIT_MS / 1000 < at < stopped_at]
        assert [at for at in loud if at > stopped_at]


async def test_real_speech_cuts_a_guarded_agent_where_it_was_held(house: MakeHouse, tmp_path: Path) -> None:
    async with house(profile="turn_detection: {guard_ms: 200, silence_duration_ms: 300}") as here, RtpPeer() as phone:
        await interrupt(here, phone, 900, caller_speech(1200), tmp_path / "sipp")
        connection = await here.simulator.connection(1)
        assert not connection.violations
        cut = measure(connection, phone)
        print(f"\n{cut}")
        assert cut.stale_ms <= LIMIT_MS
        assert abs(cut.heard_ms - cut.reported_ms) <= LIMIT_MS
        events = await events_of(here, 1)
        assert not named(events, "false_start")
        assert named(events, "interruption")
        assert named(events, "agent_heard")[0]["cut"] == "true"
        (end,) = named(events, "ended")
        assert (end["interruptions"], end["agents"], end["fault"]) == ("1", "tester", "nobody")
        assert int(end["turn_latency_median_ms"]) <= int(end["turn_latency_worst_ms"])
        assert int(end["tokens_in"]) == int(end["text_tokens_in"]) + int(end["audio_tokens_in"]) > 0
        said = transcript_of(events)
        assert len(said) == int(end["transcript_entries"])
        assert (said[0].speaker, said[0].agent, said[0].cut) == ("agent", "tester", True)
        assert "caller" in {entry.speaker for entry in said}
