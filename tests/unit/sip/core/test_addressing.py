from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SipError
from gateway.settings.sip import TrunkSettings
from gateway.sip.core.address import parse_address
from gateway.sip.core.addressing import (
    ANONYMOUS,
    Caller,
    OutboundInvite,
    Parties,
    goes_through,
    identity_to_send,
    number_in,
    outbound_invite,
    own_uri,
    parties_of,
    shown,
    user_called,
)
from gateway.sip.core.message import Message

pytestmark = pytest.mark.unit


def trunk(**given: object) -> TrunkSettings:
    return TrunkSettings.model_validate({"host": "carrier.example:5070", "country": "DE", **given})


def invite(uri: str = "sip:1000@gateway.example", *headers: tuple[str, str]) -> Message:
    return Message("INVITE", uri, 0, "", headers, "", "id", "f", "", 1, "INVITE", "z9hG4bK1")


def read(settings: TrunkSettings | None, *headers: tuple[str, str], uri: str = "sip:1000@gateway.example") -> Parties:
    return parties_of(invite(uri, *headers), settings)


TRUSTED = trunk(trust_identity=True)
FROM = ("from", '"A, B" <sip:03055555555@pbx.example;user=phone>;tag=1')
ANONYMOUS_FROM = ("from", f"{ANONYMOUS};tag=1")
ACCOUNT = ("p-asserted-identity", '"Line 77" <sip:acct77@ims.example>')
NUMBER = ("p-asserted-identity", "<tel:+493055501234>")

# --- who calls ---


@pytest.mark.parametrize(
    ("settings", "headers", "caller", "asserted"),
    [
        (None, [FROM], "03055555555", False),
        (trunk(), [FROM], "+493055555555", False),
        (trunk(), [FROM, NUMBER], "+493055555555", False),
        (TRUSTED, [FROM, NUMBER], "+493055501234", True),
        (TRUSTED, [FROM], "+493055555555", False),
        (TRUSTED, [ANONYMOUS_FROM, ("p-asserted-identity", f"{ACCOUNT[1]}, {NUMBER[1]}")], "+493055501234", True),
        (TRUSTED, [ANONYMOUS_FROM, ACCOUNT, NUMBER], "+493055501234", True),
        (TRUSTED, [ANONYMOUS_FROM, ("p-asserted-identity", "<sip:anonymous@anonymous.invalid>"), NUMBER],
         "+493055501234", True),
        (TRUSTED, [FROM, ACCOUNT], "acct77", True),
        (TRUSTED, [FROM, ("p-asserted-identity", '"never closed <sip:+4912345@h>'), NUMBER], "+493055501234", True),
        (TRUSTED, [FROM, ("p-asserted-identity", '"<sip:+4930000@bank.example>" <sip:+493055501234@h>')],
         "+493055501234", True),
        (TRUSTED, [FROM, ("remote-party-id", "<sip:+493055501234@h>;party=calling;screen=yes")], "+493055501234", True),
        (TRUSTED, [FROM, ("remote-party-id", "<sip:+493055501234@h>;party=called")], "+493055555555", False),
        (trunk(), [ANONYMOUS_FROM], "anonymous", False),
        (trunk(), [("from", '"<sip:+4930000@bank.example>" <sip:+493055501234@h>;tag=1')], "+493055501234", False),
        (trunk(), [("from", "not an address")], "", False),
        (trunk(), [], "", False),
    ],
)  # fmt: skip
def test_the_caller_is_who_from_says_unless_the_trunk_is_trusted_with_identities(
    settings: TrunkSettings | None, headers: list[tuple[str, str]], caller: str, asserted: bool
) -> None:
    parties = read(settings, *headers)
    assert (parties.caller.number, parties.caller.vouched) == (caller, asserted)


@pytest.mark.parametrize(
    ("address", "number"),
    [
        ("<sip:%2B493055501234@x>", "+493055501234"),
        ("sip:a:secret@x;p=1", "a"),
        ("sip:1000;isub=7@x", "1000"),
        ("<sip:+493055501234;npdi;rn=+49301234000@x;user=phone>", "+493055501234"),
        ("<sip:+13125550100;isup-oli=24;pstn-params=908481808882@x>", "+13125550100"),
        ("<sip:55501234;phone-context=+4930@x;user=phone>", "+493055501234"),
        ("<tel:55501234;phone-context=+4930>", "+493055501234"),
        ("<tel:55501234;phone-context=pbx.example>", "55501234"),
        ("<tel:0301234567;phone-context=pbx.example>", "0301234567"),
        ("<tel:+49-30-55501234;ext=1>", "+493055501234"),
        ("<sip:447700900123@x>", "447700900123"),
        ("sip:host.example", ""),
        ("http://a@b", ""),
    ],
)
def test_the_number_is_read_from_any_address(address: str, number: str) -> None:
    assert number_in(parse_address(address).uri, trunk()) == number


