"""Callers for the bench: SIPp signals, RTP peers of ours speak and listen, a call each."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np

from gateway.audio.g711 import ulaw_to_pcm
from gateway.audio.wav import read_wav
from gateway.errors import ConfigError
from gateway.free_port import free_port
from gateway.lab.bench.child import BenchFailed, MeasuredProcess
from gateway.lab.callers.reception import RtpPacket
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.speech import caller_wav

_SCENARIO = Path(__file__).with_name("calls.xml")
_UP_LIMIT_S = 20.0
_APART_MS = 250  # between one call's INVITE and the next
_SPEECH_RMS = 200.0
_ACKED = re.compile(r"^acked (\d+) (\d+) .*?(\d{10}\.\d+)$", re.MULTILINE)


class Callers:
    """
    Calls that are up.

    Attributes:
        peers: the media of each.
    """

    def __init__(
        self, peers: list[RtpPeer], sipp: MeasuredProcess, log: Path, *, patient: bool, speech: bytes | None
    ) -> None:
        self.peers = peers
        self._sipp = sipp
        self._speech = read_wav(caller_wav())[1] if speech is None else speech
        self._log = log
        self._patient = patient
        self._speaking: set[int] = set()
        self._first_speech: dict[int, float] = {}

    async def all_up(self) -> None:
        """
        Wait until every call was answered and heard something.

        Raises:
            BenchFailed: some call was refused or stayed silent.
            ChildFailed: SIPp has ended.
        """
        ports = {peer.port for peer in self.peers}
        try:
            async with asyncio.timeout(_UP_LIMIT_S):
                while self._acked().keys() < ports or any(first_speech_at(peer) is None for peer in self.peers):
                    self._speak()
                    if self._sipp.exit_code is not None:
                        raise self._sipp.failure(f"ended with exit code {self._sipp.exit_code} while calling")
                    await asyncio.sleep(0.1)
        except TimeoutError:
            silent = sum(first_speech_at(peer) is None for peer in self.peers)
            raise BenchFailed(
                f"of {len(ports)} calls {len(self._acked())} were answered and {silent} heard no speech "
                f"within {_UP_LIMIT_S:g} s"
            ) from None
        self._speak()
        self._first_speech = {peer.port: first_speech_at(peer) or 0.0 for peer in self.peers}

    def first_audio_ms(self) -> list[float]:
        """Return for each call the time from our ACK to the first packet with speech in it; after ``all_up``."""
        acked = self._acked()
        return [max(0.0, (at - acked[port]) * 1000) for port, at in self._first_speech.items()]

    def start_window(self) -> None:
        """Forget what was received so far: figures are of what comes from now on."""
        for peer in self.peers:
            peer.reception.clear()

    def check_window(self, seconds: float) -> None:
        """
        See whether every call really carried audio all the time.

        Raises:
            BenchFailed: one did not; figures of it would flatter.
            ChildFailed: SIPp has ended.
        """
        if self._sipp.exit_code is not None:
            raise self._sipp.failure("ended: calls did not stay up")
        wanted = 0.95 * seconds * 50
        for peer in self.peers:
            received = peer.reception.counts().received
            if received < wanted:
                raise BenchFailed(f"a call received {received} packets in {seconds:g} s, not about {seconds * 50:g}")

    def speech_share(self) -> float:
        """Return the share of received packets that carried speech, of the call with the least."""
        shares = [
            sum(map(is_speech, packets)) / len(packets) for peer in self.peers if (packets := peer.reception.packets)
        ]
        return min(shares, default=0.0)

    def _speak(self) -> None:
        """Send from the answer on: silence until it is the caller's turn, then speech in a loop."""
        answers = _ACKED.findall(self._log.read_text()) if self._log.exists() else []
        media_ports = {int(port): int(media_port) for port, media_port, _ in answers}
        for number, peer in enumerate(self.peers):
            if peer.port not in media_ports:
                continue
            if not peer.sent_packets:
                peer.talk(("127.0.0.1", media_ports[peer.port]))
            if peer.port not in self._speaking and (not self._patient or first_speech_at(peer) is not None):
                self._speaking.add(peer.port)
                # Each begins at another place, or all would speak and be silent together.
                start = number * len(self._speech) // len(self.peers) // 320 * 320
                peer.say(self._speech[start:] + self._speech[:start])

    def _acked(self) -> dict[int, float]:
        """Return when each call's ACK was sent, by RTP port, on the scale of ``time.monotonic``."""
        if not self._log.exists():
            return {}
        epoch = time.monotonic() - time.time()
        return {int(port): float(at) + epoch for port, _, at in _ACKED.findall(self._log.read_text())}


@asynccontextmanager
async def calling(
    count: int, to_port: int, work_dir: Path, *, patient: bool, speech: bytes | None = None
) -> AsyncIterator[Callers]:
    """
    Have ``count`` callers speak in a loop to a SIP port on this machine, until the far end hangs up.

    Args:
        count: calls at once.
        to_port: SIP port on 127.0.0.1.
        work_dir: for files.
        patient: each caller is silent until it hears speech, so that it does not interrupt the greeting.
        speech: what they say, 16-bit mono PCM at 8 kHz; None is the voice that ships.

    Raises:
        ConfigError: SIPp is not installed.
    """
    sipp = shutil.which("sipp")
    if sipp is None:
        raise ConfigError("the bench needs SIPp, which is not installed: apt-get install sip-tester")
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(RtpPeer(looped=True)) for _ in range(count)]
        fields = work_dir / "ports.csv"
        fields.write_text("SEQUENTIAL\n" + "".join(f"{peer.port};\n" for peer in peers))
        log = work_dir / "acked.log"
        log.unlink(missing_ok=True)
        command = [sipp, f"127.0.0.1:{to_port}", "-sf", str(_SCENARIO), "-inf", str(fields), "-i", "127.0.0.1"]
        command += ["-p", str(free_port()), "-m", str(count), "-l", str(count), "-r", "1", "-rp", str(_APART_MS)]
        command += ["-nostdin", "-trace_logs", "-log_file", str(log), "-trace_err", "-error_file", "/dev/stdout"]
        child = await stack.enter_async_context(MeasuredProcess("sipp", command, work_dir))
        yield Callers(peers, child, log, patient=patient, speech=speech)


def first_speech_at(peer: RtpPeer) -> float | None:
    """Return when the first packet with speech in it came, None if none did."""
    return next((packet.arrived_at for packet in peer.reception.packets if is_speech(packet)), None)


def is_speech(packet: RtpPacket) -> bool:
    """Tell whether a PCMU packet is louder than line noise."""
    if packet.payload_type != 0 or not packet.payload:
        return False
    samples = np.frombuffer(ulaw_to_pcm(packet.payload), "<i2").astype(np.float64)
    return float(np.mean(samples**2)) > _SPEECH_RMS**2
