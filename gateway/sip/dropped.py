"""
What the library receives and throws away: line ends between messages, and what it cannot read.

Some of it has an answer, and the library has one hook for all of it. Two line ends over a connection are a keep-alive,
answered by one (RFC 5626 section 4.4.1); a request that was cut off at the end of the buffer gets 513.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable
from typing import Any

from gateway.sip.envelope import BUFFER_BYTES
from gateway.sip.guard import answering
from gateway.sip.native import function, native
from gateway.sip.oversize import answer_to

_IGNORED = 70020  # PJ_EIGNORED: line ends where a message might begin
_UDP, _CONNECTED = 1, (2, 3)  # PJSIP_TRANSPORT_UDP; _TCP, _TLS
_THIS_TRANSPORT = 1  # PJSIP_TPSELECTOR_TRANSPORT
_PONG = b"\r\n"
_MOST_PONGS = 4  # for pings that came in one piece
_NO_ADDRESS = struct.pack("<H14x", socket.AF_INET)  # a connection knows where it leads


class _Dropped(ctypes.Structure):
    """``pjsip_tp_dropped_data`` (``pjsip/sip_transport.h``)."""

    _fields_ = (
        ("transport", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("status", ctypes.c_int),
    )


class _Selector(ctypes.Structure):
    """``pjsip_tpselector``: by which transport something goes."""

    _fields_ = (("type", ctypes.c_int), ("new_connection", ctypes.c_int), ("transport", ctypes.c_void_p))


_OnDropped = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Dropped))


def pongs_to(data: bytes) -> bytes:
    """Return what answers line ends between messages: one for each two; nothing to one, which is an answer itself."""
    return _PONG * min(data.count(_PONG) // 2, _MOST_PONGS)


class Dropped:
    """
    Answers what can be answered of it. Thread: sip.

    Args:
        may_ask: whether an address is one that may call at all; nobody else is told that a request was too long.

    Raises:
        AttributeError: a symbol is missing in this build; the text names it.
    """

    def __init__(self, may_ask: Callable[[str], bool]) -> None:
        self._may_ask = may_ask
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._endpoint: Any = function("pjsua_get_pjsip_endpt", pointer)()
        self._manager = function("pjsip_endpt_get_tpmgr", pointer, pointer)(self._endpoint)
        self._send = function(
            "pjsip_endpt_send_raw",
            *(ctypes.c_int, pointer, ctypes.c_int, pointer, ctypes.c_char_p, size, pointer, ctypes.c_int),
            *(pointer, pointer),
        )
        self._hold = function("pjsip_transport_add_ref", ctypes.c_int, pointer)
        self._let_go = function("pjsip_transport_dec_ref", ctypes.c_int, pointer)
        self._callback = _OnDropped(self._on_dropped)
        function("pjsip_tpmgr_set_drop_data_cb", ctypes.c_int, pointer, _OnDropped)(self._manager, self._callback)

    def remove(self) -> None:
        """Leave the library."""
        native("pjsip_tpmgr_set_drop_data_cb")(ctypes.c_void_p(self._manager), None)

    @answering(0)
    def _on_dropped(self, dropped: Any) -> int:
        told = dropped.contents
        if told.status == _IGNORED:
            self._keep_alive(told)
        elif told.length >= BUFFER_BYTES and told.data:
            self._too_long(ctypes.string_at(told.data, BUFFER_BYTES))
        return 0

    def _keep_alive(self, told: Any) -> None:
        pongs = pongs_to(ctypes.string_at(told.data, min(told.length, 2 * len(_PONG) * _MOST_PONGS)))
        if not pongs:
            return
        # The library closes a connection 600 s after its last use. A keep-alive is one.
        self._hold(told.transport)
        self._let_go(told.transport)
        selector = _Selector(_THIS_TRANSPORT, 0, told.transport)
        for kind in _CONNECTED:  # the library refuses the kind that it is not; of UDP, both (STUN is its keep-alive)
            address = ctypes.addressof(selector)
            self._send(self._endpoint, kind, address, pongs, len(pongs), _NO_ADDRESS, len(_NO_ADDRESS), None, None)

    def _too_long(self, data: bytes) -> None:
        answer = answer_to(data)
        if answer is None or not self._may_ask(answer[1]):
            return
        response, host, port = answer
        address = struct.pack("<H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))
        self._send(self._endpoint, _UDP, None, response, len(response), address, len(address), None, None)
