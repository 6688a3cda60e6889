from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.core.address import (
    Address,
    Uri,
    escaped_user,
    parse_address,
    parse_uri,
    quoted,
    split_list,
    unquoted,
    worded,
)

pytestmark = pytest.mark.unit

ALNUM = string.ascii_letters + string.digits


# --- RFC 3261 section 25.1, built ---


def letters(more: str, least: int = 1, most: int = 8) -> st.SearchStrategy[str]:
    return st.text(ALNUM + more, min_size=least, max_size=most)


def with_escapes(more: str, least: int = 1) -> st.SearchStrategy[str]:
    escape = st.sampled_from(["%20", "%40", "%3C", "%3e", "%22", "%0D%0A", "%C3%A9", "%3A", "%3B"])
    return st.lists(letters(more) | escape, min_size=least, max_size=4).map("".join)


TOKENS = letters("-.!%*_+`'~")
QUOTABLE = st.text(
    st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=("Cc", "Cs", "Zl", "Zp"))
)
USERS = with_escapes("-_.!~*'()&=+$,;?/") | st.sampled_from(
    ["+493012345678;npdi;rn=+49301234000", "1000;isub=7", "+13125550100;isup-oli=24", "55501234;phone-context=+4930"]
)
LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
HOSTS = (
    st.lists(LABELS, min_size=1, max_size=3).map(".".join)
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
)
VALUES = st.just("") | with_escapes("-_.!~*'()[]/:&+$")
URI_PARAMS = st.dictionaries(with_escapes("-_.!~*'()[]/:&+$").map(str.lower), VALUES, max_size=3)
URI_HEADERS = st.lists(
    st.tuples(with_escapes("-_.!~*'()[]/?:+$"), st.just("") | with_escapes("-_.!~*'()[]/?:+$")), max_size=2
).map(tuple)


@st.composite
def sip_uris(draw: st.DrawFn) -> Uri:
    user = draw(st.just("") | USERS)
    return Uri(
        draw(st.sampled_from(["sip", "sips"])),
        user,
        draw(st.none() | st.just("") | with_escapes("-_.!~*'()&=+$,")) if user else None,
        draw(HOSTS),
        draw(st.none() | st.integers(0, 65535)),
        draw(URI_PARAMS),
        draw(URI_HEADERS),
    )


TEL_URIS = st.builds(
    lambda number, params: Uri("tel", number, params=params),
    st.from_regex(r"\+[0-9]([0-9().-]{0,10})|[0-9*#][0-9A-F*#().-]{0,10}", fullmatch=True),
    URI_PARAMS,
)
OTHER_URIS = st.sampled_from(["urn:service:sos", "http://h/p?q=1;x=2", "mailto:a@b"]).map(
    lambda text: Uri(text.partition(":")[0], opaque=text.partition(":")[2])
)
URIS = sip_uris() | TEL_URIS | OTHER_URIS
ADDRESSES = st.builds(
    Address, QUOTABLE, URIS, st.dictionaries(TOKENS.map(str.lower), st.just("") | TOKENS | HOSTS | QUOTABLE, max_size=3)
)


@given(URIS)
def test_every_uri_of_the_grammar_is_read_as_it_was_built(uri: Uri) -> None:
    assert parse_uri(str(uri)) == uri


@given(ADDRESSES, st.sampled_from(["", " ", "\t "]))
def test_every_address_of_the_grammar_is_read_as_it_was_built(address: Address, blank: str) -> None:
    assert parse_address(f"{blank}{address}{blank}") == address


@given(st.lists(ADDRESSES, max_size=4))
def test_a_list_is_cut_between_its_addresses_and_nowhere_else(addresses: list[Address]) -> None:
    assert [parse_address(each) for each in split_list(" ,".join(map(str, addresses)))] == addresses


@given(QUOTABLE)
def test_a_quoted_string_says_what_was_quoted(text: str) -> None:
    assert unquoted(quoted(text)) == text


@given(st.text(max_size=200) | st.text('<>"\\;,:=@?& sip:tel+4930%', max_size=60))
def test_whatever_a_stranger_writes_is_read_or_a_value_error(text: str) -> None:
    split_list(text)
    for parse in (parse_address, parse_uri):
        try:
            read = parse(text)
        except ValueError:
            continue
        assert parse(str(read)) == read


@pytest.mark.parametrize(
    "piece", ['"', "<", " ", ";", ";a", "\\", '"\\', "%40", "a", ",", "(", "a.", "a-", "sip:", "=a"]
)
def test_a_long_text_is_read_in_a_time_that_grows_with_its_length_alone(piece: str) -> None:
    for head in ("", '"', "sip:", "sip:a@", "<sip:a@h", "<sip:a@h>", "tel:1"):
        text = head + piece * 20_000
        split_list(text)
        for parse in (parse_address, parse_uri):
            try:
                parse(text)
            except ValueError:
                continue


# --- what it means ---


