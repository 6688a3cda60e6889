"""What goes over the wire: the 46 server events, and the client's."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.upstream.realtime.wire import client, server
from gateway.upstream.realtime.wire.codec import encode, encode_append, lift, parse_http_refusal, parse_server_event
from gateway.upstream.realtime.wire.objects import (
    ContentPart,
    EchoedFormat,
    EchoedOutput,
    EchoedVoice,
    ErrorDetails,
    ServerRateLimit,
    StatusDetails,
)
from gateway.upstream.realtime.wire.repair import Oddity
from gateway.upstream.realtime.wire.session import (
    AudioConfig,
    AudioInput,
    AudioOutput,
    FunctionTool,
    G711Audio,
    PcmAudio,
    RetentionRatio,
    ServerVad,
    SessionConfig,
)
from tests.fakes.realtime_events import PCM, SAMPLES, TRANSCRIPTION

pytestmark = pytest.mark.unit

Json = dict[str, Any]


def test_the_samples_are_the_46_events_of_the_api() -> None:
    assert len(SAMPLES) == 46


@pytest.mark.parametrize("name", SAMPLES)
def test_a_documented_event_is_parsed_with_its_type(name: str) -> None:
    text = json.dumps({"type": name, "event_id": "event_1", "something_new": {"a": [1]}} | SAMPLES[name])

    for event, odd in (parse_server_event(text), parse_server_event(text.encode())):
        assert odd == ()
        assert event is not None
        assert not isinstance(event, server.UnknownServerEvent)
        assert event.type == name
        assert event.event_id == "event_1"
        written = event.model_dump()
        assert set(SAMPLES[name]) - {"obfuscation", "content"} - set(written) == set()


SAYS_NOTHING_WITHOUT = {"response.output_audio.delta": "delta", f"{TRANSCRIPTION}.completed": "item_id"}


@pytest.mark.parametrize("name", SAMPLES)
def test_only_that_is_required_without_which_an_event_says_nothing(name: str) -> None:
    event, odd = parse_server_event(json.dumps({"type": name}))

    if name in SAYS_NOTHING_WITHOUT:
        assert event is None
        assert odd == (Oddity(name, SAYS_NOTHING_WITHOUT[name], "Field required"),)
    else:
        assert event is not None
        assert odd == ()
        assert parse_server_event(json.dumps({"type": name} | dict.fromkeys(SAMPLES[name])))[0] == event


def test_an_audio_delta_arrives_as_bytes() -> None:
    text = json.dumps({"type": "response.output_audio.delta"} | SAMPLES["response.output_audio.delta"])

    event, _ = parse_server_event(text)

    assert isinstance(event, server.OutputAudioDelta)
    assert (event.response_id, event.item_id, event.delta) == ("resp_1", "item_a", PCM)


def test_an_unknown_type_is_told_and_tolerated() -> None:
    assert parse_server_event('{"type":"ping","timestamp":1}') == (server.UnknownServerEvent("ping"), ())
    event, odd = parse_server_event('{"type":"ping","emoji":"\\ud83d"}')
    assert (event, odd) == (server.UnknownServerEvent("ping"), ())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pong", "not JSON"),
        ("", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"type":"error","code":' + "9" * 5000 + "}", "not JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('"session.created"', "not a JSON object"),
        ("{}", "no type"),
        ('{"event_id":"event_1"}', "no type"),
        ('{"type":null}', "no type"),
        ('{"type":["error"]}', "no type"),
    ],
)
def test_what_is_no_event_is_told_as_what_it_is(text: str | bytes, problem: str) -> None:
    assert parse_server_event(text) == (None, (Oddity("", "", problem),))


def test_of_a_message_nested_too_deeply_nothing_is_made() -> None:
    event, odd = parse_server_event('{"type":"error","more":' + "[" * 900 + "]" * 900 + "}")

    assert (event, odd) == (None, (Oddity("error", "", "Invalid JSON"),))


def test_half_an_emoji_costs_no_more_than_itself() -> None:
    name = "response.output_audio_transcript.delta"

    event, odd = parse_server_event(f'{{"type":"{name}","item_id":"i","delta":"Great \\ud83d"}}')

    assert isinstance(event, server.OutputTranscriptDelta)
    assert event.delta == "Great ?"
    assert odd == (Oddity(name, "", "Invalid JSON"),)


def test_characters_that_are_not_utf_8_cost_no_more_than_themselves() -> None:
    event, odd = parse_server_event(b'\xef\xbb\xbf{"type":"response.output_text.delta","delta":"Gr\xfcn"}')

    assert isinstance(event, server.OutputTextDelta)
    assert event.delta == "Gr\ufffdn"
    assert len(odd) == 1


def test_only_the_places_that_are_wrong_are_left_out() -> None:
    item = {"id": "item_a", "type": "message", "content": [None, {"type": "output_audio", "transcript": 5}, "Hi"]}
    response = {"id": "resp_1", "status": "completed", "output": ["?", item, 3], "usage": "none", "metadata": []}

    event, odd = parse_server_event(json.dumps({"type": "response.done", "event_id": 7, "response": response}))

    assert isinstance(event, server.ResponseDone)
    assert (event.event_id, event.response.id, event.response.status) == (None, "resp_1", "completed")
    assert event.response.output is not None
    [left] = event.response.output
    assert (left.id, left.content) == ("item_a", (ContentPart(type="output_audio"),))
    assert {each.place for each in odd} == {
        "event_id",
        "response.output.*",
        "response.output.*.content.*",
        "response.output.*.content.*.transcript",
        "response.usage",
        "response.metadata",
    }


def test_a_wrong_detail_does_not_cost_what_stands_beside_it() -> None:
    audio = {"output": {"format": {"type": "audio/pcm", "rate": "fast"}, "voice": {"id": 5}}}

    event, odd = parse_server_event(json.dumps({"type": "session.updated", "session": {"audio": audio}}))

    assert isinstance(event, server.SessionUpdated)
    assert event.session.audio is not None
    assert event.session.audio.output == EchoedOutput(format=EchoedFormat(type="audio/pcm"), voice=EchoedVoice())
    assert [each.place for each in odd] == ["session.audio.output.format.rate", "session.audio.output.voice.id"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 400, str(2**60), "true", '"soon"'])
def test_a_number_that_cannot_be_is_left_out(number: str) -> None:
    text = f'{{"type":"rate_limits.updated","rate_limits":[{{"name":"tokens","limit":{number},"remaining":2}}]}}'

    event, odd = parse_server_event(text)

    assert isinstance(event, server.RateLimitsUpdated)
    if number != "true":  # which counts as 1
        assert event.rate_limits == (ServerRateLimit(name="tokens", remaining=2),)
        assert [each.place for each in odd] == ["rate_limits.*.limit"]


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ({"error": "Something."}, ErrorDetails(message="Something.")),
        ({"error": {"message": "Something.", "code": 400}}, ErrorDetails(message="Something.", code="400")),
        ({"message": "Something.", "code": "busy"}, ErrorDetails(message="Something.", code="busy")),
        ({}, ErrorDetails()),
    ],
)
def test_an_error_is_understood_as_services_send_it(fields: Json, details: ErrorDetails) -> None:
    assert parse_server_event(json.dumps({"type": "error"} | fields)) == (
        server.ErrorReported(type="error", error=details),
        (),
    )


@pytest.mark.parametrize("status_details", ["unimplemented", {"reason": "unimplemented"}])
def test_the_details_of_a_status_may_be_one_word(status_details: object) -> None:
    response = {"id": "resp_1", "status": "completed", "status_details": status_details}

    event, odd = parse_server_event(json.dumps({"type": "response.done", "response": response}))

    assert isinstance(event, server.ResponseDone)
    assert odd == ()
    assert event.response.status_details == StatusDetails(reason="unimplemented")


def test_arguments_that_are_not_in_text_are_put_into_it() -> None:
    name = "response.function_call_arguments.done"

    event, odd = parse_server_event(json.dumps({"type": name, "arguments": {"number": 12}}))

    assert isinstance(event, server.FunctionArgumentsDone)
    assert event.arguments == '{"number": 12}'
    assert odd == ()


def test_what_is_told_of_an_odd_message_does_not_quote_it() -> None:
    _, odd = parse_server_event(
        json.dumps({"type": f"{TRANSCRIPTION}.completed", "transcript": ["my secret"], "usage": "my secret"})
    )

    assert odd
    assert "secret" not in str(odd)


def test_the_body_of_an_http_refusal_is_read_if_it_is_one() -> None:
    refusal = parse_http_refusal(b'{"error":{"code":"call_id_not_found","message":"No call."}}')

    assert refusal is not None
    assert (refusal.code, refusal.message) == ("call_id_not_found", "No call.")
    assert parse_http_refusal(b"<html>") is None
    assert parse_http_refusal(b'{"detail":"Not Found"}') is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"No access."}',
        b'{"statusCode":401,"message":"No access."}',
        b'{"error":{"code":401,"message":"No access."}}',
    ],
)
def test_an_http_refusal_is_understood_as_gateways_before_a_service_write_it(body: bytes) -> None:
    refusal = parse_http_refusal(body)

    assert refusal is not None
    assert refusal.message == "No access."


def test_a_service_may_have_voice_and_turn_detection_beside_the_audio() -> None:
    audio = AudioConfig(
        input=AudioInput(format=G711Audio(type="audio/pcmu"), turn_detection=ServerVad()),
        output=AudioOutput(voice="eve"),
    )

    lifted = json.loads(lift(encode(client.SessionUpdate(session=SessionConfig(instructions="Grüße", audio=audio)))))

    assert lifted["session"] == {
        "type": "realtime",
        "instructions": "Grüße",
        "audio": {"input": {"format": {"type": "audio/pcmu"}}},
        "turn_detection": {"type": "server_vad"},
        "voice": "eve",
    }


def test_of_a_change_of_turn_detection_alone_nothing_else_is_sent_beside_the_audio() -> None:
    change = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=None)))

    lifted = json.loads(lift(encode(client.SessionUpdate(session=change))))

    assert lifted["session"] == {"type": "realtime", "turn_detection": None}
    assert lift(encode(client.ResponseCreate())) == encode(client.ResponseCreate())


MINIMAL_CLIENT_EVENTS: dict[str, tuple[client.ClientEvent, Json]] = {
    "session.update": (
        client.SessionUpdate(session=SessionConfig(tools=())),
        {"session": {"type": "realtime", "tools": []}},
    ),
    "input_audio_buffer.append": (client.InputAudioBufferAppend(audio="AAAA"), {"audio": "AAAA"}),
    "input_audio_buffer.commit": (client.InputAudioBufferCommit(), {}),
    "input_audio_buffer.clear": (client.InputAudioBufferClear(), {}),
    "conversation.item.create": (
        client.ConversationItemCreate(item=client.FunctionCallOutput(call_id="c", output="ok")),
        {"item": {"type": "function_call_output", "call_id": "c", "output": "ok"}},
    ),
    "conversation.item.retrieve": (client.ConversationItemRetrieve(item_id="i"), {"item_id": "i"}),
    "conversation.item.delete": (client.ConversationItemDelete(item_id="i"), {"item_id": "i"}),
    "conversation.item.truncate": (
        client.ConversationItemTruncate(item_id="i", content_index=0, audio_end_ms=20),
        {"item_id": "i", "content_index": 0, "audio_end_ms": 20},
    ),
    "response.create": (
        client.ResponseCreate(event_id="e", response=client.ResponseOverrides(instructions="Greet.")),
        {"event_id": "e", "response": {"instructions": "Greet."}},
    ),
    "response.cancel": (client.ResponseCancel(), {}),
    "output_audio_buffer.clear": (client.OutputAudioBufferClear(), {}),
}


@pytest.mark.parametrize("name", MINIMAL_CLIENT_EVENTS)
def test_a_client_event_is_written_with_what_was_set_and_nothing_else(name: str) -> None:
    event, fields = MINIMAL_CLIENT_EVENTS[name]

    assert json.loads(encode(event)) == {"type": name} | fields
    assert ", " not in encode(event)


def test_none_that_was_set_clears_a_field() -> None:
    audio = AudioConfig(input=AudioInput(turn_detection=None, noise_reduction=None))

    written = json.loads(encode(client.SessionUpdate(session=SessionConfig(audio=audio))))

    assert written["session"]["audio"] == {"input": {"turn_detection": None, "noise_reduction": None}}


def test_a_rich_session_and_response_keep_their_tags() -> None:
    config = SessionConfig(
        audio=AudioConfig(
            input=AudioInput(format=G711Audio(type="audio/pcma"), turn_detection=ServerVad(threshold=0.4)),
            output=AudioOutput(format=PcmAudio(rate=24000), voice="cedar", speed=1.25),
        ),
        tools=(FunctionTool(name="f", parameters={"type": "object"}),),
        truncation=RetentionRatio(retention_ratio=0.8),
    )
    greeting = client.UserMessage(content=(client.InputText(text="Hi."), client.InputAudio(audio="AAAA")))
    response = client.ResponseCreate(
        response=client.ResponseOverrides(input=(greeting, client.ItemReference(id="i")), conversation="none")
    )

    session = json.loads(encode(client.SessionUpdate(session=config)))["session"]
    assert session["audio"]["input"] == {
        "format": {"type": "audio/pcma"},
        "turn_detection": {"type": "server_vad", "threshold": 0.4},
    }
    assert session["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert session["truncation"] == {"type": "retention_ratio", "retention_ratio": 0.8}
    assert session["tools"] == [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    assert json.loads(encode(response))["response"]["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Hi."}, {"type": "input_audio", "audio": "AAAA"}],
        },
        {"type": "item_reference", "id": "i"},
    ]


WRONG_SESSIONS: list[Json] = [
    {"temperature": 0.8},
    {"model": "gpt-realtime"},
    {"type": "transcription"},
    {"output_modalities": ["audio", "text"]},
    {"output_modalities": []},
    {"max_output_tokens": 0},
    {"max_output_tokens": 4097},
    {"max_output_tokens": "many"},
    {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
    {"audio": {"input": {"format": {"type": "audio/pcmu", "rate": 8000}}}},
    {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 1.1}}}},
    {"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 4999}}}},
    {"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 30001}}}},
    {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}},
    {"audio": {"output": {"speed": 0.2}}},
    {"audio": {"output": {"speed": 1.6}}},
    {"truncation": {"type": "retention_ratio", "retention_ratio": 1.5}},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
]


@pytest.mark.parametrize("session", WRONG_SESSIONS, ids=str)
def test_a_session_the_service_would_refuse_cannot_be_made(session: Json) -> None:
    with pytest.raises(ValidationError):
        SessionConfig.model_validate(session)


def test_metadata_and_event_ids_have_limits() -> None:
    for metadata in ({str(n): "v" for n in range(17)}, {"k" * 65: "v"}, {"k": "v" * 513}):
        with pytest.raises(ValidationError):
            client.ResponseOverrides(metadata=metadata)
    with pytest.raises(ValidationError):
        client.ResponseCreate(event_id="e" * 513)


def test_client_events_are_frozen() -> None:
    event = client.ResponseCancel()

    with pytest.raises(ValidationError):
        event.response_id = "resp_1"  # type: ignore[misc]


def test_the_fast_append_is_the_same_message() -> None:
    pcm = bytes(range(240)) * 4

    slow = encode(client.InputAudioBufferAppend(audio=base64.b64encode(pcm).decode()))

    assert encode_append(pcm) == slow
    assert len(slow) == 1280 + len('{"type":"input_audio_buffer.append","audio":""}')
