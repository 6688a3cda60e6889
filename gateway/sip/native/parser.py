"""
In front of the library's parser: every message is seen as text first, and gets another body than the one that came.

The library calls its parser through its import table, where ``ParserGate`` puts a function of ours, which hands on what
may be parsed. ``BodyReplacer`` sets the body before any module of the library reads it. The structures are those of
pjproject 2.15.1. ``works`` tries them out on a message of ours, and each message that comes is compared with what the
binding says of it: a build with other structures is found out, not written into.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable
from typing import Any

import structlog

from gateway.sip.native.guard import answering
from gateway.sip.native.library import ImportSlot, ListHead, PjString, RxData, function
from gateway.threads import runs_on

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


class ParserGate:
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

    @runs_on("sip")
    def install(self) -> None:
        """
        Put the gate in place.

        Raises:
            SipError: it cannot be here.
        """
        self._slot.exchange(self._callback)

    @runs_on("sip")
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
            _log.error(
                "sip_gate_missing",
                detail="this build lays out its structures differently: put a SIP proxy in front of it",
            )
        elif not self._on_text(text, size, source, rx_data):
            return 0  # as for an empty packet: the library says nothing of it
        parsed = self._without_body(buffer, data, rx_data) if self.hides_bodies else self._parse(buffer, size, rx_data)
        return int(parsed or 0)

    def _without_body(self, buffer: int, data: bytes, rx_data: int) -> Any:
        """Have the library parse what comes before the body. Its scanner needs a zero after the end."""
        size = data.find(b"\r\n\r\n") + 4
        behind = ctypes.c_char.from_address(buffer + size)
        kept, behind.value = behind.value, b"\0"
        try:
            return self._parse(buffer, size, rx_data)
        finally:
            behind.value = kept


def source_of(data: bytes) -> str | None:
    """Return ``address:port`` from the end of ``pkt_info``; None if its two representations differ."""
    (family,) = _SOURCE.unpack_from(data)
    host, port = socket.inet_ntoa(data[4:8]), int.from_bytes(data[2:4], "big")
    name = data[_NAME : data.index(b"\0", _NAME)] if b"\0" in data[_NAME:] else b""
    if family != socket.AF_INET or name.decode("ascii", "replace") != host:
        return None
    if int.from_bytes(data[_PORT : _PORT + 4], "little") != port:
        return None
    return f"{host}:{port}"


_SCRATCH_BYTES = 16384  # more than a ``pjsip_rx_data`` takes
_SAMPLE = (
    b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP b;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
    b"Call-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Type: multipart/mixed;boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n"
)
_SAMPLE_BODY = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


class _MsgBody(ctypes.Structure):
    """``pjsip_msg_body`` (``pjsip/sip_msg.h``), its beginning; the list head is that of the type's parameters."""

    _fields_ = (
        *(("type", PjString), ("subtype", PjString)),
        *(("parameters", ListHead), ("name", PjString), ("value", PjString)),
        *(("data", ctypes.c_void_p), ("length", ctypes.c_uint)),
    )


class _RequestLine(ctypes.Structure):
    """``pjsip_request_line``, which is longer than ``pjsip_status_line``, its mate in a union."""

    _fields_ = (("method_id", ctypes.c_int), ("method", PjString), ("uri", ctypes.c_void_p))


class _Msg(ctypes.Structure):
    """``pjsip_msg`` (``pjsip/sip_msg.h``); between line and body stands the head of the list of headers."""

    _fields_ = (
        *(("type", ctypes.c_int), ("line", _RequestLine)),
        *(("headers", ListHead), ("header_type", ctypes.c_int), ("name", PjString), ("short_name", PjString)),
        *(("functions", ctypes.c_void_p), ("body", ctypes.POINTER(_MsgBody))),
    )


