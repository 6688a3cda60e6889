"""How a dialog ended, read out of its last message."""

from __future__ import annotations

import pytest

from gateway.sip.core.ending import Ending, contacts_in, ending_in

pytestmark = pytest.mark.unit


VIA = "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1"
ALWAYS = (VIA, "From: <sip:us@h>;tag=1", "To: <sip:them@h>;tag=2", "Call-ID: x", "CSeq: 1 INVITE")


def message(first_line: str, *headers: str) -> str:
    return "\r\n".join([first_line, *ALWAYS, *headers, "", ""])


@pytest.mark.parametrize(
    ("text", "code", "asked", "ending"),
    [
        (message("BYE sip:us@h SIP/2.0"), 200, False, Ending(200, "Phrase", True)),
        (
            message("BYE sip:us@h SIP/2.0", "Reason: Q.850;cause=41"),
            200,
            False,
            Ending(200, "Phrase (Q.850 41)", True, 41),
        ),
        (message("CANCEL sip:us@h SIP/2.0"), 487, False, Ending(487, "Phrase", True)),
        (message("SIP/2.0 486 Busy Here"), 486, True, Ending(486, "Busy Here", True)),
        (message("SIP/2.0 486"), 486, True, Ending(486, "Phrase", True)),
        (
            message("SIP/2.0 302 Moved Temporarily", "Contact: <sip:2@h>"),
            487,
            True,
            Ending(302, "Moved Temporarily", True, 0, ("sip:2@h",)),
        ),
        (message("SIP/2.0 486 Busy Here", "Contact: <sip:2@h>"), 486, True, Ending(486, "Busy Here", True)),
        # What our own side brought about:
        ("", 408, False, Ending(408, "Phrase")),  # the session timer, a request that was never answered
        (message("SIP/2.0 481 Call Does Not Exist"), 481, False, Ending(481, "Phrase")),
        (message("ACK sip:us@h SIP/2.0"), 415, False, Ending(415, "Phrase")),
        (message("SIP/2.0 200 OK"), 488, True, Ending(488, "Phrase")),
    ],
)
def test_the_far_end_ended_it_only_where_it_said_so(text: str, code: int, asked: bool, ending: Ending) -> None:
    assert ending_in(text, code, "Phrase", asked=asked) == ending


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
    assert contacts_in("SIP/2.0 302 Moved\r\nContact: <sip:a@h>\r\n\r\n") == ()
