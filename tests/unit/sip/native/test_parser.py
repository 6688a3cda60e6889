"""Where a message came from, as the library's structure tells it."""

from __future__ import annotations

import ctypes
import socket

import pytest

from gateway.sip.native.library import RxData
from gateway.sip.native.parser import _ADDRESS, _ADDRESS_BYTES, source_of

pytestmark = pytest.mark.unit


def told(host: str = "192.0.2.7", port: int = 5070, *, name: bytes = b"192.0.2.7", number: int = 5070) -> bytes:
    """Return the end of ``pkt_info``: the address as a structure, and again as a name and a number."""
    rx_data = RxData()
    address = socket.AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + socket.inet_aton(host)
    ctypes.memmove(ctypes.addressof(rx_data) + _ADDRESS, address, len(address))
    rx_data.source_name, rx_data.source_port = name, number
    return ctypes.string_at(ctypes.addressof(rx_data) + _ADDRESS, _ADDRESS_BYTES)


def test_the_source_is_address_and_port() -> None:
    assert source_of(told()) == "192.0.2.7:5070"


@pytest.mark.parametrize(
    "data",
    [
        told("192.0.2.8"),
        told(port=5071),
        told(name=b""),
        told(number=0),
        b"\0" * _ADDRESS_BYTES,
        b"\xff" * _ADDRESS_BYTES,
    ],
)
def test_a_build_with_other_structures_is_found_out(data: bytes) -> None:
    assert source_of(data) is None
