"""
The events a server sends: the 46 of the GA Realtime API.

Required is only that without which an event says nothing; the rest may be missing or null, see ``objects.py``. Ids
that are empty are found by ``gaps``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import model_validator

from gateway.upstream.realtime.wire.objects import (
    ContentPart,
    EchoedSession,
    ErrorDetails,
    ErrorSaid,
    Incoming,
    Index,
    JsonText,
    Number,
    ServerConversation,
    ServerItem,
    ServerRateLimit,
    ServerResponse,
    gather_error,
)


class KnownEvent(Incoming):
    """An event whose ``type`` the API documents."""

    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class UnknownServerEvent:
    """An event of an undocumented type; to be counted and ignored."""

    type: str


# Session, error, limits


class SessionCreated(KnownEvent):
    """The session exists, with the server's defaults."""

    type: Literal["session.created"]
    session: EchoedSession = EchoedSession()


class SessionUpdated(KnownEvent):
    """The session's configuration was changed; ``session`` is all of it, or as much as the service tells."""

    type: Literal["session.updated"]
    session: EchoedSession = EchoedSession()


class ErrorReported(KnownEvent):
    """A client event failed, or the session did; final only if a CLOSE follows."""

    type: Literal["error"]
    error: ErrorSaid = ErrorDetails()

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, event: object) -> object:
        return gather_error(event)


class RateLimitsUpdated(KnownEvent):
    """What is left of the limits, about once per response."""

    type: Literal["rate_limits.updated"]
    rate_limits: tuple[ServerRateLimit, ...] | None = None


class ConversationCreated(KnownEvent):
    """Documented, not sent on GA connects."""

    type: Literal["conversation.created"]
    conversation: ServerConversation | None = None


# Input audio buffer. Milliseconds count the audio written to the buffer in this session.


class InputSpeechStarted(KnownEvent):
    """Voice activity detection heard the caller begin; ``item_id`` is of the item to come."""

    type: Literal["input_audio_buffer.speech_started"]
    item_id: str | None = None
    audio_start_ms: Number | None = None


class InputSpeechStopped(KnownEvent):
    """Voice activity detection heard the caller stop."""

    type: Literal["input_audio_buffer.speech_stopped"]
    item_id: str | None = None
    audio_end_ms: Number | None = None


class InputCommitted(KnownEvent):
    """A turn of the caller became an item."""

    type: Literal["input_audio_buffer.committed"]
    item_id: str | None = None
    previous_item_id: str | None = None


class InputCleared(KnownEvent):
    """The audio that was not committed is forgotten."""

    type: Literal["input_audio_buffer.cleared"]


class InputTimeoutTriggered(KnownEvent):
    """The caller said nothing for ``idle_timeout_ms``."""

    type: Literal["input_audio_buffer.timeout_triggered"]
    item_id: str | None = None
    audio_start_ms: Number | None = None
    audio_end_ms: Number | None = None


class DtmfReceived(KnownEvent):
    """A key was pressed; on the service's own SIP calls only."""

    type: Literal["input_audio_buffer.dtmf_event_received"]
    event: str | None = None
    received_at: Number | None = None


# Conversation items


class ItemChanged(KnownEvent):
    """An item was added, is done, was created (beta) or was asked for."""

    type: Literal[
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.created",
        "conversation.item.retrieved",
    ]
    item: ServerItem | None = None
    previous_item_id: str | None = None


class ItemDeleted(KnownEvent):
    """An item is gone."""

    type: Literal["conversation.item.deleted"]
    item_id: str | None = None


class ItemTruncated(KnownEvent):
    """An item of the agent was cut to what was heard."""

    type: Literal["conversation.item.truncated"]
    item_id: str | None = None
    content_index: Index | None = None
    audio_end_ms: Number | None = None


class CallerTranscriptDelta(KnownEvent):
    """A piece of a turn's transcript, maybe while the caller still speaks."""

    type: Literal["conversation.item.input_audio_transcription.delta"]
    item_id: str | None = None
    content_index: Index | None = None
    delta: str | None = None


class CallerTranscriptSegment(KnownEvent):
    """A piece of a turn's transcript with its speaker."""

    type: Literal["conversation.item.input_audio_transcription.segment"]
    id: str | None = None
    item_id: str | None = None
    content_index: Index | None = None
    text: str | None = None
    speaker: str | None = None
    start: Number | None = None
    end: Number | None = None


class CallerTranscriptCompleted(KnownEvent):
    """
    The transcript of a turn; it may come after the answer to it.

    Some services send it while the turn still goes on, with ``status`` ``in_progress``, and again when it is over.
    """

    type: Literal["conversation.item.input_audio_transcription.completed"]
    item_id: str
    content_index: Index | None = None
    transcript: str = ""
    status: str | None = None
    usage: dict[str, Any] | None = None


