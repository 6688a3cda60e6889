"""The SIP thread with the real library, called by SIPp."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

import pytest

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import IncomingInvite, LegClosed, LegFailed, MediaLost, MediaUp, Noted, TransferEnded
from gateway.errors import SipError
from gateway.ids import new_call_id
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.settings.sip import SipSettings
from gateway.sip.leg import PjLeg
from gateway.sip.library.frame_bytes import _COPYING, _POINTERS, _SLOW, _works, choose_frame_access
from gateway.sip.library.pj import pj
from gateway.sip.thread import SipThread
from tests.rigs.sip_agent import NOISE, ring_and_answer, sip_agent
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import (
    ANSWERED,
    BYE,
    CANCEL,
    EXPECT_BYE,
    accept_refer,
    expect_refer,
    invite,
    pause,
    refuse_refer,
    refused,
)
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


async def test_a_call_is_answered_heard_and_over(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here, RtpPeer(NOISE) as peer:
        here.playout.write("greeting", NOISE)
        peer.talk()
        sipp = await play(here.port, tmp_path, invite(peer.port), ANSWERED, pause(600), BYE)
        await until(lambda: here.seen(LegClosed))
        kinds = [type(event) for event in here.events]
        assert kinds == [IncomingInvite, MediaUp, Noted, LegClosed]
        assert here.seen(MediaUp) == [MediaUp(here.events[0].call_id, "PCMU/8000")]
        closed = here.seen(LegClosed)[0]
        assert closed == LegClosed(here.events[0].call_id, by_caller=True, code=200, reason="Normal call clearing")
        assert any(here.uplink.read())
        assert any(peer.reception.received_pcm())
        assert sipp.first("SIP/2.0 180")


async def test_the_invite_is_told_with_its_headers(tmp_path: Path) -> None:
    async with sip_agent(lambda leg: leg.hang_up(404, "Nobody here")) as here:
        await play(here.port, tmp_path, invite(), refused(404), service="+4930123")
        told = here.seen(IncomingInvite)[0]
        assert isinstance(told, IncomingInvite)
        assert told.to_uri == f"sip:+4930123@127.0.0.1:{here.port}"
        assert told.from_uri.startswith("sip:caller@127.0.0.1")
        assert told.source.startswith("127.0.0.1:")
        assert told.headers["max-forwards"] == "70"
        assert told.headers["call-id"] == told.sip_call_id


async def test_a_refusal_before_the_answer_carries_retry_after(tmp_path: Path) -> None:
    async with sip_agent(lambda leg: leg.hang_up(503, "Later"), retry_after_s=7) as here:
        sipp = await play(here.port, tmp_path, invite(), refused(503))
        assert "Retry-After: 7" in sipp.first("SIP/2.0 503").text
        await until(lambda: here.seen(LegClosed))
        assert here.seen(LegClosed)[0].by_caller is False


async def test_a_cancelled_call_is_over_with_487(tmp_path: Path) -> None:
    async with sip_agent(PjLeg.ring) as here:
        await play(here.port, tmp_path, invite(), '<recv response="180"/>', CANCEL)
        await until(lambda: here.seen(LegClosed))
        assert here.seen(LegClosed)[0].code == 487


async def test_orders_for_a_call_that_is_over_mean_nothing(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        await play(here.port, tmp_path, invite(), ANSWERED, BYE)
        await until(lambda: here.seen(LegClosed))
        for order in (PjLeg.ring, PjLeg.answer):
            order(here.legs[0])
        here.legs[0].hang_up(503, "late")
        await asyncio.sleep(0.2)
        assert not here.seen(LegFailed)


async def test_an_order_the_library_refuses_is_told(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here, Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as sipp:
        await until(lambda: here.seen(MediaUp))
        here.legs[0].answer()  # twice
        await until(lambda: here.seen(LegFailed))
        here.legs[0].hang_up(200, "done")
        assert await sipp.finish() == 0, sipp.output


async def test_stopping_says_goodbye_to_live_calls(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here, Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as sipp:
        await until(lambda: here.seen(MediaUp))
        await here.sip.stop()
        assert await sipp.finish() == 0, sipp.output


def _tell_loop(sip: SipThread, done: asyncio.Event, _calls: object) -> None:
    sip._loop.call_soon_threadsafe(done.set)


async def test_an_order_does_not_wait_for_the_next_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in ("_TICK_S", "_IDLE_TICK_S"):
        monkeypatch.setattr(f"gateway.sip.thread.{seconds}", 60.0)
    async with sip_agent(ring_and_answer) as here:
        for _ in range(50):
            done = asyncio.Event()
            here.sip.submit(partial(_tell_loop, here.sip, done))
            async with asyncio.timeout(20):  # without a wake, the library's own timers end its wait in a minute
                await done.wait()


async def test_a_build_that_cannot_be_woken_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.sip.native.waker.function", _no_function)
    async with sip_agent(ring_and_answer) as here:
        assert not here.sip._waker.works
        done = asyncio.Event()
        here.sip.submit(partial(_tell_loop, here.sip, done))
        async with asyncio.timeout(20):
            await done.wait()


def _no_function(name: str, *_types: object) -> object:
    raise AttributeError(name)


async def test_missing_rtp_is_told_and_a_talking_caller_is_not(tmp_path: Path) -> None:
    async with (
        sip_agent(ring_and_answer, no_rtp_timeout_s=1) as here,
        RtpPeer(NOISE) as peer,
        Sipp(here.port, (invite(peer.port), ANSWERED, pause(4500), BYE), tmp_path) as sipp,
    ):
        peer.talk()
        await asyncio.sleep(2.5)
        assert not here.seen(MediaLost)
        await peer.hush()
        await until(lambda: here.seen(MediaLost))
        assert await sipp.finish() == 0, sipp.output


@pytest.mark.parametrize(
    ("outcome", "state", "code"),
    [
        ("200 OK", "terminated;reason=noresource", 200),
        ("486 Busy Here", "terminated;reason=noresource", 486),
        ("", "terminated;reason=noresource", 200),
        ("486 Busy Here", "active;expires=30", 486),
    ],
)
async def test_a_transfer_is_followed_to_its_end(tmp_path: Path, outcome: str, state: str, code: int) -> None:
    steps = (invite(), ANSWERED, expect_refer(outcome, state), EXPECT_BYE)
    async with sip_agent(ring_and_answer) as here, Sipp(here.port, steps, tmp_path) as sipp:
        await until(lambda: here.seen(MediaUp))
        here.legs[0].transfer("sip:human@127.0.0.1:9")
        await until(lambda: here.seen(TransferEnded))
        ended = here.seen(TransferEnded)[0]
        assert isinstance(ended, TransferEnded)
        assert (ended.code, ended.refused) == (code, False)
        here.legs[0].hang_up(200, "done")
        assert await sipp.finish() == 0, sipp.output
        assert "Refer-To: sip:human@127.0.0.1:9" in sipp.first("REFER").text.replace("<", "").replace(">", "")


async def test_a_far_end_that_accepts_a_transfer_and_leaves_was_transferred(tmp_path: Path) -> None:
    steps = (invite(), ANSWERED, accept_refer(), pause(200), BYE)
    async with sip_agent(ring_and_answer) as here, Sipp(here.port, steps, tmp_path) as sipp:
        await until(lambda: here.seen(MediaUp))
        here.legs[0].transfer("sip:human@127.0.0.1:9")
        assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        (ended,) = here.seen(TransferEnded)
        assert isinstance(ended, TransferEnded)
        assert ended.code == 200


async def test_a_transfer_that_the_far_end_refuses_is_told_and_the_call_goes_on(tmp_path: Path) -> None:
    steps = (invite(), ANSWERED, refuse_refer("405 Method Not Allowed"), EXPECT_BYE)
    async with sip_agent(ring_and_answer) as here, Sipp(here.port, steps, tmp_path) as sipp:
        await until(lambda: here.seen(MediaUp))
        here.legs[0].transfer("sip:human@127.0.0.1:9")
        await until(lambda: here.seen(TransferEnded))
        ended = here.seen(TransferEnded)[0]
        assert isinstance(ended, TransferEnded)
        assert (ended.code, ended.refused) == (405, True)
        assert not here.seen(LegFailed)
        here.legs[0].hang_up(200, "done")
        assert await sipp.finish() == 0, sipp.output


async def test_a_transfer_of_which_nothing_is_heard_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.sip.calls.calls.NOTIFY_LIMIT_S", 1.0)
    steps = (invite(), ANSWERED, refuse_refer("202 Accepted"), EXPECT_BYE)
    async with sip_agent(ring_and_answer) as here, Sipp(here.port, steps, tmp_path) as sipp:
        await until(lambda: here.seen(MediaUp))
        here.legs[0].transfer("sip:human@127.0.0.1:9")
        await until(lambda: here.seen(TransferEnded))
        ended = here.seen(TransferEnded)[0]
        assert isinstance(ended, TransferEnded)
        assert (ended.code, ended.refused) == (408, False)
        here.legs[0].hang_up(200, "done")
        assert await sipp.finish() == 0, sipp.output


async def test_digits_are_sent_as_rfc_4733_events(tmp_path: Path) -> None:
    async with (
        sip_agent(ring_and_answer) as here,
        RtpPeer() as peer,
        Sipp(here.port, (invite(peer.port), ANSWERED, pause(2500), BYE), tmp_path) as sipp,
    ):
        peer.talk()
        await until(lambda: here.seen(MediaUp))
        here.legs[0].send_digits("1#")
        assert await sipp.finish() == 0, sipp.output
        events = [packet.payload[0] for packet in peer.reception.packets if packet.payload_type == 101]
        assert list(dict.fromkeys(events)) == [1, 11]  # RFC 4733 section 3.2: # is 11


async def test_a_placed_call_rings_and_is_answered(tmp_path: Path) -> None:
    # The library lives once per process, so it calls itself.
    async with sip_agent(ring_and_answer) as here:
        call_id = new_call_id(time.time_ns())
        target = f"sip:1000@127.0.0.1:{here.port}"
        leg = here.sip.new_call(call_id, target, UplinkTap(capacity_frames=50), PlayoutBuffer(PHONE))
        leg.dial()
        await until(lambda: len(here.seen(MediaUp)) == 2)
        leg.hang_up(200, "done")
        await until(lambda: len(here.seen(LegClosed)) == 2)
        assert {type(event).__name__ for event in here.events if event.call_id == call_id} - {"Noted"} == {
            "LegRinging",
            "MediaUp",
            "LegClosed",
        }


async def test_a_port_in_use_is_an_error_with_its_cure() -> None:
    async with sip_agent(ring_and_answer) as here:
        pass
    other = SipThread(SipSettings(host="192.0.2.1", port=here.port), lambda event: None)
    with pytest.raises(SipError, match=r"cannot listen for SIP on 192\.0\.2\.1:\d+ .*GATEWAY_SIP__PORT"):
        await other.start()
    await other.stop()


def test_frames_are_read_and_written_by_every_way_that_works() -> None:
    chosen = choose_frame_access()
    assert chosen.name in ("vector pointers", "copy_to_bytearray")
    for access in (_POINTERS, _SLOW):
        frame = pj.MediaFrame()
        for data in (b"\x01\x02" * 160, b"", bytes(640)):
            access.write(frame, data)
            assert access.read(frame) == data
    assert _works(_POINTERS)
    assert _works(_COPYING) is hasattr(pj.ByteVector, "copy_to_bytearray")
