"""Random conversations: whatever happens in whatever order, the client keeps the rules of the dialect."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest

from gateway.call.builtin_tools import OfferedTools
from gateway.call.events import CallEvent, Noted, ToolAsked
from gateway.dialplan.model.agent import AgentProfile, TurnDetection
from gateway.ids import CallId
from gateway.upstream.core.debts import Ask, Cause
from gateway.upstream.core.dialect import AgentAudio, Send, UpstreamEvent
from gateway.upstream.core.history import History
from gateway.upstream.core.owed import Owed
from gateway.upstream.realtime.config import session_config
from gateway.upstream.realtime.dialect import RealtimeDialect
from gateway.upstream.realtime.function_calls import CalledFunctions

pytestmark = pytest.mark.unit

CALL = CallId("call-1")
OFFERED = OfferedTools(own=frozenset({"find_table"}))


class Server:
    """A service that breaks no rule, and watches that the client breaks none."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        turns = TurnDetection(guard_ms=self.random.choice([0, 300]))
        self.interrupts = turns.guard_ms == 0
        self.owed = Owed()
        history = History()
        calls = CalledFunctions(CALL, OFFERED, history)
        config = session_config(AgentProfile(instructions="x", turn_detection=turns))
        self.dialect = RealtimeDialect(CALL, config, interrupts=True, history=history, calls=calls, owed=self.owed)
        self.history = history
        self.count = 0
        self.active: str | None = None
        self.asked = 0
        self.asked_id = ""  # of the response.create that came last
        self.speaking: str | None = None
        self.received: dict[str, int] = {}  # bytes of audio by item
        self.of_response: dict[str, str] = {}
        self.stale: set[str] = set()  # responses
        self.waiting: list[str] = []  # calls of tools
        self.carried_out: list[str] = []
        self.updates: list[Any] = []  # turn detection as it is to be, not seen to yet
        self.detects = True
        asked = json.loads(self.dialect.configure()[0])["session"]
        self.tell("session.updated", session=asked | {"id": "sess_1"})

    def new(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.count}"

    def tell(self, name: str, /, **fields: Any) -> None:
        facts = self.dialect.receive(json.dumps({"type": name, "event_id": "event_1"} | fields))
        self.check(facts)

    def check(self, facts: list[UpstreamEvent]) -> None:
        for fact in facts:
            if isinstance(fact, Send):
                self.take((fact.text,))
            elif isinstance(fact, AgentAudio):
                assert self.of_response[fact.item_id] not in self.stale
            elif isinstance(fact, ToolAsked):
                self.carried_out.append(fact.tool_call_id)
                self.waiting.append(fact.tool_call_id)
            else:
                assert isinstance(fact, Noted | CallEvent) or fact

    def take(self, texts: tuple[str, ...]) -> None:
        """Judge what the client sends."""
        for event in map(json.loads, texts):
            match event["type"]:
                case "response.create":
                    assert self.active is None, "a second response.create"
                    assert self.asked == 0, "a second response.create"
                    self.asked += 1
                    self.asked_id = event["event_id"]
                case "response.cancel":
                    assert event["response_id"] == self.active
                    self.stale.add(event["response_id"])
                case "conversation.item.truncate":
                    assert event["audio_end_ms"] <= self.received[event["item_id"]] // 48
                case "conversation.item.create":
                    assert event["item"]["type"] == "function_call_output" or event["item"]["role"] == "system"
                case "session.update":
                    self.updates.append(event["session"]["audio"]["input"]["turn_detection"])

    # What may happen

    def begin(self) -> None:
        if self.active is None and (self.asked or self.speaking is None):
            self.asked, self.active = 0, self.new("resp")
            self.tell("response.created", response={"id": self.active, "status": "in_progress"})

    def speak(self) -> None:
        if self.active is None:
            return
        item_id = self.random.choice([*(i for i, r in self.of_response.items() if r == self.active), self.new("item")])
        self.of_response[item_id] = self.active
        size = self.random.randrange(0, 4800, 2)
        self.received[item_id] = self.received.get(item_id, 0) + size
        delta = base64.b64encode(bytes(size)).decode()
        self.tell("response.output_audio.delta", response_id=self.active, item_id=item_id, delta=delta)

    def call(self) -> None:
        if self.active is None:
            return
        call_id = self.new("call")
        name = self.random.choice(["find_table", "fly"])
        item = {"id": self.new("item"), "type": "function_call", "name": name, "call_id": call_id, "arguments": "{}"}
        for _ in range(self.random.choice([1, 2])):
            self.tell("response.output_item.done", response_id=self.active, item=item)

    def finish(self) -> None:
        if self.active is not None:
            done, self.active = self.active, None
            status = "cancelled" if done in self.stale else self.random.choice(["completed", "failed", "incomplete"])
            error = {"error": {"code": "rate_limit_exceeded", "message": "try again in 1s"}}
            details = error if status == "failed" else {}
            self.tell("response.done", response={"id": done, "status": status, "status_details": details})

    def update(self) -> None:
        """See to a change of turn detection; what was said till then is told before."""
        if self.updates:
            detection = self.updates.pop(0)
            self.detects = detection is not None
            self.speaking = self.speaking if self.detects else None
            self.tell("session.updated", session={"id": "sess_1", "audio": {"input": {"turn_detection": detection}}})

    def caller_begins(self) -> None:
        if self.speaking is None and self.detects:
            self.speaking = self.new("item")
            if self.active is not None and self.interrupts:
                self.stale.add(self.active)
            self.tell("input_audio_buffer.speech_started", item_id=self.speaking)

    def caller_stops(self) -> None:
        if self.speaking is not None:
            self.tell("input_audio_buffer.speech_stopped", item_id=self.speaking)
            self.tell("input_audio_buffer.committed", item_id=self.speaking, previous_item_id=None)
            self.speaking = None

    def refuse(self) -> None:
        """The response that was asked for collides with the service's own."""
        if self.asked and self.active is None:
            self.begin_own()
            error = {"code": "conversation_already_has_active_response", "message": "No.", "event_id": self.asked_id}
            self.tell("error", error=error)

    def begin_own(self) -> None:
        self.asked, self.active = 0, self.new("resp")
        self.tell("response.created", response={"id": self.active, "status": "in_progress"})

    def order(self) -> None:
        dialect = self.dialect
        item_id = self.random.choice([*self.received, "item_x"])
        orders = [
            lambda: self.owe(self.random.choice([Cause.GREETING, Cause.ANNOUNCEMENT, Cause.PROMPT])),
            lambda: self.look(),
            lambda: dialect.cancel(),
            lambda: dialect.say_goodbye(Ask("Bye.", tools=False)),
            lambda: dialect.tell("The caller pressed: 1", respond=self.random.random() < 0.7),
            lambda: dialect.mute(),
            lambda: dialect.unmute(),
            lambda: dialect.truncate({item_id: self.random.randrange(500)}),
        ]
        self.take(self.random.choice(orders)())

    def owe(self, cause: Cause) -> tuple[str, ...]:
        self.owed.owe(cause, Ask("Hello."))
        return self.dialect.go_on()

    def look(self) -> tuple[str, ...]:
        """Let time pass until what is owed is looked at; this service is never late."""
        while (self.active is None and self.asked) or self.active in self.stale:
            self.finish()
            if self.asked:
                self.begin()
        self.check(self.dialect.overdue(self.random.choice([0, 0, 500])))
        return ()

    def answer(self) -> None:
        if self.waiting:
            call_id = self.waiting.pop(self.random.randrange(len(self.waiting)))
            self.take(self.dialect.answer_tool(call_id, "yes", respond=self.random.random() < 0.7))


@pytest.mark.parametrize("seed", range(200))
def test_a_random_conversation_keeps_the_rules(seed: int) -> None:
    server = Server(seed)
    steps = [
        *(server.begin, server.speak, server.speak, server.call, server.finish, server.caller_begins),
        *(server.caller_stops, server.refuse, server.order, server.order, server.answer, server.update),
    ]
    for _ in range(150):
        server.random.choice(steps)()

    assert len(server.carried_out) == len(set(server.carried_out)), "no tool runs twice"
    # Left alone, it comes to rest: whatever is wanted is asked for and nothing waits for ever.
    server.take(server.dialect.unmute())
    while server.updates:
        server.update()
    server.caller_stops()
    assert server.detects
    for _ in range(20):
        server.answer()
        server.look()
        if server.active is None and server.asked:
            server.begin()
        server.speak()
        if server.active is not None:
            done, server.active = server.active, None
            server.tell("response.done", response={"id": done, "status": "completed"})
    assert not server.waiting
    assert not server.dialect.responding, server.owed._debts
    assert server.dialect.is_quiet
