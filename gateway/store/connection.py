"""
The connection to Redis: where it is, how long an answer may take, and which errors mean that it is away.

``connect`` returns a client for any of the URLs, with the same commands, scripts, pipelines and pub/sub:

- ``redis://``, ``rediss://`` (TLS) and ``unix://``: one server.
- ``redis+sentinel://``: each new connection asks the Sentinels for the master.
- ``redis+cluster://``: all keys and channels of a gateway lie in one slot (``keys.key_of``), so one node of the cluster
  has them all, and each new connection asks the nodes which one that is. Messages that are published there reach all
  who subscribed there, and the answer of PUBLISH counts them.

A connection that finds its server demoted, or its slot moved, is dropped like one that broke: the next command looks
for the server again (``ask``). Until then Redis is away.

**To wait inside Redis** (``XREAD BLOCK``, ``XREADGROUP BLOCK``) make a client of your own, so that nobody waits behind
you, whose ``answer_limit_s`` is longer than the wait::

    redis = connect(settings, answer_limit_s=BLOCK_S + COMMAND_LIMIT_S)
    entries_of(await ask(redis, "XREAD", "BLOCK", whole_ms(BLOCK_S), "STREAMS", key, last))

An answer that never comes raises one of ``AWAY`` then, too. For pub/sub ``connect(settings).pubsub()`` does;
``get_message`` has a limit of its own. Close a client with ``aclose``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import parse_qs, unquote

from pydantic_core import MultiHostUrl
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.errors import StoreError
from gateway.redact import without_password
from gateway.settings.sections import RedisSettings

COMMAND_LIMIT_S = 1.0
"""A Redis that does not answer in this time is away."""
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 2.0
CANCEL_AGAIN_S = 0.5
AWAY = (RedisError, OSError, EOFError, TimeoutError)
PORT, SENTINEL_PORT = 6379, 26379
_ELSEWHERE = (AskError, ReadOnlyError, ClusterDownError)
"""Errors of a server that is not the one to ask: the slot moved, it was demoted, its cluster is not whole."""


def connect(settings: RedisSettings, *, answer_limit_s: float = COMMAND_LIMIT_S, text: bool = True) -> Redis:
    """
    Return a client that repeats nothing by itself; it connects with its first command.

    Args:
        settings: ``url`` must be set.
        answer_limit_s: how long an answer may take; longer for one who waits inside Redis (BLOCK).
        text: give text; else the bytes as they are.
    """
    url = settings.url
    if url is None:
        raise ValueError("settings.url is None: start a private server and put its URL there")
    options: dict[str, Any] = {
        "decode_responses": text,
        "encoding_errors": "replace",
        "socket_timeout": answer_limit_s,
        "socket_connect_timeout": COMMAND_LIMIT_S,
        "retry": Retry(NoBackoff(), 0),  # who asks has a rule of its own
    }
    tls = url.scheme.startswith("rediss")
    if tls and settings.ca_file is not None:
        options["ssl_ca_certs"] = str(settings.ca_file)
    asking = {**options, "decode_responses": True, "socket_timeout": COMMAND_LIMIT_S, "ssl": tls}
    found: _Where
    if url.scheme.endswith("+sentinel"):
        found = _sentinels(url, asking)
    elif url.scheme.endswith("+cluster"):
        found = _Nodes(_places(url, PORT), key_slot(settings.prefix.encode()), asking | _login(url))
    else:
        return Redis.from_url(str(url), **options)
    talking: dict[str, Any] = {**options, **_login(url), "db": _database(url), "where": found}
    return Redis.from_pool(ConnectionPool(connection_class=_FoundOverTls if tls else _Found, **talking))


async def ask(redis: Redis, *words: str) -> Any:
    """Send one command and return its answer. After an error that means another server, the next one is looked for."""
    try:
        return await redis.execute_command(*words)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        # Before version 7 what a script runs into comes inside a text of the script's own.
        if isinstance(error, _ELSEWHERE) or "READONLY" in str(error):
            await redis.connection_pool.disconnect(inuse_connections=False)
        raise


def away(where: str, error: BaseException) -> StoreError:
    """Return the error for a Redis that is away; ``where`` is the URL without its password."""
    return StoreError(f"Redis at {where} does not answer ({in_words(error)})")


@asynccontextmanager
async def reading(where: str, limit_s: float | None = 2 * COMMAND_LIMIT_S) -> AsyncIterator[None]:
    """
    Wait for answers within.

    Args:
        where: the URL without its password.
        limit_s: for how long at most; None leaves it to the limit of each answer.

    Raises:
        StoreError: Redis is away.
    """
    try:
        async with asyncio.timeout(limit_s):
            yield
    except AWAY as error:
        raise away(where, error) from None


class OwnConnection:
    """
    What asks Redis over a connection of its own; it connects with the first question. Thread: loop.

    Use as ``async with``, or call ``close``.

    Args:
        settings: where Redis is; ``url`` must be set.
        answer_limit_s: how long an answer may take.
    """

    def __init__(self, settings: RedisSettings, *, answer_limit_s: float = COMMAND_LIMIT_S) -> None:
        self._redis = connect(settings, answer_limit_s=answer_limit_s)
        self._where = without_password(str(settings.url))

    async def __aenter__(self) -> Self:
        """Connect with the first question."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of Redis."""
        await self.close()

    async def close(self) -> None:
        """Let go of Redis."""
        await self._redis.aclose()


