"""A real SIP call, recorded: what stands in the file is what went in and out, each in its channel."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.resample import Downsampler
from gateway.audio.uplink import UplinkTap
from gateway.audio.wav import read_stereo_wav
from gateway.call.events import CallEvent, IncomingInvite, LegClosed, MediaUp, RecordingSaved
from gateway.free_port import free_port
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import correlation, segment_correlation
from gateway.lab.speech import agent_sentences, caller_speech
from gateway.recording.recorder import CallRecorder, RecordingWriter
from gateway.settings.sections import RecordingSettings
from gateway.settings.sip import SipSettings
from gateway.sip.thread import SipThread
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

SAID = caller_speech(3)
AGENT = Downsampler().process(agent_sentences()[0].pcm24k)


class RecordedPhone:
    """Picks up, lets the agent speak and records."""

    def __init__(self, folder: Path) -> None:
        first = free_port() // 2 * 2 % 20000 + 30000
        settings = SipSettings(host="127.0.0.1", port=0, rtp_port_min=first, rtp_port_max=first + 99)
        self.sip = SipThread(settings, self.on_event)
        self.writer = RecordingWriter(RecordingSettings(folder=folder))
        self.uplink, self.playout = UplinkTap(capacity_frames=1000), PlayoutBuffer(PHONE)
        self.events: list[CallEvent] = []
        self.recorder: CallRecorder | None = None

    def on_event(self, event: CallEvent) -> None:
        self.events.append(event)
        if isinstance(event, IncomingInvite):
            self.recorder = CallRecorder(event.call_id, self.writer, PHONE)
            self.sip.leg(event.call_id, self.uplink, self.playout, self.recorder).answer()
        elif isinstance(event, MediaUp):
            assert self.recorder is not None
            self.recorder.start(self.events.append)
            self.playout.write("greeting", AGENT)

    def seen(self, kind: type[CallEvent]) -> list[CallEvent]:
        return [event for event in self.events if isinstance(event, kind)]


async def test_a_call_is_recorded_as_it_went_in_and_out(tmp_path: Path) -> None:
    phone = RecordedPhone(tmp_path / "recordings")
    phone.writer.start()
    info = await phone.sip.start()
    async with RtpPeer(SAID) as peer:
        peer.talk()
        await play(info.port, tmp_path, invite(peer.port, payloads="0"), ANSWERED, pause(3500), BYE)
        await until(lambda: phone.seen(LegClosed))
    await phone.sip.stop()
    assert phone.recorder is not None
    await phone.recorder.close()
    await phone.writer.stop()

    (saved,) = phone.seen(RecordingSaved)
    assert isinstance(saved, RecordingSaved)
    rate_hz, left, right = read_stereo_wav(Path(saved.path))
    assert rate_hz == PHONE.rate_hz
    assert 2.5 < saved.seconds < 6
    assert len(left) == len(right) == round(saved.seconds * 16000)
    caller = segment_correlation(SAID, left, rate_hz, 1500)
    agent = segment_correlation(AGENT[: PHONE.bytes_of(2500)], right, rate_hz, 1500)
    print(f"\ncaller {caller.peak:.4f} at {caller.lag_ms:.0f} ms, agent {agent.peak:.4f} at {agent.lag_ms:.0f} ms")
    assert caller.peak > 0.95
    assert agent.peak > 0.999, "bit for bit what was played"
    assert correlation(SAID, right, rate_hz, 1500).peak < 0.3, "neither side is in the other's channel"
    # Both tracks on one clock: the caller's frames came from the uplink in the same ticks as the agent's went out.
    heard = segment_correlation(SAID, phone.uplink.read(), rate_hz, 1500)
    assert heard.peak > 0.95
    assert 0 <= agent.lag_ms < 300