@pytest.mark.parametrize(
    ("numbers", "number"),
    [("plus", "03055501234"), ("e164-without-plus", "+493055501234"), ("national", "+493055501234"),
     ("as-is", "03055501234")],
)  # fmt: skip
def test_the_trunk_says_how_its_numbers_are_written(numbers: str, number: str) -> None:
    settings = trunk(numbers=numbers)
    assert read(settings, ("from", "<sip:03055501234@x>")).caller.number == number
    assert read(settings, uri="sip:03055501234@x").called == number


@pytest.mark.parametrize(
    ("headers", "withheld"),
    [
        ([FROM], False),
        ([ANONYMOUS_FROM], True),
        ([FROM, ("privacy", "none")], False),
        ([FROM, ("privacy", "critical"), ("privacy", "user;ID")], True),
        ([FROM, ("remote-party-id", "<sip:1@h>;privacy=full")], True),
        ([FROM, ("remote-party-id", "<sip:1@h>;privacy=off")], False),
    ],
)
def test_a_caller_may_ask_not_to_be_shown(headers: list[tuple[str, str]], withheld: bool) -> None:
    assert read(TRUSTED, *headers).caller.withheld is withheld


def test_the_record_holds_whole_addresses_and_no_password() -> None:
    parties = read(
        None,
        ("from", '"<sip:a@b>" <sip:+493055509999:secret@h:5070;user=phone>;tag=1'),
        uri="sip:+493012345678;npdi;rn=+49301234000@192.0.2.1;user=phone",
    )
    assert (parties.from_uri, parties.to_uri) == ("sip:+493055509999@h:5070", "sip:+493012345678@192.0.2.1")
    parties = read(None, ("from", "<sip:a:secret@h"), uri="urn:service:sos")
    assert (parties.from_uri, parties.to_uri) == ("", "urn:service:sos")


# --- who is called ---

LINE = trunk(country="FR", username="line1")
TO = ("to", "<sip:+33155501234@pbx.example>")
TO_LINE = ("to", "<sip:line1@carrier.example>")
PARTY = ("p-called-party-id", "<sip:+33155501234@ims.example;user=phone>")
DIVERSION = ("diversion", "<sip:+33155501234@h>;reason=unconditional, <sip:+33155509999@h>")


@pytest.mark.parametrize(
    ("settings", "uri", "headers", "called"),
    [
        (None, "sip:03055555555@g", [TO], "03055555555"),
        (trunk(), "sip:03055555555@g", [TO], "+493055555555"),
        (trunk(), "sip:1000@g", [TO], "1000"),  # who has no account with the trunk is called by the Request-URI
        (LINE, "sip:+33155509999@g", [TO], "+33155509999"),
        (LINE, "sip:line1@192.0.2.1:5060;ob", [TO], "+33155501234"),
        (LINE, "sip:1710163127241@g", [TO], "+33155501234"),
        (LINE, "sip:s@g", [TO], "+33155501234"),
        (LINE, "sip:line1@g", [TO_LINE, PARTY], "+33155501234"),
        (LINE, "sip:line1@g", [TO_LINE, DIVERSION], "+33155501234"),
        (LINE, "sip:line1@g", [("to", "<sip:1000@h>")], "1000"),
        (LINE, "sip:1000@g", [TO_LINE, DIVERSION], "1000"),
        (LINE, "sip:line1@g", [], "line1"),
        (trunk(username="+33155501234"), "sip:+33155501234@g", [TO, ("diversion", "<sip:+33155509999@h>")],
         "+33155501234"),
        (trunk(country="FR", called_number="to"), "sip:1000@g", [TO], "+33155501234"),
        (trunk(country="FR", called_number="p-called-party-id"), "sip:1000@g", [PARTY], "+33155501234"),
        (trunk(country="FR", called_number="diversion"), "sip:1000@g", [TO_LINE, DIVERSION], "+33155501234"),
        (trunk(country="FR", called_number="diversion"), "sip:1000@g", [TO], "1000"),
        (trunk(country="FR", username="line1", called_number="request-uri"), "sip:line1@g", [TO], "line1"),
        (trunk(), "sip:55501234;phone-context=+4930@g", [], "+493055501234"),
    ],
)  # fmt: skip
def test_the_called_number_is_taken_from_where_the_trunk_writes_it(
    settings: TrunkSettings | None, uri: str, headers: list[tuple[str, str]], called: str
) -> None:
    assert read(settings, *headers, uri=uri).called == called


def test_the_user_of_a_request_uri_tells_the_account() -> None:
    assert user_called("sip:line%31@h;ob") == "line1"
    assert user_called("sip:h") == ""
    assert user_called("nonsense") == ""


