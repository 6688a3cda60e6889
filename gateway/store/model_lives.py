"""
Until when the models of the dialplan are offered, in Redis: looked up by one process of all, once a day.

``{gateway}:models`` is a hash: model -> its ``ModelLife`` as JSON. Who wants to look up takes the lease
``{gateway}:models:looked_up:{digest}`` first, whose name has the models in it, so that a plan with other models is
looked up at once. It lasts a day; after a failure an hour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Protocol

from gateway.cost.model_life import ModelLife
from gateway.store.keys import key_of

LOOK_UP_EVERY_S = 86_400
TRY_AGAIN_S = 3600
KEPT_S = 3 * 86_400


def session_route(model: str) -> str:
    """Return the name, in the place of a route, under which the sessions of a model are counted (``limits.py``)."""
    return f"model:{model}"  # no name of a route has a colon


class Runner(Protocol):
    """Runs a script in Redis: ``RedisCallStore``."""

    def run(self, script: str, keys: Sequence[str], words: Sequence[str]) -> Awaitable[Any]:
        """Run it once; return its answer. Raises ``StoreError``."""


_TAKE = "return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) and 1 or 0"
_WRITE = """
redis.call('DEL', KEYS[1])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
"""


async def take_look_up(store: Runner, prefix: str, models: Iterable[str], by: str) -> bool:
    """Return whether this process is to look these models up now, because no other does. Raises ``StoreError``."""
    return bool(await store.run(_TAKE, [_lease(prefix, models)], [by, str(LOOK_UP_EVERY_S)]))


async def write_lives(store: Runner, prefix: str, lives: Sequence[ModelLife], *, again_s: int) -> None:
    """
    Put what was found in the place of what was known; the next look-up is due in ``again_s``.

    Raises:
        StoreError: Redis does not answer.
    """
    keys = [key_of(prefix, "models"), _lease(prefix, [each.model for each in lives])]
    words = [word for each in lives for word in (each.model, each.to_json())]
    await store.run(_WRITE, keys, [str(KEPT_S), str(again_s), *words])


def lives_in(texts: Iterable[str]) -> list[ModelLife]:
    """Return the values of the hash as ``ModelLife``, by name; what cannot be read is left out."""
    found = []
    for text in texts:
        try:
            found.append(ModelLife.from_json(text))
        except ValueError:
            continue  # of another version, or not ours
    return sorted(found, key=lambda each: each.model)


def _lease(prefix: str, models: Iterable[str]) -> str:
    digest = hashlib.blake2b("\n".join(sorted(models)).encode(errors="backslashreplace"), digest_size=8).hexdigest()
    return key_of(prefix, "models", "looked_up", digest)
