"""Ids that a service leaves out, inferred from the events before."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.upstream.realtime.gaps import MAX_RESPONSES, Gaps, is_unnamed
from gateway.upstream.realtime.wire import server
from gateway.upstream.realtime.wire.codec import parse_server_event

pytestmark = pytest.mark.unit

DELTA = "response.output_audio.delta"


class Filled:
    """A session's gaps; ``hear`` returns the events with what they lack, ``odd`` has the places filled last."""

    def __init__(self) -> None:
        self.gaps = Gaps()
        self.odd: list[str] = []

    def hear(self, name: str, /, **fields: Any) -> list[Any]:
        event, wrong = parse_server_event(json.dumps({"type": name} | fields))
        assert event is not None
        assert wrong == ()
        events, odd = self.gaps.fill(event)
        self.odd = [each.place for each in odd]
        return list(events)

    def begin(self, response_id: str) -> None:
        assert len(self.hear("response.created", response={"id": response_id})) == 1

    def audio(self, **ids: Any) -> Any:
        [event] = self.hear(DELTA, delta="AAAA", **ids)
        return event


def test_an_event_with_its_ids_is_left_as_it_is() -> None:
    filled = Filled()
    filled.begin("resp_1")

    event = filled.audio(response_id="resp_1", item_id="item_1")

    assert (event.response_id, event.item_id, filled.odd) == ("resp_1", "item_1", [])
    assert filled.hear("input_audio_buffer.cleared") == [
        server.InputCleared(type="input_audio_buffer.cleared"),
    ]


def test_speech_without_ids_is_of_the_active_response_and_its_last_item() -> None:
    filled = Filled()
    filled.begin("resp_1")
    filled.hear("response.output_item.added", response_id="resp_1", item={"id": "item_1", "type": "message"})

    event = filled.audio()

    assert (event.response_id, event.item_id) == ("resp_1", "item_1")
    assert filled.odd == ["response_id", "item_id"]
    [done] = filled.hear("response.output_audio_transcript.done", transcript="Hi.")
    assert (done.response_id, done.item_id) == ("resp_1", "item_1")


def test_an_item_that_was_never_named_gets_a_name_until_its_audio_is_complete() -> None:
    filled = Filled()
    filled.begin("resp_1")

    first, more = filled.audio(), filled.audio()
    [done] = filled.hear("response.output_audio.done")
    [words] = filled.hear("response.output_audio_transcript.done")
    second = filled.audio()

    assert is_unnamed(first.item_id)
    assert first.item_id == more.item_id == done.item_id == words.item_id != second.item_id


def test_the_ids_of_two_messages_are_kept_apart() -> None:
    filled = Filled()
    filled.begin("resp_1")
    filled.audio(response_id="resp_1", item_id="item_1")
    filled.audio(response_id="resp_2", item_id="item_2")

    assert filled.audio(response_id="resp_1").item_id == "item_1"
    assert filled.audio(response_id="resp_2").item_id == "item_2"


@pytest.mark.parametrize("told", ["resp_1", None])
def test_a_response_that_begins_without_an_id_begins_with_the_next_event_about_it(told: str | None) -> None:
    filled = Filled()

    assert filled.hear("response.created", response={"id": "", "status": "in_progress"}) == []
    assert filled.odd == ["response.id"]
    began, delta = filled.hear(DELTA, delta="AAAA", item_id="item_1", response_id=told)

    assert began.response.id == delta.response_id
    assert began.response.status == "in_progress"
    assert delta.response_id == told or is_unnamed(delta.response_id)
    assert filled.audio(item_id="item_1").response_id == delta.response_id
    [done] = filled.hear("response.done", response={"status": "completed"})
    assert (done.response.id, done.response.status) == (delta.response_id, "completed")


def test_a_response_whose_beginning_was_not_told_begins_with_its_speech() -> None:
    filled = Filled()
    assert len(filled.hear("response.output_audio_transcript.done", response_id="resp_1", item_id="item_1")) == 1

    filled.begin("resp_2")
    assert filled.audio(response_id="resp_3", item_id="item_3").response_id == "resp_3"
    filled.hear("response.done", response={"id": "resp_2"})
    assert filled.audio(response_id="resp_2", item_id="item_2").response_id == "resp_2"
    filled.hear("response.output_item.added", response_id="resp_4", item={"id": "item_4", "type": "message"})
    began, delta = filled.hear(DELTA, delta="AAAA", response_id="resp_4", item_id="item_4")

    assert (began.response.id, delta.response_id) == ("resp_4", "resp_4")
    assert filled.audio(item_id="item_4").response_id == "resp_4"


def test_what_still_comes_of_an_earlier_response_does_not_begin_one_without_an_id() -> None:
    filled = Filled()
    filled.begin("resp_1")
    filled.hear("response.created")

    assert filled.audio(response_id="resp_1", item_id="item_1").response_id == "resp_1"
    began, _ = filled.hear(DELTA, delta="AAAA", item_id="item_2", response_id="resp_2")
    assert began.response.id == "resp_2"


def test_a_beginning_without_an_id_in_the_middle_of_a_response_takes_nothing_from_it() -> None:
    filled = Filled()
    filled.begin("resp_1")
    filled.hear("response.created")

    assert filled.audio(item_id="item_1").response_id == "resp_1"
    [done] = filled.hear("response.done", response={"status": "completed"})
    assert done.response.id == "resp_1"


def test_a_response_may_begin_and_end_without_any_id() -> None:
    filled = Filled()
    filled.hear("response.created")

    began, done = filled.hear("response.done", response={"status": "failed"})

    assert is_unnamed(began.response.id)
    assert began.response.id == done.response.id
    [other] = filled.hear("response.done", response={"status": "failed"})
    assert is_unnamed(other.response.id)
    assert other.response.id != done.response.id


def test_speech_of_no_response_keeps_none() -> None:
    filled = Filled()

    assert filled.audio(item_id="item_1").response_id is None


def test_memory_is_bounded() -> None:
    filled = Filled()
    for n in range(3 * MAX_RESPONSES):
        filled.begin(f"resp_{n}")

    assert len(filled.gaps) == MAX_RESPONSES
