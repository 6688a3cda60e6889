"""
Where a request really comes from: its sender's address, or what an edge says of it. No I/O.

An edge is a SIP proxy in front of the worker. It removes ``X-Gateway-Source`` from what comes in, and adds one to every
request that it relays: ``TRANSPORT;ADDRESS:PORT[;TLS-NAME]``, such as ``udp;192.0.2.7:5060`` or
``tls;[2001:db8::7]:5061;pbx.example.com``. The name is the one in the certificate that the sender proved to have.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from gateway.sip.core.message import Message

SOURCE_HEADER = "x-gateway-source"
_WRITTEN = re.compile(rf"\n{SOURCE_HEADER}[ \t]*:([^\r\n]*)", re.IGNORECASE)
_VALUE = re.compile(
    r"(udp|tcp|tls|ws|wss);(?:([0-9.]{7,15})|\[([0-9a-f:.]{2,45})\]):([0-9]{1,5})(?:;([a-z0-9._*-]{1,253}))?", re.I
)
_SITE_BITS = 64  # of an IPv6 address: whoever has one has all that begin alike


@dataclass(frozen=True, slots=True)
class Source:
    """
    Who sent a message.

    Attributes:
        host: IPv4 or IPv6 address, without brackets.
        port: its port.
        transport: ``udp``, ``tcp``, ``tls``; empty where nobody says.
        tls_name: name in the certificate that an edge has verified; empty without one.
        edge: it is an edge that speaks for itself.
    """

    host: str
    port: int = 0
    transport: str = ""
    tls_name: str = ""
    edge: bool = False

    @classmethod
    def at(cls, address: str) -> Source:
        """Return the source at ``192.0.2.7:5060``, ``[2001:db8::7]:5060``, or an address without port."""
        host, _, port = address.rpartition(":") if address.count(":") == 1 or "]:" in address else (address, "", "")
        return cls(host.strip("[]"), int(port) if port.isdecimal() else 0)

    @property
    def site(self) -> str:
        """What its rate is counted by: an IPv4 address, or the network of 64 bits that an IPv6 address is in."""
        if ":" not in self.host:
            return self.host
        return str(ipaddress.ip_network(f"{self.host}/{_SITE_BITS}", strict=False))

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return self.host.startswith("127.") or self.host == "::1"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def source_told(text: str) -> Source | None:
    """
    Return the source that the edge has written into a request; None where it wrote none.

    Args:
        text: the whole message, which need not be a well-formed one.

    Raises:
        ValueError: there are two, or one that cannot be read; the text says which.
    """
    values = _WRITTEN.findall(text.partition("\r\n\r\n")[0])
    if not values:
        return None
    if len(values) > 1:
        raise ValueError("two X-Gateway-Source headers")
    found = _VALUE.fullmatch(values[0].strip(" \t"))
    if found is None:
        raise ValueError("an X-Gateway-Source that is no TRANSPORT;ADDRESS:PORT[;TLS-NAME]")
    transport, ipv4, ipv6, port, name = found.groups()
    try:
        address = ipaddress.IPv4Address(ipv4) if ipv4 else ipaddress.IPv6Address(ipv6)
    except ValueError:
        raise ValueError("an X-Gateway-Source without a valid address") from None
    if not 0 < int(port) < 65536:
        raise ValueError("an X-Gateway-Source without a valid port")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return Source(str(mapped or address), int(port), transport.lower(), (name or "").lower())


def transport_of(message: Message) -> str:
    """Return the transport that a request came over as its topmost Via has it: ``udp``, ``tcp``, ``tls``."""
    via = message.first("via").partition(",")[0]
    return via.partition("/")[2].partition("/")[2].split(maxsplit=1)[0].lower()