# --- what we say ---


def test_without_a_number_the_account_calls() -> None:
    assert own_uri(trunk(username="line 1@x")) == "sip:line%201%40x@carrier.example"
    assert identity_to_send(trunk(username="line1"), Caller()).local_uri == "<sip:line1@carrier.example>"
    assert identity_to_send(trunk(), Caller()).local_uri == "<sip:gateway@carrier.example>"
    assert identity_to_send(trunk(), Caller()).headers == ()


@pytest.mark.parametrize(
    ("given", "number", "uri"),
    [
        ({"numbers_out": "plus"}, "030 87654321", "sip:+493087654321@carrier.example;user=phone"),
        ({"numbers_out": "plus"}, "", "sip:+493012345678@carrier.example;user=phone"),
        ({"numbers": "e164-without-plus"}, "", "sip:493012345678@carrier.example"),
        ({"numbers": "e164-without-plus", "numbers_out": "plus"}, "", "sip:+493012345678@carrier.example;user=phone"),
        ({"numbers": "national", "user_phone": "always"}, "", "sip:03012345678@carrier.example;user=phone"),
        ({"numbers": "plus", "user_phone": "never"}, "", "sip:+493012345678@carrier.example"),
        ({}, "1000", "sip:1000@carrier.example"),
        ({"user_phone": "always"}, "reception", "sip:reception@carrier.example"),
    ],
)
def test_the_orders_number_counts_above_the_trunks_and_is_written_as_the_trunk_wants(
    given: dict[str, object], number: str, uri: str
) -> None:
    settings = trunk(**{"caller_id": "030 12345678", "numbers_out": given.get("numbers", "plus"), **given})
    assert identity_to_send(settings, Caller(number)).local_uri == f"<{uri}>"


NUMBER_URI = "<sip:+493012345678@carrier.example;user=phone>"
LINE_URI = "<sip:line1@carrier.example>"
PAI = ("P-Asserted-Identity", NUMBER_URI)
PPI = ("P-Preferred-Identity", NUMBER_URI)
PRIVACY = ("Privacy", "id")


def party(privacy: str) -> tuple[str, str]:
    return ("Remote-Party-ID", f"{NUMBER_URI};party=calling;screen=yes;privacy={privacy}")


@pytest.mark.parametrize(
    ("header", "privacy", "local_uri", "headers"),
    [
        ("from", False, NUMBER_URI, ()),
        ("p-asserted-identity", False, LINE_URI, (PAI,)),
        ("p-preferred-identity", False, LINE_URI, (PPI,)),
        ("remote-party-id", False, LINE_URI, (party("off"),)),
        ("both", False, NUMBER_URI, (PAI,)),
        ("from, p-preferred-identity", False, NUMBER_URI, (PPI,)),
        (["from", "p-asserted-identity", "remote-party-id"], False, NUMBER_URI, (PAI, party("off"))),
        ("from", True, ANONYMOUS, (PRIVACY,)),
        ("p-asserted-identity", True, ANONYMOUS, (PAI, PRIVACY)),
        ("both", True, ANONYMOUS, (PAI, PRIVACY)),
        ("remote-party-id", True, ANONYMOUS, (party("full"), PRIVACY)),
    ],
)
def test_the_number_stands_where_the_trunk_wants_it(
    header: object, privacy: bool, local_uri: str, headers: tuple[tuple[str, str], ...]
) -> None:
    settings = trunk(username="line1", caller_id="+493012345678", caller_id_header=header, privacy=privacy)
    identity = identity_to_send(settings, Caller())
    assert identity.local_uri == local_uri
    assert identity.headers == headers


def test_who_asked_not_to_be_shown_is_told_to_the_trunk_alone() -> None:
    settings = trunk(caller_id="+4930999", caller_id_header="both")
    asked = identity_to_send(settings, Caller("+493012345678", withheld=True))
    assert (asked.local_uri, asked.headers) == (ANONYMOUS, (PAI, PRIVACY))
    nobody = identity_to_send(settings, Caller("anonymous", withheld=True))
    assert (nobody.local_uri, nobody.headers) == (ANONYMOUS, (PRIVACY,))


def test_the_trunks_own_number_stands_beside_one_that_is_shown_for_somebody_else() -> None:
    settings = trunk(caller_id="+493012345678", own_number_header="p-asserted-identity")
    foreign = identity_to_send(settings, Caller("+447700900123"))
    assert foreign.local_uri == "<sip:+447700900123@carrier.example;user=phone>"
    assert foreign.headers == (PAI,)
    assert identity_to_send(settings, Caller()).headers == ()
    nobody = identity_to_send(settings, Caller("anonymous", withheld=True))
    assert (nobody.local_uri, nobody.headers) == (ANONYMOUS, (PAI, PRIVACY))


