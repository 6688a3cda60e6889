"""Calls of ours, and a second leg for a caller: SIPp is called."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.actions import CallSecond
from gateway.call.events import (
    CallEvent,
    LegClosed,
    LegFailed,
    LegRinging,
    MediaUp,
    Noted,
    SecondClosed,
    SecondDigit,
    SecondRinging,
    SecondUp,
)
from gateway.free_port import free_port
from gateway.ids import CallId, new_call_id
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.sip.core.addressing import OutboundInvite
from gateway.sip.leg import PjLeg
from tests.rigs.sip_agent import NOISE, SipAgent, ring_and_answer, sip_agent
from tests.rigs.sipp import Sipp, read_messages
from tests.rigs.sipp_steps import (
    ANSWERED,
    BYE,
    CALLEE_BYE,
    EXPECT_ACK,
    EXPECT_BYE,
    EXPECT_CANCEL,
    EXPECT_INVITE,
    RING,
    callee_info,
    callee_reinvite,
    invite,
    pause,
    refuse_call,
    respond,
    sdp,
    take_call,
)
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

CALL = CallId("")


def rms_dbfs(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, "<i2").astype(np.float64) / 32768
    return float(20 * np.log10(max(1e-6, np.sqrt(np.mean(samples**2)))))


def told(here: SipAgent, call_id: str) -> list[type[CallEvent]]:
    return [type(event) for event in here.events if event.call_id == call_id and not isinstance(event, Noted)]


def _plain(event: CallEvent) -> CallEvent:
    """Return the event without the parameters that SIPp's contacts have."""
    assert isinstance(event, SecondClosed)
    return replace(event, contacts=tuple(contact.partition(";")[0] for contact in event.contacts))


class OwnCall:
    """A call of ours to SIPp."""

    def __init__(self, here: SipAgent, port: int, where: OutboundInvite | None = None) -> None:
        self.call_id = new_call_id(time.time_ns())
        self.uplink = UplinkTap(capacity_frames=500)
        self.playout = PlayoutBuffer(PHONE)
        self.leg: PjLeg = here.sip.new_call(self.call_id, f"sip:1000@127.0.0.1:{port}", self.uplink, self.playout)
        if where is not None:
            self.leg = PjLeg(here.sip, self.call_id, self.uplink, self.playout, where=where)
        self.leg.dial()


# Calls of ours


