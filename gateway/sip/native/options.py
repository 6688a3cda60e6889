"""
OPTIONS to a trunk's server (RFC 3261 section 11), sent the way an account's requests go, and its answer.

The binding can send it, too (``Account.sendRequest``), but its transaction then leads back to the account, and the
library aborts the process when it ends before the answer is there. Sent from here the transaction knows no account, and
gives up after a time of ours instead of 32 s.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
from collections.abc import Callable
from typing import Any

from gateway.sip.core.message import Malformed, parse_message
from gateway.sip.native.guard import answering
from gateway.sip.native.library import Endpoint, PjString, function
from gateway.threads import runs_on

OptionsAnswer = Callable[[int, str], None]
"""Takes the status and reason phrase of the answer; 0 and the reason why there was none. Thread: sip."""

_TSX_STATE = 5  # PJSIP_EVENT_TSX_STATE
_TIMER, _RX_MSG, _TRANSPORT_ERROR, _USER = 1, 3, 4, 6
_WHY = {_TIMER: "no answer", _TRANSPORT_ERROR: "it cannot be reached", _USER: "no answer"}


class _Event(ctypes.Structure):
    """``pjsip_event`` as far as it tells of a transaction (``pjsip/sip_event.h``)."""

    _fields_ = (
        ("prev", ctypes.c_void_p),
        ("next", ctypes.c_void_p),
        ("kind", ctypes.c_int),
        ("source", ctypes.c_void_p),  # of a message: pjsip_rx_data *
        ("transaction", ctypes.c_void_p),
        ("previous_state", ctypes.c_int),
        ("cause", ctypes.c_int),
    )


_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(_Event))


class OptionsSender:
    """
    Sends OPTIONS. Made after ``libInit``, and to be kept until the library has ended. Thread: sip.

    Args:
        received: makes an empty ``pj.SipRxData``.

    Raises:
        AttributeError: a symbol is missing in this build; the text names it.
    """

    def __init__(self, received: Callable[[], Any]) -> None:
        self._received = received
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self._endpoint = function("pjsua_get_pjsip_endpt", pointer)()
        self._method = function("pjsip_get_options_method", pointer)()
        self._create = function("pjsua_acc_create_request", number, number, pointer, pointer, pointer)
        self._send = function("pjsip_endpt_send_request", number, pointer, pointer, ctypes.c_int32, pointer, _Callback)
        self._reader = Endpoint()
        self._waiting: dict[int, OptionsAnswer] = {}
        self._numbers = itertools.count(1)
        self._on_event = _Callback(lambda token, event: self._ended(token, event) and None)

    @runs_on("sip")
    def send(self, account: int, uri: str, limit_s: float, told: OptionsAnswer) -> None:
        """
        Send OPTIONS to ``uri`` by the way of an account; ``told`` takes the answer, or that none came in time.

        Args:
            account: the library's number of it.
            uri: a SIP URI.
            limit_s: how long to wait.
            told: called once.
        """
        target, request = PjString.of(uri), ctypes.c_void_p()
        status = self._create(account, self._method, ctypes.addressof(target), ctypes.addressof(request))
        if status or not request.value:
            told(0, f"the request could not be made ({status})")
            return
        number = next(self._numbers)
        self._waiting[number] = told
        status = self._send(self._endpoint, request.value, round(limit_s * 1000), number, self._on_event)
        if status and self._waiting.pop(number, None) is not None:
            told(0, f"the request could not be sent ({status})")

    @answering(0)
    def _ended(self, token: int | None, event: Any) -> int:
        """Take the end of a transaction; the library tells of it once."""
        told = self._waiting.pop(token or 0, None)
        if told is None or not event:
            return 0
        cause, source = event.contents.cause, event.contents.source
        if event.contents.kind == _TSX_STATE and cause == _RX_MSG and source:
            received = self._received()
            self._reader.read_received(source, received)
            with contextlib.suppress(Malformed):
                message = parse_message(received.wholeMsg)
                told(message.code, message.reason)
                return 0
        told(0, _WHY.get(cause, "no answer"))
        return 0
