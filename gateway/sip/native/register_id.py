"""
Keeps the Call-ID of a trunk's REGISTERs over failures (RFC 3261 section 10.2).

The library throws its registration client away with each failure and begins anew with another Call-ID, which to a
registrar is another user agent. So the function that sets a new client up is ours: it calls the library's own, and then
writes the trunk's Call-ID into it and a CSeq beyond all before.
"""

from __future__ import annotations

import ctypes
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from gateway.errors import SipError
from gateway.sip.native.guard import answering
from gateway.sip.native.library import Header, ImportSlot, PjString, function
from gateway.threads import runs_on

_log = structlog.get_logger(__name__)
_SIGNATURE = (ctypes.c_void_p,) * 4 + (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)
_Init = ctypes.CFUNCTYPE(ctypes.c_int, *_SIGNATURE)
_FAILED = 70001  # PJ_EUNKNOWN
_CSEQS_PER_S = 10  # more than anybody registers


class _Client(ctypes.Structure):
    """``struct pjsip_regc`` (``pjsip-ua/sip_reg.c``), its beginning."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("pool", "endpoint", "lock")),
        *((name, ctypes.c_int) for name in ("delete", "has_transaction")),
        ("busy", ctypes.c_void_p),
        *((name, ctypes.c_int) for name in ("operation", "add_xuid")),
        *((name, ctypes.c_void_p) for name in ("token", "callback", "transaction_callback")),
        ("server", PjString),
        *((name, ctypes.c_void_p) for name in ("server_uri", "call_id", "cseq")),
    )


class _CallId(Header):
    _fields_ = (("value", PjString),)


class _CSeq(Header):
    _fields_ = (("number", ctypes.c_int32),)


class RegisterIds:
    """One Call-ID for each trunk, while the process lives. Thread: sip; it must live as long as the library."""

    def __init__(self) -> None:
        self._slot = ImportSlot("pjsip_regc_init")
        self._init: Any = None
        self._callback = _Init(self._on_init)
        self._began = time.monotonic()
        self._call_ids: dict[str, PjString] = {}
        self._trunk: str | None = None

    @runs_on("sip")
    def install(self) -> None:
        """Put the function in place; where that cannot be, each attempt has a Call-ID of its own."""
        try:
            self._init = function("pjsip_regc_init", ctypes.c_int, *_SIGNATURE)
            self._slot.exchange(self._callback)
        except (AttributeError, SipError) as error:
            _log.info("register_call_id_not_kept", detail=str(error))

    @runs_on("sip")
    def remove(self) -> None:
        """Take it away."""
        self._slot.restore()

    @runs_on("sip")
    @contextmanager
    def of(self, trunk: str) -> Iterator[None]:
        """Have what is set up meanwhile be the trunk's."""
        self._trunk = trunk
        try:
            yield
        finally:
            self._trunk = None

    @answering(_FAILED)
    def _on_init(self, client: int, *arguments: Any) -> int:
        status: int = self._init(client, *arguments)
        if status == 0 and self._trunk is not None:
            found, server = _Client.from_address(client), PjString.from_address(arguments[0])
            if found.server.slen != server.slen:  # another layout: its pointers are none to follow
                return status
            call_id, cseq = _CallId.from_address(found.call_id), _CSeq.from_address(found.cseq)
            if (call_id.written, cseq.written) == (b"Call-ID", b"CSeq"):
                call_id.value = self._call_ids.setdefault(self._trunk, PjString.of(secrets.token_hex(16)))
                cseq.number = 1 + int((time.monotonic() - self._began) * _CSEQS_PER_S)
        return status
