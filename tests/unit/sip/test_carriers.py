"""Calls as carriers and PBXs write them, with the settings that docs/carriers.md gives for each."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.settings.sip import SipSettings, TrunkSettings, trunk_mistakes
from gateway.sip.core.addressing import ANONYMOUS, outbound_invite, parties_of, shown
from gateway.sip.core.message import Message

pytestmark = pytest.mark.unit

TEXT = (Path(__file__).parents[3] / "docs" / "carriers.md").read_text()
TRUNKS = {
    name: TrunkSettings.model_validate(given)
    for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    for name, given in tomllib.loads(block)["trunks"].items()
}


@dataclass(frozen=True)
class Case:
    """
    A call in, and a call out for its caller.

    Attributes:
        uri: Request-URI of the call in.
        headers: its other headers.
        caller: who calls, as dialplans see it.
        called: likewise.
        dials: the number called for this caller.
        asked: Request-URI of the call out.
        tells: what the call out must say of who calls: From, and other headers.
    """

    uri: str
    headers: tuple[tuple[str, str], ...]
    caller: str
    called: str
    dials: str
    asked: str
    tells: tuple[tuple[str, str], ...]


OWN = "sip:+493012345678@tel.t-online.de;user=phone"
CASES = {
    "twilio": Case(
        "sip:+12025550142@192.0.2.1;transport=udp",
        (
            ("from", '"+13125550100" <sip:+13125550100@example.pstn.twilio.com>;isup-oli=62;tag=1'),
            ("to", "<sip:+12025550142@192.0.2.1>"),
        ),
        *("+13125550100", "+12025550142"),
        *("+13125550199", "sip:+13125550199@example.pstn.twilio.com;user=phone"),
        (("From", "<sip:+12025550142@example.pstn.twilio.com;user=phone>"),),
    ),
    "vonage": Case(
        "sip:442079460000@192.0.2.1",
        (("from", "<sip:447700900123@sip.nexmo.com>;tag=1"), ("to", "<sip:442079460000@192.0.2.1>")),
        *("+447700900123", "+442079460000"),
        *("+33155501234", "sip:33155501234@sip.nexmo.com"),
        (
            ("From", "<sip:442079460000@sip.nexmo.com>"),
            ("P-Asserted-Identity", "<sip:442079460000@sip.nexmo.com>"),
        ),
    ),
    "telnyx": Case(
        "sip:13125550123@192.0.2.1:5060",
        (("from", '"CALLER" <sip:15551234567@sip.telnyx.com>;tag=1'), ("to", "<sip:13125550123@sip.telnyx.com>")),
        *("+15551234567", "+13125550123"),
        *("+447700900123", "sip:+447700900123@sip.telnyx.com;user=phone"),
        (("From", "<sip:+13125550123@sip.telnyx.com;user=phone>"),),
    ),
    "sipgate": Case(
        "sip:1234567t0@192.0.2.1:5060;ob",
        (
            ("from", '"447700900123" <sip:447700900123@sipconnect.sipgate.de>;tag=1'),
            ("to", "<sip:4921112345678@sipconnect.sipgate.de>"),
        ),
        *("+447700900123", "+4921112345678"),
        *("030 12345678", "sip:493012345678@sipconnect.sipgate.de"),
        (
            ("From", "<sip:1234567t0@sipconnect.sipgate.de>"),
            ("P-Preferred-Identity", "<sip:4921112345678@sipconnect.sipgate.de>"),
            ("Diversion", "<sip:4921112345678@sipconnect.sipgate.de>;reason=deflection;counter=1"),
        ),
    ),
    "telekom": Case(
        "sip:+49199296000000123456@192.0.2.1:5060;transport=tcp",
        (
            ("from", "<sip:+491701234567@tel.t-online.de;user=phone>;tag=1"),
            ("to", "<sip:+49199296000000123456@tel.t-online.de>"),
            ("p-called-party-id", "<sip:+493012345678@tel.t-online.de;user=phone>"),
            ("p-asserted-identity", "<sip:+491701234567@tel.t-online.de;user=phone>"),
            ("p-asserted-identity", "<tel:+491701234567>"),
        ),
        *("+491701234567", "+493012345678"),
        *("+498912345678", "sip:+498912345678@tel.t-online.de;user=phone;transport=tcp"),
        (
            ("From", "<sip:+491701234567@tel.t-online.de;user=phone>"),
            ("P-Preferred-Identity", f"<{OWN}>"),
            ("Diversion", f"<{OWN}>;reason=deflection;counter=1"),
        ),
    ),
    "asterisk": Case(
        "sip:1000@192.0.2.1:5060",
        (
            ("from", f"{ANONYMOUS};tag=1"),
            ("to", "<sip:1000@192.0.2.1>"),
            ("p-asserted-identity", '"Desk" <sip:030555012345@192.0.2.40>'),
            ("privacy", "id"),
        ),
        *("+4930555012345", "1000"),
        *("1001", "sip:1001@192.0.2.40"),
        (("From", ANONYMOUS), ("Privacy", "id")),
    ),
    "3cx": Case(
        "sip:gateway@192.0.2.1:5060;rinstance=17",
        (
            ("from", '"Desk <1>" <sip:gateway@192.0.2.50:5060>;tag=1'),
            ("to", "<sip:+493012345678@192.0.2.50:5060>"),
            ("remote-party-id", '"Desk" <sip:030555012345@192.0.2.50:5060>;party=calling'),
        ),
        *("+4930555012345", "+493012345678"),
        *("200", "sip:200@192.0.2.50"),
        (("From", "<sip:+4930555012345@192.0.2.50;user=phone>"),),
    ),
    "cube": Case(
        "sip:02079460000@192.0.2.1:5060",
        (
            ("from", '"--" <sip:1234@192.0.2.60>;tag=1'),
            ("to", "<sip:02079460000@192.0.2.1>"),
            ("remote-party-id", '"--" <sip:02079461234@192.0.2.60>;party=calling;screen=yes;privacy=off'),
        ),
        *("+442079461234", "+442079460000"),
        *("+442079465678", "sip:+442079465678@192.0.2.60;user=phone"),
        (
            ("From", "<sip:+442079461234@192.0.2.60;user=phone>"),
            (
                "Remote-Party-ID",
                "<sip:+442079461234@192.0.2.60;user=phone>;party=calling;screen=yes;privacy=off",
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_calls_are_read_and_written_as_the_carrier_does(name: str) -> None:
    case, trunk = CASES[name], TRUNKS[name]
    invite = Message("INVITE", case.uri, 0, "", case.headers, "", "id", "1", "", 1, "INVITE", "z9hG4bK1")
    parties = parties_of(invite, trunk)
    assert (parties.caller.number, parties.called) == (case.caller, case.called)
    caller = shown("", trunk, parties.caller)
    called = outbound_invite(case.dials, TRUNKS, trunk=name, caller=caller, diverted_from=parties.called)
    assert called.uri == case.asked
    told = {"From": called.local_uri, **dict(called.headers)}
    assert {header: told.get(header) for header, _ in case.tells} == dict(case.tells)
    assert set(told) - {"Diversion"} == {header for header, _ in case.tells} - {"Diversion"}


def test_the_tests_that_the_guide_names_are_there() -> None:
    tests = Path(__file__).parents[2]
    named = re.findall(r"`(test_\w+\.py)::(test_\w+?)(?:\.\.\.)?`", TEXT)
    assert len(named) > 10
    for module, name in named:
        assert any(f"def {name}" in path.read_text() for path in tests.rglob(module)), f"no {module} has {name}"


def test_the_guide_has_a_row_a_chapter_and_settings_without_mistakes_for_each() -> None:
    assert set(TRUNKS) == set(CASES) == set(re.findall(r"`test_carriers\.py\[(\w+)\]`", TEXT))
    secrets = {trunk.password_from for trunk in TRUNKS.values() if trunk.password_from}
    for name, trunk in TRUNKS.items():
        assert list(trunk_mistakes(SipSettings(), {name: trunk}, secrets, edge=False)) == []
