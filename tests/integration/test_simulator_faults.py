from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame

from gateway.lab.simulator import Simulator, SimulatorOptions
from tests.fakes.realtime import RawClient, connected
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

KEY = {"Authorization": "Bearer sk-test"}


def quick(*faults: str) -> SimulatorOptions:
    return SimulatorOptions(speed=1000.0, think_ms=0, faults=faults)


async def _respond(client: RawClient) -> dict[str, object]:
    await client.send("response.create")
    response: dict[str, object] = (await client.next("response.done"))["response"]
    return response


async def test_a_refused_upgrade_says_when_to_come_back_and_the_next_one_passes() -> None:
    async with Simulator(quick("http=429:7,first=1")) as simulator:
        with pytest.raises(InvalidStatus) as caught:
            await connect(simulator.url + "?model=gpt-realtime", additional_headers=KEY).__aenter__()
        assert caught.value.response.status_code == 429
        assert caught.value.response.headers["Retry-After"] == "7"
        async with connected(simulator) as client:
            await client.configure()
        assert [connection.refused for connection in simulator.connections] == ["http 429", None]


async def test_a_proxy_may_hide_the_reason_of_a_refusal() -> None:
    async with Simulator(quick("refuse=invalid_model:1005")) as simulator:
        address = simulator.url + "?model=gpt-realtime"
        async with connect(address, additional_headers=KEY) as socket:
            client = RawClient(socket)
            assert (await client.next("error"))["error"]["code"] == "invalid_model"
            assert await client.closed() == (1005, "")


@pytest.mark.parametrize(
    ("fault", "code", "types"),
    [
        ("close=session.update", 1000, []),
        ("close=session.update:1005", 1005, []),
        ("close=session.updated", 1000, ["session.updated"]),
        ("drop=session.update", 1006, []),
        ("server_error=session.update:1000", 1000, ["error"]),
        ("server_error=session.updated", 1011, ["session.updated", "error"]),
    ],
)
async def test_a_session_ends_right_behind_its_first_update(fault: str, code: int, types: list[str]) -> None:
    async with Simulator(quick(fault)) as simulator, connected(simulator) as client:
        await client.send("session.update", session={"type": "realtime"})
        assert (await client.closed())[0] == code
        assert client.types(since=1) == types
        seen = await simulator.connection(1)
        await seen.wait_closed()
        assert (seen.closed_by, seen.violations) == ("simulator", [])


async def test_a_server_error_may_leave_the_session_open() -> None:
    async with Simulator(quick("server_error=session.update:open")) as simulator, connected(simulator) as client:
        await client.send("session.update", session={"type": "realtime"})
        assert (await client.next("error"))["error"]["type"] == "server_error"
        await client.configure()


async def test_a_short_session_says_when_it_ends() -> None:
    async with Simulator(quick("expire=1")) as simulator, connected(simulator) as client:
        began = time.time()
        assert began <= client.events[0]["session"]["expires_at"] <= began + 2
        assert await client.closed() == (1001, "session_expired")
        assert time.time() - began >= 0.9
        assert client.events[-1]["error"]["code"] == "session_expired"


async def test_events_may_be_missing_late_or_doubled() -> None:
    faults = ("missing=response.output_audio.done", "twice=response.done", "late=response.created:0.2")
    async with Simulator(quick(*faults)) as simulator, connected(simulator) as client:
        await client.configure()
        await client.send("response.create")
        await client.next("response.created")
        types = client.types()
        assert types.count("response.done") == 2
        assert "response.output_audio.done" not in types
        assert types.index("response.created") > types.index("response.done")
        first, second = (event for event in client.events if event["type"] == "response.done")
        assert first["event_id"] == second["event_id"]


async def test_what_is_held_holds_back_what_comes_behind() -> None:
    async with Simulator(quick("hold=response.created:0.2")) as simulator, connected(simulator) as client:
        await client.configure()
        began = time.monotonic()
        await client.send("response.create")
        assert (await client.next())["type"] == "response.created"
        assert time.monotonic() - began >= 0.19


async def test_unknown_events_and_fields_come_between_the_others() -> None:
    async with Simulator(quick("unknown_events", "unknown_fields")) as simulator:
        address = simulator.url + "?model=gpt-realtime"
        async with connect(address, additional_headers=KEY) as socket:
            client = RawClient(socket, strict=False)
            updated = await client.configure()
            assert "x_unheard_of" in updated["session"]["audio"]["input"]
            assert client.types() == ["session.created", "simulator.unheard_of", "session.updated"]
            assert (await _respond(client))["status"] == "completed"


