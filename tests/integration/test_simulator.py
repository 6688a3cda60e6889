from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from gateway.audio.g711 import pcm_to_ulaw
from gateway.audio.pcm import PHONE
from gateway.dialplan.model.agent import AgentProfile
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.lab.speech import agent_sentences, caller_wav
from tests.fakes.realtime import PCMU, connected, read_wav
from tests.fakes.realtime_service import Call, calling
from tests.fakes.threads import on_clock

pytestmark = pytest.mark.integration

QUICK = SimulatorOptions(speed=1000.0, think_ms=0)
LADDER = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(QUICK) as running:
        yield running


def _without_repeats(types: list[str]) -> list[str]:
    return list(dict.fromkeys(types))


def _correlation(left: bytes, right: bytes) -> float:
    """Return the highest normalised correlation of two PCM recordings, at any shift."""
    one, two = (np.frombuffer(pcm, dtype="<i2").astype(float) for pcm in (left, right))
    size = 1 << (one.size + two.size).bit_length()
    product = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(two, size)), size)
    return float(np.abs(product).max() / np.sqrt((one @ one) * (two @ two)))


async def test_a_spoken_turn_walks_the_whole_ladder(simulator: Simulator) -> None:
    async with connected(simulator) as client:
        await client.configure_phone()
        mark = len(client.events)
        await client.speak_first_sentence()
        await client.next("rate_limits.updated")
        kind = "conversation.item.input_audio_transcription"
        if f"{kind}.completed" not in client.types():
            await client.next(f"{kind}.completed")
        live = [event["delta"] for event in client.events[mark + 1 : mark + 4]]
        assert live == ["[caller", " spoke", " for"], "a model that listens live writes while the caller speaks"
        del client.events[mark + 1 : mark + 4]
        started, stopped, committed, added, done = client.events[mark : mark + 5]
        assert client.types(since=mark)[:5] == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
        ]
        assert len({started["item_id"], stopped["item_id"], committed["item_id"], added["item"]["id"]}) == 1
        assert done["item"]["content"] == [{"type": "input_audio", "transcript": None}]
        assert 180 <= started["audio_start_ms"] <= 320, "speech begins about 520 ms in; 300 ms of padding"
        assert 3400 <= stopped["audio_end_ms"] <= 3600, "speech ends about 2980 ms in; 500 ms of silence"
        behind = client.types(since=mark + 5)
        assert behind.count(f"{kind}.delta") == 2, "the rest of it, in pieces"
        answer = [name for name in behind if not name.startswith(kind)]
        assert _without_repeats(answer) == LADDER
        transcript = next(event for event in client.events if event["type"] == f"{kind}.completed")
        assert transcript["transcript"].startswith("[caller spoke for 2.4")
        response = next(event for event in client.events if event["type"] == "response.done")["response"]
        assert (response["status"], response["status_details"]) == ("completed", None)
        assert response["output"][0]["content"][0]["transcript"] == agent_sentences()[0].text
        assert response["usage"]["output_token_details"]["audio_tokens"] > 70
    seen = await simulator.connection(1)
    await seen.wait_closed()
    assert seen.violations == []
    ((item_id, spoken),) = seen.spoken
    assert item_id == response["output"][0]["id"]
    assert _correlation(spoken, agent_sentences()[0].pcm24k) > 0.97
    caller = np.frombuffer(read_wav(caller_wav())[: 16 * 4000], dtype="<i2")
    assert _correlation(seen.heard[::], np.repeat(caller, 3).astype("<i2").tobytes()) > 0.9


async def test_sentences_come_in_turn_and_a_greeting_is_the_first(simulator: Simulator) -> None:
    said = []
    async with connected(simulator) as client:
        await client.configure()
        for instructions in ("Greet the caller.", "Answer.", "Answer.", "Say hello again."):
            await client.send("response.create", response={"instructions": instructions})
            said.append((await client.next("response.output_audio_transcript.done"))["transcript"])
            await client.next("response.done")
    texts = [sentence.text for sentence in agent_sentences()]
    assert said == [texts[0], texts[1], texts[2], texts[0]]


