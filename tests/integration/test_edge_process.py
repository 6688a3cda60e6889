"""Kamailio as a process: what stops it from starting, its end, its adoption by a program that was executed anew."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from gateway.child_process import ChildProcess
from gateway.edge.edge import Edge
from gateway.edge.process import KamailioProcess
from gateway.edge.workers import EdgeWorker
from gateway.errors import ConfigError
from gateway.free_port import free_port
from tests.rigs.edge import settings, stage
from tests.rigs.sip_peer import SDP, SipPeer
from tests.rigs.tls import self_signed
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


async def refusal(**given: object) -> str:
    with pytest.raises(ConfigError) as caught:
        async with Edge(settings(**given)):  # type: ignore[arg-type] # sections by name
            pass
    return str(caught.value)


async def test_without_kamailio_the_error_names_the_command_that_installs_it() -> None:
    text = await refusal(edge={"kamailio": "no-such-program"})
    assert "no-such-program" in text
    assert "apt-get install kamailio kamailio-tls-modules" in text


async def test_a_kamailio_that_is_too_old_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "kamailio"
    old.write_text("#!/bin/sh\necho 'version: kamailio 5.4.4 (x86_64/linux)'\n", encoding="utf-8")
    old.chmod(0o755)
    text = await refusal(edge={"kamailio": str(old)})
    assert "is version 5.4, but 5.6 or newer is needed" in text


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
async def test_a_port_that_is_taken_is_named(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        text = await refusal(sip={"port": port})
        assert f"127.0.0.1 port {port}: Address already in use; change sip.host and sip.port" in text


async def test_a_setting_that_kamailio_cannot_use_is_named(tmp_path: Path) -> None:
    text = await refusal(sip={"tls": True, "tls_port": 0, "tls_certificate": "no.pem", "tls_key": "no.key"})
    assert "no.pem" in text


async def test_nothing_is_left_when_it_ends() -> None:
    async with stage() as at:
        pid, folder = at.edge.pid, at.edge.place.control.parent
        children = children_of(pid)
        assert len(children) > 3
    assert not folder.exists()
    assert not any(Path(f"/proc/{each}").exists() for each in (pid, *children))


async def test_a_killed_kamailio_leaves_no_process_behind_and_says_so() -> None:
    async with stage() as at:
        children = children_of(at.edge.pid)
        os.kill(at.edge.pid, signal.SIGKILL)
        assert await at.edge.ended == -signal.SIGKILL
        await until(lambda: not any(alive(each) for each in children), what="the end of its processes")
        assert at.edge.pid == 0
        await at.edge.restart()
        await at.talk()


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


PARENT = """
import asyncio, os, sys
from gateway.edge.edge import Edge
from gateway.edge.workers import EdgeWorker
from gateway.settings.sections import Settings

SETTINGS = Settings.model_validate({"sip": {"host": "127.0.0.1", "port": int(sys.argv[1])}})

async def main(adopted):
    async with Edge(SETTINGS, adopted=adopted) as edge:
        if adopted is None and sys.argv[2] != "stay":
            await edge.set_workers([EdgeWorker(sys.argv[2], 4)])
            state = edge.hand_over()
            os.execv(sys.executable, [*sys.orig_argv[:-1], state])
        print("pid", edge.pid, flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main(sys.argv[3] if sys.argv[3] != "none" else None))
