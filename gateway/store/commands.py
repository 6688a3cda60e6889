"""
Commands to workers by way of Redis, and their answers.

Theory of operation
-------------------
Each worker has a stream of commands, ``{prefix}:commands:{worker}``, and each command a small stream of its own,
``{prefix}:command:{command_id}``, with one entry for each state: ``asked``, ``taken``, and at last ``done``,
``refused`` or ``expired``. ``CommandSender`` writes both and waits for the answer; ``CommandInbox`` reads a worker's
stream, has each command carried out, and answers. Both wait inside Redis (XREAD BLOCK), so nothing is polled::

    CommandSender --SEND--> commands:{worker} --XREAD BLOCK--> CommandInbox --TAKE--> what carries it out
          ^                                                          |
          +--XREAD BLOCK-- command:{command_id} <-------ANSWER-------+

- *Once.* Before a command is carried out the inbox takes it (``TAKE``). A command can be taken once, by one process;
  a reply that got lost on the way is asked for again under the same token. So a command is carried out once or, when
  its worker dies with it, perhaps not to its end; never twice.
- *In time.* A command names the moment, on Redis's clock, until which it may be taken. A worker that was away finds
  an old one ``expired``. A sender that gives up waiting makes it expire itself, unless it was taken.
- *To the living.* An inbox renews a key while it reads. A worker without it, or one that the registry says has ended,
  gets no command: ``refused``, at once.
- *Bounded.* ``MOST_WAITING`` commands per worker; each leaves the worker's stream with its answer, and the answer
  itself expires after ``ANSWER_KEPT_S``.

While Redis is away a sender raises ``StoreError``, and an inbox tries again until it is back; what was taken before is
answered then.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, Final, Literal, Self, get_args

import structlog

from gateway.errors import StoreError
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.connection import (
    AWAY,
    COMMAND_LIMIT_S,
    FIRST_RETRY_S,
    LAST_RETRY_S,
    OwnConnection,
    ask,
    away,
    connect,
    end_task,
    in_words,
    reading,
    whole_ms,
)
from gateway.store.keys import key_of
from gateway.store.registry import worker_key

CommandKind = Literal[
    "hang_up",
    "transfer",
    "send_digits",
    "say",
    "whisper",
    "listen",
    "take_over",
    "give_back",
    "trace",
    "dial",
    "drain",
    "undrain",
    "reload",
    "probe_trunk",
]
CommandState = Literal["done", "refused", "expired"]

MOST_WAITING: Final = 256
"""Commands of one worker that wait, or are being carried out."""
MOST_CHARACTERS: Final = 16_384
"""Of a command's fields together."""
TAKE_LIMIT_S: Final = 10.0
"""The longest that a command waits for its worker, however long the sender waits for its end."""
ANSWER_KEPT_S: Final = 600.0
DIALLED_KEPT_S: Final = 86_400.0
"""How long the same ``dial`` is known to be the same."""
BLOCK_S: Final = 5.0
"""How long one read waits; after that the sign of life is renewed."""
SIGN_KEPT_S: Final = 12.0
_REMEMBERED = 1024
_FINAL = frozenset(get_args(CommandState))
_NONE: Mapping[str, str] = MappingProxyType({})

_log = structlog.stdlib.get_logger(__name__)

# The newest state of a command, with its token; and the time, in milliseconds.
_COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function newest(key)
  local entry, found = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1], {}
  if entry then
    for i = 1, #entry[2], 2 do found[entry[2][i]] = entry[2][i + 1] end
  end
  return found
end
"""

# KEYS: the worker's stream, the command, the inbox's sign, the worker's entry in the registry. ARGV: most commands,
# ms until which it may be taken, ms for which it is kept, then the names and values of the command. One that is known
# and was not refused is not sent again.
_SEND = (
    _COMMON
    + """
