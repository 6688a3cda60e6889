"""One response: the events that make it, in the order of the protocol, and their pace."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.lab.simulator.config import complete_format
from gateway.lab.simulator.items import CHARACTERS_PER_TOKEN, Conversation, Item
from gateway.lab.simulator.link import Link
from gateway.lab.simulator.options import SimulatorOptions
from gateway.lab.simulator.speech import Utterance, bytes_per_ms

OUTPUT_TOKEN_MS = 50
RATE_LIMITS_S = 0.04
TRANSCRIPT_LEAD = 2  # deltas by which the transcript is ahead of the audio
TOKEN_LIMIT = 250_000


def new_id(kind: str) -> str:
    """Return a fresh id: ``kind`` is ``sess``, ``conv``, ``resp`` or ``item``."""
    return f"{kind}_{secrets.token_hex(10)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What a response is asked to be: the session's values, and over them those of its ``response.create``.

    Attributes:
        conversation_id: None for a response outside the conversation.
        modality: ``audio`` or ``text``.
        output_format: format object of its audio.
        instructions: those of this response alone; empty if it has none.
        input_tokens: (text, audio) of what it answers.
    """

    conversation_id: str | None
    modality: str
    output_format: dict[str, Any]
    voice: Any
    max_output_tokens: int | str
    metadata: dict[str, str] | None
    instructions: str
    input_tokens: tuple[int, int]

    @classmethod
    def of(
        cls,
        session: dict[str, Any],
        overrides: dict[str, Any],
        *,
        conversation_id: str,
        input_tokens: tuple[int, int],
    ) -> Plan:
        """Lay a ``response.create`` over the session."""
        output = session["audio"]["output"] | overrides.get("audio", {}).get("output", {})
        outside = overrides.get("conversation", "auto") == "none"
        return cls(
            conversation_id=None if outside else conversation_id,
            modality=overrides.get("output_modalities", session["output_modalities"])[0],
            output_format=complete_format(output["format"]),
            voice=output["voice"],
            max_output_tokens=overrides.get("max_output_tokens", session["max_output_tokens"]),
            metadata=overrides.get("metadata"),
            instructions=overrides.get("instructions", ""),
            input_tokens=input_tokens,
        )


