"""
Our public address, as a STUN server sees it (RFC 5389).

The library has a STUN client of its own, which asks anew for every call and stops the whole SIP thread for 8 s when no
answer comes (measured, pjproject 2.15.1). So we ask once, at the start.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
from contextlib import suppress

import structlog

from gateway.settings.sip import SipSettings

STUN_PORT = 3478
ATTEMPTS, ATTEMPT_S = 5, 0.5
_COOKIE = 0x2112A442
_BINDING_REQUEST, _BINDING_RESPONSE = 0x0001, 0x0101
_MAPPED_ADDRESS, _XOR_MAPPED_ADDRESS = 0x0001, 0x0020
_IPV4 = 1

_log = structlog.get_logger(__name__)


def with_public_address(settings: SipSettings) -> SipSettings:
    """
    Return the settings with the address that their STUN server tells, if they name one and no address.

    Behind an edge it is the address of RTP alone.
    """
    behind_edge = bool(settings.edges)
    name = "media_address" if behind_edge else "public_address"
    if settings.stun_server is None or getattr(settings, name) is not None:
        return settings
    address = ask(settings.stun_server, "0.0.0.0" if behind_edge else settings.host)
    if address is None:
        _log.warning("stun_failed", server=settings.stun_server, detail=f"calls are set up without a {name}")
        return settings
    _log.info("stun_answered", server=settings.stun_server, **{name: address})
    return settings.model_copy(update={name: address})


def ask(server: str, local_host: str) -> str | None:
    """
    Return our IPv4 address as ``server`` (``host`` or ``host:port``) sees it; None when it does not tell in 2.5 s.

    Args:
        server: whom to ask.
        local_host: address that the question is sent from; ``0.0.0.0`` is any.
    """
    host, _, port = server.partition(":")
    transaction = secrets.token_bytes(12)
    request = struct.pack("!HHI", _BINDING_REQUEST, 0, _COOKIE) + transaction
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as question:
        question.settimeout(ATTEMPT_S)
        with suppress(OSError):
            question.bind((local_host, 0))
            question.connect((host, int(port or STUN_PORT)))
            for _ in range(ATTEMPTS):
                with suppress(TimeoutError, ConnectionRefusedError):
                    question.send(request)
                    address = mapped_address(question.recv(2048), transaction)
                    if address is not None:
                        return address
    return None


def mapped_address(response: bytes, transaction: bytes) -> str | None:
    """Return the IPv4 address in a binding response to ``transaction``; None from anything else."""
    head = struct.pack("!I", _COOKIE) + transaction
    if len(response) < 20 or response[:2] != struct.pack("!H", _BINDING_RESPONSE) or response[4:20] != head:
        return None
    plain, at = None, 20
    while at + 4 <= len(response):
        kind, length = struct.unpack_from("!HH", response, at)
        value = response[at + 4 : at + 4 + length]
        at += 4 + (length + 3) // 4 * 4
        if len(value) != length or length != 8 or value[1] != _IPV4:
            continue
        number = int.from_bytes(value[4:8], "big")
        if kind == _XOR_MAPPED_ADDRESS:
            return str(ipaddress.IPv4Address(number ^ _COOKIE))
        if kind == _MAPPED_ADDRESS:
            plain = str(ipaddress.IPv4Address(number))
    return plain
