"""The state of one session: client events in, server events out."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine
from typing import Any

from gateway.lab.simulator.caller import CallerTurns
from gateway.lab.simulator.config import check_reasoning, check_update, default_session, merged
from gateway.lab.simulator.echo import Echo
from gateway.lab.simulator.items import Conversation, Item
from gateway.lab.simulator.link import Link
from gateway.lab.simulator.options import SimulatorOptions
from gateway.lab.simulator.refusals import error_event
from gateway.lab.simulator.response import Plan, Response, new_id, speak
from gateway.lab.simulator.schema import ClientMistake
from gateway.lab.simulator.speech import bytes_per_ms, sample_bytes, utterance
from gateway.lab.simulator.turns import CallerAudio
from gateway.lab.simulator.vad import SpeechStarted
from gateway.lab.simulator.validate import APPEND, check_event, decode, decode_audio
from gateway.lab.speech import agent_sentences

GREETING = re.compile(r"\b(greet\w*|welcome|hello|say hi|introduce yourself)\b", re.IGNORECASE)
EARLY_AUDIO = "audio before session.updated"


class Session:
    """
    One accepted client. ``session.created`` goes out at once.

    Args:
        model: the model asked for.
        options: the simulator's.
        link: where events go.

    Thread: loop. ``receive`` never waits; what takes time runs in tasks that ``close`` ends.
    """

    def __init__(self, model: str, options: SimulatorOptions, link: Link) -> None:
        self.id = new_id("sess")
        self._options = options
        self._link = link
        self._seen = link.connection
        self._settings = default_session(self.id, model, now_s=time.time())
        self._conversation_id = new_id("conv")
        self._conversation = Conversation()
        self._audio = CallerAudio(self._seen.caller_audio, listens=not options.echo)
        self._turns = CallerTurns(
            self._audio, self._conversation, link, new_item_id=lambda: new_id("item"), spawn=self._spawn
        )
        self._turns.configure(self._settings)
        self._echo = Echo() if options.echo else None
        self._responses: dict[str, Response] = {}  # those that go on
        self._next_sentence = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers = {
            "session.update": self._update,
            APPEND: self._append,
            "input_audio_buffer.commit": lambda _: self._turns.commit(),
            "input_audio_buffer.clear": lambda _: self._turns.clear(),
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.truncate": self._truncate_item,
            "response.create": self._create_response,
            "response.cancel": self._cancel_response,
        }
        link.emit({"type": "session.created", "session": self._settings})

    def receive(self, message: str | bytes) -> None:
        """Take one frame of the client's: do what it asks, or answer one ``error`` and change nothing."""
        event: dict[str, Any] = {}
        try:
            event = decode(message)
            name = event.get("type")
            self._seen.note_event(name if isinstance(name, str) else "(no type)")
            check_event(event)
            self._handlers[str(name)](event)
        except ClientMistake as mistake:
            self._complain(event, mistake)

    async def close(self) -> None:
        """End what still runs."""
        running = list(self._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _complain(self, event: dict[str, Any], mistake: ClientMistake) -> None:
        if not event:
            self._seen.note_event(f"({mistake.code})")
        event_id = event.get("event_id")
        event_id = event_id if isinstance(event_id, str) else None
        self._seen.note_violation(f"{event.get('type', 'message')}: {mistake.code}: {mistake.message}")
        self._link.emit(error_event(mistake.code, mistake.message, param=mistake.param, event_id=event_id))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def _active(self) -> Response | None:
        """The response that speaks in the conversation now; there is one at most."""
        inside = (each for each in self._responses.values() if each.plan.conversation_id is not None)
        return next(inside, None)

    def _update(self, event: dict[str, Any]) -> None:
        wanted = event["session"]
        check_update(self._settings, wanted, has_spoken=self._seen.has_spoken, is_responding=self._active is not None)
        self._settings = merged(self._settings, wanted)
        self._turns.configure(self._settings)
        self._link.emit({"type": "session.updated", "session": self._settings})

    def _append(self, event: dict[str, Any]) -> None:
        audio = decode_audio(event["audio"], sample_bytes=sample_bytes(self._audio.format_type))
        if not self._seen.is_configured and EARLY_AUDIO not in self._seen.violations:
            self._seen.note_violation(EARLY_AUDIO)
        noticed = self._audio.append(audio)
        if self._echo is not None and self._seen.is_configured and self._settings["output_modalities"] == ["audio"]:
            response = self._active or self._begin({})
            self._echo.send_back(response, event["audio"], audio, self._audio.format_type)
        detection = self._audio.turn_detection or {}
        for each in noticed:
            if isinstance(each, SpeechStarted):
                self._turns.speech_started(each)
                if detection.get("interrupt_response") and self._active is not None:
                    self._active.finish("cancelled", "turn_detected")
            else:
                self._turns.speech_stopped(each)
                # Where a response goes on uninterrupted, the service starts no second one.
                if detection.get("create_response") and self._active is None:
                    self._begin({})

    def _create_item(self, event: dict[str, Any]) -> None:
        item, previous = self._item_of(event["item"]), event.get("previous_item_id")
        self._conversation.insert(item, previous)
        before = self._conversation.previous_id(item.id)
        for name in ("added", "done"):
            self._link.emit({"type": f"conversation.item.{name}", "previous_item_id": before, "item": item.wire})

    def _item_of(self, given: dict[str, Any]) -> Item:
        """Return a client's item as the conversation keeps it; its audio is counted, not kept."""
        wire = {"id": new_id("item")} | {key: value for key, value in given.items() if key != "object"}
        if wire["type"] != "function_call_output":
            wire.setdefault("status", "completed")
        length_ms = 0.0
        content = []
        for part in wire.get("content", ()):
            if part["type"] == "input_audio":
                audio = decode_audio(part["audio"], sample_bytes=sample_bytes(self._audio.format_type))
                length_ms += len(audio) / bytes_per_ms(self._audio.format_type)
                part = {"type": "input_audio", "transcript": part.get("transcript")}
            content.append(part)
        if "content" in wire:
            wire["content"] = content
        return Item(wire, length_ms)

    def _retrieve_item(self, event: dict[str, Any]) -> None:
        item = self._conversation.retrieve(event["item_id"])
        self._link.emit({"type": "conversation.item.retrieved", "item": item})

    def _delete_item(self, event: dict[str, Any]) -> None:
        self._conversation.delete(event["item_id"])
        self._link.emit({"type": "conversation.item.deleted", "item_id": event["item_id"]})

    def _truncate_item(self, event: dict[str, Any]) -> None:
        place = {key: event[key] for key in ("item_id", "content_index", "audio_end_ms")}
        self._conversation.truncate(**place)
        self._link.emit({"type": "conversation.item.truncated", **place})

    def _create_response(self, event: dict[str, Any]) -> None:
        overrides = event.get("response", {})
        check_reasoning(self._settings["model"], overrides, "response")
        for index, item in enumerate(overrides.get("input") or ()):
            if item["type"] == "item_reference" and self._conversation.find(item["id"]) is None:
                message = f"Item '{item['id']}' does not exist."
                raise ClientMistake("invalid_value", message, f"response.input[{index}].id")
        active = self._active
        if active is not None and overrides.get("conversation", "auto") == "auto":
            message = (
                f"Conversation already has an active response in progress: {active.id}. "
                "Wait until the response is finished before creating a new one."
            )
            raise ClientMistake("conversation_already_has_active_response", message)
        self._begin(overrides)

    def _begin(self, overrides: dict[str, Any]) -> Response:
        """Start a response; it speaks by itself, but for the echo, which waits for the caller's audio."""
        tokens = self._conversation.tokens()
        plan = Plan.of(self._settings, overrides, conversation_id=self._conversation_id, input_tokens=tokens)
        response = Response(plan, self._conversation, self._link, on_done=self._forget)
        self._responses[response.id] = response
        if self._echo is None or plan.modality == "text" or plan.conversation_id is None:
            sentence = utterance(self._choose(plan.instructions), response.format_type, self._options.delta_ms)
            self._spawn(speak(response, sentence, self._options, self._link))
        return response

    def _forget(self, response: Response) -> None:
        del self._responses[response.id]

    def _choose(self, instructions: str) -> int:
        """Return which sentence is said: the greeting first and when asked for one, then the others in turn."""
        if self._next_sentence == 0 or GREETING.search(instructions):
            self._next_sentence = max(self._next_sentence, 1)
            return 0
        chosen = self._next_sentence
        self._next_sentence = chosen % (len(agent_sentences()) - 1) + 1
        return chosen

    def _cancel_response(self, event: dict[str, Any]) -> None:
        wanted = event.get("response_id")
        response = self._active if wanted is None else self._responses.get(wanted)
        if response is None:
            message = "Cancellation failed: no active response found."
            raise ClientMistake("response_cancel_not_active", message)
        response.finish("cancelled", "client_cancelled")
