"""From an agent's profile in the dialplan to the session that is asked for, and to what the agent is told to say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pydantic import SecretStr, ValidationError

from gateway.dialplan.model.agent import AgentProfile, McpServer
from gateway.errors import AgentRefused
from gateway.tools.builtin import OfferedTools, OwnTool, ToolDefinition, builtin_definitions, own_definition
from gateway.upstream.core.debts import Policy
from gateway.upstream.realtime.mcp import McpRule
from gateway.upstream.realtime.wire.session import (
    AudioConfig,
    AudioFormat,
    AudioInput,
    AudioOutput,
    CustomVoice,
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
        raise AgentRefused(f"the session cannot be asked for: {mistakes_in(error)}") from None


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


def announcement_instructions(profile: AgentProfile) -> str | None:
    """Return the instructions of the response that tells the caller of the recording; None when nothing is to be."""
    words = profile.recording.announcement
    return None if words is None else f"Say exactly this sentence, word for word, and nothing else: {words}"


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
    """Return which tools need an approval, as the service wants to be told."""
    asks = server.require_approval
    if not isinstance(asks, tuple):
        return asks
    told = {"always": {"tool_names": list(asks)}}
    others = [name for name in server.allowed_tools or () if name not in asks]
    return {**told, "never": {"tool_names": others}} if others else told


def greeting_instructions(profile: AgentProfile, text: str = "") -> str | None:
    """
    Return the instructions of the agent's greeting; None when the caller is to speak first.

    ``text``, if there is one, is read out in place of the greeting.

    Instructions of a response replace the session's, so the essentials are repeated.
    """
    if not text and profile.greeting is None:
        return None
    wanted = (
        f"Read this out now, word for word, then wait: {text}"
        if text
        else f"Say this now, then wait: {profile.greeting}"
    )
    return "\n".join([profile.instructions, "", "The call was just answered.", wanted])


def goodbye_instructions(profile: AgentProfile, detail: str) -> str:
    """Return the instructions of the last response; ``detail`` is why the call must end."""
    return f"{profile.instructions}\n\nThe call has to end now ({detail}). {profile.goodbye}"


def silence_policy(profile: AgentProfile) -> Policy:
    """Return what is done when the agent owes the caller speech and none comes."""
    wanted = profile.on_no_answer
    return Policy(
        limit_s=wanted.limit_s,
        retries=wanted.retries,
        then=wanted.then,
        apology=f"{profile.instructions}\n\n{wanted.apology}",
        sound=wanted.sound or "",
    )


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
        *builtin_definitions(OfferedTools(profile.tools.builtin, profile.tools.transfer_targets)),
        *(own_definition(tool) for tool in own.values()),
        *(_mcp(server, secrets) for server in profile.tools.mcp),
    )


def _mcp(server: McpServer, secrets: Mapping[str, SecretStr]) -> McpTool:
    fields: dict[str, object] = {
        "server_label": server.server_label,
        "server_url": str(server.server_url),
        "require_approval": _require_approval(server),
    }
    if server.authorization is not None:
        secret = secrets.get(server.authorization.lower())
        if secret is None:
            raise AgentRefused(f"the MCP server {server.server_label!r} wants the secret {server.authorization!r}")
        fields["authorization"] = secret.get_secret_value()
    if server.allowed_tools is not None:
        fields["allowed_tools"] = server.allowed_tools
    return McpTool.model_validate(fields)
