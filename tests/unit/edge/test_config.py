from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.config import EdgePlace, kamailio_config, tls_config
from gateway.edge.workers import EdgeWorker, tables
from gateway.errors import ConfigError
from gateway.settings.sections import Settings
from gateway.settings.sip import SipSettings

pytestmark = pytest.mark.unit

PLACE = EdgePlace(
    port=5060,
    tls_port=5061,
    inner="10.0.0.1:5070",
    control=Path("/run/x.sock"),
    tls_config=Path("/etc/x.cfg"),
    public="192.0.2.1",
    key="k",
)


def config(sip: dict[str, Any] | None = None, place: EdgePlace = PLACE, **sections: Any) -> str:
    return kamailio_config(Settings.model_validate({"sip": sip or {}, **sections}), place)


def listens(text: str) -> list[str]:
    return re.findall(r"^listen=(.*)", text, re.MULTILINE)


def test_public_sockets_come_first_and_say_the_public_address() -> None:
    assert listens(config()) == [
        "udp:0.0.0.0:5060 advertise 192.0.2.1:5060",
        "tcp:0.0.0.0:5060 advertise 192.0.2.1:5060",
        "udp:10.0.0.1:5070",
    ]


def test_transports_follow_the_settings() -> None:
    text = config(
        {"host": "192.0.2.1", "tcp": False, "tls": True, "tls_certificate": "a.pem", "tls_key": "a.key"},
        edge={"host_ipv6": "2001:db8::1"},
    )
    assert listens(text) == [
        "udp:192.0.2.1:5060",
        "udp:[2001:db8::1]:5060",
        "tls:192.0.2.1:5061",
        "tls:[2001:db8::1]:5061",
        "udp:10.0.0.1:5070",
    ]
    assert 'loadmodule "tls.so"' in text
    assert 'loadmodule "tls.so"' not in config()


def test_networks_of_both_families_become_conditions() -> None:
    text = config(
        {"allow_from": ["192.0.2.0/24", "2001:db8::/32"]},
        trunks={"a": {"host": "sip.example.com", "networks": ["198.51.100.0/30"], "outbound_proxy": "198.51.100.9"}},
    )
    for network in ("192.0.2.0/24", "[2001:db8::]/32", "198.51.100.0/30", "198.51.100.9"):
        assert f"(src_ip == {network})" in text


def test_what_workers_alone_may_do_is_bound_to_their_addresses() -> None:
    assert 'src_ip != 127.0.0.0/8 && $si != "10.0.0.1" && $sht(host=>$si) == $null' in config()


@pytest.mark.parametrize(
    ("name", "found"),
    [("sip-scan", "sip-scan"), ('a"b', "a.b"), ("a\\b", "a.b"), ("x(1)$y", "x[(]1[)][$]y"), ("ü\n", "..")],
)
def test_scanners_are_found_as_they_are_written(name: str, found: str) -> None:
    assert f'$ua =~ "{found}"' in config({"scanners": [name]})


def test_without_scanners_nobody_is_one() -> None:
    assert '$ua =~ "^$a"' in config({"scanners": []})


def test_what_is_held_from_the_start_stands_in_it() -> None:
    held = tables("k", [EdgeWorker("127.0.0.1:5071", 4, live_calls=2)])
    text = kamailio_config(Settings(), PLACE, held=held)
    assert '$sht(edge=>order) = "127.0.0.1:5071/4";' in text
    assert "$sht(load=>127.0.0.1:5071) = 2;" in text


def test_lines_of_the_head_stay_comments() -> None:
    text = kamailio_config(Settings(), PLACE, head=["two\nlines", "one"])
    assert "# two lines\n# one\n" in text


def test_a_path_that_could_end_a_string_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be given the path"):
        tls_config(SipSettings(tls_certificate=Path('/etc/a"b.pem')))


def test_the_certificates_of_clients_are_verified_only_where_authorities_are_given() -> None:
    own = {"tls": True, "tls_certificate": "/a.pem", "tls_key": "/a.key"}
    without = tls_config(SipSettings.model_validate(own))
    assert "verify_certificate = no" in without
    assert "require_certificate = yes" not in without
    assert without.count("method = TLSv1.2+") == 2
    with_them = tls_config(SipSettings.model_validate({**own, "tls_authorities": "/ca.pem"}))
    server, client = with_them.split("[client:default]")
    assert "verify_certificate = yes" in server
    assert "require_certificate = no" in server
    assert "require_certificate = yes" in client
