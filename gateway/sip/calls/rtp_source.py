"""
RTP from the far end only: a filter in the kernel before a call's sockets (``rtp_source: signalled``).

PJMEDIA follows RTP that comes from elsewhere, as NAT requires, and has no switch for it. A classic BPF program on the
socket drops what a stranger sends before the library reads it; sending is not touched. Linux alone has it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_IP_SOURCE = 0xFFF00000 + 12  # SKF_NET_OFF: the source address in the IPv4 header
_UDP_SOURCE = 0  # the source port; of UDP sockets the program sees the UDP header first
_LOAD_WORD, _LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06  # linux/bpf_common.h
_WHOLE, _NOTHING = 0xFFFF, 0
_OPEN_FILES = "/proc/self/fd"

Address = tuple[str, int]


def address_of(text: str) -> Address | None:
    """Return address and port of ``192.0.2.1:4000``; None of anything else, and on hold (``0.0.0.0``)."""
    host, _, port = text.rpartition(":")
    try:
        address = IPv4Address(host)
    except ValueError:
        return None
    return None if address.is_unspecified or not port.isdecimal() or port == "0" else (host, int(port))


def take_only_from(far_end: Address, rtp_port: int, rtcp_port: int) -> None:
    """
    Have the kernel drop what comes to two ports of this process from anyone else; what waits there is dropped, too.

    RTP must come from address and port (symmetric RTP, RFC 4961), RTCP from the address: devices send it from any port.

    Raises:
        OSError: this system has no such filters, or no such sockets are open.
    """
    host, port = far_end
    _guard(rtp_port, _program(host, port))
    _guard(rtcp_port, _program(host, None))


def _program(host: str, port: int | None) -> bytes:
    """Return instructions: code, how many to skip if true and if false, value (``struct sock_filter``)."""
    checks = [(_LOAD_WORD, _IP_SOURCE, int(IPv4Address(host)))]
    if port is not None:
        checks.append((_LOAD_HALF, _UDP_SOURCE, port))
    program = b""
    for number, (load, where, value) in enumerate(checks):
        to_drop = 2 * (len(checks) - number) - 1
        program += struct.pack("HBBI", load, 0, 0, where) + struct.pack("HBBI", _JUMP_EQUAL, 0, to_drop, value)
    return program + struct.pack("HBBI", _RETURN, 0, 0, _WHOLE) + struct.pack("HBBI", _RETURN, 0, 0, _NOTHING)


def _guard(port: int, program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(program) // struct.calcsize("HBBI"), ctypes.addressof(instructions))
    with _socket_at(port) as found:
        found.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
        with contextlib.suppress(BlockingIOError):
            while True:
                found.recv(1, socket.MSG_DONTWAIT)


@contextlib.contextmanager
def _socket_at(port: int) -> Iterator[socket.socket]:
    """Lend the UDP socket of this process that is bound to a port. It stays the library's."""
    for name in os.listdir(_OPEN_FILES):
        try:
            found = socket.socket(fileno=int(name))
        except OSError:  # no socket, or gone by now
            continue
        try:
            if found.family == socket.AF_INET and found.type == socket.SOCK_DGRAM and found.getsockname()[1] == port:
                yield found
                return
        finally:
            found.detach()
    raise OSError(f"no UDP socket is bound to port {port}")
