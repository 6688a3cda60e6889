"""The agent's side of a session: which response goes on, and what it says."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from gateway.lab.simulator.agent.echo import Echo
from gateway.lab.simulator.agent.mcp import McpTools
from gateway.lab.simulator.agent.output import CallOutput, new_id
from gateway.lab.simulator.agent.performance import Performance
from gateway.lab.simulator.agent.plan import Plan
from gateway.lab.simulator.agent.response import SimulatedResponse
from gateway.lab.simulator.agent.speech import Utterance, utterance
from gateway.lab.simulator.answer import Crossed, Denied, Failed, Say, ScriptedAnswer, Unanswered
from gateway.lab.simulator.conversation.context import Context
from gateway.lab.simulator.conversation.function_calls import FunctionCalls
from gateway.lab.simulator.conversation.items import SimulatedConversation
from gateway.lab.simulator.faults.faults import parse_fault
from gateway.lab.simulator.options import SimulatorOptions
from gateway.lab.simulator.script import ScriptCursor
from gateway.lab.simulator.transport.link import Link
from gateway.lab.simulator.wire.errors import error_event
from gateway.lab.simulator.wire.schema import ClientMistake
from gateway.lab.simulator.wire.usage import TokenBudget, Tokens
from gateway.lab.speech import agent_sentences

GREETING = re.compile(r"\b(greet\w*|welcome|hello|say hi|introduce yourself)\b", re.IGNORECASE)
RATE_LIMITS_S = 0.04
CROSSING_S = 2.0  # a client may not know yet of a response that the service began
TOO_LONG = Failed(status="failed", code="context_length_exceeded")

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Asked(NamedTuple):
    """A client's ``response.create``."""

    event_id: str | None


