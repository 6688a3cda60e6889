"""
The sizing table of docs/operating.md, from measured figures: ``python -m docs.generate.sizing`` prints it.

A figure that was measured anew is replaced in ``MEASURED``, nowhere else. The rest is arithmetic: packet sizes follow
from the protocols' headers, so they hold on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """
    What was measured, on two shared cores of an AMD EPYC.

    Attributes:
        cpu_percent: of a core, per call: worker and supervisor.
        pss_mb: memory per call, spare workers included.
        worker_files: descriptors of a worker without calls.
        edge_ms: CPU of Kamailio per call, INVITE to BYE.
        edge_feed_us: CPU of ``gateway edge run`` per worker and second.
        redis_call_ms: CPU of Redis per call, for what happens once.
        redis_call_second_us: CPU of Redis per second of a call: its events and its share of heartbeats.
        redis_worker_us: CPU of Redis per worker and second without calls.
        redis_call_trips: round trips to Redis per call.
        redis_call_second_trips: more of them per second of a call.
        redis_worker_trips: round trips of a worker per second, without calls.
    """

    cpu_percent: float = 1.02
    pss_mb: float = 9.8
    worker_files: int = 21
    edge_ms: float = 1.3
    edge_feed_us: float = 26
    redis_call_ms: float = 1.5
    redis_call_second_us: float = 56
    redis_worker_us: float = 135
    redis_call_trips: float = 7
    redis_call_second_trips: float = 0.6
    redis_worker_trips: float = 0.7


MEASURED = Measured()

CAPACITY = 4
CALL_S = 180
"""Length of a call that the rates assume."""
TALK = 0.5
"""Share of the time in which the agent speaks."""
LOAD = 0.6
"""Share of a core that is planned for: the rest is for the moments when many speak."""
RTP_BYTES = 160 + 12 + 8 + 20
"""20 ms of G.711; RTP, UDP and IPv4 headers."""
WEBSOCKET_BYTES = 8 + 29 + 52
"""Headers of a short message: WebSocket with mask, a TLS 1.3 record, TCP with time stamps and IPv4."""
JSON_BYTES = 50
DELTA_BYTES = 200
"""What a message of the service has beside its audio."""
SIZES = (40, 400, 4_000, 10_000)


def message_bytes(audio_bytes: int) -> int:
    """Return the bytes on the wire of a message with 20 ms of audio, in base64."""
    return 4 * math.ceil(audio_bytes / 3) + JSON_BYTES + WEBSOCKET_BYTES


def up_kbits(audio_bytes: int) -> float:
    """Return the bandwidth of one call towards the model, in kbit/s, with 20 ms per message."""
    return message_bytes(audio_bytes) * 50 * 8 / 1000


def down_kbits(audio_bytes: int) -> float:
    """Return the bandwidth of one call from the model, in kbit/s: deltas of about 200 ms while the agent speaks."""
    delta = 4 * math.ceil(10 * audio_bytes / 3) + DELTA_BYTES
    packets = math.ceil(delta / 1400)
    return (delta + packets * WEBSOCKET_BYTES) * 5 * 8 / 1000 * TALK


PCM16, G711 = 960, 160
"""Bytes of 20 ms: 24 kHz linear, and ``audio_format: pcmu`` or ``pcma``."""


def table(measured: Measured = MEASURED) -> str:
    """Return the sizing table, in Markdown."""
    rows = [("| calls at once | " + " | ".join(f"{size:,}" for size in SIZES) + " |"), "|---|" + "---|" * len(SIZES)]
    for name, show in ROWS:
        rows.append(f"| {name} | " + " | ".join(show(size, measured) for size in SIZES) + " |")
    return "\n".join(rows)


def _workers(calls: int) -> int:
    return math.ceil(calls / CAPACITY)


def _gbit(kbits: float) -> str:
    return f"{kbits / 1e6:.1f} Gbit/s" if kbits >= 1e6 else f"{kbits / 1000:.0f} Mbit/s"


def _redis_core(calls: int, measured: Measured) -> float:
    once = calls / CALL_S * measured.redis_call_ms / 1e3
    during = calls * measured.redis_call_second_us / 1e6
    idle = _workers(calls) * measured.redis_worker_us / 1e6
    return once + during + idle


def _redis_trips(calls: int, measured: Measured) -> float:
    per_call = measured.redis_call_trips / CALL_S + measured.redis_call_second_trips
    return calls * per_call + _workers(calls) * measured.redis_worker_trips


ROWS: tuple[tuple[str, Callable[[int, Measured], str]], ...] = (
    ("workers", lambda calls, measured: f"{_workers(calls):,}"),
    ("cores for workers, at 60 % load", lambda c, m: f"{math.ceil(c * m.cpu_percent / 100 / LOAD):,}"),
    ("memory for workers, GB", lambda c, m: f"{c * m.pss_mb / 1000:.1f}"),
    ("RTP, each way", lambda c, m: _gbit(c * RTP_BYTES * 50 * 8 / 1000)),
    ("RTP packets per second, each way", lambda c, m: f"{c * 50:,}"),
    ("to the model, `pcm16`", lambda c, m: _gbit(c * up_kbits(PCM16))),
    ("to the model, `pcmu`", lambda c, m: _gbit(c * up_kbits(G711))),
    ("from the model, `pcm16`", lambda c, m: _gbit(c * down_kbits(PCM16))),
    ("from the model, `pcmu`", lambda c, m: _gbit(c * down_kbits(G711))),
    ("packets per second to the model", lambda c, m: f"{c * 50:,}"),
    ("sockets and files of workers", lambda c, m: f"{_workers(c) * m.worker_files + 3 * c:,}"),
    ("new calls per second, of 3 min", lambda c, m: f"{c / CALL_S:.1f}"),
    ("edge, cores", lambda c, m: f"{c / CALL_S * m.edge_ms / 1e3 + _workers(c) * m.edge_feed_us / 1e6:.2f}"),
    ("Redis, round trips per second", lambda c, m: f"{_redis_trips(c, m):,.0f}"),
    ("Redis, cores", lambda c, m: f"{_redis_core(c, m):.2f}"),
    ("sessions at the model's service", lambda c, m: f"{c:,}"),
)

if __name__ == "__main__":
    print(table())
