"""
From an agent's profile in the dialplan to the session that is asked for; and whether the service took it.

``session_config`` makes the session, ``find_differences`` compares it with the one that the service echoes. In an echo
what is left out, or null, is no contradiction: many services echo only a part. Turn detection that is null is one: that
is how the API says that there is none. Where a service echoes it beside ``audio`` alone, that is what counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import SecretStr, ValidationError
from pydantic_core import PydanticSerializationError

from gateway.call.builtin_tools import OfferedTools, OwnTool, ToolDefinition, builtin_definitions
from gateway.dialplan.model.agent import AgentProfile, McpServer, ToolSet
from gateway.errors import AgentRefused
from gateway.upstream.realtime.mcp import McpRule
from gateway.upstream.realtime.wire.client import SessionUpdate
from gateway.upstream.realtime.wire.codec import encode
from gateway.upstream.realtime.wire.objects import (
    EchoedFormat,
    EchoedOutput,
    EchoedSession,
    EchoedTurnDetection,
    EchoedVoice,
)
from gateway.upstream.realtime.wire.session import (
    AudioConfig,
    AudioFormat,
    AudioInput,
    AudioOutput,
    CustomVoice,
    FunctionTool,
    G711Audio,
    McpTool,
    NoiseReduction,
    PcmAudio,
    Reasoning,
    RetentionRatio,
    SemanticVad,
    ServerVad,
    SessionConfig,
    Tool,
    Transcription,
    TurnDetection,
)

CUSTOM_VOICE = "voice_"
"""Ids of custom voices begin with it."""

CONFIGURE_ID = "configure"
"""``event_id`` of the first ``session.update``."""

_FORMATS: Mapping[str, AudioFormat] = {
    "pcm": PcmAudio(rate=24000),
    "pcmu": G711Audio(type="audio/pcmu"),
    "pcma": G711Audio(type="audio/pcma"),
}


def session_config(
    profile: AgentProfile, own_tools: Iterable[OwnTool] = (), secrets: Mapping[str, SecretStr] | None = None
) -> SessionConfig:
    """
    Return the session of this profile.

    All that matters is said: the service's defaults differ from model to model. Fields that only reasoning models
    have are left out unless the profile names them, since the others refuse an update that does.

    Args:
        profile: how the agent behaves.
        own_tools: definitions of the profile's plugins; one of a webhook's name takes the place of the webhook's.
        secrets: tokens of MCP servers, by name in lower case.

    Raises:
        AgentRefused: something in it cannot be right; names the field as the service would (``session.tools.name``).
    """
    try:
        config = SessionConfig(
            output_modalities=("audio",),
            instructions=profile.instructions,
            audio=_audio(profile),
            tools=_tools(profile, own_tools, secrets or {}),
            tool_choice="auto",
            max_output_tokens=profile.max_output_tokens,
            truncation="auto" if profile.retention_ratio is None else _retention(profile.retention_ratio),
        )
        optional: dict[str, object] = {}
        if profile.reasoning is not None:
            optional["reasoning"] = Reasoning(effort=profile.reasoning)
        if profile.tracing is not None:
            optional["tracing"] = profile.tracing
        return config.model_copy(update=optional)
    except ValidationError as error:
        raise AgentRefused(f"the session is not valid: {mistakes_in(error)}") from None


def session_update(
    profile: AgentProfile, own_tools: Iterable[OwnTool] = (), secrets: Mapping[str, SecretStr] | None = None
) -> str:
    """
    Return the message that asks for the session of this profile. Arguments: as for ``session_config``.

    Raises:
        AgentRefused: something in it cannot be right, or cannot be written as JSON.
    """
    try:
        return encode(configure_event(session_config(profile, own_tools, secrets)))
    except PydanticSerializationError as error:
        raise AgentRefused(f"the session cannot be written as JSON: {error}") from None


def direct_session(profile: AgentProfile) -> SessionConfig:
    """
    Return the profile's session for a client that talks to the service itself.

    Left out are functions, since nothing would run them, and MCP servers with an access token, since the holder of
    the secret may read the session.

    Raises:
        AgentRefused: the session could not be asked for.
    """
    servers = tuple(server for server in profile.tools.mcp if server.authorization is None)
    return session_config(profile.model_copy(update={"tools": ToolSet(builtin=(), mcp=servers)}))


def configure_event(config: SessionConfig) -> SessionUpdate:
    """Return the event that asks for a session, the first one that is sent."""
    return SessionUpdate(event_id=CONFIGURE_ID, session=config)


def end_of_speech_ms(profile: AgentProfile) -> int:
    """Return the silence that the service waits for, in milliseconds, before it tells the end of a sound."""
    turns = profile.turn_detection
    return turns.silence_duration_ms if turns.kind == "server_vad" else 0


_PLACES = {
    "FunctionTool": "session.tools",
    "McpTool": "session.tools",
    "RetentionRatio": "session.truncation",
    "ServerVad": "session.audio.input.turn_detection",
    "SemanticVad": "session.audio.input.turn_detection",
    "Transcription": "session.audio.input.transcription",
    "NoiseReduction": "session.audio.input.noise_reduction",
    "AudioInput": "session.audio.input",
    "AudioOutput": "session.audio.output",
    "Reasoning": "session.reasoning",
}
_TAGS = frozenset({"audio/pcm", "audio/pcmu", "audio/pcma", "server_vad", "semantic_vad", "function", "mcp"})


def mistakes_in(error: ValidationError) -> str:
    """Return the mistakes in a session, each with the name of its field; values are not repeated."""
    root = _PLACES.get(error.title, "session")
    found: dict[str, list[str]] = {}
    for mistake in error.errors(include_url=False, include_input=False):
        field = ".".join((root, *_steps(mistake["loc"])))
        found.setdefault(field, []).append(mistake["msg"])
    return "; ".join(f"{field}: {' or '.join(words)}" for field, words in found.items())


def _steps(loc: tuple[int | str, ...]) -> Iterator[str]:
    """Yield the steps to a field without those pydantic puts in for the members of a union."""
    for number, step in enumerate(loc, 1):
        name = str(step)
        is_tag = name in _TAGS and number < len(loc)
        if not is_tag and not name[0].isupper() and not {"[", "-"} & set(name):
            yield name


def offered_tools(profile: AgentProfile, own_tools: Iterable[OwnTool] = ()) -> OfferedTools:
    """Return what the agent may call, in plain values."""
    tools = profile.tools
    return OfferedTools(
        builtin=tools.builtin,
        transfer_targets=tools.transfer_targets,
        own=frozenset(_own_tools(profile, own_tools)),
    )


def mcp_rules(profile: AgentProfile) -> dict[str, McpRule]:
    """Return how calls to the profile's MCP servers are treated, by the server's label."""
    return {server.server_label: _mcp_rule(server) for server in profile.tools.mcp}


def _mcp_rule(server: McpServer) -> McpRule:
    asks, approve = server.require_approval, server.approve
    nothing = approve == "none" or (approve == "others" and asks == "always")
    if isinstance(approve, tuple):
        approved: frozenset[str] | None = frozenset(approve)
    else:
        approved = frozenset() if nothing else None
    return McpRule(
        limit_s=server.timeout_s,
        allowed=None if server.allowed_tools is None else frozenset(server.allowed_tools),
        approved=approved,
        denied=frozenset(asks) if approve == "others" and isinstance(asks, tuple) else frozenset(),
    )


def _require_approval(server: McpServer) -> object:
    """Return which tools need an approval, in the service's form."""
    asks = server.require_approval
    if not isinstance(asks, tuple):
        return asks
    told = {"always": {"tool_names": list(asks)}}
    others = [name for name in server.allowed_tools or () if name not in asks]
    return {**told, "never": {"tool_names": others}} if others else told


