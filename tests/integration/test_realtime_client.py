"""The client of the Realtime API against scripted services on loopback: every way a service can behave or not."""

from __future__ import annotations

import asyncio
import base64
import gc
import http
import json
import logging
import ssl
import time
import wave
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from importlib import resources
from typing import Any

import numpy as np
import pytest
import uvloop
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from gateway.audio.pcm import MODEL, PHONE
from gateway.audio.resample import Downsampler, Resampler, Upsampler
from gateway.call.events import (
    AgentClosed,
    AgentReady,
    AgentSpoke,
    CallerSpoke,
    SpeechStarted,
    SpeechStopped,
)
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentError, AgentLost, AgentRefused
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.upstream import link as realtime_socket
from tests.fakes.raw_peer import RawPeer, clogged
from tests.fakes.realtime_service import (
    CALL,
    KEY,
    LIMIT_S,
    Call,
    Json,
    Script,
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
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

# A call that works


async def test_a_ready_agent_hears_the_caller_and_is_heard() -> None:
    heard: list[bytes] = []
    requests: list[Request] = []

    async def script(socket: ServerConnection) -> None:
        assert socket.request is not None
        requests.append(socket.request)
        await make_ready(socket)
        create = await receive(socket, "response.create")
        assert "Hello." in create["response"]["instructions"]
        await send(socket, "response.created", response={"id": "resp_1", "status": "in_progress"})
        await say(socket, bytes(MODEL.bytes_of(250)))
        await say(socket, bytes(MODEL.bytes_of(130)))
        done = {"response_id": "resp_1", "item_id": "item_a"}
        await send(socket, "response.output_audio.done", **done)
        await send(socket, "response.output_audio_transcript.done", transcript="Hello.", **done)
        await send(socket, "response.done", response={"id": "resp_1", "status": "completed"})
        for _ in range(5):
            append = await receive(socket, "input_audio_buffer.append")
            heard.append(base64.b64decode(append["audio"]))
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        assert await call.event() == AgentReady(CALL, "sess_1")
        call.agent.greet()
        assert await call.event(1) == AgentSpoke(CALL, "item_a", "Hello.")
        for _ in range(5):
            await call.speak(1)
            await asyncio.sleep(0.02)
        assert isinstance(await call.event(2), SpeechStarted)
        assert len(await call.listen()) == PHONE.bytes_of(400), "380 ms and what the resampler held, in frames"

    [request] = requests
    assert request.path == "/v1/realtime?tenant=7&model=gpt-realtime-2.1"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert "OpenAI-Beta" not in request.headers
    assert "Sec-WebSocket-Extensions" not in request.headers
    assert b"".join(heard) == Upsampler().process(np.full(800, 1000, "<i2").tobytes())


async def test_speech_reaches_the_playout_as_it_was_said() -> None:
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(24000) / 24000)).astype("<i2").tobytes()

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        for start in range(0, len(tone), 7001):  # deltas need not hold whole samples
            await say(socket, tone[start : start + 7001])
        await send(socket, "response.output_audio.done", response_id="resp_1", item_id="item_a")
        await say(socket, bytes(480), "item_b")
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        assert isinstance(await call.event(1), SpeechStarted)
        played = np.frombuffer(await call.listen(), "<i2")[:8000].astype(float)

    delay = 20  # samples at 8 kHz
    expected = 8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    correlations = [np.corrcoef(played[100 + lag : 7900], expected[100 : 7900 - lag])[0, 1] for lag in range(2 * delay)]
    assert max(correlations) > 0.99


async def test_a_truncation_overtakes_no_earlier_order_and_is_bounded() -> None:
    cuts: list[Json] = []

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await say(socket, bytes(MODEL.bytes_of(100)))
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        cuts.append(await receive(socket, "conversation.item.truncate"))
        await send(socket, "response.done", response={"id": "resp_1", "status": "cancelled"})
        await send(socket, "input_audio_buffer.speech_stopped", item_id="item_u")
        cuts.append(await receive(socket, "response.create"))
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        await call.event(1)
        call.agent.truncate("item_a", 5000)
        call.agent.truncate("item_x", 5000)
        call.agent.greet()
        await call.event(3)

    assert (cuts[0]["item_id"], cuts[0]["audio_end_ms"]) == ("item_a", 100)