async def test_the_agent_hears_nothing_before_the_answer(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here, RtpPeer(NOISE, looped=True) as peer:
        early = respond("183 Session Progress", sdp(peer.port))
        answer = respond("200 OK", sdp(peer.port))
        steps = (EXPECT_INVITE, early, pause(1200), answer, EXPECT_ACK, pause(700), CALLEE_BYE)
        async with Sipp(here.port, steps, tmp_path) as sipp:
            call = OwnCall(here, sipp.port)
            peer.talk()
            await until(lambda: here.seen(LegRinging))
            await asyncio.sleep(0.8)
            assert not call.uplink.read()
            assert not here.seen(MediaUp)
            await until(lambda: here.seen(MediaUp))
            await until(lambda: any(call.uplink.read()))
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        assert told(here, call.call_id) == [LegRinging, MediaUp, LegClosed]
        assert [event.code for event in here.seen(LegRinging)] == [183]


@pytest.mark.parametrize(
    "early",
    [{"direction": "inactive"}, {"address": "0.0.0.0"}, {"payloads": "18"}, {"address": "host.invalid"}, {}],
    ids=str,
)
async def test_an_early_answer_does_not_decide_about_the_call(tmp_path: Path, early: dict[str, str]) -> None:
    async with sip_agent(ring_and_answer) as here, RtpPeer() as early_peer, RtpPeer(NOISE, looped=True) as peer:
        progress = respond("183 Session Progress", sdp(early_peer.port, **early))  # type: ignore[arg-type]
        answer = respond("200 OK", sdp(peer.port, version=2))
        steps = (EXPECT_INVITE, progress, pause(300), answer, EXPECT_ACK, pause(1500), CALLEE_BYE)
        async with Sipp(here.port, steps, tmp_path) as sipp:
            call = OwnCall(here, sipp.port)
            peer.talk()
            await until(lambda: any(call.uplink.read()))
            assert await sipp.finish() == 0, sipp.output
        assert not here.seen(LegFailed)


SEVERAL = sdp(0, payloads="8 0 101").replace("m=audio 0 ", "m=audio RTP_PORT ")


async def test_several_codecs_in_an_answer_bring_no_request_of_ours(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here, RtpPeer(NOISE, looped=True, codec="PCMA") as peer:
        answer = respond(
            "200 OK", SEVERAL.replace("RTP_PORT", str(peer.port)), "\n      Allow: INVITE, ACK, BYE, UPDATE"
        )
        steps = (EXPECT_INVITE, answer, EXPECT_ACK, pause(3500), CALLEE_BYE)
        async with Sipp(here.port, steps, tmp_path) as sipp:
            OwnCall(here, sipp.port)
            peer.talk()
            assert await sipp.finish() == 0, sipp.output
            assert not [one for one in sipp.messages if one.first_line.startswith("UPDATE")]
        assert not here.seen(LegFailed)


async def test_a_far_end_that_sends_in_another_agreed_codec_is_held_to_the_one_in_use(tmp_path: Path) -> None:
    async with (
        sip_agent(ring_and_answer) as here,
        RtpPeer(NOISE, looped=True, codec="PCMU") as other,
        RtpPeer(NOISE, looped=True, codec="PCMA") as peer,
    ):
        answer = respond("200 OK", SEVERAL.replace("RTP_PORT", str(other.port)))
        one = respond("200 OK", sdp(peer.port, payloads="8 101", version=2), tag=False)
        steps = (EXPECT_INVITE, answer, EXPECT_ACK, EXPECT_INVITE, one, EXPECT_ACK, pause(1500), CALLEE_BYE)
        async with Sipp(here.port, steps, tmp_path) as sipp:
            call = OwnCall(here, sipp.port)
            other.talk()
            log = tmp_path / "messages.log"
            await until(lambda: sum(one.first_line.startswith("INVITE") for one in read_messages(log)) == 2)
            await other.hush()
            peer.talk(("127.0.0.1", int(read_messages(log)[0].text.split("m=audio ", 1)[1].split()[0])))
            await until(lambda: any(call.uplink.read()))
            assert await sipp.finish() == 0, sipp.output
            offers = [one.text for one in sipp.messages if one.first_line.startswith("INVITE")]
            assert ["PCMU" in offer for offer in offers] == [True, False]
        assert not here.seen(LegFailed)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        ("486 Busy Here", 486, "Busy Here"),
        ("603 Decline", 603, "Decline"),
        ("404 Not Found", 404, "Not Found"),
    ],
)
async def test_a_refused_call_tells_why(tmp_path: Path, status: str, code: int, reason: str) -> None:
    async with sip_agent(ring_and_answer) as here:
        more = '\n      Reason: Q.850;cause=21;text="Call rejected"' if code == 603 else ""
        async with Sipp(here.port, (refuse_call(status, more),), tmp_path) as sipp:
            call = OwnCall(here, sipp.port)
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        closed = here.seen(LegClosed)[0]
        wanted = "Call rejected (Q.850 21)" if more else reason
        cause = 21 if more else 0
        assert closed == LegClosed(call.call_id, by_caller=True, code=code, reason=wanted, cause=cause)


