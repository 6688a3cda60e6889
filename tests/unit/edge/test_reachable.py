from __future__ import annotations

import pytest

from gateway.condition import WorkerCondition
from gateway.edge.reachable import reachable
from gateway.store.registry import RegisteredWorker

pytestmark = pytest.mark.unit


def one(name: str, sip: str, calls: int = 0) -> WorkerCondition:
    return WorkerCondition(name, "ready", calls, 4, sip)


def registered(name: str, sip: str, host: str = "b", at: float = 1.0) -> RegisteredWorker:
    return RegisteredWorker(one(name, sip, 2), host, "0.1.0", at)


def names(*own: WorkerCondition, registry: tuple[RegisteredWorker, ...] = (), once_own: str = "") -> list[str]:
    mine = {each.worker for each in own}
    found = reachable(own, registry, once_own=mine | set(once_own.split()), host="a")
    return [each.worker for each in found]


def test_own_workers_and_those_of_other_hosts_are_one_list_by_name() -> None:
    others = (registered("b1", "10.0.0.2:5070"), registered("a0", "10.0.0.3:5070", "c"))
    assert names(one("a1", "127.0.0.1:5070"), registry=others) == ["a0", "a1", "b1"]


def test_loopback_is_reached_on_its_own_machine_only() -> None:
    registry = (registered("a1", "127.0.0.1:5070", "a"), registered("b1", "127.0.0.1:5071", "b"))
    assert names(registry=registry) == ["a1"]


def test_a_worker_behind_no_edge_is_left_out() -> None:
    assert names(one("a1", ""), registry=(registered("b1", ""),)) == []


def test_what_a_pipe_tells_is_newer_than_the_registry() -> None:
    draining = WorkerCondition("a1", "draining", 0, 4, "127.0.0.1:5070")
    found = reachable([draining], [registered("a1", "127.0.0.1:5070", "a")], once_own={"a1"}, host="a")
    assert found == (draining,)


def test_an_own_worker_that_ended_is_out_at_once_whatever_the_registry_says() -> None:
    registry = (registered("a1", "127.0.0.1:5070", "a"), registered("b1", "10.0.0.2:5070"))
    assert names(registry=registry, once_own="a1") == ["b1"]


def test_a_port_that_a_new_worker_took_from_a_dead_one_is_given_once() -> None:
    dead, new = registered("b9", "10.0.0.2:5070", at=1), registered("b1", "10.0.0.2:5070", at=2)
    assert names(registry=(new, dead)) == ["b1"]
    assert names(registry=(dead, new)) == ["b1"]
