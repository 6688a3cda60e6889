"""
What the library receives and throws away: line ends between messages, and what it cannot read.

Some of it has an answer, and the library has one hook for all of it. Two line ends over a connection are a keep-alive,
answered by one (RFC 5626 section 4.4.1). Of a connection that brings what is no message, nothing more can be read:
where the next one begins is not known. A message that does not fit into the library's buffer gets 513 first.
"""

from __future__ import annotations

import ctypes
import socket
import time
from collections.abc import Callable
from typing import Any

from gateway.sip.admission.refusal import response_to
from gateway.sip.core.message import BUFFER_BYTES
from gateway.sip.native.guard import answering
from gateway.sip.native.library import RawSender, function, native
from gateway.threads import runs_on

_IGNORED = 70020  # PJ_EIGNORED: line ends where a message might begin
_PONG = b"\r\n"
_HALVES_S = 1.0  # so near are the halves of a ping that came in two pieces
_MOST_PONGS = 4  # for pings that came in one piece
_CONNECTION_KINDS = (2, 3)


class _DroppedData(ctypes.Structure):
    """``pjsip_tp_dropped_data`` (``pjsip/sip_transport.h``)."""

    _fields_ = (
        ("transport", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("status", ctypes.c_int),
    )


class _Transport(ctypes.Structure):
    """``pjsip_transport`` (``pjsip/sip_transport.h``), as far as where it leads."""

    _fields_ = (
        ("name", ctypes.c_char * 32),
        *((name, ctypes.c_void_p) for name in ("pool", "references", "lock", "group_lock")),
        *((name, ctypes.c_int) for name in ("tracing", "is_shutdown", "is_destroying")),
        *(("kind", ctypes.c_long), ("family", ctypes.c_uint16), ("port", ctypes.c_uint8 * 2)),
        ("address", ctypes.c_uint8 * 4),
    )


_OnDropped = ctypes.CFUNCTYPE(None, ctypes.POINTER(_DroppedData))


def pongs_to(data: bytes) -> bytes:
    """Return what answers line ends between messages: one for each two; nothing to one, which is an answer itself."""
    return _PONG * min(data.count(_PONG) // 2, _MOST_PONGS)


class DroppedData:
    """
    Answers what can be answered of it. Thread: sip.

    Args:
        unread: hears that the library cannot read a message that came by a transport; returns whether it knows which.
        too_long: hears of a message that was too long, and from where (``address:port``); says whether to answer it.
        hang_up: closes the connection from ``address:port``.

    Raises:
        AttributeError: a symbol is missing in this build; the text names it.
    """

    def __init__(
        self, unread: Callable[[int], bool], too_long: Callable[[str], bool], hang_up: Callable[[str], None]
    ) -> None:
        self._unread = unread
        self._too_long = too_long
        self._hang_up = hang_up
        self._sender = RawSender()
        pointer = ctypes.c_void_p
        endpoint = function("pjsua_get_pjsip_endpt", pointer)()
        self._half = (0, 0.0)  # where a single line end came from at last, and when
        self._manager = function("pjsip_endpt_get_tpmgr", pointer, pointer)(endpoint)
        self._hold = function("pjsip_transport_add_ref", ctypes.c_int, pointer)
        self._let_go = function("pjsip_transport_dec_ref", ctypes.c_int, pointer)
        self._callback = _OnDropped(self._on_dropped)
        function("pjsip_tpmgr_set_drop_data_cb", ctypes.c_int, pointer, _OnDropped)(self._manager, self._callback)

    @runs_on("sip")
    def remove(self) -> None:
        """Leave the library."""
        native("pjsip_tpmgr_set_drop_data_cb")(ctypes.c_void_p(self._manager), None)

    @answering(0)
    def _on_dropped(self, dropped: Any) -> int:
        told = dropped.contents
        if told.status == _IGNORED:
            self._keep_alive(told)
            return 0
        known = self._unread(told.transport)
        peer = _peer_of(told.transport)
        if peer is not None and not known:
            if told.length >= BUFFER_BYTES and told.data and self._too_long(peer):
                self._refuse(told, int(peer.rpartition(":")[2]))
            self._hang_up(peer)
        return 0

    def _keep_alive(self, told: Any) -> None:
        data = ctypes.string_at(told.data, min(told.length, 2 * len(_PONG) * _MOST_PONGS))
        pongs = pongs_to(data)
        if not pongs and data == _PONG:  # an answer to a ping of ours, or half a ping
            before, self._half = self._half, (told.transport, time.monotonic())
            if before[0] == told.transport and self._half[1] - before[1] < _HALVES_S:
                pongs = _PONG
        if not pongs:
            return
        self._half = (0, 0.0)
        # The library closes a connection 600 s after its last use. A keep-alive is one.
        self._hold(told.transport)
        self._let_go(told.transport)
        self._sender.send(told.transport, pongs, udp=False)  # of UDP, STUN is the keep-alive

    def _refuse(self, told: Any, port: int) -> None:
        text = ctypes.string_at(told.data, BUFFER_BYTES).decode("utf-8", "surrogateescape")
        answer = response_to(text, port, 513, "Message Too Large")
        if answer is not None:
            self._sender.send(told.transport, answer[0], udp=False)


def _peer_of(transport: int) -> str | None:
    """Return where a connection leads, as ``address:port``; None for UDP, and for a build with other structures."""
    found = _Transport.from_address(transport)
    if found.kind not in _CONNECTION_KINDS or found.family != socket.AF_INET:
        return None
    return f"{socket.inet_ntoa(bytes(found.address))}:{int.from_bytes(bytes(found.port), 'big')}"
