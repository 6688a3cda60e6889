"""
The Realtime API on the wire: text to typed server events, typed client events to text. No I/O.

``server.py`` has the events a server sends, ``objects.py`` the objects inside them, ``client.py`` the events a client
sends, ``session.py`` the session it may request. ``repair.py`` makes the best of messages that deviate from the
protocol.
"""

from __future__ import annotations

import binascii
import json
from typing import Annotated, get_args

from pydantic import Field, TypeAdapter, ValidationError

from gateway.upstream.realtime.wire.client import ClientEvent
from gateway.upstream.realtime.wire.objects import ErrorDetails, HttpRefusal
from gateway.upstream.realtime.wire.repair import NoEvent, Oddity, read_leniently, repair
from gateway.upstream.realtime.wire.server import KnownServerEvent, ServerEvent, UnknownServerEvent

_TYPES = frozenset(
    name for event in get_args(KnownServerEvent) for name in get_args(event.model_fields["type"].annotation)
)
_SERVER_EVENTS: TypeAdapter[KnownServerEvent] = TypeAdapter(Annotated[KnownServerEvent, Field(discriminator="type")])


def parse_server_event(text: str | bytes) -> tuple[ServerEvent | None, tuple[Oddity, ...]]:
    """
    Parse one message of the server; whatever it is, nothing is raised.

    Args:
        text: one JSON object, as text or as its UTF-8 bytes (saves a decode).

    Returns:
        The typed event (``UnknownServerEvent`` for a type that is not documented), None if none can be made of the
        message; and what in it is not as the protocol has it, which was left out.
    """
    try:
        return _SERVER_EVENTS.validate_json(text), ()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    if first["type"] == "union_tag_invalid" and isinstance(first["input"]["type"], str):
        return UnknownServerEvent(first["ctx"]["tag"]), ()
    try:
        event = read_leniently(text)
    except NoEvent as none:
        return None, (Oddity("", "", str(none)),)
    if event["type"] not in _TYPES:
        return UnknownServerEvent(event["type"]), ()
    parsed, odd = repair(event, _SERVER_EVENTS.validate_json)
    return parsed, odd or (Oddity(event["type"], "", first["msg"].partition(":")[0]),)


def parse_http_refusal(body: bytes | bytearray) -> ErrorDetails | None:
    """Return what an HTTP refusal says in its JSON body (``{"error": {...}}``); None if it has none."""
    try:
        return HttpRefusal.model_validate_json(body).error
    except ValidationError:
        return None


def encode(event: ClientEvent) -> str:
    """Return the event as compact JSON, without the fields that were not set; None that was set is ``null``."""
    return event.model_dump_json(exclude_unset=True)


def lift(text: str) -> str:
    """
    Return a ``session.update`` with ``voice`` and ``turn_detection`` beside ``audio`` instead of in it.

    xAI has them there; the API itself refuses that. Other events are returned as they are.
    """
    event = json.loads(text)
    if event["type"] != "session.update":
        return text
    session = event["session"]
    audio = session.get("audio", {})
    for side, name in (("input", "turn_detection"), ("output", "voice")):
        if name in audio.get(side, {}):
            session[name] = audio[side].pop(name)
    session["audio"] = {side: fields for side, fields in audio.items() if fields}
    if not session["audio"]:
        del session["audio"]
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def encode_append(pcm: bytes) -> str:
    """
    Return ``input_audio_buffer.append`` with this audio, the fast way: 50 a second are sent per call.

    Args:
        pcm: whole samples in the session's input format; 960 bytes at 24 kHz and 20 ms.
    """
    audio = binascii.b2a_base64(pcm, newline=False).decode("ascii")
    return f'{{"type":"input_audio_buffer.append","audio":"{audio}"}}'
