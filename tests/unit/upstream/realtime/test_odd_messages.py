"""Odd messages cost a message, not the conversation: every event, every field, every wrong value; and random ones."""

from __future__ import annotations

import copy
import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.call.events import AgentFailed, AgentReady, Noted
from gateway.dialplan.model.agent import AgentProfile
from gateway.ids import CallId
from gateway.upstream.core.dialect import AgentAudio, AgentAudioDone, UpstreamEvent
from gateway.upstream.realtime.config import session_config
from gateway.upstream.realtime.dialect import RealtimeDialect
from gateway.upstream.realtime.problems import MAX_PROBLEMS
from gateway.upstream.realtime.wire.server import KnownServerEvent
from tests.fakes.realtime_events import SAMPLES

pytestmark = pytest.mark.unit

Json = dict[str, Any]
Path = tuple[str | int, ...]

CALL = CallId("call-1")
MISSING = object()
WRONG = [None, MISSING, 7, -1, 1e30, "text", "", [], [None], {}, {"id": 5}, True]
MODELS = {
    name: model for model in get_args(KnownServerEvent) for name in get_args(model.model_fields["type"].annotation)
}


def new_dialect() -> RealtimeDialect:
    return RealtimeDialect(CALL, session_config(AgentProfile(instructions="Be brief.")))


def ready_dialect() -> RealtimeDialect:
    dialect = new_dialect()
    assert AgentReady(CALL, "sess_1") in hear(dialect, "session.updated", session=asked_of(dialect))
    return dialect


def asked_of(dialect: RealtimeDialect) -> Json:
    session: Json = json.loads(dialect.configure()[0])["session"]
    return session | {"id": "sess_1"}


def hear(dialect: RealtimeDialect, name: str, /, **fields: Any) -> list[UpstreamEvent]:
    return take(dialect, json.dumps({"type": name} | fields))


def take(dialect: RealtimeDialect, text: str | bytes) -> list[UpstreamEvent]:
    facts = dialect.receive(text)
    assert not any(isinstance(fact, AgentFailed) for fact in facts)
    return facts


def answers(dialect: RealtimeDialect, name: str = "next") -> bool:
    """Tell of a turn and its answer; return whether the answer is played from its beginning to its end."""
    hear(dialect, "response.done", response={"id": "resp_1", "status": "cancelled"})  # whatever was going on
    hear(dialect, "input_audio_buffer.speech_started", item_id=f"turn_{name}")
    hear(dialect, "input_audio_buffer.speech_stopped", item_id=f"turn_{name}")
    hear(dialect, "input_audio_buffer.committed", item_id=f"turn_{name}")
    ids = {"response_id": f"resp_{name}", "item_id": f"item_{name}"}
    hear(dialect, "response.created", response={"id": ids["response_id"], "status": "in_progress"})
    facts = hear(dialect, "response.output_audio.delta", delta="AAAA", **ids)
    facts += hear(dialect, "response.output_audio.done", **ids)
    hear(dialect, "response.done", response={"id": ids["response_id"], "status": "completed"})
    played = [(fact.item_id, fact.pcm) for fact in facts if isinstance(fact, AgentAudio)]
    return played == [(ids["item_id"], bytes(3))] and AgentAudioDone(ids["item_id"]) in facts


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models a field may hold, by itself or in a list."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (tuple, Union, types.UnionType):
        for inner in get_args(annotation):
            yield from models_in(inner)


