"""What once felled the gateway, again; and some minutes' worth of what nobody thought of."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.__main__ import CORPUS
from tests.fuzz.case import Case, Step, parse_case, read_cases
from tests.fuzz.hunt import Hunt, without
from tests.fuzz.modes import MODES, case_of
from tests.fuzz.mutate import ANY_TEXT, mutate

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("srtp", ["off", "optional"])
def test_no_finding_of_the_past_fells_the_gateway_again(srtp: str, tmp_path: Path) -> None:
    tally = Hunt(srtp, tmp_path).run(read_cases(CORPUS))
    assert not tally.falls, tally.findings


@pytest.mark.parametrize("srtp", ["off", "optional"])
@pytest.mark.parametrize(
    ("mode", "cases"), [("message", 400), ("offer", 300), ("info", 60), ("rtp", 60), ("tcp", 150), ("dialog", 100)]
)
def test_what_nobody_thought_of_fells_nothing(mode: str, cases: int, srtp: str, tmp_path: Path) -> None:
    tally = Hunt(srtp, tmp_path).run(case_of(mode, 1, number) for number in range(cases))
    assert not tally.falls, tally.findings
    assert tally.cases == cases


def test_a_case_follows_from_its_number() -> None:
    for mode in MODES:
        assert case_of(mode, 1, 7) == case_of(mode, 1, 7)
        assert case_of(mode, 1, 7) != case_of(mode, 2, 7)


def test_a_case_stands_in_a_file_as_it_was() -> None:
    case = Case("x", (Step("ask", b"INVITE x\r\n\r\n"), Step("wait", b"5"), Step("rtp", bytes(range(256)))))
    assert parse_case("x", case.as_bytes()) == case
    assert parse_case("x", b"OPTIONS") == Case("x", (Step("send", b"OPTIONS"),))
    with pytest.raises(ValueError, match="no step is called"):
        parse_case("x", b"#> shout\nhello")


def test_a_case_is_made_shorter_as_long_as_it_does_the_same() -> None:
    assert without("abcdefg", lambda some: "c" in some and "f" in some) == ("c", "f")


def test_a_mutation_changes_something_and_stays_sendable() -> None:
    dice = random.Random(1)
    texts = [mutate(dice, "INVITE x SIP/2.0\r\nVia: a;b=1\r\nTo: <sip:a@b>\r\n\r\n", ANY_TEXT) for _ in range(500)]
    assert len(set(texts)) > 400
    assert all(text.encode("utf-8", "surrogateescape") is not None for text in texts)
