"""The health check against what it may meet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.fleet.control import ControlSocket
from gateway.free_port import free_port
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.probe import main
from tests.rigs.kamailio import Kamailio

pytestmark = pytest.mark.integration


async def probe(*words: str) -> int:
    return await asyncio.to_thread(main, [*words])


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """Run what answers each datagram in one way; give its port."""

    class Answering(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            if text := answer(data):
                self.transport.sendto(text, addr)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Answering, local_addr=("127.0.0.1", 0))
    try:
        yield int(transport.get_extra_info("sockname")[1])
    finally:
        transport.close()


async def test_a_sip_server_that_answers_is_alive_and_ready_over_udp_and_tcp(tmp_path: Path) -> None:
    async with Kamailio(free_port(), tmp_path) as proxy:
        assert await probe(f"sip:127.0.0.1:{proxy.port}", "--ready") == 0
        assert await probe(f"sip:127.0.0.1:{proxy.port};transport=tcp", "--ready") == 0


async def test_one_that_answers_503_is_alive_but_not_ready(capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(lambda request: b"SIP/2.0 503 Service Unavailable\r\n\r\n") as port:
        assert await probe(f"sip:127.0.0.1:{port}") == 0
        assert await probe(f"sip:127.0.0.1:{port}", "--ready") == 1
    assert capsys.readouterr().err.count(": 503\n") == 2


async def test_a_lost_request_is_sent_again() -> None:
    seen: list[bytes] = []

    def late(request: bytes) -> bytes:
        seen.append(request)
        return b"SIP/2.0 200 OK\r\n\r\n" if len(seen) == 2 else b""

    async with answering(late) as port:
        assert await probe(f"sip:127.0.0.1:{port}") == 0
    assert seen[0] == seen[1], "a retransmission is the same request"


@pytest.mark.parametrize("answer", [b"hello", b"SIP/2.0 ", b"\xff\xfe\x00", b"SIP/2.0 OK 200"])
async def test_what_does_not_speak_sip_is_not_alive(answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(lambda request: answer) as port:
        assert await probe(f"sip:127.0.0.1:{port}") == 1
    assert "does not speak SIP" in capsys.readouterr().err


@pytest.mark.parametrize("end", ["", ";transport=tcp"])
async def test_where_nothing_listens_nothing_is_alive(end: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await probe(f"sip:127.0.0.1:{free_port()}{end}") == 1
    assert "no answer: " in capsys.readouterr().err


async def test_one_that_closes_the_connection_is_not_alive() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = asyncio.create_task(probe(f"sip:127.0.0.1:{server.getsockname()[1]};transport=tcp"))
        connection, _ = await asyncio.to_thread(server.accept)
        connection.close()
        assert await asked == 1


async def test_a_page_that_is_there_is_alive_and_one_that_is_not_is_not_ready() -> None:
    async with Simulator(SimulatorOptions()) as simulator:
        place = f"http://127.0.0.1:{simulator.port}"
        assert await probe(f"{place}/control/faults", "--ready") == 0
        assert await probe(f"{place}/control/nothing") == 0
        assert await probe(f"{place}/control/nothing", "--ready") == 1
    assert await probe(f"{place}/control/faults") == 1


@pytest.mark.parametrize(
    ("answer", "alive", "ready"),
    [
        ({"ready": True, "workers": []}, 0, 0),
        ({"ready": False}, 0, 1),
        ({"error": "the fleet is stopping"}, 1, 1),
    ],
)
async def test_a_fleet_is_asked_over_its_control_socket(
    tmp_path: Path, answer: dict[str, Any], alive: int, ready: int
) -> None:
    async def answered(request: dict[str, Any]) -> dict[str, Any]:
        assert request == {"command": "status"}
        return answer

    async with ControlSocket(tmp_path / "fleet.sock", answered):
        assert await probe(f"fleet:{tmp_path}/fleet.sock") == alive
        assert await probe(f"fleet:{tmp_path}/fleet.sock", "--ready") == ready
    assert await probe(f"fleet:{tmp_path}/fleet.sock") == 1


@pytest.mark.parametrize("target", ["ftp://127.0.0.1", "sip:", "http:///healthz", "sip:127.0.0.1:http"])
async def test_a_target_that_cannot_be_asked_is_a_wrong_command_line(target: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([target])
