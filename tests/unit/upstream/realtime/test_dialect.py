"""A session over the Realtime API, told by its messages alone."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.audio.pcm import MODEL
from gateway.call.events import AgentFailed, AgentReady, AgentSpoke, CallerSpoke, Noted, SpeechStarted, SpeechStopped
from gateway.dialplan.model.agent import AgentProfile, TurnDetection
from gateway.errors import AgentError, AgentLost, AgentRefused
from gateway.ids import CallId
from gateway.upstream.core.dialect import AgentAudio, AgentAudioDone, Alarm, Send, SessionBegan, UpstreamEvent
from gateway.upstream.core.owed import MAX_ENDED_RESPONSES
from gateway.upstream.realtime.config import session_config
from gateway.upstream.realtime.dialect import RealtimeDialect
from gateway.upstream.realtime.received_audio import MAX_ITEMS
from tests.fakes.orders import greet

pytestmark = pytest.mark.unit

Json = dict[str, Any]

CALL = CallId("call-1")
SPEECH_100_MS = bytes(MODEL.bytes_of(100))


def new_dialect(*, interrupt_response: bool = True) -> RealtimeDialect:
    turns = TurnDetection(interrupt_response=interrupt_response)
    return RealtimeDialect(CALL, session_config(AgentProfile(instructions="Be brief.", turn_detection=turns)))


def hear(dialect: RealtimeDialect, name: str, /, **fields: Any) -> list[UpstreamEvent]:
    """Return what a message means; when what is owed is looked at is told elsewhere."""
    facts = dialect.receive(json.dumps({"type": name, "event_id": "event_1"} | fields))
    return [fact for fact in facts if not isinstance(fact, Alarm)]


def echo_of(dialect: RealtimeDialect) -> Json:
    asked: Json = json.loads(dialect.configure()[0])["session"]
    return asked | {"id": "sess_1", "model": "gpt-realtime-2.1"}


def ready_dialect(*, interrupt_response: bool = True) -> RealtimeDialect:
    dialect = new_dialect(interrupt_response=interrupt_response)
    assert hear(dialect, "session.updated", session=echo_of(dialect)) == [AgentReady(CALL, "sess_1")]
    return dialect


def begin(dialect: RealtimeDialect, response_id: str) -> list[UpstreamEvent]:
    return hear(dialect, "response.created", response={"id": response_id, "status": "in_progress"})


def speak(dialect: RealtimeDialect, response_id: str, item_id: str, pcm: bytes = SPEECH_100_MS) -> list[UpstreamEvent]:
    delta = base64.b64encode(pcm).decode()
    return hear(dialect, "response.output_audio.delta", response_id=response_id, item_id=item_id, delta=delta)


def end_speech(dialect: RealtimeDialect, response_id: str, item_id: str) -> list[UpstreamEvent]:
    return hear(dialect, "response.output_audio.done", response_id=response_id, item_id=item_id)


def finish(
    dialect: RealtimeDialect, response_id: str, status: str = "completed", **details: Any
) -> list[UpstreamEvent]:
    if status == "completed":
        dialect._owed.moved(response_id, speech=True)  # what it said is of no concern
    response: Json = {"id": response_id, "status": status, "status_details": details or None, "output": []}
    return hear(dialect, "response.done", response=response)


def fail(dialect: RealtimeDialect, **error: Any) -> list[UpstreamEvent]:
    return hear(dialect, "error", error={"type": "invalid_request_error", "message": "No."} | error)


def error_in(facts: list[UpstreamEvent]) -> AgentError:
    assert len(facts) == 1
    assert isinstance(facts[0], AgentFailed)
    return facts[0].error


def error_free(facts: list[UpstreamEvent]) -> bool:
    return not any(isinstance(fact, AgentFailed) for fact in facts)


def sent(texts: tuple[str, ...]) -> list[Json]:
    return [json.loads(text) for text in texts]


# Readiness


def test_the_first_order_is_the_session_update_with_an_event_id() -> None:
    [update] = sent(new_dialect().configure())

    assert update["type"] == "session.update"
    assert update["event_id"]
    assert update["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}


def test_a_created_session_is_not_ready_yet() -> None:
    dialect = new_dialect()

    assert hear(dialect, "session.created", session={"id": "sess_1"}) == [SessionBegan("sess_1", None)]
    assert not dialect.ready


def test_an_echo_of_what_was_asked_makes_the_agent_ready_once() -> None:
    dialect = ready_dialect()

    assert dialect.ready
    assert hear(dialect, "session.updated", session=echo_of(dialect)) == []


def test_no_caller_audio_is_sent_before_the_session_is_ready() -> None:
    dialect = new_dialect()
    assert dialect.append(SPEECH_100_MS) == ()

    hear(dialect, "session.updated", session=echo_of(dialect))

    [append] = sent(dialect.append(SPEECH_100_MS))
    assert base64.b64decode(append["audio"]) == SPEECH_100_MS
    assert dialect.append(b"") == ()


def test_an_echo_that_differs_refuses_the_agent_and_names_the_fields() -> None:
    dialect = new_dialect()
    echo = echo_of(dialect)
    echo["audio"]["input"] |= {"format": {"type": "audio/pcmu"}, "turn_detection": None}

    error = error_in(hear(dialect, "session.updated", session=echo))

    assert isinstance(error, AgentRefused)
    assert "session.audio.input.format.type is 'audio/pcmu', asked for 'audio/pcm'" in error.detail
    assert "session.audio.input.turn_detection is null, asked for 'server_vad'" in error.detail
    assert not dialect.ready


def test_an_echo_of_the_beta_interface_is_called_that() -> None:
    dialect = new_dialect()

    error = error_in(hear(dialect, "session.updated", session={"id": "sess_1", "input_audio_format": "pcm16"}))

    assert isinstance(error, AgentRefused)
    assert "beta interface (session.input_audio_format)" in error.detail
    assert "GA interface" in error.detail


def test_another_voice_is_noted_and_taken() -> None:
    dialect = new_dialect()
    echo = echo_of(dialect)
    echo["audio"]["output"]["voice"] = "alloy"

    with capture_logs() as logs:
        ready, note = hear(dialect, "session.updated", session=echo)

    assert ready == AgentReady(CALL, "sess_1")
    assert isinstance(note, Noted)
    assert note.name == "session_differs"
    assert note.values == {"field": "session.audio.output.voice", "got": "'alloy'", "wanted": "'marin'"}
    assert [entry["log_level"] for entry in logs] == ["warning"]


@pytest.mark.parametrize("session", [{}, {"id": None}, {"expires_at": 1790000000.5, "id": "sess_1"}])
def test_a_session_need_not_be_told_of_in_full(session: Json) -> None:
    dialect = new_dialect()

    assert hear(dialect, "session.created", session=session) == [
        SessionBegan(session.get("id") or "", session.get("expires_at"))
    ]
    assert hear(dialect, "session.updated") == [AgentReady(CALL, session.get("id") or "")]


def test_a_rejected_configuration_refuses_the_agent_with_code_and_parameter() -> None:
    dialect = new_dialect()
    [update] = sent(dialect.configure())

    error = error_in(
        fail(dialect, code="unknown_parameter", param="session.audio.loudness", event_id=update["event_id"])
    )

    assert isinstance(error, AgentRefused)
    assert error.code == "unknown_parameter"
    assert "configuration" in error.detail
    assert "unknown_parameter" in error.detail
    assert "session.audio.loudness" in error.detail


def test_any_error_before_the_session_is_ready_refuses_the_agent() -> None:
    error = error_in(fail(new_dialect(), code="invalid_api_key", event_id=None))

    assert isinstance(error, AgentRefused)
    assert error.code == "invalid_api_key"


@pytest.mark.parametrize("passing", [{"type": "server_error"}, {"code": "rate_limit_exceeded"}], ids=str)
def test_trouble_that_passes_is_a_loss_and_no_refusal(passing: Json) -> None:
    assert isinstance(error_in(fail(new_dialect(), **passing)), AgentLost)


def test_nothing_is_told_after_a_failure() -> None:
    dialect = new_dialect()
    fail(dialect, code="invalid_api_key")

    assert hear(dialect, "session.updated", session=echo_of(dialect)) == []
    assert not dialect.ready


def test_secrets_in_what_the_server_says_are_taken_out() -> None:
    def redact(text: str) -> str:
        return text.replace("sk-1", "***")

    dialect = RealtimeDialect(CALL, session_config(AgentProfile(instructions="x")), redact=redact)

    assert "sk-1" not in error_in(fail(dialect, message="Incorrect API key: sk-1")).detail


# Speech of the agent


def test_speech_is_told_piece_by_piece_and_ended_once() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")

    assert speak(dialect, "resp_1", "item_a", b"\1\0") == [AgentAudio("item_a", b"\1\0", (1, 0))]
    assert speak(dialect, "resp_1", "item_a", b"\2\0") == [AgentAudio("item_a", b"\2\0", (1, 0))]
    assert end_speech(dialect, "resp_1", "item_a") == [AgentAudioDone("item_a")]
    assert finish(dialect, "resp_1") == []


def test_speech_that_a_response_leaves_open_is_ended_with_the_response() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    speak(dialect, "resp_1", "item_a")

    ended, note, *_ = finish(dialect, "resp_1", "incomplete", reason="max_output_tokens")

    assert ended == AgentAudioDone("item_a")
    assert isinstance(note, Noted)
    assert (note.name, note.values["code"]) == ("response_incomplete", "max_output_tokens")
    assert end_speech(dialect, "resp_1", "item_a") == []


def test_a_message_that_overlaps_a_function_call_keeps_its_own_state() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    call = {"id": "item_f", "type": "function_call", "name": "f", "call_id": "call_1", "arguments": ""}
    output = {"response_id": "resp_1", "item_id": "item_f", "output_index": 1, "call_id": "call_1"}

    facts = speak(dialect, "resp_1", "item_a")
    facts += hear(dialect, "response.output_item.added", response_id="resp_1", output_index=1, item=call)
    facts += hear(dialect, "response.function_call_arguments.delta", delta="{", **output)
    facts += speak(dialect, "resp_1", "item_a")
    facts += hear(dialect, "response.function_call_arguments.done", arguments="{}", name="f", **output)
    facts += end_speech(dialect, "resp_1", "item_a")
    facts += finish(dialect, "resp_1")

    audio = AgentAudio("item_a", SPEECH_100_MS, (1, 0))
    assert [fact for fact in facts if not isinstance(fact, Noted | Send)] == [audio, audio, AgentAudioDone("item_a")]
    assert dialect.cancel() == (), "none is active"


def test_a_service_that_uses_its_ids_again_is_heard_all_the_same() -> None:
    dialect = ready_dialect()
    places = []
    for response_id in ("resp_1", "resp_1", "resp_2"):
        begin(dialect, response_id)
        [audio] = speak(dialect, response_id, "item_a")
        assert isinstance(audio, AgentAudio)
        places.append(audio.place)
        [cut] = sent(dialect.truncate({"item_a": 40}))
        assert (cut["item_id"], cut["audio_end_ms"]) == ("item_a", 40)
        assert speak(dialect, response_id, "item_a") == []
        finish(dialect, response_id, "cancelled", reason="turn_detected")
        assert speak(dialect, response_id, "item_b") == []

    assert places == [(1, 0), (2, 0), (3, 0)]


def test_two_messages_of_one_response_are_counted_apart() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    speak(dialect, "resp_1", "item_a")
    speak(dialect, "resp_1", "item_b")
    speak(dialect, "resp_1", "item_b")
    end_speech(dialect, "resp_1", "item_a")

    assert dialect.truncate({"item_a": 100}) == ()
    [cut] = sent(dialect.truncate({"item_b": 5000}))
    assert (cut["item_id"], cut["audio_end_ms"]) == ("item_b", 200)


def test_transcripts_of_both_sides_are_told() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    said = {"response_id": "resp_1", "item_id": "item_a", "transcript": "Hello."}
    completed = "conversation.item.input_audio_transcription.completed"

    assert hear(dialect, "response.output_audio_transcript.done", **said) == [AgentSpoke(CALL, "item_a", "Hello.")]
    assert hear(dialect, completed, item_id="item_u", transcript="Hi.") == [CallerSpoke(CALL, "item_u", "Hi.")]
    assert hear(dialect, completed, item_id="item_u", transcript=" ") == []


def test_a_transcript_of_a_turn_that_still_goes_on_is_not_told() -> None:
    dialect = ready_dialect()
    completed = "conversation.item.input_audio_transcription.completed"

    assert hear(dialect, completed, item_id="item_u", transcript="Hello?", status="in_progress") == []
    assert hear(dialect, completed, item_id="item_u", transcript="Hello, it is me.", status="completed") == [
        CallerSpoke(CALL, "item_u", "Hello, it is me.")
    ]


def test_what_was_used_may_be_told_beside_the_response() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    response = {"id": "resp_1", "status": "completed", "usage": {}}

    facts = hear(dialect, "response.done", response=response, usage={"input_token_details": {"audio_tokens": 7}})

    [usage] = [fact for fact in facts if isinstance(fact, Noted) and fact.name == "usage"]
    assert usage.values["audio_in"] == 7


# Barge-in


def test_speech_of_the_caller_makes_the_rest_of_the_answer_stale() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    speak(dialect, "resp_1", "item_a")

    assert hear(dialect, "input_audio_buffer.speech_started", item_id="item_u") == [SpeechStarted(CALL)]

    assert speak(dialect, "resp_1", "item_a") == []
    assert speak(dialect, "resp_1", "item_b") == []
    said = {"response_id": "resp_1", "item_id": "item_a", "transcript": "Hello and so on."}
    # The session cuts it to what was heard.
    assert hear(dialect, "response.output_audio_transcript.done", **said) == [
        AgentSpoke(CALL, "item_a", "Hello and so on.")
    ]
    finish(dialect, "resp_1", "cancelled", reason="turn_detected")
    assert speak(dialect, "resp_1", "item_a") == []

    assert hear(dialect, "input_audio_buffer.speech_stopped", item_id="item_u") == [SpeechStopped(CALL)]
    begin(dialect, "resp_2")
    assert speak(dialect, "resp_2", "item_c") == [AgentAudio("item_c", SPEECH_100_MS, (2, 0))]


def test_an_answer_whose_beginning_was_not_announced_is_cut_off_too() -> None:
    dialect = ready_dialect()
    speak(dialect, "resp_1", "item_a")

    hear(dialect, "input_audio_buffer.speech_started")

    assert speak(dialect, "resp_1", "item_a") == []


def test_a_service_that_does_not_interrupt_though_it_was_asked_to_is_told_to_cancel() -> None:
    dialect = new_dialect()
    echo = echo_of(dialect)
    echo["audio"]["input"]["turn_detection"]["interrupt_response"] = False
    hear(dialect, "session.updated", session=echo)
    begin(dialect, "resp_1")

    assert hear(dialect, "input_audio_buffer.speech_started") == [SpeechStarted(CALL, interrupts=True)]
    assert [order["type"] for order in sent(dialect.cancel())] == ["response.cancel"]


def test_an_agent_that_may_not_be_interrupted_goes_on() -> None:
    dialect = ready_dialect(interrupt_response=False)
    begin(dialect, "resp_1")

    assert hear(dialect, "input_audio_buffer.speech_started") == [SpeechStarted(CALL, interrupts=False)]

    assert speak(dialect, "resp_1", "item_a") == [AgentAudio("item_a", SPEECH_100_MS, (1, 0))]


def test_truncation_is_bounded_by_the_audio_that_was_received() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    speak(dialect, "resp_1", "item_a")
    speak(dialect, "resp_1", "item_a", bytes(MODEL.bytes_of(50)))

    [cut] = sent(dialect.truncate({"item_a": 10_000}))

    assert cut.pop("event_id")
    assert cut == {
        "type": "conversation.item.truncate",
        "item_id": "item_a",
        "content_index": 0,
        "audio_end_ms": 150,
    }


def test_truncation_tells_what_was_played_of_a_cut_item_once() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    speak(dialect, "resp_1", "item_a")

    assert [cut["audio_end_ms"] for cut in sent(dialect.truncate({"item_a": 40}))] == [40]
    assert dialect.truncate({"item_a": 40}) == ()
    assert speak(dialect, "resp_1", "item_a") == []


def test_an_answer_that_is_generated_can_still_be_truncated_while_it_plays() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    speak(dialect, "resp_1", "item_a")
    end_speech(dialect, "resp_1", "item_a")
    finish(dialect, "resp_1")

    assert [cut["audio_end_ms"] for cut in sent(dialect.truncate({"item_a": 40}))] == [40]


def test_what_is_unknown_or_was_heard_in_full_is_not_truncated() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    speak(dialect, "resp_1", "item_a")
    end_speech(dialect, "resp_1", "item_a")

    assert dialect.truncate({"item_x": 40}) == ()
    assert dialect.truncate({"item_a": 100}) == ()


# Responses asked for


def test_a_greeting_is_sent_at_once_when_nothing_is_said() -> None:
    dialect = ready_dialect()

    [create] = sent(greet(dialect, "Say hello."))

    assert create["type"] == "response.create"
    assert create["response"] == {"instructions": "Say hello."}


def test_a_greeting_asked_for_too_early_waits() -> None:
    dialect = new_dialect()
    assert greet(dialect, "Say hello.") == ()
    assert hear(dialect, "session.updated", session=echo_of(dialect)) == [AgentReady(CALL, "sess_1")]

    [create] = sent(dialect.go_on())

    assert create["type"] == "response.create"


def test_a_response_asked_for_while_one_is_active_is_sent_after_it() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")
    assert greet(dialect, "first wish") == ()
    assert greet(dialect, "second wish") == ()

    [send] = finish(dialect, "resp_1")

    assert isinstance(send, Send)
    assert json.loads(send.text)["response"] == {"instructions": "second wish"}
    begin(dialect, "resp_2")
    assert finish(dialect, "resp_2") == []


def test_a_second_response_waits_though_the_first_was_not_announced_yet() -> None:
    dialect = ready_dialect()
    assert len(greet(dialect, "first")) == 1
    assert greet(dialect, "second") == ()

    assert begin(dialect, "resp_1") == []
    [send] = finish(dialect, "resp_1")

    assert isinstance(send, Send)
    assert json.loads(send.text)["response"] == {"instructions": "second"}


def test_a_response_that_lost_the_race_against_the_servers_own_is_asked_for_again() -> None:
    dialect = ready_dialect()
    [create] = sent(greet(dialect, "Say hello."))
    begin(dialect, "resp_1")
    fail(dialect, code="conversation_already_has_active_response", event_id=create["event_id"])

    [send] = finish(dialect, "resp_1")

    assert isinstance(send, Send)
    assert json.loads(send.text)["response"] == create["response"]


def test_a_refused_response_is_asked_for_again() -> None:
    dialect = ready_dialect()
    [create] = sent(greet(dialect, "Say hello."))

    [again] = [fact for fact in fail(dialect, code="invalid_value", event_id=create["event_id"]) if type(fact) is Send]

    assert json.loads(again.text)["response"] == {"instructions": "Say hello."}


def test_the_services_own_answer_that_an_error_refuses_is_asked_for_at_once() -> None:
    dialect = ready_dialect()
    hear(dialect, "input_audio_buffer.speech_started", item_id="item_u")
    hear(dialect, "input_audio_buffer.speech_stopped", item_id="item_u")

    [create] = [fact for fact in fail(dialect, type="server_error", code=None) if type(fact) is Send]

    assert json.loads(create.text)["type"] == "response.create"


def test_a_response_that_failed_without_being_announced_is_asked_for_again() -> None:
    dialect = ready_dialect()
    greet(dialect, "Say hello.")

    finish(dialect, "resp_1", "failed", error={"code": "rate_limit_exceeded"})

    [again] = [fact for fact in dialect.overdue(0) if isinstance(fact, Send)]
    assert json.loads(again.text)["response"] == {"instructions": "Say hello."}


def test_a_response_that_stops_in_the_middle_is_cancelled_once_its_speech_was_played() -> None:
    dialect = ready_dialect()
    greet(dialect, "Say hello.")
    begin(dialect, "resp_1")
    speak(dialect, "resp_1", "item_1")

    assert dialect.overdue(300) == [Alarm(0.3)]
    [cancel] = [json.loads(fact.text) for fact in dialect.overdue(10) if isinstance(fact, Send)]  # half a frame is left
    assert (cancel["type"], cancel["response_id"]) == ("response.cancel", "resp_1")


# Errors and endings


def test_an_error_in_mid_call_is_logged_once_and_the_call_goes_on() -> None:
    dialect = ready_dialect()

    with capture_logs() as logs:
        facts = [fact for _ in range(50) for fact in fail(dialect, code="invalid_value", param="audio")]
        facts += fail(dialect, code="invalid_value", param="type")

    assert [(entry["code"], entry["param"]) for entry in logs] == [
        ("invalid_value", "audio"),
        ("invalid_value", "type"),
    ]
    assert [note.values["param"] for note in facts if isinstance(note, Noted)] == ["audio", "type"]
    assert len(facts) == 2
    assert logs[0]["call_id"] == CALL
    assert dialect.ready


def test_a_failed_response_is_logged_with_its_error() -> None:
    dialect = ready_dialect()
    begin(dialect, "resp_1")

    with capture_logs() as logs:
        finish(dialect, "resp_1", "failed", error={"code": "insufficient_quota", "message": "Out of credit."})

    assert [entry["code"] for entry in logs] == ["insufficient_quota"]
    assert "Out of credit." in logs[0]["detail"]


def test_unknown_events_are_counted_and_each_type_is_logged_once() -> None:
    dialect = ready_dialect()

    with capture_logs() as logs:
        assert [fact for name in ("ping", "ping", "usage.updated") for fact in hear(dialect, name)] == []

    assert dialect.unknown_events == 3
    assert [entry["type"] for entry in logs] == ["ping", "usage.updated"]


def test_an_odd_message_is_counted_and_each_kind_is_logged_and_noted_once() -> None:
    dialect = ready_dialect()
    odd = ["pong", "pong", "{}", '{"type":"input_audio_buffer.cleared","event_id":17}'] * 2

    with capture_logs() as logs:
        facts = [fact for text in odd for fact in dialect.receive(text)]

    assert dialect.odd_messages == 8
    notes = [note.values for note in facts if isinstance(note, Noted) and note.name == "odd_message"]
    assert notes == [
        {"detail": "not JSON"},
        {"detail": "no type"},
        {
            "event_type": "input_audio_buffer.cleared",
            "place": "event_id",
            "detail": "Input should be a valid string",
        },
    ]
    assert len(facts) == len(logs) == 3


def test_what_was_odd_before_readiness_is_noted_with_it() -> None:
    dialect = new_dialect()

    assert dialect.receive("pong") == []
    ready, note = hear(dialect, "session.updated", session=echo_of(dialect))

    assert isinstance(ready, AgentReady)
    assert note == Noted(CALL, "odd_message", {"detail": "not JSON"})


def test_turns_and_responses_before_readiness_leave_nothing_behind() -> None:
    dialect = new_dialect()

    hear(dialect, "input_audio_buffer.speech_started", item_id="item_u")
    hear(dialect, "input_audio_buffer.speech_stopped", item_id="item_u")
    hear(dialect, "input_audio_buffer.committed", item_id="item_u")
    assert begin(dialect, "resp_1") == []
    assert speak(dialect, "resp_1", "item_a") == []

    assert hear(dialect, "session.updated", session=echo_of(dialect)) == [AgentReady(CALL, "sess_1")]
    assert not dialect.responding
    assert dialect.is_quiet


def test_an_error_that_says_nothing_refuses_nothing() -> None:
    dialect = new_dialect()

    assert error_free(hear(dialect, "error", error=None))
    assert hear(dialect, "session.updated", session=echo_of(dialect))[0] == AgentReady(CALL, "sess_1")


def test_an_orderly_close_of_a_working_session_is_no_error() -> None:
    assert ready_dialect().error_of_close(1000, "") is None


def test_an_orderly_close_before_the_session_is_ready_is_a_loss() -> None:
    error = new_dialect().error_of_close(1000, "")

    assert isinstance(error, AgentLost)
    assert error.close_code == 1000


@pytest.mark.parametrize(
    ("close_code", "kind"),
    [
        (3000, AgentRefused),
        (4000, AgentRefused),
        (1008, AgentRefused),
        (1001, AgentLost),
        (1005, AgentLost),
        (1006, AgentLost),
        (1011, AgentLost),
        (1012, AgentLost),
        (1013, AgentLost),
        (None, AgentLost),
    ],
)
def test_the_close_code_tells_a_refusal_from_a_loss(close_code: int | None, kind: type[AgentError]) -> None:
    for dialect in (new_dialect(), ready_dialect()):
        error = dialect.error_of_close(close_code, "invalid_request_error.invalid_model")
        assert type(error) is kind
        assert (error.close_code, error.code) == (close_code, "invalid_model")


def test_an_error_followed_by_a_close_is_the_reason_of_the_close() -> None:
    dialect = ready_dialect()
    fail(dialect, code="session_expired", message="60 minutes are over.")

    error = dialect.error_of_close(1001, "")

    assert isinstance(error, AgentLost)
    assert error.code == "session_expired"
    assert "60 minutes are over." in error.detail


def test_an_error_followed_by_an_orderly_close_is_a_loss() -> None:
    dialect = ready_dialect()
    fail(dialect, type="server_error", code=None)

    assert isinstance(dialect.error_of_close(1000, ""), AgentLost)


def test_an_error_long_past_is_not_the_reason_of_a_close() -> None:
    dialect = ready_dialect()
    fail(dialect, code="response_cancel_not_active")
    begin(dialect, "resp_1")

    assert dialect.error_of_close(1000, "") is None


def test_memory_of_items_and_responses_is_bounded() -> None:
    dialect = ready_dialect()

    for number in range(1000):
        begin(dialect, f"resp_{number}")
        speak(dialect, f"resp_{number}", f"item_{number}")
        finish(dialect, f"resp_{number}")
        with capture_logs():
            fail(dialect, code=f"code_{number}")

    assert len(dialect._speech) == MAX_ITEMS
    assert len(dialect._ended) == MAX_ENDED_RESPONSES
    assert len(dialect._problems) <= 64
    assert dialect.truncate({"item_999": 20}) != ()
    assert dialect.truncate({"item_1": 20}) == ()
