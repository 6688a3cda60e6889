"""The questions that really go to name servers, and where else addresses come from."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.location.resolver import Resolver
from gateway.sip.location.servers import RETRY_S, Located, NextHop, Server
from tests.rigs.name_server import NameServer

pytestmark = pytest.mark.integration


def resolver(*servers: NameServer, hosts_file: Path = Path("/nowhere"), **given: object) -> Resolver:
    addresses = [server.address for server in servers]
    settings = SipSettings.model_validate({"name_servers": addresses, "dns_timeout_s": 2, **given})
    return Resolver(settings, {"main": TrunkSettings(host="192.0.2.1")}, hosts_file)


async def test_records_are_read_as_they_stand() -> None:
    zone = {
        "c.example NAPTR": ['10 5 "s" "SIP+D2T" "" _sip._tcp.c.example.', '20 5 "s" "SIP+D2U" "" _sip._udp.c.example.'],
        "_sip._tcp.c.example SRV": ["1 2 5070 Host.C.Example."],
        "host.c.example A": ["192.0.2.7"],
    }
    async with NameServer(zone, ttl_s=77) as names:
        located = await resolver(names).locate(NextHop("c.example"))
        assert located == Located((Server("192.0.2.7", 5070, "tcp"),), 77)
        assert sorted(names.asked) == sorted(
            [
                "c.example NAPTR",
                "c.example A",
                "_sip._udp.c.example SRV",
                "_sip._tcp.c.example SRV",
                "host.c.example A",
            ]
        )


async def test_a_name_server_that_says_nothing_is_followed_by_the_next() -> None:
    async with NameServer({}) as silent, NameServer({"c.example A": ["192.0.2.7"]}) as names:
        silent.silent = True
        began = time.monotonic()
        located = await resolver(silent, names, dns_timeout_s=4).locate(NextHop("c.example", 0, "udp"))
        print(f"second name server after {time.monotonic() - began:.2f} s")
        assert located.servers == (Server("192.0.2.7", 5060, "udp"),)


@pytest.mark.parametrize(
    ("silent", "problem"),
    [(True, "no name server answered within 0.5 s"), (False, "the name servers cannot answer (SERVFAIL or REFUSED)")],
)
async def test_name_servers_that_fail_are_told_apart_from_names_that_are_not_there(silent: bool, problem: str) -> None:
    async with NameServer({}) as names:
        names.silent, names.broken = silent, not silent
        located = await resolver(names, dns_timeout_s=0.5).locate(NextHop("c.example", 0, "udp"))
    assert located == Located((), RETRY_S, f"c.example has no address: {problem}", failed=True)


async def test_ipv6_addresses_are_passed_over_with_a_word() -> None:
    async with NameServer({"six.example AAAA": ["2001:db8::1"]}) as names:
        located = await resolver(names).locate(NextHop("six.example", 0, "udp"))
    assert located.problem == "six.example has IPv6 addresses alone, and this build of pjsua2 has no IPv6"


async def test_the_hosts_file_comes_first(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# ours\n192.0.2.9 pbx.example PBX # the new one\n::1 pbx.example\n192.0.2.8 other\n")
    async with NameServer({"pbx.example A": ["192.0.2.7"]}) as names:
        here = resolver(names, hosts_file=hosts)
        assert (await here.locate(NextHop("pbx.example", 5070, "udp"))).servers == (Server("192.0.2.9", 5070, "udp"),)
        assert (await here.locate(NextHop("pbx"))).servers == (Server("192.0.2.9", 5060, "udp"),)
        assert names.asked == []


async def test_the_system_is_asked_for_names_of_its_own() -> None:
    located = await resolver(name_servers=()).locate(NextHop("localhost", 5080))
    assert located.servers == (Server("127.0.0.1", 5080, "udp"),)


@pytest.mark.parametrize("host", ["a..b.example", "x" * 64 + ".example", "ex%41mple.example", "[::1]"])
async def test_a_name_that_is_none_has_no_address(host: str) -> None:
    async with NameServer({}) as names:
        located = await resolver(names).locate(NextHop(host, 0, "udp"))
        assert located.servers == ()
        assert located.problem
