"""
Where this process lives: addresses, ports, keys and limits. Where they are read: ``settings_sources.py``.

A setting is looked for, first found wins: command-line option, environment (``GATEWAY_SIP__PORT=5070``), ``.env`` in
the working directory, the configuration file (TOML: ``[sip] port = 5070``), the default below. Mappings are looked for
entry by entry (``GATEWAY_SECRETS__CRM=...``). What a *call* does is not here but in a dialplan.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AnyUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.errors import ConfigError
from gateway.settings import sources as settings_sources
from gateway.settings.masks import masked_text, shown
from gateway.settings.section import (
    HeaderName,
    Name,
    Port,
    PositiveSeconds,
    RedisUrl,
    Section,
    UsDollars,
    WebSocketUrl,
    WebUrl,
    listed,
    tabled,
)
from gateway.settings.sip import RecordingSettings as RecordingSettings
from gateway.settings.sip import SipSettings as SipSettings
from gateway.settings.sip import TrunkSettings as TrunkSettings
from gateway.settings.sources import COMMAND_LINE, Given, Sources, did_you_mean
from gateway.settings.sources import variable_of as variable_of
from gateway.settings.trunk_checks import trunk_mistakes

FALLBACKS = {"OPENAI_API_KEY": "realtime.api_key", "REDIS_URL": "redis.url"}
"""Names other programs use too; read when nothing else sets the value."""
SECRET_FIELDS = frozenset(
    {
        *("realtime.api_key", "realtime.url", "realtime.secrets_url", "realtime.headers", "realtime.proxy"),
        *("realtime.safety_key", "redis.url", "web.clients", "secrets"),
    }
)
"""Values that are or may hold a secret: no message repeats them."""


class RealtimeSettings(Section):
    """The upstream voice model's service."""

    url: WebSocketUrl = Field(
        AnyUrl("wss://api.openai.com/v1/realtime"), repr=False, description="WebSocket URL of the Realtime API"
    )
    api_key: SecretStr | None = Field(None, description="key of the service; OPENAI_API_KEY is read too")
    auth: Literal["bearer", "api-key"] = Field(
        "bearer", description="how the key is sent: Authorization: Bearer (OpenAI, Entra), or api-key (Azure OpenAI)"
    )
    model_parameter: str = Field(
        "model", pattern=r"^[A-Za-z_]{1,32}$", description="query parameter that names the model or deployment"
    )
    session_layout: Literal["openai", "xai"] = Field(
        "openai", description="where a session has its voice and turn_detection: in audio (openai) or beside it (xai)"
    )
    headers: dict[HeaderName, SecretStr] = Field({}, description="extra headers of the handshake, name -> value")
    proxy: WebUrl | None = Field(
        None, repr=False, description="HTTP proxy for the upstream; proxy variables are not obeyed"
    )
    secrets_url: WebUrl | None = Field(
        None, repr=False, description="where ephemeral keys are minted; none takes realtime.url and /client_secrets"
    )
    safety_key: SecretStr | None = Field(
        None, description="key of the hash of the caller sent as OpenAI-Safety-Identifier; none sends nothing"
    )
    retry_first_s: PositiveSeconds = Field(0.5, description="ceiling of the first random delay before a new attempt")
    retry_last_s: PositiveSeconds = Field(8, description="ceiling of the longest delay")
    retry_reset_s: PositiveSeconds = Field(
        10, description="a session that was ready for so long is replaced without a delay, and delays begin anew"
    )
    breaker_losses: int = Field(
        5,
        ge=0,
        le=1000,
        description="attempts lost in a row, over all calls, before others are held back; 0 holds none",
    )
    roll_over_before_s: PositiveSeconds = Field(300, description="a new session is wanted so long before the limit")
    expiry_goodbye_s: PositiveSeconds = Field(20, description="without a new one the agent says goodbye so long before")
    connect_timeout_s: PositiveSeconds = Field(5, description="limit for the socket and its handshake")
    close_timeout_s: PositiveSeconds = Field(1, description="limit for the closing handshake")
    ping_interval_s: float = Field(
        3, ge=0, le=3600, allow_inf_nan=False, description="pause between PINGs to the service; 0 sends none"
    )
    ping_timeout_s: PositiveSeconds = Field(
        5, description="a service that says nothing for so long after a PING, or acknowledges no data, is lost"
    )
    uplink_ms: Literal[20, 40, 60, 100] = Field(20, description="caller audio per message to the model")

    @field_validator("uplink_ms", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdecimal() else value  # variables are text

    @field_validator("api_key", "safety_key")
    @classmethod
    def _not_blank(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value and value.get_secret_value().strip() else None

    @field_validator("headers")
    @classmethod
    def _one_line_each(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, text in value.items():
            if not text.get_secret_value().isprintable():  # a line break would begin another header
                raise ValueError(f"the value of {name} has characters that no header can have; correct it")
        return value

    @model_validator(mode="after")
    def _first_before_last(self) -> Self:
        if self.retry_first_s > self.retry_last_s:
            raise ValueError(f"retry_first_s {self.retry_first_s:g} is more than retry_last_s {self.retry_last_s:g}")
        return self


class RedisSettings(Section):
    """Where the calls' sessions are kept."""

    url: RedisUrl | None = Field(
        None,
        repr=False,
        description="redis://, rediss:// or unix:// URL; REDIS_URL is read too; none starts a private server",
    )
    prefix: str = Field("gateway", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="first part of every key")
    heartbeat_s: PositiveSeconds = Field(5, description="how often the worker renews its live calls")
    expiry_s: PositiveSeconds = Field(20, description="this long after its last heartbeat a call's worker is dead")
    retention_s: PositiveSeconds = Field(86400, description="how long the record of an ended call is kept")
    unanswered_retention_s: PositiveSeconds = Field(3600, description="the same where nobody answered the caller")
    stream_length: int = Field(10000, ge=100, description="events kept in the stream, about")
    backlog: int = Field(10000, ge=100, description="writes kept while Redis is away; then the oldest goes")

    @model_validator(mode="after")
    def _beats_before_expiry(self) -> Self:
        if self.expiry_s < 2 * self.heartbeat_s:
            raise ValueError(f"expiry_s {self.expiry_s:g} must be at least twice heartbeat_s {self.heartbeat_s:g}")
        return self


class CallSettings(Section):
    """Limits of every call."""

    setup_limit_s: PositiveSeconds = Field(8, description="an agent not ready by then means a refused call")
    refusal_code: int = Field(503, ge=400, le=699, description="SIP status when the agent cannot be had")
    max_length_s: PositiveSeconds = Field(3600, description="longest answered call")
    ring_limit_s: PositiveSeconds = Field(45, description="a call of ours that nobody answered by then is given up")
    hold_limit_s: PositiveSeconds = Field(900, description="a caller who keeps us on hold longer is hung up on")
    drain_limit_s: float = Field(30, ge=0, description="how long live calls may go on after SIGTERM")


class WebSettings(Section):
    """The HTTP API (``gateway web``)."""

    host: str = Field("127.0.0.1", description="IP address to listen on; TLS is for a proxy in front")
    port: Port = Field(8088, description="TCP port; 0 takes any free one")
    clients: dict[Name, SecretStr] = Field({}, description="who may ask: name -> bearer token of 16 characters or more")
    profiles: tuple[str, ...] | None = Field(
        None, description="agents that secrets are minted for, with commas between; none is every agent"
    )
    mint_limit_per_minute: int = Field(10, ge=1, description="requests of one client per minute; more get 429")
    mint_seconds_max: int = Field(600, ge=10, le=7200, description="longest life of a secret that a client may ask for")

    @field_validator("host")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError(f"{value!r} is not an IP address; give one such as 127.0.0.1") from None

    @field_validator("profiles", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return listed(value)

    @field_validator("clients")
    @classmethod
    def _tokens(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        tokens = [token.get_secret_value() for token in value.values()]
        for name, token in zip(value, tokens, strict=True):
            if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError(f"the token of {name} needs 16 ASCII characters or more, no blanks; make a random one")
        if len(set(tokens)) < len(tokens):
            raise ValueError("two clients have the same token: nobody could tell them apart; change one")
        return value


class ModelPrices(Section):
    """What a model costs, in US dollars per million tokens. None: not known, and neither is the cost of a call."""

    text_in: UsDollars | None = None
    cached_text_in: UsDollars | None = Field(None, description="None counts as text_in")
    audio_in: UsDollars | None = None
    cached_audio_in: UsDollars | None = Field(None, description="None counts as audio_in")
    text_out: UsDollars | None = None
    audio_out: UsDollars | None = None
    transcription_minute: UsDollars | None = Field(None, description="per minute of the caller's speech")


class LogSettings(Section):
    """What the log looks like."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is written")
    format: Literal["text", "json"] = Field("text", description="text for people, json a line per entry")
    debug_threads: bool = Field(False, description="check at every call which thread a function runs on")


class Effective(NamedTuple):
    """A setting as it is in force, fit for printing: secrets are masked."""

    value: str
    origin: str
    """``default``, ``command line``, a file, or the variable's name (with ``.env: `` before it if it is there)."""


class Settings(BaseModel):
    """All sections. A constructor elsewhere receives its own section, never this."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    dialplan: Path = Field(Path("dialplans/hello.yaml"), description="the dialplan: a YAML file, or a folder of them")
    dialplan_every_s: float = Field(
        2, ge=0, le=3600, description="how often changes of the dialplan are looked for; 0 only when asked"
    )
    sip: SipSettings = SipSettings()
    realtime: RealtimeSettings = RealtimeSettings()
    redis: RedisSettings = RedisSettings()
    call: CallSettings = CallSettings()
    recording: RecordingSettings = RecordingSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    trunks: dict[Name, Annotated[TrunkSettings, BeforeValidator(tabled)]] = Field(
        {}, description="carriers and PBXs: name -> table, see docs/trunks.md"
    )
    secrets: dict[Name, SecretStr] = Field({}, description="secrets that dialplans and trunks name: name -> value")
    secrets_folder: Path | None = Field(None, description="each file in it is a secret: its name -> its content")
    prices: dict[str, ModelPrices] = Field({}, description="what models cost: model -> prices (USD)")

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def masked(self) -> dict[str, Effective]:
        """Return every setting by its name (``sip.port``), secrets masked, with where its value came from."""
        return {name: Effective(shown(_value(self, name)), self._origin(name)) for name in FIELDS}

    @property
    def are_given(self) -> bool:
        """Whether a file or the environment has any setting, so that this is where the gateway is to run."""
        return any(place != COMMAND_LINE for place in self._origins.values())

    def _origin(self, name: str) -> str:
        entries = {place for entry, place in self._origins.items() if SOURCES.mapping_of(entry) == name}
        return " and ".join(sorted(entries)) or self._origins.get(name, "default")


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


FIELDS: dict[str, FieldInfo] = dict(_fields(Settings))
"""Every setting by its dotted name."""
ENTRIES: Mapping[str, type[BaseModel]] = {"trunks": TrunkSettings, "prices": ModelPrices}
"""What the entries of a mapping are made of, where they are more than a value."""


def _header_name(end: str) -> str:
    return end.lower().replace("_", "-")  # a variable's name cannot hold the hyphen


SOURCES = Sources(
    fields=tuple(FIELDS),
    mappings={
        "secrets": str.lower,
        "web.clients": str.lower,
        "realtime.headers": _header_name,
        "prices": None,
        "trunks": str.lower,
    },
    fallbacks=FALLBACKS,
)


def load_settings(*, config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """
    Collect the settings from all places.

    Args:
        config: the configuration file; without it ``GATEWAY_CONFIG`` names it, or ``./gateway.toml`` if there is one.
        overrides: from the command line, by dotted name (``{"sip.port": 5070}``) or nested; None means not given.

    Raises:
        ConfigError: with a line ``place: field: problem, cure`` for every mistake found.
    """
    problems: list[str] = []
    given = SOURCES.collect(config, overrides or {}, problems)
    settings_sources.add_secrets_of_folder(given, problems)
    settings = _validated(given, problems)
    if settings is None or problems:
        raise ConfigError(*problems)
    return settings


def _validated(given: Mapping[str, Given], problems: list[str]) -> Settings | None:
    nested: dict[str, Any] = {}
    for name, (value, _) in given.items():
        mapping = SOURCES.mapping_of(name)
        path = [*(mapping or name).split("."), *([name.removeprefix(f"{mapping}.")] if mapping else [])]
        inner = nested
        for step in path[:-1]:
            inner = inner.setdefault(step, {})
        inner[path[-1]] = value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        problems.extend(_problem(details, given) for details in error.errors())
        return None
    for name, message in trunk_mistakes(settings.sip, settings.trunks, settings.secrets):
        place = next((found.place for at, found in given.items() if name == at or name.startswith(f"{at}.")), "default")
        problems.append(f"{place}: {name}: {message}")
    settings._origins.update({name: place for name, (_, place) in given.items()})
    return settings


def _problem(details: ErrorDetails, given: Mapping[str, Given]) -> str:
    name = ".".join(str(part) for part in details["loc"])
    message = details["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
    # The mistake may lie deeper than what was given: sip.codecs.0, secrets.crm.[key], trunks.main.transport.
    around = [at for at in given if name == at or name.startswith(f"{at}.")]
    if around:
        entry = around[0]
        place = given[entry].place
        field = SOURCES.mapping_of(entry) or entry
        if details["type"] == "extra_forbidden":
            message = f"unknown key, {did_you_mean(str(details['loc'][-1]), _keys_of(field))}"
        elif details["type"] != "value_error":
            value = (
                "" if field in SECRET_FIELDS or details["type"] == "missing" else f", not {_short(details['input'])}"
            )
            message = f"{message}{value} ({_description(field, name.removeprefix(f'{entry}.'))})"
    else:  # about several settings of a section: name the places of those it speaks of
        inside = {field.rpartition(".")[2]: at.place for field, at in given.items() if field.startswith(f"{name}.")}
        spoken_of = {place for field, place in inside.items() if field in message} or set(inside.values())
        place = " and ".join(sorted(spoken_of)) or "default"
    return masked_text(f"{place}: {name}: {message}")


def _short(value: object) -> str:
    return repr(str(value)[:40])


def _keys_of(mapping: str) -> dict[str, str]:
    """Return the keys that each entry of a mapping may have -> what they mean."""
    model = ENTRIES.get(mapping)
    fields = model.model_fields if model is not None else {}
    return {field.alias or name: field.description or "" for name, field in fields.items()}


def _description(field: str, inner: str) -> str:
    return _keys_of(field).get(inner.partition(".")[0]) or FIELDS[field].description or ""


def _value(settings: Settings, name: str) -> object:
    section, _, field = name.rpartition(".")
    return getattr(getattr(settings, section) if section else settings, field)


def environment_for_child(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without any setting of the gateway, and with ``variables``."""
    return settings_sources.environment_for_child(variables, FALLBACKS)
