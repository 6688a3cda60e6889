"""What a far end may do inside a dialog: hold, changes of media, keys, late offers, cancelling at any moment."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.call.events import (
    CallEvent,
    DigitPressed,
    LegClosed,
    LegFailed,
    LegHeld,
    LegResumed,
    MediaLost,
    MediaUp,
    Noted,
)
from gateway.free_port import free_port
from gateway.ids import new_call_id
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.settings.sip import TrunkSettings
from gateway.sip.calls.calls import PjCall
from gateway.sip.leg import PjLeg
from gateway.sip.library.pj import pj
from gateway.store.record import RECORD_FIELDS
from tests.rigs.rounds import best_of
from tests.rigs.sip_agent import NOISE, SipAgent, ring_and_answer, sip_agent
from tests.rigs.sipp import Sipp, play, read_messages
from tests.rigs.sipp_steps import (
    ANSWERED,
    BYE,
    CANCEL,
    EARLY_BYE,
    EXPECT_BYE,
    PRACKED,
    WAIT_FOR_RINGING,
    answered_late,
    bye,
    expect_info,
    first_invite,
    info,
    invite,
    notify,
    pause,
    refuse_call,
    refused,
    reinvite,
    reinvite_without_offer,
    sdp,
    update,
)
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


def kinds(here: SipAgent) -> list[type[CallEvent]]:
    return [type(event) for event in here.events if not isinstance(event, Noted)]


# Hold


@pytest.mark.parametrize(
    ("held", "changed_by"),
    [
        ({"direction": "sendonly"}, reinvite),
        ({"direction": "inactive"}, reinvite),
        ({"address": "0.0.0.0"}, reinvite),
        ({"direction": "sendonly"}, update),
        ({"direction": "inactive"}, update),
    ],
    ids=["sendonly", "inactive", "0.0.0.0", "UPDATE sendonly", "UPDATE inactive"],
)
async def test_hold_and_resume_are_told_once_and_its_music_is_not_heard(
    tmp_path: Path, held: dict[str, str], changed_by: object
) -> None:
    async with sip_agent(ring_and_answer, no_rtp_timeout_s=1) as here, RtpPeer(NOISE, looped=True) as peer:
        change = {reinvite: reinvite, update: update}[changed_by]  # type: ignore[index]
        steps = (
            invite(peer.port),
            ANSWERED,
            pause(400),
            change(sdp(peer.port, version=2, **held), cseq=3),
            pause(600),
            change(sdp(peer.port, version=3, **held), cseq=4),
            pause(900),
            change(sdp(peer.port, version=4), cseq=5),
            pause(600),
            BYE,
        )
        async with Sipp(here.port, steps, tmp_path) as sipp:
            peer.talk()
            here.playout.write("speech", NOISE * 4)
            await until(lambda: here.seen(LegHeld))
            await asyncio.sleep(0.3)
            here.uplink.read()
            await asyncio.sleep(0.3)
            assert not any(here.uplink.read())
            await until(lambda: here.seen(LegResumed))
            here.uplink.read()
            await until(lambda: any(here.uplink.read()))
            peer.reception.clear()
            await until(lambda: peer.reception.packets)
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        assert kinds(here)[1:] == [MediaUp, LegHeld, LegResumed, LegClosed]


@pytest.mark.parametrize(
    "held", [{"direction": "sendonly"}, {"direction": "inactive"}, {"address": "0.0.0.0"}], ids=str
)
async def test_a_call_that_begins_on_hold_stands_and_sounds_after_it(tmp_path: Path, held: dict[str, str]) -> None:
    async with sip_agent(ring_and_answer, no_rtp_timeout_s=1) as here, RtpPeer(NOISE, looped=True) as peer:
        steps = (
            first_invite(sdp(peer.port, **held)),  # type: ignore[arg-type]
            ANSWERED,
            pause(1500),
            reinvite(sdp(peer.port, version=2)),
            pause(1500),
            BYE,
        )
        async with Sipp(here.port, steps, tmp_path) as sipp:
            await until(lambda: here.seen(LegHeld))
            here.playout.write("speech", NOISE * 4)
            await until(lambda: here.seen(LegResumed))
            peer.talk()
            await until(lambda: peer.reception.packets and any(here.uplink.read()))
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        assert [kind for kind in kinds(here)[1:] if kind is not MediaUp] == [LegHeld, LegResumed, LegClosed]
        assert kinds(here)[1] is MediaUp
        assert here.seen(MediaUp)[-1].codec == "PCMU/8000"


@pytest.mark.parametrize("other", ["video 6004 RTP/AVP 34", "image 6004 udptl t38", "audio 0 RTP/AVP 8"])
async def test_audio_behind_another_line_sounds_and_can_be_held(tmp_path: Path, other: str) -> None:
    def offer(version: int, direction: str = "sendrecv") -> str:
        line = f"m={other}\n      m=audio"
        return sdp(peer.port, version=version, direction=direction).replace("m=audio", line)

    async with sip_agent(ring_and_answer) as here, RtpPeer(NOISE, looped=True) as peer:
        steps = (
            first_invite(offer(1)),
            ANSWERED,
            pause(400),
            reinvite(offer(2, "inactive")),
            pause(400),
            reinvite(offer(3), cseq=4),
            pause(800),
            BYE,
        )
        async with Sipp(here.port, steps, tmp_path) as sipp:
            peer.talk()
            here.playout.write("speech", NOISE * 4)
            await until(lambda: here.seen(LegResumed))
            peer.reception.clear()
            here.uplink.read()
            await until(lambda: peer.reception.packets and any(here.uplink.read()))
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        assert kinds(here)[1:] == [MediaUp, LegHeld, LegResumed, LegClosed]


async def test_a_callback_that_raises_does_not_end_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_call: PjCall, _line: int) -> None:
        raise pj.Error(70004, "refused", "getStreamInfo()", "call.cpp", 1)

    async with sip_agent(ring_and_answer) as here:
        monkeypatch.setattr(PjCall, "getStreamInfo", refuse)
        await play(here.port, tmp_path, invite(), ANSWERED, pause(800), BYE)
        await until(lambda: here.seen(LegClosed))
        assert LegFailed not in kinds(here)
        assert here.seen(LegClosed)[0].by_caller is True


async def test_a_call_whose_stream_fails_is_ended_by_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.sip.calls.dialog.NO_STREAM_LIMIT_S", 1.5)
    monkeypatch.setattr("gateway.sip.calls.dialog._audio_line", lambda info: None)  # as after PJSUA_CALL_MEDIA_ERROR
    async with sip_agent(ring_and_answer) as here:
        async with Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as sipp:
            await until(lambda: here.seen(LegFailed))
            here.legs[0].hang_up(500, "failed")
            assert await sipp.finish() == 0, sipp.output
        assert here.seen(LegFailed)[0].detail == "the audio stream could not be made"


async def test_the_end_of_a_call_is_told_though_its_callback_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_event: object) -> bool:
        raise ValueError("no such event")

    monkeypatch.setattr("gateway.sip.calls.dialog._text_of", refuse)
    async with sip_agent(ring_and_answer) as here:
        await play(here.port, tmp_path, invite(), ANSWERED, pause(100), BYE)
        await until(lambda: here.seen(LegClosed))
        assert here.seen(LegClosed)[0].code == 200


# Changes of media


async def test_another_codec_and_another_address_keep_the_audio_going(tmp_path: Path) -> None:
    async with (
        sip_agent(ring_and_answer) as here,
        RtpPeer(NOISE, looped=True) as peer,
        RtpPeer(NOISE, looped=True, codec="PCMA") as new,
    ):
        steps = (
            invite(peer.port),
            ANSWERED,
            pause(400),
            reinvite(sdp(new.port, payloads="8 101", version=2)),
            pause(900),
            BYE,
        )
        async with Sipp(here.port, steps, tmp_path) as sipp:
            peer.talk()
            here.playout.write("speech", NOISE * 4)
            await until(lambda: len(peer.reception.packets) > 5)
            await peer.hush()  # RTP from the old port would be taken for the far end's, behind a NAT
            new.talk()
            await until(lambda: new.reception.packets)
            peer.reception.clear()
            here.uplink.read()
            await until(lambda: any(here.uplink.read()))
            # Before the re-INVITE is through, RTP may follow the new port in the old codec.
            await until(lambda: [packet.payload_type for packet in new.reception.packets[-10:]] == [8] * 10)
            assert len(peer.reception.packets) < 3
            assert await sipp.finish() == 0, sipp.output
        assert not here.seen(LegFailed)
        assert not here.seen(LegHeld)


@pytest.mark.parametrize("impossible", [reinvite, update])
async def test_an_impossible_offer_gets_488_and_leaves_the_call_as_it_was(tmp_path: Path, impossible: object) -> None:
    change = {reinvite: reinvite, update: update}[impossible]  # type: ignore[index]
    async with sip_agent(ring_and_answer) as here, RtpPeer(NOISE, looped=True) as peer:
        steps = (
            invite(peer.port),
            ANSWERED,
            pause(200),
            change(sdp(peer.port, payloads="18 101", version=2), code=488),
            pause(500),
            reinvite(sdp(peer.port, version=3), cseq=4),
            pause(300),
            BYE,
        )
        async with Sipp(here.port, steps, tmp_path) as sipp:
            peer.talk()
            here.playout.write("speech", NOISE * 4)
            await until(lambda: here.seen(MediaUp))
            await asyncio.sleep(0.5)
            peer.reception.clear()
            await until(lambda: len(peer.reception.packets) > 10)
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        assert kinds(here)[1:] == [MediaUp, LegClosed]


@pytest.mark.parametrize("answer", ["0 101", "8 101"])
async def test_an_offer_that_comes_late_is_answered_late(tmp_path: Path, answer: str) -> None:
    async with sip_agent(ring_and_answer) as here, RtpPeer(NOISE, looped=True) as peer:
        codec = "PCMU/8000" if answer.startswith("0") else "PCMA/8000"
        steps = (
            first_invite(),
            answered_late(sdp(peer.port, payloads=answer)),
            pause(300),
            reinvite_without_offer(sdp(peer.port, payloads=answer, version=2)),
            pause(500),
            BYE,
        )
        async with Sipp(here.port, steps, tmp_path) as sipp:
            peer.talk()
            here.playout.write("speech", NOISE)
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        assert [event.codec for event in here.seen(MediaUp)] == [codec]
        assert peer.reception.packets


async def test_a_late_answer_of_no_use_is_not_the_callers_end(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        unusable = answered_late(sdp(6000, payloads="18"))
        await play(here.port, tmp_path, first_invite(), unusable, EXPECT_BYE)
        await until(lambda: here.seen(LegClosed))
        (closed,) = here.seen(LegClosed)
        assert isinstance(closed, LegClosed)
        assert (closed.by_caller, closed.code in (415, 488)) == (False, True)


# Ends at every moment


async def test_a_call_may_be_cancelled_at_once(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        for number in range(5):
            trying = '<recv response="100"/>'
            steps = (first_invite(sdp()).replace('<recv response="100" optional="true"/>', trying), CANCEL)
            async with MeanwhileItDoes(here, lambda _leg: None):
                await play(here.port, tmp_path / str(number), *steps)
        await until(lambda: len(here.seen(LegClosed)) == 5)
        assert {event.code for event in here.seen(LegClosed)} == {487}


async def test_a_bye_on_the_early_dialog_ends_the_call(tmp_path: Path) -> None:
    async with sip_agent(PjLeg.ring) as here:
        await play(
            here.port, tmp_path, invite(), WAIT_FOR_RINGING.replace("/>", ' rrs="true"/>'), EARLY_BYE, pause(200)
        )
        await until(lambda: here.seen(LegClosed))
        assert here.seen(LegClosed)[0].by_caller is True


async def test_reliable_ringing_is_acknowledged(tmp_path: Path) -> None:
    ring_only = sip_agent(PjLeg.ring)
    async with ring_only as here, RtpPeer(NOISE) as peer:
        steps = (
            first_invite(sdp(peer.port), "\n      Require: 100rel"),
            PRACKED,
            pause(200),
            ANSWERED,
            pause(200),
            BYE,
        )
        async with Sipp(here.port, steps, tmp_path) as sipp:
            await until(lambda: here.legs)
            await asyncio.sleep(0.3)
            here.legs[0].answer()
            assert await sipp.finish() == 0, sipp.output
            assert "RSeq:" in sipp.first("SIP/2.0 180").text


async def test_session_timers_are_agreed_on_and_short_ones_refused(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        timer = "\n      Supported: timer\n      Session-Expires: 1800;refresher=uac"
        sipp = await play(here.port, tmp_path / "agreed", first_invite(sdp(), timer), ANSWERED, pause(100), BYE)
        assert "Session-Expires: 1800;refresher=uac" in sipp.first("SIP/2.0 200").text
        short = "\n      Supported: timer\n      Session-Expires: 20"
        sipp = await play(here.port, tmp_path / "short", first_invite(sdp(), short), refused(422))
        assert "Min-SE: 90" in sipp.first("SIP/2.0 422").text


# Why it ended


async def test_the_reason_of_a_bye_is_read(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        reason = '\n      Reason: Q.850;cause=16;text="Normal call clearing"'
        await play(here.port, tmp_path, invite(), ANSWERED, pause(100), bye(reason))
        await until(lambda: here.seen(LegClosed))
        assert here.seen(LegClosed)[0].reason == "Normal call clearing (Q.850 16)"


async def test_the_reason_of_a_cancel_is_read(tmp_path: Path) -> None:
    async with sip_agent(PjLeg.ring) as here:
        reason = '      Reason: SIP;cause=200;text="Call completed elsewhere"\n      Max-Forwards: 70'
        cancel = CANCEL.replace("      Max-Forwards: 70", reason, 1)
        await play(here.port, tmp_path, invite(), WAIT_FOR_RINGING, cancel)
        await until(lambda: here.seen(LegClosed))
        assert here.seen(LegClosed)[0].reason == "Call completed elsewhere (SIP 200)"


async def test_our_bye_and_our_refusals_say_why(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        async with Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / "bye") as sipp:
            await until(lambda: here.seen(MediaUp))
            here.legs[0].hang_up(200, "Agent hung up")
            assert await sipp.finish() == 0, sipp.output
            assert 'Reason: Q.850;cause=16;text="Agent hung up"' in sipp.first("BYE").text
        async with MeanwhileItDoes(here, lambda leg: leg.hang_up(486, "Busy here")):
            sipp = await play(here.port, tmp_path / "busy", invite(), refused(486))
            assert "Reason: Q.850;cause=17" in sipp.first("SIP/2.0 486").text


# Keys


class KeyPeer:
    """Sends RFC 4733 events by hand."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", free_port() & ~1))
        self.port = self.socket.getsockname()[1]
        self.sequence = 100

    def packet(
        self, to: int, event: int, stamp: int, duration: int, *, end: bool = False, marker: bool = False
    ) -> None:
        head = struct.pack(">BBHII", 0x80, 101 | (0x80 if marker else 0), self.sequence & 0xFFFF, stamp, 77)
        self.sequence += 1
        self.socket.sendto(head + struct.pack(">BBH", event, (0x80 if end else 0) | 10, duration), ("127.0.0.1", to))


