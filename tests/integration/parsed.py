"""
Reads messages with our reader and with the library's, in a process of its own, and prints where the two differ.

Started with a seed and a number of messages; says as JSON how many both took, and the first differences.
"""

from __future__ import annotations

import ctypes
import json
import random
import sys
from typing import Any

from gateway.sip.core.message import Malformed, Message, parse_message
from gateway.sip.native.library import ListHead, PjString, RxData, function
from tests.rigs.screened_agent import bare_endpoint

# ``PJSIP_DECL_HDR_MEMBER`` (``pjsip/sip_msg.h``)
_HEADER = (
    *(("head", ListHead), ("type", ctypes.c_int), ("name", PjString), ("short", PjString)),
    ("table", ctypes.c_void_p),
)


class _MsgInfo(ctypes.Structure):
    """``pjsip_rx_data.msg_info``, its beginning."""

    _fields_ = (
        *(("buffer", ctypes.c_void_p), ("length", ctypes.c_int), ("message", ctypes.c_void_p)),
        *((name, ctypes.c_void_p) for name in ("info", "call_id", "sender", "to", "via", "cseq", "hops")),
        *((name, ctypes.c_void_p) for name in ("route", "record_route", "kind", "size", "require", "supported")),
        ("errors", ListHead),
    )


class _CallId(ctypes.Structure):
    _fields_ = (*_HEADER, ("id", PjString))


class _FromTo(ctypes.Structure):
    _fields_ = (*_HEADER, ("uri", ctypes.c_void_p), ("tag", PjString))


class _Method(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int), ("name", PjString))


class _CSeq(ctypes.Structure):
    _fields_ = (*_HEADER, ("number", ctypes.c_int), ("method", _Method))


class _HostPort(ctypes.Structure):
    _fields_ = (("host", PjString), ("port", ctypes.c_int))


class _Via(ctypes.Structure):
    _fields_ = (
        *_HEADER,
        *(("transport", PjString), ("sent_by", _HostPort), ("ttl", ctypes.c_int)),
        *(("rport", ctypes.c_int), ("maddr", PjString), ("received", PjString), ("branch", PjString)),
    )


def text_of(string: PjString) -> str:
    pointer = ctypes.cast(ctypes.addressof(string), ctypes.POINTER(ctypes.c_void_p))[0]
    return (
        ctypes.string_at(pointer, string.slen).decode("utf-8", "surrogateescape") if pointer and string.slen > 0 else ""
    )


