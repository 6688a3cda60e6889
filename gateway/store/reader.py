"""
Reads what the gateway keeps of calls in Redis: live ones, ended ones, events, CDRs, totals. ``calls`` writes it.

Theory of operation
-------------------
``CallReader`` only reads and knows no worker, so any process on any node may have one. What it reads of many calls
comes as one text from a script (``lua.RECORDS``, ``lua.CDRS``): a client reads that in a tenth of the time that a reply
of thousands of words takes, and a script looks at a bounded number of entries, so nobody waits long behind it.

- *Live* is a call whose worker renews it: its score in the live set is in the future, on Redis's clock.
- *Events* have the ids of their stream entries, by which a reader goes on where it stopped (``after``). To follow them
  is to wait inside Redis (XREAD BLOCK) on a connection of one's own; nothing is polled.
- *CDRs* lie in one stream, in the order in which calls ended on Redis's clock. A query runs through it from the newest
  to the oldest. Filters are applied inside Redis; after ``SCAN_MOST`` entries the page ends, full or not, and its
  cursor says where the next one begins. So a rare caller costs many cheap requests, not one dear one.

Everything raises ``StoreError`` when Redis is away, after two seconds at most, and ``ValueError`` for an id, a cursor
or a limit that cannot be one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from gateway.cost.model_life import ModelLife
from gateway.settings.sections import RedisSettings
from gateway.store.connection import (
    COMMAND_LIMIT_S,
    OwnConnection,
    ask,
    connect,
    entries_of,
    reading,
    whole_ms,
)
from gateway.store.keys import key_of
from gateway.store.limits import live_key
from gateway.store.lua import CDRS, PLACES_TAKEN, RECORDS, WORKERS
from gateway.store.model_lives import lives_in, session_route
from gateway.store.record import CallRecord, readable
from gateway.store.registry import RegisteredWorker, names_key, read_answer
from gateway.store.worker_states import Kind, read_states

BLOCK_S = 5.0
"""How long one read of events waits inside Redis."""
RECORDS_AT_ONCE = 128
SCAN_AT_ONCE = 256
"""CDRs that one script looks at: about two milliseconds of Redis's time."""
SCAN_MOST = 8 * SCAN_AT_ONCE
"""CDRs that one request looks at."""
MOST_CDRS = 500
"""The longest page."""
MOST_EVENTS = 1000
MOST_DAYS = 400
MOST_CHARACTERS = 256
_ID = re.compile(r"(\d{1,15})(?:-(\d{1,20}))?")


class Entry(NamedTuple):
    """
    An event.

    Attributes:
        id: of its entry in the stream; the next read goes on ``after`` it.
        fields: names and values as they were written; ``call_id``, ``event`` and ``at`` are always among them.
    """

    id: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class CdrQuery:
    """
    Which CDRs are asked for; a filter that is None lets everything through.

    Attributes:
        since: Unix seconds; calls that ended then or later, on Redis's clock.
        until: Unix seconds; calls that ended before.
        route: name of the route, and so on: the field of the record must be the same.

    Raises:
        ValueError: a time is negative or no number, ``until`` is not after ``since``, or a text is too long.
    """

    since: float | None = None
    until: float | None = None
    route: str | None = None
    trunk: str | None = None
    agent: str | None = None
    caller: str | None = None
    end_reason: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name, at in (("since", self.since), ("until", self.until)):
            if at is not None and not 0 <= at < 1e11:
                raise ValueError(f"{name} should be a time in Unix seconds, not {at}")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"until {self.until:g} should be later than since {self.since:g}")
        for name, text in self.filters().items():
            if len(text) > MOST_CHARACTERS:
                raise ValueError(f"{name} is longer than {MOST_CHARACTERS} characters")

    def filters(self) -> dict[str, str]:
        """Return what a record must have: field -> value."""
        given = ((each.name, getattr(self, each.name)) for each in fields(self) if each.name not in ("since", "until"))
        return {name: value for name, value in given if value is not None}