"""


async def test_it_ends_with_a_parent_that_is_killed() -> None:
    port = free_port()
    async with ChildProcess(
        sys.executable,
        "-c",
        PARENT,
        str(port),
        "stay",
        "none",
    ) as parent:
        pid = int((await parent.find(r"pid (\d+)", 40))[1])
        children = children_of(pid)
        parent.send_signal(signal.SIGKILL)
        await until(lambda: not any(alive(each) for each in (pid, *children)), what="the end of Kamailio")


async def test_it_goes_on_under_a_parent_that_executes_itself_anew() -> None:
    port = free_port()
    async with (
        SipPeer.udp() as worker,
        SipPeer.udp() as caller,
        ChildProcess(sys.executable, "-c", PARENT, str(port), worker.address, "none") as parent,
    ):
        pid = int((await parent.find(r"pid (\d+)", 40))[1])
        call = caller.invite(("127.0.0.1", port))
        worker.answer(await worker.take("INVITE"), 200, body=SDP)
        await call.answered()
        parent.send_signal(signal.SIGTERM)
        await until(lambda: not alive(pid), what="the end of Kamailio")


async def test_changes_are_in_force_within_milliseconds() -> None:
    async with stage(workers=0) as at:
        many = [EdgeWorker(f"127.0.0.1:{20000 + number}", 4, live_calls=0) for number in range(200)]
        await at.tell(*many)
        begun = time.monotonic()
        await at.tell(*many[:-1])
        assert time.monotonic() - begun < 10  # one order, not a new start


async def test_its_log_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    async with stage(workers=1) as at:
        at.workers[0].probed = 503
        await until(lambda: "answers a probe with 503" in capsys.readouterr().out, what="its line")


async def test_a_process_that_ignores_the_signal_is_killed() -> None:
    process = KamailioProcess.start("/bin/sh", "-c", "trap '' TERM; while true; do sleep 60 & wait; done")
    await asyncio.sleep(0.3)
    await process.stop()
    assert process.ended.result() == -signal.SIGKILL


async def test_the_configuration_for_an_external_kamailio_is_one(tmp_path: Path) -> None:
    own = self_signed(tmp_path)
    (tmp_path / "gateway.toml").write_text(
        '[edge]\ninner_host = "127.0.0.1"\ninner_port = 5070\nhost_ipv6 = "::1"\nrtpengine = "127.0.0.1:2223"\n'
        f'[sip]\nhost = "127.0.0.1"\ntls = true\ntls_certificate = "{own.certificate}"\ntls_key = "{own.key}"\n'
        '[trunks.a]\nhost = "192.0.2.7"\nnetworks = ["2001:db8::/32"]\ntls_name = "pbx.example.com"\n',
        encoding="utf-8",
    )
    for more, name in ((("--worker", "127.0.0.1:5071/4"), "kamailio.cfg"), (("--tls",), "gateway-tls.cfg")):
        words = ("-m", "gateway", "edge", "config", "--config", str(tmp_path / "gateway.toml"), *more)
        async with ChildProcess(sys.executable, *words) as printing:
            assert await printing.wait(40) == 0, printing.output
            (tmp_path / name).write_text(printing.output, encoding="utf-8")
    async with ChildProcess("/usr/sbin/kamailio", "-c", "-f", str(tmp_path / "kamailio.cfg")) as checking:
        assert await checking.wait(40) == 0, checking.output
        assert "config file ok" in checking.output


async def test_a_worker_that_left_while_the_edge_was_down_is_forgotten() -> None:
    async with stage(workers=2) as at:
        near, _ = await at.talk(at.workers[0])
        os.kill(at.edge.pid, signal.SIGKILL)
        await at.edge.ended
        await at.edge.restart()
        await at.tell(EdgeWorker(at.workers[1].address, 4))
        near.request("INFO")
        await at.caller.take("SIP/2.0 481")


async def test_messages_made_up_wrong_fill_no_log(capsys: pytest.CaptureFixture[str]) -> None:
    async with stage(settings({"requests_per_second": 1000})) as at:
        for number in range(500):
            at.caller.send(f"INVITE sip:{number} SIP/2.0\r\nVia: wrong\r\nTo: <\r\n\r\n", at.public)
        await at.talk()
        assert 0 < capsys.readouterr().out.count("[warning") <= 200


async def test_what_killed_gateways_left_behind_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, pid in (("ended", ""), ("killed", str(2**22)), ("running", str(os.getpid()))):
        folder = tmp_path / f"gateway-edge-{name}"
        folder.mkdir()
        if pid:
            (folder / "pid").write_text(pid, encoding="ascii")
        os.utime(folder, (0, 0))
    (tmp_path / "gateway-edge-starting").mkdir()
    async with stage():
        left = {folder.name for folder in tmp_path.glob("gateway-edge-*")}
        assert left >= {"gateway-edge-running", "gateway-edge-starting"}
        assert not left & {"gateway-edge-ended", "gateway-edge-killed"}
