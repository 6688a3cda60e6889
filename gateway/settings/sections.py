"""
The settings: where this process lives (addresses, ports, keys, limits). What a call does is the dialplan's business.

Every section is made of what is in ``section``; ``sip`` has the SIP side and its trunks, this module the other sections
and the whole. ``load`` collects the values from the places that ``sources`` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AnyUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)

from gateway.settings.api import ApiSettings
from gateway.settings.cost import CostSettings, ModelPrices
from gateway.settings.fleet import EdgeSettings, FleetSettings
from gateway.settings.privacy import PrivacySettings
from gateway.settings.section import (
    Headers,
    Name,
    PositiveSeconds,
    RedisUrl,
    Section,
    WebSocketUrl,
    WebUrl,
    tabled,
)
from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.settings.sources import COMMAND_LINE
from gateway.settings.tracing import TracingSettings
from gateway.settings.web import WebSettings
from gateway.settings.webhooks import WebhooksSettings


class RealtimeSettings(Section):
    """The upstream voice model's service."""

    url: WebSocketUrl = Field(
        AnyUrl("wss://api.openai.com/v1/realtime"), repr=False, description="WebSocket URL of the Realtime API"
    )
    api_key: SecretStr | None = Field(None, description="API key; OPENAI_API_KEY is read as well")
    auth: Literal["bearer", "api-key"] = Field(
        "bearer", description="how the key is sent: Authorization: Bearer (OpenAI, Entra), or api-key (Azure OpenAI)"
    )
    model_parameter: str = Field(
        "model", pattern=r"^[A-Za-z_]{1,32}$", description="query parameter that carries the model or deployment name"
    )
    session_layout: Literal["openai", "xai"] = Field(
        "openai",
        description="where a session has its voice and turn_detection: inside audio (openai) or beside it (xai)",
    )
    headers: Headers = Field({}, description="extra headers for the handshake: name -> value")
    proxy: WebUrl | None = Field(
        None,
        repr=False,
        description="HTTP proxy for connections to the service; proxy environment variables are ignored",
    )
    secrets_url: WebUrl | None = Field(
        None, repr=False, description="where ephemeral keys are minted; if not set, realtime.url with /client_secrets"
    )
    safety_key: SecretStr | None = Field(
        None,
        description="key that hashes the caller's number for OpenAI-Safety-Identifier; if not set, the header "
        "is not sent",
    )
    retry_first_s: PositiveSeconds = Field(0.5, description="upper limit of the first random delay before reconnecting")
    retry_last_s: PositiveSeconds = Field(8, description="upper limit of every later delay")
    retry_reset_s: PositiveSeconds = Field(
        10, description="a session that was ready for this long is replaced without delay, and delays start over"
    )
    breaker_losses: int = Field(
        5,
        ge=0,
        le=1000,
        description="failed attempts in a row, over all calls, after which others are held back; 0 never does",
    )
    roll_over_before_s: PositiveSeconds = Field(
        300, description="how long before the session's time limit a new session is opened"
    )
    expiry_goodbye_s: PositiveSeconds = Field(
        20, description="how long before the limit the agent says goodbye if no new session could be opened"
    )
    connect_timeout_s: PositiveSeconds = Field(5, description="limit for connecting, handshake included")
    close_timeout_s: PositiveSeconds = Field(1, description="limit for the closing handshake")
    ping_interval_s: float = Field(
        3, ge=0, le=3600, allow_inf_nan=False, description="interval between pings to the service; 0 sends none"
    )
    ping_timeout_s: PositiveSeconds = Field(
        5,
        description="a service that sends nothing for this long after a ping, or acknowledges no data, counts as lost",
    )
    sessions_max: dict[str, Annotated[int, Field(ge=0, le=1_000_000)]] = Field(
        {}, description="sessions that a model may have at once, over all workers: model -> number"
    )
    uplink_ms: Literal[20, 40, 60, 100] = Field(20, description="milliseconds of caller audio per message to the model")

    @field_validator("uplink_ms", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdecimal() else value  # variables are text

    @field_validator("api_key", "safety_key")
    @classmethod
    def _not_blank(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value and value.get_secret_value().strip() else None

    @model_validator(mode="after")
    def _first_before_last(self) -> Self:
        if self.retry_first_s > self.retry_last_s:
            raise ValueError(f"retry_first_s {self.retry_first_s:g} is greater than retry_last_s {self.retry_last_s:g}")
        return self


class RedisSettings(Section):
    """Where the calls' sessions are kept."""

    url: RedisUrl | None = Field(
        None,
        repr=False,
        description="redis://, rediss:// or unix:// URL, or one with +sentinel or +cluster; REDIS_URL is read as well; "
        "if not set, a private server is started",
    )
    ca_file: Path | None = Field(
        None,
        description="PEM file of the authorities that may have signed Redis's certificate; if not set, the system's",
    )
    prefix: str = Field("gateway", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="first part of every key")
    heartbeat_s: PositiveSeconds = Field(2, description="how often a worker renews its live calls")
    expiry_s: PositiveSeconds = Field(6, description="how long after its last heartbeat a worker counts as lost")
    worker_heartbeat_s: PositiveSeconds = Field(1, description="how often a worker renews its entry in the registry")
    worker_expiry_s: PositiveSeconds = Field(
        3, description="how long after its last entry a worker is taken off the registry, and gets no more calls"
    )
    retention_s: PositiveSeconds = Field(86400, description="how long the record of an ended call is kept")
    unanswered_retention_s: PositiveSeconds = Field(
        3600, description="how long the record of a call that was never answered is kept"
    )
    cdr_retention_s: PositiveSeconds = Field(30 * 86400, description="how long the CDR of a call is kept")
    stream_length: int = Field(
        10000,
        ge=100,
        description="approximate number of events kept in the stream of all calls, and of requests audited",
    )
    call_stream_length: int = Field(
        1000, ge=10, description="approximate number of events kept of one call, the newest ones"
    )
    backlog: int = Field(
        10000, ge=100, description="writes kept while Redis is unreachable; when full, the oldest is dropped"
    )

    @field_validator("url")
    @classmethod
    def _has_its_parts(cls, value: RedisUrl | None) -> RedisUrl | None:
        if value is None:
            return value
        words = (value.path or "/").split("/")[1:]
        if value.scheme.endswith("+sentinel"):
            master, *words = words
            if not master:
                raise ValueError("should name the master after the Sentinels: redis+sentinel://host:26379/mymaster/0")
        elif value.scheme == "unix":
            return value
        elif len(value.hosts()) > 1 and not value.scheme.endswith("+cluster"):
            raise ValueError("has several hosts: redis+sentinel:// and redis+cluster:// take a list of them")
        database = "/".join(words)
        if database and not (database.isascii() and database.isdecimal()):
            raise ValueError("should end with the number of a database, such as /0, or without one")
        if value.scheme.endswith("+cluster") and database.strip("0"):
            raise ValueError("names a database, but a cluster has only number 0")
        return value

    @model_validator(mode="after")
    def _beats_before_expiry(self) -> Self:
        if self.expiry_s < 2 * self.heartbeat_s:
            raise ValueError(f"expiry_s {self.expiry_s:g} must be at least twice heartbeat_s {self.heartbeat_s:g}")
        if self.worker_expiry_s < 2 * self.worker_heartbeat_s:
            raise ValueError(
                f"worker_expiry_s {self.worker_expiry_s:g} must be at least twice worker_heartbeat_s "
                f"{self.worker_heartbeat_s:g}"
            )
        return self


class CallSettings(Section):
    """Limits of every call."""

    setup_limit_s: PositiveSeconds = Field(8, description="a call whose agent is not ready within this time is refused")
    refusal_code: int = Field(503, ge=400, le=699, description="SIP status sent when no agent is available")
    max_length_s: PositiveSeconds = Field(3600, description="longest time an answered call may last")
    ring_limit_s: PositiveSeconds = Field(
        45, description="an outbound call that is not answered within this time is given up"
    )
    hold_limit_s: PositiveSeconds = Field(
        900, description="longest time a caller may keep us on hold before we hang up"
    )
    drain_limit_s: float = Field(30, ge=0, description="how long live calls may continue after SIGTERM")


class RecordingSettings(Section):
    """Where recordings of calls go; whether a call is recorded is its agent's matter."""

    folder: Path = Field(Path("recordings"), description="folder for recordings, one stereo WAV per call")
    keep_days: float = Field(0, ge=0, description="recordings older than this are deleted; 0 keeps all")


class LogSettings(Section):
    """What the log looks like."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    format: Literal["text", "json"] = Field("text", description="text for people, json for one JSON object per line")
    debug_threads: bool = Field(
        False, description="check on every call that a function runs on its own thread; slow, for debugging"
    )


class Settings(BaseModel):
    """All sections. A constructor elsewhere receives its own section, never this."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    dialplan: Path = Field(Path("dialplans/hello.yaml"), description="the dialplan: a YAML file or a folder of them")
    dialplan_every_s: float = Field(
        2, ge=0, le=3600, description="how often the dialplan is checked for changes; 0 only on request"
    )
    sip: SipSettings = SipSettings()
    realtime: RealtimeSettings = RealtimeSettings()
    redis: RedisSettings = RedisSettings()
    call: CallSettings = CallSettings()
    cost: CostSettings = CostSettings()
    recording: RecordingSettings = RecordingSettings()
    privacy: PrivacySettings = PrivacySettings()
    web: WebSettings = WebSettings()
    api: ApiSettings = ApiSettings()
    webhooks: WebhooksSettings = WebhooksSettings()
    fleet: FleetSettings = FleetSettings()
    tracing: TracingSettings = TracingSettings()
    edge: EdgeSettings = EdgeSettings()
    log: LogSettings = LogSettings()
    trunks: dict[Name, Annotated[TrunkSettings, BeforeValidator(tabled)]] = Field(
        {}, description="carriers and PBXs: name -> table, see docs/trunks.md"
    )
    secrets: dict[Name, SecretStr] = Field({}, description="secrets that dialplans and trunks refer to: name -> value")
    secrets_folder: Path | None = Field(None, description="folder of secrets, one per file: file name -> content")
    prices: dict[str, ModelPrices] = Field(
        {}, description="prices of models in USD, instead of the shipped ones: model -> prices"
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origins(self) -> Mapping[str, str]:
        """What was given, by its dotted name -> the place it was found in."""
        return self._origins

    @property
    def are_given(self) -> bool:
        """Whether a file or the environment has any setting, so that this is where the gateway is to run."""
        return any(place != COMMAND_LINE for place in self._origins.values())
