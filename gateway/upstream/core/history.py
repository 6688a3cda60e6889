"""
What was said in a call so far, in the order it was heard, as far as a new session must know it.

The service tells the order by the id of the item before, and the caller's words arrive late: entries are placed when
their item is announced and filled when their text comes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import Enum, auto

MAX_ENTRIES = 200
"""Entries kept; the oldest go first."""

MAX_CHARACTERS = 40_000
"""Text handed to a new session, about 10,000 tokens: a third of what the smallest model can take in."""


class Role(Enum):
    """Whose entry it is."""

    CALLER = auto()
    AGENT = auto()
    TOOL = auto()
    GATEWAY = auto()


@dataclass(frozen=True, slots=True)
class PastMessage:
    """What was said by the caller or the agent, or put in by the gateway, as a new session is to know it."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class PastToolCall:
    """A tool that was called; ``arguments`` is JSON text, ``output`` None when it has not answered."""

    tool_call_id: str
    name: str
    arguments: str
    output: str | None


PastItem = PastMessage | PastToolCall


@dataclass(slots=True)
class Entry:
    """
    An item of the conversation.

    Attributes:
        session: whose ids these are.
        text: what was said; of a tool, its output (None: not there yet).
        settled: the text will not change any more.
        parts: of the agent's words, by part of the item: those told in full, and those told piece by piece since then.
        tool_call_id: of a tool only, as are ``name`` and ``arguments``.
    """

    item_id: str
    role: Role
    text: str | None = None
    settled: bool = False
    tool_call_id: str = ""
    name: str = ""
    arguments: str = ""
    session: int = 0
    parts: dict[int, tuple[str, str]] = field(default_factory=dict)

    def say(self, part: int, said: str, saying: str) -> None:
        """Set the words of a part; nothing changes once the text is settled."""
        if not self.settled:
            self.parts[part] = said, saying
            pieces = (words.strip() for each in sorted(self.parts) for words in self.parts[each])
            self.text = " ".join(filter(None, pieces))


class History:
    """
    The conversation of one call across its sessions; bounded. No clock, no I/O.

    Item ids are those of a session: a service may count them from 1 again in the next (``new_session``).
    """

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._numbers = itertools.count(1)
        self._session = 0
        self._told = 0

    def new_session(self) -> History:
        """Return the same conversation for another session, which has ids of its own."""
        history = History()
        history._entries, history._numbers = self._entries, self._numbers
        history._session = next(self._numbers)
        return history

    def caller_turn(self, item_id: str, previous_item_id: str | None) -> None:
        """Place a turn of the caller; its words come later, if at all."""
        self._place(Entry(item_id, Role.CALLER), previous_item_id)

    def agent_turn(self, item_id: str, previous_item_id: str | None = None) -> None:
        """Place an item of the agent."""
        self._place(Entry(item_id, Role.AGENT), previous_item_id)

    def caller_said(self, item_id: str, text: str) -> None:
        """Fill in what the caller said."""
        entry = self._place(Entry(item_id, Role.CALLER), None)
        entry.text, entry.settled = text.strip(), True

    def agent_says(self, item_id: str, piece: str, part: int = 0) -> None:
        """Add the next words of the agent, of a part of its item."""
        entry = self._place(Entry(item_id, Role.AGENT), None)
        said, saying = entry.parts.get(part, ("", ""))
        entry.say(part, said, saying + piece)

    def agent_said(self, item_id: str, text: str, part: int = 0) -> None:
        """Set what the agent said in full since the last time, in a part of its item: all of it, or a sentence more."""
        entry = self._place(Entry(item_id, Role.AGENT), None)
        said, _ = entry.parts.get(part, ("", ""))
        entry.say(part, said if said.endswith(text.strip()) else f"{said} {text.strip()}".strip(), "")

    def cut(self, item_id: str, share: float) -> str:
        """
        Keep only what was heard of the agent's words, to whole words.

        Args:
            item_id: the agent's item.
            share: how much of its audio was heard, 0 to 1; speech is taken to be even.

        Returns:
            The words that are left.
        """
        entry = self._find(item_id, self._session)
        if entry is None or entry.role is not Role.AGENT:
            return ""
        text = entry.text or ""
        end = round(len(text) * min(1.0, max(0.0, share)))
        if end < len(text) and not text[end].isspace():
            end = text.rfind(" ", 0, end) + 1
        entry.text, entry.settled = text[:end].strip(), True
        return entry.text

    def tool_called(self, item_id: str, tool_call_id: str, name: str, arguments: str) -> None:
        """Place a call of a tool."""
        if self._find(item_id, self._session) is not None:
            item_id = tool_call_id  # another session's
        self._place(Entry(item_id, Role.TOOL, tool_call_id=tool_call_id, name=name, arguments=arguments or "{}"), None)

    def tool_answered(self, tool_call_id: str, output: str) -> None:
        """Fill in what a tool returned."""
        for entry in reversed(self._entries):
            if entry.tool_call_id == tool_call_id:
                entry.text, entry.settled = output, True
                return

    def told(self, text: str) -> None:
        """Place a message of the gateway's at the end."""
        self._told += 1
        self._place(Entry(f"told-{self._told}", Role.GATEWAY, text, settled=True), None)

    @property
    def waits_for_words(self) -> bool:
        """Whether the newest turn of the caller is not written down yet."""
        turns = (entry for entry in reversed(self._entries) if entry.role is Role.CALLER)
        newest = next(turns, None)
        return newest is not None and not newest.settled

    @property
    def is_unanswered(self) -> bool:
        """Whether the caller, or a tool that was answered, had the last word."""
        said = (entry for entry in reversed(self._entries) if entry.role is not Role.GATEWAY)
        last = next(said, None)
        if last is None or last.role is Role.AGENT:
            return False
        return last.role is Role.CALLER or last.text is not None

    def items(self) -> tuple[PastItem, ...]:
        """Return the newest of the conversation for a new session, oldest first."""
        room = MAX_CHARACTERS
        newest_first: list[PastItem] = []
        for entry in reversed(self._entries):
            room -= len(entry.text or "") + len(entry.arguments)
            if room < 0:
                break
            if (item := _item_of(entry)) is not None:
                newest_first.append(item)
        return tuple(reversed(newest_first))

    def _place(self, entry: Entry, previous_item_id: str | None) -> Entry:
        """Put an entry behind the one that is named, or to the end; return the one that is there, if it is."""
        known = self._find(entry.item_id, self._session)
        if known is not None:
            return known
        entry.session = self._session
        previous = self._find(previous_item_id, self._session, 0)  # tools are called in none
        at = len(self._entries)
        if previous is not None:
            at = next(at for at, each in enumerate(self._entries) if each is previous) + 1
        self._entries.insert(at, entry)
        if len(self._entries) > MAX_ENTRIES:
            del self._entries[0]
        return entry

    def _find(self, item_id: str | None, *sessions: int) -> Entry | None:
        found = (each for each in reversed(self._entries) if each.item_id == item_id and each.session in sessions)
        return next(found, None)


def _item_of(entry: Entry) -> PastItem | None:
    """Return an entry as a new session is to know it; None when there is nothing to tell."""
    if entry.role is Role.TOOL:
        return PastToolCall(entry.tool_call_id, entry.name, entry.arguments, entry.text)
    return PastMessage(entry.role, entry.text) if entry.text else None
