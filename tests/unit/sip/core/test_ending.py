"""How a dialog ended, read out of its last message."""

from __future__ import annotations

import pytest

from gateway.sip.core.ending import DialogEnding, cause_in, contacts_in, ending_in, reason_headers, reason_in
from gateway.sip.core.message import Message, parse_message

pytestmark = pytest.mark.unit


VIA = "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1"
ALWAYS = (VIA, "From: <sip:us@h>;tag=1", "To: <sip:them@h>;tag=2", "Call-ID: x")


def message(first_line: str, *headers: str) -> Message:
    method = "INVITE" if first_line.startswith("SIP/") else first_line.partition(" ")[0]
    return parse_message("\r\n".join([first_line, *ALWAYS, f"CSeq: 1 {method}", *headers, "", ""]))


@pytest.mark.parametrize(
    ("last", "code", "asked", "ending"),
    [
        (message("BYE sip:us@h SIP/2.0"), 200, False, DialogEnding(200, "Phrase", True)),
        (
            message("BYE sip:us@h SIP/2.0", "Reason: Q.850;cause=41"),
            200,
            False,
            DialogEnding(200, "Phrase (Q.850 41)", True, 41),
        ),
        (message("CANCEL sip:us@h SIP/2.0"), 487, False, DialogEnding(487, "Phrase", True)),
        (message("SIP/2.0 486 Busy Here"), 486, True, DialogEnding(486, "Busy Here", True)),
        (message("SIP/2.0 486"), 486, True, DialogEnding(486, "Phrase", True)),
        (
            message("SIP/2.0 302 Moved Temporarily", "Contact: <sip:2@h>"),
            487,
            True,
            DialogEnding(302, "Moved Temporarily", True, 0, ("sip:2@h",)),
        ),
        (message("SIP/2.0 486 Busy Here", "Contact: <sip:2@h>"), 486, True, DialogEnding(486, "Busy Here", True)),
        # What our own side brought about:
        (None, 408, False, DialogEnding(408, "Phrase")),  # the session timer, a request that was never answered
        (message("SIP/2.0 481 Call Does Not Exist"), 481, False, DialogEnding(481, "Phrase")),
        (message("ACK sip:us@h SIP/2.0"), 415, False, DialogEnding(415, "Phrase")),
        (message("SIP/2.0 200 OK"), 488, True, DialogEnding(488, "Phrase")),
    ],
)
def test_the_far_end_ended_it_only_where_it_said_so(
    last: Message | None, code: int, asked: bool, ending: DialogEnding
) -> None:
    assert ending_in(last, code, "Phrase", asked=asked) == ending


def test_contacts_are_told_the_best_first_from_all_lines() -> None:
    text = message(
        "SIP/2.0 302 Moved Temporarily",
        'Contact: "A, B" <sip:2002@h:5998;x=y>;q=0.5, <sip:2003@h>',
        "m: <tel:+493055500>;q=0.7,",
        "   <sip:3@h>;q=high, <urn:x>;q=0.1",
        "Content-Length: 0",
    )
    assert contacts_in(text) == ("sip:2003@h", "tel:+493055500", "sip:2002@h:5998;x=y", "urn:x")
    assert contacts_in(message("SIP/2.0 302 Moved", "Contact: " + ",".join(["<sip:a@h>"] * 500))) == ("sip:a@h",) * 5
    assert contacts_in(message("SIP/2.0 302 Moved")) == ()


def bye(*reasons: str) -> Message:
    return message("BYE sip:us@127.0.0.1 SIP/2.0", *(f"Reason: {reason}" for reason in reasons))


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (('Q.850;cause=16;text="Normal call clearing"',), "Normal call clearing (Q.850 16)"),
        (('Q.850 ; cause=17 ; text="User busy"',), "User busy (Q.850 17)"),
        (("Q.850;cause=16",), "BYE (Q.850 16)"),
        (('SIP;cause=200;text="Call completed elsewhere"',), "Call completed elsewhere (SIP 200)"),
        (('SIP;cause=503;text="x \\" y", Q.850;cause=41',), 'x " y (SIP 503, Q.850 41)'),
        (("SIP;cause=480", 'Q.850;cause=18;text="No answer"'), "No answer (SIP 480, Q.850 18)"),
        (("garbage;;;=?",), "BYE"),
        (("Q.850;cause=x",), "BYE"),
        ((), "BYE"),
    ],
)
def test_a_reason_is_read(reasons: tuple[str, ...], expected: str) -> None:
    assert reason_in(bye(*reasons), "BYE") == expected


def test_a_reason_in_the_body_is_none() -> None:
    text = "\r\n".join(
        ["BYE sip:us SIP/2.0", *ALWAYS, "CSeq: 1 BYE", "Content-Type: text/plain", "", "Reason: Q.850;cause=16"]
    )
    assert reason_in(parse_message(text), "BYE") == "BYE"


def test_a_hostile_reason_stays_short() -> None:
    for reason in (
        " " * 60_000 + "x",
        "Q.850" + ";a=" * 20_000,
        'SIP;cause=1;text="' + "\\" * 50_000,
        "a;cause=1," * 9000,
    ):
        assert len(reason_in(bye(reason), "BYE")) < 400


@pytest.mark.parametrize(
    ("code", "answered", "expected"),
    [
        (200, True, ('Q.850;cause=16;text="Done"',)),
        (503, True, ('SIP;cause=503;text="Done"', 'Q.850;cause=41;text="Done"')),
        (486, False, ('Q.850;cause=17;text="Done"',)),
        (487, False, ()),
        (487, True, ('SIP;cause=487;text="Done"',)),
    ],
)
def test_our_messages_say_why(code: int, answered: bool, expected: tuple[str, ...]) -> None:
    assert reason_headers(code, "Done", answered=answered) == expected


def test_words_cannot_leave_their_quotes() -> None:
    (value,) = reason_headers(200, 'a"b\\c\r\nX: y\u00e9', answered=True)
    assert value == 'Q.850;cause=16;text="a\'bcX: y"'
    assert reason_headers(200, "", answered=True) == ("Q.850;cause=16",)


@pytest.mark.parametrize(
    ("reasons", "cause"),
    [
        (("Q.850;cause=34",), 34),
        (("SIP;cause=486", "q.850 ; cause = 19"), 19),
        (('SIP;cause=500, Q.850;cause="17"',), 17),
        (("SIP;cause=486",), 17),
        (("SIP;cause=200",), 0),
        (("Q.850;cause=0",), 0),
        (("Q.850;cause=999",), 0),
        ((), 0),
    ],
)
def test_the_cause_of_the_telephone_network_is_read(reasons: tuple[str, ...], cause: int) -> None:
    assert cause_in(bye(*reasons)) == cause


def test_a_cause_is_handed_on_instead_of_the_usual_one() -> None:
    assert reason_headers(480, "Congestion", answered=False, cause=34) == ('Q.850;cause=34;text="Congestion"',)