async def test_nothing_but_the_configuration_is_sent_before_the_session_is_ready() -> None:
    received: list[str] = []

    async def script(socket: ServerConnection) -> None:
        update = await receive(socket, "session.update")
        try:
            async with asyncio.timeout(0.3):
                received.append(str(await socket.recv()))
        except TimeoutError:
            pass
        await send(socket, "session.updated", session=update["session"] | {"id": "sess_1"})
        first = await receive(socket, "input_audio_buffer.append")
        received.append(str(np.frombuffer(base64.b64decode(first["audio"]), "<i2").max()))
        await send(socket, "input_audio_buffer.speech_started")
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        await call.speak(20, level=20_000)
        assert isinstance(await call.event(), AgentReady)
        await call.speak(1, level=0)
        await call.event(1)

    assert received == ["0"], "the caller's audio from before is discarded"


async def test_caller_audio_is_sent_in_rounds_as_far_apart_as_is_configured() -> None:
    sizes: list[int] = []

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        while sum(sizes) < MODEL.bytes_of(180):
            append = await receive(socket, "input_audio_buffer.append")
            sizes.append(len(base64.b64decode(append["audio"])))
        await send(socket, "input_audio_buffer.speech_started")
        await until_closed(socket)

    async with serving(script) as url, calling(url, uplink_ms=60) as call:
        await call.event()
        for _ in range(9):
            await call.speak(1)
            await asyncio.sleep(0.005)
        await call.event(1)

    assert len(sizes) <= 5, "of nine frames that came one after the other"


async def test_an_agent_without_a_greeting_lets_the_caller_speak_first() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await receive(socket, "input_audio_buffer.append")
        await send(socket, "input_audio_buffer.speech_started")
        await until_closed(socket)

    async with serving(script) as url, calling(url, profile=AgentProfile(instructions="Be brief.")) as call:
        await call.event()
        call.agent.greet()
        await call.speak(1)
        assert isinstance(await call.event(1), SpeechStarted)


# Refused


@pytest.mark.parametrize(("close_code", "error_code"), [(3000, "invalid_api_key"), (4000, "invalid_model")])
@pytest.mark.parametrize("with_error_event", [True, False])
async def test_a_service_that_judges_after_the_handshake_refuses_the_agent(
    close_code: int, error_code: str, with_error_event: bool
) -> None:
    async def script(socket: ServerConnection) -> None:
        if with_error_event:
            await send(socket, "error", error={"type": "invalid_request_error", "code": error_code, "event_id": None})
        await socket.close(close_code, f"invalid_request_error.{error_code}")

    async with serving(script) as url, calling(url) as call:
        error = await call.error()

    assert isinstance(error, AgentRefused)
    assert error.code == error_code
    assert with_error_event or error.close_code == close_code
    assert len(call.events) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AgentRefused),
        (403, AgentRefused),
        (404, AgentRefused),
        (302, AgentLost),
    ],
)
async def test_a_refused_handshake_is_told_by_its_status(status: int, kind: type[AgentError]) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        body = json.dumps({"error": {"code": "why", "message": f"No, {request.headers['Authorization']}."}})
        response = connection.respond(http.HTTPStatus(status), body)
        response.headers["Location"] = "ws://127.0.0.1:9/elsewhere"
        return response

    async with serving(until_closed, process_request=refuse) as url, calling(url) as call:
        error = await call.error()

    assert type(error) is kind
    assert (error.http_status, error.code) == (status, "why")
    assert f"HTTP {status}: No, Bearer ***." in error.detail


async def test_a_rejected_configuration_ends_the_agent() -> None:
    async def script(socket: ServerConnection) -> None:
        update = await receive(socket, "session.update")
        error = {"type": "invalid_request_error", "code": "unknown_parameter", "param": "session.audio"}
        await send(socket, "error", error=error | {"message": "Unknown.", "event_id": update["event_id"]})
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        error = await call.error()

    assert isinstance(error, AgentRefused)
    assert "unknown_parameter" in str(error)