async def test_the_callers_speech_cancels_the_answer() -> None:
    async with Simulator(SimulatorOptions(speed=1.0, think_ms=0)) as simulator, connected(simulator) as client:
        await client.configure_phone()
        await client.send("response.create")
        delta = await client.next("response.output_audio.delta")
        await client.speak_first_sentence()
        await client.next("input_audio_buffer.speech_started")
        mark = len(client.events)
        response = (await client.next("response.done"))["response"]
        assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert response["output"][0]["status"] == "incomplete"
        assert client.types(since=mark) == LADDER[6:-1]
        cut = (await simulator.connection(1)).spoken[0]
        sent_ms = len(cut.pcm24k) // 48
        place = {"item_id": delta["item_id"], "content_index": 0}
        await client.send("conversation.item.truncate", **place, audio_end_ms=sent_ms)
        assert (await client.next("conversation.item.truncated"))["audio_end_ms"] == sent_ms
        error = await client.refused("conversation.item.truncate", **place, audio_end_ms=sent_ms + 1)
        assert error["code"] is None
        assert "already shorter" in error["message"]
        if client.types().count("response.created") < 2:
            await client.next("response.created")


async def test_a_cancel_before_any_audio_leaves_no_item() -> None:
    async with Simulator(SimulatorOptions(think_ms=60_000)) as simulator, connected(simulator) as client:
        await client.configure()
        await client.send("response.create")
        created = await client.next("response.created")
        await client.send("response.cancel", response_id=created["response"]["id"])
        response = (await client.next("response.done"))["response"]
        assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        assert response["output"] == []
        assert response["usage"]["total_tokens"] == 0
        assert (await client.refused("response.cancel"))["code"] == "response_cancel_not_active"


async def test_a_second_response_is_refused_but_one_outside_the_conversation_is_not() -> None:
    async with Simulator(SimulatorOptions(think_ms=200, speed=1000)) as simulator, connected(simulator) as client:
        await client.configure()
        await client.send("response.create")
        first = (await client.next("response.created"))["response"]["id"]
        error = await client.refused("response.create")
        assert error["code"] == "conversation_already_has_active_response"
        assert first in error["message"]
        text = {"conversation": "none", "output_modalities": ["text"], "metadata": {"for": "a note"}}
        await client.send("response.create", response=text)
        outside = (await client.next("response.created"))["response"]
        assert (outside["conversation_id"], outside["metadata"]) == (None, {"for": "a note"})
        ended = {(await client.next("response.done"))["response"]["id"] for _ in range(2)}
        assert ended == {first, outside["id"]}
        assert client.types().count("conversation.item.added") == 1
        assert "response.output_text.done" in client.types()
        (violation,) = (await simulator.connection(1)).violations
        assert violation.startswith("response.create: conversation_already_has_active_response")


@pytest.mark.parametrize(
    ("event_type", "fields", "code", "param"),
    [
        ("session.update", {"session": {"type": "realtime", "voice": "alloy"}}, "unknown_parameter", "session.voice"),
        ("session.begin", {}, "invalid_value", "type"),
        ("input_audio_buffer.append", {"audio": "not base64"}, "invalid_value", "audio"),
        ("input_audio_buffer.append", {"audio": "AAAA"}, "invalid_value", "audio"),
        ("input_audio_buffer.commit", {}, "input_audio_buffer_commit_empty", None),
        ("conversation.item.retrieve", {"item_id": "no"}, "item_retrieve_invalid_item_id", "item_id"),
        ("conversation.item.delete", {"item_id": "no"}, "item_delete_invalid_item_id", "item_id"),
        ("response.cancel", {}, "response_cancel_not_active", None),
    ],
)
async def test_a_bad_event_draws_one_error_and_changes_nothing(
    simulator: Simulator, event_type: str, fields: dict[str, Any], code: str, param: str | None
) -> None:
    async with connected(simulator) as client:
        before = client.events[0]["session"]
        error = await client.refused(event_type, **fields)
        assert (error["code"], error["param"]) == (code, param)
        assert (await client.configure())["session"] == before
        assert client.types() == ["session.created", "error", "session.updated"]


async def test_the_voice_stays_once_it_was_heard(simulator: Simulator) -> None:
    async with connected(simulator) as client:
        await client.configure(audio={"output": {"voice": "cedar"}})
        await client.send("response.create")
        await client.next("response.done")
        error = await client.refused(
            "session.update", session={"type": "realtime", "instructions": "x", "audio": {"output": {"voice": "marin"}}}
        )
        assert (error["code"], error["param"]) == ("cannot_update_voice", None)
        session = (await client.configure())["session"]
        assert session["audio"]["output"]["voice"] == "cedar"
        assert session["instructions"] != "x", "a refused update is dropped as a whole"


