"""SIP over TLS at the edge: a real Kamailio with its OpenSSL, and Python's on the other side."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.edge import Edge
from tests.rigs.edge import settings, stage
from tests.rigs.sip_peer import SDP, SipPeer
from tests.rigs.tls import Certificate, self_signed

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def pbx(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("pbx"), subject="DNS:pbx.example.com")


def tls(own: Certificate, authorities: Certificate | None = None) -> dict[str, Any]:
    given: dict[str, Any] = {"tls": True, "tls_port": 0}
    given |= {"tls_certificate": str(own.certificate), "tls_key": str(own.key)}
    return given | ({"tls_authorities": str(authorities.certificate)} if authorities else {})


def client(trusted: Certificate | None = None, shown: Certificate | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trusted.certificate if trusted else None)
    if trusted is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


def port_of(edge: Edge) -> int:
    assert edge.place.tls_port
    return edge.place.tls_port


async def test_a_call_over_tls_walks_through_and_stays_on_its_connection(own: Certificate) -> None:
    async with (
        stage(settings(tls(own))) as at,
        SipPeer.stream("127.0.0.1", port_of(at.edge), tls=client(own)) as caller,
    ):
        call = caller.invite(at.public)
        invite = await at.workers[0].take("INVITE")
        assert invite.all("X-Gateway-Source") == [f"tls;{caller.address}"]
        far = at.workers[0].answer(invite, 200, body=SDP)
        near = call.dialog(await call.answered())
        assert f"@127.0.0.1:{port_of(at.edge)};transport=tls;w=" in near.target
        near.request("ACK", cseq=1)
        await at.workers[0].take("ACK")
        far.request("BYE")
        bye = await caller.take("BYE")
        assert bye.first("Via").startswith("SIP/2.0/TLS")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
async def test_old_versions_of_tls_are_refused(own: Certificate, version: ssl.TLSVersion) -> None:
    context = client()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    async with stage(settings(tls(own))) as at:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with SipPeer.stream("127.0.0.1", port_of(at.edge), tls=context):
                pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_current_versions_of_tls_are_taken(own: Certificate, version: ssl.TLSVersion) -> None:
    context = client(own)
    context.minimum_version = context.maximum_version = version
    async with (
        stage(settings(tls(own))) as at,
        SipPeer.stream("127.0.0.1", port_of(at.edge), tls=context) as caller,
    ):
        await at.talk(caller=caller)


async def test_the_name_of_a_verified_client_reaches_the_worker(own: Certificate, pbx: Certificate) -> None:
    async with (
        stage(settings(tls(own, pbx))) as at,
        SipPeer.stream("127.0.0.1", port_of(at.edge), tls=client(own, pbx)) as known,
        SipPeer.stream("127.0.0.1", port_of(at.edge), tls=client(own)) as nameless,
    ):
        known.invite(at.public, headers=[("X-Gateway-Source", "tls;127.0.0.1:1;ceo.example.com")])
        invite = await at.workers[0].take("INVITE")
        assert invite.all("X-Gateway-Source") == [f"tls;{known.address};pbx.example.com"]
        nameless.invite(at.public)
        invite = await at.workers[0].take("INVITE")
        assert invite.all("X-Gateway-Source") == [f"tls;{nameless.address}"]


async def test_a_trunk_that_is_known_by_its_certificate_may_call_from_anywhere(
    own: Certificate, pbx: Certificate
) -> None:
    given = settings(tls(own, pbx), trunks={"pbx": {"host": "192.0.2.7", "tls_name": "PBX.example.com"}})
    async with (
        stage(given) as at,
        SipPeer.stream("127.0.0.1", port_of(at.edge), tls=client(own, pbx)) as known,
        SipPeer.stream("127.0.0.1", port_of(at.edge), tls=client(own)) as nameless,
    ):
        await at.talk(caller=known)
        nameless.invite(at.public)
        await nameless.take("SIP/2.0 403")


async def test_a_client_with_a_certificate_of_nobody_known_is_refused(
    own: Certificate, pbx: Certificate, tmp_path: Path
) -> None:
    stranger = self_signed(tmp_path, subject="DNS:pbx.example.com")
    async with stage(settings(tls(own, pbx))) as at:
        try:
            async with SipPeer.stream("127.0.0.1", port_of(at.edge), tls=client(own, stranger)) as caller:
                caller.invite(at.public)
                await at.talk()
        except (ssl.SSLError, ConnectionError):
            pass
        assert not [each for each in at.workers[0].seen("INVITE") if "tls;" in each.first("X-Gateway-Source")]


async def test_new_certificates_are_used_after_a_reload_and_running_calls_stay(tmp_path: Path) -> None:
    own = self_signed(tmp_path)
    async with stage(settings(tls(own))) as at:
        pid = at.edge.pid
        async with SipPeer.stream("127.0.0.1", port_of(at.edge), tls=client(own)) as before:
            near, _ = await at.talk(caller=before)
            own = self_signed(tmp_path)
            await at.edge.reload_certificates()
            async with SipPeer.stream("127.0.0.1", port_of(at.edge), tls=client(own)) as after:
                await at.talk(caller=after)
            near.request("INFO")
            at.workers[0].answer(await at.workers[0].take("INFO"), 200)
            await before.take("SIP/2.0 200", method="INFO")
        assert at.edge.pid == pid


async def test_a_call_out_over_tls_verifies_the_trunk(own: Certificate, pbx: Certificate) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pbx.certificate, pbx.key)
    wrong = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    wrong.load_cert_chain(own.certificate, own.key)
    async with (
        stage(settings(tls(own, pbx))) as at,
        SipPeer.listening("127.0.0.5", tls=server) as trunk,
        SipPeer.listening("127.0.0.5", tls=wrong) as impostor,
    ):
        (worker,) = at.workers
        for peer in (trunk, impostor):
            headers = [("Route", f"<sip:{at.edge.inner};lr>")]
            call = worker.invite(at.inner, uri=f"sip:1@{peer.address};transport=tls", headers=headers)
            if peer is trunk:
                invite = await trunk.take("INVITE")
                assert invite.first("Via").startswith("SIP/2.0/TLS")
                assert ";transport=tls;w=" in invite.first("Contact")
                trunk.answer(invite, 200, body=SDP)
                ok = await call.answered()
                assert ok.first("X-Gateway-Source").startswith(f"tls;{trunk.address}")
        await worker.take("SIP/2.0 408", method="INVITE", call_id=call.call_id)
        assert not impostor.packets
