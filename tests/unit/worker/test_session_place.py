"""The place of an agent among the sessions of its model."""

from __future__ import annotations

import pytest

from gateway.errors import SessionsFull
from gateway.ids import CallId
from gateway.store.limits import Caps, RouteAdmission, RouteLimits
from gateway.worker.session_place import LimitedPlace
from tests.fakes.store import FakeStore

pytestmark = pytest.mark.unit

CALL = CallId("call")


class Gate:
    """Has a number of places free for each model."""

    def __init__(self, **free: int) -> None:
        self.free = free
        self.asked: list[tuple[str, RouteLimits]] = []
        self.released: list[CallId] = []

    async def admit(self, call_id: CallId, *, route: str, caller: str, day: str, limits: RouteLimits) -> RouteAdmission:
        self.asked.append((route, limits))
        model = route.removeprefix("model:")
        self.free[model] -= 1
        return RouteAdmission(admitted=self.free[model] >= 0)

    def release(self, call_id: CallId, seconds: float) -> None:
        self.released.append(call_id)


def place(gate: Gate, *wanted: str, number: int = 1, store: FakeStore | None = None, **most: int) -> LimitedPlace:
    return LimitedPlace(CALL, number, wanted, most, gate, store or FakeStore(), lambda: 0.0)


async def test_a_model_without_a_limit_is_not_counted() -> None:
    gate = Gate()
    assert await place(gate, "a").take() == "a"
    assert gate.asked == []


async def test_a_place_is_taken_once_however_often_a_session_is_opened() -> None:
    gate = Gate(a=1)
    mine = place(gate, "a", a=1)
    assert [await mine.take() for _ in range(3)] == ["a", "a", "a"]
    assert gate.asked == [("model:a", RouteLimits(Caps(max_calls=1)))]
    mine.give_back()
    assert len(gate.released) == 1


async def test_two_agents_of_a_call_have_places_of_their_own() -> None:
    gate = Gate(a=2)
    first, second = place(gate, "a", a=2), place(gate, "a", number=2, a=2)
    await first.take()
    await second.take()
    first.give_back()
    second.give_back()
    assert gate.released == ["call:session:1", "call:session:2"]


async def test_where_a_model_is_full_the_other_one_speaks() -> None:
    gate, store = Gate(a=0), FakeStore()
    mine = place(gate, "a", "b", store=store, a=5)
    assert mine.model == "a"
    assert await mine.take() == mine.model == "b"
    assert store.fields_of("sessions_full") == {"limit_exceeded": "realtime.sessions_max.a 5", "then": "b"}


async def test_where_all_are_full_the_agent_cannot_be_had() -> None:
    gate, store = Gate(a=0, b=0), FakeStore()
    with pytest.raises(SessionsFull, match=r"a has 5 sessions and b has 2 sessions, no more are allowed"):
        await place(gate, "a", "b", store=store, a=5, b=2).take()
    assert store.fields_of("sessions_full")["then"] == "none"
