"""The two ways of a frame between PJMEDIA and a call's buffers: in place, and through pjsua2 where a build differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.call.events import LegClosed
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.sip.native import port_frames
from tests.rigs.sip_agent import NOISE, ring_and_answer, sip_agent
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


async def heard(folder: Path) -> str:
    """Have two calls, one after the other, with sound both ways; return how the frames went."""
    async with sip_agent(ring_and_answer) as here:
        for number in (1, 2):
            async with RtpPeer(NOISE) as peer:
                here.playout.write(f"greeting {number}", NOISE)
                peer.talk()
                await play(here.port, folder / str(number), invite(peer.port), ANSWERED, pause(600), BYE)
                await until(lambda number=number: len(here.seen(LegClosed)) == number)  # type: ignore[misc]
                voice, speech = here.uplink.read(), peer.reception.received_pcm()
                assert len(voice) > 320 * 10
                assert any(voice)
                assert any(speech)
        return here.info.frame_access


async def test_frames_are_read_and_written_in_place(tmp_path: Path) -> None:
    assert await heard(tmp_path) == "in place"


@pytest.mark.parametrize("check", ["_finds_functions", "_reads_frames"])
async def test_a_build_with_other_layouts_is_asked_through_pjsua2(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_frames, check, lambda: False)
    with capture_logs() as logs:
        assert await heard(tmp_path) == "vector pointers"
    assert "frames_by_pjsua2" in [line["event"] for line in logs]