def rtp_port_of(sipp_folder: Path) -> int:
    answers = [one for one in read_messages(sipp_folder / "messages.log") if one.first_line.startswith("SIP/2.0 200")]
    return int(answers[0].text.split("m=audio ", 1)[1].split()[0])


@asynccontextmanager
async def pressing(folder: Path, *steps: str) -> AsyncIterator[tuple[KeyPeer, int, list[str]]]:
    """A call whose keys are sent by hand: who sends them, where to, and, once it is over, the keys that were told."""
    keys, told = KeyPeer(), list[str]()
    with keys.socket:
        async with (
            sip_agent(ring_and_answer) as here,
            Sipp(here.port, (invite(keys.port), ANSWERED, *steps, BYE), folder) as sipp,
        ):
            await until(lambda: here.seen(MediaUp))
            await asyncio.sleep(0.2)
            yield keys, rtp_port_of(folder), told
            assert await sipp.finish() == 0, sipp.output
        told += [event.digit for event in here.seen(DigitPressed)]


async def test_each_press_is_told_once_whatever_is_lost_or_repeated(tmp_path: Path) -> None:
    async with pressing(tmp_path, pause(2500)) as (keys, to, told):
        for duration in (160, 320, 480):  # 1: no marker, no end
            keys.packet(to, 1, 8000, duration)
            await asyncio.sleep(0.02)
        for duration in (160, 320):  # 1 again, longer than the one before, its first packets lost
            keys.packet(to, 1, 12000, 640 + duration)
            await asyncio.sleep(0.02)
        for _ in range(5):  # 2: only its end came, repeated
            keys.packet(to, 2, 16000, 800, end=True)
            await asyncio.sleep(0.02)
        for step in range(1, 40):  # a long press of #
            keys.packet(to, 11, 20000, 160 * step, marker=step == 1)
            await asyncio.sleep(0.005)
        for _ in range(3):
            keys.packet(to, 11, 20000, 160 * 40, end=True)
        keys.packet(to, 2, 16000, 800, end=True)  # late
        keys.packet(to, 99, 40000, 160)  # no key
    assert told == ["1", "1", "2", "#"]