def _audio(profile: AgentProfile) -> AudioConfig:
    audio = _FORMATS[profile.audio_format]
    noise = profile.noise_reduction
    voice = CustomVoice(id=profile.voice) if profile.voice.startswith(CUSTOM_VOICE) else profile.voice
    return AudioConfig(
        input=AudioInput(
            format=audio,
            noise_reduction=None if noise is None else NoiseReduction(type=noise),
            transcription=_transcription(profile),
            turn_detection=_turn_detection(profile),
        ),
        output=AudioOutput(format=audio, voice=voice, speed=profile.speed),
    )


def _turn_detection(profile: AgentProfile) -> TurnDetection:
    turns = profile.turn_detection
    # With a guard the gateway decides what interrupts: the service must not cut the answer off before it has.
    interrupts = turns.interrupt_response and turns.guard_ms == 0
    if turns.kind == "semantic_vad":
        return SemanticVad(eagerness=turns.eagerness, create_response=True, interrupt_response=interrupts)
    return ServerVad(
        threshold=turns.threshold,
        prefix_padding_ms=turns.prefix_padding_ms,
        silence_duration_ms=turns.silence_duration_ms,
        idle_timeout_ms=turns.idle_timeout_ms,
        create_response=True,
        interrupt_response=interrupts,
    )


