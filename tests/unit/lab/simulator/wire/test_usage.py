from __future__ import annotations

from typing import Any

import pytest

from gateway.lab.simulator.conversation.context import Context
from gateway.lab.simulator.conversation.function_calls import FunctionCalls
from gateway.lab.simulator.conversation.items import Item, SimulatedConversation
from gateway.lab.simulator.wire.schema import ClientMistake
from gateway.lab.simulator.wire.session_object import default_session
from gateway.lab.simulator.wire.usage import TOKENS_PER_MINUTE, TokenBudget, Tokens, agent_tokens, caller_tokens, usage

pytestmark = pytest.mark.unit


def session(truncation: Any = "auto") -> dict[str, Any]:
    return default_session("sess_1", "gpt-realtime", now_s=0) | {"instructions": "x" * 40, "truncation": truncation}


def caller(name: str, ms: float) -> Item:
    return Item({"id": name, "type": "message", "role": "user", "content": [{"type": "input_audio"}]}, ms)


def agent(name: str, ms: float) -> Item:
    wire = {
        "id": name,
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_audio", "transcript": "x"}],
    }
    return Item(wire, ms, is_agent_audio=True)


def conversation(*items: Item) -> SimulatedConversation:
    made = SimulatedConversation()
    for item in items:
        made.append(item)
    return made


def test_callers_count_a_token_for_100_ms_and_agents_one_for_50() -> None:
    assert (caller_tokens(1999), agent_tokens(1001)) == (19, 21)
    call = Item({"id": "f", "type": "function_call", "name": "look", "arguments": '{"number":12}'})
    assert conversation(caller("u", 2000), agent("a", 2000), call).tokens() == Tokens(1 + 3, 20 + 40)


def test_a_response_reads_everything_and_what_the_last_one_read_is_cached() -> None:
    items = conversation(caller("u", 1000))
    context = Context(items, None)
    first = context.read(session())
    assert first == (Tokens(10, 10), Tokens(0, 0))
    items.append(agent("a", 1000))
    second = context.read(session())
    assert second == (Tokens(10, 30), Tokens(10, 10))
    told = usage(*second, Tokens(5, 20))
    assert (told["total_tokens"], told["input_tokens"], told["output_tokens"]) == (65, 40, 25)
    assert told["input_token_details"]["cached_tokens"] == 20


@pytest.mark.parametrize(
    ("truncation", "left"),
    [
        ("auto", ["b", "c", "d"]),
        ({"type": "retention_ratio", "retention_ratio": 0.5}, ["d"]),
        (
            {"type": "retention_ratio", "retention_ratio": 1.0, "token_limits": {"post_instructions": 25}},
            ["c", "d"],
        ),
    ],
)
def test_the_oldest_items_fall_out_of_a_full_context(truncation: Any, left: list[str]) -> None:
    made = [caller(name, 1000) for name in "abcd"]
    read = Context(conversation(*made), 45).read(session(truncation))
    assert read is not None
    assert [item.id for item in made if item.in_context] == left
    assert read == (Tokens(10, 10 * len(left)), Tokens(10, 0)), "a cut spoils the cache"


def test_without_truncation_a_full_context_is_refused() -> None:
    assert Context(conversation(caller("a", 60_000)), 100).read(session("disabled")) is None


def test_the_rate_limit_is_spent_and_fills_up_again() -> None:
    limit = TokenBudget()
    (first,) = limit.spend(50_000, now=0.0)
    assert first["remaining"] == TOKENS_PER_MINUTE - 50_000
    assert first["reset_seconds"] == 12.0
    (later,) = limit.spend(0, now=6.0)
    assert later["remaining"] == TOKENS_PER_MINUTE - 25_000
    (spent,) = limit.spend(10 * TOKENS_PER_MINUTE, now=6.0)
    assert spent["remaining"] == 0


def test_calls_wait_for_one_output_each() -> None:
    calls = FunctionCalls(
        conversation(
            *(Item({"id": f"i{n}", "type": "function_call", "name": "f", "call_id": f"call_{n}"}) for n in (1, 2))
        )
    )
    calls.expect("call_1", "first")
    calls.expect("call_2", "second")
    assert calls.answer("call_1") is None
    assert calls.take_unanswered() == ["second"]
    assert calls.take_unanswered() == []
    assert calls.answer("call_1") == "function call call_1 answered twice"
    with pytest.raises(ClientMistake) as caught:
        calls.answer("call_9")
    assert (caught.value.code, caught.value.param) == ("invalid_tool_call_id", "item.call_id")
