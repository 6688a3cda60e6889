"""
Limits of a route, counted in Redis over all workers: calls at once; calls, minutes and money in a day.

``docs/redis.md`` has the keys. A script on the server checks all limits of a call and books it, or books nothing. Each
heartbeat renews the live places of this worker's calls and counts their time so far; the places of a lost worker,
and the money they booked and did not spend, are given back when its calls are ended (``lua.REAP``), and places expire
in any case. Only times of Redis's own clock are compared, so the workers' clocks do not matter.

Money is booked ahead, because what a call costs is known only afterwards: a call that is admitted books ``reserve_usd``
of the day, or what is left of it, and books more once half of that is spent (``spend``). What it booked and did not
spend is given back at its end. So calls at the same time never share the same rest, and a call goes beyond what it
booked only by what the answer that crosses the line costs, and the goodbye. Amounts are whole micro-dollars.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
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
ALL_CALLS = "cost:all"
"""In the place of a route: what counts all calls. No name of a route has a colon."""

_log = structlog.stdlib.get_logger(__name__)


_KINDS = ("max_calls", "calls_per_day", "minutes_per_day", "usd_per_day")
_MS, _MICRO = 60_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits that count together; None is no limit, 0 lets no call through."""

    max_calls: int | None = None
    calls_per_day: int | None = None
    minutes_per_day: float | None = None
    usd_per_day: float | None = None

    def words(self) -> tuple[str, ...]:
        """Return the limits as the script reads them: none is empty, minutes are milliseconds, money micro-dollars."""
        minutes, usd = self.minutes_per_day, self.usd_per_day
        ms, micro = None if minutes is None else round(minutes * _MS), None if usd is None else round(usd * _MICRO)
        return tuple("" if value is None else str(value) for value in (self.max_calls, self.calls_per_day, ms, micro))

    @property
    def limited(self) -> bool:
        """There is at least one limit."""
        return any(self.words())


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """
    What limits a call.

    Attributes:
        route: limits of its route.
        per_caller: of each caller of that route.
        gateway: of all calls, whatever their route.
        reserve_usd: money that a call books at a time, where money is limited.
    """

    route: Caps = Caps()
    per_caller: Caps = Caps()
    gateway: Caps = Caps()
    reserve_usd: float = 0.25

    @property
    def scopes(self) -> tuple[tuple[str, Caps], ...]:
        """What counts together, in the order of the script, each after the beginning of its name."""
        wanted = (("", self.route), ("per_caller.", self.per_caller), ("cost.", self.gateway))
        return tuple((name, caps) for name, caps in wanted if caps.limited)

    @property
    def limited(self) -> bool:
        """There is at least one limit."""
        return bool(self.scopes)

    @property
    def counts_money(self) -> bool:
        """Money is limited."""
        return any(caps.usd_per_day is not None for _, caps in self.scopes)

    def exceeded(self, number: int) -> str:
        """Return a limit by its number in the script, from 1, as it is written: ``per_caller.max_calls 2``."""
        scope, kind = divmod(number - 1, len(_KINDS))
        name, caps = self.scopes[scope]
        return f"{name}{_KINDS[kind]} {getattr(caps, _KINDS[kind]):.10g}"

    def whole_day_ms(self) -> float:
        """Return the most that a day allows a call; -1 without a limit of minutes."""
        minutes = (caps.minutes_per_day for _, caps in self.scopes)
        return min((each * _MS for each in minutes if each is not None), default=-1)


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


OnBooked = Callable[[float, str], None]
"""
Takes what a call has booked, in US dollars, and the limit that lets it book no more, as it is written; empty if it may
book more when it needs that.
"""


