from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.sip import SipSettings
from gateway.sip.library.stun import mapped_address, with_public_address

pytestmark = pytest.mark.unit

TRANSACTION = b"0123456789ab"
COOKIE = bytes.fromhex("2112a442")


def response(*attributes: bytes, kind: int = 0x0101, transaction: bytes = TRANSACTION) -> bytes:
    body = b"".join(attributes)
    return struct.pack("!HH", kind, len(body)) + COOKIE + transaction + body


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


PLAIN = attribute(0x0001, b"\x00\x01\x12\x34" + bytes((198, 51, 100, 1)))
XORED = attribute(0x0020, b"\x00\x01\x12\x34" + bytes(a ^ b for a, b in zip((203, 0, 113, 7), COOKIE, strict=True)))


def test_the_address_is_read_and_the_masked_one_counts_above_the_plain_one() -> None:
    software = attribute(0x8022, b"a server")
    assert mapped_address(response(software, PLAIN), TRANSACTION) == "198.51.100.1"
    assert mapped_address(response(PLAIN, attribute(0x8022, b"odd"), XORED), TRANSACTION) == "203.0.113.7"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        response(),
        response(PLAIN, transaction=b"another one!"),
        response(PLAIN, kind=0x0111),
        response(PLAIN)[:-1],
        response(attribute(0x0001, b"\x00\x02\x12\x34" + bytes(16))),
    ],
)
def test_anything_else_is_no_answer(answer: bytes) -> None:
    assert mapped_address(answer, TRANSACTION) is None


@given(st.binary(max_size=200))
def test_garbage_is_no_answer_either(garbage: bytes) -> None:
    mapped_address(response(garbage), TRANSACTION)
    assert mapped_address(garbage, TRANSACTION) is None


def test_nobody_is_asked_when_the_address_is_known_or_no_server_named() -> None:
    for settings in (SipSettings(), SipSettings(stun_server="192.0.2.1", public_address="192.0.2.2")):
        assert with_public_address(settings) is settings