# Lost


async def test_a_close_1000_right_after_the_configuration_is_a_loss() -> None:
    async def script(socket: ServerConnection) -> None:
        await receive(socket, "session.update")
        await socket.close(1000)

    async with serving(script) as url, calling(url) as call:
        error = await call.error()

    assert isinstance(error, AgentLost)
    assert error.close_code == 1000


async def test_a_close_1000_in_mid_call_is_an_orderly_end() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await socket.close(1000, "bye")

    async with serving(script) as url, calling(url) as call:
        assert await call.event(1) == AgentClosed(CALL, 1000, "bye")


async def test_a_session_that_expires_in_mid_call_is_lost() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await send(socket, "error", error={"type": "invalid_request_error", "code": "session_expired"})
        await socket.close(1001)

    async with serving(script) as url, calling(url) as call:
        error = await call.error(1)

    assert isinstance(error, AgentLost)
    assert (error.code, error.close_code) == ("session_expired", 1001)


async def test_a_connection_that_breaks_in_mid_call_is_lost() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await receive(socket, "input_audio_buffer.append")
        socket.transport.abort()

    async with serving(script) as url, calling(url) as call:
        await call.event()
        await call.speak(1)
        error = await call.error(1)

    assert isinstance(error, AgentLost)
    assert len(call.events) == 2


async def test_messages_that_are_not_the_protocol_cost_themselves_and_not_the_call() -> None:
    async def script(socket: ServerConnection) -> None:
        await socket.send("hello")
        await make_ready(socket)
        for odd in ("pong", "{}", b"\xff\x00", '{"type":"response.created","response":{"id":null}}'):
            await socket.send(odd)
        await send(socket, "response.output_audio.delta", delta=base64.b64encode(bytes(9600)).decode())
        await send(socket, "response.done", response=None)
        await until_closed(socket)

    with capture_logs() as logs:
        async with serving(script) as url, calling(url) as call:
            await call.first(AgentReady)
            await until(lambda: len(call.noted("odd_message")) == 7)
            heard = await call.listen()

    assert heard
    assert call.noted("odd_message")[0] == {"detail": "not JSON"}
    [ended] = [entry for entry in logs if entry["event"] == "upstream_session_ended"]
    assert ended["odd_messages"] == 7


async def test_messages_of_any_length_arrive_whole_both_ways() -> None:
    texts = ["x", "ü" * 40, "y" * 200, "z" * 66_000]  # each of the three ways to write a frame's length
    heard: list[str] = []

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        while len(heard) < len(texts):
            item = (await receive(socket, "conversation.item.create"))["item"]
            heard.append(item["content"][0]["text"])
        await send(socket, "error", error={"message": "m" * 70_000, "code": "odd"})
        await until_closed(socket)

    async with serving(script) as url, calling(url, profile=AgentProfile(instructions="Be brief.")) as call:
        await call.first(AgentReady)
        for text in texts:
            call.agent.tell(text, respond=False)
        assert (await call.note("upstream_error"))["code"] == "odd"
    assert heard == texts


async def test_a_message_in_fragments_is_put_together() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        event = json.dumps({"type": "input_audio_buffer.speech_started", "event_id": "e", "item_id": "i"})
        pong = await socket.ping()

        async def pieces() -> AsyncIterator[str]:
            yield event[:10]
            await pong  # a control frame may come between fragments
            yield event[10:20]
            yield event[20:]

        await socket.send(pieces())
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        await call.first(SpeechStarted)


async def test_a_message_in_too_many_fragments_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime_socket, "MAX_FRAGMENTS", 7)
    codes: list[int | None] = []

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await socket.send(["x"] * 8)
        await until_closed(socket)
        codes.append(socket.close_code)

    async with serving(script) as url, calling(url, profile=AgentProfile(instructions="Be brief.")) as call:
        await call.first(AgentReady)
        assert isinstance(await call.error(1), AgentLost)
        await until(lambda: bool(codes))
    assert codes == [1009]


