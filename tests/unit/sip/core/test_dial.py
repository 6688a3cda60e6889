from __future__ import annotations

import pytest

from gateway.errors import SipError
from gateway.settings.sections import TrunkSettings
from gateway.sip.core.addressing import ANONYMOUS, Caller
from gateway.sip.core.dial import Dialled, dialled, goes_through

pytestmark = pytest.mark.unit

TRUNKS = {
    "main": TrunkSettings.model_validate(
        {"host": "carrier.example:5070", "country": "DE", "numbers": "plus", "caller_id": "+493012345678"}
    ),
    "tls": TrunkSettings.model_validate({"host": "192.0.2.9", "transport": "tls"}),
}


@pytest.mark.parametrize(
    ("target", "trunk", "uri"),
    [
        ("+49 30 87654321", "main", "sip:+493087654321@carrier.example:5070;user=phone"),
        ("030 87654321", "main", "sip:+493087654321@carrier.example:5070;user=phone"),
        ("447700900123", "main", "sip:447700900123@carrier.example:5070"),
        ("tel:+49-30-87654321;ext=5", "main", "sip:+493087654321@carrier.example:5070;user=phone"),
        ("tel:87654321;phone-context=+4930", "main", "sip:+493087654321@carrier.example:5070;user=phone"),
        ("tel:87654321;phone-context=pbx.example", "main", "sip:87654321@carrier.example:5070"),
        ("TEL:110", "main", "sip:110@carrier.example:5070"),
        ("*61#", "main", "sip:*61%23@carrier.example:5070"),
        ("1000", "tls", "sip:1000@192.0.2.9;transport=tls"),
        ("sip:a@b.example", "tls", "sip:a@b.example;transport=tls"),
        ("sip:a@b.example;transport=tcp", "tls", "sip:a@b.example;transport=tcp"),
        ("sip:a@b.example", "", "sip:a@b.example"),
        ("sips:a@b.example", "", "sips:a@b.example"),
    ],
)
def test_a_target_becomes_a_request_uri(target: str, trunk: str, uri: str) -> None:
    assert dialled(target, TRUNKS, trunk=trunk).uri == uri


def test_a_call_through_a_trunk_brings_its_identity_and_one_without_brings_none() -> None:
    assert dialled("110", TRUNKS, trunk="main").local_uri == "<sip:+493012345678@carrier.example;user=phone>"
    called = dialled("110", TRUNKS, trunk="main", caller=Caller("+4930111111"))
    assert called.local_uri == "<sip:+4930111111@carrier.example;user=phone>"
    assert dialled("sip:a@b", TRUNKS) == Dialled("sip:a@b")


def test_a_call_through_no_trunk_shows_the_caller_at_our_own_address() -> None:
    def shown(caller: Caller) -> str:
        return dialled("sip:a@b", {}, caller=caller, own_host="192.0.2.1").local_uri

    assert shown(Caller("+493012345678")) == "<sip:+493012345678@192.0.2.1>"
    assert shown(Caller("a>b")) == "<sip:a%3Eb@192.0.2.1>"
    assert shown(Caller("+493012345678", withheld=True)) == ANONYMOUS
    assert shown(Caller()) == ""


@pytest.mark.parametrize(
    ("target", "trunk", "told"),
    [
        ("+4930", "", r"'\+4930' is a number and needs a trunk: name one of main, tls, or dial a SIP URI"),
        ("+4930", "mian", "there is no trunk 'mian': name one of main, tls"),
        ("sip:a@b", "mian", "there is no trunk 'mian'"),
        ("reception", "main", "'reception' is neither a number nor a SIP URI: write "),
        ("sip:a@b\r\nEvil: 1", "main", "neither a number nor a SIP URI"),
        ("sip:a@b>", "", "neither a number nor a SIP URI"),
        ("tel:abc", "main", "neither a number nor a SIP URI"),
        ("", "main", "neither a number nor a SIP URI"),
    ],
)
def test_what_cannot_be_called_is_told_with_the_cure(target: str, trunk: str, told: str) -> None:
    with pytest.raises(SipError, match=told):
        dialled(target, TRUNKS, trunk=trunk)


def test_without_any_trunk_the_guide_is_named() -> None:
    with pytest.raises(SipError, match=r"no trunk is configured: see docs/trunks\.md"):
        dialled("+4930", {}, trunk="main")


@pytest.mark.parametrize(
    ("target", "own"),
    [
        ("+493012345", True),
        ("tel:+493012345", True),
        ("sip:desk@sip.carrier.example", True),
        ("sip:desk@SIP.Carrier.example:5070;transport=tcp", True),
        ("sip:sip.carrier.example", True),
        ("sip:desk@elsewhere.example", False),
        ("sip:sip.carrier.example@elsewhere.example", False),
    ],
)
def test_only_what_is_a_trunks_own_goes_through_it_unasked(target: str, own: bool) -> None:
    assert goes_through(target, TrunkSettings(host="sip.carrier.example:5060")) is own
