"""The items of a response, each with its events in the order of the protocol."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from typing import Any, Literal

from gateway.lab.simulator.agent.plan import Plan
from gateway.lab.simulator.conversation.items import Item, SimulatedConversation
from gateway.lab.simulator.transport.link import Link
from gateway.lab.simulator.wire.audio_formats import bytes_per_ms
from gateway.lab.simulator.wire.usage import Tokens, agent_tokens, text_tokens


def new_id(kind: str) -> str:
    """Return a fresh id: ``kind`` is ``sess``, ``conv``, ``resp``, ``item`` or ``call``."""
    return f"{kind}_{secrets.token_hex(10)}"


Told = Literal["all", "deltas", "done"]


class Output(ABC):
    """
    One item: announced when it is made, closed once.

    Args:
        wire: the item as the protocol shows it, in progress.
        response_id: the response it belongs to.
        index: its place in the response.
        conversation: receives it; None for a response outside.
        link: where events go.
        told: how it is sent: by ``all`` events; in ``deltas`` alone, never done; or in ``response.done`` alone.

    Attributes:
        is_listed: whether ``response.done`` shows it.
    """

    def __init__(
        self,
        wire: dict[str, Any],
        *,
        response_id: str,
        index: int,
        conversation: SimulatedConversation | None,
        link: Link,
        is_agent_audio: bool = False,
        told: Told = "all",
    ) -> None:
        self.item = Item(wire, is_agent_audio=is_agent_audio)
        self.index = index
        self.is_open = True
        self.is_listed = told != "deltas"
        self._told = told
        self._place: dict[str, Any] = {"response_id": response_id, "output_index": index}
        self._conversation = conversation
        self._link = link
        previous = conversation.last_id() if conversation is not None else None
        if conversation is not None:
            conversation.append(self.item)
        if told == "done":
            return
        link.emit({"type": "response.output_item.added", **self._place, "item": wire})
        if conversation is not None:
            link.emit({"type": "conversation.item.added", "previous_item_id": previous, "item": wire})

    def close(self, status: str) -> None:
        """End the item as ``completed`` or ``incomplete``; a second end has no effect."""
        if not self.is_open:
            return
        self.is_open = False
        wire = self.item.wire
        self._close_content()
        if "status" in wire:  # calls of MCP tools have none
            wire["status"] = status
        if self._told != "all":
            return
        if self._conversation is not None:
            previous = self._conversation.previous_id(self.item.id)
            self._link.emit({"type": "conversation.item.done", "previous_item_id": previous, "item": wire})
        self._link.emit({"type": "response.output_item.done", **self._place, "item": wire})

    @abstractmethod
    def tokens(self) -> Tokens:
        """Return what it counts as output."""

    @abstractmethod
    def _close_content(self) -> None:
        """End the item's parts."""


class MessageOutput(Output):
    """
    A message of one part: speech with its transcript, or text.

    Args:
        plan: the response's.
        phase: ``commentary`` or ``final_answer``, sent by models that have phases.
        speaks: whether it is speech.
    """

    def __init__(
        self,
        plan: Plan,
        phase: str,
        *,
        response_id: str,
        index: int,
        conversation: SimulatedConversation | None,
        link: Link,
        speaks: bool,
    ) -> None:
        self._speaks = speaks
        self._format_type = plan.format_type
        self._text = ""
        self._sent_bytes = 0
        wire = {"id": new_id("item"), "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        if plan.reasons:
            wire["phase"] = phase
        super().__init__(
            wire,
            response_id=response_id,
            index=index,
            conversation=conversation,
            link=link,
            is_agent_audio=self._speaks,
        )
        self._part_place = self._place | {"item_id": self.item.id, "content_index": 0}
        self._emit("response.content_part.added", part=self._part(short=True))

    def send_text(self, text: str) -> None:
        """Send the next piece of the text, or of the transcript."""
        self._text += text
        name = "output_audio_transcript" if self._speaks else "output_text"
        self._emit(f"response.{name}.delta", delta=text, obfuscation="x" * (16 - len(text) % 16))

    def send_audio(self, encoded: str, audio: bytes) -> None:
        """
        Send the next piece of speech.

        Args:
            encoded: base64 of ``audio``.
            audio: bytes in the output format.
        """
        self._sent_bytes += len(audio)
        self.item.audio_ms = self._sent_bytes / bytes_per_ms(self._format_type)
        # Written by hand: the text is large, and nothing in it needs escaping.
        place = self._place
        self._link.emit_text(
            "response.output_audio.delta",
            f'"response_id":"{place["response_id"]}","item_id":"{self.item.id}",'
            f'"output_index":{place["output_index"]},"content_index":0,"delta":"{encoded}"',
        )
        self._link.connection.note_spoken(self.item.id, self._format_type, audio)

    def tokens(self) -> Tokens:
        """Return what it counts as output."""
        return Tokens(text_tokens(self._text), agent_tokens(self.item.audio_ms))

    def _close_content(self) -> None:
        if self._speaks:
            self._emit("response.output_audio.done")
            self._emit("response.output_audio_transcript.done", transcript=self._text)
        else:
            self._emit("response.output_text.done", text=self._text)
        self._emit("response.content_part.done", part=self._part(short=True))
        self.item.wire["content"] = [self._part(short=False)]

    def _part(self, *, short: bool) -> dict[str, Any]:
        """Return the part; part events say ``audio`` and ``text`` where items say ``output_audio``."""
        kind, key = ("audio", "transcript") if self._speaks else ("text", "text")
        return {"type": kind if short else f"output_{kind}", key: self._text}

    def _emit(self, event_type: str, **fields: Any) -> None:
        self._link.emit({"type": event_type, **self._part_place, **fields})


class CallOutput(Output):
    """
    A function call.

    Args:
        name: of the function.
    """

    def __init__(
        self,
        name: str,
        *,
        response_id: str,
        index: int,
        conversation: SimulatedConversation | None,
        link: Link,
        told: Told = "all",
    ) -> None:
        self.call_id = new_id("call")
        self.name = name
        wire = {
            "id": new_id("item"),
            "type": "function_call",
            "status": "in_progress",
            "name": name,
            "call_id": self.call_id,
            "arguments": "",
        }
        super().__init__(wire, response_id=response_id, index=index, conversation=conversation, link=link, told=told)
        self._call_place = self._place | {"item_id": self.item.id, "call_id": self.call_id}
        self._arguments = ""

    def send_arguments(self, text: str) -> None:
        """Send the next piece of the arguments."""
        self._arguments += text
        if self._told == "done":
            return
        event_type = "response.function_call_arguments.delta"
        self._link.emit({"type": event_type, **self._call_place, "delta": text, "obfuscation": "x" * 8})

    def tokens(self) -> Tokens:
        """Return what it counts as output."""
        return Tokens(text_tokens(self.name) + text_tokens(self._arguments))

    def _close_content(self) -> None:
        if self._told == "all":
            event_type = "response.function_call_arguments.done"
            self._link.emit({"type": event_type, **self._call_place, "name": self.name, "arguments": self._arguments})
        self.item.wire["arguments"] = self._arguments