async def test_a_fault_of_the_gateway_ends_the_agent_and_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(_self: Resampler, _pcm: bytes) -> bytes:
        raise ArithmeticError("broken")

    monkeypatch.setattr(Resampler, "process", break_down)

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await until_closed(socket)

    with capture_logs() as logs:
        async with serving(script) as url, calling(url) as call:
            await call.event()
            await call.speak(1)
            error = await call.error(1)

    assert "ArithmeticError" in error.detail
    assert any(entry.get("fault") == "ArithmeticError" for entry in logs)


# A peer below the level of a WebSocket library


def close_code_of(frame: Frame) -> int:
    return int.from_bytes(bytes(frame.data[:2]), "big")


async def test_a_service_that_never_answers_is_tried_again_after_the_connect_limit() -> None:
    peer = RawPeer(answers_http=False)
    async with peer.serving() as url, calling(url, connect_timeout_s=0.2) as call:
        assert "cannot reach the service" in (await call.note("agent_retry"))["detail"]


async def test_an_agent_can_be_closed_while_it_still_connects() -> None:
    peer = RawPeer(answers_http=False)
    async with peer.serving() as url:
        call = Call(url, connect_timeout_s=60)
        call.agent.open(call.emit)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(40):
            await call.agent.close()

    assert call.events == []


async def test_closing_says_close_1000_and_does_not_wait_long_for_a_silent_service() -> None:
    peer = RawPeer()
    async with peer.serving() as url:
        call = Call(url)
        call.agent.open(call.emit)
        await peer.make_ready()
        await call.event()

        began = time.monotonic()
        await call.agent.close()
        took = time.monotonic() - began

        assert close_code_of(await peer.frame(Opcode.CLOSE)) == 1000
    assert took > 0.2
    assert len(call.events) == 1


async def test_a_close_is_told_though_the_service_keeps_its_end_of_tcp_open() -> None:
    peer = RawPeer()
    async with peer.serving() as url, calling(url, close_timeout_s=1) as call:
        await peer.make_ready()
        await call.event()

        peer.write(Opcode.CLOSE, (1000).to_bytes(2, "big"))
        assert isinstance(await call.event(1), AgentClosed)

        assert close_code_of(await peer.frame(Opcode.CLOSE)) == 1000, "the CLOSE is answered"


async def test_an_upstream_that_takes_no_data_is_lost_and_memory_stays_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(realtime_socket, "STALL_LIMIT_S", 0.5)
    peer = RawPeer()
    async with peer.serving() as url, calling(url) as call:
        await peer.make_ready()
        await call.event()
        peer.reading.clear()
        async with asyncio.timeout(40):
            while len(call.events) < 2:  # fill the kernel's buffers, then ours
                await call.speak(50)
                await asyncio.sleep(0)
        error = await call.error(1)
        for number in range(1000):
            call.agent.truncate(f"item_{number}", 1)

    assert isinstance(error, AgentLost)
    assert "accepted no data" in error.detail
    assert call.uplink.dropped_frames > 0


async def test_a_pause_of_the_network_loses_no_order_and_the_audio_goes_on() -> None:
    peer = RawPeer()
    async with peer.serving() as url, calling(url) as call:
        await peer.make_ready()
        await call.event()
        socket = await clogged(peer, call)
        call.agent.greet()
        await call.speak(5)
        peer.reading.set()
        async with asyncio.timeout(LIMIT_S):
            while not socket.has_room:
                await asyncio.sleep(0.01)
        await call.speak(2)

        def sent() -> list[str]:
            return [json.loads(bytes(frame.data))["type"] for frame in peer.frames if frame.opcode is Opcode.TEXT]

        async with asyncio.timeout(LIMIT_S):
            while "response.create" not in sent() or sent()[-1] != "input_audio_buffer.append":
                await asyncio.sleep(0.01)
        assert len(call.events) == 1


