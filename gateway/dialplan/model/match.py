"""Under which conditions a route applies, as people write them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.dialplan.model.fields import PlanName, PlanPart
from gateway.dialplan.model.patterns import parse_pattern
from gateway.dialplan.model.times import find_zone, parse_days, parse_hours, parse_weekdays

MAX_VALUES = 1000
"""Values in one list of a match."""


def as_list(value: object) -> object:
    """Turn one value into a list of one."""
    return value if value is None or isinstance(value, list | tuple) else (value,)


def _checked(parse: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"{text!r} is not a network; give one such as 192.0.2.0/24 or 192.0.2.7") from None


def check_zone(name: str) -> str:
    """
    Return the name of an IANA time zone.

    Raises:
        ValueError: there is no zone of that name.
    """
    if find_zone(name) is None:
        near = get_close_matches(name, available_timezones(), n=1)
        cure = f"did you mean {near[0]!r}?" if near else "give one such as Europe/Berlin or UTC"
        raise ValueError(f"there is no time zone {name!r}; {cure}")
    return name


Zone = Annotated[str, AfterValidator(check_zone)]
_AsList = BeforeValidator(as_list, json_schema_input_type=str | int | list[str | int])
_TextAsList = BeforeValidator(as_list, json_schema_input_type=str | list[str])
_Several = Field(min_length=1, max_length=MAX_VALUES)
Patterns = Annotated[tuple[Annotated[str, _checked(parse_pattern)], ...], _AsList, _Several]
Names = Annotated[tuple[PlanName, ...], _TextAsList, _Several]
NetworkList = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], _TextAsList, _Several]
Weekdays = Annotated[tuple[Annotated[str, _checked(parse_weekdays)], ...], _TextAsList, _Several]
HoursList = Annotated[tuple[Annotated[str, _checked(parse_hours)], ...], _TextAsList, _Several]
DaysList = Annotated[tuple[Annotated[str, _checked(parse_days)], ...], _TextAsList, _Several]
HeaderToken = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]


class _Conditions(PlanPart):
    """Keys that are written have a value: an empty one would mean any call, by a slip of the pen."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: object) -> object:
        if isinstance(value, dict) and (empty := [str(key) for key, each in value.items() if each is None]):
            raise ValueError(f"{', '.join(empty)}: has no value; give one or leave the key out")
        return value


class TimeMatch(_Conditions):
    """A span of time: all keys that are given must match."""

    weekdays: Weekdays | None = Field(None, description="mon-fri, sat, or a list of them")
    hours: HoursList | None = Field(
        None, description="09:00-17:30, or a list; past midnight the hours still belong to the day they began on"
    )
    dates: DaysList | None = Field(
        None, description="2026-12-24, 12-24 (every year), 2026-12-24..2027-01-01, or a list"
    )
    holidays: Names | None = Field(None, description="on days in these lists of `holidays`")
    not_holidays: Names | None = Field(None, description="not on days in these lists")
    zone: Zone | None = Field(None, description="IANA time zone; unset: the plan's `timezone`")


class LoadMatch(_Conditions):
    """How much of the capacity is in use: 0 is idle, 1 is full."""

    above: float | None = Field(None, ge=0, le=1, description="more than this share of the capacity is in use")
    below: float | None = Field(None, ge=0, le=1, description="less than this share of the capacity is in use")

    @model_validator(mode="after")
    def _some_load_fits(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("give above, below or both")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(f"no load is above {self.above:g} and below {self.below:g}; swap them")
        return self


Times = Annotated[
    tuple[TimeMatch, ...],
    BeforeValidator(as_list, json_schema_input_type=TimeMatch | list[TimeMatch]),
    Field(min_length=1, max_length=100),
]


class Match(_Conditions):
    """Conditions of a route: all that are given must match; of a list, one value must."""

    to: Patterns | None = Field(
        None, description="called number or user: exact, prefix +49*, digit pattern _1NXX, regex /^...$/; or a list"
    )
    from_: Patterns | None = Field(None, alias="from", description="caller's number or user, written as `to`")
    trunk: Names | None = Field(None, description="name of the trunk it came through, or a list")
    source: NetworkList | None = Field(None, description="address or network the INVITE came from, or a list")
    headers: Annotated[dict[HeaderToken, Patterns], Field(min_length=1, max_length=50)] | None = Field(
        None, description="SIP header -> value, written as `to`; all of them must match"
    )
    time: Times | None = Field(None, description="when; of a list of spans one must match")
    load: LoadMatch | None = Field(None, description="share of the worker's capacity in use")
    percent: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = Field(
        None, description="percentage of the calls to take, drawn by the call's id: for trials"
    )

    @property
    def group_names(self) -> frozenset[str]:
        """Named groups of its regular expressions."""
        lists = (self.to or (), self.from_ or (), *(self.headers or {}).values())
        return frozenset(name for texts in lists for text in texts for name in parse_pattern(text).groups)
