"""
The border between the gateway and one voice model: what a model's protocol must offer, and what it reports.

A *dialect* is one session of a protocol without its socket: orders return the messages to send, ``receive`` returns
the events that a message means. It does no I/O and keeps no clock; where it needs time it asks for an ``Alarm`` or a
``DialectTimer``. Everything around it is the same for any model::

    UpstreamAgent  the agent of one call      asks a Connector for an Opening, gives orders to the Dialect
    Sessions       its sessions in turn       opens, retries, replaces, rolls over
    UpstreamLink   one WebSocket              text to the Dialect, the Dialect's messages to the socket

A *connector* belongs to one call and outlives its sessions: it holds what was said (``history``) and what the agent
owes the caller (``owed``), makes a new dialect for each session, and judges failures, since their codes are the
service's own. ``worker/build.py`` chooses the connector; nothing else knows which model it is.

What a model cannot do its dialect says (``detects_turns``, ``truncates``, ``cancels``, ``rolls_over``); the agent then
does without it or makes up for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol

from gateway.call.events import CallEvent
from gateway.errors import AgentError
from gateway.upstream.core.debts import Ask
from gateway.upstream.core.history import History, PastItem
from gateway.upstream.core.owed import Owed

# What a session reports


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
    """A message the dialect wants sent on its own account."""

    text: str


@dataclass(frozen=True, slots=True)
class SessionBegan:
    """The service created the session; ``expires_at`` in Unix seconds of its clock, None when it does not say."""

    session_id: str
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """``Dialect.overdue`` is due in ``after_s`` seconds, which replaces an alarm set before; None: never."""

    after_s: float | None


@dataclass(frozen=True, slots=True)
class DialectTimer:
    """``Dialect.timer_fired`` is to be called with ``key`` in ``after_s`` seconds."""

    after_s: float
    key: str


@dataclass(frozen=True, slots=True)
class RenewSession:
    """The session answers no more, because of ``detail``: another is to take its place."""

    detail: str


UpstreamEvent = CallEvent | AgentAudio | AgentAudioDone | Send | SessionBegan | Alarm | DialectTimer | RenewSession


# What a session takes


class Dialect(Protocol):
    """
    One session of a voice model. Orders return the messages to send now, in order; often none.

    ``receive``, ``end_turn``, ``overdue``, ``timer_fired`` and ``lose`` return events in their order. ``AgentReady``
    says that the session may be used; ``AgentFailed`` that it is over.
    """

    @property
    def detects_turns(self) -> bool:
        """Whether it tells when the caller begins and ends to speak; without it nothing interrupts the agent."""

    @property
    def truncates(self) -> bool:
        """Whether the service can be told how much of its speech was heard, and sends no more of it then."""

    @property
    def cancels(self) -> bool:
        """Whether a response can be stopped; if not, the rest of it is dropped as it comes."""

    @property
    def rolls_over(self) -> bool:
        """Whether a session can be replaced by another that knows what was said, before it expires."""

    @property
    def longest_session_s(self) -> float:
        """The longest that the service lets a session live, whatever it says of this one."""

    @property
    def caller_speaks(self) -> bool:
        """Whether a turn of the caller is open, as far as the service tells."""

    @property
    def longest_pause_s(self) -> float:
        """The silence of the caller after which an open turn is over, even if the service does not say so."""

    @property
    def is_quiet(self) -> bool:
        """Whether neither side speaks and no tool runs, as far as the service tells."""

    @property
    def odd_messages(self) -> int:
        """Messages received that were not quite the protocol."""

    @property
    def unknown_events(self) -> int:
        """Messages received of a type that is not documented."""

    def configure(self) -> tuple[str, ...]:
        """Ask for the session, as soon as the connection stands."""

    def receive(self, text: str | bytes) -> list[UpstreamEvent]:
        """Take one message of the service; nothing is raised, whatever it is."""

    def append(self, audio: bytes) -> tuple[str, ...]:
        """Hand over caller audio, whole samples in the session's format."""

    def append_silence(self, size_bytes: int) -> tuple[str, ...]:
        """Hand over silence in place of caller audio of that size."""

    def mute(self) -> tuple[str, ...]:
        """Let turn detection rest and forget an open turn; nothing when it rests already."""

    def unmute(self) -> tuple[str, ...]:
        """Detect turns again; nothing when it does."""

    def seed(self, items: Iterable[PastItem]) -> tuple[str, ...]:
        """Tell a new session what was said before."""

    def tell(self, text: str, *, respond: bool) -> tuple[str, ...]:
        """Put in a message of the gateway's; with ``respond`` the agent speaks once it says nothing else."""

    def say_goodbye(self, ask: Ask) -> tuple[str, ...]:
        """Let the agent speak for the last time; what it says now is cut off."""

    def go_on(self) -> tuple[str, ...]:
        """Ask for what is owed, if it may be asked for now."""

    def cancel(self) -> tuple[str, ...]:
        """Stop the response that is being generated; nothing when there is none."""

    def truncate(self, heard_ms: Mapping[str, int]) -> tuple[str, ...]:
        """Take note how many milliseconds were heard of the items that were cut off."""

    def answer_tool(self, tool_call_id: str, output: str, *, respond: bool) -> tuple[str, ...]:
        """Give a tool's output, once; an answer that is not waited for is dropped."""

    def end_turn(self) -> list[UpstreamEvent]:
        """Take the caller's turn for over, though the service did not say so."""

    def overdue(self, queued_ms: int) -> list[UpstreamEvent]:
        """Take the end of the ``Alarm``; ``queued_ms`` of speech wait to be played."""

    def timer_fired(self, key: str) -> list[UpstreamEvent]:
        """Take the end of a ``DialectTimer``."""

    def retire(self) -> None:
        """Take no more of the session: another has taken its place."""

    def lose(self, *, unheard: bool = False) -> list[UpstreamEvent]:
        """
        Take note that the connection is gone: what the agent owed in this session, the next session owes.

        Orders are still taken, and send nothing: a tool may answer, and speech be cut off, while there is no session.

        Args:
            unheard: the caller spoke when the service had gone silent; the next session owes an answer to that.
        """

    def error_of_close(self, close_code: int | None, reason: str) -> AgentError | None:
        """
        Judge the end of the connection; None when a working session was closed in an orderly way.

        Args:
            close_code: of the CLOSE frame; None without one.
            reason: its text.
        """


