"""The SIP side behind an edge: a socket that relays as one, SIPp as the edge that calls out leave through."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.call.events import IncomingInvite, LegClosed, MediaUp, Noted
from gateway.sip.leg import PjLeg
from tests.rigs.screened import Caller, caller, sdp, tag_of
from tests.rigs.sip_agent import ring_and_answer, sip_agent
from tests.rigs.sipp import NOBODY, Sipp
from tests.rigs.sipp_steps import EXPECT_BYE, take_call
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

EDGES: dict[str, Any] = {"edges": "127.0.0.1"}
FAR = sdp(address="192.0.2.50")
TRUNKS: dict[str, dict[str, object]] = {
    "pbx": {"host": "pbx.example.invalid", "networks": "198.51.100.0/24, 2001:db8:1::/48"},
    "named": {"host": "named.example.invalid", "tls_name": "sbc.example.com"},
}


def told(source: str) -> str:
    return f"X-Gateway-Source: {source}\r\n"


async def ask(edge: Caller, method: str, source: str, **given: Any) -> str:
    """Relay a request and return its answer."""
    return await asyncio.to_thread(edge.ask, edge.request(method, more=told(source) if source else "", **given))


@pytest.mark.parametrize(
    ("source", "trunk", "address", "transport", "name"),
    [
        ("udp;198.51.100.7:5060", "pbx", "198.51.100.7:5060", "udp", ""),
        ("tcp;[2001:DB8:1::7]:40000", "pbx", "[2001:db8:1::7]:40000", "tcp", ""),
        ("tls;203.0.113.9:5061;SBC.example.com", "named", "203.0.113.9:5061", "tls", "sbc.example.com"),
        ("udp;192.0.2.9:5060", "", "192.0.2.9:5060", "udp", ""),
    ],
)
async def test_a_call_is_its_senders_and_answers_go_to_the_edge(
    source: str, trunk: str, address: str, transport: str, name: str
) -> None:
    async with sip_agent(
        lambda leg: leg.hang_up(486, "Busy"), trunks=TRUNKS, allow_from="192.0.2.0/24", **EDGES
    ) as here:
        with caller(here) as edge:
            answer = await ask(edge, "INVITE", source, body=FAR)
            assert answer.startswith("SIP/2.0 486"), answer
            invite = here.seen(IncomingInvite)[0]
            assert (invite.source, invite.trunk) == (address, trunk)
            assert (invite.transport, invite.tls_name) == (transport, name)
            assert "x-gateway-source" not in invite.headers


async def test_a_call_goes_on_through_the_edge_until_its_far_end_leaves() -> None:
    source = "udp;127.0.0.7:5060"
    async with sip_agent(trunks={"pbx": {"host": "127.0.0.7"}}, **EDGES) as here:
        with caller(here) as edge:
            answer = await ask(edge, "INVITE", source, body=sdp())
            assert answer.startswith("SIP/2.0 200"), answer
            edge.send(edge.request("ACK", to_tag=tag_of(answer), more=told(source)))
            await until(lambda: here.seen(MediaUp))
            assert here.seen(IncomingInvite)[0].trunk == "pbx"
            for host, code in ("192.0.2.7", 403), ("127.0.0.7", 200):
                bye = edge.request("BYE", cseq=2, to_tag=tag_of(answer), more=told(f"udp;{host}:5060"))
                assert (await asyncio.to_thread(edge.ask, bye)).startswith(f"SIP/2.0 {code}")
            await until(lambda: here.seen(LegClosed))


async def test_who_is_no_edge_and_an_edge_that_tells_nothing_are_refused() -> None:
    with capture_logs() as logs:
        async with sip_agent(**EDGES) as here:
            with caller(here) as edge, caller(here, "127.0.0.2") as stranger:
                assert (await ask(edge, "INVITE", "", body=sdp())).startswith("SIP/2.0 403 no X-Gateway-Source")
                assert (await ask(edge, "INVITE", "x", body=sdp())).startswith("SIP/2.0 400 an X-Gateway-Source that")
                assert (await ask(edge, "OPTIONS", "")).startswith("SIP/2.0 200")  # is it alive
                assert (await ask(stranger, "INVITE", "udp;192.0.2.7:5060", body=sdp())).startswith("SIP/2.0 403 Forb")
            assert not here.seen(IncomingInvite)
    told_of = [log for log in logs if log["event"] == "sip_edge_without_source"]
    assert [log["problem"] for log in told_of][:1] == ["no X-Gateway-Source"]
    assert "have the edge" in told_of[0]["detail"]


async def test_without_edges_a_stranger_cannot_say_who_it_is() -> None:
    async with sip_agent(trunks={"pbx": TRUNKS["pbx"]}, allow_from="127.0.0.1") as here:
        with caller(here) as stranger:
            answer = await ask(stranger, "INVITE", "udp;198.51.100.7:5060", body=sdp())
            assert answer.startswith("SIP/2.0 200"), answer
            invite = here.seen(IncomingInvite)[0]
            assert invite.source.startswith("127.0.0.1:")
            assert invite.trunk == ""
            assert "x-gateway-source" not in invite.headers


async def test_an_edge_cancels_without_a_source() -> None:
    async with sip_agent(PjLeg.ring, **EDGES) as here:
        with caller(here) as edge:
            edge.send(edge.request("INVITE", branch="one", body=FAR, more=told("udp;192.0.2.7:5060")))
            await until(lambda: here.legs)
            assert (await ask(edge, "CANCEL", "", branch="one")).startswith("SIP/2.0 200")
            await until(lambda: here.seen(LegClosed))


async def test_a_trace_shows_who_called_and_not_the_edge(tmp_path: Path) -> None:
    async with sip_agent(lambda leg: leg.hang_up(486, "Busy"), trace="all", trace_folder=tmp_path, **EDGES) as here:
        with caller(here) as edge:
            answer = await ask(edge, "INVITE", "udp;[2001:db8::7]:5060", body=FAR)
            assert answer.startswith("SIP/2.0 486"), answer
            edge.send(edge.request("ACK", to_tag=tag_of(answer)))
            await until(lambda: [note for note in here.seen(Noted) if note.name == "traced"])
    (ladder,) = tmp_path.glob("*.txt")
    text = ladder.read_text()
    assert "gateway -> [2001:db8::7]:5060" in text
    assert "127.0.0.1:" not in "".join(line for line in text.splitlines() if line.startswith("==="))


async def test_sip_and_rtp_may_have_different_addresses() -> None:
    for media, bound in (("127.0.0.9", "127.0.0.9"), ("192.0.2.1", "0.0.0.0")):
        async with sip_agent(ring_and_answer, media_address=media, **EDGES) as here:
            with caller(here) as edge:
                answer = await ask(edge, "INVITE", "udp;127.0.0.1:5060", body=sdp())
                assert f"c=IN IP4 {media}\r\n" in answer
                assert f"Contact: <sip:gateway@127.0.0.1:{here.port}>" in answer, answer
                port = int(re.findall(r"m=audio (\d+)", answer)[0])
                assert bound in _bound_to(port)


def _bound_to(port: int) -> set[str]:
    """Return the addresses that a UDP port of this machine is bound to."""
    found = set()
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        address, number = line.split()[1].split(":")
        if int(number, 16) == port:
            found.add(".".join(str(byte) for byte in reversed(bytes.fromhex(address))))
    return found


async def test_calls_leave_through_the_edge_and_no_name_is_looked_up(tmp_path: Path) -> None:
    trunk = {"host": "sip.carrier.invalid:5071", "transport": "tls", "outbound_proxy": "proxy.carrier.invalid"}
    async with (
        Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path) as edge,
        sip_agent(trunks={"main": trunk}, edge=f"127.0.0.1:{edge.port}", tcp=False, **EDGES) as here,
    ):
        leg = here.call("1000", trunk="main")
        await until(lambda: here.seen(MediaUp))
        leg.hang_up(200, "done")
        await until(lambda: here.seen(LegClosed))
        assert await edge.finish() == 0, edge.output
        (asked,) = edge.received("INVITE")
        assert asked.first_line == "INVITE sip:1000@sip.carrier.invalid:5071;transport=tls SIP/2.0"
        routes = re.findall(r"^Route: (.*?)\r?$", asked.text, re.MULTILINE)
        assert routes == [f"<sip:127.0.0.1:{edge.port};lr>", "<sip:proxy.carrier.invalid;transport=tls;lr>"]