async def test_a_manual_turn_is_committed_and_answered_when_asked(simulator: Simulator) -> None:
    async with connected(simulator) as client:
        await client.configure(audio={"input": {"turn_detection": None}})
        await client.append(np.full(24000, 9000, dtype="<i2").tobytes())
        await client.send("input_audio_buffer.clear")
        await client.next("input_audio_buffer.cleared")
        voice = np.arange(2400, dtype="<i2").tobytes()
        await client.append(voice)
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        mark = len(client.events)
        item_id = (await client.next("input_audio_buffer.committed"))["item_id"]
        await client.next("response.done")
        assert client.types(since=mark)[:4] == [
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
        ]
        await client.send("conversation.item.retrieve", item_id=item_id)
        item = (await client.next("conversation.item.retrieved"))["item"]
        assert base64.b64decode(item["content"][0]["audio"]) == voice
        error = await client.refused("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=0)
        assert "Only model output audio" in error["message"]
        await client.send("conversation.item.delete", item_id=item_id)
        assert (await client.next("conversation.item.deleted"))["item_id"] == item_id


async def test_the_output_limit_makes_the_answer_incomplete(simulator: Simulator) -> None:
    async with connected(simulator) as client:
        await client.configure(max_output_tokens=20)
        await client.send("response.create")
        response = (await client.next("response.done"))["response"]
        assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    (item,) = (await simulator.connection(1)).spoken
    assert len(item.pcm24k) == 48 * 1000, "20 tokens of 50 ms"


@pytest.mark.parametrize("output", [PCMU, {"type": "audio/pcm", "rate": 24000}])
async def test_echo_sends_every_frame_back_in_one_response(output: dict[str, Any]) -> None:
    async with Simulator(SimulatorOptions(echo=True)) as simulator, connected(simulator) as client:
        await client.configure(audio={"input": {"format": PCMU}, "output": {"format": output}})
        await client.send("response.create")
        speech = pcm_to_ulaw(read_wav(caller_wav()))
        returned = bytearray()
        for start in range(0, 160 * 100, 160):
            await client.append(speech[start : start + 160])
            returned += base64.b64decode((await client.next("response.output_audio.delta"))["delta"])
        assert client.types().count("response.created") == 1
        if output == PCMU:
            assert bytes(returned) == speech[: 160 * 100]
        await client.send("response.cancel")
        await client.next("response.done")
    seen = await simulator.connection(1)
    await seen.wait_closed()
    assert _correlation(seen.spoken[0].pcm24k, seen.heard) > 0.99
    assert seen.violations == []


async def test_a_response_asked_for_while_the_service_begins_its_own_is_refused_and_no_violation() -> None:
    async with Simulator(SimulatorOptions(echo=True)) as simulator, connected(simulator) as client:
        await client.configure()
        await client.append(bytes(960))
        assert (await client.refused("response.create"))["code"] == "conversation_already_has_active_response"
        assert "response.created" in client.types()
        assert (await simulator.connection(1)).violations == []


async def test_the_echo_tells_how_long_the_way_through_an_agent_and_back_takes() -> None:
    async with Simulator(SimulatorOptions(echo=True)) as simulator:
        async with calling(simulator.url, profile=AgentProfile(instructions="x", audio_format="pcmu")) as call:
            await call.event()
            delays_ms = sorted([await _way_through_ms(call, level) for level in (4000, 8000, 16000, 4000, 8000)])
        seen = await simulator.connection(1)
        await seen.wait_closed()
    assert delays_ms[0] < 1000, f"the best of {delays_ms}"
    assert seen.violations == []


async def _way_through_ms(call: Call, level: int) -> float:
    """Say one loud frame; return after how many milliseconds it waits to be played."""
    began = time.monotonic()
    await call.speak(1, level)
    async with asyncio.timeout(40):
        while (frame := await on_clock(call.playout.read_frame)) is None:
            await asyncio.sleep(0.001)
    delay_ms = (time.monotonic() - began) * 1000
    assert len(frame) == PHONE.frame_bytes
    assert abs(int(np.frombuffer(frame, "<i2")[80]) - level) < level / 10
    return delay_ms
