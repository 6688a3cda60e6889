"""The agent reaches a voicemail and leaves its message there, whatever the voicemail says meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.audio.pcm import MODEL, PHONE
from gateway.audio.resample import Downsampler
from gateway.free_port import free_port
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import correlation
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.simulator.script import Script
from gateway.lab.speech import caller_speech
from tests.rigs.dialler import desk
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import EXPECT_BYE, take_call
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

PLAN = """
agents:
  seller: {instructions: Be short., tools: {builtin: [leave_message, hang_up]}}
routes: [{name: nobody, action: reject, code: 404}]
"""
MESSAGE_S = 2
SCRIPT = {
    "answers": [
        {"output": [{"call": "leave_message"}]},
        {"output": [{"say": "Please call us back.", "for_s": MESSAGE_S}]},
    ]
}


async def test_a_message_is_left_whole_while_the_voicemail_talks_on(tmp_path: Path) -> None:
    port = free_port()
    options = SimulatorOptions(script=Script.model_validate(SCRIPT))
    async with desk(tmp_path, PLAN, options) as here, RtpPeer() as voicemail:
        async with (
            Sipp(9, (take_call(voicemail.port), EXPECT_BYE), tmp_path / "voicemail", port=port) as callee,
            here.dial(f"sip:desk@127.0.0.1:{port}", "--agent", "seller") as call,
        ):
            voicemail.say(caller_speech(1.2))  # its greeting: when it is over, the agent is asked
            voicemail.talk()
            connection = await here.simulator.connection(1)
            await until(lambda: connection.spoken, what="the message")
            voicemail.say(caller_speech(10))
            assert await callee.finish() == 0, callee.output
            assert await call.finish() == 0, call.output
        (message,) = connection.spoken
        assert MODEL.ms(len(message.pcm24k)) == MESSAGE_S * 1000
        said = Downsampler().process(message.pcm24k)
        heard = voicemail.reception.received_pcm()
        assert correlation(said, heard, PHONE.rate_hz, 8000).peak > 0.9
        kinds = [event.type for event in connection.events]
        assert "response.cancel" not in kinds
        assert "conversation.item.truncate" not in kinds
        assert not connection.violations
        record = await here.record()
        assert (record.end_reason, record.ended_by, record.direction) == ("message_left", "agent", "outbound")
