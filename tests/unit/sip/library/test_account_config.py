from __future__ import annotations

import pytest

from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.library.account_config import edge_contact, media_bound_to

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("transport", "given", "contact"),
    [
        ("udp", {}, ("127.0.0.1:5059", "")),
        ("udp", {"edge_contact": "192.0.2.1:5060"}, ("192.0.2.1:5060", "")),
        ("tcp", {"edge_contact": "192.0.2.1:5060"}, ("192.0.2.1:5060", ";transport=tcp")),
        ("tls", {"edge_contact": "192.0.2.1", "tls_port": 5081}, ("192.0.2.1:5081", ";transport=tls")),
    ],
)
def test_a_trunk_reaches_the_edge_over_its_own_transport(
    transport: str, given: dict[str, object], contact: tuple[str, str]
) -> None:
    settings = SipSettings.model_validate({"edges": "127.0.0.1", "edge": "127.0.0.1:5059", **given})
    trunk = TrunkSettings.model_validate({"host": "sip.example.com", "transport": transport})
    assert edge_contact(settings, trunk) == contact


def test_rtp_is_bound_to_an_address_of_this_machine_or_to_all() -> None:
    for given, bound in (
        ({}, ""),
        ({"host": "127.0.0.1"}, "127.0.0.1"),
        ({"host": "127.0.0.1", "media_address": "127.0.0.2"}, "127.0.0.2"),
        ({"host": "127.0.0.1", "media_address": "192.0.2.1"}, ""),
    ):
        assert media_bound_to(SipSettings.model_validate(given)) == bound
