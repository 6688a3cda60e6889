"""
The agent's speech as it comes in, by item and part of it: in which order it belongs, how much of it may be cut off.

Deltas of several items overlap on the wire, as do those of responses. Each item is a stream of its own, and its place
tells the playout where it belongs. The parts of one item are told one after the other: a part whose audio comes before
the part in front of it is over is held back here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.upstream.core.dialect import AgentAudio, AgentAudioDone

MAX_ITEMS = 64
"""Items and responses that are remembered; far more than can wait to be played."""

Playable = list[AgentAudio | AgentAudioDone]


@dataclass(slots=True)
class _AudioPart:
    """A part of an item's content that is audio."""

    received_bytes: int = 0
    ended: bool = False  # no more audio is awaited
    whole: bool = False  # it ended by itself, not cut off
    told: bool = False  # that it ended
    held: list[bytes] = field(default_factory=list)  # waits for the parts before it


@dataclass(slots=True)
class _SpokenItem:
    """An item of the agent: announced, or known by its audio."""

    item_id: str
    response_id: str | None
    place: tuple[int, int]
    parts: dict[int, _AudioPart] = field(default_factory=dict)  # by content index
    released: bool = False  # some of it may have been played
    truncated: bool = False

    @property
    def received_bytes(self) -> int:
        return sum(part.received_bytes for part in self.parts.values())

    @property
    def ended(self) -> bool:
        return bool(self.parts) and all(part.ended for part in self.parts.values())

    @property
    def whole(self) -> bool:
        return self.ended and all(part.whole for part in self.parts.values())

    def ran_on(self, content_index: int) -> bool:
        """Whether the index that comes is the third in a row with a single piece each: it counts pieces, not parts."""
        *before, last = sorted(self.parts)
        return bool(before) and last < content_index and len(self.parts[last].held) == 1

    def join(self) -> int:
        """Take all parts for one, and return its index."""
        first, *others = sorted(self.parts)
        for part in [self.parts.pop(index) for index in others]:
            self.parts[first].received_bytes += part.received_bytes
            self.parts[first].held += part.held
        return first

    def end(self, indexes: Iterable[int], *, whole: bool) -> None:
        for index in indexes:
            part = self.parts[index]
            part.ended, part.whole = True, part.whole or whole

    def tell(self) -> Playable:
        """Return what was held back of parts that no open one is before, and which of them ended."""
        told: Playable = []
        for _, part in sorted(self.parts.items()):
            if part.held:
                self.released = True
                told.append(AgentAudio(self.item_id, b"".join(part.held), self.place))
                part.held.clear()
            if not part.ended:
                break
            if part.received_bytes and not part.told:
                part.told = True
                told.append(AgentAudioDone(self.item_id))
        return told


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of an item: the ``share`` (0 to 1) of it, and of each part that lost something the milliseconds."""

    item_id: str
    share: float
    end_ms: Mapping[int, int]


class SpokenItems:
    """
    The newest items of the agent, by id.

    Args:
        bytes_per_ms: of the session's output format (48 for PCM at 24 kHz, 8 for G.711).
    """

    def __init__(self, bytes_per_ms: int) -> None:
        self._bytes_per_ms = bytes_per_ms
        self._items: dict[str, _SpokenItem] = {}
        self._counts_pieces = False  # the service gives each piece of an item a content index of its own
        self._numbers: dict[str, int] = {}  # of responses, by id
        self._responses = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def open_responses(self) -> set[str]:
        """Responses of which speech still comes."""
        return {each.response_id for each in self._items.values() if not each.ended and each.response_id is not None}

    # What comes

    def begin_response(self, response_id: str) -> None:
        """Take note of a response that began: it is played behind those that began before."""
        self._number(response_id)

    def forget_response(self, response_id: str) -> None:
        """Treat what arrives for this response from now on as another's: the service reuses the id."""
        self._numbers.pop(response_id, None)
        for item_id in [each.item_id for each in self._items.values() if each.response_id == response_id]:
            del self._items[item_id]

    def announce(self, item_id: str, response_id: str | None, output_index: int | None) -> None:
        """Take note of an item that may have audio: it keeps its place, but nothing waits for it."""
        self._item(item_id, response_id, output_index)

    def begin_part(self, item_id: str, content_index: int) -> None:
        """Take note of a part that is audio: those behind it wait for it."""
        if item_id in self._items:
            self._items[item_id].parts.setdefault(content_index, _AudioPart())

    def receive(
        self, item_id: str, pcm: bytes, *, response_id: str | None, output_index: int | None, content_index: int
    ) -> Playable:
        """
        Take a piece of audio.

        Returns:
            What may be played because of it; nothing if the item was cut off, or an earlier part of it is not over.
        """
        item = self._item(item_id, response_id, output_index)
        if item.truncated:
            return []
        if item.parts and content_index not in item.parts:
            self._counts_pieces = self._counts_pieces or item.ran_on(content_index)
            content_index = item.join() if self._counts_pieces else content_index
        part = item.parts.setdefault(content_index, _AudioPart())
        part.received_bytes += len(pcm)
        part.held.append(pcm)
        part.ended = part.whole = part.told = False
        if any(index < content_index and not each.ended for index, each in item.parts.items()):
            return []
        return item.tell()

    def end_part(self, item_id: str, content_index: int, *, whole: bool) -> Playable:
        """Take note that a part has no more audio; return what may be played now, and that it ended."""
        item = self._items.get(item_id)
        if item is None or content_index not in item.parts:
            return []
        item.end((content_index,), whole=whole)
        return item.tell()

    def end(self, item_id: str, *, whole: bool) -> Playable:
        """Take note that an item has no more audio: what it still held back may be played, and what was open ended."""
        item = self._items.get(item_id)
        if item is None:
            return []
        if not item.received_bytes and not item.truncated:
            del self._items[item_id]
            return []
        item.end([index for index, part in item.parts.items() if not part.ended], whole=whole)
        return item.tell()

    def end_response(self, response_id: str, *, whole: bool) -> Playable:
        """End the items that a response left open, since their own ending may never come."""
        left = [each.item_id for each in self._items.values() if each.response_id == response_id]
        return [told for item_id in left for told in self.end(item_id, whole=whole)]

    def end_all(self) -> Playable:
        """End all items: their session is gone."""
        return [told for item_id in tuple(self._items) for told in self.end(item_id, whole=False)]

    # What was heard

    def cut(self, heard_ms: Mapping[str, int]) -> list[Cut]:
        """
        Cut items to what was heard of them.

        Bounded by the audio received: the service refuses more. Nothing is told of an item that is unknown, was cut
        before or was heard in full: cutting nothing off would only delete its transcript. What still comes of the same
        responses in items that could not be heard yet is cut as well.

        Args:
            heard_ms: milliseconds heard of each item that was being played or waited for that.
        """
        cuts: list[Cut] = []
        responses: set[str | None] = set()
        for item in [self._items[item_id] for item_id in heard_ms if item_id in self._items]:
            ms = heard_ms[item.item_id]
            if item.truncated or (item.whole and ms >= item.received_bytes // self._bytes_per_ms):
                continue
            responses.add(item.response_id)
            cuts.append(self._cut(item, ms))
        unheard = [each for each in self._items.values() if each.response_id in responses and not each.released]
        cuts += [self._cut(item, 0) for item in unheard if not item.truncated]
        return [cut for cut in cuts if cut.end_ms]

    def _cut(self, item: _SpokenItem, heard_ms: int) -> Cut:
        item.truncated = True
        received_ms = item.received_bytes // self._bytes_per_ms
        heard_ms = max(0, min(heard_ms, received_ms))
        ends: dict[int, int] = {}
        left_ms = heard_ms
        for index, part in sorted(item.parts.items()):
            part.held.clear()
            part_ms = part.received_bytes // self._bytes_per_ms
            if part.received_bytes and (left_ms < part_ms or not part.whole):
                ends[index] = min(left_ms, part_ms)
            left_ms = max(0, left_ms - part_ms)
        return Cut(item.item_id, heard_ms / received_ms if received_ms else 0.0, ends)

    # Where it belongs

    def _item(self, item_id: str, response_id: str | None, output_index: int | None) -> _SpokenItem:
        item = self._items.get(item_id)
        if item is not None and None not in (response_id, item.response_id) and response_id != item.response_id:
            item = None  # an id that comes again is another item's
        if item is None:
            self._items.pop(item_id, None)
            if len(self._items) >= MAX_ITEMS:
                silent = (each.item_id for each in self._items.values() if not each.parts)
                del self._items[next(silent, next(iter(self._items)))]
            of_response = sum(each.response_id == response_id for each in self._items.values())
            index = of_response if output_index is None else output_index
            item = self._items[item_id] = _SpokenItem(item_id, response_id, (self._number(response_id), index))
        return item

    def _number(self, response_id: str | None) -> int:
        """Return the number of a response, in the order in which they began; an item without one has one of its own."""
        if response_id in self._numbers:
            return self._numbers[response_id]
        self._responses += 1
        if response_id is not None:
            self._numbers[response_id] = self._responses
            if len(self._numbers) > MAX_ITEMS:
                del self._numbers[next(iter(self._numbers))]
        return self._responses