@dataclass(slots=True)
class _Booking:
    """
    A call with a place: ``began`` in the loop's seconds, ``seconds`` when it ended.

    ``spent`` and ``booked`` are micro-dollars; ``asks``: it wants more, and ``told`` is to hear of it; ``asked``: it is
    being asked for.
    """

    call_id: str
    keys: tuple[str, ...]
    limits: RouteLimits
    began: float
    seconds: float | None = None
    spent: int = 0
    booked: int = 0
    asks: bool = False
    asked: bool = False
    told: OnBooked | None = None

    @property
    def reserve(self) -> int:
        return round(self.limits.reserve_usd * _MICRO) if self.limits.counts_money else 0

    def ask(self, now: float) -> tuple[str, ...]:
        """Return what COUNT reads of a call; ``answered`` follows."""
        self.asked, self.asks = self.asks or self.asked, False
        seconds = now - self.began if self.seconds is None else self.seconds
        wanted = self.spent + self.reserve if self.asked else 0
        caps = (scope.words()[3] for _, scope in self.limits.scopes)
        state = (_ms(seconds), "0" if self.seconds is None else "1", str(self.spent), str(wanted))
        return (self.call_id, str(len(self.keys)), *state, *caps)

    def answered(self, booked: int, full: int) -> None:
        """Take what COUNT answers: what is booked now, and the number of the scope that has no more, 0 for none."""
        if booked < 0:  # ended meanwhile, or Redis holds something else there
            return
        self.booked, asked, self.asked = booked, self.asked, False
        if self.told is not None and asked:
            self.told(booked / _MICRO, self.limits.exceeded(len(_KINDS) * full) if full else "")


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
        self._asking: dict[str, _Booking] = {}  # live ones that want more money
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
        keys = self._keys(call_id, route, caller, day, limits)
        booking = _Booking(call_id, keys, limits, asyncio.get_running_loop().time())
        caps = (word for _, scope in limits.scopes for word in scope.words())
        words = (call_id, *self._expiries, str(booking.reserve), *caps)
        try:
            async with asyncio.timeout(self._admit_limit_s), self._turns:
                number, left_ms, booking.booked = await self._store.run(ADMIT, keys, words)
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
        booking.seconds, booking.told = max(0.0, seconds), None
        self._asking.pop(call_id, None)
        self._ended[call_id] = booking
        while len(self._ended) > self._settings.backlog:
            del self._ended[next(iter(self._ended))]
            self.dropped += 1
        self._wake.set()

    @runs_on("loop")
    def spend(self, call_id: str, usd: float, told: OnBooked) -> None:
        """
        Count what a call has cost so far, and book more if it needs that; neither waits nor raises.

        A call that is not booked changes nothing.

        Args:
            call_id: as it was admitted.
            usd: since its beginning, in US dollars.
            told: is called later, each time the call asked for more; not while Redis is away.
        """
        booking = self._live.get(call_id)
        if booking is None:
            return
        booking.spent, booking.told = max(booking.spent, round(usd * _MICRO)), told
        if booking.reserve and booking.booked < booking.spent + booking.reserve // 2:
            booking.asks = True
            self._asking[call_id] = booking
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
            if self._away or not (self._ended or self._asking):
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._beat_at if self._live or self._ended else None):
                        await self._wake.wait()
            due = loop.time() >= self._beat_at
            if due:
                self._beat_at = loop.time() + self._settings.heartbeat_s
            if due or ((self._ended or self._asking) and not self._away):
                await self._count(live=due)

    async def _count(self, *, live: bool = False) -> None:
        """Bring what Redis counts of ended calls, and of live ones, to the newest state."""
        going, self._asking = self._live if live else self._asking, {}
        bookings = iter([*self._ended.values(), *going.values()])
        while batch := list(islice(bookings, BATCH)):
            now = asyncio.get_running_loop().time()
            ended = [booking.call_id for booking in batch if booking.seconds is not None]
            keys = [key for booking in batch for key in booking.keys]
            words = [word for booking in batch for word in booking.ask(now)]
            try:
                faults, booked = await self._store.run(COUNT, keys, (*self._expiries, self._unanswered_ms, *words))
            except StoreError as error:
                self._noticed_loss(error)
                return
            self._noticed_answer()
            if faults:
                _log.error("redis refused to count", faults=faults[:5], count=len(faults))
            for booking, micro, full in zip(batch, booked[::2], booked[1::2], strict=True):
                booking.answered(micro, full)
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

    def _keys(self, call_id: str, route: str, caller: str, day: str, limits: RouteLimits) -> tuple[str, ...]:
        """Return the call's mark, then a live set and a day's hash for each scope of its limits."""
        stem = key_of(self._settings.prefix, "limits", _quoted(route))
        everywhere = key_of(self._settings.prefix, "limits", _quoted(ALL_CALLS))
        live_and_day = f"{stem}:live", f"{stem}:day:{_quoted(day)}"
        who = hashed(caller)
        pairs = {
            "": live_and_day,
            "per_caller.": tuple(f"{key}:{who}" for key in live_and_day),
            "cost.": (f"{everywhere}:live", f"{everywhere}:day:{_quoted(day)}"),
        }
        mark = key_of(self._settings.prefix, "limits", "call", call_id)
        return (mark, *(key for name, _ in limits.scopes for key in pairs[name]))


def live_key(prefix: str, route: str) -> str:
    """Return the key of the set of a route's live calls: id -> until when it is live, ms on Redis's clock."""
    return key_of(prefix, "limits", _quoted(route), "live")


def hashed(caller: str) -> str:
    """Return what stands for a caller in keys."""
    return hashlib.blake2b(caller.encode(errors="backslashreplace"), digest_size=16).hexdigest()


def _quoted(text: str) -> str:
    """Return text of a key's part: bounded, and without a colon."""
    return quote(text[:ROUTE_LETTERS], errors="backslashreplace")


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))
