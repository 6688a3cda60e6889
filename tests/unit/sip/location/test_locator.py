"""What the SIP thread knows of names, and what it does while it knows nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.sip.location.locator import STALE_S, Locator
from gateway.sip.location.servers import RETRY_S, Located, NextHop, Server
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit

TARGET = NextHop("carrier.example", 0, "udp")
SERVER = Server("192.0.2.1", 5060, "udp")
FOUND = Located((SERVER,), 100)
SILENCE = Located((), RETRY_S, "no name server answered", failed=True)


class Desk:
    """A locator, the questions it put and the answers it gave."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[NextHop] = []
        self.told: list[Located] = []
        self.locator = Locator(self.asked.append, clock=lambda: self.now)

    def locate(self, target: NextHop = TARGET, *, ours: bool = False) -> None:
        self.locator.locate(target, self.told.append, ours=ours)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with playing("sip"):
        yield Desk()


def test_a_name_is_looked_up_once_for_all_who_wait(desk: Desk) -> None:
    desk.locate()
    desk.locate()
    assert (desk.asked, desk.told) == ([TARGET], [])
    desk.locator.take(TARGET, FOUND)
    assert desk.told == [FOUND, FOUND]


def test_what_is_known_is_told_at_once_until_its_time_is_over(desk: Desk) -> None:
    desk.locator.take(TARGET, FOUND)
    desk.now += 99
    desk.locate()
    assert (desk.asked, desk.told) == ([], [FOUND])
    desk.now += 2
    desk.locate()
    assert (desk.asked, desk.told) == ([TARGET], [FOUND])


def test_servers_outlast_name_servers_that_do_not_answer(desk: Desk) -> None:
    desk.locator.take(TARGET, FOUND)
    desk.now += 101
    desk.locate()
    desk.locator.take(TARGET, SILENCE)
    assert desk.told == [FOUND]
    desk.now += RETRY_S - 1
    desk.locate()
    assert len(desk.asked) == 1
    desk.now += STALE_S
    desk.locate()
    desk.locator.take(TARGET, SILENCE)
    assert desk.told == [FOUND, FOUND, SILENCE]


def test_a_name_that_is_gone_is_gone(desk: Desk) -> None:
    gone = Located((), RETRY_S, "no such name")
    desk.locator.take(TARGET, FOUND)
    desk.now += 101
    desk.locate()
    desk.locator.take(TARGET, gone)
    assert desk.told == [gone]


def test_a_followed_name_is_looked_up_again_before_its_time_is_over(desk: Desk) -> None:
    heard: list[Located] = []
    desk.locator.follow(TARGET, heard.append)
    desk.locator.take(TARGET, FOUND)
    desk.now += 79
    desk.locator.tick(desk.now)
    assert len(desk.asked) == 1
    desk.now += 2
    desk.locator.tick(desk.now)
    desk.locator.tick(desk.now)
    assert len(desk.asked) == 2
    desk.locate()  # it still holds
    desk.locator.take(TARGET, FOUND)
    assert (heard, desk.told) == ([FOUND, FOUND], [FOUND])


def test_names_that_far_ends_choose_are_bounded(desk: Desk) -> None:
    for number in range(100):
        desk.locate(NextHop(f"far{number}.example"))
    assert len(desk.asked) == 32
    assert len(desk.told) == 68
    assert "too many" in desk.told[0].problem
    desk.locate(ours=True)
    assert desk.asked[-1] == TARGET
    for number in range(1000):
        desk.locator.take(NextHop(f"far{number}.example"), FOUND)
    assert len(desk.locator._names) <= 256


def test_at_the_end_nobody_is_left_waiting(desk: Desk) -> None:
    desk.locate()
    desk.locator.close()
    assert [located.problem for located in desk.told] == ["carrier.example was not looked up: the gateway is stopping"]
    desk.locate(NextHop("other.example"))
    assert len(desk.told) == 2
    assert desk.asked == [TARGET]
