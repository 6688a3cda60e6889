"""How a voice agent behaves: the agents of a dialplan."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, AnyHttpUrl, BeforeValidator, Field, model_validator

from gateway.call.builtin_tools import BuiltinTool
from gateway.dialplan.model.fields import Digit, PlanName, PlanPart, PlanPath, Seconds, Template, Text, UriText
from gateway.dialplan.model.templates import Values, fill

P = TypeVar("P", bound=PlanPart)
VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")


def _known_voice(name: str) -> str:
    """Let custom voices and those of other services pass, but not a slip of the pen."""
    near = get_close_matches(name, VOICES, n=1, cutoff=0.7)
    if near and name not in VOICES and not name.startswith("voice_"):
        raise ValueError(f"there is no voice {name!r}; did you mean {near[0]!r}?")
    return name


class TurnDetection(PlanPart):
    """How the service decides that the caller's turn is over."""

    kind: Literal["server_vad", "semantic_vad"] = Field(
        "server_vad", description="by loudness (server_vad) or by what is said (semantic_vad)"
    )
    threshold: float = Field(0.5, ge=0, le=1, description="server_vad: a higher value needs louder speech")
    prefix_padding_ms: int = Field(300, ge=0, le=5000, description="server_vad: audio kept from before the speech")
    silence_duration_ms: int = Field(500, ge=50, le=10_000, description="server_vad: silence that ends a turn")
    idle_timeout_ms: int | None = Field(
        None,
        ge=5000,
        le=30_000,
        description="server_vad: the agent speaks again when the caller has been silent this long",
    )
    eagerness: Literal["low", "medium", "high", "auto"] = Field(
        "auto", description="semantic_vad: how soon the agent answers"
    )
    interrupt_response: bool = Field(True, description="the caller's speech interrupts the agent")
    guard_ms: int = Field(
        0,
        ge=0,
        le=2000,
        description="speech shorter than this only pauses the agent (noise, a cough); 0 turns this off",
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        given = self.model_fields_set & {"threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms"}
        if self.kind == "semantic_vad" and given:
            raise ValueError(f"{', '.join(sorted(given))}: only for kind server_vad; leave it out or change kind")
        if self.kind == "server_vad" and "eagerness" in self.model_fields_set:
            raise ValueError("eagerness: only for kind semantic_vad; leave it out or change kind")
        return self


class KeypadRules(PlanPart):
    """What the keys of the caller's phone (DTMF) do while the agent talks."""

    to_agent: bool = Field(True, description="the agent learns which keys were pressed")
    pause_s: Seconds = Field(
        1.5, description="keys pressed within this time of each other are passed on together; # ends the input at once"
    )
    shortcuts: dict[Digit, UriText] = Field(
        default_factory=dict, description="key -> SIP or tel URI the caller is transferred to at once"
    )
    masked: bool = Field(False, description="show keys as * in records and logs (card numbers)")


class RecordingRules(PlanPart):
    """Whether calls are recorded; where the files go is a setting."""

    mode: Literal["off", "on", "by_tool"] = Field(
        "off", description="on: from the answer on; by_tool: when the agent starts it"
    )
    announcement: Template | None = Field(
        None, description="the agent says this first; recording starts only when it has been heard to its end"
    )


class OnLoss(PlanPart):
    """What happens when the voice service is lost during a call."""

    action: Literal["hang_up", "reconnect"] = Field("hang_up", description="end the call, or reconnect")
    give_up_after_s: Seconds = Field(
        15, description="reconnect: the call ends if the agent is not back within this time"
    )


class OnNoAnswer(PlanPart):
    """What happens when the agent should speak and does not."""

    limit_s: Annotated[float, Field(ge=1, le=60, allow_inf_nan=False)] = Field(
        5, description="this long without speech counts as no answer; raise it for a slow model"
    )
    retries: int = Field(
        2, ge=0, le=5, description="how often the answer is requested again: first at once, then one second apart"
    )
    then: tuple[Literal["apologize", "play", "reconnect", "give_up"], ...] = Field(
        ("apologize", "reconnect", "give_up"),
        description="what to try when that did not help, each once: apologize (by the agent), play (the sound), "
        "reconnect (a new session), give_up (the route's failure step, or the end of the call)",
    )
    apology: Template = Field(
        "Say in one short sentence that you are sorry, you lost your thread, and ask the caller to say it again.",
        description="apologize: what the agent says",
    )
    sound: str | None = Field(None, min_length=1, description="play: WAV file with an apology")

    @model_validator(mode="after")
    def _can_play(self) -> Self:
        if ("play" in self.then) is not (self.sound is not None):
            raise ValueError("play and sound go together: name the WAV file, or leave both out")
        return self


class Webhook(PlanPart):
    """A tool of your own behind an HTTP request."""

    name: PlanName = Field(description="what the model calls it")
    description: Text = Field(description="what it does, for the model")
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}, description="JSON Schema of its arguments"
    )
    url: AnyHttpUrl = Field(description="where the request goes")
    method: Literal["POST", "PUT", "GET"] = Field("POST", description="GET sends the arguments in the query")
    timeout_s: Seconds = Field(10, description="after this time without an answer the model gets a failure")
    headers: dict[str, str] = Field(
        default_factory=dict, description="extra headers; ${NAME} is replaced by the secret NAME of the settings"
    )
    signed_with: PlanName | None = Field(None, description="name of the secret that signs the body (HMAC-SHA256)")


