"""A route with its call: everything that is filled in for those who carry it out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.call.events import IncomingInvite
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.steps import AgentStep, DialStep, DialTarget, RedirectStep, RejectStep
from gateway.dialplan.model.templates import TemplateFailed
from gateway.dialplan.routing.call_facts import facts_of
from gateway.dialplan.routing.index import compile_routes
from gateway.dialplan.routing.route import Route, find_route, profile_without_call
from gateway.ids import CallId
from gateway.sip.core.address import parse_address, split_list

pytestmark = pytest.mark.unit

AT = datetime(2026, 12, 24, 10, tzinfo=UTC)
AGENT = {
    "instructions": "It is {{ time.clock }}, you talk to {{ caller }} of {{ metadata.team }}.",
    "greeting": "Hello {{ headers['X-Name'] }}",
    "keypad": {"shortcuts": {"1": "sip:one@h"}, "masked": True},
    "recording": {"mode": "on", "announcement": "On {{ time.weekday }} we record."},
}


def route(step: dict[str, Any], to_uri: str = "sip:%2B4930@h", called: str = "", **headers: str) -> Route:
    rule = {"name": "r", "metadata": {"team": "{{ headers['X-Team'] | default('north') }}"}, **step}
    plan = Dialplan.model_validate({"agents": {"a": AGENT}, "routes": [rule], "timezone": "Europe/Berlin"})
    folded = {name.lower().replace("_", "-"): value for name, value in headers.items()}
    invite = IncomingInvite(CallId("c1"), "x@y", "sip:evil%40h@x", to_uri, "192.0.2.1:5060", folded, called=called)
    found = find_route(compile_routes(plan), facts_of(invite, at=AT, load=0.5))
    assert isinstance(found, Route)
    return found


def test_facts_are_those_of_the_invite() -> None:
    facts = route({"agent": "a"}, "sip:030;x=1@h", called="+4930").call
    assert (facts.called, facts.called_forms) == ("+4930", ("+4930", "030;x=1", "030"))
    assert (facts.caller, facts.source, facts.load, facts.call_id) == ("evil@h", "192.0.2.1", 0.5, "c1")


def test_the_profile_is_filled_in_and_the_keypad_merged() -> None:
    found = route({"agent": "a", "keypad": {"shortcuts": {"0": "sip:zero@h"}, "pause_s": 3}}, X_Name="Ex\r\nample")
    assert isinstance(found.step, AgentStep)
    profile = found.step.profile(found)
    assert profile.instructions == "It is 11:00, you talk to evil@h of north."
    assert profile.greeting == "Hello Ex ample"
    assert profile.recording.announcement == "On Thursday we record."
    assert profile.keypad.shortcuts == {"1": "sip:one@h", "0": "sip:zero@h"}
    assert (profile.keypad.masked, profile.keypad.pause_s) == (True, 3)
    assert (found.step.named_agent, found.metadata) == ("a", {"team": "north"})
    assert found.plan.agents["a"].instructions.startswith("It is {{")


def test_a_profile_without_places_stays_the_same_object() -> None:
    plan = Dialplan.model_validate({"agents": {"a": {"instructions": "x"}}, "routes": [{"name": "r", "agent": "a"}]})
    assert profile_without_call(plan, "a", AT) is plan.agents["a"]


def test_without_a_call_what_only_a_call_has_is_empty_or_a_typed_error() -> None:
    plan = route({"agent": "a"}).plan
    with pytest.raises(TemplateFailed, match="team"):
        profile_without_call(plan, "a", AT)


def test_whom_to_dial_is_filled_in_and_cannot_be_led_elsewhere() -> None:
    step = {"action": "dial", "to": "sip:{{ caller }}@pbx", "headers": {"X-To": "{{ called }} {{ headers['X-Name'] }}"}}
    found = route(step, X_Name="a\r\nVia: b")
    assert isinstance(found.step, DialStep)
    assert found.step.target(found) == DialTarget("sip:evil%40h@pbx", None, {"X-To": "+4930 a Via: b"})
    assert (found.step.named_agent, found.step.profile(found)) == (None, None)


def test_a_long_header_is_passed_on_whole_also_by_way_of_the_metadata() -> None:
    step = {
        "action": "dial",
        "to": "sip:desk@pbx",
        "headers": {"X-Token": "{{ headers['X-Name'] }}", "X-Again": "{{ metadata.team }}"},
    }
    found = route(step, X_Name="T%2B" * 350, X_Team="S" * 1400)
    assert isinstance(found.step, DialStep)
    assert found.step.target(found).headers == {"X-Token": "T%2B" * 350, "X-Again": "S" * 1400}


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({}, ("", "called")),
        ({"caller_id": "caller", "diverted_from": "nobody"}, ("caller", "nobody")),
        ({"caller_id": "trunk"}, ("trunk", "called")),
        ({"caller_id": "+493012345", "diverted_from": "{{ called }}"}, ("+493012345", "+4930")),
    ],
)
def test_a_step_says_who_is_shown_as_calling(keys: dict[str, str], shown: tuple[str, str]) -> None:
    found = route({"action": "dial", "to": "sip:desk@pbx", **keys})
    assert isinstance(found.step, DialStep)
    dialled = found.step.target(found)
    assert (dialled.caller_id, dialled.diverted_from) == shown


def test_a_caller_id_that_is_no_number_fails_the_step() -> None:
    found = route(
        {"action": "dial", "to": "sip:desk@pbx", "caller_id": "{{ headers['X-Name'] }}"}, X_Name="a <sip:b@c>"
    )
    assert isinstance(found.step, DialStep)
    with pytest.raises(TemplateFailed, match="caller_id: 'a <sip:b@c>' is not a number in this call"):
        found.step.target(found)


@pytest.mark.parametrize(
    "template",
    [
        "\"{{ headers['X-Name'] }}\" <sip:{{ caller }}@carrier.example>",
        "\"{{ headers['X-Name'] }}\" <sip:+493099@carrier.example;x={{ headers['X-Name'] }}>;y={{ headers['X-Name'] }}",
        "<sip:{{ headers['X-Name'] }}@carrier.example>",
        "sip:{{ headers['X-Name'] }}@carrier.example",
        "{{ headers['X-Name'] }}",
        "\"\\{{ headers['X-Name'] }}\" <sip:+493099@carrier.example>",
    ],
)
@pytest.mark.parametrize(
    "value",
    [
        'x" <sip:+4912345@h>, "',
        "+4912345@evil>, <sip:+4912345",
        "<sip:+4912345@evil>",
        "+4912345@evil;x=",
        "a\\",
        '\\" <sip:+4912345@evil>',
        "a\r\nP-Asserted-Identity: <sip:+4912345@evil>",
        "a%0d%0aP-Asserted-Identity: <sip:+4912345@evil>",
        "\u00fc\u2028\ud800\x00",
        ";tag=1",
        "",
    ],
)
def test_no_value_of_a_caller_becomes_an_identity_of_its_own(template: str, value: str) -> None:
    step = {"action": "dial", "to": "sip:desk@pbx", "headers": {"P-Asserted-Identity": template}}
    found = route(step, X_Name=value)
    assert isinstance(found.step, DialStep)
    try:
        (written,) = found.step.target(found).headers.values()
    except TemplateFailed:
        return
    assert written.isprintable()
    elements = split_list(written)
    assert len(elements) <= 1
    for element in elements if value else ():
        address = parse_address(element)
        assert (address.uri.host, address.uri.subscriber == "+4912345") == ("carrier.example", False)


@pytest.mark.parametrize(
    ("trunk", "to", "good"), [("main", "called", True), (None, "called", False), ("main", "caller", False)]
)
def test_a_number_to_dial_must_be_one_and_have_a_trunk(trunk: str | None, to: str, good: bool) -> None:
    found = route({"action": "dial", "to": "{{ " + to + " }}", **({"trunk": trunk} if trunk else {})})
    assert isinstance(found.step, DialStep)
    if good:
        assert found.step.target(found) == DialTarget("+4930", "main", {})
    else:
        with pytest.raises(TemplateFailed, match="cannot be dialled"):
            found.step.target(found)


def test_contacts_and_reasons_are_filled_in() -> None:
    found = route({"action": "redirect", "contacts": ["sip:{{ called }}@new", "tel:+4940"]})
    assert isinstance(found.step, RedirectStep)
    assert found.step.uris(found) == ("sip:+4930@new", "tel:+4940")
    found = route({"action": "redirect", "contacts": "{{ headers['X-Name'] }}"}, X_Name="sip:a@b")
    assert isinstance(found.step, RedirectStep)
    with pytest.raises(TemplateFailed, match="is not a URI"):
        found.step.uris(found)
    found = route({"action": "reject", "code": "480", "reason": "No {{ headers['X-Name'] }}"}, X_Name="x\ny")
    assert isinstance(found.step, RejectStep)
    assert found.step.phrase(found) == "No x y"
    assert RejectStep(code=486).phrase(found) is None
