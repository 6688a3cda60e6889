"""
Limits of a route, counted in Redis over all workers: calls at once, calls and minutes in a day. See ``docs/redis.md``.

A script on the server checks all limits of a call and books it, or books nothing. Each heartbeat renews the live places
of this worker's calls and counts their time so far; the places of a worker that died expire. Only times of Redis's own
clock are compared, so the workers' clocks do not matter.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self
from urllib.parse import quote

import structlog

from gateway.errors import StoreError
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.keys import key_of
from gateway.store.lua import ADMIT, COUNT
from gateway.store.record import CallRecord
from gateway.threads import runs_on

ADMIT_LIMIT_S = 0.3
"""A caller does not wait longer than this for Redis."""
CLOSE_LIMIT_S = 1.0
DAY_EXPIRY_S = 2 * 86400.0
"""What was counted of a day goes this long after the last call that counted."""
AT_ONCE = 16
"""Admissions under way at once: a connection each."""
BATCH = 256
"""Calls per round trip."""
ROUTE_LETTERS = 64

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits that count together; None is no limit, 0 lets no call through."""

    max_calls: int | None = None
    calls_per_day: int | None = None
    minutes_per_day: float | None = None

    def exceeded(self, number: int) -> str:
        """Return a limit by its number (1-3) as it is written in a plan: ``calls_per_day 200``."""
        name = ("max_calls", "calls_per_day", "minutes_per_day")[number - 1]
        return f"{name} {getattr(self, name):.10g}"

    def words(self) -> tuple[str, ...]:
        """Return the limits as the script reads them: none is empty, minutes are milliseconds."""
        minutes = self.minutes_per_day
        values = (self.max_calls, self.calls_per_day, None if minutes is None else round(minutes * 60_000))
        return tuple("" if value is None else str(value) for value in values)

    @property
    def limited(self) -> bool:
        """There is at least one limit."""
        return any(self.words())


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """Limits of a route, and of each of its callers."""

    route: Caps = Caps()
    per_caller: Caps = Caps()

    @property
    def limited(self) -> bool:
        """There is at least one limit."""
        return self.route.limited or self.per_caller.limited

    def exceeded(self, number: int) -> str:
        """Return a limit by its number (1-6) as it is written in a plan: ``per_caller.max_calls 2``."""
        return self.route.exceeded(number) if number <= 3 else f"per_caller.{self.per_caller.exceeded(number - 3)}"

    def whole_day_ms(self) -> float:
        """Return the most that a day allows a call; -1 without a limit of minutes."""
        minutes = (self.route.minutes_per_day, self.per_caller.minutes_per_day)
        return min((each * 60_000 for each in minutes if each is not None), default=-1)


@dataclass(frozen=True, slots=True)
class RouteAdmission:
    """
    Whether a call may go on.

    Args:
        admitted: it may; it is booked.
        exceeded: the limit that stopped it, as written in the plan: ``per_caller.calls_per_day 3``; else empty.
        minutes_left: least of the minutes left of the day, for this call and those beside it; None without a limit
            of minutes.
    """

    admitted: bool
    exceeded: str = ""
    minutes_left: float | None = None


@dataclass(slots=True)
class _Booking:
    """A call with a place: ``began`` in the loop's seconds, ``seconds`` when it ended."""

    call_id: str
    keys: tuple[str, ...]
    began: float
    seconds: float | None = None

    def words(self, now: float) -> tuple[str, ...]:
        seconds = now - self.began if self.seconds is None else self.seconds
        return (self.call_id, _ms(seconds), "0" if self.seconds is None else "1", str(len(self.keys)))


