from __future__ import annotations

import pytest

from gateway.call.outcome import EndReason, Outcome, Side, outcome_of
from gateway.errors import AgentLost, AgentRefused, ConfigError, GatewayError, SipError, WireError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (AgentRefused("wrong key"), EndReason.AGENT_REFUSED, 486),
        (AgentLost("gone"), EndReason.AGENT_LOST, 486),
        (WireError("not JSON"), EndReason.AGENT_LOST, 486),
        (SipError("no media"), EndReason.SIP_ERROR, 500),
        (ConfigError("port"), EndReason.INTERNAL_ERROR, 500),
    ],
)
def test_every_error_becomes_an_outcome(error: GatewayError, reason: EndReason, code: int) -> None:
    assert outcome_of(error, sip_code=486) == Outcome(reason, str(error), code)


def test_an_agent_that_cannot_be_had_is_a_503_unless_told_otherwise() -> None:
    assert outcome_of(AgentLost("gone")).sip_code == 503


@pytest.mark.parametrize(
    ("reason", "side"),
    [
        (EndReason.CALLER_HUNG_UP, Side.CALLER),
        (EndReason.CALLER_CANCELLED, Side.CALLER),
        (EndReason.NO_RTP, Side.CALLER),
        (EndReason.AGENT_CLOSED, Side.AGENT),
        (EndReason.SETUP_TIMEOUT, Side.AGENT),
        (EndReason.MAX_LENGTH, Side.GATEWAY),
        (EndReason.SHUTDOWN, Side.GATEWAY),
        (EndReason.INTERNAL_ERROR, Side.GATEWAY),
    ],
)
def test_every_reason_names_the_side_that_ended_the_call(reason: EndReason, side: Side) -> None:
    assert Outcome(reason).ended_by is side


@pytest.mark.parametrize(
    ("reason", "in_bye"),
    [
        (EndReason.MAX_LENGTH, 200),
        (EndReason.SESSION_EXPIRED, 200),
        (EndReason.HELD_TOO_LONG, 200),
        (EndReason.COMPLETED, 200),
        (EndReason.SHUTDOWN, 503),
        (EndReason.AGENT_LOST, 503),
        (EndReason.NO_RTP, 503),
    ],
)
def test_only_a_fault_is_told_as_one_when_an_answered_call_ends(reason: EndReason, in_bye: int) -> None:
    assert Outcome(reason).code(answered=True) == in_bye
    assert Outcome(reason).code(answered=False) == 503
