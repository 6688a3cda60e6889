"""How SIP gets in and out: TLS versions and certificates, STUN, packet times."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import CallEvent, IncomingInvite, MediaUp
from gateway.errors import SipError
from gateway.ids import new_call_id
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.settings.sections import SipSettings, TrunkSettings
from gateway.sip.calls.accounts import TrunkChanged
from gateway.sip.leg import PjLeg
from gateway.sip.library.endpoint import SipInfo
from gateway.sip.thread import SipThread
from tests.e2e.sipp import ANSWERED, EXPECT_BYE, Sipp, invite, until
from tests.e2e.sipp_server import SippServer, answered

pytestmark = pytest.mark.integration


@dataclass
class Agent:
    """A SIP thread that answers every call."""

    sip: SipThread
    info: SipInfo | None = None
    events: list[CallEvent] = field(default_factory=list)
    changes: list[TrunkChanged] = field(default_factory=list)
    legs: list[PjLeg] = field(default_factory=list)

    def take(self, event: CallEvent) -> None:
        self.events.append(event)
        if isinstance(event, IncomingInvite):
            self.legs.append(self.sip.leg(event.call_id, UplinkTap(capacity_frames=50), PlayoutBuffer(PHONE)))
            self.legs[-1].answer()

    def up(self) -> bool:
        return any(isinstance(event, MediaUp) for event in self.events)

    def states(self) -> list[str]:
        return [change.state for change in self.changes]


@asynccontextmanager
async def agent(trunk: dict[str, object] | None = None, **settings: object) -> AsyncIterator[Agent]:
    made: list[Agent] = []
    sip = SipThread(
        SipSettings.model_validate(
            {"host": "127.0.0.1", "port": 0, "rtp_port_min": 26000, "rtp_port_max": 27999, **settings}
        ),
        lambda event: made[0].take(event),
        trunks={"main": TrunkSettings.model_validate(trunk)} if trunk else {},
        secrets={"line": SecretStr("password")},
        on_trunk=lambda change: made[0].changes.append(change),
    )
    made.append(Agent(sip))
    try:
        made[0].info = await sip.start()
        yield made[0]
    finally:
        await sip.stop()


@dataclass
class Authority:
    """A certificate that signs itself."""

    certificate: Path
    key: Path


def certified(folder: Path, name: str, subject: str = "IP:127.0.0.1") -> Authority:
    made = Authority(folder / f"{name}.pem", folder / f"{name}.key")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *(
                "-subj",
                f"/CN={subject.partition(':')[2]}",
                "-addext",
                f"subjectAltName={subject}",
                "-keyout",
                str(made.key),
                "-out",
                str(made.certificate),
            ),
        ],
        check=True,
        capture_output=True,
    )
    return made


def handshake(port: int, version: ssl.TLSVersion) -> str | None:
    """Return the version agreed on, or None when the server refuses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain) as wrapped:
                return wrapped.version()
        except (ssl.SSLError, OSError):
            return None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
