"""Who sent a request, as an edge writes it down."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.core.message import parse_message
from gateway.sip.core.source import Source, source_told, transport_of

pytestmark = pytest.mark.unit


def request(*lines: str, body: str = "") -> str:
    return "\r\n".join(("INVITE sip:1@a SIP/2.0", "Via: SIP/2.0/UDP a", *lines, "", body))


@pytest.mark.parametrize(
    ("value", "source", "written"),
    [
        ("udp;192.0.2.7:5060", Source("192.0.2.7", 5060, "udp"), "192.0.2.7:5060"),
        (" TLS;192.0.2.7:1;PBX.example.com ", Source("192.0.2.7", 1, "tls", "pbx.example.com"), "192.0.2.7:1"),
        ("tcp;[2001:DB8:0::7]:65535", Source("2001:db8::7", 65535, "tcp"), "[2001:db8::7]:65535"),
        ("udp;[::ffff:192.0.2.7]:5060", Source("192.0.2.7", 5060, "udp"), "192.0.2.7:5060"),
    ],
)
def test_it_is_read_in_one_form(value: str, source: Source, written: str) -> None:
    assert source_told(request(f"x-GATEWAY-source:{value}")) == source
    assert str(source) == written


@pytest.mark.parametrize(
    "value",
    [
        *("", "udp", "udp;192.0.2.7", "udp;192.0.2.7:0", "udp;192.0.2.7:65536", "udp;192.0.2.256:5060"),
        *("sctp;192.0.2.7:5060", "udp;2001:db8::7:5060", "udp;[2001:db8::7]", "udp;[192.0.2.7]:5060"),
        *("udp;192.0.2.7:5060;", "udp;192.0.2.7:5060;a b", "udp;192.0.2.7:5060, udp;192.0.2.8:5060"),
        *("udp;[fe80::1%eth0]:5060", "udp;name.example:5060", "udp;192.0.2.7:5060;a;b"),
    ],
)
def test_in_any_other_form_it_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="X-Gateway-Source"):
        source_told(request(f"X-Gateway-Source: {value}"))


def test_two_are_refused_however_they_are_written_and_a_body_has_none() -> None:
    one = "X-Gateway-Source: udp;192.0.2.7:5060"
    for other in (one, "x-gateway-source : udp;192.0.2.8:5060", "Subject: a\nX-Gateway-Source: udp;192.0.2.8:5060"):
        with pytest.raises(ValueError, match="two"):
            source_told(request(one, other))
    assert source_told(request(body=f"\r\n{one}\r\n")) is None
    assert source_told(request("Subject: a", f" {one}")) is None  # folded: part of the line before


@given(st.text())
def test_nothing_else_is_raised(value: str) -> None:
    with suppress(ValueError):
        source_told(request(f"X-Gateway-Source:{value}"))


def test_an_address_has_a_port_or_none_and_brackets_or_none() -> None:
    for written, host, port in (
        ("192.0.2.7:5060", "192.0.2.7", 5060),
        ("192.0.2.7", "192.0.2.7", 0),
        ("[2001:db8::7]:5060", "2001:db8::7", 5060),
        ("[2001:db8::7]", "2001:db8::7", 0),
        ("2001:db8::7", "2001:db8::7", 0),
    ):
        assert Source.at(written) == Source(host, port)


def test_whoever_has_an_ipv6_address_has_all_of_its_network() -> None:
    assert Source("2001:db8:1:2:3::7").site == Source("2001:db8:1:2::").site == "2001:db8:1:2::/64"
    assert Source("192.0.2.7").site == "192.0.2.7"


def test_the_topmost_via_tells_the_transport() -> None:
    text = request("Via: SIP/2.0/TCP b", "From: <sip:a@b>;tag=1", "To: <sip:c@d>", "Call-ID: 1", "CSeq: 1 INVITE")
    assert transport_of(parse_message(text)) == "udp"
    assert transport_of(parse_message(text.replace("SIP/2.0/UDP a", "SIP / 2.0 / TLS a"))) == "tls"
