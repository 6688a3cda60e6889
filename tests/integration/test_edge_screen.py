"""What the edge keeps from workers: strangers, scanners, floods, what is malformed or too long; a real Kamailio."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.edge.workers import EdgeWorker
from tests.rigs.edge import Stage, settings, stage
from tests.rigs.name_server import NameServer
from tests.rigs.sip_peer import SDP, Headers, Packet, SipPeer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

FIRST = [("From", "<sip:a@b>;tag=1"), ("To", "<sip:c@d>"), ("Max-Forwards", "70")]
ADDED = 500
LIMIT = 4000
"""What a worker reads."""


def ask(at: Stage, method: str, number: int = 1, *, headers: Headers = (), caller: SipPeer | None = None) -> None:
    kept = [*FIRST, ("Call-ID", f"{method}{number}"), ("CSeq", f"{number} {method}"), *headers]
    (caller or at.caller).send_request(method, f"sip:1000@127.0.0.1:{at.public[1]}", kept, at.public)


async def test_methods_that_open_no_call_are_answered_and_never_passed_on() -> None:
    async with stage() as at:
        for method in ("REGISTER", "PUBLISH", "MESSAGE", "SUBSCRIBE", "REFER"):
            ask(at, method)
            assert "INVITE" in (await at.caller.take("SIP/2.0 405", method=method)).first("Allow")
        for method in ("BYE", "UPDATE", "INFO", "PRACK", "NOTIFY"):
            ask(at, method)
            await at.caller.take("SIP/2.0 481", method=method)
        ask(at, "FETCH")
        await at.caller.take("SIP/2.0 501", method="FETCH")
        ask(at, "ACK")
        near, _ = await at.talk()
        for method in ("REFER", "SUBSCRIBE", "REGISTER"):
            near.request(method)
            await at.caller.take("SIP/2.0 405", method=method)
        assert {packet.method for packet in at.workers[0].packets} <= {"INVITE", "ACK", "OPTIONS"}


async def test_a_cancel_that_finds_no_invite_is_answered_when_it_comes_again() -> None:
    async with stage() as at:
        ask(at, "CANCEL")  # its INVITE may be on its way through another process
        ask(at, "CANCEL", headers=[("X-Again", "1")])
        await at.caller.take("SIP/2.0 481", method="CANCEL")
        ask(at, "FETCH")
        await at.caller.take("SIP/2.0 501", method="FETCH")
        assert len([packet for packet in at.caller.packets if packet.first("CSeq") == "1 CANCEL"]) == 1


async def test_scanners_get_no_answer() -> None:
    async with stage(settings({"scanners": ["friendly-scanner", 'we"ird.$(x)']})) as at:
        for agent in ("friendly-scanner", "a Friendly-Scanner/2", 'we"ird.$(x)'):
            at.caller.invite(at.public, headers=[("User-Agent", agent)])
            ask(at, "OPTIONS", headers=[("User-Agent", agent)])
        call = at.caller.invite(at.public, headers=[("User-Agent", "we_ird")])
        at.workers[0].answer(await at.workers[0].take("INVITE"), 200)
        await call.answered()
        assert {packet.first("Call-ID") for packet in at.caller.packets} == {call.call_id}


async def test_who_may_not_call_gets_the_code_for_it_and_after_a_few_nothing() -> None:
    async with (
        stage(settings({"allow_from": ["127.0.0.2/31"], "deny_code": 404})) as at,
        SipPeer.udp("127.0.0.3") as other,
    ):
        for _ in range(6):
            call = at.caller.invite(at.public)
        await at.caller.take("SIP/2.0 404")
        await at.talk(caller=other)
        assert len(at.caller.seen("SIP/2.0 404")) == 3
        assert call.call_id not in "".join(packet.text for packet in at.workers[0].packets)


async def test_once_there_are_trunks_only_they_may_call_and_their_names_are_followed() -> None:
    async with NameServer({"carrier.test A": ["127.0.0.5"]}) as server:
        trunks = {
            "net": {"host": "sip.example.com", "networks": ["127.0.0.8/30"], "outbound_proxy": "127.0.0.4"},
            "name": {"host": "carrier.test"},
        }
        given = settings({"name_servers": [server.address]}, trunks=trunks)
        async with (
            stage(given) as at,
            SipPeer.udp("127.0.0.4") as by_proxy,
            SipPeer.udp("127.0.0.9") as by_network,
            SipPeer.udp("127.0.0.5") as by_name,
        ):
            at.caller.invite(at.public)
            await at.caller.take("SIP/2.0 403")
            await at.talk(caller=by_proxy)
            await at.talk(caller=by_network)

            async def may_call() -> bool:
                call = by_name.invite(at.public)
                await until(
                    lambda: (
                        any(call.call_id in packet.text for packet in by_name.packets if packet.code > 100)
                        or any(call.call_id in packet.text for packet in at.workers[0].seen("INVITE"))
                    )
                )
                return not by_name.seen("SIP/2.0 403") or any(
                    call.call_id in packet.text for packet in at.workers[0].seen("INVITE")
                )

            while not await may_call():
                await asyncio.sleep(4)  # refusals to it are few


async def test_a_flood_gets_no_answer_and_leaves_others_alone() -> None:
    async with stage(settings({"requests_per_second": 5}), capacity=100) as at, SipPeer.udp("127.0.0.2") as calm:
        for number in range(60):
            ask(at, "MESSAGE", number)
        await at.talk(caller=calm)
        await at.caller.take("SIP/2.0 405")
        await asyncio.sleep(0.3)
        assert (
            len(at.caller.seen("SIP/2.0 405")) <= 20
        )  # of two windows of a second, at most, and a slow machine's third
        while not at.workers[0].seen("INVITE") or at.caller.address not in at.workers[0].packets[-1].text:
            at.caller.invite(at.public)  # it may call again when it is calm
            await asyncio.sleep(0.5)


async def test_a_message_that_is_malformed_is_refused_or_dropped_and_harms_nothing() -> None:
    async with stage() as at:
        ids = "From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\n"
        head = f"INVITE sip:1@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {at.caller.address};branch=z9hG4bK"
        for text in (
            "\r\n\r\n",
            "\x00" * 1000,
            "INVITE",
            head + "1\r\n\r\n",
            head + "2\r\n" + ids + "CSeq: 9 BYE\r\nContent-Length: 0\r\n\r\n",
            head + "3\r\n" + ids + "CSeq: 1 INVITE\r\nContent-Length: 99\r\n\r\n",
            head + "4\r\n" + ids + "CSeq: 99999999999 INVITE\r\n\r\n",
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1\r\n\r\n",
            "INVITE sip:`id`$(id);w=x@127.0.0.1 SIP/2.0\r\n\r\n",
        ):
            at.caller.send(text, at.public)
        ask(at, "OPTIONS", headers=[("Max-Forwards", "0")])
        at.caller.send_request(
            "INVITE",
            "sip:1@127.0.0.1",
            [("Max-Forwards", "0"), *FIRST[:2], ("Call-ID", "hops"), ("CSeq", "1 INVITE")],
            at.public,
        )
        await at.caller.take("SIP/2.0 483", call_id="hops")
        await at.talk()
        assert len(at.workers[0].seen("INVITE")) == 1


async def test_names_from_the_network_stay_text() -> None:
    async with stage() as at:
        evil = "$avp(w)`touch /tmp/evil`%s'\";drop"
        user = "%24avp(w)%60id%60"
        call = at.caller.invite(
            at.public, user, headers=[("Subject", evil), ("P-Asserted-Identity", f'"{evil}" <sip:a@b>')]
        )
        invite = await at.workers[0].take("INVITE")
        assert invite.first("Subject") == evil
        assert invite.uri.startswith(f"sip:{user}@")
        at.workers[0].contact_once = f"<sip:$avp(w)@{at.workers[0].address}>"
        at.workers[0].answer(invite, 200, body=SDP)
        assert (await call.answered()).first("Contact").startswith("<sip:$avp(w)@127.0.0.1:")


# --- length ---


async def sent(at: Stage, headers: Headers, body: str = SDP, caller: SipPeer | None = None) -> Packet | int:
    """Send an INVITE; return what reaches the worker, or the code that the caller gets."""
    caller = caller or at.caller
    call = caller.invite(at.public, headers=headers, body=body)
    worker = at.workers[0]
    await until(
        lambda: (
            any(call.call_id in packet.text for packet in worker.seen("INVITE"))
            or any(call.call_id in packet.text for packet in caller.packets if packet.code > 100)
        )
    )
    found = [packet for packet in worker.seen("INVITE") if call.call_id in packet.text]
    if not found:
        return next(packet.code for packet in caller.packets if call.call_id in packet.text and packet.code > 100)
    worker.answer(found[0], 404, headers=[("Reason", "SIP;cause=404")])
    call.acknowledge_refusal(await call.answered(404))
    return found[0]


async def test_what_fits_is_passed_on_as_it_is() -> None:
    async with stage() as at:
        headers = [
            ("Identity", "x" * 900),
            ("User-Agent", "a phone"),
            ("X-Customer", "gold"),
            ("Call-Info", "<http://a>"),
        ]
        packet = await sent(at, headers)
        assert isinstance(packet, Packet)
        assert [(name, packet.first(name)) for name, _ in headers] == headers
        assert packet.body == SDP


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
async def test_what_is_too_long_loses_first_what_no_worker_needs(transport: str) -> None:
    async with stage() as at, SipPeer.stream("127.0.0.1", at.public[1]) as over_tcp:
        caller = at.caller if transport == "UDP" else over_tcp
        long = [
            ("Identity", "i" * 12_000),
            ("User-Agent", "u" * 3000),
            ("Call-Info", "c" * 9000),
            ("X-Customer", "gold"),
        ]
        packet = await sent(at, long, caller=caller)
        assert isinstance(packet, Packet)
        assert not packet.first("Identity")
        assert packet.first("X-Customer") == "gold"  # a dialplan may ask for it
        assert packet.body == SDP
        lines = "".join(f"a=candidate:{number} 1 UDP 1 192.0.2.1 {number} typ host\r\n" for number in range(400))
        video = "m=video 7000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"
        packet = await sent(at, [("X-Customer", "gold")], SDP + lines + video, caller)
        assert isinstance(packet, Packet)
        assert packet.first("X-Customer") == "gold"
        assert "a=rtpmap:101 telephone-event/8000" in packet.body
        assert "a=candidate" not in packet.body
        packet = await sent(
            at, [("X-Customer", "gold"), ("X-Unknown", "x" * 25_000), ("P-Asserted-Identity", "<sip:1@a>")], SDP, caller
        )
        assert isinstance(packet, Packet)
        assert not packet.first("X-Unknown")
        assert packet.first("P-Asserted-Identity") == "<sip:1@a>"
        assert packet.first("X-Gateway-Source") == f"{transport.lower()};{caller.address}"
        assert packet.body == SDP
        for packet in at.workers[0].packets:
            assert len(packet.text) < LIMIT
        assert await sent(at, [("P-Asserted-Identity", f"<sip:{'1' * 5000}@a>")], SDP, caller) == 513


async def test_a_message_of_nearly_64_kb_is_read_whole() -> None:
    async with stage() as at, SipPeer.stream("127.0.0.1", at.public[1]) as over_tcp:
        for caller, size in ((at.caller, 64_500), (over_tcp, 64_000)):
            packet = await sent(at, [("X-Unknown", "x" * size)], SDP, caller)
            assert isinstance(packet, Packet)
            assert packet.body == SDP


async def test_of_a_body_of_several_parts_the_session_description_is_left() -> None:
    async with stage() as at:
        part = "--b\r\nContent-Type: application/pidf+xml\r\n\r\n" + "<x/>" * 1500 + "\r\n"
        body = f"{part}--b\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--b--\r\n"
        call = at.caller
        kept = [*FIRST, ("Call-ID", "parts"), ("CSeq", "1 INVITE"), ("Contact", call.contact)]
        kept += [("Content-Type", "multipart/mixed;boundary=b")]
        call.send_request("INVITE", f"sip:1@127.0.0.1:{at.public[1]}", kept, at.public, body=body)
        invite = await at.workers[0].take("INVITE")
        assert len(invite.text) < LIMIT
        assert invite.body.strip() == SDP.strip()
        assert "application/sdp" in invite.first("Content-Type")


async def test_many_quick_connections_do_not_deafen_it() -> None:
    async with stage() as at:
        for _ in range(100):
            with socket.create_connection(at.public):
                pass
        idle = [socket.create_connection(at.public) for _ in range(60)]
        try:
            await at.talk()
            async with SipPeer.stream("127.0.0.1", at.public[1]) as caller:
                await at.talk(caller=caller)
        finally:
            for connection in idle:
                connection.close()


async def test_replies_that_answer_nothing_are_dropped() -> None:
    async with stage() as at:
        await at.tell(EdgeWorker(at.workers[0].address, 4))
        via = [
            ("Via", "SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx"),
            ("Via", f"SIP/2.0/UDP {at.workers[0].address};branch=y"),
        ]
        lines = [f"{name}: {value}" for name, value in [*via, *FIRST[:2], ("Call-ID", "x"), ("CSeq", "1 INVITE")]]
        at.caller.send("\r\n".join(["SIP/2.0 200 OK", *lines, "Content-Length: 0", "", ""]), at.public)
        await at.talk()
        assert not at.workers[0].seen("SIP/2.0 200")