@pytest.mark.parametrize(
    ("value", "display", "user", "host"),
    [
        ('"<004930555010>" <sip:004930555010@pbx.example;user=phone>', "<004930555010>", "004930555010", "pbx.example"),
        ('"desk <b@c>" <sip:1001@pbx.example>', "desk <b@c>", "1001", "pbx.example"),
        ('"Doe \\"<x>\\" J"<sip:1002@pbx.example>', 'Doe "<x>" J', "1002", "pbx.example"),
        ('"a\\" <sip:+49300@x> b" <sip:+4930@h>;tag=1', 'a" <sip:+49300@x> b', "+4930", "h"),
        ('"ends in \\\\" <sip:1@h>', "ends in \\", "1", "h"),
        ("J. Doe (sales) <sip:1@h>", "J. Doe (sales)", "1", "h"),
        ("M\u00fcller <sip:1@h>", "M\u00fcller", "1", "h"),
        ("<sip:1@h>", "", "1", "h"),
        ("sip:*61#@my_pbx;tag=1", "", "*61#", "my_pbx"),
        ("sip:1000;isub=7@h;tag=1", "", "1000;isub=7", "h"),
        ("sip:[2001:db8::1]:5070;tag=1", "", "", "[2001:db8::1]"),
        ("sip:1@12345;x=", "", "1", "12345"),
        ("<SIP:a%40b:secret@H.example.:5070>", "", "a%40b", "H.example."),
    ],
)
def test_a_display_name_is_never_the_address(value: str, display: str, user: str, host: str) -> None:
    read = parse_address(value)
    assert (read.display, read.uri.user, read.uri.host) == (display, user, host)


def test_parameters_belong_to_the_address_within_the_brackets_and_to_the_header_behind_them() -> None:
    read = parse_address('<sip:1000@h;user=phone?Subject=x&Priority=>;x="y;tag=abc" ; Tag = 17')
    assert read.uri.params == {"user": "phone"}
    assert read.uri.headers == (("Subject", "x"), ("Priority", ""))
    assert read.params == {"x": "y;tag=abc", "tag": "17"}
    assert parse_address("sip:1000@h;tag=17").params == {"tag": "17"}
    assert parse_address("<http://h/a;b>;tag=17").uri.opaque == "//h/a;b"
    assert parse_address("http://h/a;tag=17").params == {"tag": "17"}


@pytest.mark.parametrize(
    ("text", "subscriber", "params", "bare"),
    [
        (
            "sip:+493012345678;npdi;rn=+49301234000@192.0.2.1;user=phone",
            "+493012345678",
            {"npdi": "", "rn": "+49301234000"},
            "sip:+493012345678@192.0.2.1",
        ),
        (
            "sip:+13125550100;isup-oli=24;pstn-params=908481808882@carrier.example",
            "+13125550100",
            {"isup-oli": "24", "pstn-params": "908481808882"},
            "sip:+13125550100@carrier.example",
        ),
        ("sip:%2B4930;x=1@h:5070", "+4930", {"x": "1"}, "sip:%2B4930@h:5070"),
        ("tel:030-1;phone-context=+49", "030-1", {"phone-context": "+49"}, "tel:030-1"),
        ("sip:alice;day=tuesday@atlanta.example", "alice;day=tuesday", {}, "sip:alice;day=tuesday@atlanta.example"),
        ("sip:+49301:secret@h?Replaces=x", "+49301", {}, "sip:+49301@h"),
        ("sip:h;lr", "", {}, "sip:h"),
        ("urn:service:sos", "", {}, "urn:service:sos"),
    ],
)
def test_a_number_is_told_from_its_parameters(text: str, subscriber: str, params: dict[str, str], bare: str) -> None:
    uri = parse_uri(text)
    assert (uri.subscriber, dict(uri.subscriber_params), uri.bare) == (subscriber, params, bare)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sip:",
        "sip:@h",
        "sip:a@",
        "sip:a@b@c",
        "sip:a b@h",
        "sip:a%4@h",
        "sip:a@h:",
        "sip:a@h:65536",
        "sip:a@-h",
        "sip:a@[1::2::3]",
        "sip:a@[::1",
        "sip:j\u00fcrgen@h",
        "tel:+",
        "1000",
        '"unfinished <sip:a@h>',
        '"escaped at the end\\" <sip:a@h>',
        "<sip:a@h",
        "<sip:a@h> <sip:b@h>",
        '<sip:a@h> "b"',
        "<sip:a@h>;tag=1;tag=2",
        "<sip:a@h;lr;LR>",
        "<sip:a@h>;x=a@b",
        "<sip:a@h>;;tag=1",
        "< sip:a@h>",
        "a, b <sip:a@h>",
        "a\r\nb <sip:a@h>",
        '"a\r\nb" <sip:a@h>',
        "<sip:a@h?x>",
    ],
)
def test_what_the_grammar_does_not_know_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"URI|host|port|address|twice"):
        parse_address(value)


def test_a_list_keeps_the_commas_of_its_elements() -> None:
    value = '"a, b" <sip:a@x;c=1,2>, sip:b@y ,, "c\\", <" <sip:c@z>;q="1,2"'
    assert split_list(value) == ['"a, b" <sip:a@x;c=1,2>', "sip:b@y", '"c\\", <" <sip:c@z>;q="1,2"']
    assert split_list('sip:a@x, "never closed, sip:b@y') == ["sip:a@x", '"never closed, sip:b@y']
    assert split_list('"\\') == ['"\\']


def test_what_is_written_cannot_leave_its_place() -> None:
    assert escaped_user('x>\r\n"<@:%') == "x%3E%0D%0A%22%3C%40%3A%25"
    assert quoted('a"\\\r\nb') == '"a\\"\\\\  b"'
    assert worded("token") == "token"
    assert worded("[::1]") == "[::1]"
    assert worded("a b;c") == '"a b;c"'


@given(st.text(max_size=50))
def test_any_text_is_a_user_once_it_is_escaped(text: str) -> None:
    assert quote("\u00fc") in escaped_user("\u00fc")
    uri = parse_uri(f"sip:{escaped_user(text)}@h") if text else Uri("sip", host="h")
    assert uri.host == "h"
