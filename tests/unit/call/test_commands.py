from __future__ import annotations

import pytest

from gateway.call.commands import (
    EVENTS,
    KINDS,
    MOST_BY,
    MOST_TEXT,
    CommandGiven,
    HangUpCommanded,
    TakeOverCommanded,
    TransferCommanded,
    command_event,
    target_of,
)
from gateway.ids import CallId
from gateway.store.commands import CommandKind

pytestmark = pytest.mark.unit

CALL = CallId("call")
FIELDS = {"text": " Be brief. ", "digits": "12#", "target": "sip:ann@192.0.2.1", "goodbye": "true", "odd": "1"}


def event(kind: str, **fields: str) -> CommandGiven | str:
    return command_event(CALL, "c1", kind, fields, "ann")


def test_every_command_to_a_call_becomes_an_event_that_says_who_gave_it() -> None:
    made = [command_event(CALL, "c1", kind, FIELDS, "ann") for kind in sorted(KINDS)]
    assert {type(each) for each in made} == set(EVENTS)
    for kind, each in zip(sorted(KINDS), made, strict=True):
        assert isinstance(each, CommandGiven)
        fields = each.fields()
        assert (fields["command"], fields["command_id"], fields["by"]) == (kind, "c1", "ann")
    assert set(CommandKind.__args__) >= KINDS  # type: ignore[attr-defined]


def test_what_a_command_holds_is_in_its_event() -> None:
    assert event("hang_up") == HangUpCommanded(CALL, "c1", "ann", goodbye=False)
    assert event("hang_up", goodbye="true") == HangUpCommanded(CALL, "c1", "ann", goodbye=True)
    assert event("transfer", target="+49 30 12-34") == TransferCommanded(CALL, "c1", "ann", "tel:+49301234")
    assert event("take_over", target="sip:ann@192.0.2.1") == TakeOverCommanded(CALL, "c1", "ann", "sip:ann@192.0.2.1")


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("say", {}, "text: give 1 to"),
        ("say", {"text": "  "}, "text: give 1 to"),
        ("whisper", {"text": "x" * (MOST_TEXT + 1)}, "text: give 1 to"),
        ("send_digits", {"digits": "12x"}, "digits: give 1 to 64"),
        ("send_digits", {}, "digits: give 1 to 64"),
        ("transfer", {}, "target: give a number"),
    ],
)
def test_a_command_without_what_it_needs_is_refused_in_words(kind: str, fields: dict[str, str], words: str) -> None:
    refusal = command_event(CALL, "c1", kind, fields, "ann")
    assert isinstance(refusal, str)
    assert refusal.startswith(words)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "desk",
        "sip:",
        "sip:a@b\r\nX: y",
        "sip:a@b>;x",
        "sip:a@b?Replaces=1",
        "http://192.0.2.1",
        'sip:"a"@b',
        "sip:a b@c",
        "sip:" + "a" * 300,
        "1" * 60,
    ],
)
def test_nothing_but_numbers_and_sip_addresses_can_be_called(target: str) -> None:
    with pytest.raises(ValueError, match="target: give a number"):
        target_of(target)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("(030) 12/34", "tel:0301234"), (" +4930 ", "tel:+4930"), ("tel:+4930", "tel:+4930"), ("SIPS:a@b", "SIPS:a@b")],
)
def test_a_number_is_called_however_it_is_written(given: str, meant: str) -> None:
    assert target_of(given) == meant


def test_who_gave_a_command_is_one_short_line() -> None:
    made = command_event(CALL, "c1", "trace", {}, "ann\n\x1b[2J" + "x" * 500)
    assert isinstance(made, CommandGiven)
    assert made.by.startswith("ann[2J")
    assert len(made.by) == MOST_BY
