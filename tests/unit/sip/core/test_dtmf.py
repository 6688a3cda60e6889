"""Telephone keys."""

from __future__ import annotations

import pytest

from gateway.sip.core.dtmf import KEY_S, PAUSES_S, TWICE_WITHIN_S, DtmfFilter, dialling, key_in_info
from gateway.sip.core.message import Message, parse_message

pytestmark = pytest.mark.unit


def info(kind: str, body: str) -> Message:
    return parse_message(
        "INFO sip:us@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\nFrom: <sip:them@h>;tag=1\r\n"
        f"To: <sip:us@h>;tag=2\r\nCall-ID: x\r\nCSeq: 2 INFO\r\nContent-Type: {kind}\r\n\r\n{body}"
    )


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
        ("application/dtmf-relay", "Signal=5", "5"),
        ("application/dtmf-relay", "Signal = 5\nDuration = 160", "5"),
        ("application/dtmf-relay", "Signal=5 Duration=160", "5"),
        ("application/dtmf-relay", 'SIGNAL="5"; Duration=160', "5"),
        ("application/dtmf-relay", "Signal=10\r\nDuration=160\r\n", "*"),
        ("application/dtmf-relay", "Signal=16\r\nDuration=160\r\n", ""),
        ("application/dtmf-relay", "Signal=\r\nDuration=160\r\n", ""),
        ("application/dtmf-relay", "Signal=1\r\nSignal=2\r\n", "1"),
        ("application/dtmf-relay", "*", "*"),
        ("application / dtmf-relay", "Signal=5", "5"),
        ("application/dtmf-relay", "Signal=05", "5"),
        ("application/dtmf-relay", "Signal=%23", "#"),
        ("application/dtmf-relay", "Signal=star", "*"),
        ("application/dtmf", "pound", "#"),
        ("application/dtmf-relay", "Signal=hookflash", ""),
        ("application/vnd.nortelnetworks.digits", "p=Digit-Collection\r\ns=success\r\nd=5\r\n", "5"),
        ("application/dtmf", "123", ""),
        ("application/dtmf", "", ""),
        ("application/dtmf-relay", "Duration=160", ""),
        ("application/sdp", "v=0", None),
    ],
)
def test_a_key_is_read_from_an_info(kind: str, body: str, key: str | None) -> None:
    assert key_in_info(info(kind, body)) == key


Packet = tuple[str, int, int, bool]
"""Key, timestamp in ms, duration in ms, end."""


def presses(*packets: Packet, keys: DtmfFilter | None = None) -> str:
    keys = keys or DtmfFilter()
    told = [
        key for n, (key, at, duration, end) in enumerate(packets) if keys.event(key, at, duration, n / 50, ended=end)
    ]
    return "".join(told)


def ends(key: str, at: int, duration: int) -> list[Packet]:
    return [(key, at, duration, True)] * 3


def press(key: str, at: int, duration: int) -> list[Packet]:
    return [*((key, at, so_far, False) for so_far in range(20, duration, 20)), *ends(key, at, duration)]


@pytest.mark.parametrize("start", [0, 2**29 - 100, 400_000_000], ids=["early", "wrapping", "late"])
@pytest.mark.parametrize(
    "packets",
    [
        press("4", 0, 100),
        ends("4", 0, 100),
        [("4", 20 * n, 20 * n + 20, False) for n in range(5)] + ends("4", 80, 100),
        [("4", 20 * n, 20 * n + 20, False) for n in range(5)] + [("4", 80 + 20 * n, 100, True) for n in range(3)],
        [*press("4", 0, 80)[:-3], *ends("4", 80, 80)],
        [*press("4", 0, 8191)[:-3], *press("4", 8191, 8191)[:-3], *press("4", 16382, 300)],
        [*press("4", 0, 100), ("4", 0, 100, False)],
        [("4", 0, 20, False), ("4", 0, 100, True), *press("4", 0, 100)[1:]],
        [("4", 20 * n, 20 * n + 20, False) for n in range(1, 5)] + ends("4", 0, 100),
    ],
    ids=[
        "plain",
        "ends only",
        "moving",
        "moving on in its ends",
        "later at its end",
        "segments",
        "late",
        "overtaken",
        "moving back",
    ],
)
def test_all_packets_of_an_event_are_one_press(packets: list[Packet], start: int) -> None:
    moved = [(key, (at + start) % 2**29, duration, end) for key, at, duration, end in packets]
    rounded = [(key, round(at / 32) * 32, duration, end) for key, at, duration, end in moved]
    assert presses(*moved) == presses(*rounded) == "4"


@pytest.mark.parametrize(
    "packets",
    [
        [*press("1", 0, 80), *press("1", 160, 80)],
        [*press("1", 0, 40), *press("1", 80, 40)],
        [*press("1", 0, 100), *ends("1", 200, 100)],
        [*press("1", 0, 100), ("1", 200, 60, False)],
        [*press("1", 0, 300)[:-3], *press("1", 400, 100)],
        [*press("1", 0, 100)[:-3], *ends("1", 200, 100)],
        [*ends("1", 0, 100), *ends("1", 140, 100)],
        [("1", 20 * n, 20 * n + 20, False) for n in range(3)] + ends("1", 60, 80) + ends("1", 200, 80),
        [*press("1", 0, 100), *press("1", 0, 100)],
        [*press("1", 1000, 100), *press("1", 3, 100)],
    ],
    ids=[
        "plain",
        "as fast as can be",
        "ends only",
        "single",
        "without an end before",
        "without an end before, ends only",
        "both ends only",
        "moving timestamps",
        "a timestamp that stands still",
        "a new stream",
    ],
)
def test_the_same_key_again_is_another_press(packets: list[Packet]) -> None:
    assert presses(*packets) == "11"


def test_a_number_keeps_each_of_its_keys() -> None:
    assert presses(*press("1", 0, 80), *ends("1", 160, 80), *press("2", 320, 80), *ends("3", 480, 80)) == "1123"


def test_a_late_packet_of_the_press_before_is_none() -> None:
    assert presses(*ends("1", 500, 80), *ends("2", 700, 80), *ends("1", 500, 80), *ends("2", 700, 80)) == "12"


def test_a_press_told_both_ways_is_told_once() -> None:
    keys = DtmfFilter()
    assert keys.event("1", 500, 80, 1.0, ended=True)
    assert not keys.info("1", 1.4)
    assert keys.info("1", 1.6)
    assert not keys.event("1", 900, 80, 1.7, ended=True)
    assert keys.event("1", 1200, 80, 2.0, ended=True)


def test_the_other_way_much_later_is_another_press() -> None:
    keys = DtmfFilter()
    assert keys.event("1", 500, 80, 1.0, ended=True)
    assert keys.info("1", 1.1 + TWICE_WITHIN_S)


def test_different_keys_told_in_two_ways_are_each_told() -> None:
    keys = DtmfFilter()
    assert keys.event("1", 500, 80, 1.0, ended=True)
    assert keys.info("2", 1.1)


def test_what_is_no_key_is_none() -> None:
    keys = DtmfFilter()
    assert not keys.event("R", 1, 80, 1.0, ended=True)  # flash, RFC 4733 section 3.2
    assert not keys.info("", 1.0)


def test_a_dial_string_waits_where_it_says() -> None:
    assert dialling("12") == ((0.0, "1"), (KEY_S, "2"))
    assert dialling("1w2,a") == (
        (0.0, "1"),
        (KEY_S + PAUSES_S["w"], "2"),
        (2 * KEY_S + PAUSES_S["w"] + PAUSES_S[","], "A"),
    )
    assert dialling("w") == ()
