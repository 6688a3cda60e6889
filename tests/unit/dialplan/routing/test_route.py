from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.call.events import IncomingInvite
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.routing.call_facts import RoutingFacts, facts_of, user_forms
from gateway.dialplan.routing.index import RouteIndex, compile_routes
from gateway.dialplan.routing.route import Rejection, Route, find_route
from gateway.ids import CallId

pytestmark = pytest.mark.unit

AGENTS = {"front": {"instructions": "Be kind."}, "night": {"instructions": "Be brief."}}


def plan(*routes: object) -> RouteIndex:
    return compile_routes(Dialplan.model_validate({"agents": AGENTS, "routes": routes}))


def call(to_uri: str) -> RoutingFacts:
    invite = IncomingInvite(CallId("c1"), "x@y", "sip:caller@example.com", to_uri, "192.0.2.1:5060")
    return facts_of(invite, at=datetime(2026, 1, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    ("called", "to_uri"),
    [
        ("1000", "sip:1000@127.0.0.1"),
        ("1000", "sip:1000@127.0.0.1:5060;transport=tcp?Subject=x"),
        ("1000", "sips:1000@example.com"),
        ("1000", "SIP:1000:password@example.com"),
        ("1000", "<sip:1000@example.com>"),
        ("1000", "sip:1000;isub=7@example.com;user=phone"),
        ("1000;isub=7", "sip:1000;isub=7@example.com"),
        ("alice", "sip:%61lice@example.com"),
        ("+4930123", "sip:+4930123@example.com"),
        ("+4930123", "sip:%2B4930123@example.com"),
        ("+4930123", "tel:+4930123;phone-context=example.com"),
        ("a@b", "sip:a%40b@example.com"),
    ],
)
def test_the_user_part_of_the_called_uri_is_compared(called: str, to_uri: str) -> None:
    route = find_route(plan({"name": "r", "match": {"to": called}, "agent": "night"}), call(to_uri))
    assert isinstance(route, Route)
    assert (route.name, route.step.named_agent, route.agent("night").instructions) == ("r", "night", "Be brief.")


@pytest.mark.parametrize(
    ("called", "to_uri"),
    [
        ("1000", "sip:10001@host"),
        ("1000", "sip:host"),
        ("host", "sip:host"),
        ("alice", "sip:Alice@host"),
        ("1000", "sip:x@host;user=1000"),
        ("1000", ""),
        ("1000", "1000"),
        ("%zz", "sip:%61@host"),
    ],
)
def test_what_differs_is_turned_away_with_404(called: str, to_uri: str) -> None:
    answer = find_route(plan({"name": "r", "match": {"to": called}, "agent": "front"}), call(to_uri))
    assert answer == Rejection(404, f"no route for {to_uri}")


def test_the_first_rule_that_fits_answers() -> None:
    rules = plan(
        {"name": "one", "match": {"to": "1"}, "agent": "front"},
        {"name": "rest", "agent": "night"},
        {"name": "never", "match": {"to": "2"}, "agent": "front"},
    )
    names = [find_route(rules, call(f"sip:{user}@h")) for user in "12"]
    assert [route.name for route in names if isinstance(route, Route)] == ["one", "rest"]


def test_a_rule_without_conditions_takes_a_uri_without_user() -> None:
    assert isinstance(find_route(plan({"name": "any", "agent": "front"}), call("sip:192.0.2.1")), Route)


@pytest.mark.parametrize(("uri", "names"), [("sip:@h", ()), ("sip:%@h", ("%",)), ("sip:%ff@h", ("�",))])
def test_odd_user_parts_are_read_without_an_error(uri: str, names: tuple[str, ...]) -> None:
    assert user_forms(uri) == names


def test_a_forged_from_does_not_match_beside_an_asserted_caller() -> None:
    forged = IncomingInvite(
        CallId("c"), "id", "sip:+4930111@x", "sip:1000@x", "192.0.2.1:5060", caller="+4930222", asserted=True
    )
    facts = facts_of(forged, at=datetime(2026, 1, 1, tzinfo=UTC))
    assert facts.caller_forms == ("+4930222",)
    assert "+4930111" in facts_of(replace(forged, asserted=False), at=facts.at).caller_forms
