"""Which server a request gets, how long it may be silent, and which is next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.sip.core.message import Message, parse_message
from gateway.sip.location.failover import FAILED_S, MAX_FAILED_S, Failover, RequestAttempt
from gateway.sip.location.locator import Locator
from gateway.sip.location.servers import Located, NextHop, Server
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit

FIRST, SECOND = Server("192.0.2.1", 5060, "udp"), Server("192.0.2.2", 5060, "udp")
TARGET = NextHop("carrier.example", 0, "udp")
BOTH = Located((FIRST, SECOND), 1000)


def message(start: str, method: str) -> Message:
    return parse_message(
        f"{start}\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;rport;branch=z9hG4bKPj1\r\nFrom: <sip:2@192.0.2.9>;tag=a\r\n"
        f"To: <sip:1@carrier.example>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
    )


INVITE, BYE = (message(f"{method} sip:1@carrier.example SIP/2.0", method) for method in ("INVITE", "BYE"))
TRYING = message("SIP/2.0 100 Trying", "INVITE")


class Desk:
    """A failover with a clock of its own; what it gave up."""

    def __init__(self) -> None:
        self.now = 0.0
        self.given_up: list[tuple[str, str]] = []
        self.locator = Locator(lambda _target: None, clock=lambda: self.now)
        self.failover = Failover(
            self.locator,
            lambda method, branch: self.given_up.append((method, branch)),
            4,
            {"carrier.example": "udp"},
            clock=lambda: self.now,
        )

    def send(self, message: Message = INVITE, *, after: RequestAttempt | None = None) -> RequestAttempt:
        """Send as the library does: it asks for the server, then for the message's way out."""
        with self.failover.attempt(after) as attempt:
            self.failover.choose(NextHop("carrier.example"), lambda server: self.failover.sent(message))
        return attempt


@pytest.fixture
def desk() -> Iterator[Desk]:
    with playing("sip"):
        made = Desk()
        made.locator.take(TARGET, BOTH)
        yield made


def test_a_server_without_an_answer_is_given_up_and_the_next_one_gets_the_request(desk: Desk) -> None:
    attempt = desk.send()
    assert attempt.server == FIRST
    desk.failover.tick(3.9)
    assert desk.given_up == []
    desk.failover.tick(4.0)
    assert desk.given_up == [("INVITE", "z9hG4bKPj1")]
    assert desk.failover.another(attempt, 408, None)
    attempt = desk.send(after=attempt)
    assert attempt.server == SECOND
    desk.failover.tick(100)
    assert len(desk.given_up) == 1  # the last server has the transaction's whole time
    assert not desk.failover.another(attempt, 408, None)


def test_a_server_is_not_left_early_for_one_that_is_known_to_be_silent(desk: Desk) -> None:
    desk.failover.another(desk.send(), 408, None)
    second = desk.send()
    desk.failover.tick(30)
    assert desk.given_up == []
    desk.failover.another(second, 408, None)
    desk.send()  # now all are known to be: each gets its short time
    desk.failover.tick(30)
    assert len(desk.given_up) == 1


def test_a_server_that_said_anything_is_not_given_up(desk: Desk) -> None:
    desk.send()
    desk.failover.heard(TRYING)
    desk.failover.tick(100)
    assert desk.given_up == []


def answer(code: int, *headers: str) -> Message:
    return message("\r\n".join((f"SIP/2.0 {code} Whatever", *headers)), "INVITE")


@pytest.mark.parametrize("code", [200, 401, 403, 404, 408, 486, 500, 502, 603])
def test_other_answers_are_answers(desk: Desk, code: int) -> None:
    assert not desk.failover.another(desk.send(), code, answer(code))
    assert desk.send().server == FIRST


@pytest.mark.parametrize("code", [408, 503])
def test_a_server_that_says_nothing_comes_last_for_a_while(desk: Desk, code: int) -> None:
    assert desk.failover.another(desk.send(), code, None)
    desk.now = FAILED_S - 1
    assert desk.send().server == SECOND
    desk.now = FAILED_S + 1
    assert desk.send().server == FIRST


@pytest.mark.parametrize(("asked_s", "kept_s"), [(5, 5), (300, 300), (90000, MAX_FAILED_S)])
def test_an_overloaded_server_has_the_time_it_asks_for(desk: Desk, asked_s: float, kept_s: float) -> None:
    desk.locator.take(TARGET, Located((FIRST, SECOND), 100000))
    assert desk.failover.another(desk.send(), 503, answer(503, f"Retry-After: {asked_s}"))
    desk.now = kept_s - 1
    assert desk.send().server == SECOND
    desk.now = kept_s + 1
    assert desk.send().server == FIRST


def test_a_503_without_a_time_is_about_one_request(desk: Desk) -> None:
    first = desk.send()
    assert desk.failover.another(first, 503, answer(503))
    second = desk.send(after=first)
    assert second.server == SECOND
    assert not desk.failover.another(second, 503, answer(503))  # each server has had it
    assert desk.send().server == FIRST


def test_when_all_servers_failed_each_is_tried_again_the_first_to_fail_first(desk: Desk) -> None:
    desk.failover.another(desk.send(), 408, None)
    desk.now = 10
    desk.failover.another(desk.send(), 408, None)
    desk.now = 20
    again = desk.send()
    assert again.server == FIRST
    assert desk.failover.another(again, 408, None)
    assert desk.send(after=again).server == SECOND


def test_a_request_whose_name_is_looked_up_first_is_watched_all_the_same(desk: Desk) -> None:
    desk.now = 5000  # what was known is out of date
    attempt = desk.send()
    assert attempt.server is None
    desk.locator.take(TARGET, BOTH)
    assert attempt.server == FIRST
    desk.failover.tick(5004)
    assert desk.given_up == [("INVITE", "z9hG4bKPj1")]


def test_a_request_that_nobody_wants_any_more_gets_no_server(desk: Desk) -> None:
    desk.now = 5000
    given: list[Server | None] = []
    with desk.failover.attempt() as attempt:
        desk.failover.choose(TARGET, given.append)
    attempt.abandoned = True
    desk.locator.take(TARGET, BOTH)
    assert given == [None]
    assert not desk.failover.another(attempt, 503, None)


def test_a_request_in_a_dialog_gets_the_best_server_and_is_not_watched(desk: Desk) -> None:
    given: list[Server | None] = []
    desk.failover.choose(TARGET, given.append)
    desk.failover.sent(BYE)
    desk.failover.tick(100)
    assert (given, desk.given_up) == ([FIRST], [])