class Responder:
    """
    Starts responses, one at a time in the conversation, and lets them speak.

    Args:
        options: the simulator's.
        link: where events go.
        conversation: receives what is said.
        cursor: the script's answers; None has none.
        spawn: runs a coroutine beside the session.
        on_done: called with each response in the conversation that ended.
        go_on: begins a response by the service itself.
    """

    def __init__(
        self,
        options: SimulatorOptions,
        link: Link,
        conversation: SimulatedConversation,
        *,
        cursor: ScriptCursor | None,
        spawn: Spawn,
        on_done: Callable[[SimulatedResponse], None],
        go_on: Callable[[], None],
    ) -> None:
        self.calls = FunctionCalls(conversation)
        self.mcp = McpTools(conversation, link, spawn, go_on)
        self._options = options
        self._link = link
        self._conversation = conversation
        self._conversation_id = new_id("conv")
        self._context = Context(conversation, options.context_tokens)
        self._cursor = cursor
        self._spawn = spawn
        self._on_done = on_done
        self._echo = Echo() if options.echo else None
        self._limit = TokenBudget()
        self._running: dict[str, SimulatedResponse] = {}
        self._next_sentence = 0
        self._begun = 0

    @property
    def active(self) -> SimulatedResponse | None:
        """The response that speaks in the conversation now; there is one at most."""
        if not self._running:
            return None
        return next((each for each in self._running.values() if each.plan.conversation_id is not None), None)

    def check_create(self, overrides: dict[str, Any]) -> None:
        """
        Judge a ``response.create`` by what goes on.

        Raises:
            ClientMistake: another response is active.
        """
        if overrides.get("conversation", "auto") == "none":
            return
        active = self.active
        if active is not None:
            crossed = not active.asked and time.monotonic() - active.begun_at < CROSSING_S
            raise _busy(active, is_violation=active.hears_cancel and not crossed)
        unanswered = self.calls.take_unanswered()
        if unanswered:
            self._link.connection.note_violation(f"response.create before the output of {', '.join(unanswered)}")

    def begin(self, session: dict[str, Any], overrides: dict[str, Any], asked: Asked | None = None) -> None:
        """
        Start a response; it speaks by itself, but for the echo, which waits for the caller's audio.

        Args:
            session: the session in force.
            overrides: those of a ``response.create``.
            asked: the client's event; None where the service begins a response by itself.
        """
        answer = self._take(overrides, session)
        for told in answer.faults:
            self._link.add_fault(parse_fault(told))
        if isinstance(answer.end, Denied):
            self._link.emit(answer.end.event(asked.event_id if asked is not None else None))
        elif isinstance(answer.end, Unanswered):
            return
        elif answer.crossed is not None and asked is not None:
            response = self._start(session, {}, answer, is_asked=False)
            self._spawn(self._refuse_late(response, answer.crossed, asked))
        else:
            self._start(session, overrides, answer, is_asked=asked is not None)

    def _start(
        self, session: dict[str, Any], overrides: dict[str, Any], answer: ScriptedAnswer, *, is_asked: bool
    ) -> SimulatedResponse:
        read = self._context.read(session)
        taken, cached = read or (Tokens(), Tokens())
        plan = Plan.of(session, overrides, conversation_id=self._conversation_id, taken=taken, cached=cached)
        response = SimulatedResponse(plan, self._conversation, self._link, on_done=self._done, asked=is_asked)
        self._running[response.id] = response
        if self._echo is None or plan.modality == "text" or plan.conversation_id is None:
            answer = self._worded(answer, plan.instructions)
            self._spawn(self._perform(response, answer if read else answer.model_copy(update={"end": TOO_LONG})))
        return response

    async def _refuse_late(self, response: SimulatedResponse, crossed: Crossed, asked: Asked) -> None:
        """Refuse what the client asked for while the service had begun this response by itself."""
        if crossed.after_done:
            await response.ended.wait()
        await asyncio.sleep(crossed.late_s)
        mistake = _busy(response, is_violation=False)
        event_id = asked.event_id if crossed.names_event else None
        self._link.emit(error_event(mistake.code, mistake.message, event_id=event_id))

    def send_back(self, session: dict[str, Any], encoded: str, audio: bytes) -> None:
        """Return the caller's audio, where the simulator is an echo and the session asks for speech."""
        if self._echo is None or session["output_modalities"] != ["audio"]:
            return
        response = self.active or self._start(session, {}, ScriptedAnswer(), is_asked=False)
        self._echo.send_back(response, encoded, audio, session["audio"]["input"]["format"]["type"])

    def interrupt(self) -> None:
        """Cancel the response that speaks, because the caller does."""
        active = self.active
        if active is not None:
            active.cancel("turn_detected")

    def cancel(self, response_id: str | None) -> None:
        """
        Cancel a response because the client asks.

        Raises:
            ClientMistake: it does not go on.
        """
        response = self.active if response_id is None else self._running.get(response_id)
        if response is None:
            raise ClientMistake("response_cancel_not_active", "Cancellation failed: no active response found.")
        response.cancel("client_cancelled")

    def _take(self, overrides: dict[str, Any], session: dict[str, Any]) -> ScriptedAnswer:
        """Return what is done: the script's next, or one sentence; then what the faults make of it."""
        if self._echo is not None:
            return ScriptedAnswer()
        self._begun += 1
        is_scripted = self._cursor is not None and overrides.get("conversation", "auto") != "none"
        answer = self._cursor.take() if self._cursor is not None and is_scripted else ScriptedAnswer()
        for fault in self._link.faults:
            answer = fault.answer(answer, self._begun)
        if overrides.get("tool_choice", session["tool_choice"]) == "none" and answer.calls:
            spoken = tuple(part for part in answer.output if isinstance(part, Say))
            answer = answer.model_copy(update={"output": spoken or (Say(),)})
        return answer

    def _worded(self, answer: ScriptedAnswer, instructions: str) -> ScriptedAnswer:
        """Choose a sentence for each piece of speech that has none."""
        parts = [
            part.model_copy(update={"sentence": self._choose(instructions)})
            if isinstance(part, Say) and part.sentence is None
            else part
            for part in answer.output
        ]
        return answer.model_copy(update={"output": tuple(parts)})

    def _choose(self, instructions: str) -> int:
        """Return which sentence is said: the greeting first and when asked for one, then the others in turn."""
        if self._next_sentence == 0 or GREETING.search(instructions):
            self._next_sentence = max(self._next_sentence, 1)
            return 0
        chosen = self._next_sentence
        self._next_sentence = chosen % (len(agent_sentences()) - 1) + 1
        return chosen

    async def _perform(self, response: SimulatedResponse, answer: ScriptedAnswer) -> None:
        delta_ms = self._options.delta_ms

        def speech_of(part: Say) -> Utterance:
            return utterance(part.sentence or 0, response.plan.format_type, delta_ms, part.say, part.for_s)

        await Performance(response, answer, self._options, speech_of, mcp=self.mcp, spawn=self._spawn).run()
        if response.status not in ("completed", "incomplete"):
            return
        await asyncio.sleep(RATE_LIMITS_S)
        taken, _, given = response.used()
        limits = self._limit.spend(taken.total + given.total, asyncio.get_running_loop().time())
        self._link.emit({"type": "rate_limits.updated", "rate_limits": limits})

    def _done(self, response: SimulatedResponse) -> None:
        del self._running[response.id]
        if response.plan.conversation_id is None:
            return
        if response.status == "completed":  # what a cut answer asked for need not be done
            for output in response.outputs:
                if isinstance(output, CallOutput):
                    self.calls.expect(output.call_id, output.name)
        self._on_done(response)


def _busy(active: SimulatedResponse, *, is_violation: bool) -> ClientMistake:
    message = (
        f"Conversation already has an active response in progress: {active.id}. "
        "Wait until the response is finished before creating a new one."
    )
    return ClientMistake("conversation_already_has_active_response", message, is_violation=is_violation)