async def test_tls_is_1_2_and_nothing_older(tmp_path: Path) -> None:
    own = certified(tmp_path, "own")
    files = {"tls_certificate": own.certificate, "tls_key": own.key}
    async with agent({"host": "127.0.0.1"}, tls=True, tls_port=0, **files) as here:
        assert here.info is not None
        assert "TLS" in here.info.transports
        for version, agreed in (
            (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
            (ssl.TLSVersion.TLSv1_1, None),
            (ssl.TLSVersion.TLSv1, None),
        ):
            assert await asyncio.to_thread(handshake, here.info.tls_port, version) == agreed


async def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    no = tmp_path / "no.pem"
    with pytest.raises(SipError, match=r"^sip\.tls_certificate and sip\.tls_key: .*no\.pem are no PEM files"):
        async with agent(tls=True, tls_port=0, tls_certificate=no, tls_key=no):
            pass
    with pytest.raises(SipError, match=r"^sip\.tls_authorities: .*no\.pem is no PEM file"):
        async with agent(tls_authorities=no):
            pass


class TlsRegistrar:
    """Grants every REGISTER that comes over TLS."""

    def __init__(self, authority: Authority) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority.certificate, authority.key)
        self.requests: list[str] = []
        self.port = 0

    async def __aenter__(self) -> TlsRegistrar:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(request)
                copied = [
                    line for line in request.split("\r\n") if re.match(r"(Via|From|To|Call-ID|CSeq|Contact):", line)
                ]
                writer.write("\r\n".join(["SIP/2.0 200 OK", *copied, "Content-Length: 0", "", ""]).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            writer.close()


async def test_a_trunk_over_tls_is_verified_by_the_authorities(tmp_path: Path) -> None:
    carrier, other = certified(tmp_path, "carrier"), certified(tmp_path, "other")
    for authorities, state in ((carrier, "registered"), (other, "failed")):
        async with TlsRegistrar(carrier) as registrar:
            trunk = {
                "host": f"127.0.0.1:{registrar.port}",
                "transport": "tls",
                "register": True,
                "username": "line1",
                "password_from": "line",
            }
            async with agent(trunk, tls_authorities=authorities.certificate) as here:
                await until(lambda here=here, state=state: state in here.states())
                assert here.info is not None
                assert "TLS" not in here.info.transports
            assert bool(registrar.requests) is (state == "registered")


class StunServer(asyncio.DatagramProtocol):
    """Tells everyone that they are seen at 203.0.113.7 (RFC 5389 section 15.2)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        cookie, transaction = data[4:8], data[8:20]
        port = address[1] ^ 0x2112
        mapped = bytes(a ^ b for a, b in zip((203, 0, 113, 7), cookie, strict=True))
        attribute = struct.pack("!HHBBH", 0x0020, 8, 0, 1, port) + mapped
        self._transport.sendto(struct.pack("!HH", 0x0101, len(attribute)) + cookie + transaction + attribute, address)


async def test_a_stun_server_tells_the_address_for_contact_and_sdp(tmp_path: Path) -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(StunServer, ("127.0.0.1", 0))
    stun = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    try:
        async with SippServer((answered(),), tmp_path) as callee, agent(stun_server=stun) as here:
            leg = here.sip.new_call(
                new_call_id(time.time_ns()),
                f"sip:x@127.0.0.1:{callee.port}",
                UplinkTap(capacity_frames=50),
                PlayoutBuffer(PHONE),
            )
            leg.dial()
            await until(lambda: callee.received("INVITE"))
            asked = callee.received("INVITE")[0].text
            assert re.search(r"^Contact: .*@203\.0\.113\.7:", asked, re.MULTILINE)
            assert re.search(r"^c=IN IP4 203\.0\.113\.7", asked, re.MULTILINE)
            leg.hang_up(200, "done")
    finally:
        transport.close()


async def test_a_stun_server_that_is_away_keeps_nobody_from_calling(tmp_path: Path) -> None:
    async with (
        agent(stun_server="127.0.0.1:9") as here,
        Sipp(here.info.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as caller,  # type: ignore[union-attr]
    ):
        await until(here.up)
        here.legs[0].hang_up(200, "done")
        assert await caller.finish() == 0, caller.output


@pytest.mark.parametrize(("ours", "asked", "expected"), [(40, None, 320), (20, 60, 480), (30, None, 240)])
async def test_packets_are_as_long_as_the_far_end_asks_or_else_as_the_settings_say(
    tmp_path: Path, ours: int, asked: int | None, expected: int
) -> None:
    async with agent(ptime_ms=ours) as here, RtpPeer() as peer:
        assert here.info is not None
        offer = invite(peer.port)
        offer = offer.replace("a=ptime:20", f"a=ptime:{asked}") if asked else offer.replace("a=ptime:20", "a=x-none")
        async with Sipp(here.info.port, (offer, ANSWERED, EXPECT_BYE), tmp_path) as caller:
            await until(lambda: len(peer.reception.packets) > 10)
            sizes = {len(packet.payload) for packet in peer.reception.packets if packet.payload_type == 0}
            assert sizes == {expected}
            here.legs[0].hang_up(200, "done")
            assert await caller.finish() == 0, caller.output
