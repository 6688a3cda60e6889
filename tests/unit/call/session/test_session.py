from __future__ import annotations

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from gateway.audio.played import PlayoutPosition
from gateway.call import actions
from gateway.call.actions import CallAction
from gateway.call.events import (
    AgentClosed,
    AgentSpoke,
    CallerSpoke,
    LegClosed,
    LegFailed,
    MediaLost,
    MediaUp,
    SpeechStarted,
    SpeechStopped,
    StopAsked,
)
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Outcome, Side
from gateway.errors import AgentLost, AgentRefused
from tests.fakes.stage import CALL, Stage, settle

pytestmark = pytest.mark.unit

CANCEL = LegClosed(CALL, by_caller=True, code=487, reason="Request Terminated")
BYE = LegClosed(CALL, by_caller=True, code=200, reason="OK")


async def test_a_call_is_rung_answered_greeted_and_written_down(stage: Stage) -> None:
    await stage.ring()
    assert stage.leg.orders == [("ring",)]
    assert (stage.agent.opens, stage.store.record()["state"]) == (1, "ringing")
    stage.clock.advance(0.4)
    stage.agent.ready("sess_9")
    await settle()
    assert stage.leg.orders == [("ring",), ("answer",)]
    assert (stage.agent.greeted, stage.store.record()["state"]) == (0, "answering")
    stage.clock.advance(0.1)
    stage.session.post(MediaUp(CALL, "PCMA/8000"))
    await settle()
    assert stage.agent.greeted == 1
    stage.playout.first_frame_at = stage.clock.monotonic() + 0.25
    stage.clock.advance(10)
    stage.session.post(BYE)
    outcome = await stage.end()
    assert outcome == stage.session.outcome == Outcome(EndReason.CALLER_HUNG_UP, "200 OK", 200)
    assert stage.leg.hung_up is None
    assert stage.agent.closed
    assert stage.store.events() == ["routing", "ringing", "answering", "active", "ended"]
    start = 1_700_000_000.0
    assert stage.store.record() == {
        "from_uri": "sip:alice@192.0.2.1",
        "route": "hello",
        "worker": "w1",
        "state": "ended",
        "created_at": start,
        "ringing_at": start,
        "upstream_session_id": "sess_9",
        "answered_at": start + 0.5,
        "codec": "PCMA/8000",
        "setup_ms": 500,
        "first_audio_ms": 250,
        "talk_ms": 10_000,
        "ended_at": start + 10.5,
        "end_reason": "caller_hung_up",
        "end_detail": "200 OK",
        "ended_by": "caller",
        "fault": "nobody",
        "sip_code": 200,
    }


async def test_caller_hanging_up_while_ringing_closes_the_agent(stage: Stage) -> None:
    await stage.ring()
    stage.session.post(CANCEL)
    assert (await stage.end()).reason is EndReason.CALLER_CANCELLED
    assert stage.agent.closed
    assert stage.leg.orders == [("ring",)]
    assert stage.store.record()["sip_code"] == 487


async def test_caller_hanging_up_just_as_the_agent_is_ready_is_not_talked_to(stage: Stage) -> None:
    await stage.ring()
    stage.agent.ready()
    stage.session.post(CANCEL)
    assert (await stage.end()).reason is EndReason.CALLER_CANCELLED
    assert stage.agent.greeted == 0


async def test_a_refused_agent_refuses_the_caller(stage: Stage) -> None:
    await stage.ring()
    stage.agent.fail(AgentRefused("invalid key", code="invalid_api_key"))
    await settle()
    assert stage.leg.orders == [("ring",), ("hang_up", 503, "Agent refused")]
    assert stage.store.record()["state"] == "ending"
    stage.session.post(LegClosed(CALL, by_caller=False, code=503, reason="Agent refused"))
    outcome = await stage.end()
    assert outcome == Outcome(EndReason.AGENT_REFUSED, "invalid key", 503)
    assert outcome.ended_by is Side.AGENT
    assert stage.store.record()["sip_code"] == 503


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (lambda stage: stage.agent.emit(AgentClosed(CALL, 1000, "done")), EndReason.AGENT_CLOSED),
        (lambda stage: stage.agent.fail(AgentLost("reset")), EndReason.AGENT_LOST),
        (lambda stage: stage.session.post(StopAsked(CALL, "drain limit")), EndReason.SHUTDOWN),
        (lambda stage: stage.session.post(MediaLost(CALL, 30)), EndReason.NO_RTP),
        (lambda stage: stage.session.post(LegFailed(CALL, "callback raised")), EndReason.SIP_ERROR),
    ],
)
async def test_what_ends_a_talk_sends_bye_and_closes_the_agent(
    stage: Stage, cause: Callable[[Stage], None], reason: EndReason
) -> None:
    await stage.talk()
    stage.leg.obedient = True
    cause(stage)
    assert (await stage.end()).reason is reason
    assert stage.leg.hung_up is not None
    assert stage.agent.closed
    assert stage.store.record()["sip_code"] == 200
    assert stage.store.events()[-2:] == ["ending", "ended"]


