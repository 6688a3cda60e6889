"""
``python -m gateway.lab.bench.delay``: how long speech is on its way through a gateway, leg by leg.

One real call, the simulator as an echo: what the caller says comes back, and each of its stretches is found again at
the model's socket and at the caller. Times are those at which packets and messages came and went; what a packet
gathers before it is sent (20 ms at each end) belongs to the phone.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from gateway.audio.pcm import MODEL, PHONE
from gateway.audio.resample import Downsampler, delay_ms
from gateway.errors import GatewayError
from gateway.lab.bench.child import BenchFailed
from gateway.lab.callers.gateway_process import GatewayProcess, on_loopback
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.callers.signalling import Signalling, place_call
from gateway.lab.figures.measure import SEGMENT_MS, FloatArray, located_segments
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.lab.simulator.transport.connection import Connection
from gateway.lab.speech import caller_speech

ALIKE = 0.9  # a stretch less alike than this is not the same sound
_REACH_MS = 5000.0
_STEP_MS = 5
_DIALPLAN = "agents:\n  echo:\n    instructions: Echo.\nroutes:\n  - name: everyone\n    agent: echo\n"


@dataclass(frozen=True, slots=True)
class Delays:
    """
    Milliseconds that speech needed, on average over a call.

    Attributes:
        uplink_ms: from the caller's packet to the message at the model's socket.
        model_ms: from there to the model's own message: the simulator's.
        downlink_ms: from that to the packet at the caller.
        stretches: half seconds of speech that were found everywhere.
    """

    uplink_ms: float
    model_ms: float
    downlink_ms: float
    stretches: int

    @property
    def added_ms(self) -> float:
        """What the gateway adds, both ways together."""
        return self.uplink_ms + self.downlink_ms


class Track:
    """
    Audio, and when each part of it passed.

    Args:
        pcm: signed 16-bit mono PCM at 8 kHz.
        marks: monotonic seconds, and the milliseconds of audio that had passed by then; both rise.
        late_ms: by how much ``pcm`` itself lies behind what passed, because it was resampled for this comparison.
    """

    def __init__(self, pcm: bytes, marks: Sequence[tuple[float, float]], late_ms: float = 0.0) -> None:
        self.pcm = pcm
        self._times = [at for at, _ in marks]
        self._ends = [end for _, end in marks]
        self._late_ms = late_ms

    def passed_at(self, ms: float) -> float | None:
        """Return when the part with this millisecond of ``pcm`` passed; None when it did not."""
        part = bisect_right(self._ends, ms - self._late_ms)
        return self._times[part] if part < len(self._times) and ms >= self._late_ms else None


def said(phone: RtpPeer, pcm: bytes) -> Track:
    """Return what a phone has sent, ``pcm`` from its first packet on."""
    sent = [(at, float(PHONE.ptime_ms * number)) for number, at in enumerate(phone.sent_at, 1)]
    return Track(pcm[: PHONE.bytes_of(PHONE.ptime_ms * len(sent))], sent)


def heard_by_model(connection: Connection) -> Track:
    """Return what came to the model."""
    late_ms = delay_ms(MODEL.rate_hz, PHONE.rate_hz)
    return Track(Downsampler().process(connection.heard), connection.caller_audio.marks, late_ms)


def spoken_by_model(connection: Connection) -> Track:
    """Return what the model sent, all items in a row."""
    pcm, marks, so_far = b"", [], 0.0
    for spoken, own in zip(connection.spoken, connection.spoken_marks, strict=True):
        pcm += spoken.pcm24k
        marks += [(at, so_far + end) for at, end in own]
        so_far = marks[-1][1] if marks else so_far
    return Track(Downsampler().process(pcm), marks, delay_ms(MODEL.rate_hz, PHONE.rate_hz))


def heard_by_phone(phone: RtpPeer) -> Track:
    """Return what came to a phone that lost nothing; a network that lost packets would shift the times."""
    pcm = phone.reception.received_pcm()
    origin = phone.reception.packets[0].timestamp if phone.reception.packets else 0
    marks: list[tuple[float, float]] = []
    for packet in phone.reception.packets:
        end_ms = ((packet.timestamp - origin) % 2**32 + len(packet.payload)) / PHONE.rate_hz * 1000
        if not marks or end_ms > marks[-1][1]:
            marks.append((packet.arrived_at, end_ms))
    return Track(pcm, marks)


def leg_ms(start: Track, end: Track) -> list[float]:
    """Return how long each stretch of speech of ``start`` took until ``end``; those not found are left out."""
    delays = []
    for at_ms, place in located_segments(start.pcm, end.pcm, PHONE.rate_hz, _REACH_MS):
        if place.peak < ALIKE:
            continue
        times: FloatArray = np.array(
            [
                (arrived - left) * 1000
                for ms in range(at_ms, at_ms + SEGMENT_MS, _STEP_MS)
                if (left := start.passed_at(ms)) is not None
                and (arrived := end.passed_at(ms + place.lag_ms)) is not None
            ]
        )
        if times.size:
            delays.append(float(times.mean()))
    return delays


def measure_delays(phone: RtpPeer, pcm: bytes, connection: Connection) -> Delays:
    """
    Work out the legs of a finished call to an echo.

    Args:
        phone: which said ``pcm`` from its first packet on.
        pcm: signed 16-bit mono at 8 kHz.
        connection: the simulator's side.

    Raises:
        BenchFailed: the speech did not come back, so there is nothing to measure.
    """
    mouth, socket_in, socket_out = said(phone, pcm), heard_by_model(connection), spoken_by_model(connection)
    legs = [leg_ms(mouth, socket_in), leg_ms(socket_in, socket_out), leg_ms(socket_out, heard_by_phone(phone))]
    if not all(legs):
        raise BenchFailed(f"the echo was not found: {[len(leg) for leg in legs]} stretches of speech on the three legs")
    up, model, down = (float(np.median(leg)) for leg in legs)
    return Delays(up, model, down, min(len(leg) for leg in legs))


async def run_delay(seconds: float) -> Delays:
    """
    Call a gateway of its own and measure.

    Raises:
        SipError: the gateway did not start.
        CallsFailed: the call was not answered.
        BenchFailed: nothing came back.
    """
    pcm = caller_speech(seconds)
    with tempfile.TemporaryDirectory(prefix="gateway-delay-") as folder:
        plan = Path(folder) / "echo.yaml"
        plan.write_text(_DIALPLAN)
        async with Simulator(SimulatorOptions(echo=True)) as simulator:
            variables = on_loopback(plan, simulator.url) | {"GATEWAY_CALL__DRAIN_LIMIT_S": "0"}
            async with GatewayProcess(variables) as gateway, Signalling() as signalling, RtpPeer(pcm) as phone:
                await place_call(signalling, gateway.port, phone)
                await asyncio.sleep(seconds)
                (connection,) = simulator.connections
                return measure_delays(phone, pcm, connection)


def delay_table(delays: Delays) -> Table:
    """Return the figures as a table for people."""
    table = Table(title="Speech through the gateway", title_justify="left", title_style="bold")
    table.add_column("leg")
    table.add_column("ms", justify="right")
    for name, value in (
        ("caller's packet to the model's socket", delays.uplink_ms),
        ("model's socket to the caller's packet", delays.downlink_ms),
        ("added by the gateway", delays.added_ms),
        ("the simulator itself", delays.model_ms),
    ):
        table.add_row(name, f"{value:.1f}")
    return table


def main() -> int:
    """Run as a program; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.bench.delay", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="length of the call, 5 to 120")
    options = parser.parse_args()
    if not 5 <= options.seconds <= 120:
        parser.error("--seconds must be 5 to 120")
    try:
        delays = asyncio.run(run_delay(options.seconds))
    except GatewayError as error:
        Console(stderr=True, soft_wrap=True).print(str(error), style="red", markup=False)
        return 1
    console = Console(highlight=False, soft_wrap=True)
    console.print(delay_table(delays))
    console.print(f"median of {delays.stretches} half seconds of speech, one call of {options.seconds:g} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
