"""
One session: client events in, server events out.

``receive`` takes one message: ``wire/validate.py`` checks it, faults may swallow or refuse it, then a handler per
type does what it asks. Whatever is wrong raises ``ClientMistake``, which becomes one ``error`` event; nothing has
changed then. The handlers divide the work:

- ``session.update``: merged into the session object (``wire/session_object.py``).
- ``input_audio_buffer.*``: ``turns.py`` holds the buffer and its clock, ``vad.py`` hears speech in it, ``caller.py``
  makes items and transcripts of the turns. Time is the audio's: a client that sends an hour in a second hears of each
  turn at once.
- ``conversation.item.*``: ``conversation/items.py``; outputs of functions are matched with the calls that wait for
  them.
- ``response.*``, the end of a turn, and silence for too long: ``agent/responder.py`` begins and cancels responses, one
  at a time in the conversation; ``agent/performance.py`` plays a response in a task beside the session.

Nothing here waits. What takes time runs in tasks that ``close`` ends, and every event goes out through the ``Link``,
in the order in which it was emitted. What the client did against the protocol is noted in the connection's record.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.lab.simulator.agent.output import new_id
from gateway.lab.simulator.agent.responder import Asked, Responder
from gateway.lab.simulator.agent.response import SimulatedResponse
from gateway.lab.simulator.conversation.items import Item, SimulatedConversation
from gateway.lab.simulator.options import SimulatorOptions
from gateway.lab.simulator.script import ScriptCursor
from gateway.lab.simulator.session.caller import CallerTurns
from gateway.lab.simulator.session.turns import CallerAudio
from gateway.lab.simulator.session.vad import VoiceBegan, VoiceEnded
from gateway.lab.simulator.transport.link import Link
from gateway.lab.simulator.wire.audio_formats import bytes_per_ms, sample_bytes
from gateway.lab.simulator.wire.errors import error_event
from gateway.lab.simulator.wire.schema import ClientMistake
from gateway.lab.simulator.wire.session_object import check_reasoning, check_update, default_session, merged
from gateway.lab.simulator.wire.validate import APPEND, check_event, decode, decode_audio

EARLY_AUDIO = "audio before session.updated"


class SimulatedSession:
    """
    One accepted client. ``session.created`` goes out at once.

    Args:
        model: the model it talks to.
        options: the simulator's.
        link: where events go.
        start: the session of the client secret it came with; None has the model's defaults.
        cursor: the script's answers; None has none.

    Thread: loop. ``receive`` never waits; what takes time runs in tasks that ``close`` ends.
    """

    def __init__(
        self,
        model: str,
        options: SimulatorOptions,
        link: Link,
        *,
        start: dict[str, Any] | None = None,
        cursor: ScriptCursor | None = None,
    ) -> None:
        self.id = new_id("sess")
        self._link = link
        self._seen = link.connection
        self._settings = self._first_settings(model, start)
        self._conversation = SimulatedConversation()
        self._audio = CallerAudio(self._seen.caller_audio, listens=not options.echo)
        self._turns = CallerTurns(
            self._audio, self._conversation, link, new_item_id=lambda: new_id("item"), spawn=self._spawn
        )
        self._turns.configure(self._settings)
        self._responder = Responder(
            options,
            link,
            self._conversation,
            cursor=cursor,
            spawn=self._spawn,
            on_done=self._expect_speech,
            go_on=self._go_on,
        )
        self._turn_count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "session.update": self._update,
            APPEND: self._append,
            "input_audio_buffer.commit": lambda _: self._turns.commit(),
            "input_audio_buffer.clear": lambda _: self._turns.clear(),
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.truncate": self._truncate_item,
            "response.create": self._create_response,
            "response.cancel": lambda event: self._responder.cancel(event.get("response_id")),
        }
        self._seen.items = self._conversation.wires
        self._seen.session = self._settings
        link.emit({"type": "session.created", "session": self._settings})

    def receive(self, message: str | bytes) -> None:
        """Take one frame of the client's: do what it asks, or answer one ``error`` and change nothing."""
        event: dict[str, Any] = {}
        try:
            event = decode(message)
            name = event.get("type")
            self._seen.note_event(name if isinstance(name, str) else "(no type)")
            if name != APPEND:
                self._seen.note_received(event)
            check_event(event)
            if self._link.faults and self._is_taken(event):
                return
            self._handlers[str(name)](event)
        except ClientMistake as mistake:
            self._complain(event, mistake)

    async def close(self) -> None:
        """End what still runs."""
        running = list(self._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _first_settings(self, model: str, start: dict[str, Any] | None) -> dict[str, Any]:
        settings = default_session(self.id, model, now_s=time.time())
        if start is not None:
            settings = start | {key: settings[key] for key in ("id", "model", "expires_at")}
        lifetimes = [lifetime_s for fault in self._link.faults if (lifetime_s := fault.lifetime_s()) is not None]
        if lifetimes:
            settings["expires_at"] = math.ceil(time.time() + min(lifetimes))
        return settings

    def _is_taken(self, event: dict[str, Any]) -> bool:
        """Return whether a fault keeps a good event from having its effect."""
        name = event["type"]
        was_awaited = self._link.note_reached(name)
        for fault in self._link.faults:
            if was_awaited and fault.swallows(name):
                return True
            mistake = fault.mistake(name)
            if mistake is not None:
                self._send_error(event, mistake)
                return True
        return False

    def _complain(self, event: dict[str, Any], mistake: ClientMistake) -> None:
        if not event:
            self._seen.note_event(f"({mistake.code})")
        if mistake.is_violation:
            self._seen.note_violation(f"{event.get('type', 'message')}: {mistake.code}: {mistake.message}")
        self._send_error(event, mistake)

    def _send_error(self, event: dict[str, Any], mistake: ClientMistake) -> None:
        event_id = event.get("event_id")
        event_id = event_id if isinstance(event_id, str) else None
        self._link.emit(error_event(mistake.code, mistake.message, param=mistake.param, event_id=event_id))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _update(self, event: dict[str, Any]) -> None:
        wanted, is_responding = event["session"], self._responder.active is not None
        check_update(self._settings, wanted, has_spoken=self._seen.has_spoken, is_responding=is_responding)
        for fault in self._link.faults:
            wanted = fault.accepted(wanted)
        self._settings = merged(self._settings, wanted)
        self._seen.session = self._settings
        self._turns.configure(self._settings)
        self._link.emit({"type": "session.updated", "session": self._settings})
        self._responder.mcp.import_from(self._settings["tools"])

    def _append(self, event: dict[str, Any]) -> None:
        audio = decode_audio(event["audio"], sample_bytes=sample_bytes(self._audio.format_type))
        if not self._seen.is_configured and EARLY_AUDIO not in self._seen.violations:
            self._seen.note_violation(EARLY_AUDIO)
        noticed = self._audio.append(audio)
        if self._seen.is_configured:
            self._responder.send_back(self._settings, event["audio"], audio)
        for each in noticed:
            self._take_turn(each)
        if self._turns.commit_if_idle() and (self._audio.turn_detection or {}).get("create_response"):
            self._begin({})

    def _take_turn(self, noticed: VoiceBegan | VoiceEnded) -> None:
        detection = self._audio.turn_detection or {}
        if isinstance(noticed, VoiceBegan):
            self._turns.speech_started(noticed)
            self._turn_count += 1
            if detection.get("interrupt_response"):
                self._responder.interrupt()
            return
        if not all(fault.ends_turn(self._turn_count) for fault in self._link.faults):
            return
        self._turns.speech_stopped(noticed)
        # Where a response goes on uninterrupted, the service starts no second one.
        if detection.get("create_response") and self._responder.active is None:
            self._begin({})

    def _begin(self, overrides: dict[str, Any], asked: Asked | None = None) -> None:
        self._turns.expect_nothing()
        self._responder.begin(self._settings, overrides, asked)

    def _go_on(self) -> None:
        if self._responder.active is None:
            self._begin({})

    def _expect_speech(self, response: SimulatedResponse) -> None:
        self._turns.expect_speech(response.audio_ms)

    def _create_item(self, event: dict[str, Any]) -> None:
        item, previous = self._item_of(event["item"]), event.get("previous_item_id")
        if item.wire["type"] == "function_call_output":
            odd = self._responder.calls.answer(item.wire["call_id"])
            if odd is not None:
                self._seen.note_violation(odd)
        elif item.wire["type"] == "message":
            self._responder.calls.message_came()
        elif item.wire["type"] == "mcp_approval_response":
            self._responder.mcp.answer(item.wire)
        self._conversation.insert(item, previous)
        before = self._conversation.previous_id(item.id)
        late_s = sum(fault.ack_delay_s() for fault in self._link.faults)
        for name in ("added", "done"):
            told = {"type": f"conversation.item.{name}", "previous_item_id": before, "item": item.wire}
            self._link.emit(told, late_s=late_s)

    def _item_of(self, given: dict[str, Any]) -> Item:
        """Return a client's item as the conversation keeps it; its audio is counted, not kept."""
        wire = {"id": new_id("item")} | {key: value for key, value in given.items() if key != "object"}
        if wire["type"] not in ("function_call_output", "mcp_approval_response"):
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
        self._responder.check_create(overrides)
        self._begin(overrides, Asked(event.get("event_id")))
