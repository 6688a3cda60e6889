"""
Which addresses a webhook may be sent to. No I/O, but for the socket that is made.

Whoever writes an endpoint's URL, or runs the name server behind it, must not have the gateway speak to machines that
only it can reach: itself, its neighbours, a cloud's metadata service (server-side request forgery). A check of the name
would not do: it may resolve to something else a moment later. So every address is judged when a socket for it is made,
the last step before the connection, and there is no other way to one.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291 section 2.5.5.1, likewise
_NOT_GLOBAL: tuple[Network, ...] = tuple(
    map(
        ipaddress.ip_network,
        # IANA's registries of special-purpose addresses, where versions of Python differ; deprecated site-local ones.
        (
            "192.0.0.0/24",
            "192.88.99.0/24",
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",
            "3fff::/20",
            "5f00::/16",
            "fec0::/10",
        ),
    )
)


class AddressGuard:
    """
    Makes sockets for the connections of one endpoint, to addresses that are allowed alone.

    Args:
        allowed: networks that are allowed although they are no part of the Internet.
        encrypted: the connection is TLS; without it nothing leaves the allowed networks.
    """

    def __init__(self, allowed: Sequence[str], *, encrypted: bool) -> None:
        self._allowed: tuple[Network, ...] = tuple(map(ipaddress.ip_network, allowed))
        self._encrypted = encrypted

    def __call__(self, info: AddressInfo) -> socket.socket:
        """Return a socket for an address that was resolved. Raises ``OSError`` if it is not to be sent to."""
        family, kind, protocol, _, place = info
        problem = self.problem(str(place[0]))
        if problem:
            raise OSError(errno.EACCES, problem)
        return socket.socket(family, kind, protocol)

    def problem(self, text: str) -> str:
        """Return why an address is not to be sent to; empty if it may be."""
        try:
            address = _plain(ipaddress.ip_address(text.partition("%")[0]))
        except ValueError:
            return f"{text[:60]!r} is not an address"
        if any(address in network for network in self._allowed):
            return ""
        if not address.is_global or address.is_multicast or any(address in network for network in _NOT_GLOBAL):
            return f"{address} is no public address; add its network to webhooks.allow_private to allow it"
        if not self._encrypted:
            return f"{address} would be sent to in clear; use https, or add its network to webhooks.allow_private"
        return ""


def _plain(address: Address) -> Address:
    """Return the IPv4 address inside an IPv6 address that stands for one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