def places(model: type[BaseModel], value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the place of every field of the model, in the sample and in what the sample holds."""
    for name, field in model.model_fields.items():
        if name == "type" and not path:
            continue
        yield (*path, name)
        held = value.get(name) if isinstance(value, dict) else None
        for inner in models_in(field.annotation):
            if isinstance(held, list):
                for n, element in enumerate(held[:1]):
                    yield (*path, name, n)
                    yield from places(inner, element, (*path, name, n))
            else:
                yield from places(inner, held or {}, (*path, name))


def with_wrong(sample: Json, path: Path, value: object) -> Json:
    """Return the sample with a wrong value in one place; objects on the way that it lacks are made."""
    event = inner = copy.deepcopy(sample)
    for step in path[:-1]:
        if isinstance(inner, dict) and inner.get(str(step)) is None:
            inner[str(step)] = {}
        if isinstance(inner, dict) and not isinstance(inner[str(step)], dict | list):
            inner[str(step)] = {}
        inner = inner[step]  # type: ignore[index]
    inner[path[-1]] = value  # type: ignore[index]
    if value is MISSING:
        del inner[path[-1]]  # type: ignore[arg-type]
    return event


def test_every_event_is_tried() -> None:
    assert set(MODELS) == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_wrong_field_of_an_event_ends_the_conversation(name: str) -> None:
    sample = {"type": name, "event_id": "event_1"} | SAMPLES[name]
    tried = 0
    for path in dict.fromkeys(places(MODELS[name], sample)):
        for value in WRONG:
            dialect = ready_dialect()
            hear(dialect, "response.created", response={"id": "resp_1", "status": "in_progress"})
            take(dialect, json.dumps(with_wrong(sample, path, value)))
            assert answers(dialect), f"{path} {value!r}"
            tried += 1
    assert tried >= len(WRONG)


@pytest.mark.parametrize("name", ["session.created", "session.updated"])
def test_no_wrong_field_of_a_session_but_a_contradiction_refuses_it(name: str) -> None:
    dialect = new_dialect()
    sample = {"type": name, "session": asked_of(dialect)}
    contradictions = {
        "instructions",
        "output_modalities",
        "turn_detection",
        "type",
        "rate",
        "format",
        "create_response",
    }
    beta = {"modalities", "input_audio_format", "output_audio_format"}
    for path in dict.fromkeys(places(MODELS[name], sample)):
        for value in WRONG:
            if name == "session.updated" and path[-1] in contradictions | beta:
                continue
            dialect = new_dialect()
            take(dialect, json.dumps(with_wrong(sample, path, value)))
            assert answers(dialect if dialect.ready else _made_ready(dialect)), f"{path} {value!r}"


def _made_ready(dialect: RealtimeDialect) -> RealtimeDialect:
    hear(dialect, "session.updated", session=asked_of(dialect))
    assert dialect.ready
    return dialect


@pytest.mark.parametrize("field", ["id", "response"])
@pytest.mark.parametrize("value", [None, MISSING, 5, [], ""])
def test_a_response_without_its_id_is_heard_and_ends(field: str, value: object) -> None:
    dialect = ready_dialect()
    dialect.tell("Well?", respond=True)
    path = ("response", "id") if field == "id" else ("response",)
    for name, more in (
        ("response.created", {}),
        ("response.output_audio.delta", {"delta": "AAAA"}),
        ("response.done", {}),
    ):
        event = with_wrong({"type": name, "response": {"status": "completed"}} | more, path, value)
        facts = take(dialect, json.dumps(event))
        if name == "response.output_audio.delta":
            assert [fact.pcm for fact in facts if isinstance(fact, AgentAudio)] == [bytes(3)]
            assert dialect.responding
    assert any(isinstance(fact, AgentAudioDone) for fact in facts)
    assert answers(dialect)


def test_of_what_the_service_gave_no_id_nothing_is_asked_by_id() -> None:
    dialect = ready_dialect()
    hear(dialect, "response.created", response={})
    [audio] = [
        fact for fact in hear(dialect, "response.output_audio.delta", delta="AAAA") if isinstance(fact, AgentAudio)
    ]

    assert dialect.truncate({audio.item_id: 0}) == ()
    [cancel] = dialect.cancel()
    assert "response_id" not in json.loads(cancel)
    late = hear(dialect, "response.output_audio.delta", delta="AAAA")
    assert not any(isinstance(fact, AgentAudio) for fact in late)


def test_kinds_of_odd_messages_are_told_up_to_a_limit() -> None:
    dialect = ready_dialect()
    told: list[UpstreamEvent] = []
    for name, model in MODELS.items():
        for field in model.model_fields.keys() - {"type"}:
            told += [fact for fact in hear(dialect, name, **{field: [[]]}) if _is_odd_note(fact)]

    assert len(told) == MAX_PROBLEMS
    assert dialect.odd_messages > MAX_PROBLEMS


def _is_odd_note(fact: UpstreamEvent) -> bool:
    return isinstance(fact, Noted) and fact.name == "odd_message"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
NAMES = st.sampled_from(sorted(MODELS)) | st.text(max_size=5)
FIELDS = sorted({field for model in MODELS.values() for field in model.model_fields})


@st.composite
def odd_events(draw: st.DrawFn) -> str:
    """Draw an event of a known type with some fields of its sample replaced by anything, or made of any fields."""
    name = draw(NAMES)
    event = copy.deepcopy(SAMPLES.get(name, {}))
    places_of = list(dict.fromkeys(places(MODELS[name], event))) if name in MODELS else []
    for path in draw(st.lists(st.sampled_from(places_of), max_size=4)) if places_of else ():
        try:
            event = with_wrong(event, path, draw(ANYTHING))
        except (KeyError, IndexError, TypeError):  # a place that another one took away
            continue
    event |= draw(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=2))
    return json.dumps(event | {"type": draw(st.just(name) | ANYTHING)})


MESSAGES = odd_events() | st.text() | st.binary() | ANYTHING.map(json.dumps)


@settings(max_examples=60, deadline=None)
@given(st.lists(MESSAGES, max_size=6))
def test_no_message_whatsoever_ends_the_conversation(texts: list[str | bytes]) -> None:
    dialect = ready_dialect()
    for text in texts:
        facts = dialect.receive(text)
        for fact in facts:
            if isinstance(fact, AgentAudio):
                dialect.truncate({fact.item_id: 0})
        if any(isinstance(fact, AgentFailed) for fact in facts):  # it said that the credit is used up
            assert b"insufficient_quota" in (text if isinstance(text, bytes) else text.encode())
            return
    hear(dialect, "response.done", response={"status": "cancelled"})  # whatever is active
    assert answers(dialect, "of all")
