"""The conversation: its items in order, and what may be done to them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.lab.simulator.wire.schema import ClientMistake
from gateway.lab.simulator.wire.usage import Tokens, agent_tokens, caller_tokens, text_tokens

ROOT = "root"


@dataclass(slots=True)
class Item:
    """
    One item of the conversation.

    Attributes:
        wire: the item as the protocol shows it.
        audio_ms: audio it has; for agent speech what was sent so far, or what truncation left.
        is_agent_audio: whether it is speech of the agent, the only thing that can be truncated.
        recording: gives its audio as 24 kHz PCM, for ``conversation.item.retrieve``.
        in_context: whether the model still reads it.
    """

    wire: dict[str, Any]
    audio_ms: float = 0.0
    is_agent_audio: bool = False
    recording: Callable[[], bytes] | None = None
    in_context: bool = True

    @property
    def id(self) -> str:
        """The item's id."""
        return str(self.wire["id"])

    def tokens(self) -> Tokens:
        """Return what it counts as input."""
        audio = agent_tokens(self.audio_ms) if self.is_agent_audio else caller_tokens(self.audio_ms)
        texts = [part.get("text") or "" for part in self.wire.get("content", ())]
        texts += [self.wire.get(key) or "" for key in ("name", "arguments", "output")]
        return Tokens(sum(map(text_tokens, texts)), audio)


class SimulatedConversation:
    """The items of a session, in order."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def find(self, item_id: str) -> Item | None:
        """Return the item, or None."""
        return next((item for item in self._items if item.id == item_id), None)

    def has_call(self, call_id: str) -> bool:
        """Return whether there is a function call of that ``call_id``."""
        return any(item.wire["type"] == "function_call" and item.wire.get("call_id") == call_id for item in self._items)

    def previous_id(self, item_id: str) -> str | None:
        """Return the id of the item before this one; None for the first, and for one that is not here."""
        ids = [item.id for item in self._items]
        place = ids.index(item_id) if item_id in ids else 0
        return ids[place - 1] if place else None

    def last_id(self) -> str | None:
        """Return the id of the last item, or None."""
        return self._items[-1].id if self._items else None

    def append(self, item: Item) -> None:
        """Add an item at the end."""
        self._items.append(item)

    def insert(self, item: Item, previous_item_id: str | None) -> None:
        """
        Add an item of the client's.

        Args:
            item: the item.
            previous_item_id: the item it comes after, ``root`` for the first place, None for the last.

        Raises:
            ClientMistake: its id is taken, or the item before is not known.
        """
        if self.find(item.id) is not None:
            raise ClientMistake("invalid_value", f"Item with id '{item.id}' already exists.", "item.id")
        place = len(self._items)
        if previous_item_id == ROOT:
            place = 0
        elif previous_item_id is not None:
            ids = [each.id for each in self._items]
            if previous_item_id not in ids:
                message = f"Previous item '{previous_item_id}' does not exist."
                raise ClientMistake("invalid_value", message, "previous_item_id")
            place = ids.index(previous_item_id) + 1
        self._items.insert(place, item)

    def delete(self, item_id: str) -> None:
        """
        Remove an item.

        Raises:
            ClientMistake: no such item.
        """
        item = self.find(item_id)
        if item is None:
            raise ClientMistake("item_delete_invalid_item_id", f"Item '{item_id}' does not exist.", "item_id")
        self._items.remove(item)

    def retrieve(self, item_id: str) -> dict[str, Any]:
        """
        Return an item with its audio as base64 of 24 kHz PCM.

        Raises:
            ClientMistake: no such item.
        """
        item = self.find(item_id)
        if item is None:
            message = f"Item '{item_id}' does not exist."
            raise ClientMistake("item_retrieve_invalid_item_id", message, "item_id")
        if item.recording is None:
            return item.wire
        audio = base64.b64encode(item.recording()).decode("ascii")
        return item.wire | {"content": [part | {"audio": audio} for part in item.wire["content"]]}

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """
        Cut an item of agent speech; its text goes too, since it is unknown how much of it was heard.

        Raises:
            ClientMistake: no such item, not agent speech, or an end behind its audio.
        """
        item = self.find(item_id)
        if item is None:
            raise ClientMistake("item_truncate_invalid_item_id", f"Item '{item_id}' does not exist.", "item_id")
        if not item.is_agent_audio:
            raise ClientMistake(None, "Only model output audio messages can be truncated.")
        if content_index != 0:
            raise ClientMistake("invalid_value", f"Content index {content_index} does not exist.", "content_index")
        if audio_end_ms > item.audio_ms:
            message = f"Audio content of {item.audio_ms:.0f}ms is already shorter than {audio_end_ms}ms."
            raise ClientMistake(None, message)
        item.audio_ms = audio_end_ms
        for part in item.wire["content"]:
            part["transcript"] = None

    def wires(self) -> list[dict[str, Any]]:
        """Return the items as the protocol shows them, in order."""
        return [item.wire for item in self._items]

    def tokens(self) -> Tokens:
        """Return what the items that the model reads count as input."""
        return sum((item.tokens() for item in self._items if item.in_context), Tokens())

    def forget_down_to(self, most: int) -> None:
        """Let the model forget its oldest items until the others count ``most`` tokens or less."""
        counted = self.tokens().total
        for item in self._items:
            if counted <= most:
                return
            if item.in_context:
                item.in_context = False
                counted -= item.tokens().total