# How sessions come and go


class Retry(IntEnum):
    """Whether another session is tried after an ending; the higher, the stricter."""

    BACKOFF = 0
    ONCE = 1
    NEVER = 2


@dataclass(frozen=True, slots=True)
class SessionEnding:
    """
    How a session ended, or an attempt to open one.

    Attributes:
        error: what went wrong; None when the service closed a working session in an orderly way.
        retry: whether a new session may be tried.
        close_code: of the service's CLOSE; None without one.
        reason: its text, without secrets.
        retry_after_s: seconds that the service wants to be left alone.
        held_back: no attempt was made, because the service is known to be away.
    """

    error: AgentError | None
    retry: Retry
    close_code: int | None = None
    reason: str = ""
    retry_after_s: float = 0.0
    held_back: bool = False

    @property
    def words(self) -> str:
        """What happened, for the log and the call's record."""
        return self.error.detail if self.error is not None else f"closed by the service ({self.close_code})"


class ConnectionFault(StrEnum):
    """Why a connection cannot be made, or is given up."""

    CERTIFICATE = "certificate"
    HELD_BACK = "held_back"
    UNREACHABLE = "unreachable"
    STALLED = "stalled"


class Judge(Protocol):
    """Turns what went wrong into an error of ours, and says what follows from it."""

    def connection_error(self, fault: ConnectionFault, detail: str) -> AgentError:
        """Return the error of a connection that cannot be made or goes no further; ``detail`` goes into it."""

    def http_error(self, status: int, body: bytes) -> AgentError:
        """Return the error of a handshake answered with an HTTP status other than 101."""

    def retry(self, error: AgentError) -> Retry:
        """Return whether a new session may be tried after an error."""


@dataclass(frozen=True, slots=True)
class Opening:
    """
    What one connection needs.

    Attributes:
        url: of the WebSocket.
        headers: of the handshake, the key among them.
        dialect: the session's state.
    """

    url: str
    headers: Mapping[str, str]
    dialect: Dialect


class Connector(Protocol):
    """Opens the sessions of one call, and keeps what outlives them."""

    @property
    def history(self) -> History:
        """What was said in the call."""

    @property
    def owed(self) -> Owed:
        """What the agent owes the caller."""

    @property
    def judge(self) -> Judge:
        """Says what follows from a failure."""

    def redact(self, text: str, /) -> str:
        """Return the text without secrets."""

    def close(self) -> None:
        """Let go of what the sessions had: no other is prepared any more; safe more than once."""

    async def prepare(self) -> Opening:
        """
        Get another session ready to be connected to.

        Raises:
            AgentRefused: the session cannot be asked for, or the service gives no key for it.
            AgentLost: the service that gives the key cannot be reached.
            WireError: its answer makes no sense.
        """
