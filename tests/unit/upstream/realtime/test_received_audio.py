"""The agent's speech by item and part: whole and in order, whatever overlaps on the wire; cut where it was heard."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.resample import Downsampler
from gateway.upstream.audio import AgentVoice
from gateway.upstream.core.dialect import AgentAudio, AgentAudioDone
from gateway.upstream.realtime.received_audio import MAX_ITEMS, Cut, SpokenItems
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit

MS = 48
PIECE = bytes(100 * MS)
NOISE = np.random.default_rng(5).integers(-9000, 9000, 50_000, np.int16).tobytes()


def read(playout: PlayoutBuffer) -> bytes | None:
    with playing("clock"):
        return playout.read_frame()


def receive(
    spoken: SpokenItems,
    item_id: str,
    pcm: bytes = PIECE,
    *,
    response_id: str | None = "r",
    index: int | None = None,
    part: int = 0,
) -> list[AgentAudio | AgentAudioDone]:
    return spoken.receive(item_id, pcm, response_id=response_id, output_index=index, content_index=part)


def place(spoken: SpokenItems, item_id: str, response_id: str | None = "r") -> tuple[int, int]:
    [told] = receive(spoken, item_id, response_id=response_id)
    assert isinstance(told, AgentAudio)
    return told.place


# Places


def test_an_item_has_its_place_from_its_announcement_and_its_response_from_its_beginning() -> None:
    spoken = SpokenItems(MS)
    spoken.begin_response("r1")
    spoken.announce("late", "r2", 0)
    spoken.announce("b", "r1", 1)
    spoken.announce("a", "r1", 0)

    assert place(spoken, "late", "r2") == (2, 0)
    assert place(spoken, "b", "r1") == (1, 1)
    assert place(spoken, "a", "r1") == (1, 0)


def test_without_an_index_items_stand_in_the_order_in_which_they_came() -> None:
    spoken = SpokenItems(MS)
    spoken.announce("a", "r", None)

    assert place(spoken, "b") == (1, 1)
    assert place(spoken, "a") == (1, 0)


def test_an_item_of_no_response_is_taken_for_a_response_of_its_own() -> None:
    spoken = SpokenItems(MS)

    assert [place(spoken, item_id, None)[0] for item_id in "abc"] == [1, 2, 3]


# Parts


def test_a_part_waits_for_the_one_before_it() -> None:
    spoken = SpokenItems(MS)
    spoken.announce("a", "r", 0)
    spoken.begin_part("a", 0)
    spoken.begin_part("a", 1)

    assert receive(spoken, "a", b"22", part=1) == []
    assert receive(spoken, "a", b"11") == [AgentAudio("a", b"11", (1, 0))]
    assert receive(spoken, "a", b"33", part=1) == []
    assert spoken.end_part("a", 1, whole=True) == []
    assert spoken.end_part("a", 0, whole=True) == [
        AgentAudioDone("a"),
        AgentAudio("a", b"2233", (1, 0)),
        AgentAudioDone("a"),
    ]
    assert spoken.end("a", whole=True) == []


@pytest.mark.parametrize("ending", ["item", "response", "session"])
def test_a_part_that_is_never_ended_holds_nothing_back_for_ever(ending: str) -> None:
    spoken = SpokenItems(MS)
    receive(spoken, "a", b"11")
    receive(spoken, "a", b"22", part=1)

    told = {
        "item": lambda: spoken.end("a", whole=True),
        "response": lambda: spoken.end_response("r", whole=True),
        "session": spoken.end_all,
    }[ending]()

    assert told == [AgentAudioDone("a"), AgentAudio("a", b"22", (1, 0)), AgentAudioDone("a")]


def test_an_item_goes_on_with_another_part_after_its_end() -> None:
    spoken = SpokenItems(MS)
    receive(spoken, "a", b"11")

    assert spoken.end_part("a", 0, whole=True) == [AgentAudioDone("a")]
    assert receive(spoken, "a", b"22", part=1) == [AgentAudio("a", b"22", (1, 0))]
    assert spoken.open_responses == {"r"}
    assert spoken.end_response("r", whole=True) == [AgentAudioDone("a")]


def test_a_service_that_counts_pieces_by_the_content_index_is_played_as_they_come() -> None:
    spoken = SpokenItems(MS)

    def pieces(item_id: str, count: int) -> list[bytes]:
        told = [receive(spoken, item_id, bytes([index] * MS), part=index) for index in range(count)]
        return [b"".join(fact.pcm for fact in facts if isinstance(fact, AgentAudio)) for facts in told]

    assert pieces("a", 4) == [bytes(MS), b"", bytes([1] * MS + [2] * MS), bytes([3] * MS)], "two may be two parts"
    assert spoken.end_part("a", 0, whole=True) == [AgentAudioDone("a")]
    assert pieces("b", 3) == [bytes(MS), bytes([1] * MS), bytes([2] * MS)], "it is known by now"
    assert spoken.cut({"b": 2}) == [Cut("b", 2 / 3, {0: 2})]


def test_an_item_without_audio_is_forgotten_when_it_ends() -> None:
    spoken = SpokenItems(MS)
    spoken.announce("commentary", "r", 0)

    assert spoken.open_responses == {"r"}
    assert spoken.end("commentary", whole=True) == []
    assert (len(spoken), spoken.open_responses) == (0, set())


def test_many_items_that_are_announced_only_push_out_none_that_speaks() -> None:
    spoken = SpokenItems(MS)
    receive(spoken, "a")
    for number in range(10 * MAX_ITEMS):
        spoken.announce(f"silent_{number}", f"response_{number}", 0)

    assert len(spoken) == MAX_ITEMS
    assert spoken.cut({"a": 40}) == [Cut("a", 0.4, {0: 40})]


# Cuts


def test_the_item_being_played_is_cut_there_and_those_behind_it_to_nothing() -> None:
    spoken = SpokenItems(MS)
    for item_id in ("heard", "playing", "behind"):
        receive(spoken, item_id)
        spoken.end_part(item_id, 0, whole=True)

    assert spoken.cut({"playing": 30, "behind": 0}) == [Cut("playing", 0.3, {0: 30}), Cut("behind", 0.0, {0: 0})]
    assert spoken.cut({"playing": 30, "behind": 0}) == [], "once"


def test_what_is_still_to_come_of_a_response_that_was_cut_off_is_dropped_without_a_word() -> None:
    spoken = SpokenItems(MS)
    spoken.announce("announced", "r", 1)
    spoken.announce("next", "other", 0)
    receive(spoken, "playing", index=0)
    spoken.announce("held", "r", 2)
    spoken.begin_part("held", 0)
    receive(spoken, "held", part=1)

    assert spoken.cut({"playing": 30}) == [Cut("playing", 0.3, {0: 30}), Cut("held", 0.0, {1: 0})]
    assert receive(spoken, "playing") == receive(spoken, "announced") == receive(spoken, "held") == []
    assert spoken.end("announced", whole=True) == []
    assert receive(spoken, "announced") == [], "nor after its end"
    assert receive(spoken, "next", response_id="other") != []


def test_a_cut_falls_into_the_part_that_was_being_played() -> None:
    def new() -> SpokenItems:
        spoken = SpokenItems(MS)
        for part in (0, 1, 2):
            receive(spoken, "a", part=part)
            spoken.end_part("a", part, whole=True)
        return spoken

    assert new().cut({"a": 60}) == [Cut("a", 0.2, {0: 60, 1: 0, 2: 0})]
    assert new().cut({"a": 150}) == [Cut("a", 0.5, {1: 50, 2: 0})]
    assert new().cut({"a": 299}) == [Cut("a", 299 / 300, {2: 99})]
    assert new().cut({"a": 300}) == []


# Whatever the order


def streams() -> st.SearchStrategy[list[list[list[list[int]]]]]:
    """Responses, their items, their parts, the sizes of their deltas in samples at 24 kHz; odd ones too."""
    part = st.lists(st.integers(1, 900), min_size=1, max_size=4)
    item = st.lists(part, min_size=1, max_size=2)
    response = st.lists(item, min_size=1, max_size=3)
    return st.lists(response, min_size=1, max_size=3)


def deltas_of(sizes: list[list[list[list[int]]]]) -> Iterator[tuple[str, str, int, int, list[bytes]]]:
    """Return each part of each item, with its deltas."""
    at = 0
    for response, items in enumerate(sizes):
        for index, parts in enumerate(items):
            for content, part in enumerate(parts):
                pieces = []
                for size in part:
                    pieces.append(NOISE[at : at + 2 * size])
                    at += 2 * size
                yield f"response_{response}", f"item_{response}_{index}", index, content, pieces


@given(streams(), st.randoms(use_true_random=False))
def test_each_item_is_played_whole_and_in_its_place_as_if_it_came_alone(
    sizes: list[list[list[list[int]]]], random: Random
) -> None:
    spoken, playout = SpokenItems(MS), PlayoutBuffer(PHONE)
    voice = AgentVoice(playout, "pcm")
    parts = list(deltas_of(sizes))
    expected = b""
    for response_id, item_id, index, content, pieces in parts:
        spoken.begin_response(response_id)
        spoken.announce(item_id, response_id, index)
        spoken.begin_part(item_id, content)
        downsampler = Downsampler()
        expected += downsampler.process(b"".join(pieces)) + downsampler.tail()

    def act(told: list[AgentAudio | AgentAudioDone]) -> None:
        for fact in told:
            if isinstance(fact, AgentAudio):
                voice.play(fact.item_id, fact.pcm, fact.place)
            else:
                voice.end(fact.item_id)

    left = list(parts)
    while left:
        part = random.choice(left)
        response_id, item_id, index, content, pieces = part
        if pieces:
            piece = pieces.pop(0)
            act(receive(spoken, item_id, piece, response_id=response_id, index=index, part=content))
        else:
            act(spoken.end_part(item_id, content, whole=True))
            left.remove(part)

    heard = b""
    while (frame := read(playout)) is not None:
        heard += frame
    assert heard[: len(expected)] == expected
    assert not any(heard[len(expected) :])
    assert len(heard) - len(expected) < PHONE.frame_bytes
    assert playout.position() is None
