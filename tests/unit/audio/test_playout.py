"""The agent's speech from bursts to frames."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.pcm import PHONE
from gateway.audio.played import PlayoutPosition
from gateway.audio.playout import MAX_PAST_ITEMS, NO_PLACE, PATIENCE_MS, Place, PlayoutBuffer
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit

FRAME = PHONE.frame_bytes


def read_frame(buffer: PlayoutBuffer) -> bytes | None:
    with playing("clock"):
        return buffer.read_frame()


def frames(buffer: PlayoutBuffer) -> Iterator[bytes]:
    while (frame := read_frame(buffer)) is not None:
        yield frame


def speech(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def test_an_empty_buffer_has_no_frame_and_no_position() -> None:
    buffer = PlayoutBuffer(PHONE)
    assert read_frame(buffer) is None
    assert buffer.position() is None
    assert buffer.queued_ms == 0
    assert buffer.first_frame_at is None


def test_minutes_of_speech_at_once_come_out_whole_and_in_order() -> None:
    buffer = PlayoutBuffer(PHONE)
    burst = speech(PHONE.bytes_of(5 * 60_000))
    buffer.write("a", burst)
    assert buffer.queued_ms == 5 * 60_000
    assert b"".join(frames(buffer)) == burst


def test_parts_of_a_frame_carry_over_between_deltas() -> None:
    buffer = PlayoutBuffer(PHONE)
    whole = speech(3 * FRAME)
    for at in range(0, len(whole), 7):
        buffer.write("a", whole[at : at + 7])
    assert b"".join(frames(buffer)) == whole


def test_a_part_of_a_frame_waits_until_its_item_is_complete() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", b"\x01" * (FRAME + 100))
    assert read_frame(buffer) == b"\x01" * FRAME
    assert read_frame(buffer) is None
    assert buffer.queued_ms == 6
    buffer.complete("a")
    assert read_frame(buffer) == b"\x01" * 100 + bytes(FRAME - 100)
    assert read_frame(buffer) is None
    assert buffer.position() is None


def test_the_next_item_follows_without_a_gap() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", b"\x01" * 100)
    buffer.complete("a")
    buffer.write("b", b"\x02" * FRAME)
    assert read_frame(buffer) == b"\x01" * 100 + b"\x02" * (FRAME - 100)
    assert buffer.position() == PlayoutPosition("b", 13)


def test_a_following_item_ends_one_that_was_never_completed() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", b"\x01" * 100)
    buffer.write("b", b"\x02" * 10)
    assert read_frame(buffer) == b"\x01" * 100 + bytes(FRAME - 100)
    buffer.complete("b")
    assert read_frame(buffer) == b"\x02" * 10 + bytes(FRAME - 10)


def test_an_item_that_ends_in_half_a_sample_does_not_garble_the_next() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", b"\x01" * 101)
    buffer.write("b", b"\x02\x03" * FRAME)
    frame = read_frame(buffer)
    assert frame is not None
    assert frame[:100] == b"\x01" * 100
    assert frame[102:] == b"\x02\x03" * ((FRAME - 102) // 2)


def test_completing_an_item_already_played_forgets_it() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", speech(FRAME))
    read_frame(buffer)
    assert buffer.position() == PlayoutPosition("a", 20)
    buffer.complete("a")
    assert read_frame(buffer) is None
    assert buffer.position() is None


def test_completing_an_unknown_item_changes_nothing() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.complete("nobody")
    assert read_frame(buffer) is None


def test_the_position_counts_what_was_clocked_out_of_the_item() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", speech(10 * FRAME))
    assert buffer.position() == PlayoutPosition("a", 0)
    for _ in range(3):
        read_frame(buffer)
    assert buffer.position() == PlayoutPosition("a", 60)
    assert buffer.queued_ms == 140


def test_flush_drops_everything_and_the_next_speech_plays_as_usual() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", speech(10 * FRAME))
    buffer.write("b", speech(10 * FRAME))
    read_frame(buffer)
    buffer.flush()
    assert read_frame(buffer) is None
    assert buffer.position() is None
    assert buffer.queued_ms == 0
    buffer.write("c", b"\x03" * FRAME)
    assert read_frame(buffer) == b"\x03" * FRAME


def test_what_comes_of_an_item_after_its_flush_is_stale() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", speech(3 * FRAME))
    read_frame(buffer)
    buffer.flush()
    buffer.write("a", speech(2 * FRAME))
    buffer.complete("a")
    assert read_frame(buffer) is None
    assert (buffer.position(), buffer.queued_ms) == (None, 0)
    assert [item.played_ms for item in buffer.take_finished()] == [20]


def test_the_time_of_the_first_frame_is_kept() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", speech(2 * FRAME))
    assert buffer.first_frame_at is None
    read_frame(buffer)
    first = buffer.first_frame_at
    assert first is not None
    read_frame(buffer)
    assert buffer.first_frame_at == first


def test_empty_deltas_are_harmless() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", b"")
    assert read_frame(buffer) is None
    buffer.write("a", speech(FRAME))
    buffer.write("a", b"")
    assert b"".join(frames(buffer)) == speech(FRAME)


@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "read", "complete"]), st.integers(0, 3), st.integers(0, 400)),
        max_size=60,
    )
)
def test_whatever_the_order_every_byte_is_played_once(steps: list[tuple[str, int, int]]) -> None:
    """Zero is kept for padding: what was written has none, so padding can be taken out again."""
    buffer = PlayoutBuffer(PHONE)
    written = bytearray()
    played = bytearray()
    newest = 0
    for at, (step, jump, samples) in enumerate(steps):
        if step == "write":
            newest += jump == 0
            delta = bytes([1 + at % 255]) * (2 * samples)
            buffer.write(f"item{newest}", delta)
            written += delta
        elif step == "complete":
            buffer.complete(f"item{newest}")
        elif (frame := read_frame(buffer)) is not None:
            assert len(frame) == FRAME
            played += frame
    for item in range(newest + 1):  # the one before an item without any sound waits for its end, too
        buffer.complete(f"item{item}")
    for frame in frames(buffer):
        played += frame
    assert bytes(played).replace(b"\x00", b"") == bytes(written)


# Items that overlap


def at(item: int, response: int = 1, session: int = 1) -> Place:
    return Place(session, response, item)


def test_items_that_overlap_are_played_one_after_the_other() -> None:
    buffer = PlayoutBuffer(PHONE)
    for _ in range(3):
        buffer.write("a", b"\x01" * FRAME, at(0))
        buffer.write("b", b"\x02" * FRAME, at(1))
    buffer.complete("b", at(1))
    buffer.complete("a", at(0))
    assert b"".join(frames(buffer)) == b"\x01" * 3 * FRAME + b"\x02" * 3 * FRAME
    assert [item.item_id for item in buffer.take_finished()] == ["a", "b"]


def test_an_item_that_comes_late_is_played_first_unless_the_later_one_has_begun() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("c", b"\x03" * FRAME, at(2))
    buffer.write("d", b"\x04" * FRAME, at(0, response=2))
    buffer.write("b", b"\x02" * 2 * FRAME, at(1))
    assert buffer.position() == PlayoutPosition("b", 0)
    assert read_frame(buffer) == b"\x02" * FRAME
    buffer.write("a", b"\x01" * FRAME, at(0))
    for item_id, place in (("a", at(0)), ("b", at(1)), ("c", at(2)), ("d", at(0, response=2))):
        buffer.complete(item_id, place)
    assert b"".join(frames(buffer)) == b"\x02" * FRAME + b"\x01" * FRAME + b"\x03" * FRAME + b"\x04" * FRAME


def test_what_has_no_place_goes_to_the_end_and_what_comes_later_behind_it() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("b", b"\x02" * FRAME, at(1))
    buffer.write("sound", b"\x05" * FRAME)
    buffer.write("a", b"\x01" * FRAME, at(0))
    for item_id, place in (("a", at(0)), ("b", at(1)), ("sound", NO_PLACE)):
        buffer.complete(item_id, place)
    assert b"".join(frames(buffer)) == b"\x02" * FRAME + b"\x05" * FRAME + b"\x01" * FRAME


def test_the_item_being_played_waits_for_its_rest_while_its_response_may_bring_it() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", b"\x01" * (FRAME + 100), at(0))
    buffer.write("b", b"\x02" * FRAME, at(1))
    assert read_frame(buffer) == b"\x01" * FRAME
    assert read_frame(buffer) is None
    assert buffer.position() == PlayoutPosition("a", 20)
    buffer.write("a", b"\x01" * FRAME, at(0))
    buffer.complete("a", at(0))
    assert read_frame(buffer) == b"\x01" * FRAME
    assert read_frame(buffer) == b"\x01" * 100 + b"\x02" * (FRAME - 100)


def test_it_does_not_wait_for_ever_though_nobody_says_that_it_ended() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", b"\x01" * FRAME, at(0))
    buffer.write("b", b"\x02" * FRAME, at(1))
    heard = [read_frame(buffer) for _ in range(PATIENCE_MS // 20 + 2)]
    assert heard == [b"\x01" * FRAME, *[None] * (PATIENCE_MS // 20), b"\x02" * FRAME]


def test_it_does_not_wait_while_another_response_speaks() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", b"\x01" * FRAME, at(0))
    buffer.write("b", b"\x02" * FRAME, at(1))
    buffer.write("c", b"\x03" * FRAME, at(0, response=2))
    assert b"".join(frames(buffer)) == b"\x01" * FRAME + b"\x02" * FRAME + b"\x03" * FRAME


def test_the_rest_of_an_item_that_was_given_up_is_played_and_counted_on() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", b"\x01" * FRAME, at(0))
    buffer.write("c", b"\x03" * 2 * FRAME, at(0, response=2))
    buffer.write("e", b"\x05" * FRAME, at(0, response=3))
    read_frame(buffer)
    assert read_frame(buffer) == b"\x03" * FRAME
    buffer.write("a", b"\x01" * 3 * FRAME, at(0))
    assert read_frame(buffer) == b"\x03" * FRAME
    assert read_frame(buffer) == b"\x01" * FRAME
    assert buffer.position() == PlayoutPosition("a", 40)
    buffer.flush()
    assert buffer.cut_off(1) == {"a": 40, "e": 0}
    heard = [(item.item_id, item.played_ms, item.received_ms, item.complete) for item in buffer.take_finished()]
    assert heard == [("a", 20, 20, True), ("c", 40, 40, True), ("a", 20, 60, False), ("e", 0, 20, False)]


def test_items_of_another_session_are_others_whatever_their_ids() -> None:
    buffer = PlayoutBuffer(PHONE)
    first, second = buffer.new_session(), buffer.new_session()
    buffer.write("item_1", b"\x01" * 2 * FRAME, at(0, session=first))
    read_frame(buffer)
    buffer.write("item_1", b"\x02" * FRAME, at(0, session=second))
    buffer.complete("item_1", at(0, session=second))
    assert read_frame(buffer) == b"\x01" * FRAME
    assert read_frame(buffer) == b"\x02" * FRAME
    buffer.write("item_1", b"\x01" * FRAME, at(0, session=first))
    buffer.flush()
    assert (buffer.cut_off(first), buffer.cut_off(second)) == ({"item_1": 40}, {})
    buffer.write("item_1", b"\x02" * FRAME, at(0, session=second))
    assert read_frame(buffer) == b"\x02" * FRAME
    buffer.write("item_1", b"\x03" * FRAME, at(0, response=2, session=first))
    assert read_frame(buffer) == b"\x03" * FRAME, "another response's item, for that matter"


def test_the_memory_of_what_was_played_or_flushed_is_bounded() -> None:
    buffer = PlayoutBuffer(PHONE)
    for number in range(3 * MAX_PAST_ITEMS):
        buffer.write(f"a{number}", b"\x01" * FRAME, at(0, number))
        read_frame(buffer)
        buffer.complete(f"a{number}", at(0, number))
        buffer.write(f"b{number}", b"\x01" * FRAME, at(1, number))
        buffer.flush()
    assert (len(buffer._past), len(buffer._cut)) == (MAX_PAST_ITEMS, MAX_PAST_ITEMS)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "write", "read", "complete", "flush"]),
            *(st.integers(1, 2), st.integers(0, 2), st.integers(0, 400)),
        ),
        max_size=80,
    )
)
def test_whatever_overlaps_no_sample_of_an_item_is_lost_doubled_or_out_of_order(
    steps: list[tuple[str, int, int, int]],
) -> None:
    """Samples tell their item in the upper byte; zero is padding."""
    buffer = PlayoutBuffer(PHONE)
    written: dict[tuple[int, int], list[int]] = {}
    heard: dict[tuple[int, int], list[int]] = {}
    cut: set[tuple[int, int]] = set()

    def read() -> bool:
        frame = read_frame(buffer)
        for sample in memoryview(frame or b"").cast("H"):
            if sample:
                response, item = divmod((sample >> 8) - 1, 3)
                heard.setdefault((response, item), []).append(sample)
        return frame is not None

    for step, response, item, size in steps:
        key = (response, item)
        if step == "write":
            queued = written.setdefault(key, [])
            samples = [(1 + 3 * response + item) << 8 | (1 + (len(queued) + i) % 255) for i in range(size)]
            buffer.write(str(key), b"".join(sample.to_bytes(2, "little") for sample in samples), at(item, response))
            queued.extend(samples if key not in cut else ())
        elif step == "complete":
            buffer.complete(str(key), at(key[1], key[0]))
        elif step == "read":
            read()
        else:
            unheard = {key for key, samples in written.items() if len(heard.get(key, ())) < len(samples)}
            buffer.flush()
            figures = {str(key): len(heard.get(key, ())) // 8 for key in written}
            assert buffer.cut_off(1).items() <= figures.items()
            assert {str(key) for key in unheard} <= buffer.cut_off(1).keys()
            cut |= {key for key in written if str(key) in buffer.cut_off(1)}
            written |= {key: heard.get(key, []).copy() for key in cut}
    for key in written:
        buffer.complete(str(key), at(key[1], key[0]))
    while read():
        pass
    assert heard == {key: samples for key, samples in written.items() if samples}
    assert buffer.position() is None


# Holding


def test_held_speech_is_silence_and_goes_on_where_it_stopped() -> None:
    buffer = PlayoutBuffer(PHONE)
    whole = speech(4 * FRAME)
    buffer.write("a", whole[: 2 * FRAME])
    first = read_frame(buffer)
    buffer.pause()
    assert read_frame(buffer) is None
    buffer.write("a", whole[2 * FRAME :])
    assert read_frame(buffer) is None
    assert buffer.position() == PlayoutPosition("a", 20)
    assert buffer.queued_ms == 60
    buffer.resume()
    assert first is not None
    assert first + b"".join(frames(buffer)) == whole


def test_a_flush_ends_the_hold() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", speech(2 * FRAME))
    buffer.pause()
    buffer.flush()
    buffer.write("b", b"\x03" * FRAME)
    assert read_frame(buffer) == b"\x03" * FRAME


# The filler


def test_the_filler_is_given_when_no_speech_can_be_played() -> None:
    buffer = PlayoutBuffer(PHONE, filler=b"\x05\x00" * FRAME)
    assert read_frame(buffer) is None
    buffer.start_filler()
    assert (read_frame(buffer) or b"")[-2:] == b"\x05\x00"
    assert (buffer.position(), buffer.queued_ms, buffer.first_frame_at) == (None, 0, None)
    buffer.write("a", b"\x01\x00" * FRAME)
    assert (read_frame(buffer) or b"")[-2:] == b"\x01\x00"
    assert buffer.first_frame_at is not None
    assert read_frame(buffer) == b"\x01\x00" * (FRAME // 2)
    assert (read_frame(buffer) or b"")[-2:] == b"\x05\x00"
    buffer.pause()
    assert (read_frame(buffer) or b"")[-2:] == b"\x00\x00"
    assert read_frame(buffer) is None
    buffer.resume()
    assert (read_frame(buffer) or b"")[-2:] == b"\x05\x00"
    buffer.stop_filler()
    assert (read_frame(buffer) or b"")[-2:] == b"\x00\x00"
    assert read_frame(buffer) is None


def test_another_filler_is_given_from_the_next_start_on_even_while_the_old_one_fades() -> None:
    buffer = PlayoutBuffer(PHONE, filler=b"\x05\x00" * FRAME)
    buffer.start_filler()
    read_frame(buffer)
    buffer.use_filler(b"\x07\x00" * FRAME)
    assert (read_frame(buffer) or b"")[-2:] == b"\x05\x00"
    buffer.stop_filler()
    buffer.start_filler()
    assert (read_frame(buffer) or b"")[-2:] == b"\x07\x00"


# What was heard


def test_an_item_played_to_its_end_is_reported_once_with_its_times() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", speech(3 * FRAME))
    read_frame(buffer)
    assert buffer.take_finished() == []
    read_frame(buffer)
    read_frame(buffer)
    assert buffer.take_finished() == [], "more of it may come"
    buffer.complete("a")
    (item,) = buffer.take_finished()
    assert (item.item_id, item.played_ms, item.received_ms, item.complete) == ("a", 60, 60, True)
    assert item.first_at is not None
    assert item.last_at is not None
    assert buffer.first_frame_at == item.first_at <= item.last_at == buffer.last_frame_at
    assert buffer.take_finished() == []
    assert buffer.position() is None, "the caller interrupts nothing any more"


def test_flushed_items_are_reported_as_cut_with_what_was_heard_of_them() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", speech(3 * FRAME))
    buffer.complete("a")
    buffer.write("b", speech(5 * FRAME))
    for _ in range(2):
        read_frame(buffer)
    buffer.flush()
    a, b = buffer.take_finished()
    assert (a.item_id, a.played_ms, a.received_ms, a.complete) == ("a", 40, 60, False)
    assert a.first_at is not None
    assert (b.item_id, b.played_ms, b.received_ms, b.complete) == ("b", 0, 100, False)
    assert (b.first_at, b.last_at) == (None, None)


def test_an_item_that_shares_a_frame_with_the_next_has_that_frames_time() -> None:
    buffer = PlayoutBuffer(PHONE)
    buffer.write("a", speech(FRAME + 100))
    buffer.write("b", speech(FRAME))
    read_frame(buffer)
    read_frame(buffer)
    (a,) = buffer.take_finished()
    buffer.flush()
    (b,) = buffer.take_finished()
    assert a.last_at == b.first_at
    assert a.complete


def test_whoever_listens_is_woken_once_until_it_looks() -> None:
    buffer = PlayoutBuffer(PHONE)
    woken: list[str] = []
    buffer.listen(lambda: woken.append("wake"))
    for item_id in ("a", "b"):
        buffer.write(item_id, speech(FRAME))
        buffer.complete(item_id)
    read_frame(buffer)
    assert woken == ["wake"]
    buffer.take_finished()
    read_frame(buffer)
    assert len(woken) == 2
    buffer.write("c", speech(FRAME))
    read_frame(buffer)
    buffer.take_finished()
    buffer.complete("c")
    assert len(woken) == 3
    buffer.take_finished()
    buffer.write("d", speech(FRAME))
    buffer.flush()
    assert len(woken) == 3, "whoever flushes looks by itself"
    buffer.listen(None)
    buffer.write("e", speech(FRAME))
    read_frame(buffer)
    buffer.complete("e")
    assert len(woken) == 3
    assert [item.item_id for item in buffer.take_finished()] == ["d", "e"]
