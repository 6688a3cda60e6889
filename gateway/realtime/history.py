"""
What was said in a call so far, in the order it was heard, as far as a new session must know it.

The service tells the order by the id of the item before, and the caller's words arrive late: entries are placed when
their item is announced and filled when their text comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from gateway.realtime.wire_client import (
    AssistantMessage,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    OutputText,
    SystemMessage,
    UserMessage,
)

MAX_ENTRIES = 200
"""Entries kept; the oldest go first."""

MAX_CHARACTERS = 40_000
"""Text handed to a new session, about 10,000 tokens: a third of what the smallest model can take in."""


class Speaker(Enum):
    """Whose entry it is."""

    CALLER = auto()
    AGENT = auto()
    TOOL = auto()
    GATEWAY = auto()


@dataclass(slots=True)
class Entry:
    """
    An item of the conversation.

    Attributes:
        text: what was said; of a tool, its output (None: not there yet).
        settled: the text will not change any more.
        tool_call_id: of a tool only, as are ``name`` and ``arguments``.
    """

    item_id: str
    speaker: Speaker
    text: str | None = None
    settled: bool = False
    tool_call_id: str = ""
    name: str = ""
    arguments: str = ""


class History:
    """The conversation of one call across its sessions; bounded. No clock, no I/O."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._by_id: dict[str, Entry] = {}
        self._told = 0

    def caller_turn(self, item_id: str, previous_item_id: str | None) -> None:
        """Place a turn of the caller; its words come later, if at all."""
        self._place(Entry(item_id, Speaker.CALLER), previous_item_id)

    def agent_turn(self, item_id: str, previous_item_id: str | None = None) -> None:
        """Place an item of the agent."""
        self._place(Entry(item_id, Speaker.AGENT), previous_item_id)

    def caller_said(self, item_id: str, text: str) -> None:
        """Fill in what the caller said."""
        entry = self._by_id.get(item_id) or self._place(Entry(item_id, Speaker.CALLER), None)
        entry.text, entry.settled = text.strip(), True

    def agent_says(self, item_id: str, piece: str) -> None:
        """Add the next words of the agent."""
        entry = self._by_id.get(item_id) or self._place(Entry(item_id, Speaker.AGENT), None)
        if not entry.settled:
            entry.text = (entry.text or "") + piece

    def agent_said(self, item_id: str, text: str) -> None:
        """Set what the agent said in full."""
        entry = self._by_id.get(item_id) or self._place(Entry(item_id, Speaker.AGENT), None)
        if not entry.settled:
            entry.text, entry.settled = text.strip(), True

    def cut(self, item_id: str, share: float) -> str:
        """
        Keep only what was heard of the agent's words, to whole words.

        Args:
            item_id: the agent's item.
            share: how much of its audio was heard, 0 to 1; speech is taken to be even.

        Returns:
            The words that are left.
        """
        entry = self._by_id.get(item_id)
        if entry is None or entry.speaker is not Speaker.AGENT:
            return ""
        text = entry.text or ""
        end = round(len(text) * min(1.0, max(0.0, share)))
        if end < len(text) and not text[end].isspace():
            end = text.rfind(" ", 0, end) + 1
        entry.text, entry.settled = text[:end].strip(), True
        return entry.text

    def tool_called(self, item_id: str, tool_call_id: str, name: str, arguments: str) -> None:
        """Place a call of a tool."""
        self._place(
            Entry(item_id, Speaker.TOOL, tool_call_id=tool_call_id, name=name, arguments=arguments or "{}"), None
        )

    def tool_answered(self, tool_call_id: str, output: str) -> None:
        """Fill in what a tool returned."""
        for entry in reversed(self._entries):
            if entry.tool_call_id == tool_call_id:
                entry.text, entry.settled = output, True
                return

    def told(self, text: str) -> None:
        """Place a message of the gateway's at the end."""
        self._told += 1
        self._place(Entry(f"told-{self._told}", Speaker.GATEWAY, text, settled=True), None)

    @property
    def waits_for_words(self) -> bool:
        """Whether the newest turn of the caller is not written down yet."""
        turns = (entry for entry in reversed(self._entries) if entry.speaker is Speaker.CALLER)
        newest = next(turns, None)
        return newest is not None and not newest.settled

    @property
    def is_unanswered(self) -> bool:
        """Whether the caller, or a tool that was answered, had the last word."""
        said = (entry for entry in reversed(self._entries) if entry.speaker is not Speaker.GATEWAY)
        last = next(said, None)
        if last is None or last.speaker is Speaker.AGENT:
            return False
        return last.speaker is Speaker.CALLER or last.text is not None

    def items(self) -> tuple[Item, ...]:
        """Return the newest of the conversation as items for a new session, oldest first."""
        room = MAX_CHARACTERS
        newest_first: list[Item] = []
        for entry in reversed(self._entries):
            room -= len(entry.text or "") + len(entry.arguments)
            if room < 0:
                break
            newest_first.extend(reversed(_items_of(entry)))
        return tuple(reversed(newest_first))

    def _place(self, entry: Entry, previous_item_id: str | None) -> Entry:
        known = self._by_id.get(entry.item_id)
        if known is not None:
            return known
        previous = self._by_id.get(previous_item_id) if previous_item_id is not None else None
        at = len(self._entries) if previous is None else self._entries.index(previous) + 1
        self._entries.insert(at, entry)
        self._by_id[entry.item_id] = entry
        if len(self._entries) > MAX_ENTRIES:
            del self._by_id[self._entries.pop(0).item_id]
        return entry


def _items_of(entry: Entry) -> tuple[Item, ...]:
    """Return an entry as items; none when there is nothing to tell."""
    if entry.speaker is Speaker.TOOL:
        call = FunctionCall(name=entry.name, arguments=entry.arguments, call_id=entry.tool_call_id)
        if entry.text is None:
            return (call,)
        return call, FunctionCallOutput(call_id=entry.tool_call_id, output=entry.text)
    if not entry.text:
        return ()
    if entry.speaker is Speaker.GATEWAY:
        return (SystemMessage(content=(InputText(text=entry.text),)),)
    if entry.speaker is Speaker.CALLER:
        return (UserMessage(content=(InputText(text=entry.text),)),)
    return (AssistantMessage(content=(OutputText(text=entry.text),)),)
