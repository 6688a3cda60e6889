"""What the gateway itself tells a session: messages, and that the caller is not to be heard."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.audio.pcm import MODEL
from gateway.call.builtin_tools import OfferedTools
from gateway.call.events import AgentReady, Noted, SpeechStarted, SpeechStopped, ToolAsked
from gateway.dialplan.model.agent import AgentProfile
from gateway.ids import CallId
from gateway.upstream.core.debts import Ask
from gateway.upstream.core.dialect import Alarm, Send, UpstreamEvent
from gateway.upstream.core.history import History, PastMessage, Role
from gateway.upstream.core.owed import Owed
from gateway.upstream.realtime.config import session_config
from gateway.upstream.realtime.dialect import RealtimeDialect
from gateway.upstream.realtime.function_calls import CalledFunctions

pytestmark = pytest.mark.unit

Json = dict[str, Any]

CALL = CallId("call-1")
TURN_DETECTED = {"type": "cancelled", "reason": "turn_detected"}
KEYS = "The caller pressed: 1 2 3 #"


class Told:
    """A ready session, and what came of it."""

    def __init__(self, **profile: Any) -> None:
        self.history = History()
        calls = CalledFunctions(CALL, OfferedTools(own=frozenset({"find_table"})), self.history)
        config = session_config(AgentProfile.model_validate({"instructions": "Be brief."} | profile))
        self.owed = Owed()
        self.dialect = RealtimeDialect(CALL, config, history=self.history, calls=calls, owed=self.owed)
        asked = json.loads(self.dialect.configure()[0])["session"]
        self.echo: Json = asked | {"id": "sess_1"}
        assert self.hear("session.updated", session=self.echo) == [AgentReady(CALL, "sess_1")]

    def hear(self, name: str, /, **fields: Any) -> list[UpstreamEvent]:
        facts = self.dialect.receive(json.dumps({"type": name, "event_id": "event_1"} | fields))
        return [fact for fact in facts if not isinstance(fact, Alarm)]

    def begin(self, response_id: str = "resp_1") -> None:
        self.hear("response.created", response={"id": response_id, "status": "in_progress"})

    def finish(self, response_id: str = "resp_1") -> list[str]:
        """End a response that spoke; return the types of what is sent then."""
        self.owed.moved(response_id, speech=True)
        facts = self.hear("response.done", response={"id": response_id, "status": "completed"})
        return [json.loads(fact.text)["type"] for fact in facts if isinstance(fact, Send)]

    def tell(self, text: str = KEYS, *, respond: bool = True) -> list[Json]:
        return [json.loads(sent) for sent in self.dialect.tell(text, respond=respond)]


def types(texts: tuple[str, ...]) -> list[str]:
    return [json.loads(text)["type"] for text in texts]


# Messages


def test_a_message_is_a_system_item_and_asks_for_nothing_by_itself() -> None:
    [create] = Told().tell(respond=False)

    assert create["type"] == "conversation.item.create"
    assert create["item"] == {
        "type": "message",
        "role": "system",
        "content": [{"type": "input_text", "text": KEYS}],
    }
    assert create["event_id"]


def test_a_message_that_wants_it_lets_the_agent_speak_at_once() -> None:
    told = Told()

    assert [event["type"] for event in told.tell()] == ["conversation.item.create", "response.create"]
    assert told.dialect.responding


def test_the_agent_speaks_about_a_message_after_what_it_says_now() -> None:
    told = Told()
    told.begin()

    assert [event["type"] for event in told.tell()] == ["conversation.item.create"]
    assert [event["type"] for event in told.tell("And: 4")] == ["conversation.item.create"]
    assert told.finish() == ["response.create"], "one response for both"


def test_a_message_does_not_wait_for_a_tool_that_still_runs() -> None:
    told = Told()
    told.begin()
    item = {"id": "item_f", "type": "function_call", "name": "find_table", "call_id": "call_1", "arguments": "{}"}
    told.hear("response.output_item.done", response_id="resp_1", item=item)
    [asked] = told.hear("response.done", response={"id": "resp_1", "status": "completed"})
    assert isinstance(asked, ToolAsked)

    assert [event["type"] for event in told.tell()] == ["conversation.item.create", "response.create"]
    told.begin("resp_2")
    assert types(told.dialect.answer_tool("call_1", "yes", respond=True)) == ["conversation.item.create"]
    assert told.finish("resp_2") == ["response.create"]


def test_a_message_and_the_answers_of_tools_share_a_response() -> None:
    told = Told()
    told.begin()
    item = {"id": "item_f", "type": "function_call", "name": "find_table", "call_id": "call_1", "arguments": "{}"}
    told.hear("response.output_item.done", response_id="resp_1", item=item)
    assert [event["type"] for event in told.tell()] == ["conversation.item.create"]
    assert told.finish() == ["response.create"]
    assert types(told.dialect.answer_tool("call_1", "yes", respond=True)) == ["conversation.item.create"]

    told.begin("resp_2")
    assert told.finish("resp_2") == ["response.create"]
    told.begin("resp_3")
    assert told.finish("resp_3") == []


def test_a_message_to_a_speaking_caller_is_answered_with_the_turn() -> None:
    told = Told()
    told.hear("input_audio_buffer.speech_started", item_id="item_u")

    assert [event["type"] for event in told.tell()] == ["conversation.item.create"]
    told.hear("input_audio_buffer.speech_stopped", item_id="item_u")
    assert told.dialect.go_on() == (), "the service answers the turn by itself"
    told.begin()
    told.finish()
    assert not told.dialect.responding


def test_a_message_to_a_speaking_caller_is_answered_on_its_own_when_the_turn_is_not() -> None:
    told = Told()
    told.hear("input_audio_buffer.speech_started", item_id="item_u")
    told.tell()
    told.hear("input_audio_buffer.speech_stopped", item_id="item_u")

    facts = told.dialect.overdue(0)

    assert [json.loads(fact.text)["type"] for fact in facts if isinstance(fact, Send)] == ["response.create"]


def test_a_message_does_not_take_the_place_of_a_goodbye() -> None:
    told = Told()
    told.begin()
    told.dialect.say_goodbye(Ask("Bye.", tools=False))
    told.tell()

    facts = told.hear("response.done", response={"id": "resp_1", "status": "cancelled"})

    [create] = [json.loads(fact.text) for fact in facts if isinstance(fact, Send)]
    assert create["response"]["instructions"] == "Bye."


def test_the_next_session_is_told_too() -> None:
    told = Told()
    told.hear("conversation.item.input_audio_transcription.completed", item_id="item_u", transcript="One moment.")
    told.tell(respond=False)

    *_, last = told.history.items()

    assert last == PastMessage(Role.GATEWAY, KEYS)


def test_a_lost_session_owes_the_response_to_a_message() -> None:
    told = Told()
    told.tell(respond=False)
    told.dialect.lose()
    assert not told.owed.is_open

    told = Told()
    told.tell(respond=True)
    told.dialect.lose()
    assert told.owed.is_open


# The muted caller


def test_a_session_that_is_not_ready_is_told_nothing() -> None:
    dialect = RealtimeDialect(CALL, session_config(AgentProfile(instructions="x")))

    assert dialect.mute() == ()
    assert dialect.unmute() == ()
    assert dialect.append_silence(960) == ()


def test_the_change_of_turn_detection_that_is_echoed_is_no_other_session() -> None:
    told = Told()
    assert types(told.dialect.mute()) == ["session.update", "input_audio_buffer.clear"]
    resting = json.loads(json.dumps(told.echo))
    resting["audio"]["input"]["turn_detection"] = None

    assert told.hear("session.updated", session=resting) == []
    assert told.hear("input_audio_buffer.cleared") == []
    assert types(told.dialect.unmute()) == ["input_audio_buffer.clear", "session.update"]
    assert told.hear("session.updated", session=told.echo) == []
    assert told.dialect.ready


def test_speech_that_began_before_the_caller_was_muted_is_not_told_after() -> None:
    told = Told()
    told.begin()
    told.dialect.mute()

    assert told.hear("input_audio_buffer.speech_started", item_id="item_u") == []
    assert told.hear("input_audio_buffer.speech_stopped", item_id="item_u") == []
    assert told.hear("input_audio_buffer.committed", item_id="item_u") == []
    told.hear("response.done", response={"id": "resp_1", "status": "cancelled", "status_details": TURN_DETECTED})
    assert [event["type"] for event in told.tell()] == ["conversation.item.create", "response.create"]


def test_a_turn_that_is_committed_is_over_though_nobody_told_its_end() -> None:
    told = Told()
    told.hear("input_audio_buffer.speech_started", item_id="item_u")

    assert told.hear("input_audio_buffer.committed", item_id="item_u") == [SpeechStopped(CALL)]
    assert told.hear("input_audio_buffer.committed", item_id="item_u") == []


def test_an_open_turn_of_a_muted_caller_holds_nothing_up() -> None:
    told = Told()
    assert told.hear("input_audio_buffer.speech_started", item_id="item_u") == [SpeechStarted(CALL)]
    assert not told.dialect.is_quiet

    told.dialect.mute()

    assert told.dialect.is_quiet
    assert [event["type"] for event in told.tell()] == ["conversation.item.create", "response.create"]


def test_a_turn_from_before_a_short_mute_ends_when_its_detection_did() -> None:
    told = Told()
    told.dialect.mute()
    told.dialect.unmute()
    assert told.hear("input_audio_buffer.speech_started", item_id="item_u") == [SpeechStarted(CALL)]
    resting = json.loads(json.dumps(told.echo))
    resting["audio"]["input"]["turn_detection"] = None

    assert told.hear("session.updated", session=resting) == [SpeechStopped(CALL)]
    assert told.dialect.is_quiet


def test_silence_takes_the_place_of_the_callers_voice() -> None:
    told = Told()
    told.dialect.mute()

    [append] = [json.loads(text) for text in told.dialect.append_silence(960)]

    assert append["type"] == "input_audio_buffer.append"
    assert base64.b64decode(append["audio"]) == bytes(960)
    assert told.dialect.append_silence(0) == ()
    minute = MODEL.bytes_of(60_000)
    assert types(told.dialect.append_silence(minute)) == ["input_audio_buffer.append", "input_audio_buffer.clear"]


def test_a_refused_mute_is_noted_and_asked_for_again() -> None:
    told = Told()
    update = json.loads(told.dialect.mute()[0])

    error = {"code": "server_error", "message": "No.", "event_id": update["event_id"]}
    noted, again = told.hear("error", error=error)

    assert isinstance(noted, Noted)
    assert noted.values["client_event"] == "session.update"
    assert isinstance(again, Send)
    assert json.loads(again.text)["session"] == update["session"]


# Tool servers, prices


def test_tools_that_could_not_be_imported_are_noted_with_their_server() -> None:
    told = Told()
    item = {"id": "item_m", "type": "mcp_list_tools", "server_label": "manuals", "tools": []}
    assert told.hear("conversation.item.added", item=item) == []
    assert told.hear("mcp_list_tools.in_progress", item_id="item_m") == []

    with capture_logs() as logs:
        assert told.hear("mcp_list_tools.failed", item_id="item_m") == [
            Noted(CALL, "mcp_failed", {"server_label": "manuals"})
        ]
        assert told.hear("mcp_list_tools.failed", item_id="item_x") == [Noted(CALL, "mcp_failed", {})]
    assert [log["event"] for log in logs] == ["mcp_failed", "mcp_failed"]
    assert told.hear("mcp_list_tools.completed", item_id="item_m") == []


# A service that takes less than was asked


@pytest.mark.parametrize("named", [True, False])
def test_a_service_that_takes_no_instructions_with_a_response_is_told_them_before_it(*, named: bool) -> None:
    told = Told()
    goodbye = json.loads(told.dialect.say_goodbye(Ask("The time is up.", tools=False))[-1])
    error: Json = {"type": "invalid_request_error", "message": "Unknown parameter: 'response.instructions'."}

    facts = told.hear("error", error=error | {"event_id": goodbye["event_id"] if named else None})

    hint, create = (json.loads(fact.text) for fact in facts if isinstance(fact, Send))
    assert hint["item"]["content"][0]["text"] == goodbye["response"]["instructions"]
    assert create["response"] == {"tool_choice": "none"}


# Told twice


@pytest.mark.parametrize("name", ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed"])
def test_a_turn_whose_end_is_told_twice_is_answered_once(name: str) -> None:
    told = Told()
    for each in ("speech_started", "speech_stopped", "committed"):
        told.hear(f"input_audio_buffer.{each}", item_id="item_1")
    told.begin()
    told.finish()

    assert told.hear(name, item_id="item_1") == []
    assert not told.owed.is_open
    told.hear(name, item_id="item_2")
    assert told.owed.is_open
