"""What the machine is told of an agent that is to speak in a call."""

from __future__ import annotations

import pytest

from gateway.dialplan.model.agent import AgentProfile, TurnDetection
from gateway.ids import CallId
from gateway.settings.sections import CallSettings
from gateway.worker.compile import talk_with

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("guard_ms", "waits_ms"), [(0, 0), (200, 700)])
def test_a_guard_waits_until_the_end_of_a_short_sound_would_be_reported(guard_ms: int, waits_ms: int) -> None:
    profile = AgentProfile(instructions="Be brief.", turn_detection=TurnDetection(guard_ms=guard_ms))

    routed = talk_with(
        *(profile, CallSettings()),
        call_id=CallId("call-1"),
        longest_s=600,
        outbound=False,
        transfers="refer",
        end_of_speech_ms=500,
    )

    assert routed.guard_ms == waits_ms
