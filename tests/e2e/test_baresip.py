"""baresip calls the whole gateway: SRTP, audio both ways, keys, hold and resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.lab.simulator import SimulatorOptions
from tests.rigs.baresip import Baresip
from tests.rigs.house import MakeHouse
from tests.rigs.scripts import scripted
from tests.rigs.tones import tone
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

SPEECH = tone(900) + bytes(16_000 * 12)
"""A second of sound, then the agent's turn."""
PROFILE = "keypad: {pause_s: 5}"


def sentence() -> SimulatorOptions:
    return scripted([{"say": "Good day.", "for_s": 1.0}])


@pytest.mark.parametrize(
    ("account", "srtp"),
    [("mediaenc=srtp-mand", "required"), ("mediaenc=srtp-mand", "optional"), ("audio_codecs=pcma", "optional")],
    ids=["SRTP", "SRTP by choice", "plain by choice"],
)
async def test_baresip_talks_presses_keys_holds_resumes_and_hangs_up(
    house: MakeHouse, tmp_path: Path, account: str, srtp: str
) -> None:
    async with (
        house(simulator=sentence(), profile=PROFILE, GATEWAY_SIP__SRTP=srtp) as here,
        Baresip(tmp_path / "baresip", account, SPEECH) as caller,
    ):
        await caller.order("dial", f"sip:1000@127.0.0.1:{here.port}")
        codec = (await here.happened("active"))["codec"]
        assert codec == ("PCMU/8000" if "srtp" in account else "PCMA/8000")
        await here.happened("agent_heard")
        agent = here.simulator.connections[0]
        await until(lambda: np.abs(np.frombuffer(agent.heard, "<i2").astype(int)).max(initial=0) > 2000, what="speech")
        for nth, key in enumerate("19#", 1):
            await caller.order("sndcode", key)
            await here.happened("digit_pressed", times=nth)
        await until(lambda: "The caller pressed: 1 9 #" in agent.told, what=f"the keys: {agent.told}")
        await caller.order("hold")
        await here.happened("held")
        await until(lambda: not agent.listens, what="a deaf agent")
        await caller.order("resume")
        await here.happened("resumed")
        await until(lambda: agent.listens, what="an agent that listens")
        so_far = agent.heard_ms
        await until(lambda: agent.heard_ms > so_far + 200, what="audio after the hold")
        await caller.order("hangup")
        end = await here.ended_record()
        assert end["end_reason"] == "caller_hung_up"
        assert not agent.violations
        await until(lambda: caller.told("CALL_CLOSED"), what="the end of the call at baresip")
        assert caller.heard_peak() > 1000


async def test_a_gateway_that_insists_on_srtp_refuses_a_plain_call(house: MakeHouse, tmp_path: Path) -> None:
    async with (
        house(GATEWAY_SIP__SRTP="required") as here,
        Baresip(tmp_path / "baresip", "audio_codecs=pcmu", SPEECH) as caller,
    ):
        await caller.order("dial", f"sip:1000@127.0.0.1:{here.port}")
        await until(lambda: caller.told("CALL_CLOSED"), what="a refusal")
        assert "488" in str(caller.told("CALL_CLOSED")[0]["param"])
        assert not here.simulator.connections
