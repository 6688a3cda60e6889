"""Asks the name servers, on the loop: NAPTR, SRV and A records, the hosts file, and the system for names of its own."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver

from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.location.servers import (
    DnsAnswer,
    Located,
    Naptr,
    NextHop,
    Question,
    Srv,
    Transport,
    is_address,
    locating,
    server_at,
)
from gateway.sip.location.trunk_names import next_hop
from gateway.threads import new_thread, runs_on

DNS_PORT = 53
HOSTS_FILE = Path("/etc/hosts")
SYSTEM_TTL_S = 60.0
"""How long an address from the system or its hosts file is valid: neither says."""
_FIRST_TRY_S = 1.5


class Resolver:
    """
    Finds the servers of host names (RFC 3263). Keeps nothing; thread: loop.

    Addresses come from the hosts file, else from the name servers, else from the system, which knows search domains and
    whatever else ``/etc/nsswitch.conf`` names. With name servers of our own the system is asked only for names without
    a dot.

    Args:
        settings: name servers, the limit of a question, and which transports there are.
        trunks: one that is reached over TLS makes this process able to speak it.
        hosts_file: names of this machine.
    """

    def __init__(
        self, settings: SipSettings, trunks: Mapping[str, TrunkSettings], hosts_file: Path = HOSTS_FILE
    ) -> None:
        self._settings = settings
        tls = settings.tls or any(trunk.transport == "tls" for trunk in trunks.values())
        has: dict[Transport, bool] = {"udp": settings.udp, "tcp": settings.tcp, "tls": tls}
        self._supported = [transport for transport, here in has.items() if here]
        self._hosts_file = hosts_file
        self._seed = secrets.token_hex(8)

    @runs_on("loop")
    async def locate(self, target: NextHop) -> Located:
        """Return the servers of a target; of an address, the address itself. Raises nothing."""
        if is_address(target.host):
            return Located((server_at(target),), SYSTEM_TTL_S)
        steps = locating(target, self._supported, self._chance)
        answers: Sequence[DnsAnswer] | None = None
        while True:
            try:
                questions = next(steps) if answers is None else steps.send(answers)
            except StopIteration as end:
                located: Located = end.value
                return located
            answers = await asyncio.gather(*(self._ask(question) for question in questions))

    def _chance(self, text: str) -> float:
        return 1.0 - random.Random(f"{self._seed}{text}").random()

    async def _ask(self, question: Question) -> DnsAnswer:
        if question.kind == "A":
            if is_address(question.name):  # against RFC 2782, and met all the same
                return DnsAnswer((question.name,))
            if found := addresses_in_hosts(question.name, self._hosts_file):
                return DnsAnswer(found, SYSTEM_TTL_S)
        clock = asyncio.get_running_loop().time
        due_at = clock() + self._settings.dns_timeout_s
        by_name_server = "." in question.name
        answer = await self._ask_name_servers(question) if by_name_server else DnsAnswer(problem="no such name")
        ours_alone = by_name_server and self._settings.name_servers
        if question.kind != "A" or answer.records or ours_alone or clock() >= due_at:
            return answer
        found = await _ask_system(question.name, due_at - clock())
        return DnsAnswer(found, SYSTEM_TTL_S) if found else answer

    async def _ask_name_servers(self, question: Question) -> DnsAnswer:
        try:
            resolver = self._name_servers()
            result = await resolver.resolve(
                dns.name.from_text(question.name),
                question.kind,
                raise_on_no_answer=False,
                lifetime=self._settings.dns_timeout_s,
                backend=dns.asyncbackend.get_backend("asyncio"),
            )
        except dns.resolver.NXDOMAIN:
            return DnsAnswer(problem="no such name")
        except dns.exception.Timeout:
            return DnsAnswer(problem=f"no name server answered within {self._settings.dns_timeout_s:g} s", failed=True)
        except dns.resolver.NoNameservers:
            return DnsAnswer(problem="the name servers cannot answer (SERVFAIL or REFUSED)", failed=True)
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            return DnsAnswer(problem=f"the name servers could not be asked: {error}", failed=True)
        if result.rrset is None:
            return DnsAnswer(problem=f"no {question.kind} record")
        return DnsAnswer(
            tuple(_record(question.kind, each) for each in result.rrset), float(result.chaining_result.minimum_ttl)
        )

    def _name_servers(self) -> dns.asyncresolver.Resolver:
        given = self._settings.name_servers
        resolver = dns.asyncresolver.Resolver(configure=not given)  # read anew: /etc/resolv.conf may have changed
        if given:
            resolver.nameservers = [
                dns.nameserver.Do53Nameserver(host, int(port or DNS_PORT))
                for host, _, port in (server.partition(":") for server in given)
            ]
        resolver.timeout = min(_FIRST_TRY_S, self._settings.dns_timeout_s / 2)
        return resolver


async def locate_trunks(settings: SipSettings, trunks: Mapping[str, TrunkSettings]) -> dict[str, Located]:
    """Return where each trunk is now. Thread: loop."""
    resolver = Resolver(settings, trunks)
    found = await asyncio.gather(*(resolver.locate(next_hop(trunk)) for trunk in trunks.values()))
    return dict(zip(trunks, found, strict=True))


def _record(kind: str, record: Any) -> Naptr | Srv | str:
    """Turn dnspython's record into ours."""
    if kind == "SRV":
        return Srv(record.priority, record.weight, record.port, _host(record.target))
    if kind == "NAPTR":
        flags, service = record.flags.decode("ascii", "replace"), record.service.decode("ascii", "replace")
        return Naptr(record.order, record.preference, flags, service, _host(record.replacement))
    return str(record.address)


def _host(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def addresses_in_hosts(name: str, hosts_file: Path = HOSTS_FILE) -> tuple[str, ...]:
    """Return the IPv4 addresses that a hosts file gives a name, which is in lower case; ``localhost`` needs none."""
    with contextlib.suppress(OSError, UnicodeError):
        lines = (line.partition("#")[0].lower().split() for line in hosts_file.read_text(encoding="utf-8").splitlines())
        if found := tuple(words[0] for words in lines if name in words[1:] and is_address(words[0])):
            return found
    return ("127.0.0.1",) if name == "localhost" else ()  # RFC 6761 section 6.3


async def _ask_system(name: str, limit_s: float) -> tuple[str, ...]:
    """
    Return the IPv4 addresses that the system knows of a name.

    The system cannot be interrupted, so it is asked on a daemon thread of its own: one that hangs holds up nothing,
    not even the end of the process.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def tell(found: tuple[str, ...]) -> None:
        if not answered.done():
            answered.set_result(found)

    def ask() -> None:
        found: tuple[str, ...] = ()
        with contextlib.suppress(OSError, ValueError):  # the second: text that is no name at all
            entries = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_DGRAM)
            found = tuple(dict.fromkeys(str(entry[4][0]) for entry in entries))
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, found)

    new_thread("lookup", ask, name="asyncio-getaddrinfo").start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            return await answered
    return ()