async def test_an_agent_that_takes_too_long_costs_the_caller_a_refusal(stage: Stage) -> None:
    await stage.ring()
    stage.clock.advance(7.9)
    await settle()
    assert stage.leg.hung_up is None
    stage.leg.obedient = True
    stage.clock.advance(0.2)
    assert (await stage.end()).reason is EndReason.SETUP_TIMEOUT
    assert stage.leg.hung_up == 503


async def test_media_that_never_comes_up_ends_at_the_set_up_limit_too(stage: Stage) -> None:
    await stage.answer()
    stage.leg.obedient = True
    stage.clock.advance(8)
    assert (await stage.end()).reason is EndReason.SETUP_TIMEOUT


async def test_a_leg_that_does_not_close_is_waited_for_only_so_long(stage: Stage) -> None:
    await stage.talk()
    stage.session.post(StopAsked(CALL, "second signal"))
    await settle()
    assert stage.session.phase is Phase.ENDING
    assert stage.agent.closed
    stage.clock.advance(5)
    assert (await stage.end()).reason is EndReason.SHUTDOWN
    assert stage.store.record()["sip_code"] == 200


async def test_barge_in_is_stamped_with_what_the_caller_really_heard(stage: Stage) -> None:
    await stage.talk()
    stage.playout.playing = PlayoutPosition("item_7", 1340)
    stage.agent.emit(SpeechStarted(CALL))
    await settle()
    assert stage.playout.flushes == 1
    assert stage.agent.truncated == [("item_7", 1340)]
    assert stage.store.fields_of("speech_started") == {"item_id": "item_7", "played_ms": 1340}
    stage.agent.emit(SpeechStarted(CALL, at=PlayoutPosition("made up", 1)))
    await settle()
    assert stage.agent.truncated == [("item_7", 1340)]
    assert stage.store.fields_of("speech_started") == {}
    stage.session.post(BYE)
    await stage.end()


async def test_orders_are_carried_out_in_the_order_given(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.talk()
    flushed_before: list[int] = []
    monkeypatch.setattr(stage.agent, "truncate", lambda *_: flushed_before.append(stage.playout.flushes))
    stage.playout.playing = PlayoutPosition("item_7", 20)
    stage.agent.emit(SpeechStarted(CALL))
    stage.session.post(BYE)
    await stage.end()
    assert flushed_before == [1]


async def test_what_was_said_stands_in_the_history(stage: Stage) -> None:
    await stage.talk()
    stage.playout.first_frame_at = stage.clock.monotonic() + 0.3
    stage.agent.emit(AgentSpoke(CALL, "item_1", "Hello, how can I help?"))
    stage.agent.emit(SpeechStopped(CALL))
    stage.agent.emit(CallerSpoke(CALL, "item_2", "What time is it?"))
    stage.session.post(MediaUp(CALL, "PCMA/8000"))
    stage.session.post(BYE)
    await stage.end()
    assert stage.store.events()[4:] == ["agent_spoke", "speech_stopped", "caller_spoke", "media_up", "ended"]
    said = {"item_id": "item_1", "text": "Hello, how can I help?", "first_audio_ms": 300}
    assert stage.store.fields_of("agent_spoke") == said
    assert stage.store.fields_of("caller_spoke") == {"item_id": "item_2", "text": "What time is it?"}
    assert stage.store.record()["codec"] == "PCMA/8000"


async def test_an_event_that_cannot_happen_is_counted_and_the_call_goes_on(stage: Stage) -> None:
    await stage.ring()
    with capture_logs() as logs:
        stage.session.post(MediaUp(CALL, "PCMU/8000"))
        await settle()
    assert stage.session.illegal_events == 1
    assert logs == [
        {
            "event": "illegal_event",
            "log_level": "warning",
            "call_id": CALL,
            "phase": "ringing",
            "illegal": "MediaUp",
        }
    ]
    assert stage.session.phase is Phase.RINGING
    stage.session.post(CANCEL)
    await stage.end()


async def test_every_order_of_the_machine_can_be_carried_out(stage: Stage) -> None:
    known = {kind for kind in vars(actions).values() if isinstance(kind, type) and issubclass(kind, CallAction)}
    assert set(stage.session._orders) == known - {CallAction}
    await stage.ring()
    stage.session.post(CANCEL)
    await stage.end()