async def test_orders_that_nobody_takes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime_socket, "MAX_ORDERS", 3)
    peer = RawPeer()
    async with peer.serving() as url, calling(url) as call:
        await peer.make_ready()
        await call.event()
        socket = await clogged(peer, call)
        with capture_logs() as logs:
            socket.send(tuple(f'{{"number":{number}}}' for number in range(10)))
        assert [entry["event"] for entry in logs] == ["upstream_takes_no_orders"]
        peer.reading.set()


async def test_a_certificate_that_is_not_trusted_refuses_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(*_: Any, **__: Any) -> None:
        raise ssl.SSLCertVerificationError("self-signed certificate")

    monkeypatch.setattr(realtime_socket, "_Connect", reject)
    async with calling("ws://127.0.0.1:9/") as call:
        error = await call.error()

    assert isinstance(error, AgentRefused)
    assert "self-signed certificate" in error.detail
    assert call.noted("agent_retry") == []


# Closing


async def test_closing_tells_the_service_and_ends_everything() -> None:
    codes: list[int | None] = []

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        try:
            while True:
                await socket.recv()
        except ConnectionClosed:
            codes.append(socket.close_code)

    async with serving(script) as url:
        call = Call(url)
        before = asyncio.all_tasks()
        call.agent.open(call.emit)
        await call.event()
        await asyncio.gather(call.agent.close(), call.agent.close())
        await call.agent.close()
        ours = [task for task in asyncio.all_tasks() - before if "agent" in task.get_name()]
        assert ours == []
        await call.speak(2)
        call.agent.greet()
        call.agent.truncate("item_a", 10)

    assert codes == [1000]
    assert call.events == [AgentReady(CALL, "sess_1")]


async def test_an_agent_that_was_never_opened_can_be_closed_and_then_not_opened() -> None:
    call = Call("ws://127.0.0.1:9/")

    await call.agent.close()
    call.agent.open(call.emit)
    await asyncio.sleep(0.05)

    assert call.events == []


async def test_a_closing_that_is_cancelled_still_closes() -> None:
    peer = RawPeer()
    async with peer.serving() as url:
        call = Call(url)
        call.agent.open(call.emit)
        await peer.make_ready()
        await call.event()
        waiting = asyncio.create_task(call.agent.close())
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        await call.agent.close()
        assert close_code_of(await peer.frame(Opcode.CLOSE)) == 1000


async def test_twenty_sessions_one_after_another_leave_nothing_behind() -> None:
    async with serving(make_ready) as url:
        for _ in range(20):
            before = asyncio.all_tasks()
            async with calling(url) as call:
                await call.event()
            assert not [task for task in asyncio.all_tasks() - before if "agent" in task.get_name()]


async def breaks_off(socket: ServerConnection) -> None:
    await make_ready(socket)
    await say(socket, bytes(MODEL.bytes_of(100)))
    socket.transport.abort()


async def refuses(socket: ServerConnection) -> None:
    await socket.close(4000, "no")


async def says_goodbye(socket: ServerConnection) -> None:
    await make_ready(socket)
    await socket.close()


async def takes_no_update(socket: ServerConnection) -> None:
    await send(socket, "session.created", session={"id": "sess_1"})
    await until_closed(socket)


@pytest.mark.parametrize(
    "script",
    [
        make_ready,
        in_turn(breaks_off, make_ready),
        in_turn(refuses, make_ready),
        says_goodbye,
        takes_no_update,
        lambda socket: make_ready(socket, expires_at=int(time.time()) + 3600),
        lambda socket: make_ready(socket, expires_at=int(time.time()) + 2),
    ],
    ids=["ready", "lost", "tried again", "closed by the service", "not ready", "aging", "rolled over"],
)
async def test_a_closed_agent_is_freed_at_once_without_a_collection(script: Script) -> None:
    gc.disable()
    try:
        async with serving(script) as url:
            call = Call(url)
            call.agent.open(call.emit)
            await call.speak(2)
            await asyncio.sleep(0.3)
            await call.agent.close()
            agent = weakref.ref(call.agent)
            sessions = weakref.ref(call.agent._sessions)
            del call.agent
            await until(lambda: agent() is None and sessions() is None)
    finally:
        gc.enable()