async def test_latency_and_jitter_delay_every_event_and_keep_their_order() -> None:
    async with Simulator(quick("latency=300", "jitter=50")) as simulator, connected(simulator) as client:
        began = time.monotonic()
        await client.configure()
        assert time.monotonic() - began >= 0.29
        mark, began = len(client.events), time.monotonic()
        await _respond(client)
        in_turn_s = 0.3 * len(client.events[mark:])
        assert time.monotonic() - began < 0.7 * in_turn_s, "events travel at the same time, not one after the other"
        ids = [event["event_id"] for event in client.events]
        assert ids == sorted(ids)


async def test_a_good_event_may_be_refused_and_is_no_violation() -> None:
    fault = "reject=session.update:invalid_value:session.audio.output.voice"
    async with Simulator(quick(fault)) as simulator, connected(simulator) as client:
        error = await client.refused("session.update", session={"type": "realtime"})
        assert (error["code"], error["param"]) == ("invalid_value", "session.audio.output.voice")
        assert (await simulator.connection(1)).violations == []


async def test_a_field_of_an_update_may_be_ignored() -> None:
    async with Simulator(quick("ignore=audio.output.voice")) as simulator, connected(simulator) as client:
        session = (await client.configure(audio={"output": {"voice": "cedar", "speed": 1.25}}))["session"]
        assert session["audio"]["output"]["voice"] == "alloy"
        assert session["audio"]["output"]["speed"] == 1.25


@pytest.mark.parametrize("when", ["", ":after"])
async def test_a_cancelled_answer_may_have_deltas_on_their_way(when: str) -> None:
    options = SimulatorOptions(speed=1.0, think_ms=0, faults=(f"late_deltas=3{when}",))
    async with Simulator(options) as simulator, connected(simulator) as client:
        await client.configure()
        await client.send("response.create")
        item_id = (await client.next("response.output_audio.delta"))["item_id"]
        await client.send("response.cancel")
        await client.next("response.done")
        mark = len(client.events)
        await client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=1000)
        await client.next("conversation.item.truncated")
        behind = client.types(since=mark)[:-1]
        assert behind == (["response.output_audio.delta"] * 3 if when else [])
        assert client.types().count("response.output_audio.delta") == 4


async def test_answers_may_fail_for_a_while() -> None:
    faults = ("fail=rate_limit_exceeded:1", "two_items")
    async with Simulator(quick(*faults)) as simulator, connected(simulator) as client:
        await client.configure()
        failed = await _respond(client)
        assert failed["status"] == "failed"
        assert "try again in 1.5s" in str(failed["status_details"])
        doubled = await _respond(client)
        assert isinstance(doubled["output"], list)
        assert len(doubled["output"]) == 2


@pytest.mark.parametrize(("fault", "at_once"), [("pace=1", 1), ("burst=1", 4)])
async def test_audio_comes_slowly_or_in_bursts(fault: str, at_once: int) -> None:
    options = SimulatorOptions(speed=1.0, think_ms=0, faults=(fault,))
    async with Simulator(options) as simulator, connected(simulator) as client:
        await client.configure()
        await client.send("response.create")
        await client.next("response.output_audio.delta")
        await asyncio.sleep(0.1)
        sent = [event.type for event in (await simulator.connection(1)).sent]
        assert sent.count("response.output_audio.delta") == at_once


async def test_pings_come_as_often_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator(quick("ping=0.02")) as simulator, connected(simulator) as client:
        pings: list[bytes] = []
        parser = client.socket.protocol.recv_frame

        def count_pings(frame: Frame) -> None:
            pings.append(bytes(frame.data))
            parser(frame)

        monkeypatch.setattr(client.socket.protocol, "recv_frame", count_pings)
        async with asyncio.timeout(40):
            while len(pings) < 3:
                await asyncio.sleep(0.01)
        await client.configure()


async def test_a_close_may_draw_nothing() -> None:
    async with Simulator(quick("close_reply=never")) as simulator:
        async with connected(simulator) as client:
            began = time.monotonic()
            await client.socket.close()
            assert time.monotonic() - began >= 0.9, "the client's own limit of 1 s ends it"
        seen = await simulator.connection(1)
        await seen.wait_closed()
        assert (seen.closed_by, seen.close_code, seen.violations) == ("client", 1000, [])


async def test_a_close_may_draw_a_reset() -> None:
    async with Simulator(quick("close_reply=drop")) as simulator:
        async with connected(simulator) as client:
            await client.socket.close()
            assert client.socket.close_code == 1006, "its own limit would end it with 1000"
        seen = await simulator.connection(1)
        await seen.wait_closed()
        assert (seen.closed_by, seen.violations) == ("client", [])


