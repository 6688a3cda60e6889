"""Requests inside calls, through a real Kamailio: routing without memory, NAT, what callers may see, no relaying."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from gateway.edge.workers import EdgeWorker
from tests.rigs.edge import Stage, settings, stage
from tests.rigs.sip_peer import SDP, Dialog, SipPeer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

CALLER, WORKER, INNER = "127.0.0.2", "127.0.0.3", "127.0.0.4"


async def asked(side: Dialog, method: str, other: SipPeer) -> None:
    """Send a request inside the dialog, and have the other side answer it."""
    side.request(method, body=SDP if method in ("INVITE", "UPDATE") else "")
    request = await other.take(method)
    other.answer(request, 200, body=SDP if method in ("INVITE", "UPDATE") else "")
    answer = await side.peer.take("SIP/2.0 200", method=method)
    assert answer.first("Call-ID") == side.call_id
    if method == "INVITE":
        side.request("ACK", cseq=side.cseq)
        await other.take("ACK")


async def both_ways(near: Dialog, far: Dialog, *methods: str) -> None:
    for method in methods:
        await asked(near, method, far.peer)
        await asked(far, method, near.peer)


async def test_a_caller_never_sees_the_address_of_a_worker_or_of_the_inner_socket() -> None:
    async with stage(settings(edge={"inner_host": INNER}), caller_at=CALLER, workers_at=WORKER) as at:
        (worker,) = at.workers
        near, far = await at.talk()
        await both_ways(near, far, "INVITE", "UPDATE", "INFO")
        await asked(far, "BYE", at.caller)
        assert any(packet.method == "BYE" for packet in at.caller.packets)
        for packet in at.caller.packets:
            seen = packet.text.replace(far.call_id, "")
            assert WORKER not in seen, packet.text
            assert INNER not in seen, packet.text
            assert not packet.all("Record-Route"), packet.text
            assert f":{worker.port}" not in seen, packet.text
        assert all(packet.source == at.public for packet in at.caller.packets)


async def test_calls_go_on_when_the_edge_was_killed_and_started_again_in_the_middle() -> None:
    async with stage(workers=2) as at:
        first, second = await at.talk(at.workers[0])
        ended = at.edge.ended
        os.kill(at.edge.pid, signal.SIGKILL)
        assert await ended == -signal.SIGKILL
        await at.edge.restart()
        await both_ways(first, second, "INVITE", "INFO")
        other = await at.talk(at.workers[0])
        await asked(second, "BYE", at.caller)
        await asked(other[0], "BYE", at.workers[0])


async def test_a_request_in_a_call_with_a_worker_that_drains_arrives_and_one_that_is_gone_gets_481() -> None:
    async with stage() as at:
        near, far = await at.talk()
        await at.tell(EdgeWorker(at.workers[0].address, 4, "draining"))
        await both_ways(near, far, "INFO")
        await at.tell(EdgeWorker(at.workers[0].address, 4, "ended"))
        near.request("INFO")
        await at.caller.take("SIP/2.0 481")


async def forged(at: Stage, uri: str, victim: SipPeer, *, route: str = "", method: str = "INFO") -> None:
    headers = [("From", "<sip:a@b>;tag=1"), ("To", "<sip:c@d>;tag=2"), ("Call-ID", "forged"), ("CSeq", f"7 {method}")]
    headers += [("Max-Forwards", "70")] + ([("Route", route)] if route else [])
    at.caller.send_request(method, uri, headers, at.public)


async def test_nobody_reaches_strangers_through_the_edge_by_forged_routes_or_uris() -> None:
    async with stage() as at, SipPeer.udp() as victim:
        near, _ = await at.talk()
        there = f"<sip:{victim.address};lr>"
        edge = f"<sip:127.0.0.1:{at.edge.place.port};lr>"
        for uri in (f"sip:x@{victim.address}", f"sip:x@{victim.address};w=1234", near.target + ";maddr=127.0.0.9"):
            for route in ("", there, f"{edge}, {there}", f"<sip:{at.edge.inner};lr>, {there}"):
                await forged(at, uri, victim, route=route)
                await forged(at, uri, victim, route=route, method="ACK")
        await forged(at, "sip:x@127.0.0.1;w='or'1", victim)
        # A token that is right leads to its worker, whatever the routes say.
        await until(lambda: len(at.workers[0].seen("INFO")) >= 4, what="those with a token")
        new = [("Route", f"{edge}, {there}")]
        call = at.caller.invite(at.public, headers=new, uri=f"sip:1000@{victim.address}")
        await at.workers[0].take("INVITE", call_id=call.call_id)
        await asyncio.sleep(0.3)
        assert not victim.packets
        assert len(at.caller.seen("SIP/2.0 481")) >= 8


async def test_a_caller_behind_nat_is_answered_and_reached_where_it_sends_from() -> None:
    async with stage() as at, SipPeer.udp() as caller:
        caller.via_host = "10.99.0.7:5060"  # what it takes for its address
        near, far = await at.talk(caller=caller)
        await both_ways(near, far, "INVITE", "INFO")
        await asked(far, "BYE", caller)
        assert "rport" in caller.seen("SIP/2.0 200")[0].first("Via")


@pytest.mark.parametrize("contact", ["", "<sip:caller@10.99.0.7>"])
async def test_calls_over_tcp_stay_on_their_connection(contact: str) -> None:
    async with stage() as at, SipPeer.stream("127.0.0.1", at.edge.place.port) as caller:
        caller.contact_once = contact
        near, far = await at.talk(caller=caller)
        assert ";transport=tcp;w=" in near.target
        assert at.workers[0].seen("INVITE")[0].first("X-Gateway-Source") == f"tcp;{caller.address}"
        await both_ways(near, far, "INVITE", "INFO")
        await asked(far, "BYE", caller)


async def test_proxies_between_caller_and_edge_stay_on_the_way() -> None:
    async with stage() as at, SipPeer.udp() as proxy:
        (worker,) = at.workers
        routes = [("Record-Route", f"<sip:{proxy.address};lr;p=2>"), ("Record-Route", "<sip:10.1.1.1;lr;p=1>")]
        call = at.caller.invite(at.public, headers=[*routes, ("Via", "SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKbehind")])
        invite = await worker.take("INVITE")
        assert invite.all("Record-Route") == [f"<sip:{at.edge.inner};lr>", *(value for _, value in routes)]
        far = worker.answer(invite, 200, body=SDP)
        ok = await call.answered()
        assert ok.all("Record-Route") == [value for _, value in routes]
        call.dialog(ok).request("ACK", cseq=1)
        await worker.take("ACK")
        far.request("BYE")
        bye = await proxy.take("BYE")
        assert bye.all("Route") == [value for _, value in routes]
        assert bye.uri == f"sip:peer@{at.caller.address}"


async def test_a_caller_that_puts_several_routes_on_one_line_gets_them_back() -> None:
    async with stage() as at:
        (worker,) = at.workers
        line = "<sip:10.1.1.2;lr>, <sip:10.1.1.1;lr>"
        call = at.caller.invite(at.public, headers=[("Record-Route", line)])
        invite = await worker.take("INVITE")
        joined = [("Record-Route", ", ".join(invite.all("Record-Route")))]
        one_line = invite.text.replace("Record-Route", "X-Nothing")
        worker.answer(type(invite)(one_line, invite.source), 200, headers=joined)
        assert ", ".join((await call.answered()).all("Record-Route")) == line


async def test_callers_of_a_worker_that_died_are_hung_up_on() -> None:
    async with stage(workers=2) as at, SipPeer.udp() as behind_nat, SipPeer.udp() as trunk:
        dying, living = at.workers
        behind_nat.via_host = "10.99.0.7:5060"
        plain, _ = await at.talk(dying)
        hidden, _ = await at.talk(dying, behind_nat)
        ended, _ = await at.talk(dying)
        await asked(ended, "BYE", dying)
        call = dying.invite(at.inner, uri=f"sip:1@{trunk.address}", headers=[("Route", f"<sip:{at.edge.inner};lr>")])
        trunk.answer(await trunk.take("INVITE"), 200, body=SDP)
        await call.answered()
        await at.tell(EdgeWorker(dying.address, 0, "draining"), EdgeWorker(living.address, 4))
        other, _ = await at.talk(living)
        await asyncio.sleep(1.1)  # seconds are what ages are counted in
        await at.tell(EdgeWorker(living.address, 4))
        for side, peer in ((plain, at.caller), (hidden, behind_nat)):
            bye = await peer.take("BYE")
            assert (bye.first("Call-ID"), bye.first("From"), bye.first("To")) == (side.call_id, side.other, side.own)
            assert dying.address not in bye.text
            peer.answer(bye, 200)
        assert (await trunk.take("BYE")).first("Call-ID") == call.call_id
        await asyncio.sleep(1.1)
        assert len(at.caller.seen("BYE")) == 1
        await asked(other, "BYE", living)
