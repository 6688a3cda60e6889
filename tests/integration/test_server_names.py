"""Host names of trunks and far ends, with a name server of the test's own, for which the SIP thread must never wait."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.call.actions import CallSecond
from gateway.call.events import IncomingInvite, LegClosed, MediaUp, SecondClosed, SecondUp
from gateway.child_process import ChildProcess
from gateway.free_port import free_port
from gateway.sip.native.library import PjString, function
from tests.rigs.kamailio import USER
from tests.rigs.name_server import NameServer
from tests.rigs.sip_agent import SipAgent, sip_agent
from tests.rigs.sipp import NOBODY, Sipp, play
from tests.rigs.sipp_steps import ANSWERED, EXPECT_BYE, REGISTER, granted, invite, refuse_request, refused, take_call
from tests.rigs.tls import TlsRegistrar, self_signed
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

OPTIONS = (
    "OPTIONS sip:gw@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{n};rport\r\n"
    "From: <sip:probe@127.0.0.1>;tag=1\r\nTo: <sip:gw@127.0.0.1>\r\nCall-ID: probe-{n}\r\nCSeq: 1 OPTIONS\r\n"
    "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


class Stall(asyncio.DatagramProtocol):
    """Asks with OPTIONS fifty times a second and keeps the longest time that an answer took."""

    def __init__(self, port: int) -> None:
        self.longest_s = 0.0
        self.answers = 0
        self._gateway = ("127.0.0.1", port)
        self._sent: dict[str, float] = {}

    async def __aenter__(self) -> Stall:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.2)
        self._task.cancel()
        self._transport.close()
        now = time.monotonic()
        self.longest_s = max([self.longest_s, *(now - at for at in self._sent.values() if now - at > 0.2)])

    def datagram_received(self, data: bytes, _source: tuple[str, int]) -> None:
        number = data.decode().partition("Call-ID: probe-")[2].partition("\r")[0]
        self.longest_s = max(self.longest_s, time.monotonic() - self._sent.pop(number, time.monotonic()))
        self.answers += 1

    async def _ask(self) -> None:
        port = self._transport.get_extra_info("sockname")[1]
        for number in range(100_000):
            self._sent[str(number)] = time.monotonic()
            self._transport.sendto(OPTIONS.format(port=port, n=number).encode(), self._gateway)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def named_line(names: NameServer, trunk: Mapping[str, object], **settings: object) -> AsyncIterator[SipAgent]:
    given: dict[str, Any] = {"name_servers": names.address, "dns_timeout_s": 1, "requests_per_second": 1000, **settings}
    async with sip_agent(trunks={"main": trunk} if trunk else {}, **given) as here:
        yield here


def two_servers(first: int, second: int) -> dict[str, list[str]]:
    return {
        "carrier.example NAPTR": ['10 10 "s" "SIP+D2U" "" _sip._udp.carrier.example.'],
        "_sip._udp.carrier.example SRV": [f"10 5 {first} a.carrier.example.", f"20 5 {second} b.carrier.example."],
        "a.carrier.example A": ["127.0.0.1"],
        "b.carrier.example A": ["127.0.0.1"],
    }


def registering(**given: object) -> dict[str, object]:
    return {"host": "carrier.example", "register": True, "username": USER, "password_from": "line", **given}


async def test_a_registration_goes_to_the_second_server_when_the_first_is_dead(tmp_path: Path) -> None:
    steps = (REGISTER, granted(600), REGISTER, granted(0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        dead.bind(("127.0.0.1", 0))
        async with Sipp(NOBODY, steps, tmp_path) as second:
            async with NameServer(two_servers(dead.getsockname()[1], second.port)) as names:
                began = time.monotonic()
                async with named_line(names, registering(), failover_s=1, allow_from="127.0.0.0/8") as here:
                    async with Stall(here.port) as stall:
                        await until(lambda: "registered" in here.trunk_states)
                    took_s = time.monotonic() - began
                    print(f"second server after {took_s:.2f} s, longest stall {stall.longest_s * 1000:.1f} ms")
                    assert here.trunk_states.count("failed") == 0
                    assert stall.longest_s < 1
                assert await second.finish() == 0, second.output
            asked = dead.recv(4000).decode()
        assert asked.startswith("REGISTER sip:carrier.example SIP/2.0")
        assert second.received("REGISTER")[0].first_line == "REGISTER sip:carrier.example SIP/2.0"


async def test_a_call_goes_to_the_second_server_when_the_first_is_dead_and_the_next_call_at_once(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        dead.bind(("127.0.0.1", 0))
        async with (
            Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path / "second") as second,
            NameServer(two_servers(dead.getsockname()[1], second.port)) as names,
            named_line(names, {"host": "carrier.example"}, failover_s=1, allow_from="127.0.0.0/8") as here,
            Stall(here.port) as stall,
        ):
            began = time.monotonic()
            leg = here.call("1000", trunk="main")
            await until(lambda: here.seen(MediaUp))
            print(f"answered by the second server after {time.monotonic() - began:.2f} s")
            assert not here.seen(LegClosed)
            leg.hang_up(200, "done")
            await until(lambda: here.seen(LegClosed))
            assert await second.finish() == 0, second.output
            assert len(second.received("INVITE")) == 1
            async with Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path / "again", port=second.port) as again:
                tried = len(_waiting(dead))
                leg = here.call("1000", trunk="main")
                await until(lambda: len(here.seen(MediaUp)) == 2)
                assert len(_waiting(dead)) == 0
                assert tried >= 1
                leg.hang_up(200, "done")
                assert await again.finish() == 0, again.output
        print(f"longest stall {stall.longest_s * 1000:.1f} ms")
        assert stall.longest_s < 1


def _waiting(receiver: socket.socket) -> list[bytes]:
    receiver.setblocking(False)
    found = []
    while True:
        try:
            found.append(receiver.recv(4000))
        except BlockingIOError:
            return found


async def test_a_server_that_answers_503_is_followed_by_the_next(tmp_path: Path) -> None:
    busy = '<recv request="INVITE"/>' + refuse_request("503 Service Unavailable", "Retry-After: 120")
    async with (
        Sipp(NOBODY, (busy, '<recv request="ACK"/>'), tmp_path / "busy") as first,
        Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path / "second") as second,
        NameServer(two_servers(first.port, second.port)) as names,
        named_line(names, {"host": "carrier.example"}) as here,
    ):
        leg = here.call("1000", trunk="main")
        await until(lambda: here.seen(MediaUp))
        leg.hang_up(200, "done")
        assert await second.finish() == 0, second.output
        assert await first.finish() == 0, first.output
        assert len(here.seen(LegClosed)) <= 1


async def test_a_connection_that_is_refused_leads_to_the_next_server(tmp_path: Path) -> None:
    steps = (REGISTER, granted(600), REGISTER, granted(0))
    nobody = free_port()
    zone = {
        "_sip._tcp.carrier.example SRV": [f"10 5 {nobody} a.carrier.example.", "20 5 {} b.carrier.example."],
        "a.carrier.example A": ["127.0.0.1"],
        "b.carrier.example A": ["127.0.0.1"],
    }
    async with Sipp(NOBODY, steps, tmp_path, transport="t1") as second:
        zone["_sip._tcp.carrier.example SRV"][1] = f"20 5 {second.port} b.carrier.example."
        async with NameServer(zone) as names:
            async with named_line(names, registering(transport="tcp")) as here:
                await until(lambda: "registered" in here.trunk_states)
                assert "failed" not in here.trunk_states
            assert await second.finish() == 0, second.output


async def test_the_calls_of_a_trunk_that_is_a_name_come_from_all_its_servers(tmp_path: Path) -> None:
    async with NameServer(two_servers(5060, 5062)) as names, named_line(names, {"host": "carrier.example"}) as here:
        await until(lambda: here.trunk_states == ["static", "static"])
        async with Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as caller:
            await until(lambda: here.seen(MediaUp))
            told = here.seen(IncomingInvite)[0]
            assert isinstance(told, IncomingInvite)
            assert told.trunk == "main"
            here.legs[0].hang_up(200, "done")
            assert await caller.finish() == 0, caller.output


async def test_a_name_that_cannot_be_resolved_at_the_start_is_told_and_found_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.sip.location.servers.RETRY_S", 1.0)
    async with NameServer({}) as names, named_line(names, {"host": "carrier.example"}) as here:
        await until(lambda: here.trunk_states == ["static", "failed"])
        assert here.changes[-1].reason == "carrier.example has no address: no such name"
        await play(here.port, tmp_path / "refused", invite(), refused(403))
        here.call("1000", trunk="main")
        await until(lambda: here.seen(LegClosed))
        (closed,) = here.seen(LegClosed)
        assert isinstance(closed, LegClosed)
        assert (closed.code, closed.reason) == (503, "carrier.example has no address: no such name")
        names.zone["carrier.example A"] = ["127.0.0.1"]
        await until(lambda: here.changes[-1].state == "static")
        async with Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as caller:
            await until(lambda: here.seen(MediaUp))
            here.legs[-1].hang_up(200, "done")
            assert await caller.finish() == 0, caller.output


async def test_a_registration_follows_as_soon_as_its_name_has_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.sip.location.servers.RETRY_S", 1.0)
    async with (
        Sipp(NOBODY, (REGISTER, granted(600), REGISTER, granted(0)), tmp_path) as registrar,
        NameServer({}) as names,
    ):
        async with named_line(names, registering(register_retry_s=600)) as here:
            await until(lambda: here.trunk_states == ["registering", "failed"])
            assert here.changes[-1].reason == "carrier.example has no address: no such name"
            names.zone = two_servers(registrar.port, registrar.port)
            await until(lambda: here.changes[-1].state == "registered")
        assert await registrar.finish() == 0, registrar.output


async def test_a_call_to_a_name_while_no_name_server_answers_stops_nobody(tmp_path: Path) -> None:
    async with NameServer({}) as names:
        names.silent = True
        async with named_line(names, {}) as here, Stall(here.port) as stall:
            for number in range(3):
                here.call(f"sip:1000@far{number}.example")
            await until(lambda: len(here.seen(LegClosed)) == 3)
            closed = here.seen(LegClosed)[0]
            assert isinstance(closed, LegClosed)
            assert (closed.code, closed.reason.partition(": ")[2]) == (503, "no name server answered within 1 s")
        print(f"longest stall {stall.longest_s * 1000:.1f} ms")
        assert stall.longest_s < 1


async def test_a_call_that_is_given_up_while_its_name_is_looked_up_is_never_placed(tmp_path: Path) -> None:
    async with NameServer({"far.example A": ["127.0.0.1"]}) as names:
        names.silent = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.bind(("127.0.0.1", 0))
            async with named_line(names, {}, dns_timeout_s=3) as here:
                leg = here.call(f"sip:1000@far.example:{far.getsockname()[1]}")
                await until(lambda: names.asked)
                leg.hang_up(200, "done")
                await asyncio.sleep(0.2)
                names.silent = False
                await until(lambda: here.seen(LegClosed))
            assert _waiting(far) == []


@pytest.mark.parametrize("name", ["nowhere.example", "nowhere"])
async def test_a_caller_whose_contact_cannot_be_resolved_stops_nobody(tmp_path: Path, name: str) -> None:
    async with NameServer({}) as names:
        names.silent = True
        async with named_line(names, {}, dns_timeout_s=2) as here, Stall(here.port) as stall:
            unreachable = invite().replace("<sip:caller@[local_ip]:[local_port];", f"<sip:caller@{name};")
            async with Sipp(here.port, (unreachable, ANSWERED), tmp_path):
                await until(lambda: here.seen(MediaUp))
                here.legs[0].hang_up(200, "done")
                await until(lambda: here.seen(LegClosed), limit_s=40)
                before = stall.answers
                await until(lambda: stall.answers > before + 50)
        assert ("nowhere.example A" in names.asked) is ("." in name)
        print(f"longest stall {stall.longest_s * 1000:.1f} ms")
        assert stall.longest_s < 1


async def test_names_of_this_machine_are_found_without_a_name_server(tmp_path: Path) -> None:
    async with NameServer({}) as names:
        async with (
            Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path) as callee,
            named_line(names, {}) as here,
        ):
            leg = here.call(f"sip:1000@localhost:{callee.port}")
            await until(lambda: here.seen(MediaUp))
            leg.hang_up(200, "done")
            assert await callee.finish() == 0, callee.output
        assert names.asked == []


async def test_the_library_looks_up_no_name_by_itself() -> None:
    """Names in SDP, in a TCP trunk's Contact: they would stop the SIP thread."""
    answers: list[tuple[int, int]] = []

    def look_up(_table: object) -> None:
        get = function("pj_getaddrinfo", ctypes.c_int, ctypes.c_int, *(ctypes.c_void_p,) * 3)
        found = ctypes.create_string_buffer(4096)
        for host in ("localhost", "192.0.2.7", socket.gethostname()):
            name, count = PjString.of(host), ctypes.c_uint(1)
            code = get(socket.AF_INET, ctypes.addressof(name), ctypes.addressof(count), ctypes.addressof(found))
            answers.append((code, count.value))

    async with NameServer({}) as names, named_line(names, {}) as here:
        here.sip.submit(look_up)
        await until(lambda: len(answers) == 3)
    (refused_code, _), address, _own = answers
    assert refused_code != 0
    assert address == (0, 1)


