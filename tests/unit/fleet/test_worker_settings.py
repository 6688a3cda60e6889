from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.fleet.worker_settings import fleet_size, media_address, worker_settings
from gateway.settings.fleet import FleetSettings
from gateway.settings.sections import Settings
from gateway.settings.sip import SipSettings

pytestmark = pytest.mark.unit


def settings(calls: int = 40, **sip: Any) -> Settings:
    return Settings(sip=SipSettings.model_validate(sip), fleet=FleetSettings(calls=calls))


def test_a_fleet_has_as_many_workers_as_its_calls_fill() -> None:
    size = fleet_size(settings(41), 4)
    assert (size.workers, size.calls, size.slices) == (11, 44, 12)


@pytest.mark.parametrize(
    ("calls", "first", "cure"),
    [
        (48, 10000, "has room for 12; set sip.rtp_port_max to 10207 or more"),
        (48, 65336, "set sip.rtp_port_min to 65328 or less and sip.rtp_port_max to 65535"),
        (10_000, 10000, "set sip.rtp_port_max to 50015 or more"),
        (10_000, 30000, "set sip.rtp_port_min to 25520 or less and sip.rtp_port_max to 65535"),
    ],
)
def test_a_range_of_rtp_ports_that_is_too_small_is_refused_with_one_that_fits(
    calls: int, first: int, cure: str
) -> None:
    given = settings(calls, rtp_port_min=first, rtp_port_max=first + 199)
    with pytest.raises(ConfigError, match=f"fleet.calls: {calls} calls take .*{cure}"):
        fleet_size(given, 4)


def test_more_calls_than_the_ports_of_an_address_belong_to_several_machines() -> None:
    with pytest.raises(ConfigError, match="spread them over several machines"):
        fleet_size(settings(10_000), 2)


def test_workers_listen_on_loopback_and_share_no_port() -> None:
    given = settings(host="192.0.2.1", tcp=True, tls=True, tls_certificate="c.pem", tls_key="k.pem")
    one, other = (
        worker_settings(
            given, slot=slot, port=port, media_address="192.0.2.1", edge="127.0.0.1:6060", edge_contact="192.0.2.1:5060"
        ).sip
        for slot, port in ((0, 5001), (1, 5002))
    )
    assert (one.host, one.port, one.udp, one.tcp, one.tls) == ("127.0.0.1", 5001, True, False, False)
    assert (one.media_address, one.edges, one.edge) == ("192.0.2.1", ("127.0.0.1/32",), "127.0.0.1:6060")
    assert one.edge_contact == "192.0.2.1:5060"
    assert (one.rtp_port_min, one.rtp_port_max) == (10000, 10015)
    assert (other.rtp_port_min, other.rtp_port_max) == (10016, 10031)


def test_the_other_settings_are_the_fleets() -> None:
    given = settings(codecs=("PCMA",))
    one = worker_settings(given, slot=0, port=5001, media_address="192.0.2.1", edge="", edge_contact="")
    assert one.sip.codecs == ("PCMA",)
    assert one.sip.edges == ()
    assert one.call == given.call


@pytest.mark.parametrize(
    ("sip", "address"),
    [
        ({"host": "127.0.0.2"}, "127.0.0.2"),
        ({"host": "127.0.0.2", "public_address": "192.0.2.7"}, "192.0.2.7"),
        ({"host": "127.0.0.2", "public_address": "192.0.2.7", "media_address": "192.0.2.8"}, "192.0.2.8"),
    ],
)
def test_rtp_comes_to_the_address_that_is_set(sip: dict[str, str], address: str) -> None:
    assert media_address(SipSettings.model_validate(sip)) == address


def test_without_any_it_is_an_address_of_this_machine() -> None:
    assert media_address(SipSettings()) not in ("", "0.0.0.0")
