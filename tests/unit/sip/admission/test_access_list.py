"""Who may call, and as which trunk."""

from __future__ import annotations

import pytest

from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.admission.access_list import Access, AccessList
from gateway.sip.core.source import Source

pytestmark = pytest.mark.unit

CARRIER = TrunkSettings.model_validate({"host": "sip.example.net", "networks": "198.51.100.0/24, 192.0.2.128/25"})
PBX = TrunkSettings.model_validate({"host": "198.51.100.7:5070", "outbound_proxy": "192.0.2.1"})


def access_list(allow_from: str | None = None, **trunks: TrunkSettings) -> AccessList:
    return AccessList(SipSettings.model_validate({"allow_from": allow_from}), trunks)


def test_anyone_may_call_while_there_is_no_trunk() -> None:
    assert access_list().find(Source.at("203.0.113.9")) == Access(None, allowed=True)


def test_nobody_else_may_call_once_there_is_a_trunk_not_even_loopback() -> None:
    known = access_list(carrier=CARRIER)
    assert known.find(Source.at("198.51.100.200:5060")) == Access("carrier", allowed=True)
    assert known.find(Source.at("203.0.113.9")) == Access(None, allowed=False)
    assert known.find(Source.at("127.0.0.1")) == Access(None, allowed=False)


def test_allowed_networks_stand_beside_the_trunks() -> None:
    known = access_list("127.0.0.0/8, 203.0.113.9", carrier=CARRIER)
    assert known.find(Source.at("127.0.0.2:40000")) == Access(None, allowed=True)
    assert known.find(Source.at("203.0.113.9")).allowed
    assert not known.find(Source.at("203.0.113.10")).allowed


def test_an_empty_list_lets_nobody_in() -> None:
    assert not access_list("").find(Source.at("203.0.113.9")).allowed


def test_an_address_as_host_or_proxy_is_the_trunks_and_the_narrowest_network_wins() -> None:
    known = access_list(carrier=CARRIER, pbx=PBX)
    assert known.trunk_of(Source.at("198.51.100.7")) == "pbx"
    assert known.trunk_of(Source.at("192.0.2.1:5060")) == "pbx"
    assert known.trunk_of(Source.at("198.51.100.8")) == "carrier"


def test_a_resolved_address_is_learnt_and_old_ones_are_forgotten() -> None:
    known = access_list(carrier=CARRIER)
    assert known.trunk_of(Source.at("203.0.113.9")) is None
    known.learn("carrier", "203.0.113.9:5060")
    assert known.trunk_of(Source.at("203.0.113.9")) == "carrier"
    for number in range(100):
        known.learn("carrier", f"203.0.112.{number}")
    assert known.trunk_of(Source.at("203.0.113.9")) is None
    assert known.trunk_of(Source.at("203.0.112.99")) == "carrier"


@pytest.mark.parametrize("address", ["", "somebody", "[somebody]:5060", "1.2.3", "1.2.3.4.5:1"])
def test_text_that_is_no_address_is_nobodys(address: str) -> None:
    known = access_list()
    known.learn("carrier", address)
    assert known.find(Source.at(address)) == Access(None, allowed=False)


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    known = access_list()
    for number in range(10_000):
        known.find(Source.at(f"10.0.{number // 250}.{number % 250}"))
    assert len(known._found) <= 4096
