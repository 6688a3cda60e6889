"""A session's ear for the caller, and its rest while the caller is muted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.audio.g711 import alaw_to_pcm, ulaw_to_pcm
from gateway.dialplan.model.agent import AgentProfile, TurnDetection
from gateway.upstream.realtime.config import session_config
from gateway.upstream.realtime.turn_detection import CLEAR_EVERY_MS, TurnDetectionState
from gateway.upstream.realtime.wire.client import ClientEvent
from gateway.upstream.realtime.wire.codec import encode
from gateway.upstream.realtime.wire.objects import EchoedSession

pytestmark = pytest.mark.unit

RESTING = EchoedSession.model_validate({"audio": {"input": {"turn_detection": None}}})
DETECTING = EchoedSession.model_validate({"audio": {"input": {"turn_detection": {"type": "server_vad"}}}})


def new_listening(**profile: Any) -> TurnDetectionState:
    return TurnDetectionState(session_config(AgentProfile.model_validate({"instructions": "x"} | profile)), None)


def wire(events: tuple[ClientEvent, ...]) -> list[dict[str, Any]]:
    return [json.loads(encode(event)) for event in events]


@pytest.mark.parametrize("interrupts", [True, False])
def test_whether_the_service_interrupts_is_as_it_says(*, interrupts: bool) -> None:
    listening = new_listening()
    echo = {"audio": {"input": {"turn_detection": {"interrupt_response": interrupts}}}}

    listening.confirmed(EchoedSession.model_validate(echo))
    listening.confirmed(EchoedSession())

    assert listening.server_interrupts is interrupts
    assert listening.interrupts


def test_an_echo_that_leaves_turn_detection_out_drops_no_turn() -> None:
    listening = new_listening()
    listening.speech_started()

    assert not listening.updated(EchoedSession.model_validate({"audio": {"input": {}}}))
    assert listening.caller_speaks
    assert listening.updated(EchoedSession.model_validate({"audio": {"input": {"turn_detection": None}}}))


def test_muting_rests_turn_detection_alone_and_forgets_the_open_turn() -> None:
    listening = new_listening()
    assert listening.speech_started()

    update, clear = wire(listening.mute())

    assert update["type"] == "session.update"
    assert update["session"] == {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
    assert clear["type"] == "input_audio_buffer.clear"
    assert update["event_id"] != clear["event_id"]
    assert not listening.caller_speaks


@pytest.mark.parametrize(
    "turns",
    [
        TurnDetection(
            threshold=0.7, prefix_padding_ms=200, silence_duration_ms=900, idle_timeout_ms=8000, guard_ms=300
        ),
        TurnDetection(kind="semantic_vad", eagerness="low", interrupt_response=False),
    ],
)
def test_unmuting_brings_back_the_detection_that_was_asked_for_with_all_its_fields(turns: TurnDetection) -> None:
    config = session_config(AgentProfile(instructions="x", turn_detection=turns))
    asked = json.loads(config.model_dump_json(exclude_unset=True))["audio"]["input"]["turn_detection"]
    listening = TurnDetectionState(config, None)
    listening.mute()

    clear, update = wire(listening.unmute())

    assert clear["type"] == "input_audio_buffer.clear", "first: silence from before is no part of the next turn"
    assert update["session"] == {"type": "realtime", "audio": {"input": {"turn_detection": asked}}}


def test_muting_and_unmuting_twice_send_nothing_the_second_time() -> None:
    listening = new_listening()
    assert listening.unmute() == ()
    assert len(listening.mute()) == 2
    assert listening.mute() == ()
    assert len(listening.unmute()) == 2
    assert listening.unmute() == ()


def test_speech_that_is_told_late_is_of_no_concern() -> None:
    listening = new_listening()
    listening.mute()

    assert not listening.speech_started()
    assert not listening.caller_speaks
    assert not listening.speech_stopped()
    assert not listening.updated(RESTING)

    listening.unmute()
    assert listening.speech_started()
    assert listening.speech_stopped()


def test_a_turn_that_lost_its_detection_is_over() -> None:
    listening = new_listening()
    listening.mute()
    listening.unmute()
    listening.speech_started()  # from before the rest, told after it

    assert listening.updated(RESTING)
    assert not listening.caller_speaks
    assert not listening.updated(DETECTING)


@pytest.mark.parametrize("echo", [DETECTING, EchoedSession(), EchoedSession.model_validate({"audio": {}})])
def test_an_open_turn_goes_on_where_detection_does(echo: EchoedSession) -> None:
    listening = new_listening()
    listening.speech_started()

    assert not listening.updated(echo)
    assert listening.caller_speaks


def test_a_change_that_was_refused_is_asked_for_once_more() -> None:
    listening = new_listening()
    [muting, _] = wire(listening.mute())
    [_, update] = wire(listening.unmute())
    assert listening.refused(muting["event_id"]) == (), "it does not stand any more"
    assert listening.refused(None) == listening.refused("respond-1") == ()

    [again] = wire(listening.refused(update["event_id"]))

    assert again["session"] == update["session"]
    assert again["event_id"] != update["event_id"]
    assert listening.refused(again["event_id"]) == ()


@pytest.mark.parametrize(("audio_format", "bytes_per_ms"), [("pcm", 48), ("pcmu", 8), ("pcma", 8)])
def test_silence_is_silent_in_each_format_and_does_not_pile_up_with_the_service(
    audio_format: str, bytes_per_ms: int
) -> None:
    decoders: dict[str, Callable[[bytes], bytes]] = {"pcm": bytes, "pcmu": ulaw_to_pcm, "pcma": alaw_to_pcm}
    decode = decoders[audio_format]
    listening = new_listening(audio_format=audio_format)
    listening.mute()
    second = 1000 * bytes_per_ms
    cleared = []

    for number in range(1, 151):
        silence, more = listening.silence(second)
        assert len(silence) == second
        pcm = decode(silence)
        assert max(abs(int.from_bytes(pcm[at : at + 2], "little", signed=True)) for at in range(0, 200, 2)) <= 8
        if more:
            assert [event["type"] for event in wire(more)] == ["input_audio_buffer.clear"]
            cleared.append(number * 1000)

    assert cleared == [CLEAR_EVERY_MS, 2 * CLEAR_EVERY_MS]
