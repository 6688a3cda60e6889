"""
Keeps the Call-ID of a trunk's REGISTERs over failures (RFC 3261 section 10.2), and registers an edge's Contact.

The library throws its registration client away with each failure and begins anew with another Call-ID, which to a
registrar is another user agent. So the function that sets a new client up is ours: it calls the library's own, and then
writes the trunk's Call-ID into it and a CSeq beyond all before.

Behind an edge, several workers register the same Contact one after the other, which is not the library's own: our
function hands it another one. And no REGISTER may leave that was not ordered: a refresh by the library's own timer, or
the removal of a binding when an account ends, would be about a binding that may be another worker's by then.
"""

from __future__ import annotations

import ctypes
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
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
_Register = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_Unregister = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_CONTACTS, _CONTACT = 3, 4  # arguments of pjsip_regc_init behind the client: how many, and where
_NOT_ALLOWED = 70013  # PJ_EINVALIDOP
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
    """
    One Call-ID for each trunk, while the process lives. Thread: sip; it must live as long as the library.

    Args:
        contact_of: gives the Contact to register for a trunk, from the library's own; None leaves all to the library.
    """

    def __init__(self, contact_of: Callable[[str, str], str] | None = None) -> None:
        self._contact_of = contact_of
        self._slot = ImportSlot("pjsip_regc_init")
        self._register_slot = ImportSlot("pjsip_regc_register")
        self._unregister_slot = ImportSlot("pjsip_regc_unregister")
        self._init: Any = None
        self._register: Any = None
        self._unregister: Any = None
        self._callback = _Init(self._on_init)
        self._register_callback = _Register(self._on_register)
        self._unregister_callback = _Unregister(self._on_unregister)
        self._may_leave = False
        self._began = time.monotonic()
        self._call_ids: dict[str, PjString] = {}
        self._trunk: str | None = None

    @runs_on("sip")
    def install(self) -> None:
        """
        Put the functions in place.

        Where that cannot be, each attempt has a Call-ID of its own, and there is no registering behind an edge.

        Raises:
            SipError: there is a Contact to register, and this build does not let us.
        """
        try:
            if self._contact_of is not None:
                pointer = ctypes.c_void_p
                self._register = function("pjsip_regc_register", ctypes.c_int, pointer, ctypes.c_int, pointer)
                self._unregister = function("pjsip_regc_unregister", ctypes.c_int, pointer, pointer)
                self._register_slot.exchange(self._register_callback)
                self._unregister_slot.exchange(self._unregister_callback)
            self._init = function("pjsip_regc_init", ctypes.c_int, *_SIGNATURE)
            self._slot.exchange(self._callback)
        except (AttributeError, SipError) as error:
            if self._contact_of is not None:
                raise SipError(
                    f"this build of pjsua2 cannot register behind an edge ({error}): set register = false and have "
                    "the edge register"
                ) from None
            _log.info("register_call_id_not_kept", detail=str(error))

    @runs_on("sip")
    def remove(self) -> None:
        """Take them away."""
        for slot in (self._slot, self._register_slot, self._unregister_slot):
            slot.restore()

    @runs_on("sip")
    @contextmanager
    def of(self, trunk: str, *, leaves: bool = False) -> Iterator[None]:
        """Have what is set up meanwhile be the trunk's; ``leaves``: its binding may be removed."""
        self._trunk, self._may_leave = trunk, leaves
        try:
            yield
        finally:
            self._trunk, self._may_leave = None, False

    @answering(_FAILED)
    def _on_init(self, client: int, *arguments: Any) -> int:
        contact = self._contact(arguments)
        if contact is not None:
            arguments = (*arguments[:_CONTACT], ctypes.addressof(contact), *arguments[_CONTACT + 1 :])
        status: int = self._init(client, *arguments)  # it copies what it is given
        if status == 0 and self._trunk is not None:
            found, server = _Client.from_address(client), PjString.from_address(arguments[0])
            if found.server.slen != server.slen:  # another layout: its pointers are none to follow
                return status
            call_id, cseq = _CallId.from_address(found.call_id), _CSeq.from_address(found.cseq)
            if (call_id.written, cseq.written) == (b"Call-ID", b"CSeq"):
                call_id.value = self._call_ids.setdefault(self._trunk, PjString.of(secrets.token_hex(16)))
                cseq.number = 1 + int((time.monotonic() - self._began) * _CSEQS_PER_S)
        return status

    def _contact(self, arguments: Sequence[Any]) -> PjString | None:
        if self._contact_of is None or self._trunk is None or arguments[_CONTACTS] != 1:
            return None
        own = PjString.from_address(arguments[_CONTACT])
        text = ctypes.string_at(own.ptr, own.slen) if own.ptr else b""
        return PjString.of(self._contact_of(self._trunk, text.decode("utf-8", "replace")))

    @answering(_FAILED)
    def _on_register(self, client: int, _refresh: int, made: int) -> int:
        return int(self._register(client, 0, made))

    @answering(_FAILED)
    def _on_unregister(self, client: int, made: int) -> int:
        return int(self._unregister(client, made)) if self._may_leave else _NOT_ALLOWED