def entries_of(answer: Any) -> list[tuple[str, dict[str, str]]]:
    """Return the entries in the answer of an XREAD of one stream; none when nothing came."""
    return [(entry_id, dict(fields or {})) for _, entries in answer or () for entry_id, fields in entries]


async def end_task(task: asyncio.Task[None]) -> None:
    """
    Cancel a task, one that waits for Redis too, and wait until it has ended.

    More than once: ``wait_for`` of Python 3.11, which redis-py sends with, may swallow a cancellation.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=CANCEL_AGAIN_S)


def in_words(error: BaseException) -> str:
    """Return what an error says, or its name where it says nothing."""
    return str(error) or type(error).__name__


def whole_ms(seconds: float) -> str:
    """Return a time as Redis takes it: whole milliseconds, at least one."""
    return str(max(1, round(seconds * 1000)))


# --- where the server is ---


def _places(url: MultiHostUrl, port: int) -> list[tuple[str, int]]:
    return [((host["host"] or "").strip("[]"), host["port"] or port) for host in url.hosts()]


def _login(url: MultiHostUrl) -> dict[str, str]:
    first = url.hosts()[0]
    given = {"username": first["username"], "password": first["password"]}
    return {name: unquote(value) for name, value in given.items() if value}


def _database(url: MultiHostUrl) -> int:
    last = (url.path or "").rpartition("/")[2]
    return int(last) if last.isdecimal() else 0


class _Where(Protocol):
    """Knows who can say where the server is."""

    async def find(self) -> tuple[str, int]:
        """Return host and port. Raises redis-py's ``ConnectionError`` when nobody answers."""


class _Sentinels:
    """
    The Sentinels that know a master.

    Args:
        places: their addresses.
        master: its name.
        options: how to connect to them.
    """

    def __init__(self, places: list[tuple[str, int]], master: str, options: Mapping[str, Any]) -> None:
        self._places = places
        self._master = master
        self._options = options

    async def find(self) -> tuple[str, int]:
        """Ask one Sentinel after the other; the one that answered is asked first next time."""
        fault: BaseException | None = None
        for place in list(self._places):
            try:
                answer = await _ask_once(place, self._options, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)
            except AWAY as error:
                fault = error
                continue
            if answer:
                self._places = [place, *(other for other in self._places if other != place)]
                return str(answer[0]), int(answer[1])
        told = in_words(fault) if fault else f"they know no master {self._master}"
        raise RedisConnectionError(f"no Sentinel names the master: {told}")


class _Nodes:
    """
    The nodes of a cluster, as far as they are known, and who has the slot.

    Args:
        places: addresses to begin with.
        slot: the gateway's.
        options: how to connect to them.
    """

    def __init__(self, places: list[tuple[str, int]], slot: int, options: Mapping[str, Any]) -> None:
        self._begin = places
        self._known: list[tuple[str, int]] = []
        self._slot = slot
        self._options = options

    async def find(self) -> tuple[str, int]:
        """Ask one node after the other who has the slot."""
        fault: BaseException | None = None
        for host, port in dict.fromkeys((*self._known, *self._begin)):
            try:
                ranges = await _ask_once((host, port), self._options, "CLUSTER", "SLOTS")
            except AWAY as error:
                fault = error
                continue
            # A node that does not know its own address leaves it empty.
            self._known = [(node[0] or host, node[1]) for _, _, *nodes in ranges for node in nodes]
            for first, last, master, *_ in ranges:
                if first <= self._slot <= last:
                    return master[0] or host, master[1]
        told = in_words(fault) if fault else f"nobody has slot {self._slot}"
        raise RedisConnectionError(f"no node of the cluster has the keys: {told}")


async def _ask_once(place: tuple[str, int], options: Mapping[str, Any], *words: str) -> Any:
    async with asyncio.timeout(COMMAND_LIMIT_S), Redis(host=place[0], port=place[1], **options) as redis:
        return await ask(redis, *words)


def _sentinels(url: MultiHostUrl, options: Mapping[str, Any]) -> _Sentinels:
    """Return those of a URL: its path is ``/{master}/{database}``, a login of their own is in the query."""
    query = {name: values[-1] for name, values in parse_qs(url.query or "").items()}
    login = {name: query[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in query}
    return _Sentinels(_places(url, SENTINEL_PORT), unquote((url.path or "/").split("/")[1]), {**options, **login})


class _Found(Connection):
    """A connection to a server that is looked for each time it connects."""

    def __init__(self, *, where: _Where, **options: Any) -> None:
        self._where = where
        super().__init__(**options)

    async def _connect(self) -> None:
        self.host, self.port = await self._where.find()
        await super()._connect()  # type: ignore[no-untyped-call]


class _FoundOverTls(_Found, SSLConnection):
    pass
