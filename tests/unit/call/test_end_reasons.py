from __future__ import annotations

import pytest

from gateway.call.end_reasons import END_REASONS, explained, fault_of, info_of
from gateway.call.outcome import EndReason, Fault, Outcome, outcome_of, outcome_of_no_answer, outcome_of_own_end
from gateway.errors import AgentLost, AgentRefused, SipError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("reason", EndReason)
def test_every_reason_has_its_entry(reason: EndReason) -> None:
    info = END_REASONS[reason]
    assert info.meaning.endswith(".")
    assert info.fault is Fault.NOBODY or info.cure.endswith("."), "an end that is somebody's fault needs a cure"
    assert info_of(reason.value) is info


def test_a_reason_of_another_version_has_no_entry() -> None:
    assert info_of("eaten_by_a_dog") is None
    assert explained("eaten_by_a_dog", "gateway") == ""


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (Outcome(EndReason.CALLER_HUNG_UP), Fault.NOBODY),
        (Outcome(EndReason.SETUP_TIMEOUT), Fault.UPSTREAM),
        (Outcome(EndReason.SETUP_TIMEOUT, fault=Fault.CARRIER), Fault.CARRIER),
        (outcome_of(AgentRefused("wrong key", http_status=401)), Fault.CONFIGURATION),
        (outcome_of(AgentLost("gone", http_status=503)), Fault.UPSTREAM),
        (outcome_of(AgentLost("moved", http_status=301)), Fault.CONFIGURATION),
        (outcome_of(SipError("no media port")), Fault.GATEWAY),
        (outcome_of_own_end(500, "Server Internal Error"), Fault.CARRIER),
        (outcome_of_own_end(488, "Not Acceptable Here"), Fault.CARRIER),
        (outcome_of_no_answer(486, "Busy Here"), Fault.CALLER),
        (outcome_of_no_answer(603, "Decline"), Fault.CALLER),
        (outcome_of_no_answer(403, "Forbidden"), Fault.CARRIER),
        (outcome_of_no_answer(403, "Forbidden", cause=17), Fault.CALLER),
        (outcome_of_no_answer(404, "Not Found"), Fault.CONFIGURATION),
        (outcome_of_no_answer(407, "Proxy Authentication Required"), Fault.CONFIGURATION),
        (outcome_of_no_answer(503, "Service Unavailable"), Fault.CARRIER),
    ],
)
def test_whose_fault_an_end_is_depends_on_what_caused_it(outcome: Outcome, fault: Fault) -> None:
    assert fault_of(outcome) is fault
    info = END_REASONS[outcome.reason]
    assert fault is info.fault or fault in (info.otherwise or {}), "the page does not say that this can be"


def test_an_end_is_explained_in_one_line() -> None:
    assert explained("busy", "caller") == "The called side was busy. Fault: caller. Try again later."
    assert explained("caller_hung_up", "nobody") == END_REASONS[EndReason.CALLER_HUNG_UP].meaning
    assert "Fault: upstream." in explained("agent_lost", ""), "a record of an older version names no fault"
