"""The table of calls knows four members of a call, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.ids import CallId
from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.calls.table import CallTable

pytestmark = pytest.mark.unit

ONE, TWO = CallId("call_1"), CallId("call_2")


@dataclass
class Entry:
    """A call that notes what it is asked."""

    trunk: str = ""
    asked: list[object] = field(default_factory=list)

    def failed(self, detail: str) -> None:
        self.asked.append(detail)

    def watch(self, now: float) -> None:
        self.asked.append(now)

    def end(self, code: int, reason: str) -> None:
        self.asked.append((code, reason))

    def refuse(self) -> None:
        raise ValueError("no such text")


def table(**trunks: TrunkSettings) -> CallTable[Entry, Entry]:
    nothing = cast("Any", None)
    return CallTable(nothing, nothing, SipSettings(), nothing, nothing, nothing, trunks=trunks)


def test_an_order_reaches_its_call_and_one_for_a_call_that_is_over_reaches_nobody() -> None:
    calls = table()
    calls.calls[ONE], calls.second_legs[ONE] = Entry(), Entry()
    calls.order(ONE, lambda call: call.end(200, "bye"))
    calls.order_second(ONE, lambda second: second.end(486, "busy"))
    calls.order(TWO, lambda call: call.end(200, "bye"))
    calls.order_second(TWO, lambda second: second.end(200, "bye"))
    assert calls.calls[ONE].asked == [(200, "bye")]
    assert calls.second_legs[ONE].asked == [(486, "busy")]


def test_a_call_hears_that_an_order_could_not_be_carried_out() -> None:
    calls = table()
    calls.calls[ONE] = Entry()
    calls.order(ONE, Entry.refuse)
    assert calls.calls[ONE].asked == ["no such text"]


def test_second_legs_count_are_watched_and_ended_with_the_others() -> None:
    calls = table(main=TrunkSettings(host="192.0.2.1", max_calls=2))
    calls.calls[ONE], calls.calls[TWO], calls.second_legs[ONE] = Entry("main"), Entry(), Entry("main")
    assert len(calls) == 3
    assert (calls.calls_of("main"), calls.is_full("main"), calls.is_full("")) == (2, True, False)
    calls.watch(5.0)
    calls.end_all(503, "Shutting down")
    entries = (*calls.calls.values(), *calls.second_legs.values())
    assert [entry.asked for entry in entries] == [[5.0, (503, "Shutting down")]] * 3
    calls.clear()
    assert len(calls) == 0
