from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.report.explain import explain_call
from gateway.dialplan.routing.call_facts import RoutingFacts, facts_of_call
from gateway.dialplan.routing.index import RouteIndex, compile_routes
from gateway.dialplan.routing.route import Rejection, Route, find_route

pytestmark = pytest.mark.unit

NOON = datetime(2026, 12, 22, 12, tzinfo=UTC)  # a Tuesday


def plan(*matches: object) -> RouteIndex:
    routes = [{"name": f"r{n}", "match": match, "agent": "a"} for n, match in enumerate(matches)]
    holidays = {"xmas": ["12-24..12-26"], "once": ["2026-12-22"]}
    plain = {"agents": {"a": {"instructions": "x"}}, "routes": routes, "holidays": holidays}
    return compile_routes(Dialplan.model_validate(plain))


def call(to: str = "1000", caller: str = "+4930123", at: datetime = NOON, **more: object) -> RoutingFacts:
    return facts_of_call(to=to, caller=caller, at=at, **more)  # type: ignore[arg-type]


def why(match: object, facts: RoutingFacts) -> str:
    considered = explain_call(plan(match), facts).considered[0]
    assert considered.matched or considered.key in (match if isinstance(match, dict) else ())
    return considered.why


@pytest.mark.parametrize(
    ("match", "facts", "words"),
    [
        ({}, call(), "matches"),
        ({"to": "1000"}, call(), "matches"),
        ({"to": ["7", "1000"]}, call(), "matches"),
        ({"to": "2000"}, call(), "to is 1000, not 2000"),
        ({"to": "1000"}, call("sip:1000;isub=1@h"), "matches"),
        ({"from": "+49*"}, call(), "matches"),
        ({"from": "+33*"}, call(caller=""), "from is missing, not +33*"),
        ({"trunk": "Main"}, call(trunk="main"), "matches"),
        ({"trunk": "main"}, call(), "it came through no trunk, not main"),
        ({"source": "192.0.2.0/24"}, call(source="192.0.2.9"), "matches"),
        ({"source": "192.0.2.7"}, call(source="192.0.2.9"), "it came from 192.0.2.9, not 192.0.2.7/32"),
        ({"source": "192.0.2.7"}, call(source="rubbish"), "it came from rubbish, not 192.0.2.7/32"),
        ({"headers": {"X-A": "b"}}, call(headers={"x-a": " b "}), "matches"),
        ({"headers": {"X-A": "b"}}, call(), "there is no header x-a"),
        ({"headers": {"X-A": "b"}}, call(headers={"X-A": "c"}), "header x-a is 'c', not b"),
        ({"time": {"weekdays": "mon-fri", "hours": "09:00-17:30"}}, call(), "matches"),
        ({"time": {"weekdays": "sat-mon"}}, call(), "it is Tuesday, not mon or sat or sun"),
        ({"time": {"hours": "13:00-24:00"}}, call(), "it is 12:00, not 13:00-00:00"),
        ({"time": {"hours": "13:00-14:00", "zone": "Europe/Berlin"}}, call(), "matches"),
        ({"time": {"dates": "12-01..12-24"}}, call(), "matches"),
        ({"time": {"dates": "2026-12-20..2026-12-21"}}, call(), "it is 2026-12-22, not a date of the list"),
        ({"time": {"holidays": "once"}}, call(), "matches"),
        ({"time": {"holidays": "xmas"}}, call(), "2026-12-22 is not a holiday in xmas"),
        ({"time": {"not_holidays": ["xmas", "once"]}}, call(), "2026-12-22 is a holiday in once"),
        ({"time": [{"weekdays": "sun"}, {"hours": "11:00-13:00"}]}, call(), "matches"),
        (
            {"time": [{"weekdays": "sun"}, {"weekdays": "mon"}]},
            call(),
            "it is Tuesday, not sun; it is Tuesday, not mon",
        ),
        ({"load": {"above": 0.8}}, call(load=0.9), "matches"),
        ({"load": {"above": 0.8}}, call(load=0.8), "the load is 80%, not above 80%"),
        ({"load": {"below": 0.5}}, call(load=0.5), "the load is 50%, not below 50%"),
    ],
)
def test_each_condition_holds_or_says_why_not(match: object, facts: RoutingFacts, words: str) -> None:
    assert why(match, facts) == words
    assert isinstance(find_route(plan(match), facts), Route if words == "matches" else Rejection)


def test_hours_past_midnight_belong_to_the_day_they_began_on() -> None:
    match = {"time": {"weekdays": "fri", "hours": "22:00-02:00"}}
    friday = datetime(2026, 12, 18, 23, tzinfo=UTC)
    assert why(match, call(at=friday)) == "matches"
    assert why(match, call(at=friday + timedelta(hours=2))) == "matches"
    assert why(match, call(at=friday - timedelta(hours=22))) == "it is Thursday, not fri"


def test_a_percentage_is_a_share_and_always_the_same_for_a_call() -> None:
    trial = plan({"percent": 30})
    taken = [isinstance(find_route(trial, call(call_id=f"c{n}")), Route) for n in range(2000)]
    assert 520 < sum(taken) < 680
    assert taken == [isinstance(find_route(trial, call(call_id=f"c{n}")), Route) for n in range(2000)]
    assert why({"percent": 1}, call(call_id="c1")).endswith("not below 1 percent")


def test_two_percentages_are_drawn_independently() -> None:
    halves = plan({"percent": 50}, {"percent": 50})
    found = [find_route(halves, call(call_id=f"c{n}")) for n in range(2000)]
    second = sum(isinstance(each, Route) and each.name == "r1" for each in found)
    assert 400 < second < 600


def test_groups_of_all_conditions_come_together() -> None:
    match = {"to": "/(?P<desk>\\d+)/", "from": "/\\+(?P<country>\\d\\d).*|(?P<none>x)/"}
    found = find_route(plan(match), call())
    assert isinstance(found, Route)
    assert found.groups == {"desk": "1000", "country": "49", "none": ""}


VALUES = st.sampled_from(["1", "12", "123", "13", "+49", "x"])
TEXTS = st.sampled_from(["1", "12", "1*", "12*", "*", "_1X", "_X.", "_1!", "/1.*/", "/x/", "+49*"])
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "to": st.lists(TEXTS, min_size=1, max_size=2),
        "from": TEXTS,
        "headers": st.fixed_dictionaries({"X-A": TEXTS}),
        "trunk": st.sampled_from(["main", "other"]),
    },
)


@settings(max_examples=400)
@given(st.lists(MATCHES, min_size=1, max_size=8), VALUES, VALUES, VALUES | st.none(), st.sampled_from(["", "main"]))
def test_the_index_finds_what_asking_one_route_after_the_other_finds(
    matches: list[dict[str, object]], to: str, caller: str, header: str | None, trunk: str
) -> None:
    many = plan(*matches)
    facts = call(to, caller, trunk=trunk, headers={} if header is None else {"X-A": header})
    first = next((each.rule.name for each in many.routes if each.groups(facts) is not None), None)
    found = find_route(many, facts)
    assert (found.name if isinstance(found, Route) else None) == first
