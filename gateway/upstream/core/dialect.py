"""What a session's messages mean for the one who carries them: call events, and these."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.call.events import CallEvent


@dataclass(frozen=True, slots=True)
class AgentAudio:
    """
    Speech of item ``item_id`` in the session's output format: any number of bytes, far ahead of playback.

    ``place``: number of its response in the session, and its index in that; items are played in this order.
    """

    item_id: str
    pcm: bytes
    place: tuple[int, int]


@dataclass(frozen=True, slots=True)
class AgentAudioDone:
    """Speech of item ``item_id`` came to its end; another part of it, with an end of its own, may follow."""

    item_id: str


@dataclass(frozen=True, slots=True)
class Send:
    """A message the protocol wants sent on its own account."""

    text: str


@dataclass(frozen=True, slots=True)
class SessionBegan:
    """The service created the session; ``expires_at`` in Unix seconds of its clock, None when it does not say."""

    session_id: str
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """``RealtimeDialect.overdue`` is to be called in ``after_s`` seconds, not at an alarm set before; None: never."""

    after_s: float | None


@dataclass(frozen=True, slots=True)
class DialectTimer:
    """``RealtimeDialect.timer_fired`` is to be called with ``key`` in ``after_s`` seconds."""

    after_s: float
    key: str


@dataclass(frozen=True, slots=True)
class RenewSession:
    """The session answers no more, because of ``detail``: another is to take its place."""

    detail: str


UpstreamEvent = CallEvent | AgentAudio | AgentAudioDone | Send | SessionBegan | Alarm | DialectTimer | RenewSession
