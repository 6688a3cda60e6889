"""The parts of a fleet that talk to the system: pipes, the service manager's socket, the control socket."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError, GatewayError
from gateway.fleet.control import ControlSocket, NoFleet, ask, control_path
from gateway.fleet.notify import Notifier
from gateway.fleet.output import LONGEST_LINE_BYTES, Output
from gateway.fleet.pipe import Pipe
from gateway.settings.fleet import FleetSettings
from gateway.settings.sections import Settings
from gateway.settings.sip import SipSettings
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


async def test_lines_of_any_length_come_out_whole_whoever_else_writes() -> None:
    lines: list[str] = []
    ends = [os.pipe() for _ in range(2)]
    outputs = [Output(reading, lines.append) for reading, _ in ends]
    longs = ["a" * 300_000, "b" * 300_000]

    def write(descriptor: int, text: str) -> None:
        with open(descriptor, "wb", buffering=0) as file:
            for at in range(0, len(text), 1000):
                file.write(text[at : at + 1000].encode())
            file.write(b"\nand half")

    await asyncio.gather(
        *(asyncio.to_thread(write, writing, text) for (_, writing), text in zip(ends, longs, strict=True))
    )
    await until(lambda: len(lines) == 4)
    assert sorted(lines) == sorted([*longs, "and half", "and half"])
    for output in outputs:
        output.close()
        assert [*output.last_lines][-1] == "and half"


async def test_a_line_without_end_is_cut() -> None:
    lines: list[str] = []
    reading, writing = os.pipe()
    output = Output(reading, lines.append)
    data = b"x" * (2 * LONGEST_LINE_BYTES)
    await asyncio.to_thread(lambda: [os.write(writing, data[at : at + 1000]) for at in range(0, len(data), 1000)])
    os.close(writing)
    await until(lambda: output.fileno < 0)
    assert len(lines) > 1
    assert set("".join(lines)) == {"x"}


async def test_messages_that_the_other_side_does_not_take_yet_wait_in_order() -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    taken: list[dict[str, Any]] = []
    ended: list[bool] = []
    sender = Pipe(ours, lambda message: None, lambda: None)
    for number in range(2000):
        sender.send({"number": number, "text": "x" * 500})
    receiver = Pipe(its, taken.append, lambda: ended.append(True))
    await until(lambda: len(taken) == 2000)
    assert [message["number"] for message in taken] == [*range(2000)]
    sender.close()
    await until(lambda: ended)
    receiver.send({"too": "late"})
    receiver.close()


@pytest.mark.parametrize("abstract", [False, True])
async def test_the_service_manager_gets_datagrams_at_either_kind_of_address(tmp_path: Path, abstract: bool) -> None:
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if abstract else name)
        manager.settimeout(20)
        notifier = Notifier({"NOTIFY_SOCKET": f"@{name}" if abstract else name}, 7)
        notifier.ready()
        notifier.status("two workers")
        notifier.status("two workers")
        notifier.stopping()
        assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"STATUS=two workers", b"STOPPING=1"]


def test_the_watchdog_is_fed_by_the_process_it_was_set_for() -> None:
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 7).watchdog_s == 3
    assert Notifier({"WATCHDOG_USEC": "3000000"}, 7).watchdog_s == 3
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, 7).watchdog_s is None
    assert Notifier({}, 7).watchdog_s is None


async def test_commands_are_answered_on_a_socket_for_one_user(tmp_path: Path) -> None:
    path = tmp_path / "fleet.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["command"] == "fail":
            raise GatewayError("not now")
        return {"got": request["command"]}

    async with ControlSocket(path, answer):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await ask(path, "status") == {"got": "status"}
        with pytest.raises(GatewayError, match="not now"):
            await ask(path, "fail")
        with pytest.raises(ConfigError, match="another fleet listens"):
            await ControlSocket(path, answer).__aenter__()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"[1, 2]\n")
        assert b"not a JSON object" in await reader.readline()
        writer.close()
        await writer.wait_closed()
    assert not path.exists()
    with pytest.raises(NoFleet, match="is `gateway serve --calls N` running"):
        await ask(path, "status")


def test_the_control_socket_is_where_the_settings_or_the_session_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = Settings(fleet=FleetSettings(control=tmp_path / "own.sock"))
    assert control_path(named, {}) == tmp_path / "own.sock"
    session = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert control_path(Settings(), session) == tmp_path / "gateway-fleet-5060.sock"
    any_port = Settings(sip=SipSettings(port=0))
    assert control_path(any_port, session, pid=77) == tmp_path / "gateway-fleet-of-77.sock"
    with pytest.raises(ConfigError, match="name its socket with --control"):
        control_path(any_port, session)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    ours = control_path(Settings(), {})
    assert ours.parent == tmp_path / f"gateway-{os.getuid()}"
    assert stat.S_IMODE(ours.parent.stat().st_mode) == 0o700
    ours.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="not a folder of ours alone"):
        control_path(Settings(), {})
