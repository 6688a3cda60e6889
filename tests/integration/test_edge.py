"""The edge sends calls to workers: a real Kamailio between callers and workers that are bare SIP peers."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest

from gateway.edge.edge import Edge
from gateway.edge.workers import EdgeWorker
from tests.rigs.edge import settings, stage
from tests.rigs.sip_peer import SDP, Packet, SipPeer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


def sources(packet: Packet) -> list[str]:
    return packet.all("X-Gateway-Source")


async def test_every_request_of_a_call_reaches_the_worker_with_its_real_source() -> None:
    async with stage() as at:
        caller, (worker,) = at.caller, at.workers
        forged = [("X-Gateway-Source", "udp;10.0.0.1:5060"), ("x-gateway-source ", "tls;10.0.0.2:5061;pbx")]
        call = caller.invite(at.public, headers=forged)
        invite = await worker.take("INVITE")
        assert sources(invite) == [f"udp;{caller.address}"]
        worker.answer(invite, 180, headers=[("Require", "100rel"), ("RSeq", "1")])
        early = call.dialog(await caller.take("SIP/2.0 180"))
        early.request("PRACK", headers=[("RAck", "1 1 INVITE"), *forged])
        prack = await worker.take("PRACK")
        assert sources(prack) == [f"udp;{caller.address}"]
        worker.answer(prack, 200)
        await caller.take("SIP/2.0 200", method="PRACK")
        worker.answer(invite, 200, body=SDP)
        near = call.dialog(await call.answered())
        near.cseq = early.cseq
        near.request("ACK", cseq=1, headers=forged)
        assert sources(await worker.take("ACK")) == [f"udp;{caller.address}"]
        for method in ("INVITE", "UPDATE", "INFO", "OPTIONS", "BYE"):
            near.request(method, headers=forged)
            request = await worker.take(method)
            assert sources(request) == [f"udp;{caller.address}"], method
            worker.answer(request, 200)
            await caller.take("SIP/2.0 200", method=method)


async def test_the_edge_cancels_at_the_worker_with_the_real_source() -> None:
    async with stage() as at:
        call = at.caller.invite(at.public)
        (worker,) = at.workers
        invite = await worker.take("INVITE")
        worker.answer(invite, 180)
        await at.caller.take("SIP/2.0 180")
        call.cancel()
        await at.caller.take("SIP/2.0 200", method="CANCEL")
        cancel = await worker.take("CANCEL")
        assert sources(cancel) == [f"udp;{at.caller.address}"]
        worker.answer(cancel, 200)
        worker.answer(invite, 487, "Request Terminated")
        call.acknowledge_refusal(await call.answered(487))
        assert sources(await worker.take("ACK")) == [f"udp;{at.caller.address}"]


async def test_a_cancel_that_crossed_the_200_is_answered_with_the_tag_of_the_dialog() -> None:
    async with stage() as at:
        call = at.caller.invite(at.public)
        (worker,) = at.workers
        worker.answer(await worker.take("INVITE"), 200)
        answer = await call.answered()
        call.cancel()
        answered = await at.caller.take("SIP/2.0 200", method="CANCEL")
        assert answered.first("To").partition(";tag=")[2] == answer.first("To").partition(";tag=")[2] != ""
        assert "CANCEL" not in {packet.method for packet in worker.packets}


async def test_calls_fill_workers_in_order_and_the_next_one_gets_503_until_a_call_ends() -> None:
    async with stage(workers=3, capacity=2) as at:
        calls = [await at.talk(worker) for worker in at.workers for _ in range(2)]
        refused = at.caller.invite(at.public)
        refusal = await refused.answered(503)
        assert refusal.first("Retry-After") == "5"
        refused.acknowledge_refusal(refusal)
        calls[3][0].request("BYE")
        bye = await at.workers[1].take("BYE")
        at.workers[1].answer(bye, 200)
        await at.talk(at.workers[1])
        calls[4][1].request("BYE")
        at.caller.answer(await at.caller.take("BYE"), 200)
        await at.talk(at.workers[2])
        (await_refusal,) = [at.caller.invite(at.public)]
        await await_refusal.answered(503)


async def test_a_call_that_a_worker_refuses_is_no_longer_counted() -> None:
    async with stage(capacity=1) as at:
        (worker,) = at.workers
        for _ in range(3):
            call = at.caller.invite(at.public)
            worker.answer(await worker.take("INVITE"), 404, headers=[("Reason", "SIP;cause=404")])
            call.acknowledge_refusal(await call.answered(404))
        for _ in range(2):
            call = at.caller.invite(at.public)
            invite = await worker.take("INVITE")
            worker.answer(invite, 180)
            await at.caller.take("SIP/2.0 180")
            call.cancel()
            worker.answer(await worker.take("CANCEL"), 200)
            worker.answer(invite, 487)
            call.acknowledge_refusal(await call.answered(487))
        await at.talk()


@pytest.mark.parametrize("code", [486, 503])
async def test_a_worker_without_room_is_followed_by_the_next_before_the_caller_hears_of_it(code: int) -> None:
    async with stage(workers=2) as at:
        call = at.caller.invite(at.public)
        first, second = at.workers
        first.answer(await first.take("INVITE"), code)
        await first.take("ACK")
        second.answer(await second.take("INVITE"), 200, body=SDP)
        await call.answered(200)
        assert {packet.code for packet in at.caller.packets} == {100, 200}
        assert len(first.seen("INVITE")) == 1


async def test_what_call_control_refuses_goes_to_the_caller_as_it_is() -> None:
    async with stage(workers=2) as at:
        first, second = at.workers
        for code in (486, 503):
            call = at.caller.invite(at.public)
            first.answer(
                await first.take("INVITE"), code, headers=[("Reason", f"SIP;cause={code}"), ("Retry-After", "9")]
            )
            refusal = await call.answered(code)
            assert refusal.first("Retry-After") == "9"
            call.acknowledge_refusal(refusal)
        ringing = at.caller.invite(at.public)
        invite = await first.take("INVITE")
        first.answer(invite, 180)
        await at.caller.take("SIP/2.0 180")
        first.answer(invite, 486)
        await ringing.answered(486)
        assert not second.seen("INVITE")


async def test_a_redirection_keeps_its_contact() -> None:
    async with stage() as at:
        call = at.caller.invite(at.public)
        (worker,) = at.workers
        worker.contact_once = "<sip:200@192.0.2.9>"
        worker.answer(await worker.take("INVITE"), 302)
        assert (await call.answered(302)).first("Contact") == "<sip:200@192.0.2.9>"


async def test_when_every_worker_refuses_the_caller_gets_503_and_retry_after() -> None:
    async with stage(workers=2) as at:
        call = at.caller.invite(at.public)
        for worker in at.workers:
            worker.answer(await worker.take("INVITE"), 486)
        assert (await call.answered(503)).first("Retry-After") == "5"
        assert [len(worker.seen("INVITE")) for worker in at.workers] == [1, 1]


async def test_a_dead_worker_is_skipped_within_two_seconds_and_then_left_alone() -> None:
    async with stage(workers=2) as at:
        dead, alive = at.workers
        begun = time.monotonic()
        call = at.caller.invite(at.public)
        await dead.take("INVITE")
        alive.answer(await alive.take("INVITE"), 200, body=SDP)
        await call.answered()
        assert time.monotonic() - begun < 30  # not the 32 s of a transaction that nobody answers
        count = len(dead.seen("INVITE"))
        await at.talk(alive)
        assert len(dead.seen("INVITE")) == count


@pytest.mark.parametrize("probed", [0, 503])
async def test_a_worker_that_fails_a_probe_gets_no_calls_until_it_passes_one(probed: int) -> None:
    async with stage(workers=2) as at:
        first, second = at.workers
        first.probed = probed

        async def goes_to(worker: SipPeer) -> bool:
            call = at.caller.invite(at.public)
            await until(
                lambda: any(call.call_id in packet.text for peer in at.workers for packet in peer.seen("INVITE"))
            )
            call.cancel()
            call.acknowledge_refusal(await call.answered(487))
            return any(call.call_id in packet.text for packet in worker.seen("INVITE"))

        def end(packet: Packet, worker: SipPeer) -> None:
            if packet.method == "INVITE":
                worker.answer(packet, 180)
            elif packet.method == "CANCEL":
                worker.answer(packet, 200)
                worker.answer(next(each for each in worker.seen("INVITE") if each.first("Call-ID") in packet.text), 487)

        for worker in at.workers:
            worker.on_packet = partial(end, worker=worker)
        while await goes_to(first):
            await asyncio.sleep(0.3)
        assert await goes_to(second)
        first.probed = 200
        while not await goes_to(first):
            await asyncio.sleep(0.3)


async def test_workers_that_drain_or_are_overloaded_get_no_calls_and_keep_those_they_have() -> None:
    async with stage() as at:
        (worker,) = at.workers
        near, _ = await at.talk()
        for state in ("draining", "overloaded"):
            await at.tell(EdgeWorker(worker.address, 4, state))
            begun = time.monotonic()
            call = at.caller.invite(at.public)
            refusal = await call.answered(503)
            assert refusal.first("Retry-After") == "5"
            assert time.monotonic() - begun < 30
            call.acknowledge_refusal(refusal)
            near.request("INFO")
            worker.answer(await worker.take("INFO"), 200)
            await at.caller.take("SIP/2.0 200", method="INFO")
        await at.tell(EdgeWorker(worker.address, 4))
        await at.talk()


async def test_new_lists_of_workers_keep_the_counts_of_running_calls() -> None:
    async with stage(workers=2, capacity=1) as at, SipPeer.udp() as third:
        await at.talk(at.workers[0])
        await at.talk(at.workers[1])
        await at.tell(*(EdgeWorker(peer.address, 1) for peer in (*at.workers, third)))
        await at.talk(third)
        await at.caller.invite(at.public).answered(503)
        await at.tell(EdgeWorker(at.workers[0].address, 1), EdgeWorker(third.address, 1, "draining"))
        await at.caller.invite(at.public).answered(503)


async def test_what_workers_report_of_themselves_replaces_the_count() -> None:
    async with stage(capacity=1) as at:
        (worker,) = at.workers
        await at.tell(EdgeWorker(worker.address, 1, live_calls=1))
        await at.caller.invite(at.public).answered(503)
        await at.tell(EdgeWorker(worker.address, 1, live_calls=0))
        await at.talk()
        await at.tell(EdgeWorker(worker.address, 1, live_calls=1))
        await at.caller.invite(at.public).answered(503)


async def test_an_invite_waits_for_workers_that_are_starting() -> None:
    async with stage(workers=0) as at, SipPeer.udp() as late:
        await at.tell(growing=True)
        call = at.caller.invite(at.public)
        await at.caller.take("SIP/2.0 100")
        await asyncio.sleep(0.3)
        assert not at.caller.seen("SIP/2.0 5")
        await at.tell(EdgeWorker(late.address, 4))
        late.answer(await late.take("INVITE"), 200, body=SDP)
        await call.answered()
        await at.tell(growing=True)
        in_vain = at.caller.invite(at.public)
        assert (await in_vain.answered(503)).first("Retry-After") == "5"


async def test_a_caller_who_gives_up_while_it_waits_is_let_go() -> None:
    async with stage(workers=0) as at, SipPeer.udp() as late:
        await at.tell(growing=True)
        call = at.caller.invite(at.public)
        await at.caller.take("SIP/2.0 100")
        call.cancel()
        await at.caller.take("SIP/2.0 200", method="CANCEL")
        call.acknowledge_refusal(await call.answered(487))
        await at.tell(EdgeWorker(late.address, 1))
        near, _ = await at.talk(late)
        assert near.call_id != call.call_id


async def test_options_from_outside_say_whether_calls_are_taken() -> None:
    async with stage() as at:
        headers = [("From", "<sip:a@b>;tag=1"), ("To", "<sip:c@d>"), ("Call-ID", "1"), ("Max-Forwards", "70")]
        at.caller.send_request("OPTIONS", "sip:edge@127.0.0.1", [*headers, ("CSeq", "1 OPTIONS")], at.public)
        answer = await at.caller.take("SIP/2.0 200")
        assert "INVITE" in answer.first("Allow")
        await at.tell(EdgeWorker(at.workers[0].address, 4, "draining"))
        at.caller.send_request("OPTIONS", "sip:edge@127.0.0.1", [*headers, ("CSeq", "2 OPTIONS")], at.public)
        assert (await at.caller.take("SIP/2.0 503")).first("Retry-After") == "5"


async def test_two_edges_with_one_key_stand_in_for_each_other_inside_a_call() -> None:
    given = settings(edge={"key": "the same for both"})
    async with stage(given) as at, Edge(given) as other:
        (worker,) = at.workers
        near, far = await at.talk()
        await other.set_workers([EdgeWorker(worker.address, 4)])
        near.to = ("127.0.0.1", other.place.port)
        near.request("INFO")
        worker.answer(await worker.take("INFO"), 200)
        await at.caller.take("SIP/2.0 200", method="INFO")
        assert near.target != far.target
