"""The state of trunks, dialplans and upstreams: what a worker writes of its own, what Redis has of all workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Literal

from gateway.store.keys import key_of
from gateway.store.record import as_text

Ask = Callable[..., Awaitable[Any]]
Kind = Literal["trunk", "dialplan", "upstream"]


class WorkerStates:
    """
    The states of one worker on their way to Redis. Thread: loop.

    Each is a hash of its own that expires with the worker's heartbeat; a set for each kind names them all. Every write
    is the whole newest state, so repeating one does no harm.

    Args:
        prefix: first part of every key.
        worker: name of this worker.
        expiry_ms: how long a state is kept without a heartbeat.
        now: Unix seconds.
        wake: called when there is something to write.
    """

    def __init__(
        self, prefix: str, worker: str, expiry_ms: str, *, now: Callable[[], float], wake: Callable[[], None]
    ) -> None:
        self._prefix = prefix
        self._worker = worker
        self._expiry_ms = expiry_ms
        self._now = now
        self._wake = wake
        self._states: dict[tuple[Kind, str], dict[str, str]] = {}
        self.changed = False
        """Something is not yet written."""

    def note(self, kind: Kind, name: str, fields: Mapping[str, str | int | float]) -> None:
        """Put a whole new state in the place of the old one; ``name`` is empty for what a worker has one of."""
        whole = {**fields, "worker": self._worker, "at": self._now()}
        if name:
            whole[kind] = name
        self._states[kind, name] = {field: as_text(value) for field, value in whole.items()}
        self.changed = True
        self._wake()

    def commands(self) -> Iterator[tuple[str, ...]]:
        """Give what writes all states; they count as written from then on."""
        self.changed = False
        for (kind, name), state in self._states.items():
            key = self._key(kind, name)
            yield ("DEL", key)
            yield ("HSET", key, *(word for pair in state.items() for word in pair))
            yield ("PEXPIRE", key, self._expiry_ms)
            yield ("SADD", index_key(self._prefix, kind), key)

    def farewell(self) -> Iterator[tuple[str, ...]]:
        """Give what takes all states away again."""
        for kind, name in self._states:
            yield ("DEL", self._key(kind, name))
            yield ("SREM", index_key(self._prefix, kind), self._key(kind, name))

    def _key(self, kind: Kind, name: str) -> str:
        return key_of(self._prefix, kind, self._worker, *([name] if name else []))


def index_key(prefix: str, kind: Kind) -> str:
    """Return the key of the set that names the hashes of all states of a kind."""
    return key_of(prefix, f"{kind}s")


async def read_states(ask: Ask, prefix: str, kind: Kind) -> list[dict[str, str]]:
    """Return the states of all workers, by name and worker; what has expired is taken off the set."""
    found = []
    index = index_key(prefix, kind)
    for key in sorted(await ask("SMEMBERS", index)):
        state = await ask("HGETALL", key)
        if state:
            found.append(dict(state))
        else:
            await ask("SREM", index, key)
    return sorted(found, key=lambda state: (state.get(kind, ""), state.get("worker", "")))
