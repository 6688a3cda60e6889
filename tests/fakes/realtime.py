"""A client of the Realtime API without opinions: it sends what it is told and keeps what comes."""

from __future__ import annotations

import asyncio
import base64
import json
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.audio.g711 import pcm_to_ulaw
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.lab.simulator.script import Script
from gateway.lab.speech import caller_wav

LIMIT_S = 30.0
PCMU = {"type": "audio/pcmu"}
VAD = {"type": "server_vad", "silence_duration_ms": 500}


SERVER_EVENT: TypeAdapter[BaseModel] = TypeAdapter(RealtimeServerEvent)
# What the service sends though the SDK's types do not have it.
UNDECLARED = {
    "obfuscation",
    "item.phase",
    "response.output.phase",
    "session.id",
    "session.object",
    "session.expires_at",
    "response.usage.output_token_details.reasoning_tokens",
}


def parsed(event: dict[str, Any]) -> BaseModel:
    """Return a server event as the SDK's own class for its type; fail where that is not exactly what was sent."""
    model = SERVER_EVENT.validate_json(json.dumps(event), strict=True)
    assert event["type"] in get_args(type(model).model_fields["type"].annotation)
    extra = set(undeclared(model)) - UNDECLARED
    assert not extra, f"{event['type']} carries {extra}"
    return model


def undeclared(value: object, path: str = "") -> Iterator[str]:
    """Yield the fields a model, or one in it, took though it does not declare them."""
    if isinstance(value, BaseModel):
        yield from (f"{path}{key}".removeprefix(".") for key in value.model_extra or ())
        for key in type(value).model_fields:
            yield from undeclared(getattr(value, key), f"{path}{key}.")
    elif isinstance(value, list):
        for entry in value:
            yield from undeclared(entry, path)


class RawClient:
    """One side of a WebSocket, with the few turns every test takes."""

    def __init__(self, socket: ClientConnection, *, strict: bool = True) -> None:
        self.socket = socket
        self.strict = strict
        self.events: list[dict[str, Any]] = []

    async def send(self, event_type: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": event_type, **fields}))

    async def append(self, audio: bytes) -> None:
        await self.send("input_audio_buffer.append", audio=base64.b64encode(audio).decode())

    async def next(self, wanted: str | None = None) -> dict[str, Any]:
        """Return the next event, or the next of that type."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                event: dict[str, Any] = json.loads(await self.socket.recv())
                if self.strict:
                    parsed(event)
                self.events.append(event)
                if wanted in (None, event["type"]):
                    return event

    async def closed(self) -> tuple[int, str]:
        """Wait for the end; return the close code and its reason."""
        with pytest.raises(ConnectionClosed):
            await self.next("nothing is called so")
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or ""

    async def configure(self, **session: Any) -> dict[str, Any]:
        await self.send("session.update", session={"type": "realtime", **session})
        return await self.next("session.updated")

    async def configure_phone(self, **turn_detection: Any) -> None:
        """G.711 both ways, transcription on, as a phone call is configured."""
        await self.configure(
            audio={
                "input": {
                    "format": PCMU,
                    "turn_detection": VAD | turn_detection,
                    "transcription": {"model": "gpt-realtime-whisper"},
                },
                "output": {"format": PCMU},
            }
        )

    async def refused(self, event_type: str, **fields: Any) -> dict[str, Any]:
        """Send an event that must draw one error, which names it; return that error."""
        await self.send(event_type, event_id="bad-1", **fields)
        error: dict[str, Any] = (await self.next("error"))["error"]
        assert error["event_id"] == "bad-1"
        assert error["type"] == "invalid_request_error"
        return error

    async def speak_first_sentence(self) -> None:
        """Send the shipped caller up to the silence behind the first sentence, in frames of 20 ms."""
        audio = pcm_to_ulaw(read_wav(caller_wav()))[: 8 * 4000]
        for start in range(0, len(audio), 160):
            await self.append(audio[start : start + 160])

    def types(self, *, since: int = 0) -> list[str]:
        return [event["type"] for event in self.events[since:]]


@asynccontextmanager
async def connected(
    simulator: Simulator, query: str = "?model=gpt-realtime", **headers: str
) -> AsyncIterator[RawClient]:
    sent = {"Authorization": "Bearer sk-test"} | headers
    async with connect(simulator.url + query, additional_headers=sent, close_timeout=1, compression=None) as socket:
        client = RawClient(socket)
        assert (await client.next())["type"] == "session.created"
        yield client


def read_wav(path: Path) -> bytes:
    with wave.open(str(path), "rb") as sound:
        return sound.readframes(sound.getnframes())


def scripted(*answers: dict[str, Any], **more: Any) -> SimulatorOptions:
    """Return options of a quick simulator whose agent gives these answers."""
    script = Script.model_validate({"answers": answers, **more})
    return SimulatorOptions(speed=1000.0, think_ms=0, script=script)