class Page(NamedTuple):
    """
    Part of an answer.

    Attributes:
        records: of ended calls, the newest first. There may be fewer than asked for, or none, before the last page.
        next_cursor: where the next page begins; None on the last one.
    """

    records: tuple[CallRecord, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Ended calls added up: how many, how many of them were answered, for how long, at which estimated cost."""

    calls: int = 0
    answered: int = 0
    talk_s: float = 0.0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class DayTotals:
    """
    The calls that ended on a day.

    Attributes:
        day: in UTC, on Redis's clock.
        all: of all calls.
        by_route: route -> of its calls. Calls without a route are in ``all`` only.
        by_end_reason: end reason -> how many.
    """

    day: date
    all: Totals = Totals()
    by_route: Mapping[str, Totals] = field(default_factory=dict)
    by_end_reason: Mapping[str, int] = field(default_factory=dict)


class CallReader(OwnConnection):
    """
    The reading side of the store. Thread: loop. Use as ``async with``, or call ``close``.

    Args:
        settings: where Redis is, and the prefix; ``url`` must be set.
    """

    def __init__(self, settings: RedisSettings) -> None:
        super().__init__(settings)
        self._settings = settings

    # --- calls ---

    async def live_calls(
        self, *, worker: str | None = None, trunk: str | None = None, route: str | None = None
    ) -> list[CallRecord]:
        """Return the live calls of all workers, or of one, of a trunk, of a route, oldest first."""
        live = self._key("calls", "live")
        given = {"worker": worker, "trunk": trunk, "route": route}
        sets = [f"{live}:{by}:{name}" for by, name in given.items() if name is not None]
        async with self._reading():
            seconds, microseconds = await self._ask("TIME")
            now_ms = int(seconds) * 1000 + int(microseconds) // 1000
            ids = list(await self._ask("ZRANGEBYSCORE", live, f"({now_ms}", "+inf"))
            if sets:
                chosen = set(await self._ask("SINTER", *sets))
                ids = [call_id for call_id in ids if call_id in chosen]
            records = [record for flat in await self._records(ids) if (record := readable(flat)) is not None]
        return sorted(records, key=lambda record: record.created_at or 0)

    async def _records(self, ids: Sequence[str]) -> list[dict[str, str]]:
        found = []
        for at in range(0, len(ids), RECORDS_AT_ONCE):
            some = ids[at : at + RECORDS_AT_ONCE]
            answer = await self._ask("EVAL", RECORDS, "1", self._key("call", ""), *some)
            found += [_flat(words) for words in json.loads(answer)]
        return found

    async def call(self, call_id: str) -> CallRecord | None:
        """Return a call, live or ended within ``retention_s``; None when there is none."""
        async with self._reading():
            return readable(dict(await self._ask("HGETALL", self._key("call", call_id))))

    # --- events ---

    async def events(self, newest: int = 1000) -> list[dict[str, str]]:
        """Return the newest events of all calls, oldest first, with ``call_id``, ``event``, ``at`` and ``worker``."""
        async with self._reading():
            entries = await self._ask("XREVRANGE", self._key("events"), "+", "-", "COUNT", str(newest))
        return [dict(fields) for _, fields in reversed(entries)]

    async def events_of(self, call_id: str, after: str = "0") -> list[Entry]:
        """
        Return events of a call in order, a thousand at most.

        Args:
            call_id: the call; one that is not known has no events.
            after: id of the last entry that is known.
        """
        start = f"({checked_id(after, 'after')}"
        async with self._reading():
            entries = await self._ask(
                "XRANGE", self._key("call", call_id, "events"), start, "+", "COUNT", str(MOST_EVENTS)
            )
        return [Entry(entry_id, {**fields, "call_id": call_id}) for entry_id, fields in entries]

    async def follow_events(self, call_id: str | None, after: str = "$") -> AsyncGenerator[Entry]:
        """
        Give events as they come; use ``contextlib.aclosing``.

        Those of one call end with its last event, or when there is no such call; those of all calls never end. Ends
        with ``StoreError`` when Redis goes away: go on ``after`` the last entry.

        Args:
            call_id: the call; None for all calls.
            after: id of the last entry that is known; ``0`` for all that are kept, ``$`` for new ones only.
        """
        key = self._key("events") if call_id is None else self._key("call", call_id, "events")
        last = after if after == "$" else checked_id(after, "after")
        redis = connect(self._settings, answer_limit_s=BLOCK_S + COMMAND_LIMIT_S)
        try:
            async with reading(self._where, None):
                if last == "$":  # from now on, not from each read on
                    newest = await ask(redis, "XREVRANGE", key, "+", "-", "COUNT", "1")
                    last = newest[0][0] if newest else "0"
                while True:
                    block = ("COUNT", str(MOST_EVENTS), "BLOCK", whole_ms(BLOCK_S))
                    entries = entries_of(await ask(redis, "XREAD", *block, "STREAMS", key, last))
                    for entry_id, told in entries:
                        last = entry_id
                        yield Entry(entry_id, told if call_id is None else {**told, "call_id": call_id})
                    ended = any(told.get("state") == "ended" for _, told in entries)
                    if call_id is not None and (ended or (not entries and await self._is_over(call_id))):
                        return
        finally:
            await redis.aclose()

    async def _is_over(self, call_id: str) -> bool:
        state = await self._ask("HGET", self._key("call", call_id), "state")
        return state in (None, "ended")

    # --- CDRs ---

    async def cdrs(self, query: CdrQuery, cursor: str = "", limit: int = 100) -> Page:
        """
        Return CDRs that fit, the newest first.

        Args:
            query: which ones.
            cursor: ``next_cursor`` of the page before; empty for the first page.
            limit: most records of the page, up to ``MOST_CDRS``.
        """
        if not 1 <= limit <= MOST_CDRS:
            raise ValueError(f"limit should be between 1 and {MOST_CDRS}, not {limit}")
        newest = "+" if query.until is None else f"({math.ceil(query.until * 1000)}-0"
        oldest = "-" if query.since is None else str(math.ceil(query.since * 1000))
        if cursor:
            newest = f"({checked_id(cursor, 'cursor')}"
        filters = [word for pair in query.filters().items() for word in pair]
        at_once = SCAN_AT_ONCE if filters else min(limit, SCAN_AT_ONCE)
        found: list[CallRecord] = []
        async with self._reading():
            for _ in range(0, SCAN_MOST, SCAN_AT_ONCE):
                words = (newest, oldest, str(at_once), str(limit - len(found)), *filters)
                last, seen, answer = await self._ask("EVAL", CDRS, "1", self._key("cdrs"), *words)
                entries = json.loads(answer) or ()
                read = (readable({**_flat(words), "cdr": entry_id}) for entry_id, words in entries)
                found += [record for record in read if record is not None]
                newest = f"({last}"
                if len(entries) == int(words[3]):
                    break
                if seen < at_once:
                    return Page(tuple(found), None)
        return Page(tuple(found), last)

    async def totals(self, since_day: date, until_day: date) -> list[DayTotals]:
        """
        Return the totals of each day in turn, also of days without calls.

        Args:
            since_day: the first, in UTC.
            until_day: the last; at most ``MOST_DAYS`` in all.
        """
        count = (until_day - since_day).days + 1
        if not 1 <= count <= MOST_DAYS:
            raise ValueError(f"totals of 1 to {MOST_DAYS} days can be asked for, not of {count}")
        days = [since_day + timedelta(days=number) for number in range(count)]
        async with self._reading(), self._redis.pipeline(transaction=False) as pipeline:
            for day in days:
                pipeline.hgetall(self._key("totals", day.isoformat()))
            answers = await pipeline.execute()
        return [day_totals(day, dict(answer)) for day, answer in zip(days, answers, strict=True)]

    # --- workers ---

    async def workers(self) -> list[RegisteredWorker]:
        """Return the workers that are in the registry now, by name, ended ones too."""
        async with self._reading():
            answer = await self._ask("EVAL", WORKERS, "1", names_key(self._settings.prefix))
        return list(read_answer(answer)[0].values())

    async def trunks(self) -> list[dict[str, str]]:
        """Return the state of every worker's trunks, as noted by ``RedisCallStore.note_trunk``."""
        return await self._states("trunk")

    async def dialplans(self) -> list[dict[str, str]]:
        """Return the state of every worker's dialplan, as noted by ``RedisCallStore.note_dialplan``."""
        return await self._states("dialplan")

    async def upstreams(self) -> list[dict[str, str]]:
        """Return how every worker found the models' services, as noted by ``RedisCallStore.note_upstream``."""
        return await self._states("upstream")

    async def sessions(self, models: Sequence[str]) -> dict[str, int]:
        """Return how many sessions these models have now, over all workers; 0 where they are not limited."""
        if not models:
            return {}
        keys = [live_key(self._settings.prefix, session_route(model)) for model in models]
        async with self._reading():
            numbers = await self._ask("EVAL", PLACES_TAKEN, str(len(keys)), *keys)
        return dict(zip(models, map(int, numbers), strict=True))

    async def _states(self, kind: Kind) -> list[dict[str, str]]:
        async with self._reading():
            return await read_states(self._ask, self._settings.prefix, kind)

    async def models(self) -> list[ModelLife]:
        """Return until when the models of the dialplan are offered, by name; empty before the first look-up."""
        async with self._reading():
            return lives_in(await self._ask("HVALS", self._key("models")))

    async def dead_letters(self) -> int:
        """Return how many messages to webhooks were given up and are kept."""
        async with self._reading():
            return int(await self._ask("ZCARD", self._key("webhooks", "dead")))

    # --- counts ---

    async def counts(self, what: str, day: date | None = None) -> dict[str, int]:
        """Return how many of each kind ``RedisCallStore.count`` counted on a day of UTC, today if none is given."""
        of = (day or datetime.now(UTC).date()).isoformat()
        async with self._reading():
            flat = await self._ask("HGETALL", self._key(what, of))
        return {kind: int(number) for kind, number in dict(flat).items()}

    async def metrics(self) -> dict[str, str]:
        """Return what all workers have counted with ``RedisCallStore.add`` since the key is there."""
        async with self._reading():
            return dict(await self._ask("HGETALL", self._key("metrics")))

    def _reading(self) -> AbstractAsyncContextManager[None]:
        return reading(self._where)

    async def _ask(self, *words: str) -> Any:
        return await ask(self._redis, *words)

    def _key(self, *parts: str) -> str:
        return key_of(self._settings.prefix, *parts)


def day_totals(day: date, flat: Mapping[str, str]) -> DayTotals:
    """Return the totals in a day's hash: ``calls``, ``route:{route}:calls``, ``end_reason:{reason}``, ..."""
    figures = {name: int(value) for name, value in flat.items() if value.lstrip("-").isdecimal()}
    routes = {name.removeprefix("route:").rpartition(":")[0] for name in figures if name.startswith("route:")}
    ends = {name.removeprefix("end_reason:"): n for name, n in figures.items() if name.startswith("end_reason:")}
    by_route = {route: _totals(figures, f"route:{route}:") for route in sorted(routes)}
    return DayTotals(day, _totals(figures, ""), by_route, dict(sorted(ends.items())))


def _totals(figures: Mapping[str, int], stem: str) -> Totals:
    calls, answered, talk_ms, cost = (
        figures.get(f"{stem}{name}", 0) for name in ("calls", "answered", "talk_ms", "cost_micro_usd")
    )
    return Totals(calls, answered, talk_ms / 1000, cost / 1e6)


def _flat(words: Iterable[str]) -> dict[str, str]:
    each = iter(words)
    return dict(zip(each, each, strict=True))


def checked_id(text: str, what: str) -> str:
    """Return the id of a stream's entry, which came from outside. Raises ``ValueError``, which says ``what`` it is."""
    found = _ID.fullmatch(text)
    if found is None or not text.isascii() or int(found[2] or 0) >= 2**64:
        raise ValueError(f"{what} should be digits-digits, such as 1767225600000-0")
    return text
