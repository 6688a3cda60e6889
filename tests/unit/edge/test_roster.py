from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.condition import State, WorkerCondition
from gateway.edge.roster import MOST_KEPT, Roster, reachable
from gateway.store.registry import RegisteredWorker

pytestmark = pytest.mark.unit

KEPT_S = 3600.0


def one(name: str, sip: str, state: State = "ready", calls: int = 0) -> WorkerCondition:
    return WorkerCondition(name, state, calls, 4, sip)


def registered(
    name: str, sip: str, host: str = "b", at: float = 1.0, state: State = "ready", calls: int = 0
) -> RegisteredWorker:
    return RegisteredWorker(one(name, sip, state, calls), host, "0.1.0", at)


def names(*own: WorkerCondition, registry: tuple[RegisteredWorker, ...] = (), once_own: str = "") -> list[str]:
    mine = {each.worker for each in own}
    found = reachable(own, registry, once_own=mine | set(once_own.split()), host="a")
    return sorted(each.worker for each in found.values())


def roster() -> Roster:
    return Roster(host="a", kept_s=KEPT_S)


def test_own_workers_and_those_of_other_hosts_are_one_list() -> None:
    others = (registered("b1", "10.0.0.2:5070"), registered("a0", "10.0.0.3:5070", "c"))
    assert names(one("a1", "127.0.0.1:5070"), registry=others) == ["a0", "a1", "b1"]


def test_loopback_is_reached_on_its_own_machine_only() -> None:
    registry = (registered("a1", "127.0.0.1:5070", "a"), registered("b1", "127.0.0.1:5071", "b"))
    assert names(registry=registry) == ["a1"]


def test_a_worker_behind_no_edge_is_left_out() -> None:
    assert names(one("a1", ""), registry=(registered("b1", ""),)) == []


def test_what_a_pipe_tells_is_newer_than_the_registry() -> None:
    draining = one("a1", "127.0.0.1:5070", "draining")
    found = reachable([draining], [registered("a1", "127.0.0.1:5070", "a")], once_own={"a1"}, host="a")
    assert found == {"127.0.0.1:5070": draining}


def test_a_port_that_a_new_worker_took_from_a_dead_one_is_given_once() -> None:
    dead, new = registered("b9", "10.0.0.2:5070", at=1), registered("b1", "10.0.0.2:5070", at=2)
    assert names(registry=(new, dead)) == ["b1"]
    assert names(registry=(dead, new)) == ["b1"]


def test_the_edge_is_told_state_capacity_and_calls() -> None:
    (worker,) = roster().update(0, [registered("b1", "10.0.0.2:5070", state="overloaded", calls=3)])
    assert (worker.sip, worker.state, worker.capacity, worker.live_calls) == ("10.0.0.2:5070", "overloaded", 4, 3)


def test_an_own_worker_that_ended_is_out_at_once_whatever_the_registry_says() -> None:
    known, registry = roster(), [registered("a1", "127.0.0.1:5070", "a"), registered("b1", "10.0.0.2:5070")]
    own = one("a1", "127.0.0.1:5070", calls=2)
    assert len(known.update(0, registry, [own])) == 2
    assert [each.sip for each in known.update(1, registry, [])] == ["10.0.0.2:5070"]
    assert [each.sip for each in known.update(2, registry, [replace(own, state="ended")])] == ["10.0.0.2:5070"]


def test_a_worker_that_vanished_takes_no_new_calls_but_is_known_for_as_long_as_a_call_lasts() -> None:
    known = roster()
    known.update(0, [registered("b1", "10.0.0.2:5070", calls=2)])
    (kept,) = known.update(1, [])
    assert (kept.sip, kept.state) == ("10.0.0.2:5070", "draining")
    assert known.update(KEPT_S, []) == (kept,)
    assert known.update(KEPT_S + 1, []) == ()


def test_a_worker_that_comes_back_is_as_it_says() -> None:
    known, worker = roster(), registered("b1", "10.0.0.2:5070")
    known.update(0, [worker])
    known.update(1, [])
    assert [each.state for each in known.update(2, [worker])] == ["ready"]
    assert [each.state for each in known.update(3, [registered("b2", "10.0.0.2:5070")])] == ["ready"]


def test_a_worker_that_said_that_it_ended_is_forgotten_at_once() -> None:
    known = roster()
    known.update(0, [registered("b1", "10.0.0.2:5070", calls=2)])
    assert known.update(1, [registered("b1", "10.0.0.2:5070", state="ended")]) == ()
    assert known.update(2, []) == ()


def test_only_so_many_vanished_workers_are_known() -> None:
    known = roster()
    for number in range(MOST_KEPT + 10):
        known.update(number, [registered(f"b{number}", f"10.0.{number // 250}.{number % 250}:5070")])
    left = known.update(MOST_KEPT + 10, [])
    assert len(left) <= MOST_KEPT + 1
    assert "10.0.0.0:5070" not in [each.sip for each in left]
