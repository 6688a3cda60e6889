"""
Which servers a host name leads to, by RFC 3263 (locating SIP servers) and RFC 2782 (SRV). Pure: no I/O, no clock.

``locating`` is a generator: it yields the questions it has for the name servers, is sent their answers, and returns
what came of them. Whoever drives it does the I/O. Questions that do not depend on each other are asked together: first
NAPTR, SRV and the name's own address, which most names have alone; then the SRV records that NAPTR named, if they are
others; then the addresses of their hosts.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Transport = Literal["udp", "tcp", "tls"]

DEFAULT_PORTS: dict[Transport, int] = {"udp": 5060, "tcp": 5060, "tls": 5061}
MIN_TTL_S, MAX_TTL_S = 10.0, 3600.0
RETRY_S = 30.0
"""How long it holds that a name has no address, or that the name servers do not answer."""
_SERVICES: dict[str, Transport] = {"sip+d2u": "udp", "sip+d2t": "tcp", "sips+d2t": "tls"}
_SRV_LABELS: dict[Transport, str] = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}
_MAX_SERVERS = 16
_MAX_SERVICES = 6


@dataclass(frozen=True, slots=True)
class NextHop:
    """
    Where a request is to go, as its topmost Route or its Request-URI says.

    Attributes:
        host: name or IPv4 address, in lower case.
        port: 0 when the URI names none.
        transport: None when the URI names none.
    """

    host: str
    port: int = 0
    transport: Transport | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """One address that takes requests."""

    address: str
    port: int
    transport: Transport

    def __str__(self) -> str:
        return f"{self.address}:{self.port}/{self.transport}"


@dataclass(frozen=True, slots=True)
class Located:
    """
    What a host name leads to.

    Attributes:
        servers: in the order in which they are to be tried; none when there is no address.
        ttl_s: how long that holds.
        problem: why there is none, for people.
        failed: a name server did not answer, so an earlier result is better than this one.
    """

    servers: tuple[Server, ...]
    ttl_s: float
    problem: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Naptr:
    """A NAPTR record (RFC 3403)."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Srv:
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question for the name servers. Names are absolute, without the dot at their end."""

    kind: Literal["NAPTR", "SRV", "A", "AAAA"]
    name: str


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """
    What the name servers know.

    Attributes:
        records: of the kind that was asked for; of A and AAAA the addresses as text.
        ttl_s: how long they hold.
        problem: why there are none, for people.
        failed: they did not answer, or could not; what they know is unknown.
    """

    records: tuple[Naptr | Srv | str, ...] = ()
    ttl_s: float = MAX_TTL_S
    problem: str = ""
    failed: bool = False


Locating = Generator[Sequence[Question], Sequence[DnsAnswer], Located]
Chance = Callable[[str], float]
"""
Gives a number above 0 and up to 1 for a text, the same for the same text. So the order of equal servers differs from
process to process, as their weights ask, and stays while a process lives: a registration is refreshed where it is.
"""


def is_address(host: str) -> bool:
    """Return whether a host is an IPv4 address already."""
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def server_at(target: NextHop) -> Server:
    """Return the server that a target with an IPv4 address for a host names."""
    transport = target.transport or "udp"
    return Server(target.host, target.port or DEFAULT_PORTS[transport], transport)


def locating(target: NextHop, supported: Sequence[Transport], chance: Chance) -> Locating:
    """
    Find the servers of a target.

    Args:
        target: whose host is a name.
        supported: transports that this process has, the preferred one first.
        chance: spreads the load over servers that are equal.
    """
    wanted = (target.transport,) if target.transport is not None else tuple(supported)
    if target.port or "." not in target.host:
        transport = target.transport or "udp"
        port = target.port or DEFAULT_PORTS[transport]
        return (yield from _addresses([(transport, Srv(0, 0, port, target.host))], {}, MAX_TTL_S, chance, failed=False))
    first = [(transport, f"{_SRV_LABELS[transport]}.{target.host}") for transport in wanted]
    naptr, own, *srv = yield [
        Question("NAPTR", target.host),
        Question("A", target.host),
        *(Question("SRV", name) for _, name in first),
    ]
    known = {name: answer for (_, name), answer in zip(first, srv, strict=True)}
    services = _services(naptr, wanted)[:_MAX_SERVICES] or first
    missing = [name for _, name in services if name not in known]
    if missing:
        more = yield [Question("SRV", name) for name in missing]
        known |= dict(zip(missing, more, strict=True))
    answers = [(transport, known[name]) for transport, name in services]
    found = [(transport, record) for transport, answer in answers for record in _in_order(answer, transport, chance)]
    found = found[:_MAX_SERVERS]  # whoever has us look up a name writes its records, too
    failed = not found and any(answer.failed for _, answer in answers)
    if not found:  # RFC 3263 section 4.2: no SRV records, so the name itself
        transport = target.transport or "udp"
        found = [(transport, Srv(0, 0, DEFAULT_PORTS[transport], target.host))]
    if all(record.target == "" for _, record in found):  # RFC 2782: a single dot
        return Located((), RETRY_S, f"{target.host} says that it has no SIP service (its SRV record names no host)")
    times = [answer.ttl_s for answer in (naptr, *(answer for _, answer in answers)) if answer.records]
    return (yield from _addresses(found, {target.host: own}, min(times, default=MAX_TTL_S), chance, failed=failed))


def _services(naptr: DnsAnswer, wanted: Sequence[Transport]) -> list[tuple[Transport, str]]:
    """Return the SRV names that NAPTR records give, best first (RFC 3263 section 4.1)."""
    records = [
        (record, _SERVICES[record.service.lower()])
        for record in naptr.records
        if isinstance(record, Naptr) and record.flags.lower() == "s" and record.service.lower() in _SERVICES
    ]
    records = [(record, transport) for record, transport in records if transport in wanted]
    lowest = min((record.order for record, _ in records), default=0)
    best = sorted((entry for entry in records if entry[0].order == lowest), key=lambda entry: entry[0].preference)
    return [(transport, record.replacement) for record, transport in best]


def _in_order(answer: DnsAnswer, transport: Transport, chance: Chance) -> list[Srv]:
    """Sort SRV records by priority, and those of one priority by chance and weight."""

    def rank(record: Srv) -> tuple[int, bool, float]:
        drawn = chance(f"{record.target}:{record.port}/{transport}")
        # The least of exponentially distributed numbers, each divided by its weight, is a weighted draw. Records
        # without a weight come after those that have one (RFC 2782: "a very small chance").
        return record.priority, record.weight == 0, -math.log(drawn) / (record.weight or 1)

    return sorted((record for record in answer.records if isinstance(record, Srv)), key=rank)


def _addresses(
    found: Sequence[tuple[Transport, Srv]],
    known: Mapping[str, DnsAnswer],
    ttl_s: float,
    chance: Chance,
    *,
    failed: bool,
) -> Locating:
    """Ask for the addresses of the hosts that are not known yet, and put everything together."""
    hosts = list(dict.fromkeys(record.target for _, record in found if record.target))
    missing = [host for host in hosts if host not in known]
    more = (yield [Question("A", host) for host in missing]) if missing else []
    known = {**known, **dict(zip(missing, more, strict=True))}
    answers = [known[host] for host in hosts]
    servers = tuple(
        dict.fromkeys(
            Server(address, record.port, transport)
            for transport, record in found
            if record.target
            for address in sorted(_texts(known[record.target].records), key=chance)
        )
    )
    if servers:
        least = min(ttl_s, *(answer.ttl_s for answer in answers if answer.records))
        limit = RETRY_S if failed else MAX_TTL_S
        return Located(servers[:_MAX_SERVERS], min(max(least, MIN_TTL_S), limit), failed=failed)
    failed = failed or any(answer.failed for answer in answers)
    newer = [] if failed else (yield [Question("AAAA", host) for host in hosts])
    if any(answer.records for answer in newer):
        problem = f"{hosts[0]} has IPv6 addresses alone, and this build of pjsua2 has no IPv6"
    else:
        problem = "; ".join(f"{host} has no address: {known[host].problem or 'no A record'}" for host in hosts[:3])
    return Located((), RETRY_S, problem, failed=failed)


def _texts(records: Iterable[Naptr | Srv | str]) -> list[str]:
    return [record for record in records if isinstance(record, str)]
