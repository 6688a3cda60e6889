"""The session object of ``session.update``: what a client may set, with the ranges the Realtime API documents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Outgoing(BaseModel):
    """
    Something a client sends: frozen, unknown fields refused, written without the fields that were not set.

    ``None`` that was set on purpose is written as ``null``; that is how the API clears a field. The tags ``type`` and
    ``role`` are always written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_post_init(self, context: Any, /) -> None:
        """Count the tags as set, though callers do not write them."""
        self.model_fields_set.update({"type", "role"} & type(self).model_fields.keys())


class PcmAudio(Outgoing):
    """Signed 16-bit little-endian mono PCM; 24 kHz is the only rate the API has."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24000]


class G711Audio(Outgoing):
    """G.711 at 8 kHz, mu-law or A-law; there is no ``rate`` field."""

    type: Literal["audio/pcmu", "audio/pcma"]


AudioFormat = Annotated[PcmAudio | G711Audio, Field(discriminator="type")]


class NoiseReduction(Outgoing):
    """Filter before voice activity detection and the model: a headset (near) or a room (far)."""

    type: Literal["near_field", "far_field"]
    strength: float | None = None


class Transcription(Outgoing):
    """Writing down what the caller says, by a model of its own."""

    model: str
    language: str | None = None
    languages: tuple[str, ...] | None = None
    keywords: tuple[str, ...] | None = None
    prompt: str | None = None
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None


class ServerVad(Outgoing):
    """Turn detection by loudness."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float | None = Field(None, ge=0, le=1)
    prefix_padding_ms: int | None = Field(None, ge=0)
    silence_duration_ms: int | None = Field(None, ge=0)
    idle_timeout_ms: int | None = Field(None, ge=5000, le=30_000)
    create_response: bool = True
    interrupt_response: bool = True


class SemanticVad(Outgoing):
    """Turn detection by what was said."""

    type: Literal["semantic_vad"] = "semantic_vad"
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class AudioInput(Outgoing):
    """The caller's audio. ``None`` in the last three switches the thing off."""

    format: AudioFormat | None = None
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = None
    turn_detection: TurnDetection | None = None


class CustomVoice(Outgoing):
    """A voice of the customer's own."""

    id: str


class AudioOutput(Outgoing):
    """The agent's audio."""

    format: AudioFormat | None = None
    voice: str | CustomVoice | None = None
    speed: float | None = Field(None, ge=0.25, le=1.5)


class AudioConfig(Outgoing):
    """Audio in both directions."""

    input: AudioInput | None = None
    output: AudioOutput | None = None


class FunctionTool(Outgoing):
    """A function the model may ask us to carry out; ``parameters`` is a JSON Schema."""

    type: Literal["function"] = "function"
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class McpTool(Outgoing):
    """A tool server that the service itself calls."""

    type: Literal["mcp"] = "mcp"
    server_label: str
    server_url: str | None = None
    connector_id: str | None = None
    tunnel_id: str | None = None
    authorization: str | None = None
    headers: dict[str, str] | None = None
    allowed_tools: tuple[str, ...] | dict[str, Any] | None = None
    require_approval: Literal["always", "never"] | dict[str, Any] | None = None
    server_description: str | None = None
    allowed_callers: tuple[str, ...] | None = None
    defer_loading: bool | None = None


Tool = Annotated[FunctionTool | McpTool, Field(discriminator="type")]


class FunctionChoice(Outgoing):
    """Make the model call this function."""

    type: Literal["function"] = "function"
    name: str


class McpChoice(Outgoing):
    """Make the model use this tool server."""

    type: Literal["mcp"] = "mcp"
    server_label: str
    name: str | None = None


ToolChoice = Literal["auto", "none", "required"] | Annotated[FunctionChoice | McpChoice, Field(discriminator="type")]
MaxOutputTokens = Literal["inf"] | Annotated[int, Field(ge=1, le=4096)]
OutputModalities = tuple[Literal["audio", "text"]]  # exactly one entry, never both


class Reasoning(Outgoing):
    """How long a reasoning model may think; other models refuse the field."""

    effort: Literal["minimal", "low", "medium", "high", "xhigh"]


class TokenLimits(Outgoing):
    """A lower limit for the conversation, instructions and tools not counted."""

    post_instructions: int | None = Field(None, ge=0)


class RetentionRatio(Outgoing):
    """Cut the conversation to this share of the limit when the limit is hit."""

    type: Literal["retention_ratio"] = "retention_ratio"
    retention_ratio: float = Field(ge=0, le=1)
    token_limits: TokenLimits | None = None


class Tracing(Outgoing):
    """Labels of the session's trace."""

    workflow_name: str | None = None
    group_id: str | None = None
    metadata: dict[str, Any] | None = None


class Prompt(Outgoing):
    """A prompt stored with the service."""

    id: str
    version: str | None = None
    variables: dict[str, Any] | None = None


class SessionConfig(Outgoing):
    """
    A conversation session as the client wants it. Only the fields that were set are sent and changed.

    ``model`` is missing on purpose: it is fixed by the URL and cannot be changed.
    """

    type: Literal["realtime"] = "realtime"
    output_modalities: OutputModalities | None = None
    instructions: str | None = None
    audio: AudioConfig | None = None
    include: tuple[Literal["item.input_audio_transcription.logprobs"], ...] | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: MaxOutputTokens | None = None
    truncation: Literal["auto", "disabled"] | RetentionRatio | None = None
    tracing: Literal["auto"] | Tracing | None = None
    prompt: Prompt | None = None
