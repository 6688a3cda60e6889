"""RTP packets: parsed, counted and put back in place."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.g711 import pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from gateway.lab.callers.reception import HEADER, Counts, Reception, RtpPacket

pytestmark = pytest.mark.unit

FRAME = 160


def datagram(sequence: int, timestamp: int, payload: bytes = b"\x10" * FRAME, *, kind: int = 0, ssrc: int = 7) -> bytes:
    return HEADER.pack(0x80, kind, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def received(*numbers: int, first_timestamp: int = 1000, ssrc: int = 7, start_s: float = 0) -> Reception:
    """Packets that came at 20 ms pace, with these sequence numbers; payload byte = number."""
    reception = Reception()
    for turn, number in enumerate(numbers):
        payload = bytes([number & 0x7F]) * FRAME
        data = datagram(number, first_timestamp + FRAME * number, payload, ssrc=ssrc)
        reception.append(start_s + 0.02 * turn, data)
    return reception


def audio(*numbers: int | None) -> bytes:
    return b"".join(
        bytes(2 * FRAME) if number is None else ulaw_to_pcm(bytes([number & 0x7F]) * FRAME) for number in numbers
    )


def test_a_packet_is_parsed_with_all_its_fields() -> None:
    packet = RtpPacket.parse(datagram(65535, 2**32 - 1, b"abc", kind=0x80 | 8, ssrc=2**32 - 2), 1.5)
    assert packet == RtpPacket(1.5, 8, True, 65535, 2**32 - 1, 2**32 - 2, b"abc")


def test_contributors_extension_and_padding_are_taken_off() -> None:
    extension = struct.pack(">HH", 0xBEDE, 2) + bytes(8)
    data = HEADER.pack(0x80 | 0x30 | 2, 0, 1, 2, 3) + bytes(8) + extension + b"voice" + b"\0\0\3"
    packet = RtpPacket.parse(data, 0)
    assert packet is not None
    assert packet.payload == b"voice"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\0",
        bytes(12),
        b"\x80\xc8" + bytes(26),  # RTCP sender report
        HEADER.pack(0x80 | 15, 0, 1, 2, 3),  # contributors that are not there
        HEADER.pack(0x90, 0, 1, 2, 3) + b"\xbe\xde\xff\xff",
        HEADER.pack(0x90, 0, 1, 2, 3),
        HEADER.pack(0xA0, 0, 1, 2, 3) + b"\xff",  # more padding than packet
    ],
)
def test_what_is_no_rtp_is_left_out(data: bytes) -> None:
    assert RtpPacket.parse(data, 0) is None
    reception = Reception()
    reception.append(0, data)
    assert reception.packets == []


@given(st.binary(max_size=80))
def test_no_datagram_breaks_the_parser(data: bytes) -> None:
    reception = Reception()
    reception.append(0, data)
    reception.counts()
    reception.received_pcm()


def test_nothing_received_has_no_figures() -> None:
    empty = Reception()
    assert empty.counts() == Counts(0, 0, 0, 0)
    assert empty.intervals_ms() == []
    assert empty.longest_gap_ms() == 0
    assert empty.received_pcm() == b""


def test_a_clean_stream_counts_clean_across_the_wrap_of_its_numbers() -> None:
    reception = received(*range(65500, 65600))
    assert reception.counts() == Counts(100, 0, 0, 0)
    assert reception.received_pcm() == audio(*range(65500, 65600))


def test_lost_duplicated_and_reordered_packets_are_counted_apart() -> None:
    assert received(1, 2, 5, 4, 6, 6, 9).counts() == Counts(received=7, lost=3, duplicated=1, reordered=1)
    assert received(65535, 0, 65534, 1).counts() == Counts(received=4, lost=0, duplicated=0, reordered=1)


def test_streams_are_counted_apart_and_summed() -> None:
    reception = received(1, 2, 4)
    reception.append(1, datagram(30000, 5, ssrc=8))
    reception.append(1.02, datagram(30002, 325, ssrc=8))
    assert reception.counts() == Counts(received=5, lost=2, duplicated=0, reordered=0)


def test_audio_is_placed_by_its_timestamp_with_silence_where_none_came() -> None:
    assert received(1, 2, 5, 4, 6).received_pcm() == audio(1, 2, None, 4, 5, 6)


def test_the_timestamp_may_wrap() -> None:
    assert received(1, 2, 3, first_timestamp=2**32 - 300).received_pcm() == audio(1, 2, 3)


def test_what_is_earlier_than_the_first_packet_is_left_out() -> None:
    assert received(2, 1, 3).received_pcm() == audio(2, 3)


def test_a_second_stream_is_placed_by_its_arrival() -> None:
    reception = received(1, 2)
    reception.append(0.1, datagram(9, 77, b"\x33" * FRAME, ssrc=8))
    assert reception.received_pcm() == audio(1, 2, None, None, None, 0x33)


def test_a_timestamp_that_jumps_is_placed_by_its_arrival() -> None:
    reception = received(1, 2)
    reception.append(0.04, datagram(3, 2**31 + 5, b"\x03" * FRAME))
    reception.append(0.06, datagram(4, 2**31 + 5 + FRAME, b"\x04" * FRAME))
    assert reception.received_pcm() == audio(1, 2, 3, 4)


def test_a_law_is_decoded_and_what_is_no_audio_is_left_out() -> None:
    pcm = struct.pack("<h", 1000) * FRAME
    reception = Reception()
    reception.append(0, datagram(1, 0, b"\x05\0\0\0", kind=101))  # a digit, RFC 4733
    reception.append(0, datagram(2, 0, pcm_to_alaw(pcm), kind=8))
    reception.append(0.02, datagram(3, FRAME, pcm_to_ulaw(pcm), kind=0))
    samples = struct.unpack(f"<{2 * FRAME}h", reception.received_pcm())
    assert all(abs(sample - 1000) < 32 for sample in samples)
    assert reception.counts().received == 3


def test_intervals_and_the_longest_gap_are_of_the_arrivals() -> None:
    reception = Reception()
    for at in (1.0, 1.02, 1.07, 1.08):
        reception.append(at, datagram(round(at * 50), 0))
    assert reception.intervals_ms() == pytest.approx([20, 50, 10])
    assert reception.longest_gap_ms() == pytest.approx(50)


def test_figures_can_be_of_what_comes_from_now_on() -> None:
    reception = received(1, 2, 9)
    assert reception.counts().received == 3
    reception.clear()
    reception.append(1, datagram(10, 0))
    assert reception.counts() == Counts(1, 0, 0, 0)