@pytest.mark.parametrize(
    ("given", "local_uri", "headers"),
    [
        ({"caller_id_header": "both"}, NUMBER_URI, ()),
        ({"caller_id_header": "p-asserted-identity"}, NUMBER_URI, ()),
        ({"caller_id_header": "p-preferred-identity", "username": "line1"}, LINE_URI, (PPI,)),
        ({"caller_id_header": "from, remote-party-id"}, NUMBER_URI, (
            ("Remote-Party-ID", f"{NUMBER_URI};party=calling;screen=no;privacy=off"),)),
        ({"caller_id_header": "both", "caller_id": "+493099999999"}, NUMBER_URI, (
            ("P-Asserted-Identity", "<sip:+493099999999@carrier.example;user=phone>"),)),
    ],
)  # fmt: skip
def test_what_somebody_wrote_into_from_is_shown_and_never_asserted(
    given: dict[str, object], local_uri: str, headers: tuple[tuple[str, str], ...]
) -> None:
    identity = identity_to_send(trunk(numbers="plus", **given), Caller("+493012345678", vouched=False))
    assert (identity.local_uri, identity.headers) == (local_uri, headers)


CALLER = Caller("+493055501234")


@pytest.mark.parametrize(
    ("given", "wanted", "result"),
    [
        ({}, "", CALLER),  # a trunk with nothing of its own to show
        ({"caller_id": "+4930"}, "", Caller()),
        ({"username": "line1"}, "", Caller()),
        ({"username": "line1", "show_caller": True}, "", CALLER),
        ({"show_caller": False}, "", Caller()),
        ({"caller_id": "+4930"}, "caller", CALLER),
        ({}, "trunk", Caller()),
        ({}, "+4930777", Caller("+4930777")),
        (None, "", CALLER),
        (None, "trunk", Caller()),
    ],
)
def test_a_call_for_a_caller_shows_the_caller_where_the_trunk_allows_it(
    given: dict[str, object] | None, wanted: str, result: Caller
) -> None:
    assert shown(wanted, None if given is None else trunk(**given), CALLER) == result


def test_a_call_that_is_sent_on_tells_who_was_called_first() -> None:
    headers = dict(identity_to_send(trunk(), Caller(), diverted_from="+493012345678").headers)
    assert headers["Diversion"] == f"{NUMBER_URI};reason=deflection;counter=1"


def test_a_name_cannot_break_out_of_its_header() -> None:
    identity = identity_to_send(trunk(caller_id='x>\r\nEvil: "1" <a'), Caller())
    assert identity.local_uri == "<sip:x%3E%0D%0AEvil%3A%20%221%22%20%3Ca@carrier.example>"


@given(st.text(max_size=100) | st.text('<>"\\;,:=@?% sip+4930\r\n', max_size=40))
def test_whatever_a_stranger_writes_is_read_and_what_we_write_of_it_is_an_address(text: str) -> None:
    names = ("from", "to", "p-asserted-identity", "remote-party-id", "diversion", "privacy", "p-called-party-id")
    for settings in (None, trunk(trust_identity=True, username="u"), trunk(called_number="to")):
        parties = read(settings, *((name, text) for name in names), uri=text)
        for told in (parties.caller.number, parties.called, parties.from_uri, parties.to_uri):
            told.encode("utf-8")
            assert told.isprintable()
        identity = identity_to_send(trunk(caller_id_header="both"), parties.caller, parties.called)
        for _, value in (("From", identity.local_uri), *identity.headers):
            if value != "id":
                assert parse_address(value).uri.host in ("carrier.example", "anonymous.invalid")


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
    assert outbound_invite(target, TRUNKS, trunk=trunk).uri == uri


def test_a_call_through_a_trunk_brings_its_identity_and_one_without_brings_none() -> None:
    assert outbound_invite("110", TRUNKS, trunk="main").local_uri == "<sip:+493012345678@carrier.example;user=phone>"
    called = outbound_invite("110", TRUNKS, trunk="main", caller=Caller("+4930111111"))
    assert called.local_uri == "<sip:+4930111111@carrier.example;user=phone>"
    assert outbound_invite("sip:a@b", TRUNKS) == OutboundInvite("sip:a@b")


def test_a_call_through_no_trunk_shows_the_caller_at_our_own_address() -> None:
    def shown(caller: Caller) -> str:
        return outbound_invite("sip:a@b", {}, caller=caller, own_host="192.0.2.1").local_uri

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
        outbound_invite(target, TRUNKS, trunk=trunk)


def test_without_any_trunk_the_guide_is_named() -> None:
    with pytest.raises(SipError, match=r"no trunk is configured: see docs/trunks\.md"):
        outbound_invite("+4930", {}, trunk="main")


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
