from __future__ import annotations

import pytest

from gateway.condition import WorkerCondition
from gateway.edge.workers import SHORTLIST, EdgeWorker, order_of, orders, tables, token

pytestmark = pytest.mark.unit


def worker(port: int, host: str = "127.0.0.1", **more: object) -> EdgeWorker:
    return EdgeWorker(f"{host}:{port}", 4, **more)  # type: ignore[arg-type] # its fields


def test_workers_of_one_machine_are_filled_in_the_order_of_their_ports() -> None:
    assert (
        order_of([worker(10000), worker(5071), worker(5070)]) == "127.0.0.1:5070/4,127.0.0.1:5071/4,127.0.0.1:10000/4"
    )


def test_machines_take_turns() -> None:
    found = order_of([worker(1, "10.0.0.1"), worker(2, "10.0.0.1"), worker(1, "10.0.0.2"), worker(1, "10.0.0.3")])
    assert found.split(",") == ["10.0.0.1:1/4", "10.0.0.2:1/4", "10.0.0.3:1/4", "10.0.0.1:2/4"]


def test_only_ready_workers_with_a_capacity_get_calls() -> None:
    states = [worker(1, state="draining"), worker(2, state="overloaded"), worker(3, state="ended")]
    assert order_of([*states, EdgeWorker("127.0.0.1:4", 0)]) == ""


def test_of_many_workers_those_with_room_make_the_list() -> None:
    full = [worker(10_000 + number, live_calls=4) for number in range(100)]
    free = [worker(20_000 + number, live_calls=3) for number in range(100)]
    found = order_of([*full, *free]).split(",")
    assert len(found) == SHORTLIST
    assert all(each.startswith("127.0.0.1:20") for each in found)


def test_tables_hold_all_that_live_and_their_calls_where_they_report_them() -> None:
    held = tables("k", [worker(1, state="draining", live_calls=2), worker(2), worker(3, state="ended")], growing=True)
    assert held == {
        ("worker", token("k", "127.0.0.1:1")): "127.0.0.1:1",
        ("worker", token("k", "127.0.0.1:2")): "127.0.0.1:2",
        ("host", "127.0.0.1"): 1,
        ("load", "127.0.0.1:1"): 2,
        ("edge", "order"): "127.0.0.1:2/4",
        ("edge", "growing"): 1,
    }
    assert tables("k", [])["edge", "order"] == "-"


def test_orders_are_the_difference_and_nothing_more() -> None:
    before = tables("k", [worker(1, live_calls=0), worker(2)])
    after = tables("k", [worker(1, live_calls=1), worker(3)])
    assert orders(before, before, 9) == []
    assert sorted(orders(before, after, 9), key=str) == sorted(
        [
            ("htable.seti", "load", "127.0.0.1:1", 1),
            ("htable.sets", "worker", token("k", "127.0.0.1:3"), "127.0.0.1:3"),
            ("htable.sets", "edge", "order", "127.0.0.1:1/4,127.0.0.1:3/4"),
            ("htable.seti", "dead", "127.0.0.1:2", 9),
            ("htable.seti", "edge", "dead", 1),
            ("htable.delete", "worker", token("k", "127.0.0.1:2")),
        ],
        key=str,
    )


def test_a_token_says_nothing_without_the_key() -> None:
    assert token("k", "127.0.0.1:1") != token("other", "127.0.0.1:1")
    assert len(token("k", "127.0.0.1:1")) == 16


@pytest.mark.parametrize("sip", ["", "host:5060", "127.0.0.1", "[::1]:5060", '127.0.0.1:1";drop', "127.0.0.1:1\n"])
def test_what_is_no_address_is_refused(sip: str) -> None:
    with pytest.raises(ValueError, match="is not an IPv4 address with a port"):
        EdgeWorker(sip, 4)


def test_a_worker_is_made_of_its_condition() -> None:
    found = EdgeWorker.of(WorkerCondition("w1", "draining", 3, 4, "10.0.0.1:5070"))
    assert found == EdgeWorker("10.0.0.1:5070", 4, "draining", 3)