class _ParsedRxData(RxData):
    """The same, as far as the type of the body."""

    _fields_ = (  # type: ignore[assignment] # ctypes adds those of a subclass
        *(("text", ctypes.c_void_p), ("length", ctypes.c_int)),
        *(("message", ctypes.POINTER(_Msg)), ("info", ctypes.c_void_p)),
        # Call-ID, From, To, Via, CSeq, Max-Forwards, Route, Record-Route
        *(("headers", ctypes.c_void_p * 8), ("content_type", ctypes.c_void_p)),
    )


class _SdpInfo(ctypes.Structure):
    """``pjsip_sdp_info`` (``pjsip-ua/sip_inv.h``)."""

    _fields_ = (("body", PjString), ("status", ctypes.c_int), ("sdp", ctypes.c_void_p))


class BodyReplacer:
    """
    Replaces bodies. Made after ``libInit``; thread: sip.

    Raises:
        AttributeError: a symbol is missing in this build; the text names it.
    """

    def __init__(self) -> None:
        pointer = ctypes.c_void_p
        self._create = function("pjsip_msg_body_create", pointer, pointer, pointer, pointer, pointer)
        self._endpoint: Any = function("pjsua_get_pjsip_endpt", pointer)()
        self._parse = function("pjsip_parse_rdata", pointer, ctypes.c_char_p, ctypes.c_size_t, pointer)
        self._sdp_of = function("pjsip_rdata_get_sdp_info", ctypes.POINTER(_SdpInfo), pointer)
        size = ctypes.c_size_t
        self._create_pool = function("pjsip_endpt_create_pool", pointer, pointer, ctypes.c_char_p, size, size)
        self._release_pool = function("pjsip_endpt_release_pool", None, pointer, pointer)

    @runs_on("sip")
    def works(self) -> bool:
        """Return whether the structures are those of this build: whether what is put in is what the library reads."""
        scratch = ctypes.create_string_buffer(_SCRATCH_BYTES)
        packet = ctypes.create_string_buffer(_SAMPLE)
        rx_data = _ParsedRxData.from_buffer(scratch)
        rx_data.pool = pool = self._create_pool(self._endpoint, b"screen", 4000, 4000)
        rx_data.text, rx_data.length = ctypes.addressof(packet), len(_SAMPLE)
        try:
            address = ctypes.addressof(scratch)
            if not self._parse(ctypes.cast(packet, ctypes.c_char_p), len(_SAMPLE), address):
                return False
            if not self.replace(address, _SAMPLE.decode(), ("application/sdp", _SAMPLE_BODY)):
                return False
            found = self._sdp_of(address).contents
            taken = ctypes.string_at(found.body.ptr, found.body.slen) if found.sdp else b""
            return bool(taken.decode() == _SAMPLE_BODY)
        finally:
            self._release_pool(self._endpoint, pool)

    @runs_on("sip")
    def replace(self, rx_data: int, text: str, body: tuple[str, str] | None) -> bool:
        """
        Put another body into a message.

        Args:
            rx_data: the library's ``pjsip_rx_data *``.
            text: the whole message, as the binding tells it.
            body: media type and text; None for no body.

        Returns:
            False, and nothing is changed, when the structures are not what they should be.
        """
        received = _ParsedRxData.from_address(rx_data)
        data = text.encode("utf-8", "surrogateescape")
        if received.length != len(data) or not received.message or not received.text:
            return False
        if ctypes.string_at(received.text, len(data)) != data:
            return False
        if body is None:
            received.message.contents.body = None
        else:
            kind, content = body
            received.message.contents.body = self._made(received.pool, kind, content)
        received.content_type = None  # else the library goes by the header, and not by the body's own type
        return True

    def _made(self, pool: int, kind: str, content: str) -> Any:
        main, _, sub = kind.partition("/")
        # The library's scanners look one byte behind the end.
        words = PjString.of(main), PjString.of(sub), PjString.of(content + "\0")
        address = self._create(pool, *(ctypes.addressof(word) for word in words))
        made = ctypes.cast(address, ctypes.POINTER(_MsgBody))
        made.contents.length -= 1
        return made
