"""
The C library inside the pjsua2 extension, reached through ``ctypes``, and how its behaviour is changed at run time.

Theory of operation. The wheel is a C library with its assertions on and with parsers that trust their input: a packet
from a stranger can end the process before any callback of the binding runs. The wheel stays as it is on disk; instead
functions of ours are put where packets, bodies and sockets pass, in this process alone. There are three ways in:

* the extension exports every symbol of PJSIP, also those that the binding does not show: ``function`` looks one up and
  gives it its types (the screen's module, the resolver, raw sending, capabilities, the waker's socket);
* what the extension imports from the C library it calls through a table of addresses (the global offset table):
  ``ImportSlot`` exchanges one entry for a ``ctypes`` callback. So ``pjsip_parse_rdata`` (``parser.py``), ``accept``
  (``screen/connections.py``), ``getaddrinfo`` (``location/library_names.py``), ``pj_ioqueue_register_sock2`` and
  ``pj_ioqueue_unregister`` (``handles.py``), ``pjmedia_jbuf_set_discard`` (``jitter_buffer.py``) and
  ``pjsip_regc_init`` (``register_id.py``). Only this one extension sees the exchange;
* a few fields of C structures are written: a message's body (``parser.py``), the last DTMF key of a stream
  (``dtmf_memory.py``), Max-Forwards (``max_forwards.py``), Call-ID and CSeq of a REGISTER (``register_id.py``), and
  here the switch that keeps long requests on UDP and the lists of what the library promises.

Nothing trusts a version number. Before a place is used it is checked, in this order: 64 bits and a loaded file; each
symbol is there (``AttributeError`` names one that is not); the table's entry is found by the symbol's name in the ELF
relocations, never by an offset; a structure confirms its layout, by a trial run on memory of ours, by a value that it
holds twice, or by a name or neighbour that must be there. If a check fails, that change is left out, the log says so
once, and the gateway works as the library does by itself. Before the library ends, every entry gets its old address
back. The layouts were read in the source of pjproject 2.15.1; ``docs/decisions/0008`` lists every place with its check.

All of it runs on ``sip``. A callback from C never raises: ``guard.py`` logs and returns a number that the library
takes as an ordinary error.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import mmap
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from gateway.errors import SipError
from gateway.sip.core.message import BUFFER_BYTES
from gateway.threads import runs_on

_THIS_TRANSPORT = 1  # PJSIP_TPSELECTOR_TRANSPORT
_CONNECTED = (2, 3)  # PJSIP_TRANSPORT_TCP, _TLS
_TRANSPORTS = (1, *_CONNECTED)  # PJSIP_TRANSPORT_UDP

_TIMED_OUT = 408
_MOST_VALUES = 32  # PJSIP_GENERIC_ARRAY_MAX_COUNT
_CAPABILITIES = {"Allow": 4, "Supported": 36}  # PJSIP_H_ALLOW, _SUPPORTED

RX_PRIORITY = 7
"""Of a module: just before the transport layer's own (8), so before transactions and dialogs; when sending, just
after the message was printed."""

OnMessage = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
"""A module's callback: takes a ``pjsip_rx_data *`` or ``pjsip_tx_data *``, returns 1 when the message ends here."""


class PjString(ctypes.Structure):
    """``pj_str_t``: not terminated by a zero."""

    _fields_ = (("ptr", ctypes.c_char_p), ("slen", ctypes.c_ssize_t))

    @classmethod
    def of(cls, text: str) -> PjString:
        """Return one that holds ``text``; it lives as long as the returned object."""
        data = text.encode("utf-8", "replace")
        return cls(data, len(data))


class ListHead(ctypes.Structure):
    """``pj_list``: the head of a ring; every PJSIP header begins with the same two pointers."""

    _fields_ = (("prev", ctypes.c_void_p), ("next", ctypes.c_void_p))


class Header(ctypes.Structure):
    """``pjsip_hdr`` (``pjsip/sip_msg.h``): what every header of the library begins with."""

    _fields_: ClassVar[Sequence[Any]] = (
        ("prev", ctypes.c_void_p),
        ("next", ctypes.c_void_p),
        ("type", ctypes.c_int),
        ("name", PjString),
        ("short_name", PjString),
        ("functions", ctypes.c_void_p),
    )

    @property
    def written(self) -> bytes:
        """Its name."""
        return bytes((self.name.ptr or b"")[: self.name.slen])


