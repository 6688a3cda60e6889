"""A voice model with a protocol of its own, which can do less: nothing outside its dialect and connector knows it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import AgentBack, AgentExpiring, AgentReady, CallEvent, Noted
from gateway.dialplan.model.agent import AgentProfile, OnLoss
from gateway.errors import AgentError, AgentLost, AgentRefused
from gateway.ids import CallId
from gateway.settings.sections import RealtimeSettings
from gateway.upstream.agent import UpstreamAgent
from gateway.upstream.core.debts import Ask
from gateway.upstream.core.dialect import (
    AgentAudio,
    AgentAudioDone,
    Alarm,
    ConnectionFault,
    Dialect,
    Opening,
    Retry,
    SessionBegan,
    UpstreamEvent,
)
from gateway.upstream.core.history import History, PastItem, PastMessage
from gateway.upstream.core.owed import Owed
from tests.fakes.threads import on_clock
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

CALL = CallId("call-1")
Json = dict[str, Any]


class PlainDialect:
    """
    A protocol of plain messages: it tells no turns of the caller, and takes neither a cut nor a stop.

    ``{"ready": id}`` opens a session, ``{"begin": response}``, ``{"speak": item, "audio": ...}`` and
    ``{"done": response}`` are an answer; ``{"respond": task}``, ``{"hear": audio}`` and ``{"know": text}`` go up.
    """

    detects_turns = truncates = cancels = rolls_over = False
    caller_speaks = False
    longest_pause_s, longest_session_s = 0.0, 900.0
    odd_messages = unknown_events = 0

    def __init__(self, history: History, owed: Owed) -> None:
        self.history, self.owed = history, owed
        self.ready = False
        self.response = 0
        self.cuts: list[Mapping[str, int]] = []

    @property
    def is_quiet(self) -> bool:
        return self.ready and not self.owed.is_open

    def configure(self) -> tuple[str, ...]:
        return (json.dumps({"open": True}),)

    def receive(self, text: str | bytes) -> list[UpstreamEvent]:
        events: list[UpstreamEvent] = []
        match json.loads(text):
            case {"ready": session_id, "expires_at": expires_at}:
                self.ready = True
                events += [SessionBegan(session_id, expires_at), AgentReady(CALL, session_id)]
            case {"begin": response_id}:
                self.response += 1
                self.owed.began(response_id)
            case {"speak": item_id, "audio": audio, "words": words}:
                self.owed.moved(None, speech=True)
                self.history.agent_says(item_id, words)
                events.append(AgentAudio(item_id, base64.b64decode(audio), (self.response, 0)))
            case {"done": response_id, "item": item_id}:
                self.owed.speech_ended(response_id, whole=True)
                debts, spoke, _ = self.owed.ended(response_id)
                self.owed.paid(debts, spoke=spoke)
                events.append(AgentAudioDone(item_id))
        alarm = self.owed.take_alarm()
        return events if alarm is None else [*events, Alarm(*alarm)]

    def append(self, audio: bytes) -> tuple[str, ...]:
        return (json.dumps({"hear": len(audio)}),) if audio and self.ready else ()

    def append_silence(self, size_bytes: int) -> tuple[str, ...]:
        return ()

    def mute(self) -> tuple[str, ...]:
        return ()

    def unmute(self) -> tuple[str, ...]:
        return ()

    def seed(self, items: Iterable[PastItem]) -> tuple[str, ...]:
        said = (item for item in items if isinstance(item, PastMessage))
        return tuple(json.dumps({"know": f"{item.role.name}: {item.text}"}) for item in said)

    def tell(self, text: str, *, respond: bool) -> tuple[str, ...]:
        self.history.told(text)
        return (json.dumps({"know": text}),)

    def say_goodbye(self, ask: Ask) -> tuple[str, ...]:
        self.owed.owe_goodbye(ask)
        return self.go_on()

    def go_on(self) -> tuple[str, ...]:
        wish = self.owed.next(listening=False)
        return () if wish is None else (json.dumps({"respond": wish.ask.task if wish.ask is not None else ""}),)

    def cancel(self) -> tuple[str, ...]:
        raise AssertionError("it cannot")

    def truncate(self, heard_ms: Mapping[str, int]) -> tuple[str, ...]:
        self.cuts.append(heard_ms)
        for item_id in heard_ms:
            self.history.cut(item_id, 0.5)
        return ()

    def answer_tool(self, tool_call_id: str, output: str, *, respond: bool) -> tuple[str, ...]:
        return ()

    def end_turn(self) -> list[UpstreamEvent]:
        raise AssertionError("it knows no turns")

    def overdue(self, queued_ms: int) -> list[UpstreamEvent]:
        return []

    def timer_fired(self, key: str) -> list[UpstreamEvent]:
        return []

    def retire(self) -> None:
        raise AssertionError("it cannot be replaced")

    def lose(self, *, unheard: bool = False) -> list[UpstreamEvent]:
        self.owed.session_ended(unanswered=False)
        return []

    def error_of_close(self, close_code: int | None, reason: str) -> AgentError | None:
        return AgentLost(f"gone: {reason}", close_code=close_code)


class PlainJudge:
    def connection_error(self, fault: ConnectionFault, detail: str) -> AgentError:
        return AgentLost(detail)

    def http_error(self, status: int, body: bytes) -> AgentError:
        return AgentRefused(f"HTTP {status}", http_status=status)

    def retry(self, error: AgentError) -> Retry:
        return Retry.BACKOFF if isinstance(error, AgentLost) else Retry.NEVER


class PlainConnector:
    def __init__(self, url: str) -> None:
        self.url = url
        self.history, self.owed, self.judge = History(), Owed(), PlainJudge()
        self.dialects: list[PlainDialect] = []
        self.closes = 0

    def redact(self, text: str, /) -> str:
        return text

    def close(self) -> None:
        self.closes += 1

    async def prepare(self) -> Opening:
        self.dialects.append(PlainDialect(self.history.new_session(), self.owed))
        dialect: Dialect = self.dialects[-1]
        return Opening(self.url, {"X-Key": "plain"}, dialect)


class PlainService:
    """The other side: it keeps what it is told, and says what a test wants."""

    def __init__(self, lives_s: float | None = None) -> None:
        self.lives_s = lives_s
        self.heard: list[Json] = []
        self.sessions: list[ServerConnection] = []

    async def session(self, socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await self._serve(socket)

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        assert socket.request.headers["X-Key"] == "plain"
        self.sessions.append(socket)
        async for message in socket:
            event = json.loads(message)
            if "open" in event:
                expires_at = None if self.lives_s is None else time.time() + self.lives_s
                await self.send(ready=f"plain-{len(self.sessions)}", expires_at=expires_at)
            else:
                self.heard.append(event)

    async def send(self, **event: Any) -> None:
        await self.sessions[-1].send(json.dumps(event))

    async def speak(self, response_id: str, item_id: str, words: str) -> None:
        audio = base64.b64encode(np.full(2400, 8000, "<i2").tobytes()).decode()  # 100 ms at 24 kHz
        await self.send(speak=item_id, audio=audio, words=words)

    def told(self, key: str) -> list[Any]:
        return [event[key] for event in self.heard if key in event]


class PlainCall:
    def __init__(self, url: str, profile: AgentProfile, **settings: Any) -> None:
        self.uplink, self.playout = UplinkTap(capacity_frames=50), PlayoutBuffer(PHONE)
        self.events: list[CallEvent] = []
        self.connector = PlainConnector(url)
        more = {"url": url, "retry_first_s": 0.02, "retry_last_s": 0.05, "close_timeout_s": 0.3} | settings
        self.agent = UpstreamAgent(
            call_id=CALL,
            settings=RealtimeSettings(**more),
            profile=profile,
            connector=self.connector,
            uplink=self.uplink,
            playout=self.playout,
        )

    def first(self, kind: type[CallEvent]) -> bool:
        return any(isinstance(event, kind) for event in self.events)


@asynccontextmanager
async def calling(
    service: PlainService, profile: AgentProfile | None = None, **settings: Any
) -> AsyncIterator[PlainCall]:
    async with serve(service.session, "127.0.0.1", 0, compression=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        call = PlainCall(url, profile or AgentProfile(instructions="Be brief.", greeting="Hello."), **settings)
        call.agent.open(call.events.append)
        try:
            await until(lambda: call.first(AgentReady))
            yield call
        finally:
            await call.agent.close()


async def heard_ms(call: PlainCall) -> int:
    """Play all that can be played now."""
    frames = 0
    while await on_clock(call.playout.read_frame) is not None:
        frames += 1
    return frames * PHONE.ptime_ms


async def test_an_agent_greets_and_hears_through_it() -> None:
    service = PlainService()
    async with calling(service) as call:
        call.agent.greet()
        await until(lambda: service.told("respond"))
        await service.send(begin="r1")
        await service.speak("r1", "i1", "Hello.")
        await service.send(done="r1", item="i1")
        await until(lambda: not call.agent.responding)
        await on_clock(call.uplink.write_frame, np.full(PHONE.frame_samples, 1000, "<i2").tobytes())
        await until(lambda: service.told("hear"))

        assert service.told("respond") == ["The call was just answered.\nSay this now, then wait: Hello."]
        assert 100 <= await heard_ms(call) <= 120


@pytest.mark.parametrize("order", ["cancel", "truncate"])
async def test_the_rest_of_a_response_that_cannot_be_stopped_is_not_played(order: str) -> None:
    service = PlainService()
    async with calling(service) as call:
        call.agent.greet()
        await until(lambda: service.told("respond"))
        await service.send(begin="r1")
        await service.speak("r1", "i1", "One two")
        await until(lambda: call.playout.queued_ms > 0)
        call.playout.flush()
        if order == "cancel":
            call.agent.cancel()
        else:
            call.agent.truncate("i1", 20)
        await service.speak("r1", "i1", " three four")
        await service.speak("r1", "i2", "five")
        await service.send(done="r1", item="i2")
        await until(lambda: not call.agent.responding)
        assert await heard_ms(call) == 0

        await service.send(begin="r2")
        await service.speak("r2", "i3", "Anew.")
        await service.send(done="r2", item="i3")
        await until(lambda: not call.agent.responding and call.playout.queued_ms)
        assert 100 <= await heard_ms(call) <= 120
        assert [[*cut] for cut in call.connector.dialects[0].cuts] == ([] if order == "cancel" else [["i1"]])


async def test_another_session_is_told_what_was_said_in_the_one_that_was_lost() -> None:
    service = PlainService()
    profile = AgentProfile(instructions="Be brief.", greeting="Hello.", on_loss=OnLoss(action="reconnect"))
    async with calling(service, profile) as call:
        await service.send(begin="r1")
        await service.speak("r1", "i1", "Good morning.")
        await service.send(done="r1", item="i1")
        await until(lambda: call.connector.history.items() and not call.agent.responding)
        call.agent.tell("The caller pressed: 1", respond=False)
        await until(lambda: service.told("know"))
        service.heard.clear()
        await service.sessions[-1].close(1011, "internal")
        await until(lambda: call.first(AgentBack))
        await until(lambda: len(service.told("know")) == 3)

        assert service.told("know")[:2] == ["AGENT: Good morning.", "GATEWAY: The caller pressed: 1"]
        assert service.told("know")[2].startswith("GATEWAY: The connection was interrupted")


async def test_a_session_that_cannot_roll_over_is_announced_to_expire() -> None:
    service = PlainService(lives_s=0.6)
    profile = AgentProfile(instructions="Be brief.", roll_over=True)
    async with calling(service, profile, roll_over_before_s=0.3, expiry_goodbye_s=0.1) as call:
        await until(lambda: call.first(AgentExpiring))

        assert len(service.sessions) == len(call.connector.dialects) == 1
        assert not [event for event in call.events if isinstance(event, Noted) and event.name == "roll_over_refused"]
