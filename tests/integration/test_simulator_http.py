from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect

from gateway.errors import ConfigError
from gateway.lab.simulator import Simulator, SimulatorOptions
from tests.fakes.realtime import RawClient, connected
from tests.rigs.tls import self_signed

pytestmark = pytest.mark.integration

KEY = {"Authorization": "Bearer sk-right"}
SESSION = {"type": "realtime", "model": "gpt-realtime-2.1", "instructions": "Be brief."}


async def _asked(
    simulator: Simulator, method: str, path: str, *, headers: dict[str, str] | None = None, **body: Any
) -> tuple[int, dict[str, Any]]:
    url = f"http://127.0.0.1:{simulator.port}{path}"
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, url, headers=headers, json=body if method in ("POST", "PUT") else None) as reply,
    ):
        return reply.status, await reply.json()


async def test_a_client_secret_opens_connections_until_it_expires() -> None:
    async with Simulator(SimulatorOptions(key="sk-right")) as simulator:
        headers = KEY | {"OpenAI-Safety-Identifier": "hash"}
        lifetime = {"anchor": "created_at", "seconds": 10}
        path = "/v1/realtime/client_secrets"
        status, body = await _asked(simulator, "POST", path, headers=headers, session=SESSION, expires_after=lifetime)
        assert status == 200
        assert simulator.secrets_url.endswith(path)
        assert 8 <= body["expires_at"] - time.time() <= 10
        for _ in range(2):
            async with connect(
                simulator.url, additional_headers={"Authorization": f"Bearer {body['value']}"}
            ) as socket:
                session = (await RawClient(socket).next("session.created"))["session"]
                assert session["model"] == "gpt-realtime-2.1"
                assert session["instructions"] == "Be brief."
                assert session["expires_at"] > time.time() + 3000
        assert [each.with_secret for each in simulator.connections] == [True, True]
        assert simulator.connections[0].safety_identifier == "hash"
        simulator.secrets.minted[0] = type(simulator.secrets.minted[0])(body["value"], 0, session, None)
        async with connect(simulator.url, additional_headers={"Authorization": f"Bearer {body['value']}"}) as socket:
            client = RawClient(socket)
            assert (await client.next())["error"]["code"] == "invalid_api_key"
            assert (await client.closed())[0] == 3000


@pytest.mark.parametrize(
    ("headers", "body", "status", "code", "param"),
    [
        (KEY, {"expires_after": {"seconds": 9}}, 400, "integer_below_min_value", "expires_after.seconds"),
        (KEY, {"session": {"type": "realtime", "voice": "x"}}, 400, "unknown_parameter", "session.voice"),
        ({"Authorization": "Bearer sk-wrong"}, {}, 401, "invalid_api_key", None),
        ({"Authorization": "Bearer ek_x"}, {}, 401, "invalid_api_key", None),
        ({}, {}, 401, None, None),
    ],
)
async def test_a_request_for_a_secret_may_be_refused(
    headers: dict[str, str], body: dict[str, Any], status: int, code: str | None, param: str | None
) -> None:
    async with Simulator(SimulatorOptions(key="sk-right")) as simulator:
        got, reply = await _asked(simulator, "POST", "/v1/realtime/client_secrets", headers=headers, **body)
        assert (got, reply["error"]["code"], reply["error"]["param"]) == (status, code, param)
        assert simulator.secrets.minted == []


async def test_minting_may_fail_for_a_while() -> None:
    async with Simulator(SimulatorOptions(faults=("mint=503:2,first=1",))) as simulator:
        path = "/v1/realtime/client_secrets"
        assert (await _asked(simulator, "POST", path, headers=KEY))[0] == 503
        assert (await _asked(simulator, "POST", path, headers=KEY))[0] == 200


