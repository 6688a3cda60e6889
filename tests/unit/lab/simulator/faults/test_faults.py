from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.lab.simulator.answer import Failed, Incomplete, ScriptedAnswer
from gateway.lab.simulator.faults.fault import Fault
from gateway.lab.simulator.faults.faults import FAULTS, CloseAfter, DropAfter, faults_for, parse_fault
from gateway.lab.simulator.options import SimulatorOptions

pytestmark = pytest.mark.unit

# One good value for each fault that takes one.
VALUES = {
    "refuse": "invalid_model:1005",
    "http": "429:2",
    "mint": "503",
    "handshake": "1",
    "close_reply": "never",
    "close": "session.update:1005",
    "drop": "response.output_audio.delta",
    "freeze": "response.done+0.5",
    "server_error": "1:open",
    "expire": "20",
    "ping": "0.5",
    "slow": "2",
    "missing": "response.output_audio.done",
    "hold": "response.created:1",
    "late": "rate_limits.updated:2",
    "twice": "response.done",
    "latency": "80",
    "jitter": "50",
    "reject": "session.update:invalid_value:session.audio",
    "ignore": "audio.output.voice",
    "pace": "0.5",
    "burst": "2",
    "think": "3",
    "late_deltas": "3:after",
    "fail": "insufficient_quota:2",
    "incomplete": "content_filter",
    "try_again": "3",
    "comes_as": "text",
    "deny": "rate_limit_exceeded@3:nameless",
    "crossed": "done+0.3",
    "calls": "look_up",
    "cut_calls": "failed",
    "tell_calls": "deltas",
    "mcp": "failed:early:goes_on",
    "slow_acks": "0.5",
    "odd": "response.done:response.output.0.id:null",
    "stray": "response.done+0.5:object",
}


def test_faults_are_read_with_their_values() -> None:
    assert parse_fault("close=2.5") == CloseAfter(2.5, 1000)
    assert parse_fault("close=0:1011") == CloseAfter(0.0, 1011)
    assert parse_fault("close=session.update+2:1011") == CloseAfter(2.0, 1011, event="session.update")
    assert parse_fault("drop=1") == DropAfter(1.0)
    status = parse_fault("http=503").http_status()
    assert status is not None
    assert status.value == 503
    refusal = parse_fault("refuse=invalid_model").refusal()
    assert refusal is not None
    assert refusal.reason == "invalid_request_error.invalid_model"
    assert parse_fault("silent").delay_s("session.updated") is None
    assert parse_fault("slow=2").delay_s("session.updated") == 2
    assert parse_fault("slow=2").delay_s("session.created") == 0


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_can_be_told_and_is_in_the_manual(name: str) -> None:
    told = f"{name}={VALUES[name]}" if name in VALUES else name
    assert isinstance(parse_fault(told), Fault)
    manual = Path(__file__).parents[5] / "docs" / "simulator.md"
    assert f"| `{name}" in manual.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "told",
    [
        *("", "explode", "http", "http=200", "http=999", "refuse=me", "close=soon", "close=-1", "drop=nan", "silent=1"),
        *("missing=nothing", "late=response.done", "reject=session.created", "pace=0", "ping=0", "fail=x:0", "ignore"),
        *("fail=", "deny=", "deny=null:whom", "crossed=soon", "crossed=doneness", "stall=1:blind", "comes_as=song"),
        *("odd=response.done", "odd=response.done:id:blue", "odd=nothing:id:null", "stray=1", "stray=1:lost"),
        *(
            "mcp=done",
            "mcp=completed:late",
            "open_turns=0",
            "slow_acks=-1",
            "empty,events=1",
            "odd=error:error:null,answers=1",
        ),
        *("calls", "cut_calls=completed", "tell_calls=all", "drop=1,answers=1", "empty,answers=0", "empty,answers=3-2"),
        *("incomplete=tired", "late_deltas=3:before", "close_reply=maybe", "drop=1,second=1", "drop=1,first=0"),
    ],
)
def test_a_fault_that_is_none_is_told_by_name(told: str) -> None:
    with pytest.raises(ConfigError, match=f"fault '{told}'"):
        parse_fault(told)