local state = newest(KEYS[2]).state
if state and state ~= 'refused' and state ~= 'expired' then return 'known' end
if redis.call('EXISTS', KEYS[3]) == 0 or redis.call('HGET', KEYS[4], 'state') == 'ended' then return 'gone' end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 'full' end
redis.call('DEL', KEYS[2])
redis.call('XADD', KEYS[1], '*', 'until', now + ARGV[2], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('XADD', KEYS[2], '*', 'state', 'asked', 'until', now + ARGV[2], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 'asked'
"""
)

# KEYS: the command, the worker's stream. ARGV: token, entry of the worker's stream, until when it may be taken.
_TAKE = (
    _COMMON
    + """
local known = newest(KEYS[1])
local state = known.state or 'gone'
if state == 'taken' and known.token == ARGV[1] then return 'taken' end
if state == 'asked' and now <= (tonumber(ARGV[3]) or 0) then
  redis.call('XADD', KEYS[1], '*', 'state', 'taken', 'token', ARGV[1])
  return 'taken'
end
redis.call('XDEL', KEYS[2], ARGV[2])
if state ~= 'asked' then return state end
redis.call('XADD', KEYS[1], '*', 'state', 'expired', 'detail', 'the worker came to it too late')
return 'expired'
"""
)

# KEYS: the command, the worker's stream. ARGV: token, entry of the worker's stream, names and values of the answer.
_ANSWER = (
    _COMMON
    + """
local known = newest(KEYS[1])
if known.state == 'taken' and known.token == ARGV[1] then redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3)) end
redis.call('XDEL', KEYS[2], ARGV[2])
return 'ok'
"""
)

# KEYS: the command. ARGV: why it expires. Answers the newest state before that.
_GIVE_UP = (
    _COMMON
    + """
