"""A scripted service of the Realtime API on loopback, and what stands around an agent in a call."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from websockets.asyncio.server import ServerConnection, serve

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import AgentFailed, CallEvent, Noted
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentError
from gateway.ids import CallId
from gateway.settings.sections import RealtimeSettings
from gateway.upstream.agent import UpstreamAgent
from gateway.upstream.realtime.access.connect import RealtimeConnector
from tests.fakes.threads import on_clock

Json = dict[str, Any]
Script = Callable[[ServerConnection], Awaitable[object]]
E = TypeVar("E", bound=CallEvent)

CALL = CallId("call-1")
KEY = "sk-very-secret-1234567890"
LIMIT_S = 30.0
PROFILE = AgentProfile(instructions="Be brief.", greeting="Hello.", model="gpt-realtime-2.1")


class Call:
    """What stands around an agent in a call; notes are kept apart from the other events."""

    def __init__(self, url: str, *, profile: AgentProfile = PROFILE, more: Json | None = None, **settings: Any) -> None:
        quick = {"retry_first_s": 0.02, "retry_last_s": 0.05}
        settings = {"url": url, "api_key": KEY, "connect_timeout_s": 2, "close_timeout_s": 0.3} | quick | settings
        self.uplink = UplinkTap(capacity_frames=50)
        self.playout = PlayoutBuffer(PHONE)
        self.events: list[CallEvent] = []
        self.notes: list[Noted] = []
        self.changed = asyncio.Event()
        realtime = RealtimeSettings(**settings)
        more = dict(more or {})
        opens = {name: more.pop(name) for name in ("caller", "own_tools", "secrets", "minter") if name in more}
        self.agent = UpstreamAgent(
            call_id=CALL,
            settings=realtime,
            profile=profile,
            connector=RealtimeConnector(call_id=CALL, settings=realtime, profile=profile, **opens),
            uplink=self.uplink,
            playout=self.playout,
            **more,
        )

    def emit(self, event: CallEvent) -> None:
        if isinstance(event, Noted):
            self.notes.append(event)
        else:
            self.events.append(event)
        self.changed.set()

    async def event(self, number: int = 0) -> CallEvent:
        """Wait for the event with this number."""
        await self.until(lambda: len(self.events) > number)
        return self.events[number]

    async def error(self, number: int = 0) -> AgentError:
        event = await self.event(number)
        assert isinstance(event, AgentFailed)
        return event.error

    async def first(self, kind: type[E]) -> E:
        """Wait for the first event of this class."""
        await self.until(lambda: any(isinstance(event, kind) for event in self.events))
        return next(event for event in self.events if isinstance(event, kind))

    async def note(self, name: str, number: int = 0) -> Json:
        """Wait for a note of this name; return its fields."""
        await self.until(lambda: len(self.noted(name)) > number)
        return self.noted(name)[number]

    def noted(self, name: str) -> list[Json]:
        return [dict(note.values) for note in self.notes if note.name == name]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def speak(self, frames: int, level: int = 1000) -> None:
        frame = np.full(PHONE.frame_samples, level, "<i2").tobytes()
        for _ in range(frames):
            await on_clock(self.uplink.write_frame, frame)

    async def listen(self) -> bytes:
        """Take all speech that can be played now."""
        frames = []
        while (frame := await on_clock(self.playout.read_frame)) is not None:
            frames.append(frame)
        return b"".join(frames)


@asynccontextmanager
async def calling(url: str, **settings: Any) -> AsyncIterator[Call]:
    call = Call(url, **settings)
    call.agent.open(call.emit)
    try:
        yield call
    finally:
        await call.agent.close()


@asynccontextmanager
async def serving(script: Script, **options: Any) -> AsyncIterator[str]:
    async def handle(socket: ServerConnection) -> None:
        await script(socket)

    async with serve(handle, "127.0.0.1", 0, compression=None, **options) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/v1/realtime?tenant=7"


def in_turn(*scripts: Script) -> Script:
    """Return a script that plays the first for the first connection, and so on; the last for all that follow."""
    connections = 0

    async def script(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await scripts[min(connections, len(scripts)) - 1](socket)

    return script


async def receive(socket: ServerConnection, wanted: str) -> Json:
    async with asyncio.timeout(LIMIT_S):
        event: Json = json.loads(await socket.recv())
    assert event["type"] == wanted
    return event


async def skip_to(socket: ServerConnection, wanted: str) -> Json:
    """Receive until an event of this type comes."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            event: Json = json.loads(await socket.recv())
            if event["type"] == wanted:
                return event


async def send(socket: ServerConnection, name: str, /, **fields: Any) -> None:
    await socket.send(json.dumps({"type": name, "event_id": "event_1"} | fields))


async def make_ready(socket: ServerConnection, session_id: str = "sess_1", **session: Any) -> Json:
    """Accept a client; return the session it asked for."""
    await send(socket, "session.created", session={"id": session_id} | session)
    update = await receive(socket, "session.update")
    asked: Json = update["session"]
    await send(socket, "session.updated", session=asked | {"id": session_id} | session)
    return asked


async def until_closed(socket: ServerConnection) -> None:
    async with asyncio.timeout(LIMIT_S):
        await socket.wait_closed()


async def say(
    socket: ServerConnection,
    pcm: bytes,
    item_id: str = "item_a",
    response_id: str = "resp_1",
    *,
    index: int = 0,
    part: int = 0,
) -> None:
    ids = {"response_id": response_id, "item_id": item_id, "output_index": index, "content_index": part}
    await send(socket, "response.output_audio.delta", delta=base64.b64encode(pcm).decode(), **ids)


async def hear_turn(socket: ServerConnection, item_id: str, text: str, previous: str | None = None) -> None:
    """Tell that the caller said something."""
    await send(socket, "input_audio_buffer.speech_started", item_id=item_id)
    await send(socket, "input_audio_buffer.speech_stopped", item_id=item_id)
    await send(socket, "input_audio_buffer.committed", item_id=item_id, previous_item_id=previous)
    completed = "conversation.item.input_audio_transcription.completed"
    await send(socket, completed, item_id=item_id, transcript=text)


async def answer_turn(socket: ServerConnection, response_id: str, item_id: str, text: str, **done: Any) -> None:
    """Give a spoken answer of 100 ms at 24 kHz, in full."""
    await send(socket, "response.created", response={"id": response_id, "status": "in_progress"})
    await say(socket, bytes(4800), item_id, response_id)
    ids = {"response_id": response_id, "item_id": item_id}
    await send(socket, "response.output_audio.done", **ids)
    await send(socket, "response.output_audio_transcript.done", transcript=text, **ids)
    await send(socket, "response.done", response={"id": response_id, "status": "completed"} | done)
