"""Items of the agent that overlap on the wire: heard whole, one after the other, and cut where interrupted."""

from __future__ import annotations

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection

from gateway.audio.pcm import MODEL
from gateway.audio.resample import Downsampler
from gateway.call.events import AgentBack, SpeechStarted
from gateway.dialplan.model.agent import OnLoss
from tests.fakes.realtime_service import (
    PROFILE,
    Call,
    Json,
    calling,
    in_turn,
    make_ready,
    receive,
    say,
    send,
    serving,
    until_closed,
)
from tests.fakes.threads import on_clock

pytestmark = pytest.mark.integration

NOISE = np.random.default_rng(3).integers(-9000, 9000, 24_000, np.int16).tobytes()  # a second
FIRST, SECOND = NOISE[: MODEL.bytes_of(400)], NOISE[MODEL.bytes_of(400) :]
ITEMS = ("item_a", "item_b")


def alone(speech: bytes) -> bytes:
    """Return what a phone hears of an item that nothing is mixed with."""
    downsampler = Downsampler()
    return downsampler.process(speech) + downsampler.tail()


async def announce(socket: ServerConnection, item_id: str, index: int, event: str = "added") -> None:
    item = {"id": item_id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    await send(socket, f"response.output_item.{event}", response_id="resp_1", output_index=index, item=item)


async def answer_in_two_items(socket: ServerConnection) -> None:
    """Announce two items, and send their deltas in turn, those of the second first."""
    await send(socket, "response.created", response={"id": "resp_1", "status": "in_progress"})
    for index, item_id in enumerate(ITEMS):
        await announce(socket, item_id, index)
    for start in range(0, len(SECOND), 4800):
        await say(socket, SECOND[start : start + 4800], "item_b", index=1)
        if first := FIRST[start : start + 4800]:
            await say(socket, first, "item_a")


async def finish(socket: ServerConnection) -> None:
    for index, item_id in reversed(tuple(enumerate(ITEMS))):
        await send(socket, "response.output_audio.done", response_id="resp_1", item_id=item_id, content_index=0)
        await announce(socket, item_id, index, "done")
    await send(socket, "response.done", response={"id": "resp_1", "status": "completed"})


async def hear_frames(call: Call, count: int) -> None:
    for _ in range(count):
        assert await on_clock(call.playout.read_frame) is not None


def cut_off(call: Call) -> None:
    """Do what a call does when the caller interrupts."""
    position = call.playout.position()
    call.playout.flush()
    assert position is not None
    call.agent.truncate(position.item_id, position.played_ms)


async def test_two_items_whose_deltas_come_in_turn_are_heard_one_after_the_other() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await answer_in_two_items(socket)
        await finish(socket)
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        assert isinstance(await call.event(1), SpeechStarted)
        heard = await call.listen()

    assert heard.rstrip(b"\0") == (alone(FIRST) + alone(SECOND)).rstrip(b"\0")
    assert [item.item_id for item in call.playout.take_finished()] == ["item_a", "item_b"]


@pytest.mark.parametrize(
    ("frames", "cuts"),
    [(5, [("item_a", 100), ("item_b", 0)]), (25, [("item_b", 96)])],
    ids=["in the first", "in the second"],
)
async def test_an_interruption_cuts_the_item_being_played_and_those_behind_it(
    frames: int, cuts: list[tuple[str, int]]
) -> None:
    told: list[Json] = []

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await answer_in_two_items(socket)
        await announce(socket, "item_c", 2)
        await finish(socket)
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        told.extend([await receive(socket, "conversation.item.truncate") for _ in cuts])
        await say(socket, SECOND, "item_b", "resp_1", index=1)
        await say(socket, SECOND, "item_c", "resp_1", index=2)
        await send(socket, "input_audio_buffer.speech_stopped", item_id="item_u")
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        await call.first(SpeechStarted)
        await hear_frames(call, frames)
        cut_off(call)
        await call.event(2)
        assert await call.listen() == b"", "what still comes of them is dropped"

    figures = [(event["item_id"], event["audio_end_ms"]) for event in told]
    assert [item_id for item_id, _ in figures] == [item_id for item_id, _ in cuts]
    assert all(abs(ms - expected) <= 2 for (_, ms), (_, expected) in zip(figures, cuts, strict=True)), figures
    assert {event["content_index"] for event in told} == {0}


async def test_a_new_session_that_counts_its_items_from_one_again_is_heard() -> None:
    """What is stale is known by its id, and ids are those of a session."""

    async def first(socket: ServerConnection) -> None:
        await make_ready(socket)
        await say(socket, FIRST, "item_1")
        await send(socket, "input_audio_buffer.speech_started", item_id="item_2")
        await receive(socket, "conversation.item.truncate")
        socket.transport.abort()

    async def second(socket: ServerConnection) -> None:
        await make_ready(socket, "sess_2")
        await say(socket, SECOND, "item_1")
        await send(socket, "response.output_audio.done", response_id="resp_1", item_id="item_1")
        await send(socket, "input_audio_buffer.speech_started", item_id="item_2")
        await until_closed(socket)

    profile = PROFILE.model_copy(update={"on_loss": OnLoss(action="reconnect", give_up_after_s=20)})
    async with serving(in_turn(first, second)) as url, calling(url, profile=profile) as call:
        await call.first(SpeechStarted)
        await hear_frames(call, 3)
        cut_off(call)
        await call.first(AgentBack)
        await call.until(lambda: sum(isinstance(event, SpeechStarted) for event in call.events) == 2)
        assert (await call.listen()).rstrip(b"\0") == alone(SECOND).rstrip(b"\0")
