"""What the simulator saw of one connection, for tests and for people."""

from __future__ import annotations

import asyncio
import time
import wave
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gateway.audio.pcm import BYTES_PER_SAMPLE, MODEL
from gateway.lab.simulator.wire.audio_formats import bytes_per_ms, to_pcm24k

EVENT_LIMIT = 200_000
RECEIVED_LIMIT = 5_000
SHOWN = 2_000
LEFT_WITHOUT_CLOSE = "left without CLOSE"
UPGRADE_S = 1.0  # a client that gives up within the handshake has no WebSocket to close yet


class SeenEvent(NamedTuple):
    """An event's type and when it was seen, monotonic seconds."""

    type: str
    at: float


class Spoken(NamedTuple):
    """Agent speech that was sent: of which item, as 16-bit mono PCM at 24 kHz."""

    item_id: str
    pcm24k: bytes


class KeptAudio:
    """
    Audio kept in the formats it came in, given as 24 kHz PCM when asked.

    Args:
        limit_s: what comes after so much audio is not kept.

    Attributes:
        length_ms: all that came, kept or not.
        marks: of each part that was kept, monotonic seconds and the milliseconds there were with it.
    """

    def __init__(self, limit_s: float) -> None:
        self.length_ms = 0.0
        self.marks: list[tuple[float, float]] = []
        self._room_ms = limit_s * 1000
        self._stretches: list[tuple[str, bytearray]] = []

    def add(self, format_type: str, audio: bytes) -> None:
        """Keep the next part."""
        length_ms = len(audio) / bytes_per_ms(format_type)
        self.length_ms += length_ms
        if self._room_ms <= 0:
            return
        self._room_ms -= length_ms
        self.marks.append((time.monotonic(), self.length_ms))
        if not self._stretches or self._stretches[-1][0] != format_type:
            self._stretches.append((format_type, bytearray()))
        self._stretches[-1][1].extend(audio)

    def pcm24k(self) -> bytes:
        """Return everything kept as 16-bit mono PCM at 24 kHz."""
        return b"".join(to_pcm24k(format_type, bytes(audio)) for format_type, audio in self._stretches)


