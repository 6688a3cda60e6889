from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.condition import WorkerCondition
from gateway.store.registry import RegisteredWorker, believed, is_same, read_answer, registered_worker

pytestmark = pytest.mark.unit

READY = WorkerCondition("w1", "ready", 0, 4, "10.0.0.2:5070")
FLAT = {
    "worker": "w1",
    "state": "ready",
    "live_calls": "2",
    "capacity": "4",
    "sip": "10.0.0.2:5070",
    "host": "b",
    "version": "0.1.0",
    "heartbeat_at": "12.5",
}


def worker(name: str, **changes: object) -> RegisteredWorker:
    condition = replace(READY, worker=name, **changes)  # type: ignore[arg-type]
    return RegisteredWorker(condition, "host", "0.1.0", 1.0)


def test_an_entry_is_read_as_it_was_written() -> None:
    told = registered_worker(FLAT)
    assert told == RegisteredWorker(replace(READY, live_calls=2), "b", "0.1.0", 12.5)
    assert registered_worker({**FLAT, "a_field_of_tomorrow": "1"}) == told
    without = registered_worker({**FLAT, "sip": ""})
    assert without is not None
    assert without.condition.sip == ""


@pytest.mark.parametrize(
    "change",
    [
        {"sip": "10.0.0.2"},
        {"sip": "10.0.0.2:0"},
        {"sip": "10.0.0.2:70000"},
        {"sip": "10.0.0.999:5060"},
        {"sip": "0.0.0.0:5060"},
        {"sip": "example.com:5060"},
        {"sip": "10.0.0.2:5060\n2 sip:192.0.2.9"},
        {"sip": "10.0.0.2:5060;transport=tcp"},
        {"sip": "\u0661\u0660.0.0.2:5060"},
        {"state": "asleep"},
        {"state": ""},
        {"worker": ""},
        {"capacity": "-1"},
        {"capacity": "many"},
        {"live_calls": "1.5"},
        {"heartbeat_at": "nan"},
    ],
)
def test_an_entry_that_no_worker_of_ours_wrote_is_passed_over(change: dict[str, str]) -> None:
    assert registered_worker({**FLAT, **change}) is None


def test_what_is_missing_makes_an_entry_unreadable() -> None:
    for name in ("worker", "state", "capacity", "live_calls", "heartbeat_at"):
        assert registered_worker({key: text for key, text in FLAT.items() if key != name}) is None


def test_the_answer_of_redis_is_a_list_of_workers_by_name() -> None:
    second = {**FLAT, "worker": "w0"}
    broken = {**FLAT, "worker": "w2", "sip": "nowhere"}
    answer = json.dumps([[word for pair in flat.items() for word in pair] for flat in (FLAT, second, broken)])
    found, unreadable = read_answer(answer)
    assert (list(found), unreadable) == (["w0", "w1"], ["w2"])
    assert read_answer("{}") == ({}, [])


def test_known_workers_stay_while_redis_may_not_know_them_yet() -> None:
    known = {"w1": worker("w1"), "w2": worker("w2")}
    found = {"w2": worker("w2", state="draining"), "w3": worker("w3")}
    kept = believed(known, found, sure=False)
    assert {name: each.condition.state for name, each in kept.items()} == {
        "w1": "ready",
        "w2": "draining",
        "w3": "ready",
    }
    assert believed(known, found, sure=True) == found


def test_a_heartbeat_alone_makes_no_new_list() -> None:
    known = {"w1": worker("w1")}
    assert is_same(known, {"w1": replace(worker("w1"), heartbeat_at=9.0)})
    assert not is_same(known, {"w1": worker("w1", live_calls=3)})
    assert not is_same(known, {"w1": worker("w1", state="overloaded")})
    assert not is_same(known, {"w1": worker("w1", capacity=2)})
    assert not is_same(known, {"w1": worker("w1", sip="10.0.0.2:5071")})
    assert not is_same(known, {})
