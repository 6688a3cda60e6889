"""The edge: a real Kamailio between callers and workers that are bare SIP peers."""

from __future__ import annotations

import pytest

from gateway.edge.edge import Edge
from gateway.edge.workers import EdgeWorker
from gateway.settings.sections import Settings
from tests.rigs.sip_peer import SDP, Dialog, SipPeer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


def settings(**sip: object) -> Settings:
    return Settings.model_validate({"sip": {"host": "127.0.0.1", "port": 0, **sip}})


async def test_a_call_walks_through_the_edge_with_its_real_source() -> None:
    async with Edge(settings()) as edge, SipPeer.udp() as caller, SipPeer.udp() as worker:
        await edge.set_workers([EdgeWorker(worker.address, 4)])
        call = caller.invite(("127.0.0.1", edge.place.port))
        invite = await worker.take("INVITE")
        assert invite.all("X-Gateway-Source") == [f"udp;{caller.address}"]
        far = worker.answer(invite, 200, body=SDP)
        ok = await call.answered()
        near = call.dialog(ok)
        near.request("ACK", cseq=1)
        assert (await worker.take("ACK")).all("X-Gateway-Source") == [f"udp;{caller.address}"]
        near.request("INVITE", body=SDP)
        again = await worker.take("INVITE")
        worker.answer(again, 200, body=SDP)
        ok = await caller.take("SIP/2.0 200")
        far.request("INVITE", body=SDP)
        invite = await caller.take("INVITE")
        caller.answer(invite, 200, body=SDP)
        ok = await worker.take("SIP/2.0 200")
        far.request("BYE")
        bye = await caller.take("BYE")
        caller.answer(bye, 200)
        ok = await worker.take("SIP/2.0 200")


async def test_when_all_workers_are_full_the_caller_gets_503_and_retry_after() -> None:
    async with Edge(settings()) as edge, SipPeer.udp() as caller, SipPeer.udp() as one, SipPeer.udp() as two:
        await edge.set_workers([EdgeWorker(each.address, 1) for each in (one, two)])
        public = ("127.0.0.1", edge.place.port)
        dialogs: list[Dialog] = []
        for _ in range(2):
            call = caller.invite(public)
            await until(lambda: len(one.seen("INVITE")) + len(two.seen("INVITE")) == len(dialogs) + 1)
            worker = next(each for each in (one, two) if len(each.seen("INVITE")) > len(each.seen("ACK")))
            worker.answer(await worker.take("INVITE"), 200, body=SDP)
            dialogs.append(call.dialog(await call.answered()))
            dialogs[-1].request("ACK", cseq=1)
            await worker.take("ACK")
        third = caller.invite(public)
        refusal = await third.answered(503)
        assert refusal.first("Retry-After") == "5"
        third.acknowledge_refusal(refusal)
        dialogs[0].request("BYE")
        await until(lambda: one.seen("BYE") or two.seen("BYE"))
        free = one if one.seen("BYE") else two
        fourth = caller.invite(public)
        free.answer(await free.take("INVITE"), 200, body=SDP)
        await fourth.answered()