def _transcription(profile: AgentProfile) -> Transcription | None:
    if profile.transcription is None:
        return None
    if profile.language is None:
        return Transcription(model=profile.transcription)
    return Transcription(model=profile.transcription, language=profile.language)


def _retention(ratio: float) -> RetentionRatio:
    return RetentionRatio(retention_ratio=ratio)


def _own_tools(profile: AgentProfile, own_tools: Iterable[OwnTool]) -> dict[str, OwnTool]:
    webhooks = (ToolDefinition(hook.name, hook.description, hook.parameters) for hook in profile.tools.webhooks)
    return {tool.name: tool for tool in (*webhooks, *own_tools)}


def _tools(profile: AgentProfile, own_tools: Iterable[OwnTool], secrets: Mapping[str, SecretStr]) -> tuple[Tool, ...]:
    own = _own_tools(profile, own_tools)
    return (
        *map(_function, builtin_definitions(OfferedTools(profile.tools.builtin, profile.tools.transfer_targets))),
        *map(_function, own.values()),
        *(_mcp(server, secrets) for server in profile.tools.mcp),
    )


def _function(tool: OwnTool) -> FunctionTool:
    return FunctionTool(name=tool.name, description=tool.description, parameters=dict(tool.parameters))


def _mcp(server: McpServer, secrets: Mapping[str, SecretStr]) -> McpTool:
    fields: dict[str, object] = {
        "server_label": server.server_label,
        "server_url": str(server.server_url),
        "require_approval": _require_approval(server),
    }
    if server.authorization is not None:
        secret = secrets.get(server.authorization.lower())
        if secret is None:
            label, name = server.server_label, server.authorization
            raise AgentRefused(f"the MCP server {label!r} needs the secret {name!r}, which the settings do not have")
        fields["authorization"] = secret.get_secret_value()
    if server.allowed_tools is not None:
        fields["allowed_tools"] = server.allowed_tools
    return McpTool.model_validate(fields)


# The echo

Value = str | float | None

TOLERANCE = 1e-6
"""Relative; services keep thresholds in single precision."""

TURN_DETAILS = ("threshold", "prefix_padding_ms", "silence_duration_ms", "interrupt_response")
"""Of turn detection; a service that clamps one of them still detects turns."""