async def test_a_second_leg_goes_to_the_second_server_and_its_caller_hears_of_one_end(tmp_path: Path) -> None:
    busy = '<recv request="INVITE"/>' + refuse_request("503 Service Unavailable") + '<recv request="ACK"/>'
    async with (
        Sipp(NOBODY, (busy,), tmp_path / "busy") as first,
        Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path / "second") as second,
        NameServer(two_servers(first.port, second.port)) as names,
        named_line(names, {"host": "carrier.example"}, allow_from="127.0.0.0/8") as here,
        Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / "caller") as caller,
    ):
        await until(lambda: here.seen(MediaUp))
        here.legs[0].call_second(CallSecond("1000", trunk="main"))
        await until(lambda: here.seen(SecondUp))
        here.legs[0].drop_second()
        await until(lambda: here.seen(SecondClosed))
        here.legs[0].hang_up(200, "done")
        assert await caller.finish() == 0, caller.output
        assert await second.finish() == 0, second.output
        assert await first.finish() == 0, first.output
        assert len(here.seen(SecondClosed)) == 1


async def test_a_server_that_takes_a_connection_and_says_nothing_is_passed_over_and_tls_names_are_verified(
    tmp_path: Path,
) -> None:
    """The certificate must bear the trunk's name; the servers are others."""
    carrier = self_signed(tmp_path, "carrier", "DNS:carrier.example")
    mute = socket.create_server(("127.0.0.1", 0))
    with mute:
        async with TlsRegistrar(carrier) as registrar:
            zone = {
                "carrier.example NAPTR": ['10 10 "s" "SIPS+D2T" "" _sips._tcp.far.example.'],
                "_sips._tcp.far.example SRV": [
                    f"1 0 {mute.getsockname()[1]} a.far.example.",
                    f"2 0 {registrar.port} b.far.example.",
                ],
                "a.far.example A": ["127.0.0.1"],
                "b.far.example A": ["127.0.0.1"],
            }
            given = {"tls_authorities": carrier.certificate, "failover_s": 1}
            async with NameServer(zone) as names:
                async with named_line(names, registering(transport="tls"), **given) as here:
                    await until(lambda: "registered" in here.trunk_states)
                    assert "failed" not in here.trunk_states
                zone["other.example NAPTR"] = zone["carrier.example NAPTR"]
                names.zone = dict(zone)
                async with named_line(names, registering(transport="tls", host="other.example"), **given) as here:
                    await until(lambda: "failed" in here.trunk_states)
            assert "other.example" not in "".join(registrar.requests)