async def test_a_frozen_session_answers_nothing_and_does_not_keep_the_simulator() -> None:
    async with Simulator(quick("freeze=session.update")) as simulator:
        client_side = connected(simulator)
        client = await client_side.__aenter__()
        await client.send("session.update", session={"type": "realtime"})
        await until(lambda: simulator.connections[0].closed_by is not None)
        pong = await client.socket.ping()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await pong
    with pytest.raises(ConnectionClosed):
        await client.socket.recv()
    await client_side.__aexit__(None, None, None)
    seen = simulator.connections[0]
    assert (seen.open, seen.closed_by, seen.violations) == (False, "simulator", [])


async def test_a_half_open_session_reads_no_more_and_ends_with_the_clients_tcp() -> None:
    async with Simulator(quick("freeze=0")) as simulator:
        async with connected(simulator) as client:
            seen = await simulator.connection(1)
            await until(lambda: seen.closed_by is not None)
            writing = asyncio.create_task(client.append(bytes(24_000_000)))
            _, waiting = await asyncio.wait((writing,), timeout=0.3)
            assert waiting, "nobody takes it"
            tcp = client.socket.transport.get_extra_info("socket")
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset passes what waits
            client.socket.transport.abort()
            await asyncio.gather(writing, return_exceptions=True)
        await seen.wait_closed()
        assert (seen.closed_by, seen.violations) == ("simulator", [])


async def test_acknowledgements_may_come_late() -> None:
    async with Simulator(quick("slow_acks=0.3")) as simulator, connected(simulator) as client:
        await client.configure()
        text = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
        await client.send("conversation.item.create", item=text)
        await client.send("response.create")
        while (await client.next("conversation.item.done"))["item"]["role"] != "user":
            pass
        added = [event["item"]["role"] for event in client.events if event["type"] == "conversation.item.added"]
        assert added == ["assistant", "user"]


async def test_a_turn_may_never_be_over() -> None:
    async with Simulator(quick("open_turns=1")) as simulator, connected(simulator) as client:
        await client.configure_phone()
        for _ in range(2):
            await client.speak_first_sentence()
        await client.next("response.done")
        kinds = ("speech_started", "speech_stopped", "committed")
        turns = [event["type"].split(".")[1] for event in client.events if event["type"].endswith(kinds)]
        assert turns == ["speech_started", *kinds]


@pytest.mark.parametrize(
    ("fault", "value"),
    [
        ("odd=response.done:response.status_details:text", "a text where none belongs"),
        ("odd=response.done:response.status_details:surrogate", "\ud800"),
        ("odd=response.done:response.status_details:missing", None),
    ],
)
async def test_a_field_may_be_odd(fault: str, value: str | None) -> None:
    async with Simulator(quick(f"{fault},events=1")) as simulator, connected(simulator) as client:
        client.strict = False
        await client.configure()
        response = await _respond(client)
        assert response.get("status_details") == value
        assert ("status_details" in response) is (value is not None)
        assert (await _respond(client))["status_details"] is None


@pytest.mark.parametrize("kind", ["text", "empty", "object", "list", "null", "untyped", "cut", "surrogate", "binary"])
async def test_a_message_may_be_no_event(kind: str) -> None:
    async with Simulator(quick(f"stray=session.updated:{kind}")) as simulator, connected(simulator) as client:
        await client.configure()
        stray = await client.socket.recv()
        assert isinstance(stray, bytes) is (kind == "binary")
        with contextlib.suppress(ValueError):
            event = json.loads(stray)
            assert not isinstance(event, dict) or event.get("type") in (None, "simulator.unheard_of")
        assert (await _respond(client))["status"] == "completed"


async def test_a_slow_handshake_and_a_tcp_connection_without_one_end_with_the_simulator() -> None:
    async with Simulator(quick("handshake=0.2")) as simulator:
        _, silent = await asyncio.open_connection("127.0.0.1", simulator.port)
        began = time.monotonic()
        async with connected(simulator):
            assert time.monotonic() - began >= 0.19
    silent.close()


async def test_clients_that_give_up_before_there_is_a_websocket_are_noted() -> None:
    async with Simulator(quick("handshake=5")) as simulator:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connect(simulator.url + "?model=gpt-realtime", additional_headers=KEY).__aenter__()
        seen = await simulator.connection(1)
        await seen.wait_closed()
        assert (seen.refused, seen.closed_by, seen.violations) == ("no upgrade", "client", [])


async def test_a_safety_identifier_is_missed_where_it_is_required() -> None:
    async with Simulator(SimulatorOptions(require_safety_identifier=True)) as simulator:
        async with connected(simulator), connected(simulator, **{"OpenAI-Safety-Identifier": "hash"}):
            pass
        assert [each.violations for each in simulator.connections] == [["no OpenAI-Safety-Identifier"], []]
