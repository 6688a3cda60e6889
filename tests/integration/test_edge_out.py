"""What workers send out through the edge: calls, registrations, their answers; DNS; a real Kamailio, bare SIP peers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.workers import EdgeWorker
from tests.rigs.edge import Stage, settings, stage
from tests.rigs.name_server import NameServer
from tests.rigs.sip_peer import SDP, Invite, Packet, SipPeer

pytestmark = pytest.mark.integration

WORKER, INNER, TRUNK = "127.0.0.3", "127.0.0.4", "127.0.0.5"


@asynccontextmanager
async def apart(**sections: Any) -> AsyncIterator[tuple[Stage, SipPeer, SipPeer]]:
    """Have an edge, one worker, and a trunk that may not learn where the worker is."""
    edge: Any = {"inner_host": INNER, **sections.pop("edge", {})}
    given = settings(sections.pop("sip", {}), edge=edge, **sections)
    async with stage(given, workers_at=WORKER) as at, SipPeer.udp(TRUNK) as trunk:
        yield at, at.workers[0], trunk


def out(at: Stage, worker: SipPeer, uri: str, **more: object) -> Invite:
    """Have the worker call a URI, by way of the edge."""
    headers = [("Route", f"<sip:{at.edge.inner};lr>")]
    return worker.invite(at.inner, uri=uri, headers=headers, **more)  # type: ignore[arg-type]


def hides(at: Stage, worker: SipPeer, packet: Packet) -> None:
    assert WORKER not in packet.text, packet.text
    assert INNER not in packet.text, packet.text
    assert f":{worker.port}" not in packet.text, packet.text


async def test_a_call_out_leaves_here_and_all_of_its_dialog_comes_back_to_its_worker() -> None:
    async with apart() as (at, worker, trunk):
        worker.probed = 200
        call = out(at, worker, f"sip:491234@{trunk.address}")
        invite = await trunk.take("INVITE")
        hides(at, worker, invite)
        assert invite.source == at.public
        assert invite.uri == f"sip:491234@{trunk.address}"
        assert not invite.all("Route")
        assert not invite.all("Record-Route")
        assert not invite.all("X-Gateway-Source")
        trunk.answer(invite, 183, body=SDP, tag="far")
        far = trunk.answer(invite, 200, body=SDP, tag="far", headers=[("X-Gateway-Source", "udp;10.0.0.1:1")])
        ok = await call.answered()
        assert ok.all("X-Gateway-Source") == [f"udp;{trunk.address}"]
        assert ok.all("Record-Route") == [f"<sip:{at.edge.inner};lr>"]
        near = call.dialog(ok)
        near.request("ACK", cseq=1)
        hides(at, worker, await trunk.take("ACK"))
        near.request("INVITE", body=SDP)
        again = await trunk.take("INVITE")
        hides(at, worker, again)
        trunk.answer(again, 200, body=SDP)
        await worker.take("SIP/2.0 200", method="INVITE")
        far.request("INFO")
        info = await worker.take("INFO")
        assert info.all("X-Gateway-Source") == [f"udp;{trunk.address}"]
        worker.answer(info, 200)
        await trunk.take("SIP/2.0 200", method="INFO")
        far.request("BYE")
        worker.answer(await worker.take("BYE"), 200)
        hides(at, worker, await trunk.take("SIP/2.0 200", method="BYE"))


async def test_routes_of_the_trunks_own_proxies_stay_in_order() -> None:
    async with apart() as (at, worker, trunk), SipPeer.udp() as proxy:
        call = out(at, worker, f"sip:1@{trunk.address}")
        invite = await trunk.take("INVITE")
        routes = [("Record-Route", "<sip:10.2.2.2;lr>"), ("Record-Route", f"<sip:{proxy.address};lr>")]
        trunk.answer(invite, 200, body=SDP, headers=routes)
        ok = await call.answered()
        assert ok.all("Record-Route") == [*(value for _, value in routes), f"<sip:{at.edge.inner};lr>"]
        call.dialog(ok).request("BYE")
        bye = await proxy.take("BYE")
        assert bye.all("Route") == [f"<sip:{proxy.address};lr>", "<sip:10.2.2.2;lr>"]


async def test_an_outbound_proxy_behind_the_edge_is_used() -> None:
    async with apart() as (at, worker, trunk):
        headers = [("Route", f"<sip:{at.edge.inner};lr>"), ("Route", f"<sip:{trunk.address};lr>")]
        worker.invite(at.inner, uri="sip:491@registrar.example.com", headers=headers)
        invite = await trunk.take("INVITE")
        assert invite.uri == "sip:491@registrar.example.com"
        assert invite.all("Route") == [f"<sip:{trunk.address};lr>"]


async def test_a_registration_names_the_edge_and_its_challenge_and_answer_pass() -> None:
    async with apart() as (at, worker, trunk):
        worker.contact_once = f"<sip:line1@{worker.address};ob>;expires=300"
        kept = [
            ("From", "<sip:line1@trunk>;tag=1"),
            ("To", "<sip:line1@trunk>"),
            ("Call-ID", "reg"),
            ("Max-Forwards", "70"),
        ]
        kept += [("Contact", worker.contact_once), ("Route", f"<sip:{at.edge.inner};lr>")]
        worker.send_request("REGISTER", f"sip:{trunk.address}", [*kept, ("CSeq", "1 REGISTER")], at.inner)
        first = await trunk.take("REGISTER")
        hides(at, worker, first)
        contact = first.first("Contact")
        assert contact.startswith(f"<sip:line1@127.0.0.1:{at.public[1]};w=")
        assert contact.endswith(">;expires=300")
        trunk.answer(first, 401, headers=[("WWW-Authenticate", 'Digest realm="r", nonce="n"')])
        challenge = await worker.take("SIP/2.0 401")
        assert challenge.first("WWW-Authenticate") == 'Digest realm="r", nonce="n"'
        assert len(challenge.all("Via")) == 1
        assert f"{worker.address};branch=" in challenge.first("Via")
        answer = 'Digest username="u", realm="r", nonce="n", uri="sip:x", response="0"'
        worker.send_request(
            "REGISTER", f"sip:{trunk.address}", [*kept, ("CSeq", "2 REGISTER"), ("Authorization", answer)], at.inner
        )
        second = await trunk.take("REGISTER")
        assert second.first("Authorization") == answer
        trunk.contact_once = contact
        trunk.answer(second, 200)
        assert (await worker.take("SIP/2.0 200")).first("Contact") == worker.contact_once
        # The trunk's calls to that Contact are calls like any other.
        call = trunk.invite(at.public, uri=contact.partition(">")[0].strip("<"))
        worker.contact_once = ""
        worker.answer(await worker.take("INVITE"), 200, body=SDP)
        await call.answered()


async def test_a_star_of_a_registration_stays_one() -> None:
    async with apart() as (at, worker, trunk):
        headers = [("From", "<sip:a@b>;tag=1"), ("To", "<sip:a@b>"), ("Call-ID", "r"), ("CSeq", "1 REGISTER")]
        headers += [("Max-Forwards", "70"), ("Contact", "*"), ("Expires", "0"), ("Route", f"<sip:{at.edge.inner};lr>")]
        worker.send_request("REGISTER", f"sip:{trunk.address}", headers, at.inner)
        assert (await trunk.take("REGISTER")).first("Contact") == "*"


async def test_a_call_out_is_refused_challenged_and_cancelled_as_the_trunk_says() -> None:
    async with apart() as (at, worker, trunk):
        for code in (407, 486, 603, 503):
            call = out(at, worker, f"sip:1@{trunk.address}")
            trunk.answer(await trunk.take("INVITE"), code, headers=[("Retry-After", "7")])
            refusal = await call.answered(code)
            assert refusal.first("Retry-After") == "7"
            call.acknowledge_refusal(refusal)
        call = out(at, worker, f"sip:1@{trunk.address}")
        invite = await trunk.take("INVITE")
        trunk.answer(invite, 180)
        await worker.take("SIP/2.0 180")
        call.cancel()
        cancel = await trunk.take("CANCEL")
        hides(at, worker, cancel)
        trunk.answer(cancel, 200)
        trunk.answer(invite, 487)
        await call.answered(487)


async def test_a_call_out_goes_over_tcp_where_the_uri_says_so() -> None:
    async with apart() as (at, worker, _), SipPeer.listening(TRUNK) as trunk:
        out(at, worker, f"sip:1@{trunk.address};transport=tcp")
        invite = await trunk.take("INVITE")
        assert invite.first("Via").startswith("SIP/2.0/TCP")
        assert f"127.0.0.1:{at.public[1]};transport=tcp;w=" in invite.first("Contact")
        hides(at, worker, invite)


async def test_a_callee_behind_nat_is_reached_where_it_answers_from() -> None:
    async with apart() as (at, worker, trunk):
        trunk.contact_once = "<sip:callee@10.3.3.3:5060>"
        call = out(at, worker, f"sip:1@{trunk.address}")
        trunk.answer(await trunk.take("INVITE"), 200, body=SDP)
        near = call.dialog(await call.answered())
        near.request("ACK", cseq=1)
        await trunk.take("ACK")
        near.request("BYE")
        assert (await trunk.take("BYE")).uri == "sip:callee@10.3.3.3:5060"


async def test_more_workers_share_the_way_out() -> None:
    async with apart() as (at, worker, trunk), SipPeer.udp(WORKER) as other:
        await at.tell(EdgeWorker(worker.address, 4), EdgeWorker(other.address, 4))
        calls = []
        for peer in (worker, other):
            call = out(at, peer, f"sip:1@{trunk.address}")
            far = trunk.answer(await trunk.take("INVITE"), 200, body=SDP)
            await call.answered()
            calls.append((peer, far))
        for peer, far in reversed(calls):
            far.request("BYE")
            await peer.take("BYE")


# --- names ---


@pytest.fixture
def own_names(tmp_path: Path) -> str:
    """Return a program that runs Kamailio with name servers of its own, for which it needs to be root."""
    may_mount = (
        shutil.which("unshare") and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    )
    if not may_mount:
        pytest.skip(
            "needs a mount namespace of its own (root, and no chroot), to give Kamailio another /etc/resolv.conf"
        )
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.6\noptions timeout:1 attempts:1\n", encoding="utf-8")
    script = tmp_path / "kamailio"
    inner = f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec /usr/sbin/kamailio "$@"'
    script.write_text(f"#!/bin/sh\nexec unshare -m /bin/sh -c '{inner}' kamailio \"$@\"\n", encoding="utf-8")
    script.chmod(0o755)
    return str(script)


async def test_names_are_found_by_naptr_and_srv_and_the_next_server_is_tried(own_names: str) -> None:
    async with SipPeer.udp(TRUNK) as second, SipPeer.udp("127.0.0.7") as dead, SipPeer.listening(TRUNK) as over_tcp:
        zone = {
            "carrier.test NAPTR": ['10 10 "s" "SIP+D2U" "" _sip._udp.carrier.test.'],
            "_sip._udp.carrier.test SRV": [
                f"10 1 {dead.port} one.carrier.test.",
                f"20 1 {second.port} two.carrier.test.",
            ],
            "one.carrier.test A": ["127.0.0.7"],
            "two.carrier.test A": [TRUNK],
            "tcp.test NAPTR": [
                '10 10 "s" "SIP+D2T" "" _sip._tcp.tcp.test.',
                '20 10 "s" "SIP+D2U" "" _sip._udp.tcp.test.',
            ],
            "_sip._tcp.tcp.test SRV": [f"10 1 {over_tcp.port} two.carrier.test."],
            "_sip._udp.tcp.test SRV": [f"10 1 {second.port} two.carrier.test."],
        }
        try:
            async with (
                NameServer(zone, at=("127.0.0.6", 53)) as server,
                apart(edge={"kamailio": own_names}, sip={"failover_s": 1}) as (at, worker, _),
            ):
                call = out(at, worker, "sip:491@carrier.test")
                await dead.take("INVITE")
                second.answer(await second.take("INVITE"), 200, body=SDP)
                await call.answered()
                out(at, worker, "sip:491@tcp.test")
                assert (await over_tcp.take("INVITE")).uri == "sip:491@tcp.test"
                nowhere = out(at, worker, "sip:491@nowhere.test")
                await nowhere.answered(503)
                assert "carrier.test NAPTR" in server.asked
        except PermissionError:
            pytest.skip("needs port 53 of 127.0.0.6")
