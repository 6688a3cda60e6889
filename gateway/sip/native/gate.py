"""
The gate: sees every message as text before the library's own parser does.

The library calls its parser through its import table. There stands a function of ours, which hands on what may be
parsed.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable
from typing import Any

import structlog

from gateway.sip.native.guard import answering
from gateway.sip.native.import_slot import ImportSlot
from gateway.sip.native.library import RxData, function

_log = structlog.get_logger(__name__)
_Parse = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_SOURCE = struct.Struct("<H")
_ADDRESS = RxData.source.offset
_ADDRESS_BYTES = RxData.source_port.offset + RxData.source_port.size - _ADDRESS
_NAME = RxData.source_name.offset - _ADDRESS
_PORT = RxData.source_port.offset - _ADDRESS

OnText = Callable[[str, int, str, int], bool]
"""Takes a message, its size in bytes, ``address:port`` it came from, and the library's ``pjsip_rx_data *``; returns
whether the library may parse it."""


class Gate:
    """
    Stands before ``pjsip_parse_rdata``. Thread: sip.

    Args:
        on_text: decides.

    Raises:
        AttributeError: a symbol is missing in this build; the text names it.
    """

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        pointer = ctypes.c_void_p
        self._parse = function("pjsip_parse_rdata", pointer, pointer, ctypes.c_size_t, pointer)
        self._callback = _Parse(self._on_parse)
        self._slot = ImportSlot("pjsip_parse_rdata")
        self.hides_bodies = False
        """Whether the library's parser, which reads multipart bodies by itself, sees no body at all."""

    def install(self) -> None:
        """
        Put the gate in place.

        Raises:
            SipError: it cannot be here.
        """
        self._slot.exchange(self._callback)

    def remove(self) -> None:
        """Take it away."""
        self._slot.restore()

    @answering(0)
    def _on_parse(self, buffer: int, size: int, rx_data: int) -> int:
        source = source_of(ctypes.string_at(rx_data + _ADDRESS, _ADDRESS_BYTES))
        data = ctypes.string_at(buffer, size)
        text = data.decode("utf-8", "surrogateescape")
        if source is None:  # found out with the first message, before anything was decided by it
            self.remove()
            _log.error("sip_gate_missing", detail="this build has other structures: put a SIP proxy in front of it")
        elif not self._on_text(text, size, source, rx_data):
            return 0  # as for an empty packet: the library says nothing of it
        parsed = self._without_body(buffer, data, rx_data) if self.hides_bodies else self._parse(buffer, size, rx_data)
        return int(parsed or 0)

    def _without_body(self, buffer: int, data: bytes, rx_data: int) -> Any:
        """Have the library parse what stands before the body. Its scanner wants a zero behind the end."""
        size = data.find(b"\r\n\r\n") + 4
        behind = ctypes.c_char.from_address(buffer + size)
        kept, behind.value = behind.value, b"\0"
        try:
            return self._parse(buffer, size, rx_data)
        finally:
            behind.value = kept


def source_of(data: bytes) -> str | None:
    """Return ``address:port`` out of the end of ``pkt_info``; None where the two ways in which it is told differ."""
    (family,) = _SOURCE.unpack_from(data)
    host, port = socket.inet_ntoa(data[4:8]), int.from_bytes(data[2:4], "big")
    name = data[_NAME : data.index(b"\0", _NAME)] if b"\0" in data[_NAME:] else b""
    if family != socket.AF_INET or name.decode("ascii", "replace") != host:
        return None
    if int.from_bytes(data[_PORT : _PORT + 4], "little") != port:
        return None
    return f"{host}:{port}"
