"""
Says 513 to whoever sends a request that does not fit into the library's buffer of 4000 bytes, instead of nothing.

The library drops such a message when it cannot read it and tells only that. What came of it, its beginning, holds all
that a response repeats (RFC 3261 section 8.2.6).
"""

from __future__ import annotations

import ctypes
import ipaddress
import re
import secrets
import socket
import struct
from collections.abc import Callable
from typing import Any

from gateway.sip.envelope import BUFFER_BYTES
from gateway.sip.guard import answering
from gateway.sip.native import function, native

_MOST_ANSWERED_BYTES = 2000  # the answer is smaller than what drew it
_UDP = 1  # PJSIP_TRANSPORT_UDP
_REPEATED = re.compile(rb"^(?:via|v|from|f|to|t|call-id|i|cseq)[ \t]*:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*\r?$", re.I | re.M)
_VIA = re.compile(rb"^(?:via|v)[ \t]*:\s*SIP\s*/\s*2\.0\s*/\s*UDP\s+([0-9.]+)(?:\s*:\s*([0-9]{1,5}))?", re.I | re.M)


class _Dropped(ctypes.Structure):
    """``pjsip_tp_dropped_data`` (``pjsip/sip_transport.h``)."""

    _fields_ = (
        ("transport", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("status", ctypes.c_int),
    )


_OnDropped = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Dropped))


def answer_to(data: bytes) -> tuple[bytes, str, int] | None:
    """
    Return the response to the beginning of a request over UDP, and the address and port it goes to.

    None where there is nothing to answer: no request, an ACK, no Via with an IPv4 address, headers without end.
    """
    head = data.partition(b"\r\n\r\n")[0]
    words = head.partition(b"\n")[0].split()
    via = _VIA.search(head)
    if len(words) != 3 or words[2] != b"SIP/2.0" or words[0] == b"ACK" or via is None:
        return None
    try:
        host = str(ipaddress.IPv4Address(via[1].decode()))
    except ValueError:
        return None
    port = int(via[2] or 5060)
    lines = [line.group().strip() for line in _REPEATED.finditer(head)]
    names = {line[:1].lower() for line in lines}
    if not 0 < port < 65536 or not {b"v", b"f", b"t", b"c"} <= names:
        return None
    tag = secrets.token_hex(4).encode()
    lines = [
        line + b";tag=" + tag if re.match(rb"t(o)?[ \t]*:", line, re.I) and b"tag=" not in line else line
        for line in lines
    ]
    response = b"\r\n".join((b"SIP/2.0 513 Message Too Large", *lines, b"Content-Length: 0", b"", b""))
    return (response, host, port) if len(response) <= _MOST_ANSWERED_BYTES else None


class Oversize:
    """
    Answers what the library could not read because it was cut off. Thread: sip.

    Args:
        may_ask: whether an address is one that may call at all; nobody else is answered.

    Raises:
        AttributeError: a symbol is missing in this build; the text names it.
    """

    def __init__(self, may_ask: Callable[[str], bool]) -> None:
        self._may_ask = may_ask
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._endpoint: Any = function("pjsua_get_pjsip_endpt", pointer)()
        manager = function("pjsip_endpt_get_tpmgr", pointer, pointer)(self._endpoint)
        self._send = function(
            "pjsip_endpt_send_raw",
            *(ctypes.c_int, pointer, ctypes.c_int, pointer, ctypes.c_char_p, size, pointer, ctypes.c_int),
            *(pointer, pointer),
        )
        self._callback = _OnDropped(self._on_dropped)
        function("pjsip_tpmgr_set_drop_data_cb", ctypes.c_int, pointer, _OnDropped)(manager, self._callback)
        self._manager = manager

    def remove(self) -> None:
        """Leave the library."""
        native("pjsip_tpmgr_set_drop_data_cb")(ctypes.c_void_p(self._manager), None)

    @answering(0)
    def _on_dropped(self, dropped: Any) -> int:
        told = dropped.contents
        if told.length < BUFFER_BYTES:
            return 0
        answer = answer_to(ctypes.string_at(told.data, BUFFER_BYTES))
        if answer is None or not self._may_ask(answer[1]):
            return 0
        response, host, port = answer
        address = struct.pack("<H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))
        self._send(self._endpoint, _UDP, None, response, len(response), address, len(address), None, None)
        return 0