class SipModule(ctypes.Structure):
    """``pjsip_module`` (``pjsip/sip_module.h``)."""

    _fields_ = (
        ("prev", ctypes.c_void_p),
        ("next", ctypes.c_void_p),
        ("name", PjString),
        ("id", ctypes.c_int),
        ("priority", ctypes.c_int),
        ("load", ctypes.c_void_p),
        ("start", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("unload", ctypes.c_void_p),
        ("on_rx_request", OnMessage),
        ("on_rx_response", OnMessage),
        ("on_tx_request", OnMessage),
        ("on_tx_response", OnMessage),
        ("on_tsx_state", ctypes.c_void_p),
    )


@functools.cache
def library_path() -> str | None:
    """Return the file of the pjsua2 extension, or None while it is not loaded."""
    extension = sys.modules.get("pjsua2._pjsua2") or sys.modules.get("_pjsua2")
    return getattr(extension, "__file__", None)


@functools.cache
def _library() -> ctypes.CDLL | None:
    path = library_path()
    return ctypes.CDLL(path) if path else None


def native(name: str) -> Any:
    """Return a function of the C library, or None where it is not exported. Its types are the caller's to set."""
    library = _library()
    return getattr(library, name, None) if library is not None else None


def function(name: str, result: Any, *arguments: Any) -> Any:
    """
    Return a function of the C library with its types.

    Raises:
        AttributeError: this build does not export it; the text names it.
    """
    found = native(name)
    if found is None:
        raise AttributeError(name)
    typed = ctypes.CFUNCTYPE(result, *arguments)
    return typed(ctypes.cast(found, ctypes.c_void_p).value or 0)


# ``pjsip_cfg_t`` (``pjsip/sip_config.h``): int 4 is disable_tcp_switch; 13 to 17 are the transactions' limits.
_TCP_SWITCH, _LIMITS, _USUAL_LIMITS = 4, slice(13, 18), [1023, 500, 4000, 5000, 32000]


def stay_on_udp() -> bool:
    """
    Have long requests leave by the transport they are meant for. To be called before ``libInit``.

    By itself the library sends a request over 1300 bytes by TCP (RFC 3261 section 18.1.1), though nobody may listen
    there, or a firewall may swallow it: the call is lost then. Returns False where this build cannot be told.
    """
    variable = native("pjsip_sip_cfg_var")
    if variable is None:
        return False
    settings = ctypes.cast(variable, ctypes.POINTER(ctypes.c_int))
    if settings[_LIMITS] != _USUAL_LIMITS:  # another layout
        return False
    settings[_TCP_SWITCH] = 1
    return True


class RxData(ctypes.Structure):
    """``pjsip_rx_data`` (``pjsip/sip_transport.h``), as far as where a packet came from."""

    _fields_ = (
        *(("pool", ctypes.c_void_p), ("transport", ctypes.c_void_p), ("transport_data", ctypes.c_void_p)),
        *(("op_key", ctypes.c_void_p * 34), ("itself", ctypes.c_void_p)),
        *(("seconds", ctypes.c_long), ("milliseconds", ctypes.c_long), ("packet", ctypes.c_char * BUFFER_BYTES)),
        *(("zero", ctypes.c_uint32), ("packet_length", ctypes.c_ssize_t)),
        *(("source", ctypes.c_uint32 * 7), ("source_length", ctypes.c_int)),
        *(("source_name", ctypes.c_char * 46), ("source_port", ctypes.c_int)),
    )


class _Selector(ctypes.Structure):
    """``pjsip_tpselector``: by which transport something goes."""

    _fields_ = (("type", ctypes.c_int), ("new_connection", ctypes.c_int), ("transport", ctypes.c_void_p))


class _Capability(ctypes.Structure):
    """``pjsip_generic_array_hdr`` (``pjsip/sip_msg.h``)."""

    _fields_ = (
        *(("head", ListHead), ("type", ctypes.c_int), ("name", PjString), ("short_name", PjString)),
        *(("functions", ctypes.c_void_p), ("count", ctypes.c_uint), ("values", PjString * _MOST_VALUES)),
    )


class RawSender:
    """
    Sends bytes by a transport of the library. Made after ``libInit``; thread: sip.

    Raises:
        AttributeError: a symbol is missing in this build; the text names it.
    """

    def __init__(self) -> None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._endpoint = function("pjsua_get_pjsip_endpt", pointer)()
        self._send = function(
            "pjsip_endpt_send_raw",
            *(ctypes.c_int, pointer, ctypes.c_int, pointer, ctypes.c_char_p, size, pointer, ctypes.c_int),
            *(pointer, pointer),
        )

    @runs_on("sip")
    def send(self, transport: int, data: bytes, host: str = "0.0.0.0", port: int = 0, *, udp: bool = True) -> None:
        """
        Send by one transport.

        Args:
            transport: ``pjsip_transport *``.
            data: what is sent.
            host: IPv4 address it goes to; a connection knows where it leads.
            port: port there.
            udp: whether it may go by UDP at all.
        """
        selector = _Selector(_THIS_TRANSPORT, 0, transport)
        address = struct.pack("<H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))
        for kind in _TRANSPORTS if udp else _CONNECTED:  # the library refuses the kinds that it is not
            place = ctypes.addressof(selector)
            self._send(self._endpoint, kind, place, data, len(data), address, len(address), None, None)


class Endpoint:
    """
    What the screen needs of ``pjsip_endpoint``. Made after ``libInit``; thread: sip.

    Raises:
        AttributeError: a symbol is missing in this build; the text names it.
    """

    def __init__(self) -> None:
        pointer = ctypes.c_void_p
        self._endpoint = function("pjsua_get_pjsip_endpt", pointer)()
        self._register = function("pjsip_endpt_register_module", ctypes.c_int, pointer, pointer)
        self._unregister = function("pjsip_endpt_unregister_module", ctypes.c_int, pointer, pointer)
        self._respond = function(
            "pjsip_endpt_respond_stateless", ctypes.c_int, pointer, pointer, ctypes.c_int, pointer, pointer, pointer
        )
        # Mangled C++: they fill the binding's own objects, so no offset inside a C structure is ours to know.
        self._read_received = function("_ZN2pj9SipRxData6fromPjER13pjsip_rx_data", None, pointer, pointer)
        self._find_dialog = function("pjsip_ua_find_dialog", pointer, pointer, pointer, pointer, ctypes.c_int)
        self._session_of = function("pjsip_dlg_get_inv_session", pointer, pointer)
        self._terminate = function("pjsip_inv_terminate", ctypes.c_int, pointer, ctypes.c_int, ctypes.c_int)
        self._capability = function("pjsip_endpt_get_capability", pointer, pointer, ctypes.c_int, pointer)
        self._read_sent = function("_ZN2pj9SipTxData6fromPjER13pjsip_tx_data", None, pointer, pointer)

    @runs_on("sip")
    def register(self, module: SipModule) -> bool:
        """Put a module into the chain; it must live until ``unregister``. Returns whether that worked."""
        return bool(self._register(self._endpoint, ctypes.addressof(module)) == 0)

    @runs_on("sip")
    def unregister(self, module: SipModule) -> None:
        """Take the module out of the chain."""
        self._unregister(self._endpoint, ctypes.addressof(module))

    @runs_on("sip")
    def withdraw(self, header: str, *words: str) -> bool:
        """
        Have the library promise less in each message.

        Args:
            header: ``Allow`` or ``Supported``.
            words: what is taken out of it.

        Returns:
            False where this build keeps its promises in another way.
        """
        address = self._capability(self._endpoint, _CAPABILITIES[header], None)
        found = _Capability.from_address(address) if address else None
        if found is None or _text(found.name) != header or not 0 < found.count <= _MOST_VALUES:
            return False
        kept = [value for value in found.values[: found.count] if _text(value) not in words]
        for place, value in enumerate(kept):
            found.values[place] = value
        found.count = len(kept)
        return True

    @runs_on("sip")
    def terminate(self, call_id: str, local_tag: str, remote_tag: str) -> bool:
        """End a call now, as after a time-out; the far end gets a BYE. Returns whether there is such a call."""
        names = [PjString.of(name) for name in (call_id, local_tag, remote_tag)]
        dialog = self._find_dialog(*map(ctypes.addressof, names), 0)
        session = self._session_of(dialog) if dialog else None
        return bool(session) and self._terminate(session, _TIMED_OUT, 1) == 0

    @runs_on("sip")
    def read_received(self, rx_data: int, into: Any) -> None:
        """Fill a ``pj.SipRxData``."""
        self._read_received(int(into.this), rx_data)

    @runs_on("sip")
    def read_sent(self, tx_data: int, into: Any) -> None:
        """Fill a ``pj.SipTxData``."""
        self._read_sent(int(into.this), tx_data)

    @runs_on("sip")
    def respond(self, rx_data: int, code: int, reason: str, headers: tuple[tuple[str, str], ...]) -> None:
        """
        Answer a request without a transaction (RFC 3261 section 8.2.7); an error is the far end's loss.

        Args:
            rx_data: the request.
            code: the status.
            reason: its phrase; empty for the usual one.
            headers: more of them, name and value.
        """
        phrase = PjString.of(reason)
        text = ctypes.addressof(phrase) if reason else None
        with _header_list(headers) as head:
            self._respond(self._endpoint, rx_data, code, text, head, None)


def respond_in_dialog(rx_data: int, code: int, headers: Sequence[tuple[str, str]]) -> None:
    """
    Answer a request inside a dialog, in its transaction. Thread: sip, in the event that tells of the request.

    Raises:
        AttributeError: a symbol is missing in this build; the text names it.
    """
    pointer = ctypes.c_void_p
    dialog = function("pjsip_rdata_get_dlg", pointer, pointer)(rx_data)
    if dialog is None:
        return
    respond = function("pjsip_dlg_respond", ctypes.c_int, *(pointer,) * 2, ctypes.c_int, *(pointer,) * 3)
    with _header_list(headers) as head:
        respond(dialog, rx_data, code, None, head, None)


@contextlib.contextmanager
def _header_list(headers: Sequence[tuple[str, str]]) -> Iterator[int | None]:
    """Give the address of a list of headers while they are copied from there; None for no headers."""
    if not headers:
        yield None
        return
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    endpoint = function("pjsua_get_pjsip_endpt", pointer)()
    create = function("pjsip_generic_string_hdr_create", pointer, pointer, pointer, pointer)
    insert_before = function("pj_list_insert_before", None, pointer, pointer)
    pool = function("pjsip_endpt_create_pool", pointer, pointer, ctypes.c_char_p, size, size)(
        endpoint, b"headers", 1000, 1000
    )
    try:
        head = ListHead()
        head.prev = head.next = ctypes.addressof(head)
        for name, value in headers:
            key, content = PjString.of(name), PjString.of(value)
            header = create(pool, ctypes.addressof(key), ctypes.addressof(content))  # copies both
            insert_before(ctypes.addressof(head), header)
        yield ctypes.addressof(head)
    finally:
        function("pjsip_endpt_release_pool", None, pointer, pointer)(endpoint, pool)


def _text(string: PjString) -> str:
    """Return what a ``pj_str_t`` holds; a ``ctypes`` field would stop at a zero that is not there."""
    pointer = ctypes.cast(ctypes.addressof(string), ctypes.POINTER(ctypes.c_void_p))
    return ctypes.string_at(pointer[0], min(string.slen, 64)).decode("utf-8", "replace") if pointer[0] else ""


# System V gABI, chapter 5, "Dynamic Section"
_STRTAB, _SYMTAB, _RELA, _RELASZ, _PLTRELSZ, _JMPREL = 5, 6, 7, 8, 2, 23
_RELATION = struct.Struct("<QQq")
_SYMBOL_BYTES = 24
_READ_WRITE = 3


class ImportSlot:
    """
    The place from which the extension calls ``name``, which is looked for when it is needed.

    Args:
        name: of a function of the C library, such as ``accept``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._slot: ctypes.c_void_p | None = None
        self._original: int | None = None

    @property
    def exchanged(self) -> bool:
        """Whether the extension calls a function of ours."""
        return self._slot is not None

    def exchange(self, function: Any) -> None:
        """
        Have the extension call ``function``, a ``ctypes`` callback that must live until ``restore``.

        Raises:
            SipError: the module is no 64-bit ELF file here, or does not import the name.
        """
        path = library_path()
        if path is None or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise SipError("the pjsua2 extension cannot be inspected on this platform")
        slot = ctypes.c_void_p.from_address(_find(path, self._name.encode()))
        self._original = slot.value
        _write(slot, ctypes.cast(function, ctypes.c_void_p).value)
        self._slot = slot

    def restore(self) -> None:
        """Have it call what it called before; nothing happens where nothing was exchanged."""
        if self._slot is not None:
            _write(self._slot, self._original)
            self._slot = None


def _write(slot: ctypes.c_void_p, value: int | None) -> None:
    address = ctypes.addressof(slot)
    page = address - address % mmap.PAGESIZE
    library = ctypes.CDLL(None, use_errno=True)
    if library.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), _READ_WRITE):
        raise SipError(f"the import table cannot be written: error {ctypes.get_errno()}")
    slot.value = value


def _find(path: str, name: bytes) -> int:
    # What dlopen returns begins with these three, in glibc and in musl: base address, name, dynamic section.
    base, _, dynamic = (ctypes.c_uint64 * 3).from_address(ctypes.CDLL(path)._handle)
    tags: dict[int, int] = {}
    while (entry := (ctypes.c_uint64 * 2).from_address(dynamic))[0]:
        tags[entry[0]] = entry[1]
        dynamic += 16
    if not {_STRTAB, _SYMTAB} <= tags.keys():
        raise SipError("the pjsua2 extension has no symbol table")

    def absolute(tag: int) -> int:
        value = tags[tag]
        return value if value >= base else value + base  # glibc has added the base already

    strings, symbols = absolute(_STRTAB), absolute(_SYMTAB)
    for table, size in ((_JMPREL, _PLTRELSZ), (_RELA, _RELASZ)):
        if table not in tags:
            continue
        for offset, info, _ in _RELATION.iter_unpack(ctypes.string_at(absolute(table), tags[size])):
            symbol = info >> 32
            if symbol:
                at = ctypes.c_uint32.from_address(symbols + symbol * _SYMBOL_BYTES).value
                if ctypes.string_at(strings + at, len(name) + 1) == name + b"\0":
                    return base + int(offset)
    raise SipError(f"the pjsua2 extension does not import {name.decode()}")
