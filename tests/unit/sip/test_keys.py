"""Telephone keys."""

from __future__ import annotations

import pytest

from gateway.sip.keys import KEY_S, PAUSES_S, TWICE_WITHIN_S, KeyFilter, dialling, key_in_info

pytestmark = pytest.mark.unit


def info(kind: str, body: str) -> str:
    return f"INFO sip:us@127.0.0.1 SIP/2.0\r\nCSeq: 2 INFO\r\nContent-Type: {kind}\r\n\r\n{body}"


@pytest.mark.parametrize(
    ("kind", "body", "key"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", "5"),
        ("application/dtmf-relay", "Duration=160\r\nsignal: #\r\n", "#"),
        ("Application/DTMF-Relay; charset=utf-8", "Signal= 11", "#"),
        ("application/dtmf", "5\r\n", "5"),
        ("application/dtmf", "d", "D"),
        ("application/dtmf", "10", "*"),
        ("application/dtmf", "Signal=7", "7"),
        ("application/dtmf", "123", None),
        ("application/dtmf", "", None),
        ("application/dtmf-relay", "Duration=160", None),
        ("application/sdp", "v=0", None),
    ],
)
def test_a_key_is_read_from_an_info(kind: str, body: str, key: str | None) -> None:
    assert key_in_info(info(kind, body)) == key


def test_all_packets_of_an_event_are_one_press() -> None:
    keys = KeyFilter()
    assert keys.event("7", 500, 1.0)
    assert not any(keys.event("7", 500, 1.0 + late) for late in (0.02, 2.0, 9.0))


def test_the_same_key_again_is_another_press() -> None:
    keys = KeyFilter()
    assert [keys.event("1", stamp, stamp / 1000) for stamp in (500, 640, 780)] == [True] * 3


def test_a_late_packet_of_the_press_before_is_none() -> None:
    keys = KeyFilter()
    told = [keys.event("1", 500, 1.0), keys.event("2", 700, 1.2), keys.event("1", 500, 1.21), keys.event("2", 700, 1.3)]
    assert told == [True, True, False, False]


def test_a_press_told_both_ways_is_told_once() -> None:
    keys = KeyFilter()
    assert keys.event("1", 500, 1.0)
    assert not keys.info("1", 1.4)
    assert keys.info("1", 1.6)
    assert not keys.event("1", 900, 1.7)
    assert keys.event("1", 1200, 2.0)


def test_the_other_way_much_later_is_another_press() -> None:
    keys = KeyFilter()
    assert keys.event("1", 500, 1.0)
    assert keys.info("1", 1.1 + TWICE_WITHIN_S)


def test_different_keys_told_in_two_ways_are_each_told() -> None:
    keys = KeyFilter()
    assert keys.event("1", 500, 1.0)
    assert keys.info("2", 1.1)


def test_what_is_no_key_is_none() -> None:
    keys = KeyFilter()
    assert not keys.event("R", 1, 1.0)  # flash, RFC 4733 section 3.2
    assert not keys.info("", 1.0)


def test_a_dial_string_waits_where_it_says() -> None:
    assert dialling("12") == ((0.0, "1"), (KEY_S, "2"))
    assert dialling("1w2,a") == (
        (0.0, "1"),
        (KEY_S + PAUSES_S["w"], "2"),
        (2 * KEY_S + PAUSES_S["w"] + PAUSES_S[","], "A"),
    )
    assert dialling("w") == ()