class RedisLimits:
    """
    Counts the calls of limited routes; an asynchronous context, inside the store's.

    **Fails open**: while Redis is away, or slower than ``admit_limit_s``, calls are admitted; the log says so once, and
    once when limits are counted again. Such a call is counted when Redis is back. Thread: loop.

    Args:
        store: the open store, whose Redis this is.
        settings: prefix, heartbeat, expiries; how many ended calls are kept while Redis is away.
        admit_limit_s: longest that a caller waits for Redis.
    """

    def __init__(self, store: RedisCallStore, settings: RedisSettings, *, admit_limit_s: float = ADMIT_LIMIT_S) -> None:
        self._store = store
        self._settings = settings
        self._admit_limit_s = admit_limit_s
        mark_s = max(settings.retention_s, settings.expiry_s)
        self._expiries = (_ms(settings.expiry_s), _ms(mark_s), _ms(DAY_EXPIRY_S))
        self._unanswered_ms = _ms(min(mark_s, max(settings.unanswered_retention_s, settings.expiry_s)))
        self._live: dict[str, _Booking] = {}
        self._ended: dict[str, _Booking] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._wake = asyncio.Event()
        self._beat_at = 0.0
        self._away = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        """Ended calls whose minutes were given up because Redis was away for too long."""

    async def __aenter__(self) -> Self:
        """Start to renew and to count."""
        self._task = asyncio.create_task(self._count_all_the_time(), name="route limits")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release what is still live and count it, for at most a second."""
        self._closed = True  # Python 3.11's wait_for, which redis-py sends with, may swallow the cancellation
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        now = asyncio.get_running_loop().time()
        for call_id, booking in list(self._live.items()):
            self.release(call_id, now - booking.began)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self._count()
        if self._ended:
            _log.warning("limits closed with calls not counted", calls=len(self._ended))

    @runs_on("loop")
    async def admit(self, call_id: str, *, route: str, caller: str, day: str, limits: RouteLimits) -> RouteAdmission:
        """
        Book a call if all limits of its route hold, else book nothing; never raises, waits ``admit_limit_s`` at most.

        Limits without any value are not counted and cost nothing. A call is on one route; asked for again, it is
        counted once. ``release`` comes after the answer; cancelled before, this releases the call itself.

        Args:
            call_id: unique over all workers.
            route: name of the route.
            caller: the caller's number in one spelling; any text. Callers without a number are one caller.
            day: YYYY-MM-DD in the plan's time zone. The call's minutes count on this day, also after midnight.
            limits: of the route.
        """
        if not limits.limited:
            return RouteAdmission(admitted=True)
        keys = self._keys(call_id, route, caller if limits.per_caller.limited else None, day)
        booking = _Booking(call_id, keys, asyncio.get_running_loop().time())
        words = (call_id, *self._expiries, *limits.route.words(), *limits.per_caller.words())
        try:
            async with asyncio.timeout(self._admit_limit_s), self._turns:
                number, left_ms = await self._store.run(ADMIT, keys, words)
        except (StoreError, TimeoutError) as error:
            self._noticed_loss(error)
            number, left_ms = 0, limits.whole_day_ms()
        except asyncio.CancelledError:
            self._book(booking)
            self.release(call_id, 0)
            raise
        else:
            self._noticed_answer()
        if number:
            return RouteAdmission(admitted=False, exceeded=limits.exceeded(number))
        self._book(booking)
        return RouteAdmission(admitted=True, minutes_left=None if left_ms < 0 else left_ms / 60_000)

    @runs_on("loop")
    def release(self, call_id: str, seconds: float) -> None:
        """
        Free the call's places and count its time; neither waits nor raises.

        A call that is not booked, or was released before, changes nothing.

        Args:
            call_id: as it was admitted.
            seconds: the call's length as it is to be counted, such as from answer to end. It replaces what heartbeats
                counted since the admission.
        """
        booking = self._live.pop(call_id, None)
        if booking is None:
            return
        booking.seconds = max(0.0, seconds)
        self._ended[call_id] = booking
        while len(self._ended) > self._settings.backlog:
            del self._ended[next(iter(self._ended))]
            self.dropped += 1
        self._wake.set()

    def _book(self, booking: _Booking) -> None:
        if booking.call_id in self._live:
            return
        self._live[booking.call_id] = booking
        self._wake.set()

    async def _count_all_the_time(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closed:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._beat_at if self._live or self._ended else None):
                    await self._wake.wait()
            due = loop.time() >= self._beat_at
            if due:
                self._beat_at = loop.time() + self._settings.heartbeat_s
            if due or (self._ended and not self._away):
                await self._count(live=due)

    async def _count(self, *, live: bool = False) -> None:
        """Bring what Redis counts of ended calls, and of live ones, to the newest state."""
        bookings = iter([*self._ended.values(), *(self._live.values() if live else ())])
        while batch := list(islice(bookings, BATCH)):
            now = asyncio.get_running_loop().time()
            ended = [booking.call_id for booking in batch if booking.seconds is not None]
            keys = [key for booking in batch for key in booking.keys]
            words = [word for booking in batch for word in booking.words(now)]
            try:
                faults = await self._store.run(COUNT, keys, (*self._expiries, self._unanswered_ms, *words))
            except StoreError as error:
                self._noticed_loss(error)
                return
            self._noticed_answer()
            if faults:
                _log.error("redis refused to count", faults=faults[:5], count=len(faults))
            for call_id in ended:
                self._ended.pop(call_id, None)

    def _noticed_loss(self, error: BaseException) -> None:
        if not self._away:
            self._away = True
            _log.error(
                "limits of routes are not counted; calls are admitted",
                error=str(error) or "no answer from Redis in time",
            )

    def _noticed_answer(self) -> None:
        if self._away:
            self._away = False
            _log.warning("limits of routes are counted again", dropped=self.dropped)

    def _keys(self, call_id: str, route: str, caller: str | None, day: str) -> tuple[str, ...]:
        """Return the call's mark, then a live set and a day's hash for the route and for the caller."""
        stem = key_of(self._settings.prefix, "limits", _quoted(route))
        keys = (f"{stem}:call:{call_id}", f"{stem}:live", f"{stem}:day:{_quoted(day)}")
        if caller is None:
            return keys
        who = _hashed(caller)
        return (*keys, f"{keys[1]}:{who}", f"{keys[2]}:{who}")


_FREE = "for _, key in ipairs(KEYS) do redis.call('ZREM', key, ARGV[1]) end"


async def free_places(store: RedisCallStore, prefix: str, record: CallRecord) -> None:
    """
    Free the places that a call of a dead worker had in the limits of its route, before they expire.

    Args:
        store: open; what reaches Redis.
        prefix: first part of every key.
        record: of the call.

    Raises:
        StoreError: Redis does not answer.
    """
    if record.route is not None:
        live = key_of(prefix, "limits", _quoted(record.route), "live")
        await store.run(_FREE, [live, f"{live}:{_hashed(record.caller or '')}"], [record.call_id])


def _hashed(caller: str) -> str:
    return hashlib.blake2b(caller.encode(errors="backslashreplace"), digest_size=16).hexdigest()


def _quoted(text: str) -> str:
    """Return text of a key's part: bounded, and without a colon."""
    return quote(text[:ROUTE_LETTERS], errors="backslashreplace")


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))
