"""
Erases what is kept of a person, by telephone number or SIP user: in Redis, recordings and SIP traces.

Theory of operation
-------------------
``erase_caller`` first looks for the calls of a person (``_Search``), in the records, the stream of CDRs and the stream
of events: those in which they called, and those that the gateway placed to them. The other number of a call is the
gateway's own. Then it removes all there is of these calls: records, their events with the transcripts, their entries in
the stream of all events, CDRs, deliveries of webhooks, recordings and traces; and what names the person elsewhere:
counts of limits under the hash of the number, entries of the audit. Totals stay, since they name nobody. Live calls are
left alone and reported: ask again once they have ended.

Everything is read in bounded pieces, so Redis and this process stay free for others. Erasing twice does no harm. A
number that was shortened when it was written (``privacy.mode``) cannot be found, and need not be.

Files are deleted only in the folders of the settings and only by the names that the gateway gives them, whatever path
a record has. Those that are not on this machine are reported.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from redis.asyncio import Redis

from gateway.phone_numbers import normalised
from gateway.privacy import users_of
from gateway.redact import without_password
from gateway.settings.sections import RedisSettings
from gateway.store.connection import ask, connect, reading
from gateway.store.keys import key_of
from gateway.store.limits import hashed
from gateway.threads import run_in_pool

AT_ONCE = 500
"""Keys or entries that one command reads or removes."""
MOST_CHARACTERS = 128
_FACTS = ("state", "direction", "caller", "called", "from_uri", "to_uri", "recording", "sip_trace")
_THEIRS: Mapping[str, tuple[str, ...]] = {"inbound": ("caller", "from_uri"), "outbound": ("called", "to_uri")}
_FILE = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.@-]*\.(wav|txt)")


@dataclass(frozen=True, slots=True)
class Erased:
    """
    What was erased, or would be.

    Attributes:
        dry_run: nothing was erased.
        calls: ids of the calls.
        live: ids of calls that go on, of which nothing was erased.
        records: records; the events of these calls go with them.
        events: entries of the stream of all events.
        cdrs: CDRs.
        deliveries: messages of webhooks that waited or were given up.
        limits: keys that count limits of the caller.
        audit: entries of the audit that named the person.
        files: recordings and SIP traces.
        files_elsewhere: those that this machine does not have.
    """

    dry_run: bool
    calls: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    records: int = 0
    events: int = 0
    cdrs: int = 0
    deliveries: int = 0
    limits: int = 0
    audit: int = 0
    files: tuple[str, ...] = ()
    files_elsewhere: tuple[str, ...] = ()


async def erase_caller(
    settings: RedisSettings, number: str, *, recordings: Path, traces: Path, dry_run: bool = False
) -> Erased:
    """
    Erase what is kept of a person.

    Args:
        settings: where Redis is, and the prefix.
        number: telephone number in E.164 or as it was written, or a SIP user.
        recordings: folder of recordings.
        traces: folder of SIP traces.
        dry_run: only say what there is.

    Raises:
        ValueError: no number.
        StoreError: Redis is away; what was erased by then stays erased.
        OSError: a file cannot be deleted; nothing was erased in Redis yet, so asking again finds it.
    """
    search = _Search(Person(number), key_of(settings.prefix, ""))
    async with _connected(settings) as redis:
        await search.run(redis)
    delete = partial(_delete_files, sorted(search.files), recordings, traces, dry_run=dry_run)
    files, elsewhere = await run_in_pool(delete)
    if not dry_run:
        async with _connected(settings) as redis:
            for words, arguments in search.removals():
                for start in range(0, len(arguments), AT_ONCE):
                    await ask(redis, *words, *arguments[start : start + AT_ONCE])
    return replace(search.result(dry_run=dry_run), files=tuple(files), files_elsewhere=tuple(elsewhere))


class Person:
    """
    Who is looked for.

    Args:
        number: telephone number, SIP user, or a URI with one.

    Raises:
        ValueError: empty, or too long.
    """

    def __init__(self, number: str) -> None:
        words = users_of(number) or [number.strip()]
        self.form = _form(words[0])
        if not self.form or len(number) > MOST_CHARACTERS:
            raise ValueError(f"a number or user of 1 to {MOST_CHARACTERS} characters is needed")
        self._mention = re.compile(rf"(?<!\w)(?:\+|00)?{re.escape(self.form)}(?!\w)", re.IGNORECASE)

    def is_named(self, party: str) -> bool:
        """Return whether a number, user or URI stands for the person."""
        return any(_form(each) == self.form for each in users_of(party) or [party])

    def has(self, call: Mapping[str, str]) -> bool:
        """Return whether it is a call of theirs, by its record or one of its events."""
        return any(self.is_named(call.get(name, "")) for name in _THEIRS.get(call.get("direction", ""), ()))

    def is_mentioned(self, words: Iterable[str]) -> bool:
        """Return whether any of the words contains the number."""
        return any(self._mention.search(each) for each in words)


@dataclass
class _Search:
    person: Person
    stem: str
    calls: set[str] = field(default_factory=set)
    live: set[str] = field(default_factory=set)
    callers: set[str] = field(default_factory=set)  # in all spellings that were found
    files: set[str] = field(default_factory=set)
    records: list[str] = field(default_factory=list)
    streams: dict[str, list[str]] = field(default_factory=lambda: {"cdrs": [], "events": [], "audit": []})
    deliveries: dict[str, str] = field(default_factory=dict)  # id -> endpoint
    limits: list[str] = field(default_factory=list)

    async def run(self, redis: Redis) -> None:
        """Find everything; the records first, since they know best whose call it is."""
        async for call_id, record in self._hashes(redis, "call:*", *_FACTS):
            if self.person.has(record):
                self._take_record(call_id.removeprefix("call:"), record)
        for name in ("cdrs", "events"):
            async for entry, fields in _entries(redis, f"{self.stem}{name}"):
                self._look(name, entry, fields)
        await self._look_elsewhere(redis)

    async def _look_elsewhere(self, redis: Redis) -> None:
        async for entry, fields in _entries(redis, f"{self.stem}audit"):
            if self.person.is_mentioned(fields.values()) or fields.get("call_id") in self.calls:
                self.streams["audit"].append(entry)
        async for name, delivery in self._hashes(redis, "webhooks:delivery:*", "call_id", "endpoint"):
            if delivery.get("call_id") in self.calls:
                self.deliveries[name.removeprefix("webhooks:delivery:")] = delivery.get("endpoint", "")
        ends = tuple(hashed(each) for each in {*self.callers, self.person.form, f"+{self.person.form}"})
        async for key in self._keys(redis, "limits:*"):
            if key.endswith(ends) and not (self.live and ":live:" in key):
                self.limits.append(key)

    def removals(self) -> list[tuple[tuple[str, ...], list[str]]]:
        """Return the commands that remove what was found, each with all of its arguments."""
        stem = self.stem
        own = [f"{stem}call:{call_id}{end}" for call_id in sorted(self.calls) for end in ("", ":events")]
        waiting = [f"{stem}webhooks:delivery:{delivery}" for delivery in self.deliveries]
        commands = [(("XDEL", f"{stem}{name}"), entries) for name, entries in self.streams.items()]
        for endpoint in set(self.deliveries.values()):
            ids = [delivery for delivery, of in self.deliveries.items() if of == endpoint]
            commands += [(("ZREM", f"{stem}webhooks:{name}"), ids) for name in (f"due:{endpoint}", "dead")]
        return [*commands, (("DEL",), [*waiting, *self.limits, *own])]

    def result(self, *, dry_run: bool) -> Erased:
        """Return how much it is."""
        return Erased(
            dry_run,
            calls=tuple(sorted(self.calls)),
            live=tuple(sorted(self.live)),
            records=len(self.records),
            deliveries=len(self.deliveries),
            limits=len(self.limits),
            cdrs=len(self.streams["cdrs"]),
            events=len(self.streams["events"]),
            audit=len(self.streams["audit"]),
        )

    def _take_record(self, call_id: str, record: Mapping[str, str]) -> None:
        if record.get("state") != "ended":
            self.live.add(call_id)
            return
        self._take(call_id, record)
        self.records.append(call_id)

    def _take(self, call_id: str, facts: Mapping[str, str]) -> None:
        self.calls.add(call_id)
        self.callers.add(facts.get("caller", ""))
        self.files.update(facts[name] for name in ("recording", "sip_trace") if facts.get(name))

    def _look(self, name: str, entry: str, fields: Mapping[str, str]) -> None:
        call_id = fields.get("call_id", "")
        if call_id in self.live:
            return
        if call_id not in self.calls and not self.person.has(fields):
            return
        self._take(call_id, fields)
        self.streams[name].append(entry)

    async def _hashes(self, redis: Redis, match: str, *names: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
        """Give the rest of each key, and the fields that it has."""
        async for keys in self._pages(redis, match):
            async with redis.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hmget(key, names)
                answers = await pipeline.execute(raise_on_error=False)
            for key, values in zip(keys, answers, strict=True):
                if isinstance(values, list):  # else it is no hash
                    found = {name: value for name, value in zip(names, values, strict=True) if value is not None}
                    yield key.removeprefix(self.stem), found

    async def _keys(self, redis: Redis, match: str) -> AsyncIterator[str]:
        async for keys in self._pages(redis, match):
            for key in keys:
                yield key

    async def _pages(self, redis: Redis, match: str) -> AsyncIterator[list[str]]:
        cursor = "0"
        while True:
            cursor, keys = await ask(redis, "SCAN", cursor, "MATCH", f"{self.stem}{match}", "COUNT", str(AT_ONCE))
            yield keys
            if str(cursor) == "0":
                return
            cursor = str(cursor)


async def _entries(redis: Redis, stream: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
    last = "-"
    while entries := await ask(redis, "XRANGE", stream, last, "+", "COUNT", str(AT_ONCE)):
        for entry, fields in entries:
            yield entry, dict(fields)
        last = f"({entries[-1][0]}"


@asynccontextmanager
async def _connected(settings: RedisSettings) -> AsyncIterator[Redis]:
    redis = connect(settings)
    try:
        async with reading(without_password(str(settings.url)), None):
            yield redis
    finally:
        await redis.aclose()


def _form(party: str) -> str:
    """Return a number or user as it is compared: ``+493012345``, ``00493012345`` and ``493012345`` are the same."""
    text = normalised(party.strip(), None).lower()
    return text.removeprefix("+" if text.startswith("+") else "00")


def _delete_files(
    named: Iterable[str], recordings: Path, traces: Path, *, dry_run: bool
) -> tuple[list[str], list[str]]:
    """Delete what is there of files that records name; return these, and those that are not there."""
    deleted, elsewhere = list[str](), list[str]()
    for path in map(Path, named):
        if not _FILE.fullmatch(path.name):
            continue
        folder = recordings if path.suffix == ".wav" else traces
        there = [file for file in _beside(folder / path.name) if file.is_file() and not file.is_symlink()]
        if not there:
            elsewhere.append(str(path))
        for file in there:
            if not dry_run:
                file.unlink(missing_ok=True)
            deleted.append(str(file))
    return deleted, elsewhere


def _beside(file: Path) -> tuple[Path, ...]:
    return (file, file.with_suffix(".pcap")) if file.suffix == ".txt" else (file,)