class Plugin(PlanPart):
    """A tool of your own in Python, found by its entry point in the group ``gateway.tools``."""

    name: PlanName = Field(description="name of the entry point, and what the model calls it")
    timeout_s: Seconds = Field(10, description="after this time without a result the model gets a failure")


ToolNames = Annotated[tuple[str, ...], Field(min_length=1)]


class McpServer(PlanPart):
    """An MCP server that the Realtime API itself calls."""

    server_label: PlanName = Field(description="name of the server")
    server_url: AnyHttpUrl = Field(description="its URL")
    authorization: PlanName | None = Field(None, description="name of the secret that is its access token")
    allowed_tools: tuple[str, ...] | None = Field(None, description="only these tools; unset: all of them")
    timeout_s: Seconds = Field(30, description="how long a call may take before the gateway stops waiting for it")
    require_approval: Literal["never", "always"] | ToolNames = Field(
        "never", description="tools that need the gateway's approval: a list of tools, or one of"
    )
    approve: Literal["others", "all", "none"] | ToolNames = Field(
        "others",
        description="what the gateway approves when the service asks, within allowed_tools; `others`: the tools that "
        "require_approval does not name; a list of tools, or one of",
    )


class TransferTarget(PlanPart):
    """A party the agent may transfer the caller to."""

    uri: Annotated[UriText, Field(min_length=1)] = Field(description="SIP or tel URI")
    warm: bool = Field(
        False, description="the agent first tells them what the call is about; they accept it by pressing 1"
    )


def _target(value: object) -> object:
    return {"uri": value} if isinstance(value, str) else value


AnyTransferTarget = Annotated[
    TransferTarget,
    BeforeValidator(_target, json_schema_input_type=str | TransferTarget),
]