async def test_faults_are_commanded_and_connections_looked_at_while_they_run() -> None:
    async with Simulator(SimulatorOptions(speed=1000, think_ms=0)) as simulator:
        async with connected(simulator) as client:
            await client.configure()
            await client.refused("response.cancel")
            _, listed = await _asked(simulator, "GET", "/control/connections")
            (summary,) = listed["connections"]
            assert (summary["number"], summary["open"]) == (1, True)
            assert summary["events"] == {"session.update": 1, "response.cancel": 1}
            assert summary["violations"][0].startswith("response.cancel")
            assert (summary["heard_ms"], summary["listens"]) == (0, True)
            _, shown = await _asked(simulator, "GET", "/control/connections/1")
            assert [name for name, _ in shown["sent"]] == ["session.created", "session.updated", "error"]
            assert shown["session"]["id"] == shown["session_id"]
            assert shown["told"] == []
            await client.append(bytes(48 * 100))
            await client.configure(audio={"input": {"turn_detection": None}})
            text = {"type": "input_text", "text": "The caller is back."}
            item = {"type": "message", "role": "system", "content": [text]}
            await client.send("conversation.item.create", item=item)
            await client.next("conversation.item.done")
            _, shown = await _asked(simulator, "GET", "/control/connections/1")
            assert (shown["told"], shown["heard_ms"], shown["listens"]) == (["The caller is back."], 100, False)
            status, _ = await _asked(simulator, "POST", "/control/connections/1/fault", fault="fail=insufficient_quota")
            assert status == 200
            await client.send("response.create")
            assert (await client.next("response.done"))["response"]["status"] == "failed"
            await _asked(simulator, "POST", "/control/connections/1/fault", fault="close=0:1012")
            assert (await client.closed())[0] == 1012
        await (await simulator.connection(1)).wait_closed()
        status, error = await _asked(simulator, "POST", "/control/connections/1/fault", fault="drop=0")
        assert (status, error["error"]["code"]) == (409, "ended")
        await _asked(simulator, "PUT", "/control/faults", faults=["close=session.update:1011"])
        async with connected(simulator) as client:
            await client.send("session.update", session={"type": "realtime"})
            assert (await client.closed())[0] == 1011
        assert (await _asked(simulator, "GET", "/control/faults"))[1] == {"faults": ["close=session.update:1011"]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/control/connections/9/fault", {"fault": "drop=0"}, 404),
        ("POST", "/control/connections/1/fault", {"fault": "explode"}, 400),
        ("POST", "/control/connections/1/fault", {}, 400),
        ("PUT", "/control/faults", {"faults": ["explode"]}, 400),
        ("PUT", "/control/faults", {"faults": "drop=0"}, 400),
        ("GET", "/control/connections/9", {}, 404),
        ("POST", "/v1/elsewhere", {}, 404),
    ],
)
async def test_a_wrong_command_is_told(method: str, path: str, body: dict[str, Any], status: int) -> None:
    async with Simulator() as simulator, connected(simulator):
        got, reply = await _asked(simulator, method, path, **body)
        assert got == status
        assert reply["error"]["message"]
        assert simulator.faults == []


async def test_a_page_of_another_origin_commands_nothing() -> None:
    async with Simulator() as simulator, aiohttp.ClientSession() as client:
        body = b'{"faults": ["drop=0"]}'
        async with client.put(
            f"{simulator.control_url}/faults", data=body, headers={"Content-Type": "text/plain"}
        ) as reply:
            assert reply.status == 415
        assert simulator.faults == []


async def test_with_a_certificate_everything_is_tls(tmp_path: Path) -> None:
    own = self_signed(tmp_path)
    trust = ssl.create_default_context(cafile=own.certificate)
    async with Simulator(
        SimulatorOptions(tls_cert=own.certificate, tls_key=own.key, speed=1000, think_ms=0)
    ) as simulator:
        assert simulator.url.startswith("wss://")
        async with connect(simulator.url + "?model=gpt-realtime", additional_headers=KEY, ssl=trust) as socket:
            client = RawClient(socket)
            await client.configure()
            await client.send("response.create")
            await client.next("response.done")
        async with (
            aiohttp.ClientSession() as http,
            http.post(simulator.secrets_url, headers=KEY, json={}, ssl=trust) as reply,
        ):
            assert (await reply.json())["value"].startswith("ek_")


async def test_a_certificate_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    options = SimulatorOptions(tls_cert=tmp_path / "none.pem", tls_key=tmp_path / "none.key")
    with pytest.raises(ConfigError, match="cannot be used"):
        await Simulator(options).__aenter__()
