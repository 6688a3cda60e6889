"""
Max-Forwards of a call that is sent on: what the caller's INVITE had left, less one (RFC 3261 section 16.6, step 3).

So a call that comes round to us again ends. The library writes 70 into every request, from a list of headers that it
copies; the number there is changed while the INVITE is made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.sip.native.library import Header, function
from gateway.threads import runs_on

DEFAULT_HOPS = 70
"""What a request begins with (RFC 3261 section 8.1.1.6)."""

_MOST_HEADERS = 20


class _MaxForwards(Header):
    _fields_ = (("hops", ctypes.c_int32),)


def hops_left(max_forwards: str) -> int:
    """Return what the INVITE of a call that is sent on may have left; 0 when it may not be sent on any more."""
    hops = int(max_forwards) if max_forwards.isdecimal() and len(max_forwards) < 4 else DEFAULT_HOPS
    return max(0, min(hops, DEFAULT_HOPS) - 1)


@contextmanager
def max_forwards(hops: int) -> Iterator[None]:
    """Make requests created meanwhile begin with this many hops, if this build allows it. Thread: sip."""
    header = _default() if hops != DEFAULT_HOPS else None
    if header is None:
        yield
        return
    header.hops = hops
    try:
        yield
    finally:
        header.hops = DEFAULT_HOPS


@runs_on("sip")
def _default() -> _MaxForwards | None:
    """Return the header that the library copies into every request."""
    try:
        endpoint = function("pjsua_get_pjsip_endpt", ctypes.c_void_p)()
        head = function("pjsip_endpt_get_request_headers", ctypes.c_void_p, ctypes.c_void_p)(endpoint)
    except AttributeError:
        return None
    header = _MaxForwards.from_address(Header.from_address(head).next)
    for _ in range(_MOST_HEADERS):
        if ctypes.addressof(header) == head:
            break
        if header.written == b"Max-Forwards" and header.hops == DEFAULT_HOPS:
            return header
        header = _MaxForwards.from_address(header.next)
    return None