async def test_a_second_equal_key_of_which_only_the_end_comes_is_told(tmp_path: Path) -> None:
    async with pressing(tmp_path, pause(2500)) as (keys, to, told):
        for number, event in enumerate((1, 1, 2, 2, 3)):
            for _ in range(3):
                keys.packet(to, event, 8000 + 1600 * number, 640, end=True)
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
    assert told == list("11223")


@pytest.mark.parametrize("style", ["moving", "later end", "segments"])
async def test_one_press_is_told_once_however_its_timestamps_move(tmp_path: Path, style: str) -> None:
    packets = {  # timestamp, duration, end
        "moving": [(0, 160, False), (160, 320, False), (320, 480, False), *[(480, 640, True)] * 3],
        "later end": [(0, 160, False), (0, 320, False), (0, 480, False), *[(640, 640, True)] * 3],
        "segments": [(0, 65440, False), (0, 65535, False), (65535, 160, False), *[(65535, 320, True)] * 3],
    }[style]
    async with pressing(tmp_path, pause(1200)) as (keys, to, told):
        for stamp, duration, end in packets:
            keys.packet(to, 4, 3_000_000_000 + stamp, duration, end=end)
            await asyncio.sleep(0.02)
    assert told == ["4"]


async def test_keys_by_info_are_told_once_each(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        steps = (
            info("application/dtmf-relay", "Signal=5\nDuration=160\n", cseq=3),
            info("application/dtmf", "*\n", cseq=4),
            info("application/dtmf-relay", "Signal=#\nDuration=160\n", cseq=5),
            info("application/dtmf", "5\n", cseq=6),
            info("application/dtmf-relay", "Signal=10\nDuration=160\n", cseq=7),
            info("application/dtmf-relay", "Signal=16\nDuration=160\n", cseq=8),
            info("application/dtmf-relay", "Signal=7", cseq=9),
            info("application/dtmf-relay", "Signal=", cseq=10),
        )
        await play(here.port, tmp_path, invite(), ANSWERED, *steps, bye(cseq=11))
        await until(lambda: here.seen(LegClosed))
        assert "".join(event.digit for event in here.seen(DigitPressed)) == "5*#5*7"


async def test_an_info_or_notify_about_something_else_is_answered_by_the_book(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        steps = (
            invite(),
            ANSWERED,
            info("application/media_control+xml", "x", cseq=3, code=415),
            notify("message-summary", cseq=4, code=489),
            BYE,
        )
        sipp = await play(here.port, tmp_path, *steps)
        assert "Accept: application/dtmf-relay, application/dtmf" in sipp.first("SIP/2.0 415").text


async def test_a_key_told_by_rtp_and_by_info_is_told_once(tmp_path: Path) -> None:
    steps = (pause(800), info("application/dtmf-relay", "Signal=7\nDuration=160\n"))
    async with pressing(tmp_path, *steps) as (keys, to, told):
        for duration in (160, 320, 480):
            keys.packet(to, 7, 8000, duration, end=duration == 480)
    assert told == ["7"]


@best_of(3)
async def test_a_dial_string_with_pauses_takes_its_time(tmp_path: Path) -> None:
    async with (
        sip_agent(ring_and_answer) as here,
        RtpPeer() as peer,
        Sipp(here.port, (invite(peer.port), ANSWERED, pause(3000), BYE), tmp_path) as sipp,
    ):
        peer.talk()
        await until(lambda: here.seen(MediaUp))
        here.legs[0].send_digits("12w3")
        assert await sipp.finish() == 0, sipp.output
        events = [packet for packet in peer.reception.packets if packet.payload_type == 101]
        assert list(dict.fromkeys(packet.payload[0] for packet in events)) == [1, 2, 3]
        first = {packet.payload[0]: packet.arrived_at for packet in reversed(events)}
        last = {packet.payload[0]: packet.arrived_at for packet in events}
        assert (first[3] - last[2]) - (first[2] - last[1]) >= 0.25, "the pause is half a second more"


# Quality and missing audio


async def test_the_quality_is_noted_meanwhile_and_before_the_end(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer, quality_every_s=1) as here, RtpPeer(NOISE, looped=True) as peer:
        steps = (
            invite(peer.port),
            ANSWERED,
            pause(1200),
            reinvite(sdp(peer.port, version=2, payloads="8")),
            pause(1500),
            BYE,
        )
        async with Sipp(here.port, steps, tmp_path) as sipp:
            peer.talk()
            here.playout.write("speech", NOISE)
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        noted = [event for event in here.events if isinstance(event, Noted) and event.name == "quality"]
        assert len(noted) >= 2
        assert isinstance(here.events[-2], Noted)
        assert isinstance(here.events[-1], LegClosed)
        assert all(event.values.keys() <= RECORD_FIELDS for event in noted)
        last = noted[-1].values
        assert 100 <= int(last["rx_packets"]) <= peer.sent_packets
        assert int(last["tx_packets"]) >= 100
        assert last["rx_lost"] == 0
        assert 3.5 <= float(last["mos"]) <= 4.5
        received = [int(event.values["rx_packets"]) for event in noted]
        assert received == sorted(received)


async def test_audio_that_never_came_is_missed(tmp_path: Path) -> None:
    async with (
        sip_agent(ring_and_answer, no_rtp_timeout_s=1) as here,
        Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as sipp,
    ):
        await until(lambda: here.seen(MediaLost))
        here.legs[0].hang_up(200, "done")
        assert await sipp.finish() == 0, sipp.output


async def test_a_caller_who_only_listens_is_not_missed(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer, no_rtp_timeout_s=1) as here, RtpPeer() as peer:
        offer = first_invite(sdp(peer.port, direction="recvonly"))
        async with Sipp(here.port, (offer, ANSWERED, pause(4000), BYE), tmp_path) as sipp:
            await until(lambda: here.seen(MediaUp))
            here.playout.write("speech", NOISE * 2)
            await until(lambda: peer.reception.packets)
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        assert kinds(here)[1:] == [MediaUp, LegClosed]


async def test_a_silent_caller_who_sends_reports_is_not_missed(tmp_path: Path) -> None:
    keys = KeyPeer()
    with keys.socket, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        control.bind(("127.0.0.1", keys.port + 1))
        steps = (invite(keys.port), ANSWERED, pause(4500), BYE)
        async with sip_agent(ring_and_answer, no_rtp_timeout_s=2) as here, Sipp(here.port, steps, tmp_path) as sipp:
            await until(lambda: here.seen(MediaUp))
            await asyncio.sleep(0.2)
            to = rtp_port_of(tmp_path)
            keys.packet(to, 1, 8000, 160)
            keys.socket.setblocking(False)
            ssrc = int.from_bytes((await asyncio.get_running_loop().sock_recv(keys.socket, 200))[8:12], "big")
            for _ in range(7):  # receiver reports (RFC 3550 section 6.4.2) about what we send
                report = struct.pack(">BBHIIIIIII", 0x81, 201, 7, 77, ssrc, 0, 100, 1, 0, 0)
                control.sendto(report, ("127.0.0.1", to + 1))
                await asyncio.sleep(0.5)
            assert not here.seen(MediaLost)
            assert await sipp.finish() == 0, sipp.output


async def test_a_stranger_is_neither_heard_nor_sent_the_audio(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.setblocking(False)
        async with sip_agent(ring_and_answer) as here, RtpPeer(bytes(16000), looped=True) as peer:
            steps = (invite(peer.port), ANSWERED, pause(2500), BYE)
            async with Sipp(here.port, steps, tmp_path) as sipp:
                peer.talk()
                here.playout.write("speech", NOISE * 3)
                await until(lambda: len(peer.reception.packets) > 20)
                to = ("127.0.0.1", rtp_port_of(tmp_path))
                here.uplink.read()
                peer.reception.clear()
                for number in range(50):
                    loud = struct.pack(">BBHII", 0x80, 0, number, 160 * number, 999) + bytes(range(160))
                    for packet in (loud, b"", b"\x80", bytes(200), b"\xff" * 1400):
                        await loop.sock_sendto(stranger, packet, to)
                    await asyncio.sleep(0.02)
                assert not any(here.uplink.read())
                assert len(peer.reception.packets) > 40
                with pytest.raises(BlockingIOError):
                    stranger.recv(2000)
                assert await sipp.finish() == 0, sipp.output


async def flood(stranger: socket.socket, to: tuple[str, int], packets: int, pause_s: float) -> None:
    """Send loud RTP that the caller never sent."""
    loop = asyncio.get_running_loop()
    for number in range(packets):
        loud = struct.pack(">BBHII", 0x80, 0, number, 160 * number, 999) + bytes(range(160))
        await loop.sock_sendto(stranger, loud, to)
        await asyncio.sleep(pause_s)


async def test_a_silent_caller_s_audio_cannot_be_taken_over_where_rtp_is_signalled(tmp_path: Path) -> None:
    async with (
        sip_agent(ring_and_answer, rtp_source="signalled") as here,
        RtpPeer(NOISE, looped=True) as peer,
        RtpPeer(NOISE, looped=True) as moved,
    ):
        steps = (invite(peer.port), ANSWERED, pause(4000), reinvite(sdp(moved.port, version=2)), pause(2500), BYE)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.setblocking(False)
            async with Sipp(here.port, steps, tmp_path) as sipp:
                await until(lambda: here.seen(MediaUp))
                here.playout.write("speech", NOISE * 5)
                to = ("127.0.0.1", rtp_port_of(tmp_path))
                await flood(stranger, to, 50, 0.02)
                await flood(stranger, to, 200, 0)
                await asyncio.sleep(0.2)
                assert not any(here.uplink.read())
                with pytest.raises(BlockingIOError):
                    stranger.recv(2000)
                peer.talk()
                await until(lambda: any(here.uplink.read()))
                await until(lambda: moved.reception.packets)
                await peer.hush()
                await asyncio.sleep(0.3)
                here.uplink.read()
                await flood(stranger, to, 20, 0.02)
                assert not any(here.uplink.read())
                moved.talk()
                await until(lambda: any(here.uplink.read()))
                assert await sipp.finish() == 0, sipp.output
        assert not here.seen(LegFailed)


# Codecs of a trunk


async def test_a_trunk_is_offered_and_answered_its_own_codecs(tmp_path: Path) -> None:
    trunk = TrunkSettings.model_validate({"host": "127.0.0.1", "codecs": "PCMA"})
    async with sip_agent(ring_and_answer, trunks={"carrier": trunk}) as here:
        sipp = await play(here.port, tmp_path / "in", invite(), ANSWERED, pause(100), BYE)
        assert "RTP/AVP 8 101" in sipp.first("SIP/2.0 200").text
        only_ulaw = invite(payloads="0 101")
        await play(here.port, tmp_path / "refused", only_ulaw, refused(488))
        async with Sipp(here.port, (refuse_call("486 Busy Here"),), tmp_path / "out") as called:
            uplink, playout = here.uplink, here.playout
            here.sip.new_call(
                new_call_id(time.time_ns()), f"sip:1@127.0.0.1:{called.port}", uplink, playout, trunk="carrier"
            ).dial()
            assert await called.finish() == 0, called.output
        offer = called.first("INVITE").text
        assert "RTP/AVP 8 " in offer
        assert "PCMU" not in offer


async def test_keys_go_out_by_info_where_the_trunk_says_so(tmp_path: Path) -> None:
    trunk = TrunkSettings.model_validate({"host": "127.0.0.1", "dtmf": "info"})
    steps = (invite(), ANSWERED, expect_info(), expect_info(), EXPECT_BYE)
    async with sip_agent(ring_and_answer, trunks={"carrier": trunk}) as here, Sipp(here.port, steps, tmp_path) as sipp:
        await until(lambda: here.seen(MediaUp))
        here.legs[0].send_digits("4#")
        await asyncio.sleep(1)
        here.legs[0].hang_up(200, "done")
        assert await sipp.finish() == 0, sipp.output
        told = [message.text for message in sipp.messages if message.first_line.startswith("INFO")]
        assert [text.split("Signal=")[1].split()[0] for text in told] == ["4", "#"]


# Helpers of the tests above


class MeanwhileItDoes:
    """Meanwhile the phone does something else with new calls."""

    def __init__(self, here: SipAgent, on_invite: object) -> None:
        self.here, self.on_invite = here, on_invite

    async def __aenter__(self) -> None:
        self.before, self.here.on_invite = self.here.on_invite, self.on_invite  # type: ignore[assignment]

    async def __aexit__(self, *_: object) -> None:
        self.here.on_invite = self.before
