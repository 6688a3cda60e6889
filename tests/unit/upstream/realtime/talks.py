"""A session that is ready, told by its messages, and what is read from its facts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from gateway.call.builtin_tools import OfferedTools
from gateway.call.events import AgentReady, CallEvent, Noted
from gateway.dialplan.model.agent import AgentProfile, TurnDetection
from gateway.ids import CallId
from gateway.upstream.core.dialect import Alarm, Send, UpstreamEvent
from gateway.upstream.core.history import History
from gateway.upstream.core.owed import Owed
from gateway.upstream.realtime.config import session_config
from gateway.upstream.realtime.dialect import RealtimeDialect
from gateway.upstream.realtime.function_calls import CalledFunctions

Json = dict[str, Any]

CALL = CallId("call-1")
OFFERED = OfferedTools(builtin=("hang_up", "wait"), own=frozenset({"find_table"}))


class Talk:
    """A session that is ready."""

    def __init__(
        self,
        owed: Owed | None = None,
        *,
        guard_ms: int = 0,
        interrupt_response: bool = True,
        calls: Callable[[History], CalledFunctions] = lambda history: CalledFunctions(
            CALL, OFFERED, history, max_rounds=3
        ),
    ) -> None:
        turns = TurnDetection(guard_ms=guard_ms, interrupt_response=interrupt_response)
        profile = AgentProfile(instructions="Be brief.", turn_detection=turns)
        self.history = History()
        self.calls = calls(self.history)
        self.owed = owed or Owed()
        self.dialect = RealtimeDialect(
            CALL,
            session_config(profile),
            interrupts=interrupt_response,
            history=self.history,
            calls=self.calls,
            owed=self.owed,
        )
        asked = json.loads(self.dialect.configure()[0])["session"]
        [ready] = self.hear("session.updated", session=asked | {"id": "sess_1"})
        assert isinstance(ready, AgentReady)

    def hear(self, name: str, /, **fields: Any) -> list[UpstreamEvent]:
        facts = self.dialect.receive(json.dumps({"type": name, "event_id": "event_1"} | fields))
        return [fact for fact in facts if not isinstance(fact, Alarm)]

    def begin(self, response_id: str = "resp_1") -> list[UpstreamEvent]:
        return self.hear("response.created", response={"id": response_id, "status": "in_progress"})

    def finish(self, response_id: str = "resp_1", status: str = "completed", **response: Any) -> list[UpstreamEvent]:
        """End a response; one that completes without calls spoke, in words that are of no concern."""
        if status == "completed" and "output" not in response:
            self.owed.moved(response_id, speech=True)
        return self.hear("response.done", response={"id": response_id, "status": status} | response)

    def fail(self, code: str, message: str = "No.", response_id: str = "resp_1") -> list[UpstreamEvent]:
        details = {"type": "failed", "error": {"type": "error", "code": code, "message": message}}
        return self.finish(response_id, "failed", status_details=details)

    def speak(self, item_id: str = "item_a", ms: int = 100, response_id: str = "resp_1") -> list[UpstreamEvent]:
        delta = base64.b64encode(bytes(48 * ms)).decode()
        return self.hear("response.output_audio.delta", response_id=response_id, item_id=item_id, delta=delta)

    def call(
        self, name: str, arguments: str = "{}", *, call_id: str = "call_1", response_id: str = "resp_1"
    ) -> list[UpstreamEvent]:
        """Tell a function call by both of its events."""
        ids = {"response_id": response_id, "output_index": 0}
        item = {"id": f"item_{call_id}", "type": "function_call", "name": name, "call_id": call_id}
        done = {"item_id": item["id"], "call_id": call_id, "name": name, "arguments": arguments}
        facts = self.hear("response.output_item.added", item=item | {"arguments": ""}, **ids)
        facts += self.hear("response.function_call_arguments.done", **done, **ids)
        item |= {"arguments": arguments, "status": "completed"}
        return facts + self.hear("response.output_item.done", item=item, **ids)


def events(facts: list[UpstreamEvent]) -> list[CallEvent]:
    return [fact for fact in facts if isinstance(fact, CallEvent) and not isinstance(fact, Noted)]


def notes(facts: list[UpstreamEvent], name: str) -> list[Json]:
    return [dict(fact.values) for fact in facts if isinstance(fact, Noted) and fact.name == name]


def sent(facts: list[UpstreamEvent] | tuple[str, ...]) -> list[Json]:
    texts = [fact.text if isinstance(fact, Send) else fact for fact in facts if isinstance(fact, Send | str)]
    return [json.loads(text) for text in texts]


def types(facts: list[UpstreamEvent] | tuple[str, ...]) -> list[str]:
    return [message["type"] for message in sent(facts)]