@dataclass(eq=False)
class Connection:
    """
    One client, from its handshake on.

    Attributes:
        number: counts from 1 in the order of the handshakes.
        model: the model asked for, empty if none.
        keep_audio_s: audio kept per direction.
        safety_identifier: the ``OpenAI-Safety-Identifier`` header, if sent.
        session_id: id of the session, None where refused.
        opened_at: when the handshake came, monotonic seconds.
        closed_at: when the client's CLOSE came, or the end of TCP; None while open.
        close_code: status of the client's CLOSE; 1005 if it had none, 1006 if TCP ended without.
        closed_by: who ended it first.
        refused: why it was not let in (an error code, or ``http 503``).
        events: types of the client's events, in order.
        sent: types of the events sent, in order, when they went to the socket.
        violations: what the client did against the protocol, in words.
        is_configured: whether ``session.updated`` has been sent.
        with_secret: whether a client secret took the place of a key.
        received: the client's events themselves, appends left out.
        session: the session in force; None where refused.
        items: returns the items of the conversation, in order, as the protocol shows them.
    """

    number: int
    model: str = ""
    keep_audio_s: float = 600.0
    safety_identifier: str | None = None
    session_id: str | None = None
    opened_at: float = field(default_factory=time.monotonic)
    closed_at: float | None = None
    close_code: int | None = None
    closed_by: Literal["client", "simulator"] | None = None
    refused: str | None = None
    events: list[SeenEvent] = field(default_factory=list)
    sent: list[SeenEvent] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    is_configured: bool = False
    with_secret: bool = False
    received: list[dict[str, Any]] = field(default_factory=list)
    session: dict[str, Any] | None = None
    items: Callable[[], list[dict[str, Any]]] = list

    def __post_init__(self) -> None:
        self.caller_audio = KeptAudio(self.keep_audio_s)
        self._agent_audio: dict[str, KeptAudio] = {}
        self._closed = asyncio.Event()

    @property
    def open(self) -> bool:
        """Whether the connection is still open."""
        return self.closed_at is None

    @property
    def heard(self) -> bytes:
        """All caller audio as received, as 16-bit mono PCM at 24 kHz (bounded by ``keep_audio_s``)."""
        return self.caller_audio.pcm24k()

    @property
    def heard_ms(self) -> int:
        """Milliseconds of caller audio received, kept or not."""
        return int(self.caller_audio.length_ms)

    @property
    def listens(self) -> bool:
        """Whether the session detects the caller's turns now; not while its ``turn_detection`` is null."""
        return self.session is not None and self.session["audio"]["input"]["turn_detection"] is not None

    @property
    def told(self) -> list[str]:
        """The texts of the client's system items, in the order of the conversation."""
        system = (item for item in self.items() if item.get("role") == "system")
        return [part["text"] for item in system for part in item["content"]]

    @property
    def spoken(self) -> list[Spoken]:
        """All agent audio as sent, per item in the order of their beginning."""
        return [Spoken(item_id, audio.pcm24k()) for item_id, audio in self._agent_audio.items()]

    @property
    def has_spoken(self) -> bool:
        """Whether any agent audio was sent."""
        return bool(self._agent_audio)

    @property
    def spoken_marks(self) -> list[list[tuple[float, float]]]:
        """The marks of all agent audio as sent, for each entry of ``spoken``."""
        return [audio.marks for audio in self._agent_audio.values()]

    def note_event(self, event_type: str) -> None:
        """Record a client event."""
        if len(self.events) < EVENT_LIMIT:
            self.events.append(SeenEvent(event_type, time.monotonic()))

    def note_received(self, event: dict[str, Any]) -> None:
        """Keep a client event."""
        if len(self.received) < RECEIVED_LIMIT:
            self.received.append(event)

    def note_sent(self, event_type: str) -> None:
        """Record a server event that goes to the socket now."""
        if event_type == "session.updated":
            self.is_configured = True
        if len(self.sent) < EVENT_LIMIT:
            self.sent.append(SeenEvent(event_type, time.monotonic()))

    def note_violation(self, text: str) -> None:
        """Record a breach of the protocol."""
        if len(self.violations) < EVENT_LIMIT:
            self.violations.append(text)

    def note_spoken(self, item_id: str, format_type: str, audio: bytes) -> None:
        """Record agent audio that was sent."""
        if item_id not in self._agent_audio:
            self._agent_audio[item_id] = KeptAudio(self.keep_audio_s)
        self._agent_audio[item_id].add(format_type, audio)

    def note_closed(self, at: float, code: int) -> None:
        """Record the end."""
        if self.closed_by is None:
            self.closed_by = "client"
            if code == 1006 and (self.events or at - self.opened_at > UPGRADE_S):
                self.note_violation(LEFT_WITHOUT_CLOSE)
        self.close_code = code
        self.closed_at = at
        self._closed.set()

    def summary(self) -> dict[str, Any]:
        """Return what a list of connections shows, as JSON has it."""
        return {
            "number": self.number,
            "model": self.model,
            "session_id": self.session_id,
            "open": self.open,
            "refused": self.refused,
            "closed_by": self.closed_by,
            "close_code": self.close_code,
            "lasted_s": round((self.closed_at or time.monotonic()) - self.opened_at, 3),
            "heard_ms": self.heard_ms,
            "listens": self.listens,
            "events": dict(Counter(event.type for event in self.events)),
            "sent": dict(Counter(event.type for event in self.sent)),
            "violations": self.violations,
        }

    def detail(self) -> dict[str, Any]:
        """Return what one connection shows: the summary, and each event with its seconds since the handshake."""
        return self.summary() | {
            "events": [(event.type, round(event.at - self.opened_at, 4)) for event in self.events[-SHOWN:]],
            "sent": [(event.type, round(event.at - self.opened_at, 4)) for event in self.sent[-SHOWN:]],
            "received": self.received[-SHOWN:],
            "session": self.session,
            "told": self.told,
            "items": self.items(),
        }

    async def wait_closed(self, limit_s: float = 40.0) -> None:
        """
        Wait until the connection has ended.

        Raises:
            TimeoutError: it has not within ``limit_s``.
        """
        async with asyncio.timeout(limit_s):
            await self._closed.wait()

    def write_wavs(self, directory: Path) -> None:
        """Write ``<number>-heard.wav`` and ``<number>-spoken.wav`` (24 kHz 16-bit mono); blocks for the disk."""
        directory.mkdir(parents=True, exist_ok=True)
        spoken = b"".join(each.pcm24k for each in self.spoken)
        for name, pcm in (("heard", self.heard), ("spoken", spoken)):
            with wave.open(str(directory / f"{self.number:04d}-{name}.wav"), "wb") as out:
                out.setnchannels(1)
                out.setsampwidth(BYTES_PER_SAMPLE)
                out.setframerate(MODEL.rate_hz)
                out.writeframes(pcm)
