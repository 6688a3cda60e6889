"""What a telephone does to a call, as the session carries it out: hold, keys, a second leg, a voicemail, calls out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.audio.played import PlayoutPosition
from gateway.call.actions import CallSecond
from gateway.call.builtin_tools import LeaveMessageAsked, TransferAsked
from gateway.call.events import (
    AgentSpoke,
    CallerSpoke,
    DigitPressed,
    Keypad,
    LegClosed,
    LegHeld,
    LegResumed,
    LegRinging,
    MediaUp,
    Noted,
    Routed,
    SecondClosed,
    SecondDigit,
    SecondRinging,
    SecondUp,
    SpeechStarted,
    ToolAsked,
)
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason
from tests.fakes.stage import CALL, ROUTED, Stage, settle

pytestmark = pytest.mark.unit

DESK = "sip:desk@192.0.2.7"
BYE = LegClosed(CALL, by_caller=True, code=200, reason="OK")
WARM = TransferAsked(CALL, "call_1", DESK, warm=True, summary="Order 7.")


async def hang_up(stage: Stage) -> None:
    stage.session.post(BYE)
    await stage.end()


async def test_hold_mutes_the_caller_and_holds_what_is_said_until_it_ends(stage: Stage) -> None:
    await stage.talk()
    await stage.post(LegHeld(CALL))
    assert (stage.agent.muted, stage.playout.held) == (True, True)
    stage.playout.playing = PlayoutPosition("item_1", 100)
    await stage.post(SpeechStarted(CALL))
    assert stage.playout.flushes == 0
    await stage.post(LegResumed(CALL))
    assert (stage.agent.muted, stage.playout.held) == (False, False)
    assert stage.store.events()[-3:] == ["held", "speech_started", "resumed"]
    await hang_up(stage)


async def test_a_caller_who_keeps_us_on_hold_is_hung_up_on() -> None:
    stage = Stage(replace(ROUTED, hold_limit_s=60))
    await stage.talk()
    stage.leg.obedient = True
    await stage.post(LegHeld(CALL))
    stage.clock.advance(59)
    await settle()
    assert stage.session.phase is Phase.ACTIVE
    stage.clock.advance(1)
    assert (await stage.end()).reason is EndReason.HELD_TOO_LONG


async def test_a_key_cuts_the_agent_off_where_the_caller_really_was(stage: Stage) -> None:
    await stage.talk()
    stage.playout.playing = PlayoutPosition("item_7", 1340)
    await stage.post(DigitPressed(CALL, "4", at=PlayoutPosition("made up", 1)))
    assert (stage.agent.cancels, stage.agent.truncated, stage.playout.flushes) == (1, [("item_7", 1340)], 1)
    await stage.post(DigitPressed(CALL, "#"))
    assert stage.agent.told == [("The caller pressed: 4 #", True)]
    assert stage.store.fields_of("digit_pressed") == {"digit": "#"}
    await hang_up(stage)


async def test_digits_are_told_after_the_routes_pause(stage: Stage) -> None:
    await stage.talk()
    for digit in "12":
        await stage.post(DigitPressed(CALL, digit))
        stage.clock.advance(1.4)
    await settle()
    assert stage.agent.told == []
    stage.clock.advance(0.2)
    await settle()
    assert stage.agent.told == [("The caller pressed: 1 2", True)]
    await hang_up(stage)


class TestMasked:
    @pytest.fixture
    def routed(self) -> Routed:
        return replace(ROUTED, keypad=Keypad(masked=True))

    async def test_keys_stand_nowhere_in_what_is_written(
        self, stage: Stage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await stage.talk()
        for digit in "41112222#":
            await stage.post(DigitPressed(CALL, digit))
        assert stage.agent.told == [("The caller pressed: 4 1 1 1 2 2 2 2 #", True)]
        stage.playout.play("item_1", 500, of_ms=500, first_at=stage.clock.monotonic())
        await stage.post(
            AgentSpoke(CALL, "item_1", "You entered 4111 2222."),
            CallerSpoke(CALL, "item_2", "Yes, 41112222, and 12 of them."),
            ToolAsked(CALL, "call_1", "pay", '{"card": "41112222"}'),
        )
        stage.tools.finish("call_1", "pay", "41112222 was charged")
        await settle()
        stage.playout.play_out()
        await settle()
        await hang_up(stage)
        assert stage.store.events().count("digit_pressed") == 9
        assert stage.store.fields_of("digit_pressed") == {"digit": "*"}
        assert stage.store.fields_of("agent_heard")["text"] == "You entered **** ****."
        assert stage.store.fields_of("caller_spoke")["text"] == "Yes, ********, and 12 of them."
        written = str(stage.store.notes) + capsys.readouterr().out
        assert "1112222" not in written.replace(" ", "")


async def test_a_warm_transfer_from_the_wish_to_the_end(stage: Stage) -> None:
    await stage.talk()
    await stage.post(WARM)
    stage.clock.advance(0.3)
    await settle()
    assert stage.leg.orders[-1:] == [("call_second", CallSecond(DESK))]
    assert stage.playout.filling
    stage.playout.play("item_1", 300, of_ms=900, first_at=stage.clock.monotonic())
    await stage.post(SecondRinging(CALL, 180), SecondUp(CALL, "PCMA/8000"))
    assert stage.leg.orders[-1:] == [("talk_to_second",)]
    assert stage.agent.truncated == [("item_1", 300)]
    assert not stage.playout.filling
    assert DESK in stage.agent.told[0][0]
    await stage.post(CallerSpoke(CALL, "item_3", "Put them through."))
    assert stage.store.fields_of("caller_spoke")["with"] == "second"
    await stage.post(SecondDigit(CALL, "1"))
    assert stage.leg.orders[-1] == ("join",)
    assert stage.session.phase is Phase.JOINED
    assert stage.agent.closed
    assert stage.recorder.orders == [], "the recording goes on until the call ends"
    stage.leg.obedient = True
    stage.session.post(SecondClosed(CALL, 200, "OK"))
    outcome = await stage.end()
    assert (outcome.reason, outcome.detail) == (EndReason.TRANSFERRED, DESK)
    assert stage.leg.hung_up == 200
    record = stage.store.record()
    assert (record["end_reason"], record["codec"], record["second_codec"]) == ("transferred", "PCMU/8000", "PCMA/8000")
    told = ["transfer_asked", "second_ringing", "second_up", "caller_spoke", "joined", "ending", "ended"]
    assert [event for event in stage.store.events() if event in told] == told


async def test_what_was_said_to_the_second_leg_is_told_apart(stage: Stage) -> None:
    await stage.talk()
    await stage.post(WARM)
    stage.clock.advance(0.3)
    await settle()
    stage.playout.play("item_1", 1000, of_ms=2000, first_at=stage.clock.monotonic())
    await stage.post(AgentSpoke(CALL, "item_1", "One moment"), SecondUp(CALL, "PCMA/8000"))
    assert "with" not in stage.store.fields_of("agent_heard")
    stage.playout.play("item_2", 1000, of_ms=2000, first_at=stage.clock.monotonic())
    await stage.post(AgentSpoke(CALL, "item_2", "Hello desk"), SecondDigit(CALL, "2"))
    heard = {"item_id": "item_2", "text": "Hello", "played_ms": 1000, "cut": True, "with": "second"}
    assert stage.store.fields_of("agent_heard").items() >= heard.items()
    assert stage.leg.orders[-2:] == [("talk_to_caller",), ("drop_second",)]
    await stage.post(CallerSpoke(CALL, "item_3", "Hello?"))
    assert "with" not in stage.store.fields_of("caller_spoke")
    await hang_up(stage)


async def test_a_caller_who_hangs_up_takes_the_second_leg_with_them(stage: Stage) -> None:
    await stage.talk()
    await stage.post(WARM)
    stage.clock.advance(0.3)
    await settle()
    await hang_up(stage)
    assert stage.leg.orders[-1] == ("drop_second",)


async def test_a_message_is_left_in_a_voicemail(stage: Stage) -> None:
    await stage.talk()
    stage.leg.obedient = True
    stage.agent.responding = True
    await stage.post(LeaveMessageAsked(CALL, "call_1"))
    assert stage.agent.muted
    stage.clock.advance(30)
    await settle()
    assert stage.session.phase is Phase.ACTIVE
    stage.agent.responding = False
    stage.clock.advance(0.3)
    assert (await stage.end()).reason is EndReason.MESSAGE_LEFT


class TestOutbound:
    @pytest.fixture
    def routed(self) -> Routed:
        return replace(ROUTED, outbound=True)

    async def test_a_call_is_placed_answered_greeted_and_written_down(self, stage: Stage) -> None:
        await stage.prepare()
        assert stage.leg.orders == []
        stage.clock.advance(0.4)
        stage.agent.ready("sess_9")
        await settle()
        assert stage.leg.orders == [("dial",)]
        stage.clock.advance(0.2)
        await stage.post(LegRinging(CALL, 180))
        stage.clock.advance(5)
        await stage.post(LegRinging(CALL, 183))
        assert stage.agent.greeted == 0
        await stage.post(MediaUp(CALL, "PCMA/8000"))
        assert stage.agent.greeted == 1
        stage.clock.advance(1)
        await hang_up(stage)
        assert stage.store.events()[:4] == ["routing", "preparing", "dialing", "leg_ringing"]
        record, start = stage.store.record(), 1_700_000_000.0
        assert (record["ringing_at"], record["answered_at"]) == (start + 0.6, start + 5.6)
        assert (record["upstream_session_id"], record["setup_ms"], record["sip_code"]) == ("sess_9", 5600, 200)

    async def test_a_busy_far_end_stands_in_the_record(self, stage: Stage) -> None:
        await stage.dial()
        stage.session.post(LegClosed(CALL, by_caller=True, code=486, reason="Busy Here"))
        assert (await stage.end()).reason is EndReason.BUSY
        record = stage.store.record()
        assert (record["end_reason"], record["end_detail"], record["sip_code"]) == ("busy", "486 Busy Here", 486)
        assert (record["ended_by"], stage.agent.greeted) == ("caller", 0)

    async def test_a_far_end_that_does_not_answer_is_given_up(self, stage: Stage) -> None:
        await stage.dial()
        stage.clock.advance(45)
        await settle()
        assert stage.leg.orders[-1] == ("hang_up", 487, "No answer")
        stage.session.post(LegClosed(CALL, by_caller=False, code=487, reason="Request Terminated"))
        assert (await stage.end()).reason is EndReason.NO_ANSWER
        assert stage.store.record()["sip_code"] == 487


async def test_the_quality_of_a_call_stands_in_its_record(stage: Stage) -> None:
    await stage.talk()
    await stage.post(Noted(CALL, "quality", {"mos": 4.2, "rx_packets": 500}))
    stage.session.post(Noted(CALL, "quality", {"mos": 4.1, "rx_packets": 900}))
    await hang_up(stage)
    record = stage.store.record()
    assert (record["mos"], record["rx_packets"]) == (4.1, 900)
    assert stage.store.events().count("quality") == 2
