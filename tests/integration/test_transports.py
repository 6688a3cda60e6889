"""How SIP gets in and out: TLS versions and certificates, STUN, packet times."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import MediaUp
from gateway.errors import SipError
from gateway.ids import new_call_id
from gateway.lab.callers.rtp_peer import RtpPeer
from tests.rigs.sip_agent import sip_agent
from tests.rigs.sipp import NOBODY, Sipp
from tests.rigs.sipp_steps import ANSWERED, EXPECT_BYE, invite, take_call
from tests.rigs.tls import TlsRegistrar, self_signed
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


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
    own = self_signed(tmp_path, "own")
    files: dict[str, Any] = {"tls_certificate": own.certificate, "tls_key": own.key}
    async with sip_agent(trunks={"main": {"host": "127.0.0.1"}}, tls=True, tls_port=0, **files) as here:
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
        async with sip_agent(tls=True, tls_port=0, tls_certificate=no, tls_key=no):
            pass
    with pytest.raises(SipError, match=r"^sip\.tls_authorities: .*no\.pem is no PEM file"):
        async with sip_agent(tls_authorities=no):
            pass


async def test_a_trunk_over_tls_is_verified_by_the_authorities(tmp_path: Path) -> None:
    carrier, other = self_signed(tmp_path, "carrier"), self_signed(tmp_path, "other")
    for authorities, state in ((carrier, "registered"), (other, "failed")):
        async with TlsRegistrar(carrier) as registrar:
            trunk = {
                "host": f"127.0.0.1:{registrar.port}",
                "transport": "tls",
                "register": True,
                "username": "line1",
                "password_from": "line",
            }
            async with sip_agent(trunks={"main": trunk}, tls_authorities=authorities.certificate) as here:
                await here.until_trunk(state)
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
        async with Sipp(NOBODY, (take_call(),), tmp_path) as callee, sip_agent(stun_server=stun) as here:
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
        sip_agent(stun_server="127.0.0.1:9") as here,
        Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as caller,
    ):
        await until(lambda: here.seen(MediaUp))
        here.legs[0].hang_up(200, "done")
        assert await caller.finish() == 0, caller.output


@pytest.mark.parametrize(("ours", "asked", "expected"), [(40, None, 320), (20, 60, 480), (30, None, 240)])
async def test_packets_are_as_long_as_the_far_end_asks_or_else_as_the_settings_say(
    tmp_path: Path, ours: int, asked: int | None, expected: int
) -> None:
    async with sip_agent(ptime_ms=ours) as here, RtpPeer() as peer:
        offer = invite(peer.port)
        offer = offer.replace("a=ptime:20", f"a=ptime:{asked}") if asked else offer.replace("a=ptime:20", "a=x-none")
        async with Sipp(here.port, (offer, ANSWERED, EXPECT_BYE), tmp_path) as caller:
            await until(lambda: len(peer.reception.packets) > 10)
            sizes = {len(packet.payload) for packet in peer.reception.packets if packet.payload_type == 0}
            assert sizes == {expected}
            here.legs[0].hang_up(200, "done")
            assert await caller.finish() == 0, caller.output
