"""
The objects inside a server's events: session, error, item, response.

Read generously, since services leave fields out and add others: unknown fields are ignored, and what the gateway does
not act upon may be missing or null. A field of another type costs that field (``wire_repair``), not the message.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

LARGEST = 2**53
"""Whole numbers beyond it are exact in no JSON of other languages; no count, time or limit comes near."""

CUT_OFF = frozenset({"incomplete", "failed", "cancelled"})
"""Status of an item or a response that was not generated to its end."""

Number = Annotated[int, Field(ge=-LARGEST, le=LARGEST)] | Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


Index = Annotated[int, Field(ge=0, le=LARGEST)]


class Incoming(BaseModel):
    """Something a server sends: frozen, unknown fields ignored, no number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="ignore", val_json_bytes="base64", allow_inf_nan=False)


class EchoedFormat(Incoming):
    """An audio format as the server has it; G.711 has no rate."""

    type: str | None = None
    rate: Number | None = None


class EchoedTurnDetection(Incoming):
    """Turn detection as the server has it."""

    type: str | None = None
    threshold: float | None = None
    prefix_padding_ms: Number | None = None
    silence_duration_ms: Number | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None


class EchoedVoice(Incoming):
    """A voice as the server has it: a custom one by its id, on some services any by its name."""

    id: str | None = None
    name: str | None = None


class EchoedInput(Incoming):
    """The caller's audio as the server has it; a format in one word is of the beta interface."""

    format: EchoedFormat | str | None = None
    turn_detection: EchoedTurnDetection | None = None


class EchoedOutput(Incoming):
    """The agent's audio as the server has it; a format in one word is of the beta interface."""

    format: EchoedFormat | str | None = None
    voice: str | EchoedVoice | None = None


class EchoedAudio(Incoming):
    """Audio in both directions as the server has it."""

    input: EchoedInput | None = None
    output: EchoedOutput | None = None


class EchoedSession(Incoming):
    """
    The effective session; only what the gateway compares with its wishes.

    ``voice`` and ``turn_detection`` are where some services have them; ``modalities`` and what follows are fields of
    the beta interface.
    """

    id: str | None = None
    type: str | None = None
    model: str | None = None
    expires_at: Number | None = None
    instructions: str | None = None
    output_modalities: tuple[str, ...] | None = None
    audio: EchoedAudio | None = None
    voice: str | EchoedVoice | None = None
    turn_detection: EchoedTurnDetection | None = None
    modalities: tuple[str, ...] | None = None
    input_audio_format: str | None = None
    output_audio_format: str | None = None


class ErrorDetails(Incoming):
    """
    What went wrong. ``event_id`` names the client event that failed, if it was one; ``param`` the field in it.

    Relays pass an HTTP status on as the code: a number is taken as text.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    type: str | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None
    event_id: str | None = None


def _as_message(error: object) -> object:
    return {"message": error} if isinstance(error, str) else error


ErrorSaid = Annotated[ErrorDetails, BeforeValidator(_as_message)]
"""An error as an object, or in words alone."""


def gather_error(fields: object) -> object:
    """Return an event or body with ``error`` as an object, where a service has its fields beside the others."""
    if not isinstance(fields, dict) or "error" in fields:
        return fields
    said = {name: fields[name] for name in ("code", "message", "param") if name in fields}
    return fields | {"error": said} if said else fields


class HttpRefusal(Incoming):
    """The JSON body of a handshake that was refused with an HTTP status."""

    error: ErrorSaid

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, body: object) -> object:
        return gather_error(body)


class ServerRateLimit(Incoming):
    """What is left of a limit."""

    name: str | None = None
    limit: Number | None = None
    remaining: Number | None = None
    reset_seconds: Number | None = None


class ServerConversation(Incoming):
    """The conversation of a session."""

    id: str | None = None


class ContentPart(Incoming):
    """A part of an item's content. In items the types are ``output_audio``, in part events ``audio`` and the like."""

    type: str | None = None
    text: str | None = None
    audio: str | None = None
    transcript: str | None = None


def _as_json(arguments: object) -> object:
    return arguments if arguments is None or isinstance(arguments, str) else json.dumps(arguments)


JsonText = Annotated[str, BeforeValidator(_as_json)]
"""JSON as text; what was not put into text is, so that a call whose arguments are odd is not made without any."""


class ServerItem(Incoming):
    """An item of the conversation, of any kind: message, function call, its output."""

    id: str | None = None
    type: str | None = None
    role: str | None = None
    status: str | None = None
    phase: str | None = None
    name: str | None = None
    call_id: str | None = None
    arguments: JsonText | None = None
    output: str | None = None
    error: Any = None
    server_label: str | None = None
    approval_request_id: str | None = None
    content: tuple[ContentPart, ...] | None = None


class StatusDetails(Incoming):
    """Why a response was cancelled, incomplete or failed."""

    type: str | None = None
    reason: str | None = None
    error: ErrorSaid | None = None


def _as_reason(details: object) -> object:
    return {"reason": details} if isinstance(details, str) else details


class ServerResponse(Incoming):
    """
    One response: ``status`` is in_progress, completed, cancelled, incomplete or failed.

    ``id`` is empty where the service left it out, see ``gaps``; ``status_details`` may be one word.
    """

    id: str = ""
    status: str | None = None
    status_details: Annotated[StatusDetails | None, BeforeValidator(_as_reason)] = None
    conversation_id: str | None = None
    output: tuple[ServerItem, ...] | None = None
    usage: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
