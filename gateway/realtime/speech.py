"""The agent's speech as it comes in: how much of which item was received, and how much of it may be cut off."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ITEMS = 64
"""Items whose received audio is remembered; far more than can wait to be played."""


@dataclass(slots=True)
class Speech:
    """An item of the agent that has audio."""

    item_id: str
    response_id: str | None
    content_index: int
    received_bytes: int = 0
    ended: bool = False  # no more audio comes
    whole: bool = False  # it ended by itself, not cut off
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of an item: ``end_ms`` milliseconds, the ``share`` (0 to 1) of what was received."""

    item_id: str
    content_index: int
    end_ms: int
    share: float


class SpokenItems:
    """
    The newest items of the agent, by id, in the order in which their audio began.

    Args:
        bytes_per_ms: of the session's output format (48 for PCM at 24 kHz, 8 for G.711).
    """

    def __init__(self, bytes_per_ms: int) -> None:
        self._bytes_per_ms = bytes_per_ms
        self._items: dict[str, Speech] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def open_responses(self) -> set[str]:
        """Responses of which speech still comes."""
        return {each.response_id for each in self._items.values() if not each.ended and each.response_id is not None}

    def receive(self, item_id: str, response_id: str | None, content_index: int, size_bytes: int) -> bool:
        """Count a piece of audio; False if it is to be dropped, since its item was cut off."""
        speech = self._items.get(item_id)
        if speech is None:
            speech = self._items[item_id] = Speech(item_id, response_id, content_index)
            if len(self._items) > MAX_ITEMS:
                del self._items[next(iter(self._items))]
        elif speech.truncated:
            return False
        speech.received_bytes += size_bytes
        return True

    def end(self, item_id: str, *, whole: bool) -> list[str]:
        """Take note that an item has no more audio; return it in a list unless that was known, or it never had any."""
        speech = self._items.get(item_id)
        if speech is None or speech.ended:
            return []
        speech.ended, speech.whole = True, whole
        return [item_id]

    def end_response(self, response_id: str, *, whole: bool) -> list[str]:
        """End the items that a response left open, since their own ending may never come; return them."""
        left = [each.item_id for each in self._items.values() if each.response_id == response_id]
        return [ended for item_id in left for ended in self.end(item_id, whole=whole)]

    def cut(self, item_id: str, played_ms: int) -> list[Cut]:
        """
        Cut an item to what was heard of it, and those behind it, which nobody heard, to nothing.

        Bounded by the audio received: the service refuses more. Empty when the item is unknown, was cut before or was
        heard in full: cutting nothing off would only delete its transcript.
        """
        speech = self._items.get(item_id)
        if speech is None or speech.truncated:
            return []
        if speech.whole and played_ms >= speech.received_bytes // self._bytes_per_ms:
            return []
        cuts = [self._cut(speech, played_ms)]
        behind = list(self._items.values())
        unheard = behind[behind.index(speech) + 1 :]
        return cuts + [self._cut(later, 0) for later in unheard if not later.truncated]

    def _cut(self, speech: Speech, played_ms: int) -> Cut:
        speech.truncated = True
        received_ms = speech.received_bytes // self._bytes_per_ms
        end_ms = max(0, min(played_ms, received_ms))
        return Cut(speech.item_id, speech.content_index, end_ms, end_ms / received_ms if received_ms else 0.0)
