"""The one reader of SIP messages."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.core.message import Malformed, Message, MessageReader, clean, parse_message

pytestmark = pytest.mark.unit

LINES = {
    "Via": "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1;rport",
    "Max-Forwards": "70",
    "From": '"A. Caller" <sip:caller@192.0.2.9;user=phone>;tag=here',
    "To": "<sip:1000@192.0.2.1>",
    "Call-ID": "a84b4c76e66710@192.0.2.9",
    "CSeq": "314159 INVITE",
    "Contact": "<sip:caller@192.0.2.9>",
}


def request(first: str = "INVITE sip:1000@192.0.2.1;transport=tcp SIP/2.0", body: str = "", **changed: str) -> str:
    """Return a request; ``CSeq="1 BYE"`` changes a header, ``To=""`` takes it away, ``more`` adds lines."""
    more = changed.pop("more", "")
    lines = {**LINES, **{name.replace("_", "-"): value for name, value in changed.items()}}
    kept = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"{first}\r\n{kept}{more}\r\n{body}"


def refusal(text: str) -> str:
    """Return why a message is refused; an empty string when it is taken."""
    try:
        parse_message(text)
    except Malformed as error:
        return error.reason if error.code in (400, 505) else "another code"
    return ""


def test_a_request_is_taken_whole() -> None:
    message = parse_message(request(body="v=0\r\n", more="c: application/sdp\r\nl: 5\r\n"))
    assert (message.method, message.uri, message.code) == ("INVITE", "sip:1000@192.0.2.1;transport=tcp", 0)
    assert (message.call_id, message.from_tag, message.to_tag) == ("a84b4c76e66710@192.0.2.9", "here", "")
    assert (message.cseq, message.cseq_method, message.branch) == (314159, "INVITE", "z9hG4bK1")
    assert message.first("content-type") == "application/sdp"
    assert message.body == "v=0\r\n"
    assert message.is_request


def test_a_response_is_taken_whole() -> None:
    message = parse_message(request("SIP/2.0 486 Busy Here"))
    assert (message.code, message.reason, message.method, message.uri) == (486, "Busy Here", "", "")
    assert parse_message(request("SIP/2.0 200 ")).reason == ""
    assert parse_message(request("SIP/2.0 200")).code == 200
    assert not message.is_request


def test_the_lines_of_a_header_are_one_list() -> None:
    first = 'P-Asserted-Identity: "Line, 77" <sip:acct77@example.net>\r\n'
    message = parse_message(request(more=f"{first}X-Note: one\r\np-asserted-identity: <tel:+49305>, <sip:a,b@c>\r\n"))
    assert message.all("p-asserted-identity") == [
        '"Line, 77" <sip:acct77@example.net>',
        "<tel:+49305>, <sip:a,b@c>",
    ]
    assert message.values("p-asserted-identity") == [
        '"Line, 77" <sip:acct77@example.net>',
        "<tel:+49305>",
        "<sip:a,b@c>",
    ]
    joined = message.joined()
    assert joined["p-asserted-identity"] == '"Line, 77" <sip:acct77@example.net>, <tel:+49305>, <sip:a,b@c>'
    assert joined["x-note"] == "one"


def test_nothing_is_cut_however_many_headers_there_are_and_however_long() -> None:
    more = "".join(f"X-{n}: {'y' * 20}\r\n" for n in range(300)) + f"X-Long: {'z' * 5000}\r\n"
    message = parse_message(request(From="", more=f"{more}f: <sip:last@192.0.2.9>;tag=t\r\n"))
    assert message.from_tag == "t"
    assert len(message.joined()["x-long"]) == 5000


def test_folded_lines_and_blanks_around_the_colon_are_unfolded() -> None:
    message = parse_message(
        "INVITE sip:1000@192.0.2.1 SIP/2.0\r\n"
        "TO :\r\n sip:vivekg@chair.example.com ;   tag    = 1918181833n\r\n"
        'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n'
        "MaX-fOrWaRdS: 0068\r\n"
        "Call-ID: wsinv.ndaksdj@192.0.2.1\r\n"
        "Content-Length   : 0\r\n"
        "cseq: 0009\r\n  INVITE\r\n"
        "Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\n"
        "s :\r\n"
        "NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n"
        "v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n SIP/2.0/UDP h\r\n"
        "\r\n"
    )
    assert (message.to_tag, message.from_tag) == ("1918181833n", "98asjd8")
    assert (message.cseq, message.cseq_method, message.branch) == (9, "INVITE", "390skdjuw")
    assert message.first("newfangledheader") == "newfangled value continued newfangled value"
    assert message.first("subject") == ""
    assert message.values("via")[1].startswith("SIP  / 2.0  / TCP")


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("<sip:1000@h>", ""),
        ("<sip:1000@h>;tag=abc", "abc"),
        ("<sip:1000@h> ; TAG = abc ;x=y", "abc"),
        ('<sip:1000@h>;x="y;tag=abc"', ""),
        ('<sip:1000@h>;x="y\\";tag=abc"', ""),
        ('<sip:1000@h>;x="y\\\\";tag=abc', "abc"),
        ("<sip:1000@h;tag=abc>", ""),
        ("<sip:1000;tag=abc@h>", ""),
        ('"x>;tag=abc" <sip:1000@h>', ""),
        ('"\\">;tag=abc" <sip:1000@h>', ""),
        ("sip:1000@h;tag=abc", "abc"),
        ("sip:1000;tag=abc@h", ""),
        ("sips:h:5061;tag=abc", "abc"),
        ("tel:+49(30)12-34;tag=abc", "abc"),
        ("<tel:+4930;phone-context=x;tag=y>;tag=abc", "abc"),
        ("<urn:service:sos>;tag=abc", "abc"),
        ("Bell, Alexander <sip:a@b>;tag=abc", "abc"),
        ("J\u00fcrgen <sip:a@b>;tag=abc", "abc"),
        ("<sip:1000@h>;tagged=x;x-tag=y", ""),
        ("<sip:1000@h>;a=;b", ""),
    ],
)
def test_a_tag_is_a_parameter_of_the_header(value: str, tag: str) -> None:
    assert parse_message(request(To=value)).to_tag == tag
    assert parse_message(request(From=value)).from_tag == tag


@pytest.mark.parametrize(
    "value",
    [
        "<sip:1000@h>;tag=abc;tag=def",
        '<sip:1000@h>;tag="abc"',
        "<sip:1000@h>;tag=",
        "<sip:1000@h>;tag",
        "<sip:1000@h>;tag=a@b",
        "<sip:1000@h>;tag=a b",
        "<sip:1000@h>;tag=a, <sip:b@c>",
        '<sip:1000@h>;x="y',
        '"x <sip:1000@h>;tag=abc',
        '"x" y <sip:1000@h>;tag=abc',
        "<sip:1000@h",
        "<sip:1000@h>>",
        "<<sip:1000@h>>",
        "< sip:1000@h>",
        "<1000@h>",
        "1000@h",
        "foo:bar;tag=abc",
        "urn:service:sos;tag=abc",
        'sip:h;tag=abc;x="foo@bar"',
        "sip:1000@h@i;tag=abc",
        "sip:1000@h;tag=abc?x",
        "x;tag=abc <sip:1000@h>",
        "x: <sip:1000@h>;tag=abc",
        "<sip:1000@h>;",
        "<sip:1000@h>;;tag=abc",
        "<sip:1000@h>tag=abc",
        "*",
    ],
)
def test_what_is_no_address_is_refused(value: str) -> None:
    assert refusal(request(To=value)) in ("Bad To", "Bad Tag in To")
    assert refusal(request(From=value)) in ("Bad From", "Bad Tag in From")


@pytest.mark.parametrize(
    "more",
    [
        "To: <sip:1000@192.0.2.1>;tag=abc\r\n",
        "t: <sip:1000@192.0.2.1>;tag=abc\r\n",
        "TO: <sip:1000@192.0.2.1>\r\n",
        "From: <sip:x@y>;tag=x\r\n",
        "f: <sip:x@y>;tag=x\r\n",
        "i: other\r\n",
        "Call-Id : other\r\n",
        "CSEQ: 1 INVITE\r\n",
        "max-forwards: 1\r\n",
        "l: 0\r\nContent-Length: 0\r\n",
        "c: a/b\r\nContent-Type: application/sdp\r\n",
        "Session-Expires: 90\r\nx: 1800\r\n",
        "Replaces: a\r\nReplaces: b\r\n",
    ],
)
def test_two_of_what_there_is_one_of_are_refused(more: str) -> None:
    assert refusal(request(more=more)).startswith("Two ")


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_a_missing_header_is_named(name: str) -> None:
    assert refusal(request(**{name: ""})) == f"{name} Missing"
    assert refusal(request(**{name: "\r\nNote: y"})) in (f"{name} Missing", f"Bad {name}")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"CSeq": "1 BYE"}, "Bad CSeq"),
        ({"CSeq": "1 invite"}, "Bad CSeq"),
        ({"CSeq": "1INVITE"}, "Bad CSeq"),
        ({"CSeq": "1 INVITE x"}, "Bad CSeq"),
        ({"CSeq": "-1 INVITE"}, "Bad CSeq"),
        ({"CSeq": "2147483648 INVITE"}, "Bad CSeq"),
        ({"CSeq": "INVITE"}, "Bad CSeq"),
        ({"CSeq": "\u0661 INVITE"}, "Bad CSeq"),
        ({"Call-ID": "a b"}, "Bad Call-ID"),
        ({"Call-ID": "a "}, "Bad Call-ID"),
        ({"Call-ID": "a,b"}, "Bad Call-ID"),
        ({"Call-ID": "a;b"}, "Bad Call-ID"),
        ({"Call-ID": "caf\u00e9"}, "Bad Call-ID"),
        ({"Via": "SIP/2.0/UDP 192.0.2.9;branch=a b"}, "Bad Via"),
        ({"Via": 'SIP/2.0/UDP 192.0.2.9;branch="a"'}, "Bad Branch in Via"),
        ({"Via": "SIP/2.0/UDP 192.0.2.9;branch="}, "Bad Branch in Via"),
        ({"Via": "SIP/2.0/UDP 192.0.2.9;branch=a;branch=b"}, "Bad Branch in Via"),
        ({"Via": "SIP/2.0/UDP 192.0.2.9;branch=a[b"}, "Bad Branch in Via"),
        ({"Via": "SIP/1.0/UDP 192.0.2.9;branch=a"}, "Bad Via"),
        ({"Via": "SIP/2.0/UDP"}, "Bad Via"),
        ({"Via": "192.0.2.9"}, "Bad Via"),
        ({"Via": "SIP/2.0/UDP 192.0.2.9;branch=a;maddr=192.0.2.77"}, "Via With maddr"),
        ({"Max-Forwards": "300"}, "Bad Max-Forwards"),
        ({"Max-Forwards": "seventy"}, "Bad Max-Forwards"),
        ({"more": "Expires: soon\r\n"}, "Bad Expires"),
        ({"more": "Content-Length: 4\r\nContent-Type: a/b\r\n", "body": "abc"}, "Content-Length Does Not Match"),
        ({"more": "Content-Length: 2\r\nContent-Type: a/b\r\n", "body": "abc"}, "Content-Length Does Not Match"),
        ({"more": "Content-Length: -1\r\n"}, "Bad Content-Length"),
        ({"more": "Content-Length: 0 0\r\n"}, "Bad Content-Length"),
        ({"more": "Content-Type: application\r\n"}, "Bad Content-Type"),
        ({"more": "Content-Type: application/sdp, text/plain\r\n"}, "Bad Content-Type"),
        ({"body": "v=0"}, "Content-Type Missing"),
        ({"more": "Session-Expires: 1800&To: <sip:1000@h>;tag=abc\r\n"}, "Bad Session-Expires"),
        ({"more": "Min-SE: 90;x&t: <sip:1000@h>;tag=abc\r\n"}, "Bad Min-SE"),
        ({"more": "Route: <sip:h;lr>&To: <sip:1000@h>;tag=abc\r\n"}, "Bad Route"),
        ({"more": "Record-Route: <sip:h>, <sip:h>&To: <sip:1000@h>\r\n"}, "Bad Record-Route"),
        ({"more": 'Authorization: Digest a="&", b=c&To: <sip:1000@h>;tag=abc\r\n'}, "Bad Authorization"),
        ({"more": "Event: a&To: <sip:1000@h>;tag=abc\r\n"}, "Bad Event"),
        ({"more": "Replaces: a&To: <sip:1000@h>;tag=abc\r\n"}, "Bad Replaces"),
        ({"Contact": "<sip:a@b>&To: <sip:1000@h>;tag=abc"}, "Bad Contact"),
        ({"Contact": "sip:a@b;x=y&To: <sip:1000@h>;tag=abc"}, "Bad Contact"),
        ({"Via": "SIP/2.0/UDP h;branch=a, SIP/2.0/UDP i&To: <sip:1000@h>;tag=abc"}, "Bad Via"),
        ({"more": "v: SIP/2.0/UDP i;x&To: <sip:1000@h>;tag=abc\r\n"}, "Bad Via"),
        ({"more": "X y: z\r\n"}, "Bad Header Name"),
        ({"more": "X\u00fc: z\r\n"}, "Bad Header Name"),
        ({"more": ": z\r\n"}, "Bad Header Name"),
        ({"more": "nonsense\r\n"}, "Line Without Colon"),
        ({"more": "X: a\nTo: <sip:b@c>;tag=abc\r\n"}, "Bad Line End"),
        ({"more": "X: a\rTo: <sip:b@c>;tag=abc\r\n"}, "Bad Line End"),
        ({"more": "X: a\0b\r\n"}, "Control Character"),
        ({"more": "X: a\x0bb\r\n"}, "Control Character"),
        ({"more": "X: \x1b[31mHI\r\n"}, "Control Character"),
        ({"more": "X: a\r\n \t\r\n b\r\n"}, "Bad Folding"),
    ],
)
def test_what_the_library_might_take_in_another_way_is_refused(changed: dict[str, str], reason: str) -> None:
    assert refusal(request(**changed)) == reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("INVITE  sip:1000@h SIP/2.0", "Bad Request-Line"),
        ("INVITE sip:1000@h  SIP/2.0", "Bad Request-Line"),
        ("INVITE sip:1000@h SIP/2.0 ", "Bad Request-Line"),
        (" INVITE sip:1000@h SIP/2.0", "Bad Request-Line"),
        ("INVITE\tsip:1000@h SIP/2.0", "Bad Request-Line"),
        ("INVITE sip:10 00@h SIP/2.0", "Bad Request-Line"),
        ("INVITE <sip:1000@h> SIP/2.0", "Bad Request-Line"),
        ("INVITE 1000@h SIP/2.0", "Bad Request-Line"),
        ("INVITE sip:1000@h sip/2.0", "Bad Request-Line"),
        ("INVITE sip:1000@h", "Bad Request-Line"),
        ("IN:VITE sip:1000@h SIP/2.0", "Bad Request-Line"),
        ("", "Bad Request-Line"),
        ("INVITE sip:1000@h\r\n SIP/2.0", "Bad Folding"),
        ("SIP/2.0  200 OK", "Bad Request-Line"),
        ("SIP/2.0 99 OK", "Bad Request-Line"),
        ("SIP/2.0 700 OK", "Bad Request-Line"),
        ("SIP / 2.0 200 OK", "Bad Request-Line"),
        ("INVITE sip:1000@h SIP/7.0", "Version Not Supported"),
    ],
)
def test_a_first_line_is_as_it_should_be(line: str, reason: str) -> None:
    assert refusal(request(line)) == reason


def test_the_headers_must_end() -> None:
    assert refusal(request().rstrip("\r\n") + "\r\n") == "Headers Without End"
    assert refusal(request().replace("\r\n", "\n")) == "Headers Without End"
    assert refusal("") == "Headers Without End"


def test_line_ends_behind_the_body_do_no_harm() -> None:
    assert refusal(request(more="Content-Length: 0\r\n", body="\r\n\r\n")) == ""
    assert refusal(request(more="Content-Length: 3\r\nContent-Type: a/b\r\n", body="abc\r\n")) == ""
    assert refusal(request(more="Content-Length: 4\r\nContent-Type: a/b\r\n", body="ab\u00e9")) == ""


BASE = request(
    more='P-Asserted-Identity: "a\\"b" <sip:a@b>, <tel:1>\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n',
    body="v=0\r\n",
)


def used(message: Message) -> None:
    """Use all that there is of a message, as the gateway does."""
    for name, value in message.joined().items():
        (name + value).encode("utf-8")
        message.values(name)


def test_a_mutated_message_is_taken_or_malformed_and_nothing_else() -> None:
    chance = random.Random(7)
    taken = 0
    for _ in range(4000):
        text = list(BASE)
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(text) or 1)
            text[place : place + chance.randrange(3)] = chance.choice(
                ["\r", "\n", "\r\n", "\0", "\udc80", ":", ";", "=", '"', "<", "\\", " ", "9" * 30, "tag", "", "\u2028"]
            )
        try:
            used(parse_message("".join(text)))
            taken += 1
        except Malformed:
            pass
    assert 100 < taken < 3900


@given(st.text(st.characters(), max_size=300))
def test_any_text_is_taken_or_malformed_and_nothing_else(text: str) -> None:
    for wrapped in (text, request(To=text or "x"), request(more=f"{text}\r\n"), request(Via=text or "x")):
        try:
            used(parse_message(wrapped))
        except Malformed:
            continue
    clean(text).encode("utf-8")


@pytest.mark.parametrize(
    "hostile",
    ['"' + '\\"' * 1900, "<" * 3900, '"' * 3900, " " * 3900, ";a" * 1900, ";a=" + " " * 3900 + "\x80", "\\" * 3900],
)
def test_no_value_keeps_the_reader_busy(hostile: str) -> None:
    for text in (
        request(To=f"<sip:a@b>{hostile}"),
        request(To=hostile or "x"),
        request(more=f"Contact: {hostile}\r\n"),
    ):
        refusal(text)


def test_undecodable_bytes_become_replacement_characters() -> None:
    assert clean(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\ufffd"
    assert clean("plain") == "plain"


def test_a_text_is_parsed_once_while_it_is_the_last_one() -> None:
    reader = MessageReader()
    first, other = request(), request(body="v=0\r\n", more="c: application/sdp\r\nl: 5\r\n")
    message = reader.read(first)
    assert reader.read(f"{first}") is message
    assert reader.find(first) is message
    assert reader.read(other).body == "v=0\r\n"
    assert reader.read(first) == message


def test_a_copy_that_differs_anywhere_has_its_own_headers() -> None:
    reader = MessageReader()
    mine = reader.read(request(more="X-Note: mine\r\n"))
    theirs = reader.read(request(more="X-Note: them\r\n"))  # same Call-ID, tags, CSeq and branch
    assert (theirs.call_id, theirs.from_tag, theirs.branch) == (mine.call_id, mine.from_tag, mine.branch)
    assert (mine.first("x-note"), theirs.first("x-note")) == ("mine", "them")


def test_what_is_malformed_leaves_what_was_read_before() -> None:
    reader = MessageReader()
    message = reader.read(request())
    with pytest.raises(Malformed):
        reader.read("INVITE")
    assert reader.find("INVITE") is None
    assert reader.find("") is None
    assert reader.read(request()) is message
