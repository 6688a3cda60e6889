"""The address of this machine that others see."""

from __future__ import annotations

import socket
from contextlib import suppress

ANY = "0.0.0.0"
LOOPBACK = "127.0.0.1"
SOMEWHERE = "192.0.2.1"
"""Far away on every machine (RFC 5737)."""


def own_address_towards(host: str = SOMEWHERE) -> str:
    """Return the IPv4 address that packets to ``host``, an address, leave from; 127.0.0.1 where none would."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing: it only asks which way a packet would take
        return str(probe.getsockname()[0])
    return LOOPBACK