# Against the simulator


def caller_frames() -> list[bytes]:
    """Return a sentence of a caller and a second of silence, in frames of 20 ms at 8 kHz."""
    with wave.open(str(resources.files("gateway.lab.speech") / "caller.wav")) as recording:
        assert recording.getframerate() in (8000, 24000)
        pcm = recording.readframes(recording.getnframes())
        speech = pcm if recording.getframerate() == 8000 else Downsampler().process(pcm)
    pcm = speech + bytes(PHONE.bytes_of(1000))
    whole = len(pcm) - len(pcm) % PHONE.frame_bytes
    return [pcm[start : start + PHONE.frame_bytes] for start in range(0, whole, PHONE.frame_bytes)]


async def test_a_conversation_with_the_simulator_breaks_no_rule_of_the_protocol() -> None:
    options = SimulatorOptions(key=KEY, think_ms=20, speed=50)
    async with Simulator(options) as simulator:
        async with calling(simulator.url) as call:
            assert isinstance(await call.event(), AgentReady)
            call.agent.greet()
            assert isinstance(await call.event(1), AgentSpoke)
            await until(lambda: any(event.type == "response.done" for event in simulator.connections[0].sent))
            frames = caller_frames()
            for frame in frames:
                await on_clock(call.uplink.write_frame, frame)
                await asyncio.sleep(0.002)
            async with asyncio.timeout(LIMIT_S):
                number = 2
                while not isinstance(await call.event(number), AgentSpoke):
                    number += 1
            played = await call.listen()
        [connection] = simulator.connections
        await connection.wait_closed()

    kinds = {type(event) for event in call.events}
    assert {SpeechStarted, SpeechStopped, CallerSpoke} <= kinds
    assert connection.violations == []
    assert (connection.close_code, connection.closed_by) == (1000, "client")
    assert [event.type for event in connection.events][:2] == ["session.update", "response.create"]
    said = Downsampler().process(connection.spoken[0].pcm24k)
    assert played[: len(said)] == said
    assert connection.heard == Upsampler().process(b"".join(frames))


@pytest.mark.parametrize(
    "fault", ["refuse=invalid_api_key", "refuse=invalid_model", "refuse=no_authorization", "http=403"]
)
async def test_a_refusal_of_the_simulator_is_told_as_what_it_is(fault: str) -> None:
    async with Simulator(SimulatorOptions(faults=(fault,))) as simulator, calling(simulator.url) as call:
        assert isinstance(await call.error(), AgentRefused)
        assert call.noted("agent_retry") == []


# Secrets


async def test_the_key_stands_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        leak = {"type": "invalid_request_error", "code": "c", "message": f"Key {KEY} is odd.", "param": KEY}
        await send(socket, "error", error=leak)
        await send(socket, f"x.{KEY}")
        await send(socket, "error", error=leak)
        await socket.close(3000, KEY)

    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        async with serving(script, logger=logging.getLogger("service")) as url, calling(url) as call:
            error = await call.error(1)

    assert logs
    ours = [record.getMessage() for record in caplog.records if record.name != "service"]
    for told in (str(logs), repr(error), str(vars(error)), repr(call.events), *ours):
        assert KEY not in told


@pytest.mark.parametrize(
    "story",
    [
        test_a_ready_agent_hears_the_caller_and_is_heard,
        test_a_close_1000_right_after_the_configuration_is_a_loss,
        test_a_connection_that_breaks_in_mid_call_is_lost,
        test_a_close_is_told_though_the_service_keeps_its_end_of_tcp_open,
        test_an_agent_can_be_closed_while_it_still_connects,
        test_closing_says_close_1000_and_does_not_wait_long_for_a_silent_service,
        test_closing_tells_the_service_and_ends_everything,
        test_twenty_sessions_one_after_another_leave_nothing_behind,
    ],
    ids=lambda story: story.__name__.removeprefix("test_"),
)
def test_it_is_the_same_on_the_workers_event_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())
