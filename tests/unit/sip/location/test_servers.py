"""RFC 3263: from a host name to the servers behind it, with the records told by a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from gateway.sip.location.servers import (
    MAX_TTL_S,
    MIN_TTL_S,
    RETRY_S,
    DnsAnswer,
    Located,
    Naptr,
    NextHop,
    Server,
    Srv,
    Transport,
    locating,
)

pytestmark = pytest.mark.unit

Zone = Mapping[str, DnsAnswer]
BOTH: Sequence[Transport] = ("udp", "tcp")


def locate(
    zone: Zone, target: NextHop, supported: Sequence[Transport] = BOTH, chances: Mapping[str, float] | None = None
) -> tuple[Located, list[list[str]]]:
    """Return what was found, and the rounds of questions."""
    steps = locating(target, supported, lambda text: (chances or {}).get(text, 0.5))
    questions, rounds = next(steps), []
    while True:
        rounds.append([f"{question.kind} {question.name}" for question in questions])
        try:
            questions = steps.send([zone.get(asked, DnsAnswer(problem="no such name")) for asked in rounds[-1]])
        except StopIteration as end:
            located: Located = end.value
            return located, rounds


def a(*addresses: str, ttl_s: float = 300) -> DnsAnswer:
    return DnsAnswer(addresses, ttl_s)


def test_srv_records_are_tried_by_priority_and_each_has_its_own_port() -> None:
    zone = {
        "SRV _sip._udp.carrier.example": DnsAnswer((Srv(20, 0, 5062, "b.example"), Srv(10, 0, 5070, "a.example")), 120),
        "A a.example": a("192.0.2.1", ttl_s=600),
        "A b.example": a("192.0.2.2"),
    }
    located, rounds = locate(zone, NextHop("carrier.example", 0, "udp"))
    assert located.servers == (Server("192.0.2.1", 5070, "udp"), Server("192.0.2.2", 5062, "udp"))
    assert (located.ttl_s, located.problem, located.failed) == (120, "", False)
    assert rounds == [
        ["NAPTR carrier.example", "A carrier.example", "SRV _sip._udp.carrier.example"],
        ["A a.example", "A b.example"],
    ]


def test_naptr_says_where_the_srv_records_are_and_which_transport_is_preferred() -> None:
    zone = {
        "NAPTR carrier.example": DnsAnswer(
            (
                Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.carrier.example"),
                Naptr(100, 20, "S", "SIP+D2U", "_sip._udp.far.example"),
                Naptr(100, 10, "s", "sip+d2t", "_sip._tcp.far.example"),
                Naptr(100, 5, "u", "E2U+sip", ""),
                Naptr(110, 1, "s", "SIP+D2U", "_sip._udp.last.example"),
            ),
            900,
        ),
        "SRV _sip._tcp.far.example": DnsAnswer((Srv(1, 1, 5060, "tcp.example"),)),
        "SRV _sip._udp.far.example": DnsAnswer((Srv(1, 1, 5060, "udp.example"),)),
        "A tcp.example": a("192.0.2.1"),
        "A udp.example": a("192.0.2.2"),
    }
    located, rounds = locate(zone, NextHop("carrier.example"))
    # SIPS is not among our transports, and of the rest only the lowest order counts
    assert [str(server) for server in located.servers] == ["192.0.2.1:5060/tcp", "192.0.2.2:5060/udp"]
    assert rounds[1] == ["SRV _sip._tcp.far.example", "SRV _sip._udp.far.example"]
    located, _ = locate(zone, NextHop("carrier.example", 0, "udp"))
    assert [str(server) for server in located.servers] == ["192.0.2.2:5060/udp"]


def test_tls_has_records_and_a_port_of_its_own() -> None:
    zone = {
        "SRV _sips._tcp.carrier.example": DnsAnswer((Srv(1, 1, 5099, "a.example"),)),
        "A a.example": a("192.0.2.1"),
        "A plain.example": a("192.0.2.9"),
    }
    located, _ = locate(zone, NextHop("carrier.example", 0, "tls"))
    assert located.servers == (Server("192.0.2.1", 5099, "tls"),)
    located, _ = locate(zone, NextHop("plain.example", 0, "tls"))
    assert located.servers == (Server("192.0.2.9", 5061, "tls"),)


@pytest.mark.parametrize("target", [NextHop("plain.example"), NextHop("plain.example", 0, "udp")])
def test_a_name_without_srv_records_is_the_server_itself(target: NextHop) -> None:
    located, rounds = locate({"A plain.example": a("192.0.2.7", ttl_s=30)}, target)
    assert len(rounds) == 1
    assert located == Located((Server("192.0.2.7", 5060, "udp"),), 30)


def test_an_address_record_beside_an_srv_record_is_not_used() -> None:
    zone = {
        "SRV _sip._udp.both.example": DnsAnswer((Srv(10, 5, 5080, "node1.example"),)),
        "A node1.example": a("192.0.2.22"),
        "A both.example": a("192.0.2.99"),
    }
    located, _ = locate(zone, NextHop("both.example", 0, "udp"))
    assert located.servers == (Server("192.0.2.22", 5080, "udp"),)


@pytest.mark.parametrize("target", [NextHop("carrier.example", 5080), NextHop("pbx")])
def test_a_name_with_a_port_or_without_a_dot_has_no_srv_records(target: NextHop) -> None:
    located, rounds = locate({f"A {target.host}": a("192.0.2.7")}, target)
    assert located.servers == (Server("192.0.2.7", target.port or 5060, "udp"),)
    assert rounds == [[f"A {target.host}"]]


def test_servers_of_one_priority_share_the_load_by_weight() -> None:
    records = (Srv(1, 10, 5060, "light.example"), Srv(1, 90, 5060, "heavy.example"), Srv(1, 0, 5060, "idle.example"))
    zone = {
        "SRV _sip._udp.c.example": DnsAnswer(records),
        **{f"A {record.target}": a(f"192.0.2.{record.weight + 1}") for record in records},
    }
    first = {"light.example": 0, "heavy.example": 0, "idle.example": 0}
    for draw in range(1, 40):
        for other in range(1, 40):
            drawn = {"light.example:5060/udp": draw / 40, "heavy.example:5060/udp": other / 40}
            located, _ = locate(zone, NextHop("c.example", 0, "udp"), chances=drawn)
            assert located.servers[-1].address == "192.0.2.1"  # without a weight it is the last
            first["light.example" if located.servers[0].address == "192.0.2.11" else "heavy.example"] += 1
    assert first["light.example"] / (39 * 39) == pytest.approx(0.1, abs=0.03)


def test_a_dot_as_the_target_says_that_there_is_no_service() -> None:
    located, _ = locate({"SRV _sip._udp.no.example": DnsAnswer((Srv(0, 0, 0, ""),))}, NextHop("no.example", 0, "udp"))
    assert located.servers == ()
    assert located.problem == "no.example says that it has no SIP service (its SRV record names no host)"


def test_a_name_that_nobody_knows_is_told_with_its_reason_and_asked_for_again_soon() -> None:
    located, _ = locate({}, NextHop("gone.example", 0, "udp"))
    assert located == Located((), RETRY_S, "gone.example has no address: no such name")


def test_a_name_with_ipv6_addresses_alone_is_told_so() -> None:
    located, rounds = locate({"AAAA six.example": a("2001:db8::1")}, NextHop("six.example", 0, "udp"))
    assert located.problem == "six.example has IPv6 addresses alone, and this build of pjsua2 has no IPv6"
    assert rounds[-1] == ["AAAA six.example"]


def test_a_target_without_an_address_is_passed_over() -> None:
    zone = {
        "SRV _sip._udp.c.example": DnsAnswer((Srv(1, 0, 5060, "gone.example"), Srv(2, 0, 5060, "here.example"))),
        "A here.example": a("192.0.2.2", "192.0.2.3"),
    }
    located, _ = locate(zone, NextHop("c.example", 0, "udp"))
    assert sorted(server.address for server in located.servers) == ["192.0.2.2", "192.0.2.3"]


def test_name_servers_that_do_not_answer_are_no_reason_to_say_that_there_is_nothing() -> None:
    silent = DnsAnswer(problem="no name server answered within 4 s", failed=True)
    nothing, _ = locate(
        {f"{kind} c.example": silent for kind in ("NAPTR", "A")} | {"SRV _sip._udp.c.example": silent},
        NextHop("c.example", 0, "udp"),
    )
    assert nothing == Located((), RETRY_S, "c.example has no address: no name server answered within 4 s", failed=True)
    # An address is better than nothing, but not better than the servers that an SRV record named before.
    zone = {"SRV _sip._udp.c.example": silent, "A c.example": a("192.0.2.7")}
    address, _ = locate(zone, NextHop("c.example", 0, "udp"))
    assert address == Located((Server("192.0.2.7", 5060, "udp"),), RETRY_S, failed=True)
    # NAPTR alone may be missing: some name servers know no such thing.
    zone = {
        "NAPTR c.example": silent,
        "SRV _sip._udp.c.example": DnsAnswer((Srv(1, 1, 5060, "a.example"),)),
        "A a.example": a("192.0.2.8"),
    }
    located, _ = locate(zone, NextHop("c.example", 0, "udp"))
    assert located == Located((Server("192.0.2.8", 5060, "udp"),), 300)


@pytest.mark.parametrize(("ttl_s", "held_s"), [(0, MIN_TTL_S), (77, 77), (86400, MAX_TTL_S)])
def test_what_is_found_holds_as_long_as_its_records_within_bounds(ttl_s: float, held_s: float) -> None:
    located, _ = locate({"A c.example": a("192.0.2.7", ttl_s=ttl_s)}, NextHop("c.example", 0, "udp"))
    assert located.ttl_s == held_s


def test_the_shortest_time_of_all_records_counts() -> None:
    zone = {
        "SRV _sip._udp.c.example": DnsAnswer((Srv(1, 1, 5060, "a.example"),), 20),
        "A a.example": a("192.0.2.7", ttl_s=900),
    }
    assert locate(zone, NextHop("c.example", 0, "udp"))[0].ttl_s == 20


def test_a_name_with_hundreds_of_records_costs_few_questions() -> None:
    zone = {
        "NAPTR big.example": DnsAnswer(
            tuple(Naptr(1, at, "s", "SIP+D2U", f"_sip._udp.{at}.example") for at in range(300))
        ),
        **{
            f"SRV _sip._udp.{at}.example": DnsAnswer(
                tuple(Srv(1, 1, 5060, f"{at}-{host}.example") for host in range(300))
            )
            for at in range(300)
        },
    }
    located, rounds = locate(zone, NextHop("big.example"))
    assert located.servers == ()
    assert sum(map(len, rounds)) <= 50