async def test_a_uri_without_a_transport_goes_by_the_one_that_naptr_prefers(tmp_path: Path) -> None:
    async with Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path, transport="t1") as callee:
        zone = {
            "far.example NAPTR": [
                '20 10 "s" "SIP+D2U" "" _sip._udp.far.example.',
                '10 10 "s" "SIP+D2T" "" _sip._tcp.far.example.',
            ],
            "_sip._tcp.far.example SRV": [f"0 0 {callee.port} far.example."],
            "far.example A": ["127.0.0.1"],
        }
        async with NameServer(zone) as names, named_line(names, {}) as here:
            leg = here.call("sip:1000@far.example")
            await until(lambda: here.seen(MediaUp))
            leg.hang_up(200, "done")
            assert await callee.finish() == 0, callee.output
        assert callee.received("INVITE")[0].first_line == "INVITE sip:1000@far.example SIP/2.0"


async def test_a_call_that_is_given_up_between_two_servers_ends(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for each in (dead, other):
            each.bind(("127.0.0.1", 0))
        async with (
            NameServer(two_servers(dead.getsockname()[1], other.getsockname()[1])) as names,
            named_line(names, {"host": "carrier.example"}, failover_s=1.5) as here,
        ):
            leg = here.call("1000", trunk="main")
            await until(lambda: _waiting(dead))
            leg.hang_up(487, "given up")
            await until(lambda: here.seen(LegClosed), limit_s=40)
            await asyncio.sleep(0.2)
            assert _waiting(other) == []
            assert len(here.seen(LegClosed)) == 1


async def test_a_stranger_whose_answers_are_to_go_to_a_name_stops_nobody() -> None:
    async with NameServer({}) as names:
        names.silent = True
        async with named_line(names, {}, dns_timeout_s=2) as here, Stall(here.port) as stall:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for number in range(40):
                    asked = OPTIONS.format(port=9, n=f"s{number}").replace(";rport", f";maddr=n{number}.example")
                    stranger.sendto(asked.encode(), ("127.0.0.1", here.port))
            await until(lambda: stall.answers > 50)
        print(f"longest stall {stall.longest_s * 1000:.1f} ms, {len(names.asked)} questions")
        assert stall.longest_s < 1


async def test_check_says_where_a_trunk_is(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        '[trunks.here]\nhost = "carrier.example"\n[trunks.gone]\nhost = "gone.example"\n'
    )
    plan = Path(__file__).parents[2] / "dialplans" / "hello.yaml"
    async with NameServer(two_servers(5080, 5090)) as names:
        command = (sys.executable, "-m", "gateway", "check", "--dialplan", str(plan))
        environment = {"PATH": "/usr/bin:/bin", "GATEWAY_SIP__NAME_SERVERS": names.address, "COLUMNS": "200"}
        async with ChildProcess(*command, environment=environment, folder=tmp_path) as process:
            assert await process.wait(60) == 0, process.output
    told = " ".join(process.output.split())
    assert "Trunk here: carrier.example resolves to 127.0.0.1:5080/udp, then 127.0.0.1:5090/udp" in told
    assert "Trunk gone: gone.example has no address: no such name." in told