SHOWN = 60
"""Characters of a text that are shown, around the place where it differs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """
    A field of the session that is not as it was asked for; ``spoils``: a call cannot go on with it.

    ``got`` and ``wanted`` are in words, short.
    """

    field: str
    got: str
    wanted: str
    spoils: bool

    def __str__(self) -> str:
        return f"{self.field} is {self.got}, asked for {self.wanted}"


def find_differences(config: SessionConfig, echo: EchoedSession) -> tuple[Difference, ...]:
    """
    Return all differences; extra fields, and fields that the echo leaves out, do not count.

    Other audio formats, instructions and modalities spoil a call, and so does turn detection that is gone, is of
    another kind or does not let the agent answer. Another voice, and other details of turn detection, do not.
    """
    return tuple(_differences(config, echo))


def beta_field(echo: EchoedSession) -> str | None:
    """Return the field by which an echo shows that the service speaks the beta interface; None if it does not."""
    audio = echo.audio
    for name, side in (("input", audio.input if audio else None), ("output", audio.output if audio else None)):
        if side is not None and isinstance(side.format, str):
            return f"session.audio.{name}.format is {side.format[:SHOWN]!r}"
    for name in ("input_audio_format", "output_audio_format", "modalities"):
        if audio is None and getattr(echo, name) is not None:
            return f"session.{name}"
    return None


def _differences(config: SessionConfig, echo: EchoedSession) -> Iterator[Difference]:
    asked = config.audio or AudioConfig()
    heard, spoken = (echo.audio.input, echo.audio.output) if echo.audio is not None else (None, None)
    yield from _text("session.instructions", config.instructions, echo.instructions)
    yield from _modality(config.output_modalities, echo.output_modalities)
    if asked.input is not None:
        yield from _format("session.audio.input.format", asked.input.format, heard.format if heard else None)
        if heard is not None and "turn_detection" in heard.model_fields_set:
            yield from _turns("session.audio.input.turn_detection", asked.input.turn_detection, heard.turn_detection)
        elif "turn_detection" in echo.model_fields_set and _is_off(echo.turn_detection):
            yield from _turns("session.turn_detection", asked.input.turn_detection, None)
    if asked.output is not None:
        yield from _format("session.audio.output.format", asked.output.format, spoken.format if spoken else None)
        yield from _voice(asked.output.voice, spoken, echo)


def _text(field: str, wanted: str | None, got: str | None) -> Iterator[Difference]:
    wanted, got = (wanted or "").strip(), got.strip() if got is not None else None
    if not wanted or got is None or got == wanted:  # a service has its own in the place of none
        return
    same = next((n for n, (mine, theirs) in enumerate(zip(wanted, got, strict=False)) if mine != theirs), None)
    at = max(0, (min(len(wanted), len(got)) if same is None else same) - SHOWN // 2)
    yield Difference(field, _shown(got, at), _shown(wanted, at), spoils=True)


def _shown(text: str, at: int) -> str:
    shown = repr(text[at : at + SHOWN])
    return f"{'...' if at else ''}{shown}{'...' if len(text) > at + SHOWN else ''}"


def _modality(wanted: tuple[str, ...] | None, got: tuple[str, ...] | None) -> Iterator[Difference]:
    if wanted is not None and got is not None and not set(wanted) <= set(got):
        yield Difference("session.output_modalities", repr(list(got))[:SHOWN], repr(list(wanted)), spoils=True)


def _format(field: str, wanted: AudioFormat | None, got: EchoedFormat | str | None) -> Iterator[Difference]:
    if wanted is None or not isinstance(got, EchoedFormat):  # a format in one word: see beta_field
        return
    yield from _value(f"{field}.type", wanted.type, got.type, spoils=True)
    if isinstance(wanted, PcmAudio):  # G.711 has one rate
        yield from _value(f"{field}.rate", wanted.rate, got.rate, spoils=True)


def _turns(field: str, wanted: TurnDetection | None, got: EchoedTurnDetection | None) -> Iterator[Difference]:
    if wanted is None:
        return
    if got is None or _is_off(got):
        yield Difference(field, "null", repr(wanted.type), spoils=True)
        return
    yield from _value(f"{field}.type", wanted.type, got.type, spoils=True)
    yield from _value(f"{field}.create_response", wanted.create_response, got.create_response, spoils=True)
    for name in TURN_DETAILS:
        yield from _value(f"{field}.{name}", getattr(wanted, name, None), getattr(got, name), spoils=False)


def _is_off(turns: EchoedTurnDetection | None) -> bool:
    """Return whether an echo says that turns are not detected: by null, or by a type that is null."""
    return turns is None or ("type" in turns.model_fields_set and turns.type is None)


def _voice(wanted: str | CustomVoice | None, spoken: EchoedOutput | None, echo: EchoedSession) -> Iterator[Difference]:
    nested = _name(spoken.voice) if spoken is not None else None
    field, got = ("session.audio.output.voice", nested) if nested else ("session.voice", _name(echo.voice))
    asked = _name(wanted)
    if asked and got and got.casefold() != asked.casefold():
        yield Difference(field, repr(got[:SHOWN]), repr(asked), spoils=False)


def _name(voice: str | CustomVoice | EchoedVoice | None) -> str | None:
    if isinstance(voice, EchoedVoice):
        return voice.id or voice.name
    return voice.id if isinstance(voice, CustomVoice) else voice


def _value(field: str, wanted: Value, got: Value, *, spoils: bool) -> Iterator[Difference]:
    if wanted is not None and got is not None and not _same(wanted, got):
        yield Difference(field, repr(got)[:SHOWN], repr(wanted), spoils)


def _same(wanted: Value, got: Value) -> bool:
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(wanted, got, rel_tol=TOLERANCE)
    return wanted == got
