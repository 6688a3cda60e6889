"""IPv6 callers and IPv4 workers: signalling by a real Kamailio, sound by a real rtpengine where there is one."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.child_process import ChildProcess
from gateway.free_port import free_port
from tests.rigs.edge import settings, stage
from tests.rigs.sip_peer import SDP, Dialog, SipPeer
from tests.rigs.waiting import until

RTPENGINE = "/usr/bin/rtpengine"
SDP6 = SDP.replace("IN IP4 192.0.2.1", "IN IP6 ::1")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 on its loopback"),
]


async def test_an_ipv6_caller_without_rtpengine_gets_488_with_the_reason() -> None:
    async with stage(settings(edge={"host_ipv6": "::1"})) as at, SipPeer.udp("::1") as caller:
        call = caller.invite(("::1", at.public[1]), body=SDP6)
        assert "IPv6 Media Not Available Here" in (await call.answered(488)).first_line
        call = caller.invite(("::1", at.public[1]), body="")
        await call.answered(488)
        assert not at.workers[0].seen("INVITE")


async def test_an_ipv6_caller_that_offers_ipv4_media_is_bridged_both_ways() -> None:
    async with stage(settings(edge={"host_ipv6": "::1"})) as at, SipPeer.udp("::1") as caller:
        (worker,) = at.workers
        call = caller.invite(("::1", at.public[1]))
        invite = await worker.take("INVITE")
        assert invite.all("X-Gateway-Source") == [f"udp;{caller.address}"]
        far = worker.answer(invite, 200, body=SDP)
        near = call.dialog(await call.answered())
        assert f"@[::1]:{at.public[1]};w=" in near.target
        near.request("ACK", cseq=1)
        await worker.take("ACK")
        for side, other in ((near, worker), (far, caller)):
            side.request("INFO")
            request = await other.take("INFO")
            other.answer(request, 200)
            await side.peer.take("SIP/2.0 200", method="INFO")
        for packet in caller.packets:
            assert worker.address not in packet.text, packet.text
            assert at.edge.inner not in packet.text, packet.text


async def test_trunks_and_strangers_are_told_apart_by_ipv6_networks() -> None:
    given = settings({"allow_from": ["::1"]}, edge={"host_ipv6": "::1"})
    async with stage(given) as at, SipPeer.udp("::1") as caller:
        call = caller.invite(("::1", at.public[1]))
        at.workers[0].answer(await at.workers[0].take("INVITE"), 200, body=SDP)
        await call.answered()
        at.caller.invite(at.public)
        await at.caller.take("SIP/2.0 403")


@asynccontextmanager
async def rtpengine(folder: Path) -> AsyncIterator[int]:
    """Run rtpengine on both loopbacks; give the port of its control socket."""
    if shutil.which(RTPENGINE) is None:
        pytest.skip("no rtpengine here; install it: make test-ipv6 (apt-get install rtpengine-daemon)")
    port = free_port()
    async with ChildProcess(
        *(RTPENGINE, "--foreground", "--log-stderr", "--table=-1", "--interface=127.0.0.1", "--interface=::1"),
        *(f"--listen-ng=127.0.0.1:{port}", "--port-min=31000", "--port-max=31999", "--config-file=none"),
        folder=folder,
        stop_signal=signal.SIGTERM,
    ) as process:
        await until(lambda: "Startup complete" in process.output or process.exit_code is not None, what="rtpengine")
        assert process.exit_code is None, process.output
        yield port


def media(body: str) -> tuple[str, int]:
    host, port = re.search(r"^c=IN IP[46] (\S+)", body, re.MULTILINE), re.search(r"^m=audio (\d+)", body, re.MULTILINE)
    assert host is not None, body
    assert port is not None, body
    return host[1], int(port[1])


def sound(number: int) -> bytes:
    return bytes([0x80, 0, 0, number, 0, 0, 0, number * 160 % 256, 1, 2, 3, 4]) + b"\xd5" * 160


async def heard(sender: socket.socket, to: tuple[str, int], receiver: socket.socket) -> None:
    """Send RTP until it arrives on the other side."""
    receiver.setblocking(False)
    loop = asyncio.get_running_loop()
    for number in range(1, 200):
        sender.sendto(sound(number), to)
        try:
            async with asyncio.timeout(0.2):
                assert await loop.sock_recv(receiver, 2000)
                return
        except TimeoutError:
            continue
    raise AssertionError("no RTP arrived")


async def test_rtpengine_relays_the_media_of_an_ipv6_caller_in_the_call_and_after_reinvites(tmp_path: Path) -> None:
    async with rtpengine(tmp_path) as control:
        given = settings(edge={"host_ipv6": "::1", "rtpengine": f"127.0.0.1:{control}"})
        with (
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sound6,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sound4,
        ):
            sound6.bind(("::1", 0))
            sound4.bind(("127.0.0.1", 0))
            offer = SDP6.replace("6000", str(sound6.getsockname()[1]))
            answer = SDP.replace("192.0.2.1", "127.0.0.1").replace("6000", str(sound4.getsockname()[1]))
            async with stage(given) as at, SipPeer.udp("::1") as caller:
                (worker,) = at.workers
                call = caller.invite(("::1", at.public[1]), body=offer)
                invite = await worker.take("INVITE")
                assert media(invite.body)[0] == "127.0.0.1"
                far = worker.answer(invite, 200, body=answer)
                ok = await call.answered()
                assert media(ok.body)[0] == "::1"
                near = call.dialog(ok)
                assert ";m=6" in near.target
                near.request("ACK", cseq=1)
                await worker.take("ACK")
                await heard(sound6, media(ok.body), sound4)
                await heard(sound4, media(invite.body), sound6)
                await renewed(near, worker, offer, answer, ("127.0.0.1", "::1"))
                await renewed(far, caller, answer, offer, ("::1", "127.0.0.1"))
                near.request("BYE")
                worker.answer(await worker.take("BYE"), 200)
                await caller.take("SIP/2.0 200", method="BYE")


async def renewed(side: Dialog, other: SipPeer, offer: str, answer: str, seen: tuple[str, str]) -> None:
    """Send a re-INVITE; each side sees media addresses of its own family."""
    side.request("INVITE", body=offer)
    again = await other.take("INVITE")
    assert media(again.body)[0] == seen[0]
    other.answer(again, 200, body=answer)
    assert media((await side.peer.take("SIP/2.0 200", method="INVITE")).body)[0] == seen[1]
    side.request("ACK", cseq=side.cseq)
    await other.take("ACK")