@pytest.mark.parametrize(
    ("told", "hit"),
    [("drop=1", [1, 2, 3, 4]), ("drop=1,first=2", [1, 2]), ("drop=1,from=3", [3, 4]), ("drop=1,first=1,from=2", [2])],
)
def test_a_fault_may_be_for_some_connections_only(told: str, hit: list[int]) -> None:
    assert [number for number in range(1, 5) if faults_for([told], number)] == hit


def test_a_fault_may_be_for_some_answers_only() -> None:
    for told, hit in (("2", [2]), ("2-", [2, 3, 4]), ("1-3", [1, 2, 3])):
        empty = parse_fault(f"empty,answers={told}")
        assert [number for number in range(1, 5) if not empty.answer(ScriptedAnswer(), number).output] == hit


def test_a_fault_may_be_for_one_model_only() -> None:
    told = ["drop=1,model=a,first=1"]
    assert [len(faults_for(told, 9, "a", number)) for number in (1, 2)] == [1, 0]
    assert not faults_for(told, 1, "b", 1)


def test_answers_are_changed_for_as_long_as_told() -> None:
    fail = parse_fault("fail=insufficient_quota:2")
    ends = [fail.answer(ScriptedAnswer(), number).end for number in (1, 2, 3)]
    assert ends == [Failed(status="failed", code="insufficient_quota")] * 2 + [None]
    assert parse_fault("incomplete=content_filter").answer(ScriptedAnswer(), 99).end == Incomplete(
        status="incomplete", reason="content_filter"
    )
    doubled = parse_fault("two_items").answer(ScriptedAnswer(), 1)
    assert (len(doubled.output), doubled.overlap) == (2, True)


def test_a_clients_event_that_is_the_moment_has_no_effect() -> None:
    assert parse_fault("close=session.update").swallows("session.update")
    assert not parse_fault("close=session.update+1").swallows("session.update")
    assert not parse_fault("close=response.done").swallows("response.done")


def test_fields_of_an_update_are_ignored_by_path() -> None:
    update = {"instructions": "x", "audio": {"output": {"voice": "cedar", "speed": 1.0}}}
    assert parse_fault("ignore=audio.output.voice").accepted(update) == {
        "instructions": "x",
        "audio": {"output": {"speed": 1.0}},
    }
    assert parse_fault("ignore=audio.input.format").accepted(update) == update


@pytest.mark.parametrize(
    ("told", "changed"),
    [
        ("a.b:null", {"type": "error", "a": {"b": None}, "list": [{"c": 1}]}),
        ("a:missing", {"type": "error", "list": [{"c": 1}]}),
        ("list.0.c:text", {"type": "error", "a": {"b": 2}, "list": [{"c": "a text where none belongs"}]}),
        ("list.0:null", {"type": "error", "a": {"b": 2}, "list": [None]}),
        ("a.new:number", {"type": "error", "a": {"b": 2, "new": 7}, "list": [{"c": 1}]}),
        ("nowhere.b:null", {"type": "error", "a": {"b": 2}, "list": [{"c": 1}]}),
    ],
)
def test_a_field_is_made_odd_at_its_place(told: str, changed: dict[str, object]) -> None:
    event = {"type": "error", "a": {"b": 2}, "list": [{"c": 1}]}
    assert parse_fault(f"odd=error:{told}").sent_as(event) == (changed,)


def test_the_fields_of_some_events_only_are_odd() -> None:
    fault = parse_fault("odd=error:code:null,events=2")
    assert fault.sent_as({"type": "session.updated"}) == ({"type": "session.updated"},)
    codes = [event["code"] for _ in range(3) for event in fault.sent_as({"type": "error", "code": "x"})]
    assert codes == ["x", None, "x"]


def test_unknown_fields_are_put_into_every_object() -> None:
    (event,) = parse_fault("unknown_fields").sent_as({"type": "error", "error": {"list": [{"a": 1}]}})
    assert "x_unheard_of" in event
    assert "x_unheard_of" in event["error"]["list"][0]


def test_jitter_is_the_same_in_every_run() -> None:
    one, two = (parse_fault("jitter=100") for _ in range(2))
    assert [one.latency_s() for _ in range(5)] == [two.latency_s() for _ in range(5)]
    assert 0 <= one.latency_s() <= 0.1


def test_all_bad_options_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        SimulatorOptions(think_ms=-1, delta_ms=5, speed=0, faults=("explode",), tls_cert=Path("cert.pem"))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "think_ms",
        "delta_ms",
        "speed",
        "tls_cert, tls_key",
        "fault 'explode'",
    ]