class Library:
    """The library's parser."""

    def __init__(self) -> None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._parse = function("pjsip_parse_rdata", pointer, pointer, size, pointer)
        self._endpoint = function("pjsua_get_pjsip_endpt", pointer)()
        self._create = function("pjsip_endpt_create_pool", pointer, pointer, ctypes.c_char_p, size, size)
        self._release = function("pjsip_endpt_release_pool", None, pointer, pointer)
        self._scratch = ctypes.create_string_buffer(16384)

    def read(self, data: bytes) -> tuple[Any, ...] | None:
        """Return Call-ID, tags, CSeq and branch as the library reads them; None when it refuses the message."""
        ctypes.memset(self._scratch, 0, len(self._scratch))
        address = ctypes.addressof(self._scratch)
        packet = ctypes.create_string_buffer(data)
        rx_data = RxData.from_address(address)
        rx_data.pool = pool = self._create(self._endpoint, b"parsed", 4000, 4000)
        info = _MsgInfo.from_address(address + (ctypes.sizeof(RxData) + 7) // 8 * 8)
        here = ctypes.addressof(info) + _MsgInfo.errors.offset
        info.errors.prev = info.errors.next = here
        try:
            made = self._parse(ctypes.addressof(packet), len(data), address)
            if (
                not made
                or info.errors.next != here
                or not all((info.call_id, info.sender, info.to, info.via, info.cseq))
            ):
                return None
            via, cseq = _Via.from_address(info.via), _CSeq.from_address(info.cseq)
            return (
                *(text_of(_CallId.from_address(info.call_id).id), text_of(_FromTo.from_address(info.sender).tag)),
                *(
                    text_of(_FromTo.from_address(info.to).tag),
                    cseq.number,
                    text_of(cseq.method.name),
                    text_of(via.branch),
                ),
            )
        finally:
            self._release(self._endpoint, pool)


BASES = (
    "INVITE sip:1000@192.0.2.1;transport=udp SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bK1;rport\r\n"
    'Max-Forwards: 70\r\nFrom: "A \\"B\\" C" <sip:a:pw@192.0.2.9;user=phone>;tag=here\r\n'
    "To: <sip:1000@192.0.2.1>\r\nCall-ID: a84b@192.0.2.9\r\nCSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.9>;q=0.5\r\n"
    "Session-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\nSupported: timer, 100rel\r\nRoute: <sip:192.0.2.1;lr>\r\n"
    "Record-Route: <sip:192.0.2.8;lr>, <sip:192.0.2.7;lr>\r\nExpires: 120\r\nX-Note: b\r\n\r\n",
    "BYE sip:1000@192.0.2.1 SIP/2.0\r\nv: SIP/2.0/TCP h;branch=z9hG4bK2 , SIP/2.0/UDP i\r\nf: sip:a@b;tag=here\r\n"
    "t: sip:1000@192.0.2.1;tag=us\r\ni: 1\r\nCSeq: 2 BYE\r\nEvent: refer;id=1\r\nl: 0\r\n"
    'Authorization: Digest username="a", realm="b", uri="sip:c?d&e", nc=1\r\n\r\n',
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKPj3;received=192.0.2.9;rport=5060\r\n"
    'From: <tel:+4930;phone-context=x>;tag=us\r\nTo: Bell, Alexander <sip:b@c>\r\n ;tag=them;x="y;tag=z"\r\n'
    "Call-ID: x\r\nCSeq: 3 INVITE\r\nContact: sip:b@c;expires=3\r\nRetry-After: 5 (busy);duration=9\r\n"
    "Allow: INVITE, ACK\r\n\r\n",
)
PIECES = (
    ";tag=abc",
    ";tag=",
    "tag",
    ";",
    "=",
    '"',
    "\\",
    "<",
    ">",
    "&",
    "&To: <sip:x@y>;tag=abc",
    ",",
    ":",
    "@",
    " ",
    "\t",
    "\r\n",
    "\r\n ",
    "\n",
    "\r",
    "%61",
    "?",
    "'",
    "(",
    ")",
    "/",
    "\r\nt: <sip:x@y>;tag=abc\r\n",
    "\r\nTo : x\r\n",
    "\0",
    "\x80",
    "\xff",
    "SIP/2.0",
    "sip:",
    "tel:",
    ";branch=q",
    "9999999999",
    "z9hG4bK",
    "[",
    "]",
    "*",
    "Z" * 70,
)


def mutated(chance: random.Random) -> bytes:
    data = bytearray(chance.choice(BASES).encode())
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(data))
        kind = chance.randrange(4)
        if kind == 0:
            data[place:place] = chance.choice(PIECES).encode("latin-1")
        elif kind == 1:
            data[place : place + 1] = chance.choice(PIECES).encode("latin-1")
        elif kind == 2:
            del data[place : place + chance.randrange(1, 12)]
        else:
            source = chance.randrange(len(data))
            data[place:place] = data[source : source + chance.randrange(1, 60)]
    return bytes(data)


def ours(text: str) -> Message | None:
    try:
        return parse_message(text)
    except Malformed:
        return None


def main() -> None:
    chance, number = random.Random(int(sys.argv[1])), int(sys.argv[2])
    endpoint = bare_endpoint()
    library = Library()
    both, only_ours, differences = 0, 0, []
    cases = [base.encode() for base in BASES] + [mutated(chance) for _ in range(number)]
    for data in cases:
        message = ours(data.decode("utf-8", "surrogateescape"))
        if message is None:
            continue
        told = library.read(data)
        mine = (message.call_id, message.from_tag, message.to_tag, message.cseq, message.cseq_method, message.branch)
        if told is None:
            only_ours += 1
        elif told == mine:
            both += 1
        else:
            differences.append({"data": data.decode("latin-1"), "library": told, "ours": mine})
    endpoint.libDestroy()
    print(json.dumps({"both": both, "only_ours": only_ours, "differ": len(differences), "first": differences[:3]}))


if __name__ == "__main__":
    main()
