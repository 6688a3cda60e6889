"""Which INVITEs were seen, and which calls are known: what tells a retransmission, a ghost and a stranger apart."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

_WAITING = 1024  # INVITEs without a 2xx; a flood pushes its own out
_CALLS = 256  # INVITEs that were accepted: many times what a process holds
_OURS = 512  # Call-IDs of requests we sent

K = TypeVar("K")
V = TypeVar("V")
Arrival = Literal["new", "again", "absorbed", "refused", "merged"]


class InviteKey(NamedTuple):
    """What is the same in every copy of an INVITE (RFC 3261 section 8.2.2.2)."""

    call_id: str
    from_tag: str
    cseq: int


@dataclass(slots=True)
class _Seen:
    branch: str
    code: int = 0  # our final answer; 0 before it
    acknowledged: bool = False


class Invites:
    """
    A bounded memory of INVITEs from outside, and of the calls that came of them. No I/O; thread: sip.

    An accepted INVITE moves to a table of its own, where a flood of others cannot push it out.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[InviteKey, _Seen] = OrderedDict()
        self._accepted: OrderedDict[InviteKey, _Seen] = OrderedDict()
        self._calls: OrderedDict[str, None] = OrderedDict()
        self._ours: OrderedDict[str, None] = OrderedDict()

    def arrived(self, key: InviteKey, branch: str) -> Arrival:
        """
        Say what an INVITE without a To tag is.

        Returns:
            ``new``; ``again``: a retransmission whose transaction lives; ``absorbed``: a retransmission of an INVITE
            whose 200 is repeated until its ACK, or that has its ACK (RFC 6026); ``refused``: a retransmission of one
            that was refused, which the library would judge anew; ``merged``: a copy that would make a second call.
        """
        seen = self._accepted.get(key) or self._waiting.get(key)
        if seen is None:
            return "new"
        if 200 <= seen.code < 300:
            return "absorbed" if branch == seen.branch and not seen.acknowledged else "merged"
        if branch == seen.branch:
            if not seen.code:
                return "again"
            return "absorbed" if seen.acknowledged else "refused"
        # After a refusal a proxy may try the same call by another way (RFC 3261 section 16.7).
        return "new" if seen.code else "merged"

    def refusal(self, key: InviteKey) -> int:
        """Return the code that an INVITE was refused with, 0 when it was not."""
        seen = self._waiting.get(key)
        return seen.code if seen else 0

    def passed(self, key: InviteKey, branch: str) -> None:
        """Remember an INVITE that the library gets."""
        self._waiting.pop(key, None)
        _keep(self._waiting, key, _Seen(branch), _WAITING)

    def answered(self, key: InviteKey, code: int) -> None:
        """Remember that we answered an INVITE."""
        seen = self._waiting.get(key)
        if seen is None or code < 200:
            return
        seen.code = code
        if code < 300:
            del self._waiting[key]
            _keep(self._accepted, key, seen, _CALLS)
            _keep(self._calls, key.call_id, None, _CALLS)

    def acknowledged(self, key: InviteKey) -> bool:
        """Remember that the ACK of an INVITE came; False when no such INVITE is known."""
        seen = self._accepted.get(key) or self._waiting.get(key)
        if seen is not None:
            seen.acknowledged = True
        return seen is not None

    def began(self, call_id: str) -> None:
        """Remember a request of ours."""
        if call_id in self._ours:
            self._ours.move_to_end(call_id)
        else:
            _keep(self._ours, call_id, None, _OURS)

    def is_call(self, call_id: str) -> bool:
        """Whether a call with this Call-ID was accepted, or begun by us."""
        found = next((table for table in (self._calls, self._ours) if call_id in table), None)
        if found is not None:
            found.move_to_end(call_id)  # a long call is used all the time
        return found is not None

    def is_ours(self, call_id: str) -> bool:
        """Whether we sent a request with this Call-ID."""
        return call_id in self._ours

    def is_waiting(self, key: InviteKey) -> bool:
        """Whether an INVITE was let through and not accepted yet: a CANCEL may come."""
        return key in self._waiting


def _keep(table: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    table[key] = value
    if len(table) > limit:
        table.popitem(last=False)