local state = newest(KEYS[1]).state or 'gone'
if state == 'asked' then redis.call('XADD', KEYS[1], '*', 'state', 'expired', 'detail', ARGV[1]) end
return state
"""
)


@dataclass(frozen=True, slots=True)
class Command:
    """
    A command as the worker gets it.

    Attributes:
        command_id: its own id.
        kind: what to do, one of ``CommandKind``; another one if a newer gateway sent it.
        call_id: the call it is about; empty for one about the worker.
        fields: what the kind needs (``target``, ``text``, ...).
        by: who asked, for the call's history.
    """

    command_id: str
    kind: str
    call_id: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    by: str = ""


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """
    What became of a command.

    Attributes:
        command_id: its own id.
        state: ``done``; ``refused``: nothing was done; ``expired``: nobody carried it out or answered in time.
        detail: why, in words for the person who asked.
        fields: what the kind answers with (``call_id`` of ``dial``, ...).
    """

    command_id: str
    state: CommandState
    detail: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


def done(command: Command, detail: str = "", **fields: str) -> CommandAnswer:
    """Return the answer to a command that was carried out."""
    return CommandAnswer(command.command_id, "done", detail, fields)


def refused(command: Command, detail: str, **fields: str) -> CommandAnswer:
    """Return the answer to a command that was not carried out."""
    return CommandAnswer(command.command_id, "refused", detail, fields)


class CommandSender(OwnConnection):
    """
    Sends commands to workers and waits for their answers. Thread: loop.

    Use as ``async with``, or call ``close``.

    Args:
        settings: where Redis is, and the prefix; ``url`` must be set.
    """

    def __init__(self, settings: RedisSettings) -> None:
        super().__init__(settings, answer_limit_s=BLOCK_S + COMMAND_LIMIT_S)
        self._prefix = settings.prefix

    async def send(
        self,
        worker: str,
        kind: CommandKind,
        *,
        call_id: str = "",
        fields: Mapping[str, str] = _NONE,
        by: str,
        wait_s: float = 5,
    ) -> CommandAnswer:
        """
        Send a command and return what became of it.

        ``dial`` has the ``call_id`` of the call to be; sent again, to any worker, it is the same command for a day
        unless it was refused or expired: the answer comes again, and nobody is called twice.

        Args:
            worker: name of the worker, as in the call's record and in the registry.
            kind: what to do.
            call_id: the call it is about.
            fields: what the kind needs.
            by: who asks, for the call's history.
            wait_s: how long to wait for the answer. A transfer and a take-over are answered when the target has
                answered or was given up, so give them more than the ringing time.

        Raises:
            StoreError: Redis is away. The command may have been sent.
        """
        command_id = f"dial-{call_id}" if kind == "dial" and call_id else secrets.token_hex(12)
        if sum(len(name) + len(value) for name, value in fields.items()) > MOST_CHARACTERS:
            return CommandAnswer(command_id, "refused", f"the command is longer than {MOST_CHARACTERS} characters")
        words = {"id": command_id, "kind": kind, "call_id": call_id, "by": by, "fields": json.dumps(dict(fields))}
        state = await self._send(worker, command_id, words, wait_s)
        if state in ("gone", "full"):
            return CommandAnswer(command_id, "refused", _unsent(worker, state))
        return await self._answer(command_id, worker, wait_s)

    async def _send(self, worker: str, command_id: str, words: Mapping[str, str], wait_s: float) -> str:
        stream = stream_key(self._prefix, worker)
        keys = (stream, self._key(command_id), sign_key(self._prefix, worker), worker_key(self._prefix, worker))
        kept_s = DIALLED_KEPT_S if words["kind"] == "dial" else max(ANSWER_KEPT_S, wait_s)
        limits = (str(MOST_WAITING), whole_ms(min(wait_s, TAKE_LIMIT_S)), whole_ms(kept_s))
        flat = (word for pair in words.items() for word in pair)
        script = ("EVAL", _SEND, str(len(keys)), *keys, *limits, *flat)
        try:
            return str(await self._ask(*script))
        except StoreError:  # perhaps only a connection from before Redis was started anew; it is known by its id
            return str(await self._ask(*script))

    async def _answer(self, command_id: str, worker: str, wait_s: float) -> CommandAnswer:
        """Wait for the answer; at the end of the time make sure that it is not carried out later, if that is so."""
        key, last, end = self._key(command_id), "0", time.monotonic() + wait_s
        while (left_s := end - time.monotonic()) > 0:
            try:
                block = ("BLOCK", whole_ms(min(left_s, BLOCK_S)))
                entries = entries_of(await ask(self._redis, "XREAD", *block, "STREAMS", key, last))
            except AWAY as error:
                if end - time.monotonic() <= LAST_RETRY_S:
                    raise away(self._where, error) from None
                await asyncio.sleep(FIRST_RETRY_S)
                continue
            for last, entry in entries:  # noqa: B007 - the last one is where to go on
                if (answer := _read_answer(command_id, entry)) is not None:
                    return answer
        taken = await self._ask("EVAL", _GIVE_UP, "1", key, "it was not taken in time")
        for _, entry in entries_of(await self._ask("XREAD", "STREAMS", key, last)):
            if (answer := _read_answer(command_id, entry)) is not None and taken != "asked":
                return answer
        return CommandAnswer(command_id, "expired", _unanswered(worker, wait_s, taken=taken == "taken"))

    def _key(self, command_id: str) -> str:
        return key_of(self._prefix, "command", command_id)

    async def _ask(self, *words: str) -> Any:
        async with reading(self._where):
            return await ask(self._redis, *words)


CarryOut = Callable[[Command], Awaitable[CommandAnswer]]
"""Carries out a command and returns what became of it; called in the order in which the commands came."""


class CommandInbox:
    """
    Reads the commands of one worker, has each carried out in a task of its own, and answers. Thread: loop.

    Use as ``async with``: inside it commands are taken; at its end those under way are answered as refused.

    Args:
        settings: where Redis is, and the prefix; ``url`` must be set.
        worker: name of this worker.
        carry_out: what does it.
    """

    def __init__(self, settings: RedisSettings, worker: str, carry_out: CarryOut) -> None:
        self._redis = connect(settings, answer_limit_s=BLOCK_S + COMMAND_LIMIT_S)
        self._prefix = settings.prefix
        self._stream = stream_key(settings.prefix, worker)
        self._sign = sign_key(settings.prefix, worker)
        self._carry_out = carry_out
        self._token = secrets.token_hex(8)
        self._taken: dict[str, None] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._away = False

    async def __aenter__(self) -> Self:
        """Begin to read; who hears from now on that the worker is there can send it commands."""
        with suppress(*AWAY):
            async with asyncio.timeout(COMMAND_LIMIT_S):
                await self._put_sign()
        self._task = asyncio.create_task(self._read(), name="commands")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more, answer what is under way, and let go of Redis."""
        if self._task is not None:
            await end_task(self._task)
        with suppress(*AWAY):
            if not self._away:
                async with asyncio.timeout(COMMAND_LIMIT_S):
                    await ask(self._redis, "DEL", self._sign)
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=2 * COMMAND_LIMIT_S)
        for task in [*self._under_way]:
            await end_task(task)
        await self._redis.aclose()

    async def _read(self) -> None:
        delay_s, last = FIRST_RETRY_S, "0"
        while True:
            try:
                await self._put_sign()
                if self._away:
                    self._away, delay_s = False, FIRST_RETRY_S
                    _log.warning("commands_are_read_again")
                words = ("XREAD", "COUNT", "64", "BLOCK", whole_ms(BLOCK_S), "STREAMS", self._stream, last)
                for entry_id, entry in entries_of(await ask(self._redis, *words)):
                    await self._take(entry_id, entry)
                    last = entry_id
            except AWAY as error:
                if not self._away:
                    _log.error("commands_not_read", error=in_words(error))
                # From the beginning again: it may be another Redis, and what was taken is known.
                self._away, last = True, "0"
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))
                delay_s = min(2 * delay_s, LAST_RETRY_S)

    async def _put_sign(self) -> None:
        await ask(self._redis, "SET", self._sign, self._token, "PX", whole_ms(SIGN_KEPT_S))

    async def _take(self, entry_id: str, entry: Mapping[str, str]) -> None:
        """Begin to carry out a command, unless it is too late, or was begun before."""
        command = _read_command(entry)
        if command.command_id in self._taken:
            return
        words = (self._token, entry_id, entry.get("until", "0"))
        if await self._run(_TAKE, command, *words) != "taken":
            _log.warning("command_expired", command=command.kind, call_id=command.call_id, by=command.by)
            return
        self._taken[command.command_id] = None
        while len(self._taken) > _REMEMBERED:
            del self._taken[next(iter(self._taken))]
        task = asyncio.create_task(self._obey(command, entry_id), name=f"command {command.kind}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _obey(self, command: Command, entry_id: str) -> None:
        try:
            answer = await self._carry_out(command)
        except asyncio.CancelledError:
            answer = refused(command, "the worker ended")
        except Exception as fault:  # noqa: BLE001 - the border of a command: its fault must not end the others
            _log.exception("command_failed", command=command.kind, call_id=command.call_id)
            answer = refused(command, f"a fault of the gateway: {type(fault).__name__}")
        _log.info(
            "command",
            command=command.kind,
            call_id=command.call_id,
            by=command.by,
            state=answer.state,
            detail=answer.detail,
        )
        fields = json.dumps(dict(answer.fields))
        words = ("state", answer.state, "detail", answer.detail, "fields", fields)
        end, delay_s = time.monotonic() + ANSWER_KEPT_S, FIRST_RETRY_S
        while time.monotonic() < end:
            try:
                await self._run(_ANSWER, command, self._token, entry_id, *words)
            except AWAY:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, LAST_RETRY_S)
            else:
                return

    async def _run(self, script: str, command: Command, *words: str) -> str:
        key = key_of(self._prefix, "command", command.command_id)
        async with asyncio.timeout(2 * COMMAND_LIMIT_S):
            return str(await ask(self._redis, "EVAL", script, "2", key, self._stream, *words))


