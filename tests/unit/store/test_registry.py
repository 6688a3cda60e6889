from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.condition import WorkerCondition
from gateway.settings.sections import RedisSettings
from gateway.store.registry import RegisteredWorker, WorkerEntry, believed, is_same, read_answer, registered_worker

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


def entry(woken: Callable[[], None] = lambda: None) -> WorkerEntry:
    settings = RedisSettings(worker_heartbeat_s=1, worker_expiry_s=3)
    return WorkerEntry(settings, "w1", now=lambda: 100.0, wake=woken)


def names(commands: object) -> list[str]:
    assert isinstance(commands, list)
    return [words[0] for words in commands]


def test_a_worker_that_takes_no_calls_yet_writes_nothing() -> None:
    one = entry()
    assert list(one.commands(0, again=True)) == []
    assert one.due_at == math.inf
    assert list(one.farewell()) == []


def test_a_new_state_is_written_at_once_and_told() -> None:
    wakes: list[int] = []
    one = entry(lambda: wakes.append(1))
    one.note(READY)
    commands = list(one.commands(10, again=False))
    assert names(commands) == ["HSET", "PEXPIRE", "SADD", "PUBLISH"]
    written = dict(zip(commands[0][2::2], commands[0][3::2], strict=True))
    assert written["state"] == "ready"
    assert (written["sip"], written["capacity"], written["live_calls"]) == ("10.0.0.2:5070", "4", "0")
    assert commands[1] == ("PEXPIRE", "gateway:worker:w1", "3000")
    assert commands[3] == ("PUBLISH", "gateway:workers:changed", "ready w1")
    assert (wakes, one.due_at) == ([1], 11)


def test_a_heartbeat_is_no_news_and_comes_when_it_is_due() -> None:
    one = entry()
    one.note(READY)
    list(one.commands(10, again=False))
    assert list(one.commands(10.5, again=False)) == []
    assert names(list(one.commands(11, again=False))) == ["HSET", "PEXPIRE", "SADD"]


def test_the_number_of_calls_waits_for_the_record_of_the_call() -> None:
    wakes: list[int] = []
    one = entry(lambda: wakes.append(1))
    one.note(READY)
    list(one.commands(10, again=False))
    one.note(replace(READY, live_calls=1))
    assert wakes == [1]
    commands = list(one.commands(10.1, again=False))
    assert names(commands) == ["HSET", "PEXPIRE", "SADD"]
    assert "1" in commands[0]


def test_the_end_takes_the_entry_away_and_no_heartbeat_brings_it_back() -> None:
    one = entry()
    one.note(READY)
    list(one.commands(10, again=False))
    one.note(replace(READY, state="ended"))
    assert names(list(one.commands(10.1, again=False))) == ["DEL", "SREM", "PUBLISH"]
    assert list(one.commands(99, again=False)) == []


def test_all_is_written_and_told_again_after_a_loss() -> None:
    one = entry()
    one.note(READY)
    list(one.commands(10, again=False))
    assert names(list(one.commands(10.1, again=True))) == ["HSET", "PEXPIRE", "SADD", "PUBLISH"]


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
    assert list(read_answer(answer)) == ["w0", "w1"]
    assert read_answer("{}") == {}


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


def test_heartbeats_and_counts_of_calls_make_no_new_list() -> None:
    known = {"w1": worker("w1")}
    assert is_same(known, {"w1": replace(worker("w1", live_calls=3), heartbeat_at=9.0)})
    assert not is_same(known, {"w1": worker("w1", state="overloaded")})
    assert not is_same(known, {"w1": worker("w1", capacity=2)})
    assert not is_same(known, {"w1": worker("w1", sip="10.0.0.2:5071")})
    assert not is_same(known, {})
