"""
One conversation over the Realtime API, without its socket: messages come in, facts go out; orders give text to send.

State is kept by response id and item id, since responses and items overlap on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog

from gateway.audio.pcm import MODEL
from gateway.call.events import (
    AgentFailed,
    AgentReady,
    AgentSpoke,
    CallerSpoke,
    CallEvent,
    SpeechStarted,
    SpeechStopped,
)
from gateway.errors import AgentError, AgentLost, AgentRefused
from gateway.ids import CallId
from gateway.realtime import wire_server as server
from gateway.realtime.session_echo import find_difference
from gateway.realtime.wire import encode, encode_append, parse_server_event
from gateway.realtime.wire_client import (
    ConversationItemTruncate,
    ResponseCreate,
    ResponseOverrides,
    SessionUpdate,
)
from gateway.realtime.wire_objects import ErrorDetails, Response, StatusDetails
from gateway.realtime.wire_session import SessionConfig

_log = structlog.get_logger(__name__)

MAX_ITEMS = 64
"""Items whose received audio is remembered; far more than can wait to be played."""

MAX_ENDED_RESPONSES = 32
"""Ended responses whose late audio is still known to be late."""

MAX_PROBLEMS = 64
"""Different errors that are logged."""

CONFIGURE_ID = "configure"

# Closing with these means that the same again would be answered the same (RFC 6455 section 7.4.1 and the API's own).
REFUSING_CLOSE_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 3000, 4000, 4004})
PASSING_CODES = frozenset({"rate_limit_exceeded", "session_expired", "server_error"})


@dataclass(frozen=True, slots=True)
class AgentAudio:
    """Speech of item ``item_id``: PCM at 24 kHz, any number of bytes, far ahead of playback."""

    item_id: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class AgentAudioDone:
    """No more speech of item ``item_id`` will come."""

    item_id: str


@dataclass(frozen=True, slots=True)
class Send:
    """A message the protocol wants sent on its own account."""

    text: str


Fact = CallEvent | AgentAudio | AgentAudioDone | Send


@dataclass(slots=True)
class _Speech:
    """An item of the agent that has audio."""

    response_id: str | None
    content_index: int
    received_bytes: int = 0
    ended: bool = False  # no more audio comes
    whole: bool = False  # it ended by itself, not cut off
    truncated: bool = False


class RealtimeProtocol:
    """
    The client's side of one session. Orders return the messages to send now, in order; often none.

    Args:
        call_id: goes into every call event.
        config: the session wanted; ready means that the server echoed it.
        redact: takes secrets out of what the server said, before it is logged or reported.
    """

    def __init__(
        self, call_id: CallId, config: SessionConfig, *, redact: Callable[[str], str] = lambda text: text
    ) -> None:
        self._call_id = call_id
        self._config = config
        self._redact = redact
        turns = config.audio.input.turn_detection if config.audio and config.audio.input else None
        self._interrupts = turns is not None and turns.interrupt_response
        self.ready = False
        self._failed = False
        self._last_error: ErrorDetails | None = None  # set while an error is the last thing heard
        self._problems: set[tuple[str | None, str | None]] = set()
        self._items: dict[str, _Speech] = {}
        self.active_response_id: str | None = None
        self._ended_responses: dict[str, None] = {}
        self._asked: ResponseCreate | None = None  # the last response.create sent
        self._asked_open = False  # it was sent and nothing came of it yet
        self._wanted: ResponseCreate | None = None  # to be sent once no response is active
        self._creates = 0
        self.unknown_events = 0

    # Orders

    def configure(self) -> tuple[str, ...]:
        """Ask for the session; everything else waits for the answer."""
        return (encode(SessionUpdate(event_id=CONFIGURE_ID, session=self._config)),)

    def append(self, pcm: bytes) -> tuple[str, ...]:
        """Hand over caller audio, whole samples at 24 kHz. Before the session is ready it is refused: none to send."""
        return (encode_append(pcm),) if self.ready and pcm else ()

    def greet(self, instructions: str | None) -> tuple[str, ...]:
        """Let the agent speak, by these instructions instead of the session's; later if it is speaking now."""
        self._creates += 1
        event_id = f"respond-{self._creates}"
        if instructions is None:
            self._wanted = ResponseCreate(event_id=event_id)
        else:
            self._wanted = ResponseCreate(event_id=event_id, response=ResponseOverrides(instructions=instructions))
        return self._flush_wanted()

    def truncate(self, item_id: str, played_ms: int) -> tuple[str, ...]:
        """
        Tell that only ``played_ms`` of an item were heard; nothing if it is unknown or was heard in full.

        Clamped to the audio received: the server refuses more. Audio of the item that still comes is dropped.
        """
        speech = self._items.get(item_id)
        if speech is None or speech.truncated:
            return ()
        received_ms = MODEL.ms(speech.received_bytes)
        if speech.whole and played_ms >= received_ms:
            return ()  # cutting nothing off would only delete the item's transcript
        speech.truncated = True
        end_ms = max(0, min(played_ms, received_ms))
        cut = ConversationItemTruncate(item_id=item_id, content_index=speech.content_index, audio_end_ms=end_ms)
        return (encode(cut),)

    def refused_or_lost(self, close_code: int | None, close_reason: str | None) -> AgentError | None:
        """
        Judge the end of the connection.

        Args:
            close_code: of the CLOSE frame; None or 1006 without one.
            close_reason: its text; the service writes ``<error type>.<error code>``.

        Returns:
            ``AgentRefused`` or ``AgentLost``; None when a working session was closed in an orderly way.
        """
        error, reason = self._last_error, self._redact(close_reason or "")
        if close_code == 1000 and self.ready and error is None:
            return None
        detail = "the service closed the session" if self.ready else "closed before the session was ready"
        if close_code is None or close_code == 1006:
            detail = "the connection broke off"
        if error is not None:
            detail += f": {_words_of(error)}"
        elif reason:
            detail += f": {reason}"
        kind = AgentRefused if close_code in REFUSING_CLOSE_CODES else AgentLost
        code = error.code if error is not None else (reason.partition(".")[2] or None)
        return kind(f"{detail} (close code {close_code})", code=code, close_code=close_code)

    # What the server says

    def receive(self, text: str | bytes) -> list[Fact]:
        """
        Take one message of the server and tell what it means, in order.

        Raises:
            WireError: it is not the protocol; the session cannot be trusted any more.
        """
        if self._failed:
            return []
        event = parse_server_event(text)
        if not isinstance(event, server.ErrorReported):
            self._last_error = None
        handle = self._HANDLERS.get(type(event))
        return handle(self, event) if handle is not None else []

    def _on_unknown(self, event: server.UnknownServerEvent) -> list[Fact]:
        self.unknown_events += 1
        if self.unknown_events == 1:
            _log.info("unknown upstream event", call_id=self._call_id, type=self._redact(event.type)[:100])
        return []

    def _on_session_updated(self, event: server.SessionUpdated) -> list[Fact]:
        if self.ready:
            return []
        if (difference := find_difference(self._config, event.session)) is not None:
            return self._fail(AgentRefused(f"the service did not take the session: {difference}"))
        self.ready = True
        return [
            AgentReady(self._call_id, event.session.id),
            *(Send(text) for text in self._flush_wanted()),
        ]

    def _on_error(self, event: server.ErrorReported) -> list[Fact]:
        error = self._cleaned(event.error)
        words = _words_of(error)
        if not self.ready:
            passing = error.code in PASSING_CODES or error.type == "server_error"
            subject = "the session's configuration" if error.event_id == CONFIGURE_ID else "the session"
            kind = AgentLost if passing else AgentRefused
            return self._fail(kind(f"the service refused {subject}: {words}", code=error.code))
        self._last_error = error
        self._log_problem("upstream error", error, words)
        if self._asked is not None and error.event_id == self._asked.event_id:
            self._asked_open = False
            # The server began a response of its own at the same moment: ask again after it.
            if error.code == "conversation_already_has_active_response" and self._wanted is None:
                self._wanted = self._asked
        return []

    def _on_speech_started(self, _event: server.InputSpeechStarted) -> list[Fact]:
        if self._interrupts:
            # The server cancels the active response by itself; what still comes of it is stale.
            if self.active_response_id is not None:
                self._end_response(self.active_response_id)
            for speech in self._items.values():
                if not speech.ended and speech.response_id is not None:
                    self._end_response(speech.response_id)
        return [SpeechStarted(self._call_id)]

    def _on_speech_stopped(self, _event: server.InputSpeechStopped) -> list[Fact]:
        return [SpeechStopped(self._call_id)]

    def _on_caller_transcript(self, event: server.CallerTranscriptCompleted) -> list[Fact]:
        return [CallerSpoke(self._call_id, event.item_id, event.transcript)] if event.transcript.strip() else []

    def _on_response_created(self, event: server.ResponseCreated) -> list[Fact]:
        self.active_response_id = event.response.id
        self._asked_open = False
        return []

    def _on_audio(self, event: server.OutputAudioDelta) -> list[Fact]:
        if event.response_id in self._ended_responses:
            return []
        speech = self._items.get(event.item_id)
        if speech is None:
            speech = self._items[event.item_id] = _Speech(event.response_id, event.content_index or 0)
            if len(self._items) > MAX_ITEMS:
                del self._items[next(iter(self._items))]
        elif speech.truncated:
            return []
        speech.received_bytes += len(event.delta)
        return [AgentAudio(event.item_id, event.delta)]

    def _on_audio_done(self, event: server.OutputAudioDone) -> list[Fact]:
        speech = self._items.get(event.item_id)
        if speech is None or speech.ended:
            return []
        speech.ended = True
        speech.whole = event.response_id not in self._ended_responses
        return [AgentAudioDone(event.item_id)]

    def _on_transcript_done(self, event: server.OutputTranscriptDone) -> list[Fact]:
        if event.response_id in self._ended_responses or not event.transcript.strip():
            return []  # of a response that was cut off it tells more than was said
        return [AgentSpoke(self._call_id, event.item_id, event.transcript)]

    def _on_response_done(self, event: server.ResponseDone) -> list[Fact]:
        response = event.response
        facts: list[Fact] = []
        for item_id, speech in self._items.items():
            if speech.response_id == response.id and not speech.ended:
                speech.ended = True  # cut off or failed: its own ending may never come
                speech.whole = response.status == "completed"
                facts.append(AgentAudioDone(item_id))
        self._end_response(response.id)
        if response.status in ("failed", "incomplete"):
            self._log_bad_response(response)
        if self.active_response_id in (None, response.id):
            self.active_response_id = None
            self._asked_open = False
            facts += [Send(text) for text in self._flush_wanted()]
        return facts

    # State

    def _fail(self, error: AgentError) -> list[Fact]:
        self._failed = True
        return [AgentFailed(self._call_id, error)]

    def _flush_wanted(self) -> tuple[str, ...]:
        wanted = self._wanted
        if wanted is None or not self.ready or self._asked_open or self.active_response_id is not None:
            return ()
        self._wanted, self._asked, self._asked_open = None, wanted, True
        return (encode(wanted),)

    def _end_response(self, response_id: str) -> None:
        self._ended_responses[response_id] = None
        if len(self._ended_responses) > MAX_ENDED_RESPONSES:
            del self._ended_responses[next(iter(self._ended_responses))]

    def _cleaned(self, error: ErrorDetails) -> ErrorDetails:
        """Return the error without secrets."""
        return ErrorDetails(**{name: self._redact(text) if text else text for name, text in error})

    def _log_bad_response(self, response: Response) -> None:
        details = response.status_details or StatusDetails()
        error = self._cleaned(details.error or ErrorDetails(code=details.reason))
        self._log_problem(f"response {response.status}", error, _words_of(error))

    def _log_problem(self, event: str, error: ErrorDetails, words: str) -> None:
        """Log a problem the first time: the same one may come back 50 times a second."""
        kind = (error.code or error.message, error.param)
        if kind in self._problems or len(self._problems) >= MAX_PROBLEMS:
            return
        self._problems.add(kind)
        _log.warning(event, call_id=self._call_id, code=error.code, param=error.param, detail=words)

    _HANDLERS: ClassVar[dict[type, Callable[[RealtimeProtocol, Any], list[Fact]]]] = {
        server.UnknownServerEvent: _on_unknown,
        server.SessionUpdated: _on_session_updated,
        server.ErrorReported: _on_error,
        server.InputSpeechStarted: _on_speech_started,
        server.InputSpeechStopped: _on_speech_stopped,
        server.CallerTranscriptCompleted: _on_caller_transcript,
        server.ResponseCreated: _on_response_created,
        server.OutputAudioDelta: _on_audio,
        server.OutputAudioDone: _on_audio_done,
        server.OutputTranscriptDone: _on_transcript_done,
        server.ResponseDone: _on_response_done,
    }


def _words_of(error: ErrorDetails) -> str:
    words = error.message or error.type or "no reason given"
    marks = [f"code {error.code}"] if error.code else []
    marks += [f"parameter {error.param}"] if error.param else []
    return f"{words} ({', '.join(marks)})" if marks else words
