"""Whose RTP is taken."""

from __future__ import annotations

import pytest

from gateway.sip.calls.rtp_source import Address, address_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:4000", ("192.0.2.1", 4000)),
        ("0.0.0.0:4000", None),
        ("192.0.2.1:0", None),
        ("[2001:db8::1]:4000", None),
        ("", None),
    ],
)
def test_an_address_is_read_unless_it_is_none(text: str, address: Address | None) -> None:
    assert address_of(text) == address