async def forget_reader(store: RedisCallStore, prefix: str, worker: str) -> None:
    """Take the sign of a worker's inbox away: the worker is known to be dead. Raises ``StoreError``."""
    await store.run("return redis.call('DEL', KEYS[1])", [sign_key(prefix, worker)], [])


def stream_key(prefix: str, worker: str) -> str:
    """Return the key of a worker's stream of commands."""
    return key_of(prefix, "commands", worker)


def sign_key(prefix: str, worker: str) -> str:
    """Return the key that is there as long as a worker reads its commands."""
    return key_of(prefix, "commands", worker, "reader")


def entries_of(answer: Any) -> list[tuple[str, dict[str, str]]]:
    """Return the entries in the answer of an XREAD of one stream; none when nothing came."""
    return [(entry_id, dict(fields or {})) for _, entries in answer or () for entry_id, fields in entries]


def _read_command(entry: Mapping[str, str]) -> Command:
    return Command(
        entry.get("id", ""),
        entry.get("kind", ""),
        entry.get("call_id", ""),
        _read_fields(entry.get("fields", "")),
        entry.get("by", ""),
    )


def _read_answer(command_id: str, entry: Mapping[str, str]) -> CommandAnswer | None:
    """Return the answer in an entry of a command; None for one that is no answer yet."""
    state = entry.get("state", "")
    if state not in _FINAL:
        return None
    told: CommandState = state  # type: ignore[assignment]  # one of them, as was just checked
    return CommandAnswer(command_id, told, entry.get("detail", ""), _read_fields(entry.get("fields", "")))


def _read_fields(text: str) -> dict[str, str]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _unsent(worker: str, state: str) -> str:
    if state == "full":
        return f"{MOST_WAITING} commands wait for the worker {worker} already"
    return f"the worker {worker} is not there: it has ended, or never was"


def _unanswered(worker: str, wait_s: float, *, taken: bool) -> str:
    if taken:
        return f"the worker {worker} took it and has not answered within {wait_s:g} s: it may still be done"
    return f"the worker {worker} did not take it within {wait_s:g} s: it will not be done"