class Response:
    """
    A response and its one item: begins with ``response.created``, ends with ``response.done``.

    Args:
        plan: what is asked for.
        conversation: receives the item, unless the response stands outside of it.
        link: where events go.
        on_done: called once, behind ``response.done``.
    """

    def __init__(self, plan: Plan, conversation: Conversation, link: Link, on_done: Callable[[Response], None]) -> None:
        self.id = new_id("resp")
        self.plan = plan
        self.status = "in_progress"
        self._conversation = conversation
        self._link = link
        self._on_done = on_done
        self._item: Item | None = None
        self._text = ""
        self._sent_bytes = 0
        link.emit({"type": "response.created", "response": self._wire(None)})

    @property
    def active(self) -> bool:
        """Whether it still goes on."""
        return self.status == "in_progress"

    @property
    def format_type(self) -> str:
        """Format type of its audio."""
        return str(self.plan.output_format["type"])

    @property
    def has_item(self) -> bool:
        """Whether its item has been announced."""
        return self._item is not None

    def open_item(self) -> None:
        """Announce the item and its one part."""
        wire = {"id": new_id("item"), "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        self._item = Item(wire, is_agent_audio=self.plan.modality == "audio")
        self._link.emit({"type": "response.output_item.added", "response_id": self.id, "output_index": 0, "item": wire})
        if self.plan.conversation_id is not None:
            previous = self._conversation.last_id()
            self._conversation.append(self._item)
            self._link.emit({"type": "conversation.item.added", "previous_item_id": previous, "item": wire})
        self._emit_part("response.content_part.added", part=self._part(short=True))

    def send_text(self, text: str) -> None:
        """Send the next piece of the text, or of the transcript."""
        self._text += text
        name = "output_audio_transcript" if self.plan.modality == "audio" else "output_text"
        self._emit_part(f"response.{name}.delta", delta=text, obfuscation="x" * (16 - len(text) % 16))

    def send_audio(self, encoded: str, audio: bytes) -> None:
        """
        Send the next piece of speech.

        Args:
            encoded: base64 of ``audio``.
            audio: bytes in the output format.
        """
        item = self._open()
        self._sent_bytes += len(audio)
        item.audio_ms = self._sent_bytes / bytes_per_ms(self.format_type)
        # Written by hand: the text is large, and nothing in it needs escaping.
        self._link.emit_text(
            "response.output_audio.delta",
            f'"response_id":"{self.id}","item_id":"{item.id}","output_index":0,"content_index":0,"delta":"{encoded}"',
        )
        self._link.connection.note_spoken(item.id, self.format_type, audio)

    def finish(self, status: str, reason: str | None = None) -> None:
        """
        End the response; a second end is none.

        Args:
            status: ``completed``, ``cancelled`` or ``incomplete``.
            reason: goes into ``status_details``; None where it completed.
        """
        if not self.active:
            return
        self.status = status
        if self._item is not None:
            self._close_item(self._item, "completed" if status == "completed" else "incomplete")
        details = {"type": status, "reason": reason} if reason else None
        self._link.emit({"type": "response.done", "response": self._wire(details)})
        self._on_done(self)

    def _open(self) -> Item:
        if self._item is None:
            raise RuntimeError("speech before the item was announced")
        return self._item

    def _close_item(self, item: Item, status: str) -> None:
        if self.plan.modality == "audio":
            self._emit_part("response.output_audio.done")
            self._emit_part("response.output_audio_transcript.done", transcript=self._text)
        else:
            self._emit_part("response.output_text.done", text=self._text)
        self._emit_part("response.content_part.done", part=self._part(short=True))
        item.wire["status"] = status
        item.wire["content"] = [self._part(short=False)]
        if self.plan.conversation_id is not None:
            previous = self._conversation.previous_id(item.id)
            self._link.emit({"type": "conversation.item.done", "previous_item_id": previous, "item": item.wire})
        self._link.emit(
            {"type": "response.output_item.done", "response_id": self.id, "output_index": 0, "item": item.wire}
        )

    def _part(self, *, short: bool) -> dict[str, Any]:
        """Return the part; part events say ``audio`` and ``text`` where items say ``output_audio``."""
        kind, key = ("audio", "transcript") if self.plan.modality == "audio" else ("text", "text")
        return {"type": kind if short else f"output_{kind}", key: self._text}

    def _emit_part(self, event_type: str, **fields: Any) -> None:
        place = {"response_id": self.id, "item_id": self._open().id, "output_index": 0, "content_index": 0}
        self._link.emit({"type": event_type, **place, **fields})

    def _wire(self, details: dict[str, Any] | None) -> dict[str, Any]:
        plan = self.plan
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": details,
            "output": [] if self._item is None else [self._item.wire],
            "conversation_id": plan.conversation_id,
            "output_modalities": [plan.modality],
            "max_output_tokens": plan.max_output_tokens,
            "audio": {"output": {"format": plan.output_format, "voice": plan.voice}},
            "usage": None if self.active else self._usage(),
            "metadata": plan.metadata,
        }

    def _usage(self) -> dict[str, Any]:
        spoke = self._item is not None
        text_in, audio_in = self.plan.input_tokens if spoke else (0, 0)
        text_out = len(self._text) // CHARACTERS_PER_TOKEN
        audio_out = math.ceil(self._item.audio_ms / OUTPUT_TOKEN_MS) if self._item is not None else 0
        cached = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        return {
            "total_tokens": text_in + audio_in + text_out + audio_out,
            "input_tokens": text_in + audio_in,
            "output_tokens": text_out + audio_out,
            "input_token_details": {
                "text_tokens": text_in,
                "audio_tokens": audio_in,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": cached,
            },
            "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
        }


async def speak(response: Response, utterance: Utterance, options: SimulatorOptions, link: Link) -> None:
    """
    Say a sentence at the simulator's pace, and end the response; returns early once it was cancelled.

    Args:
        response: fresh, its item not announced.
        utterance: cut for the response's format.
        options: think time and speed.
        link: for ``rate_limits.updated``, which comes a little after the end.
    """
    await asyncio.sleep(options.think_ms / 1000)
    if not response.active:
        return
    response.open_item()
    words = utterance.text.split(" ")
    pieces = [word if index == 0 else f" {word}" for index, word in enumerate(words)]
    total, allowed = len(utterance.deltas), _deltas_allowed(response.plan, len(utterance.deltas), options.delta_ms)
    said, clock = 0, asyncio.get_running_loop().time()
    for number, delta in enumerate(utterance.deltas[:allowed]):
        due = math.ceil(len(pieces) * min(number + TRANSCRIPT_LEAD, total) / total)
        for piece in pieces[said:due]:
            response.send_text(piece)
        said = max(said, due)
        if response.plan.modality == "audio":
            response.send_audio(delta.encoded, delta.audio)
        clock += options.delta_ms / 1000 / options.speed
        await asyncio.sleep(clock - asyncio.get_running_loop().time())
        if not response.active:
            return
    if allowed < total:
        response.finish("incomplete", "max_output_tokens")
    else:
        response.finish("completed")
    await asyncio.sleep(RATE_LIMITS_S)
    limits = {"name": "tokens", "limit": TOKEN_LIMIT, "remaining": TOKEN_LIMIT - 1000, "reset_seconds": 0.24}
    link.emit({"type": "rate_limits.updated", "rate_limits": [limits]})


def _deltas_allowed(plan: Plan, total: int, delta_ms: int) -> int:
    """Return how many deltas ``max_output_tokens`` lets through; at least one."""
    if isinstance(plan.max_output_tokens, str):
        return total
    return min(total, max(1, plan.max_output_tokens * OUTPUT_TOKEN_MS // delta_ms))
