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
from typing import Any
from urllib.parse import parse_qs, unquote

from pydantic_core import MultiHostUrl
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from gateway.errors import StoreError
from gateway.settings.sections import RedisSettings

COMMAND_LIMIT_S = 1.0
"""A Redis that does not answer in this time is away."""
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 2.0
CANCEL_AGAIN_S = 0.5
AWAY = (RedisError, OSError, EOFError, TimeoutError)
PORT, SENTINEL_PORT = 6379, 26379
_ELSEWHERE = ("READONLY", "MOVED", "ASK ", "CLUSTERDOWN", "MASTERDOWN", "LOADING")
"""Words in errors of a server that is not, or not yet, the one to ask. Scripts wrap them in text of their own."""


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
    if url.scheme.endswith("+sentinel"):
        return _by_sentinels(url, options, tls=tls)
    if url.scheme.endswith("+cluster"):
        nodes = _Nodes(_places(url, PORT), key_slot(settings.prefix.encode()), _login(url) | options, tls=tls)
        kind = _SlotConnectionOverTls if tls else _SlotConnection
        pool: dict[str, Any] = {**_login(url), **options}
        return Redis.from_pool(ConnectionPool(connection_class=kind, nodes=nodes, **pool))
    return Redis.from_url(str(url), **options)


async def ask(redis: Redis, *words: str) -> Any:
    """Send one command and return its answer. After an error that means another server, the next one is looked for."""
    try:
        return await redis.execute_command(*words)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        if any(word in str(error) for word in _ELSEWHERE):
            await redis.connection_pool.disconnect(inuse_connections=False)
        raise


@asynccontextmanager
async def reading(where: str) -> AsyncIterator[None]:
    """
    Wait for answers within, for two seconds at most.

    Args:
        where: the URL without its password.

    Raises:
        StoreError: Redis is away.
    """
    try:
        async with asyncio.timeout(2 * COMMAND_LIMIT_S):
            yield
    except AWAY as error:
        raise StoreError(f"Redis at {where} does not answer ({in_words(error)})") from None


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


def _by_sentinels(url: MultiHostUrl, options: Mapping[str, Any], *, tls: bool) -> Redis:
    """Return a client of the master that Sentinels name: path ``/{master}/{database}``, their own login as a query."""
    _, master, *database = (url.path or "/").split("/")
    query = {name: values[-1] for name, values in parse_qs(url.query or "").items()}
    own = {name.removeprefix("sentinel_"): value for name, value in query.items() if name.startswith("sentinel_")}
    secure = {name: value for name, value in options.items() if name.startswith("ssl_")} | {"ssl": tls}
    limits = {name: options[name] for name in ("socket_connect_timeout", "retry")}
    asking = {**own, **secure, **limits, "socket_timeout": COMMAND_LIMIT_S, "decode_responses": True}
    sentinels = Sentinel(_places(url, SENTINEL_PORT), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    number = int(database[0]) if database and database[0] else 0
    talking: dict[str, Any] = {**_login(url), **options, **secure, "db": number}
    found: Redis = sentinels.master_for(unquote(master), **talking)
    return found


class _Nodes:
    """
    The nodes of a cluster, as far as they are known, and who has the slot.

    Args:
        places: addresses to begin with.
        slot: the gateway's.
        options: how to connect.
        tls: whether to.
    """

    def __init__(self, places: list[tuple[str, int]], slot: int, options: Mapping[str, Any], *, tls: bool) -> None:
        self._begin = places
        self._known: list[tuple[str, int]] = []
        self._slot = slot
        self._options = {**options, "socket_timeout": COMMAND_LIMIT_S, "ssl": tls}

    async def owner(self) -> tuple[str, int]:
        """Ask one node after the other. Raises redis-py's ``ConnectionError`` when none of them knows."""
        fault: BaseException | None = None
        for host, port in dict.fromkeys((*self._known, *self._begin)):
            try:
                async with asyncio.timeout(COMMAND_LIMIT_S), Redis(host=host, port=port, **self._options) as node:
                    ranges = await ask(node, "CLUSTER", "SLOTS")
            except AWAY as error:
                fault = error
                continue
            found = [nodes for first, last, *nodes in ranges if first <= self._slot <= last]
            # A node that does not know its own address leaves it empty.
            self._known = [(address or host, own_port) for _, _, *nodes in ranges for address, own_port, *_ in nodes]
            if found:
                address, own_port = found[0][0][:2]
                return address or host, own_port
        raise RedisConnectionError(
            f"no node of the cluster answers ({in_words(fault)})" if fault else f"no node has slot {self._slot}"
        )


class _SlotConnection(Connection):
    """A connection to the node that has the slot, looked for each time it connects."""

    def __init__(self, *, nodes: _Nodes, **options: Any) -> None:
        self._nodes = nodes
        super().__init__(**options)

    async def _connect(self) -> None:
        self.host, self.port = await self._nodes.owner()
        await super()._connect()  # type: ignore[no-untyped-call]


class _SlotConnectionOverTls(_SlotConnection, SSLConnection):
    pass
