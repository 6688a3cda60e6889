"""What a call is made of."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.audio.pcm import PHONE
from gateway.call.events import IncomingInvite
from gateway.ids import CallId
from gateway.settings.sections import Settings
from gateway.worker.build import CallBuilder
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit

INVITE = IncomingInvite(CallId("c1"), "abc", "sip:a@192.0.2.1", "sip:b@192.0.2.2", "192.0.2.1:5060")


class Sip:
    """Gives legs of no use."""

    def leg(self, *_given: Any) -> None:
        return None


def test_a_caller_who_waits_before_any_agent_came_hears_the_tone() -> None:
    unused: Any = None
    sip: Any = Sip()
    builder = CallBuilder(
        Settings(),
        sip=sip,
        rounds=unused,
        webhooks=unused,
        minter=unused,
        breakers=unused,
        recordings=unused,
        gate=unused,
        store=unused,
        phone=PHONE,
    )
    playout = builder.line(INVITE, may_record=False).playout
    playout.start_filler()
    with playing("clock"):
        heard = [playout.read_frame() for _ in range(50)]
    assert any(frame is not None and any(frame) for frame in heard)