class ToolSet(PlanPart):
    """What an agent can do besides talking."""

    builtin: tuple[BuiltinTool, ...] = Field(("hang_up",), description="the gateway's own tools to offer")
    transfer_targets: dict[PlanName, AnyTransferTarget] = Field(
        default_factory=dict,
        description="transfer_call: name the agent may use -> SIP or tel URI, or a mapping (see below)",
    )
    webhooks: tuple[Webhook, ...] = Field((), description="tools behind HTTP requests")
    plugins: tuple[Plugin, ...] = Field((), description="tools in Python")
    mcp: tuple[McpServer, ...] = Field((), description="MCP servers, called by the Realtime API")
    filler_after_s: Seconds | None = Field(
        2, description="the caller hears the filler while a tool takes longer than this"
    )
    max_rounds: Annotated[int, Field(ge=1, le=100)] = Field(
        6, description="how many answers in a row may call tools without a word; the next may call none, and speaks"
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [*self.builtin, *(tool.name for tool in self.webhooks), *(tool.name for tool in self.plugins)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two tools are named {name!r}; rename one")
        if "transfer_call" in self.builtin and not self.transfer_targets:
            raise ValueError("transfer_call is offered without transfer_targets; name whom the agent may transfer to")
        return self


class WhenFull(PlanPart):
    """What happens when the model has as many sessions as the settings allow (`realtime.sessions_max`)."""

    model: str | None = Field(
        None, min_length=1, description="the agent speaks with this model instead; the rest of its profile stays"
    )
    announcement: str | None = Field(
        None,
        min_length=1,
        description="WAV file that the caller hears before the call ends, if that has no session free",
    )
    code: Annotated[int, Field(ge=400, le=699)] | None = Field(
        None,
        description="SIP status that refuses the caller, 503 after an announcement; with neither, what follows is the "
        "step's `on_failure`, or the end of the call with `call.refusal_code`",
    )


class AgentProfile(PlanPart):
    """How one voice agent behaves."""

    model: str = Field("gpt-realtime-2.1", min_length=1, description="model (Azure: deployment) of the Realtime API")
    instructions: Template = Field(description="who the agent is and what it should do")
    greeting: Template | None = Field(None, description="what the agent says first; without it the caller speaks first")
    goodbye: Template = Field(
        "Say in one short sentence that the call has to end now, and goodbye.",
        description="what the agent says when the gateway has to end the call",
    )
    goodbye_limit_s: Seconds = Field(10, description="longest wait until the goodbye has been heard")
    voice: Annotated[str, AfterValidator(_known_voice)] = Field(
        "marin", min_length=1, max_length=64, description="voice: a name, or the id of a custom voice (voice_...)"
    )
    speed: float = Field(1.0, ge=0.25, le=1.5, description="speed of speech; 1 is normal")
    language: str | None = Field(
        None, pattern=r"^[a-z]{2}$", description="the caller's language (ISO 639-1); improves the transcript"
    )
    transcription: str | None = Field(
        "gpt-realtime-whisper", description="model that transcribes the caller; null turns transcription off"
    )
    turn_detection: TurnDetection = TurnDetection()
    audio_format: Literal["pcm", "pcmu", "pcma"] = Field(
        "pcm", description="pcm is 24 kHz; pcmu and pcma are the phone's own 8 kHz and need no resampling"
    )
    noise_reduction: Literal["near_field", "far_field"] | None = Field(
        None, description="applied before the model hears the caller"
    )
    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] = Field(
        "inf", description="longest answer, in tokens"
    )
    reasoning: Literal["minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="effort of reasoning models (unset: the model's default)"
    )
    retention_ratio: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="when the context is full, keep this share of it; unset: the service decides"
    )
    tracing: Literal["auto"] | None = Field(None, description="traces on the service's side")
    tools: ToolSet = ToolSet()
    early_audio: Literal["hold", "discard"] = Field(
        "discard", description="hold what the caller says before the agent is ready and send it then, or discard it"
    )
    early_audio_ms: int = Field(2000, ge=0, le=10_000, description="hold: how much of it is kept, the most recent")
    on_loss: OnLoss = OnLoss()
    on_no_answer: OnNoAnswer = OnNoAnswer()
    when_full: WhenFull = WhenFull()
    on_hold: Literal["pause", "silence"] = Field(
        "pause",
        description="while the caller has put the call on hold: pause sends the model nothing, silence sends silence",
    )
    keypad: KeypadRules = KeypadRules()
    recording: RecordingRules = RecordingRules()
    filler: str = Field(
        "tone", min_length=1, description="what the caller hears while waiting: tone, none, or a WAV file"
    )
    roll_over: bool = Field(True, description="continue in a new session before the service's 60-minute limit")
    client_secret: bool = Field(False, description="open each call with a freshly minted ephemeral key")

    def sounds(self) -> Iterator[tuple[PlanPath, str]]:
        """Yield the WAV files it names, each with its path; ``filler`` is not among them, as it may be a word."""
        if self.on_no_answer.sound is not None:
            yield ("on_no_answer", "sound"), self.on_no_answer.sound
        if self.when_full.announcement is not None:
            yield ("when_full", "announcement"), self.when_full.announcement

    def talking_models(self) -> tuple[str, ...]:
        """Return the models that may speak for it, the first choice first."""
        return (self.model,) if self.when_full.model is None else (self.model, self.when_full.model)

    def models(self) -> tuple[str, ...]:
        """Return every model it uses, the one that transcribes the caller too."""
        return (*self.talking_models(), *([self.transcription] if self.transcription is not None else []))

    def templates(self) -> Iterator[tuple[PlanPath, str]]:
        """Yield its texts that may be templates, each with its path."""
        yield ("instructions",), self.instructions
        if self.greeting is not None:
            yield ("greeting",), self.greeting
        yield ("goodbye",), self.goodbye
        if self.recording.announcement is not None:
            yield ("recording", "announcement"), self.recording.announcement
        yield ("on_no_answer", "apology"), self.on_no_answer.apology

    def filled(self, values: Values) -> AgentProfile:
        """
        Return it with its texts filled in; the very same one when it has no places to fill in.

        Raises:
            TemplateFailed: a text cannot be filled in.
        """
        profile = self
        for path, text in self.templates():
            if (filled := fill(text, values)) != text:
                profile = _replaced(profile, path, filled)
        return profile

    def with_keypad(self, keypad: KeypadRules) -> AgentProfile:
        """Return it with what a step changes of its keypad; shortcuts are added."""
        update = {name: getattr(keypad, name) for name in keypad.model_fields_set}
        if "shortcuts" in update:
            update["shortcuts"] = {**self.keypad.shortcuts, **keypad.shortcuts}
        return self.model_copy(update={"keypad": self.keypad.model_copy(update=update)})


def _replaced(part: P, path: PlanPath, text: str) -> P:
    """Return a part of a plan with another text at ``path``."""
    name, *rest = path
    return part.model_copy(update={str(name): _replaced(getattr(part, str(name)), tuple(rest), text) if rest else text})
