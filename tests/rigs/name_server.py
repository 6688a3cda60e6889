"""A name server of the tests' own: real DNS messages over UDP, from the running loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


class NameServer(asyncio.DatagramProtocol):
    """
    Answers for the names it is given: ``{"NAME KIND": [record, ...]}``, records as a zone file writes them.

    Attributes:
        zone: may be changed while it runs.
        ttl_s: of every record.
        at: where it listens.
        silent: answer nothing at all.
        broken: answer SERVFAIL.
        asked: every question so far, as ``NAME KIND``.
    """

    def __init__(
        self, zone: Mapping[str, Iterable[str]], *, ttl_s: int = 60, at: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self._at = at
        self.zone = {name: list(records) for name, records in zone.items()}
        self.ttl_s = ttl_s
        self.silent = self.broken = False
        self.asked: list[str] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=self._at)
        self.port = int(self._transport.get_extra_info("sockname")[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}")
        if self.silent:
            return
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        records = self.zone.get(f"{name} {kind}", [])
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif records:
            answer.answer.append(dns.rrset.from_text(question.name, self.ttl_s, "IN", kind, *records))
        elif not any(known.partition(" ")[0] == name for known in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), source)
