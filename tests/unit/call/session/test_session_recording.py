"""The recording of a call: when it runs, what the agent may do with it, and where its file is in the record."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gateway.call.builtin_tools import RecordingAsked
from gateway.call.events import AgentFailed, AnnouncementFailed, AnnouncementSaid, LegClosed, MediaUp, Noted, Routed
from gateway.call.outcome import EndReason
from gateway.call.ports import AgentSetup
from gateway.call.session.session import CLOSE_LIMIT_S, QUIET_POLL_S, QUIET_S, CallSession
from gateway.errors import AgentLost
from tests.fakes.stage import CALL, ROUTED, Stage, settle

pytestmark = pytest.mark.unit

BYE = LegClosed(CALL, by_caller=True, code=200, reason="OK")
ON, OFF = RecordingAsked(CALL, "call_1", on=True), RecordingAsked(CALL, "call_2", on=False)


@pytest.fixture
def routed() -> Routed:
    return replace(ROUTED, recording=True)


async def hang_up(stage: Stage) -> None:
    stage.session.post(BYE)
    await stage.end()


async def test_a_recording_runs_from_the_answer_and_its_path_is_in_the_ended_record(stage: Stage) -> None:
    await stage.answer()
    assert stage.recorder.orders == []
    await stage.post(MediaUp(CALL, "PCMU/8000"))
    assert stage.recorder.orders == ["start"]
    await hang_up(stage)
    assert stage.recorder.orders == ["start", "close"]
    assert stage.store.fields_of("recording_saved") == {"recording": "recordings/call.wav", "seconds": 12.5}
    assert stage.store.events()[-2:] == ["recording_saved", "ended"]
    assert stage.store.record()["recording"] == "recordings/call.wav"


async def test_the_agent_pauses_and_resumes_the_recording(stage: Stage) -> None:
    await stage.talk()
    await stage.post(OFF, OFF, ON)
    assert stage.recorder.orders == ["start", "pause", "start"]
    answers = [("call_2", "The recording is paused.", True), ("call_1", "The recording runs.", True)]
    assert stage.agent.answers == answers
    assert stage.store.fields_of("recording_asked") == {"tool_call_id": "call_1", "on": True}
    await hang_up(stage)


@pytest.mark.parametrize("heard", [True, False])
async def test_whether_the_announcement_was_heard_stands_in_the_record(heard: bool) -> None:
    stage = Stage(replace(ROUTED, recording=True, announces=True))
    await stage.talk()
    assert (stage.agent.announcements, stage.agent.greeted) == (1, 0)
    assert stage.store.record()["announcement"] == "not_heard"
    stage.agent.emit(AnnouncementSaid(CALL) if heard else AnnouncementFailed(CALL, "server_error"))
    await settle()
    stage.clock.advance(QUIET_S + 2 * QUIET_POLL_S)
    await settle()
    assert stage.agent.greeted == 1
    assert stage.recorder.orders == (["start"] if heard else [])
    await hang_up(stage)
    record = stage.store.record()
    assert record["announcement"] == ("heard" if heard else "not_heard")
    assert ("recording" in record) is heard
    assert stage.store.fields_of("ended")["announcement"] == record["announcement"]
    if not heard:
        assert stage.store.fields_of("recording_withheld") == {"detail": "server_error"}


async def test_a_recording_that_fails_does_not_hurt_the_call(stage: Stage) -> None:
    await stage.talk()
    stage.recorder.fail("disk full")
    await settle()
    await stage.post(ON)
    assert stage.agent.answers == [("call_1", "Error: this call cannot be recorded.", True)]
    assert stage.recorder.orders == ["start"]
    assert stage.store.fields_of("recording_failed") == {"detail": "disk full"}
    await hang_up(stage)
    assert stage.store.record()["end_reason"] == "caller_hung_up"


async def test_without_a_recorder_nothing_is_recorded_and_the_agent_is_told(stage: Stage) -> None:
    stage.session = CallSession(
        call_id=CALL,
        leg=stage.leg,
        playout=stage.playout,
        store=stage.store,
        clock=stage.clock,
        begins=AgentSetup(stage.agent, replace(ROUTED, recording=True), stage.tools),
        first_fields={},
    )
    await stage.talk()
    await stage.post(ON)
    assert stage.agent.answers == [("call_1", "Error: this call cannot be recorded.", True)]
    await hang_up(stage)
    assert stage.recorder.orders == []
    await stage.recorder.close()


async def test_what_comes_while_the_call_is_closed_is_written_before_its_end(stage: Stage) -> None:
    await stage.talk()
    stage.recorder.close_gate = asyncio.Event()
    stage.session.post(BYE)
    await settle()
    assert stage.task is not None
    assert not stage.task.done()
    assert stage.store.record()["state"] == "active"
    stage.session.post(Noted(CALL, "quality", {"mos": 4.0}))
    stage.recorder.close_gate.set()
    await stage.end()
    assert stage.store.events()[-3:] == ["quality", "recording_saved", "ended"]
    assert stage.store.record()["mos"] == 4.0


async def test_a_recording_that_cannot_be_completed_in_time_is_abandoned(stage: Stage) -> None:
    await stage.talk()
    stage.recorder.close_gate = asyncio.Event()
    with capture_logs() as logs:
        stage.session.post(BYE)
        await settle()
        stage.clock.advance(CLOSE_LIMIT_S)
        assert (await stage.end()).reason is EndReason.CALLER_HUNG_UP
        await settle()
    assert [entry["event"] for entry in logs] == ["not_closed"]
    assert "recording" not in stage.store.record()


async def test_a_recorder_that_fails_to_close_is_logged_and_the_agent_is_closed_all_the_same(stage: Stage) -> None:
    await stage.talk()
    stage.recorder.close_raises = OSError("disk")
    with capture_logs() as logs:
        await hang_up(stage)
    assert [entry["event"] for entry in logs] == ["close_failed"]
    assert stage.agent.closed


async def test_a_call_that_never_came_up_closes_its_recorder_and_has_no_recording(stage: Stage) -> None:
    await stage.ring()
    stage.leg.obedient = True
    stage.agent.fail(AgentLost("reset"))
    await stage.end()
    assert stage.recorder.orders == ["close"]
    assert "recording" not in stage.store.record()


async def test_a_cancelled_call_still_has_its_recording_in_the_record(stage: Stage) -> None:
    await stage.talk()
    assert stage.task is not None
    stage.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stage.end()
    assert stage.store.record()["recording"] == "recordings/call.wav"
    assert stage.store.record()["end_reason"] == "shutdown"


async def test_an_agent_that_is_lost_leaves_the_recording_complete(stage: Stage) -> None:
    await stage.talk()
    stage.leg.obedient = True
    stage.session.post(AgentFailed(CALL, AgentLost("reset")))
    await stage.end()
    assert stage.store.events()[-3:] == ["ending", "recording_saved", "ended"]
