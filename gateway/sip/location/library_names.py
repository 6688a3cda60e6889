"""
Takes host names out of the library's hands: left to itself it stops the SIP thread until the system has resolved one.

``LibraryNames`` is the library's external resolver (``pjsip_endpt_set_ext_resolver``): every request and response whose
next hop is a name asks it, and may be answered later. ``NameGuard`` closes what does not go that way: names in SDP, the
look at a TCP trunk's name for the Contact, the machine's own name for each call's media. Both checked against pjproject
2.15.1.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Callable

import structlog

from gateway.errors import SipError
from gateway.sip.location.resolver import addresses_in_hosts
from gateway.sip.location.servers import NextHop, Server, Transport, is_address
from gateway.sip.native.guard import answering
from gateway.sip.native.library import ImportSlot, PjString, function
from gateway.threads import runs_on

Choose = Callable[[NextHop, Callable[[Server | None], None]], None]

_log = structlog.get_logger(__name__)
_PJ_ERESOLVE = 70018
_TRANSPORTS: dict[int, Transport] = {1: "udp", 2: "tcp", 3: "tls"}  # pjsip_transport_type_e
_NUMBERS = {transport: number for number, transport in _TRANSPORTS.items()}
_REQUEST_TIMEOUT = 408
_UDP_WITHOUT_IPV6 = 0x7F  # masks PJSIP_TRANSPORT_IPV6

_Pointer = ctypes.c_void_p
_Resolve = ctypes.CFUNCTYPE(ctypes.c_int, *(_Pointer,) * 5)
_Resolved = ctypes.CFUNCTYPE(None, ctypes.c_int, _Pointer, _Pointer)
_GetAddrInfo = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, _Pointer, _Pointer)


class _HostInfo(ctypes.Structure):
    """``pjsip_host_info`` (``pjsip/sip_types.h``)."""

    _fields_ = (
        ("flag", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("host", PjString),
        ("port", ctypes.c_int),
    )


class _ExternalResolver(ctypes.Structure):
    """``pjsip_ext_resolver`` (``pjsip/sip_resolve.h``)."""

    _fields_ = (("resolve", _Resolve),)


class LibraryNames:
    """
    Answers the library's questions for host names. Made after ``libInit``, kept until ``libDestroy``; thread: sip.

    A second resolver of the library's own, which is asked for addresses alone, fills in its structures.

    Args:
        choose: gives the server for a target, at once or later.

    Raises:
        AttributeError: this build lacks a symbol; the text names it.
    """

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        endpoint = function("pjsua_get_pjsip_endpt", _Pointer)()
        set_resolver = function("pjsip_endpt_set_ext_resolver", ctypes.c_int, _Pointer, _Pointer)
        self._library_resolve = function("pjsip_resolve", None, *(_Pointer,) * 5)
        self._find_transaction = function("pjsip_tsx_layer_find_tsx", _Pointer, _Pointer, ctypes.c_int)
        self._terminate = function("pjsip_tsx_terminate", ctypes.c_int, _Pointer, ctypes.c_int)
        size = ctypes.c_size_t
        create_pool = function("pjsip_endpt_create_pool", _Pointer, _Pointer, ctypes.c_char_p, size, size)
        create_resolver = function("pjsip_resolver_create", ctypes.c_int, _Pointer, _Pointer)
        pool = create_pool(endpoint, b"addresses", 512, 512)  # the library releases it when it ends
        made = _Pointer()
        if create_resolver(pool, ctypes.addressof(made)):
            raise SipError("the SIP library could not make a resolver")
        self._addresses = made
        self._external = _ExternalResolver(_Resolve(self._resolve))
        set_resolver(endpoint, ctypes.addressof(self._external))

    @runs_on("sip")
    def give_up(self, method: str, branch: str) -> None:
        """End a client transaction as if it had timed out; one that is over is ignored."""
        # The key that the library makes of a transaction (create_tsx_key_3261 in sip_transaction.c).
        key = PjString.of(f"c${branch}" if method == "INVITE" else f"c${method}${branch}")
        transaction = self._find_transaction(ctypes.addressof(key), 0)
        if transaction:
            self._terminate(transaction, _REQUEST_TIMEOUT)

    @answering(0)
    def _resolve(self, _resolver: int, pool: int, target: int, token: int, resolved: int) -> int:
        info = _HostInfo.from_address(target)
        host = ctypes.string_at(_pointer_of(info.host), info.host.slen).decode("utf-8", "replace").lower()
        if is_address(host):
            self._library_resolve(self._addresses, pool, target, token, resolved)
            return 0
        transport = _TRANSPORTS.get(info.type & _UDP_WITHOUT_IPV6)

        def answer(server: Server | None) -> None:
            self._answer(server, pool, token, resolved)

        self._choose(NextHop(host, info.port, transport), answer)
        return 0

    def _answer(self, server: Server | None, pool: int, token: int, resolved: int) -> None:
        if server is None:
            _Resolved(resolved)(_PJ_ERESOLVE, token, None)
            return
        address = PjString.of(server.address)
        info = _HostInfo(0, _NUMBERS[server.transport], address, server.port)
        self._library_resolve(self._addresses, pool, ctypes.addressof(info), token, resolved)


def _pointer_of(text: PjString) -> int:
    """Return where a string lies; its ``ptr`` would be read up to a zero that is not there."""
    return int(_Pointer.from_buffer(text).value or 0)


class _AddrInfo(ctypes.Structure):
    """``struct addrinfo`` (``netdb.h``)."""

    _fields_ = (
        ("flags", ctypes.c_int),
        ("family", ctypes.c_int),
        ("kind", ctypes.c_int),
        ("protocol", ctypes.c_int),
        ("length", ctypes.c_uint),
        ("address", _Pointer),
        ("name", _Pointer),
        ("next", _Pointer),
    )


class NameGuard:
    """
    Lets the library read addresses but look up no name. Thread: sip.

    Only the machine's own name has an address for it, where the hosts file tells one. The library weighs it when it
    chooses the address that it writes into SDP; the default route weighs more.
    """

    def __init__(self) -> None:
        name = socket.gethostname()
        self._own_name = name.encode()
        self._own_address = next(iter(addresses_in_hosts(name.lower())), name).encode()
        self._look_up_for_real = ctypes.CDLL(None).getaddrinfo
        self._look_up_for_real.argtypes = (ctypes.c_char_p, ctypes.c_char_p, _Pointer, _Pointer)
        self._callback = _GetAddrInfo(self._look_up)
        self._slot = ImportSlot("getaddrinfo")

    @runs_on("sip")
    def install(self) -> None:
        """Stand between the library and the system; where that cannot be, the log says so."""
        try:
            self._slot.exchange(self._callback)
        except SipError as error:
            _log.warning("sip_names_unguarded", detail=f"{error}; a host name in SDP can stop the SIP thread")

    @runs_on("sip")
    def remove(self) -> None:
        """Step aside."""
        self._slot.restore()

    @answering(socket.EAI_NONAME)
    def _look_up(self, host: bytes | None, service: bytes | None, hints: int | None, found: int) -> int:
        wanted = _AddrInfo.from_buffer_copy(_AddrInfo.from_address(hints)) if hints else _AddrInfo()
        wanted.flags |= socket.AI_NUMERICHOST
        host = self._own_address if host == self._own_name else host
        return int(self._look_up_for_real(host, service, ctypes.addressof(wanted), found))
