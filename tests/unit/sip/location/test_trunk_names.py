"""Trunks that are host names: their source addresses follow the name servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.admission.access_list import AccessList
from gateway.sip.core.source import Source
from gateway.sip.location.locator import Locator
from gateway.sip.location.servers import RETRY_S, Located, NextHop, Server
from gateway.sip.location.trunk_names import GRACE_S, TrunkNames, next_hop, transports_of
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit

TRUNKS = {
    "named": TrunkSettings(host="Carrier.example"),
    "fixed": TrunkSettings(host="192.0.2.40"),
    "proxied": TrunkSettings(host="far.example", outbound_proxy="proxy.example:5070", transport="tls"),
}
NAMED = NextHop("carrier.example", 0, "udp")
SILENCE = Located((), RETRY_S, "no name server answered", failed=True)


def found(*addresses: str) -> Located:
    return Located(tuple(Server(address, 5060, "udp") for address in addresses), 100)


class Desk:
    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[NextHop] = []
        self.told: list[tuple[str, str]] = []
        self.locator = Locator(self.asked.append, clock=lambda: self.now)
        self.access_list = AccessList(SipSettings(), TRUNKS)
        self.names = TrunkNames(
            TRUNKS, self.locator, self.access_list, lambda *told: self.told.append(told), clock=lambda: self.now
        )
        self.names.open()


@pytest.fixture
def desk() -> Iterator[Desk]:
    with playing("sip"):
        yield Desk()


def test_names_alone_are_looked_up_and_the_proxy_before_the_host(desk: Desk) -> None:
    assert desk.asked == [NAMED, NextHop("proxy.example", 5070, "tls")]
    assert next_hop(TRUNKS["fixed"]) == NextHop("192.0.2.40", 0, "udp")
    assert transports_of(TRUNKS)["proxy.example"] == "tls"


def test_a_host_of_two_trunks_is_reached_over_udp_unless_the_uri_says_otherwise() -> None:
    udp, tls = TrunkSettings(host="c.example"), TrunkSettings(host="c.example", transport="tls")
    assert transports_of({"a": udp, "b": tls}) == transports_of({"b": tls, "a": udp}) == {"c.example": "udp"}


def test_all_servers_of_a_name_are_its_sources(desk: Desk) -> None:
    assert not desk.access_list.find(Source.at("192.0.2.1")).allowed
    desk.locator.take(NAMED, found("192.0.2.1", "192.0.2.2"))
    assert [desk.access_list.trunk_of(Source.at(f"192.0.2.{n}:5060")) for n in (1, 2, 3)] == ["named", "named", None]
    assert desk.told == [("named", "")]


def test_an_address_that_a_name_has_no_more_is_kept_for_a_while(desk: Desk) -> None:
    desk.locator.take(NAMED, found("192.0.2.1"))
    desk.now = 100
    desk.locator.take(NAMED, found("192.0.2.2"))
    desk.now = GRACE_S - 1
    desk.names.tick(desk.now)
    assert desk.access_list.trunk_of(Source.at("192.0.2.1")) == "named"
    desk.now = GRACE_S + 1
    desk.names.tick(desk.now)
    assert desk.access_list.trunk_of(Source.at("192.0.2.1")) is None
    assert desk.access_list.trunk_of(Source.at("192.0.2.2")) == "named"


def test_addresses_stay_while_no_name_server_answers(desk: Desk) -> None:
    desk.locator.take(NAMED, found("192.0.2.1"))
    for _ in range(5):
        desk.now += 100000  # longer than servers are used without an answer
        desk.locator.take(NAMED, SILENCE)
        desk.names.tick(desk.now)
    assert desk.access_list.trunk_of(Source.at("192.0.2.1")) == "named"
    assert desk.told == [("named", "")]


def test_a_name_without_an_address_is_told_once_and_again_when_it_has_one(desk: Desk) -> None:
    desk.locator.take(NAMED, SILENCE)
    desk.locator.take(NAMED, SILENCE)
    desk.locator.take(NAMED, found("192.0.2.1"))
    assert desk.told == [("named", "no name server answered"), ("named", "")]
