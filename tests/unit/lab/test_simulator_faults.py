from __future__ import annotations

import pytest

from gateway.errors import ConfigError
from gateway.lab.simulator.faults import CloseAfter, DropAfter, parse_fault
from gateway.lab.simulator.options import SimulatorOptions

pytestmark = pytest.mark.unit


def test_faults_are_read_with_their_values() -> None:
    assert parse_fault("close=2.5") == CloseAfter(2.5, 1000)
    assert parse_fault("close=0:1011") == CloseAfter(0.0, 1011)
    assert parse_fault("drop=1") == DropAfter(1.0)
    status = parse_fault("http=503").http_status()
    assert status is not None
    assert status.value == 503
    refusal = parse_fault("refuse=invalid_model").refusal()
    assert refusal is not None
    assert refusal.reason == "invalid_request_error.invalid_model"
    assert parse_fault("silent").delay_s("session.updated") is None
    assert parse_fault("slow=2").delay_s("session.updated") == 2
    assert parse_fault("slow=2").delay_s("session.created") == 0


@pytest.mark.parametrize(
    "told",
    ["", "explode", "http", "http=200", "http=999", "refuse=me", "close=soon", "close=-1", "drop=nan", "silent=1"],
)
def test_a_fault_that_is_none_is_told_by_name(told: str) -> None:
    with pytest.raises(ConfigError, match=f"fault '{told}'"):
        parse_fault(told)


def test_all_bad_options_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        SimulatorOptions(think_ms=-1, delta_ms=5, speed=0, faults=("explode",))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "think_ms",
        "delta_ms",
        "speed",
        "fault 'explode'",
    ]
