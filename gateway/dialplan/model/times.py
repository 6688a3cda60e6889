"""When a route applies: weekdays, hours, dates, holidays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MIDNIGHT = time(0)


class Hours(NamedTuple):
    """From ``start`` up to but not including ``end``; an end that is not later lies on the next day."""

    start: time
    end: time

    def contains(self, clock: time) -> bool:
        """Return whether it is inside."""
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


class Days(NamedTuple):
    """From ``first`` to ``last``, both inside; a year of None is every year."""

    first: tuple[int | None, int, int]
    last: tuple[int | None, int, int]

    def contains(self, day: date) -> bool:
        """Return whether the day is inside; without years a range may pass New Year."""
        if self.first[0] is not None:
            return self.first <= (day.year, day.month, day.day) <= self.last
        first, last, this = self.first[1:], self.last[1:], (day.month, day.day)
        return first <= this <= last if first <= last else this >= first or this <= last


@lru_cache(maxsize=1024)
def parse_weekdays(text: str) -> frozenset[int]:
    """
    Return the days of ``mon-fri`` or ``sat``, Monday is 0.

    Raises:
        ValueError: not days.
    """
    found = re.fullmatch(r"([a-z]{3})[a-z]*(?:-([a-z]{3})[a-z]*)?", text.strip().lower())
    if found is None or found[1] not in WEEKDAYS or (found[2] or "mon") not in WEEKDAYS:
        raise ValueError(
            f"{text!r} is not a weekday; give mon, tue, wed, thu, fri, sat, sun, or a range such as mon-fri"
        )
    first = WEEKDAYS.index(found[1])
    last = WEEKDAYS.index(found[2]) if found[2] else first
    return frozenset((first + step) % 7 for step in range((last - first) % 7 + 1))


@lru_cache(maxsize=1024)
def parse_hours(text: str) -> Hours:
    """
    Return the hours of ``09:00-17:30``; ``24:00`` is midnight.

    Raises:
        ValueError: not hours.
    """
    found = re.fullmatch(r"\s*(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)\s*", text, re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is not a span of hours; give one such as 09:00-17:30")
    try:
        start = time(int(found[1]), int(found[2]))
        end = _MIDNIGHT if (found[3], found[4]) == ("24", "00") else time(int(found[3]), int(found[4]))
    except ValueError:
        raise ValueError(f"{text!r} has an impossible hour or minute") from None
    return Hours(start, end)


@lru_cache(maxsize=4096)
def parse_days(text: str) -> Days:
    """
    Return the days of ``2026-12-24``, ``12-24`` (every year), or a range of two with ``..`` between.

    Raises:
        ValueError: not dates.
    """
    first, dots, last = (part.strip() for part in text.partition(".."))
    days = Days(_parse_day(first, text), _parse_day(last if dots else first, text))
    if (days.first[0] is None) != (days.last[0] is None):
        raise ValueError(f"{text!r} has a year on one side only; give it on both or on neither")
    if days.first[0] is not None and not days.first <= days.last:
        raise ValueError(f"{text!r} ends before it begins")
    return days


def _parse_day(text: str, whole: str) -> tuple[int | None, int, int]:
    found = re.fullmatch(r"(?:(\d{4})-)?(\d{1,2})-(\d{1,2})", text, re.ASCII)
    if found is None:
        raise ValueError(f"{whole!r} is not a date; give 2026-12-24, 12-24 (every year) or 2026-12-24..2027-01-01")
    year = int(found[1]) if found[1] else None
    try:
        day = date(2024 if year is None else year, int(found[2]), int(found[3]))  # 2024 has a 29 February
    except ValueError:
        raise ValueError(f"{whole!r} is not a date that exists") from None
    return year, day.month, day.day


@lru_cache(maxsize=1024)
def find_zone(name: str) -> ZoneInfo | None:
    """Return the IANA time zone of this name; None when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # no such name; a path; a folder such as "Europe"
        return None


class Calendar(NamedTuple):
    """The plan's idea of time: its zone, and its lists of holidays."""

    zone: ZoneInfo
    holidays: Mapping[str, tuple[Days, ...]]

    def is_holiday(self, name: str, day: date) -> bool:
        """Return whether the day is in the list of that name."""
        return any(days.contains(day) for days in self.holidays.get(name, ()))

    def local(self, at: datetime, zone: str | None) -> datetime:
        """Return the moment as a clock in ``zone`` shows it (None: the plan's own)."""
        return at.astimezone((find_zone(zone) if zone else None) or self.zone)


def day_before(day: date) -> date:
    """Return the day before; the first day there is stays."""
    return day - timedelta(days=1) if day > date.min else day
