"""How the trunks of each worker are: what a worker writes about its own, and what stands in Redis about all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

Ask = Callable[..., Awaitable[Any]]


class TrunkStates:
    """
    The states of this worker's trunks on their way to Redis. Thread: loop.

    Each is a hash of its own that expires with the worker's heartbeat; a set names them all. Every write is the whole
    newest state, so repeating one does no harm.

    Args:
        prefix: first part of every key.
        worker: name of this worker.
        expiry_ms: how long a state stands without a heartbeat.
    """

    def __init__(self, prefix: str, worker: str, expiry_ms: str) -> None:
        self._index = index_key(prefix)
        self._prefix = prefix
        self._worker = worker
        self._expiry_ms = expiry_ms
        self._states: dict[str, dict[str, str]] = {}
        self.changed = False
        """Something is not yet written."""

    def note(self, trunk: str, fields: Mapping[str, str]) -> None:
        """Put a trunk's whole new state in the place of the old one."""
        self._states[trunk] = {**fields, "trunk": trunk, "worker": self._worker}
        self.changed = True

    def commands(self) -> Iterator[tuple[str, ...]]:
        """Give what writes all states; they count as written from then on."""
        self.changed = False
        for trunk, state in self._states.items():
            key = self._key(trunk)
            yield ("DEL", key)
            yield ("HSET", key, *(word for pair in state.items() for word in pair))
            yield ("PEXPIRE", key, self._expiry_ms)
            yield ("SADD", self._index, key)

    def keys(self) -> tuple[str, ...]:
        """Return the keys of this worker's trunks."""
        return tuple(map(self._key, self._states))

    def _key(self, trunk: str) -> str:
        return f"{self._prefix}:trunk:{self._worker}:{trunk}"


def index_key(prefix: str) -> str:
    """Return the key of the set that names the hashes of all trunks."""
    return f"{prefix}:trunks"


async def read_states(ask: Ask, prefix: str) -> list[dict[str, str]]:
    """Return the states of all workers' trunks, by trunk and worker; what has expired is taken off the set."""
    found = []
    for key in sorted(await ask("SMEMBERS", index_key(prefix))):
        state = await ask("HGETALL", key)
        if state:
            found.append(dict(state))
        else:
            await ask("SREM", index_key(prefix), key)
    return sorted(found, key=lambda state: (state.get("trunk", ""), state.get("worker", "")))