async def test_a_long_invite_goes_by_udp_though_somebody_takes_connections_there(tmp_path: Path) -> None:
    port, connections = free_port(), []
    taking = await asyncio.start_server(lambda reader, writer: connections.append((reader, writer)), "127.0.0.1", port)
    where = OutboundInvite(f"sip:1000@127.0.0.1:{port}", headers=(("X-Long", "a" * 1400),))
    async with taking, sip_agent(ring_and_answer) as here:
        async with Sipp(here.port, (refuse_call("486 Busy Here"),), tmp_path, port=port) as sipp:
            call = OwnCall(here, free_port(), where)
            assert await sipp.finish() == 0, sipp.output
        await until(lambda: here.seen(LegClosed))
        assert here.seen(LegClosed)[0] == LegClosed(call.call_id, by_caller=True, code=486, reason="Busy Here")
    assert len(sipp.first("INVITE").text) > 1300
    assert not connections


async def test_a_ringing_call_can_be_cancelled(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        async with Sipp(here.port, (EXPECT_INVITE, RING, EXPECT_CANCEL), tmp_path) as sipp:
            call = OwnCall(here, sipp.port)
            await until(lambda: here.seen(LegRinging))
            call.leg.hang_up(487, "No answer")
            assert await sipp.finish() == 0, sipp.output
            assert 'Reason: SIP;cause=487;text="No answer"' in sipp.first("CANCEL").text
        await until(lambda: here.seen(LegClosed))
        assert here.seen(LegClosed)[0] == LegClosed(
            call.call_id, by_caller=False, code=487, reason="Request Terminated"
        )


async def test_more_calls_than_the_library_holds_are_told_and_kill_nothing(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        nobody = free_port()
        calls = [OwnCall(here, nobody) for _ in range(here.info.capacity + 2)]
        await until(lambda: len(here.seen(LegClosed)) == 2)
        assert {event.code for event in here.seen(LegClosed)} == {503}
        for call in calls:
            call.leg.hang_up(487, "enough")
        await until(lambda: len(here.seen(LegClosed)) == len(calls), limit_s=45)
        assert not here.seen(LegFailed)


async def test_a_call_that_was_never_placed_ends_when_told(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        call_id = new_call_id(time.time_ns())
        leg = here.sip.new_call(call_id, "sip:1@127.0.0.1:9", UplinkTap(capacity_frames=1), PlayoutBuffer(PHONE))
        leg.hang_up(487, "changed our mind")
        await until(lambda: here.seen(LegClosed))
        assert told(here, call_id) == [LegClosed]


# A second leg


class Conference:
    """A caller, somebody who is called for them, and what both hear."""

    def __init__(self, here: SipAgent, tmp_path: Path, second: tuple[str, ...], caller_end: str = EXPECT_BYE) -> None:
        self.here = here
        self.caller_rtp = RtpPeer(NOISE, looped=True)
        self.second_rtp = RtpPeer(NOISE, looped=True)
        self.second_steps = tuple(step.replace("RTP_PORT", str(self.second_rtp.port)) for step in second)
        self.caller = Sipp(here.port, (invite(self.caller_rtp.port), ANSWERED, caller_end), tmp_path / "caller")
        self.second = Sipp(here.port, self.second_steps, tmp_path / "second")

    async def __aenter__(self) -> Conference:
        for part in (self.caller_rtp, self.second_rtp, self.second, self.caller):
            await part.__aenter__()
        self.caller_rtp.talk()
        self.second_rtp.talk()
        await until(lambda: self.here.seen(MediaUp))
        self.leg = self.here.legs[0]
        return self

    async def __aexit__(self, *_: object) -> None:
        for part in (self.caller, self.second, self.second_rtp, self.caller_rtp):
            await part.__aexit__(None, None, None)

    def call(self) -> None:
        self.leg.call_second(CallSecond(f"sip:human@127.0.0.1:{self.second.port}"))

    async def heard(self, peer: RtpPeer) -> float:
        """Return how loud the next half second is, in dBFS."""
        peer.reception.clear()
        await until(lambda: len(peer.reception.packets) >= 25, what="RTP")
        return rms_dbfs(peer.reception.received_pcm()[-6400:])


ANSWERS = take_call(0).replace("m=audio 0 ", "m=audio RTP_PORT ")


async def test_the_agent_briefs_the_second_leg_and_joins_it_with_the_caller(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here, Conference(here, tmp_path, (ANSWERS, EXPECT_BYE)) as parts:
        call_id = here.events[0].call_id
        parts.leg.talk_to_second()
        parts.call()
        await until(lambda: here.seen(SecondUp))
        assert here.seen(SecondUp) == [SecondUp(call_id, "PCMU/8000")]
        assert SecondRinging(call_id, 180) in here.events
        tone = max([await parts.heard(parts.caller_rtp) for _ in range(6)])
        assert -45 < tone < -15  # the waiting tone, not the agent and not the second leg
        here.uplink.read()
        here.playout.write("briefing", NOISE * 3)
        assert await parts.heard(parts.second_rtp) > -15
        await until(lambda: any(here.uplink.read()))
        parts.leg.join()
        await asyncio.sleep(0.2)
        here.playout.flush()
        here.uplink.read()
        assert await parts.heard(parts.second_rtp) > -15
        assert await parts.heard(parts.caller_rtp) > -15
        assert not any(here.uplink.read())
        parts.leg.talk_to_caller()
        await asyncio.sleep(0.2)
        assert await parts.heard(parts.second_rtp) < -60
        parts.leg.hang_up(200, "done")
        assert await parts.caller.finish() == 0, parts.caller.output
        assert await parts.second.finish() == 0, parts.second.output
        await until(lambda: here.seen(SecondClosed))
        assert here.seen(SecondClosed)[0].call_id == call_id
        assert not here.seen(LegFailed)


async def test_a_second_leg_that_is_answered_on_hold_stands_and_sounds_after_it(tmp_path: Path) -> None:
    answer = respond("200 OK", sdp(0, direction="inactive").replace("m=audio 0 ", "m=audio RTP_PORT "))
    resumed = callee_reinvite(sdp(0, version=2).replace("m=audio 0 ", "m=audio RTP_PORT "))
    steps = (EXPECT_INVITE, answer, EXPECT_ACK, pause(1000), resumed, pause(1500), CALLEE_BYE)
    async with sip_agent(ring_and_answer) as here, Conference(here, tmp_path, steps) as parts:
        parts.leg.join()
        parts.call()
        await until(lambda: here.seen(SecondUp))
        assert not here.seen(SecondClosed)
        await until(lambda: parts.second_rtp.reception.packets)
        assert await parts.heard(parts.caller_rtp) > -15
        assert await parts.second.finish() == 0, parts.second.output


@pytest.mark.parametrize("talk", [PjLeg.talk_to_second, PjLeg.join, PjLeg.talk_to_caller])
async def test_the_second_leg_may_hang_up_at_any_moment_and_the_caller_stays(tmp_path: Path, talk: object) -> None:
    steps = (ANSWERS, pause(500), CALLEE_BYE)
    async with sip_agent(ring_and_answer) as here, Conference(here, tmp_path, steps) as parts:
        talk(parts.leg)  # type: ignore[operator]
        parts.call()
        await until(lambda: here.seen(SecondClosed))
        assert await parts.second.finish() == 0, parts.second.output
        assert not here.seen(LegClosed)
        parts.leg.talk_to_caller()
        here.playout.write("back", NOISE * 2)
        assert await parts.heard(parts.caller_rtp) > -15
        here.uplink.read()
        await until(lambda: any(here.uplink.read()))
        parts.leg.hang_up(200, "done")
        assert await parts.caller.finish() == 0, parts.caller.output
        assert len(here.seen(SecondClosed)) == 1


@pytest.mark.parametrize("talk", [PjLeg.talk_to_second, PjLeg.join])
async def test_the_second_leg_ends_with_the_caller(tmp_path: Path, talk: object) -> None:
    async with (
        sip_agent(ring_and_answer) as here,
        Conference(here, tmp_path, (ANSWERS, EXPECT_BYE), pause(1500) + BYE) as parts,
    ):
        talk(parts.leg)  # type: ignore[operator]
        parts.call()
        assert await parts.caller.finish() == 0, parts.caller.output
        assert await parts.second.finish() == 0, parts.second.output
        await until(lambda: here.seen(SecondClosed) and here.seen(LegClosed))
        assert not here.seen(LegFailed)


async def test_a_ringing_second_leg_can_be_dropped(tmp_path: Path) -> None:
    steps = (EXPECT_INVITE, RING, EXPECT_CANCEL)
    async with sip_agent(ring_and_answer) as here, Conference(here, tmp_path, steps) as parts:
        parts.leg.drop_second()  # there is none yet
        parts.call()
        await until(lambda: here.seen(SecondRinging))
        parts.leg.drop_second()
        assert await parts.second.finish() == 0, parts.second.output
        await until(lambda: here.seen(SecondClosed))
        assert here.seen(SecondClosed)[0].code == 487
        parts.leg.hang_up(200, "done")
        assert await parts.caller.finish() == 0


@pytest.mark.parametrize(
    ("status", "more", "told"),
    [
        ("486 Busy Here", "", SecondClosed(CALL, 486, "Busy Here")),
        (
            "480 Temporarily Unavailable",
            "Reason: Q.850;cause=34",
            SecondClosed(CALL, 480, "Temporarily Unavailable (Q.850 34)", cause=34),
        ),
        (
            "302 Moved Temporarily",
            "Contact: <sip:2@127.0.0.9:9>;q=0.9",
            SecondClosed(CALL, 302, "Moved Temporarily", contacts=("sip:callee@127.0.0.1:PORT", "sip:2@127.0.0.9:9")),
        ),
    ],
)
async def test_a_refused_second_leg_tells_why(tmp_path: Path, status: str, more: str, told: SecondClosed) -> None:
    step = refuse_call(status, f"\n      {more}" if more else "")
    async with sip_agent(ring_and_answer) as here, Conference(here, tmp_path, (step,)) as parts:
        parts.call()
        await until(lambda: here.seen(SecondClosed))
        contacts = tuple(contact.replace("PORT", str(parts.second.port)) for contact in told.contacts)
        here_told = replace(told, call_id=here.events[0].call_id, contacts=contacts)
        assert [_plain(event) for event in here.seen(SecondClosed)] == [here_told]
        assert await parts.second.finish() == 0, parts.second.output
        parts.leg.hang_up(200, "done")
        assert await parts.caller.finish() == 0


async def test_a_second_leg_that_cannot_be_placed_is_over_at_once(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        nobody = free_port()
        others = [OwnCall(here, nobody) for _ in range(here.info.capacity - 1)]
        async with Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as sipp:
            await until(lambda: here.seen(MediaUp))
            leg = here.legs[0]
            leg.call_second(CallSecond("+49301234"))
            await until(lambda: len(here.seen(SecondClosed)) == 1)
            leg.call_second(CallSecond(f"sip:human@127.0.0.1:{nobody}"))
            await until(lambda: len(here.seen(SecondClosed)) == 2)
            assert {event.code for event in here.seen(SecondClosed)} == {503}
            leg.hang_up(200, "done")
            assert await sipp.finish() == 0, sipp.output
        for call in others:
            call.leg.hang_up(487, "enough")
        assert not here.seen(LegFailed)


async def test_keys_of_the_second_leg_are_told_apart(tmp_path: Path) -> None:
    steps = (ANSWERS, callee_info("application/dtmf-relay", "Signal=1\nDuration=160\n"), EXPECT_BYE)
    async with sip_agent(ring_and_answer) as here, Conference(here, tmp_path, steps) as parts:
        parts.call()
        await until(lambda: here.seen(SecondDigit))
        assert here.seen(SecondDigit) == [SecondDigit(here.events[0].call_id, "1")]
        parts.leg.hang_up(200, "done")
        assert await parts.caller.finish() == 0
        assert await parts.second.finish() == 0, parts.second.output
