"""Which addresses a webhook may be sent to."""

from __future__ import annotations

import socket

import pytest

from gateway.webhooks.addresses import AddressGuard

pytestmark = pytest.mark.unit

REFUSED = """
    127.0.0.1 127.8.9.1 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 192.0.0.8 198.18.0.1
    192.0.2.1 203.0.113.9 224.0.0.1 239.1.2.3 240.0.0.1 255.255.255.255 :: ::1 fe80::1 fe80::1%eth0 fc00::1 fd12::1
    ff02::1 2001:db8::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
    2002:7f00:1:: 2002:a00:1:: ::127.0.0.1 64:ff9b:1::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 fec0::1
    not-an-address
""".split()  # noqa: SIM905 - a list would be much longer
TAKEN = "93.184.216.34 8.8.8.8 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::".split()  # noqa: SIM905


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_no_part_of_the_internet_is_refused(address: str) -> None:
    assert AddressGuard((), encrypted=True).problem(address)


@pytest.mark.parametrize("address", TAKEN)
def test_public_addresses_are_taken_over_tls_alone(address: str) -> None:
    assert AddressGuard((), encrypted=True).problem(address) == ""
    assert "in clear" in AddressGuard((), encrypted=False).problem(address)


def test_an_allowed_network_is_taken_and_no_other() -> None:
    guard = AddressGuard(("10.1.0.0/16", "fd12::/64"), encrypted=False)
    assert [guard.problem(each) for each in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::7")] == ["", "", ""]
    assert "10.2.0.1 is no public address" in guard.problem("10.2.0.1")
    assert guard.problem("fd12:0:0:1::7")


def test_the_socket_is_made_for_what_was_judged() -> None:
    with pytest.raises(PermissionError, match=r"127\.0\.0\.1 is no public address"):
        AddressGuard((), encrypted=True)((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443)))
    guard = AddressGuard(("127.0.0.0/8",), encrypted=True)
    with guard((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)