class CallerTranscriptFailed(KnownEvent):
    """A turn could not be transcribed."""

    type: Literal["conversation.item.input_audio_transcription.failed"]
    item_id: str | None = None
    content_index: Index | None = None
    error: ErrorSaid | None = None


# Responses


class ResponseCreated(KnownEvent):
    """The agent begins to answer."""

    type: Literal["response.created"]
    response: ServerResponse = ServerResponse()


class ResponseDone(KnownEvent):
    """
    The response is generated, cancelled or failed; what was generated may still be playing.

    ``usage`` is where some services have it, beside the response.
    """

    type: Literal["response.done"]
    response: ServerResponse = ServerResponse()
    usage: dict[str, Any] | None = None


class OutputEvent(KnownEvent):
    """An event about an item of a response."""

    response_id: str | None = None
    output_index: Index | None = None


class OutputItemChanged(OutputEvent):
    """An item of a response begins or is done."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    item: ServerItem | None = None


class ContentEvent(OutputEvent):
    """An event about a part of an item's content."""

    item_id: str | None = None
    content_index: Index | None = None


class ContentPartChanged(ContentEvent):
    """A part of an item begins or is done."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    part: ContentPart | None = None


class OutputTextDelta(ContentEvent):
    """A piece of a text answer."""

    type: Literal["response.output_text.delta"]
    delta: str | None = None


class OutputTextDone(ContentEvent):
    """A text answer in full."""

    type: Literal["response.output_text.done"]
    text: str | None = None


class OutputAudioDelta(ContentEvent):
    """A piece of speech, far ahead of playback; ``delta`` is decoded from base64."""

    type: Literal["response.output_audio.delta"]
    item_id: str = ""
    delta: bytes


class OutputAudioDone(ContentEvent):
    """The speech of an item is generated; this event carries no audio."""

    type: Literal["response.output_audio.done"]
    item_id: str = ""


class OutputTranscriptDelta(ContentEvent):
    """A piece of the transcript of speech."""

    type: Literal["response.output_audio_transcript.delta"]
    delta: str | None = None


class OutputTranscriptDone(ContentEvent):
    """The transcript of an item's speech."""

    type: Literal["response.output_audio_transcript.done"]
    item_id: str = ""
    transcript: str = ""


class FunctionArgumentsDelta(OutputEvent):
    """A piece of a function call's arguments."""

    type: Literal["response.function_call_arguments.delta"]
    item_id: str | None = None
    call_id: str | None = None
    delta: str | None = None


class FunctionArgumentsDone(OutputEvent):
    """A function call's arguments: JSON text."""

    type: Literal["response.function_call_arguments.done"]
    item_id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: JsonText | None = None


# Tool servers that the service calls itself


class McpListTools(KnownEvent):
    """How far the import of a tool server's tools is."""

    type: Literal["mcp_list_tools.in_progress", "mcp_list_tools.completed", "mcp_list_tools.failed"]
    item_id: str | None = None


class McpArguments(OutputEvent):
    """Arguments of a call to a tool server: a piece, or all."""

    type: Literal["response.mcp_call_arguments.delta", "response.mcp_call_arguments.done"]
    item_id: str | None = None
    delta: str | None = None
    arguments: str | None = None


class McpCallProgress(OutputEvent):
    """How far a call to a tool server is."""

    type: Literal["response.mcp_call.in_progress", "response.mcp_call.completed", "response.mcp_call.failed"]
    item_id: str | None = None


class OutputBufferChanged(KnownEvent):
    """The service's own playout began, ended or was cut; on WebRTC and SIP legs only."""

    type: Literal["output_audio_buffer.started", "output_audio_buffer.stopped", "output_audio_buffer.cleared"]
    response_id: str | None = None


ResponsePart = (
    OutputItemChanged
    | ContentPartChanged
    | OutputTextDelta
    | OutputTextDone
    | OutputAudioDelta
    | OutputAudioDone
    | OutputTranscriptDelta
    | OutputTranscriptDone
    | FunctionArgumentsDelta
    | FunctionArgumentsDone
    | McpArguments
    | McpCallProgress
)
"""The events about an item of a response."""
KnownServerEvent = (
    SessionCreated
    | SessionUpdated
    | ErrorReported
    | RateLimitsUpdated
    | ConversationCreated
    | InputSpeechStarted
    | InputSpeechStopped
    | InputCommitted
    | InputCleared
    | InputTimeoutTriggered
    | DtmfReceived
    | ItemChanged
    | ItemDeleted
    | ItemTruncated
    | CallerTranscriptDelta
    | CallerTranscriptSegment
    | CallerTranscriptCompleted
    | CallerTranscriptFailed
    | ResponseCreated
    | ResponseDone
    | ResponsePart
    | McpListTools
    | OutputBufferChanged
)
ServerEvent = KnownServerEvent | UnknownServerEvent
