"""
Where this process lives: addresses, ports, keys and limits. The only reader of the environment.

A setting is looked for, first found wins: command-line option, environment (``GATEWAY_SIP__PORT=5070``), ``.env`` in
the working directory, the configuration file (TOML: ``[sip] port = 5070``), the default below. What a *call* does is
not here but in a dialplan.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import SplitResult, urlsplit

from dotenv.parser import parse_stream
from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    UrlConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.errors import ConfigError

ENV_PREFIX = "GATEWAY_"
CONFIG_VARIABLE = "GATEWAY_CONFIG"
DEFAULT_CONFIG = Path("gateway.toml")
DOTENV = Path(".env")
FALLBACKS = {"OPENAI_API_KEY": "realtime.api_key", "REDIS_URL": "redis.url"}
"""Names other programs use too; read when nothing else sets the value."""
SECRET_FIELDS = frozenset({"realtime.api_key", "realtime.url", "redis.url"})
"""Values that are or may hold a secret: no message repeats them."""

Port = Annotated[int, Field(ge=0, le=65535)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
WebSocketUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["ws", "wss"])]
RedisUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["redis", "rediss", "unix"])]


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused, every value explained by its ``description``."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


class SipSettings(Section):
    """The SIP user agent and its RTP."""

    host: str = Field("0.0.0.0", description="IPv4 address to listen on; 0.0.0.0 is every interface")
    port: Port = Field(5060, description="SIP port, UDP and TCP; 0 takes any free one")
    udp: bool = Field(True, description="listen for SIP over UDP")
    tcp: bool = Field(True, description="listen for SIP over TCP")
    public_address: str | None = Field(
        None, description="address that callers reach us at, written into Contact and SDP (behind NAT)"
    )
    rtp_port_min: Port = Field(10000, description="first RTP port; an even number")
    rtp_port_max: Port = Field(10199, description="last RTP port; a call takes two (RTP, RTCP)")
    no_rtp_timeout_s: float = Field(30, ge=0, description="hang up when no RTP packet came for this long; 0 never does")
    retry_after_s: int = Field(5, ge=0, description="Retry-After of a 503 refusal")
    log_level: int = Field(1, ge=0, le=6, description="verbosity of PJSIP's own log: 0 none, 1 errors, 4 debug")

    @field_validator("host", "public_address")
    @classmethod
    def _ipv4(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            raise ValueError(f"{value!r} is not an IP address; give one such as 192.0.2.10") from None
        if address.version == 6:
            raise ValueError("this build of pjsua2 has no IPv6; put a SIP proxy that speaks it in front")
        return value

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if not (self.udp or self.tcp):
            raise ValueError("udp and tcp are both off: nobody could call; switch one on")
        if self.rtp_port_min % 2:
            raise ValueError(f"rtp_port_min {self.rtp_port_min} is odd; RTP takes even ports (RFC 3550 section 11)")
        if self.udp and self.rtp_port_min <= self.port <= self.rtp_port_max:
            raise ValueError(f"port {self.port} lies between rtp_port_min and rtp_port_max; move one of them")
        if self.rtp_port_max - self.rtp_port_min < 15:
            raise ValueError(
                "the RTP range is too small: a worker needs at least 16 ports (two for each call and spare)"
            )
        return self


class RealtimeSettings(Section):
    """The upstream voice model's service."""

    url: WebSocketUrl = Field(
        AnyUrl("wss://api.openai.com/v1/realtime"), repr=False, description="WebSocket URL of the Realtime API"
    )
    api_key: SecretStr | None = Field(None, description="key of the service; OPENAI_API_KEY is read too")
    connect_timeout_s: PositiveSeconds = Field(5, description="limit for the socket and its handshake")
    close_timeout_s: PositiveSeconds = Field(1, description="limit for the closing handshake")
    uplink_ms: Literal[20, 40, 60, 100] = Field(20, description="caller audio per message to the model")

    @field_validator("uplink_ms", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdecimal() else value  # variables are text

    @field_validator("api_key")
    @classmethod
    def _not_blank(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value and value.get_secret_value().strip() else None


class RedisSettings(Section):
    """Where the calls' sessions are kept."""

    url: RedisUrl | None = Field(
        None,
        repr=False,
        description="redis://, rediss:// or unix:// URL; REDIS_URL is read too; none starts a private server",
    )
    prefix: str = Field("gateway", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="first part of every key")
    heartbeat_s: PositiveSeconds = Field(5, description="how often the worker renews its live calls")
    expiry_s: PositiveSeconds = Field(20, description="a live call's record dies this long after the last heartbeat")
    retention_s: PositiveSeconds = Field(86400, description="how long the record of an ended call is kept")
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
    drain_limit_s: float = Field(30, ge=0, description="how long live calls may go on after SIGTERM")


class LogSettings(Section):
    """What the log looks like."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is written")
    format: Literal["text", "json"] = Field("text", description="text for people, json a line per entry")
    debug_threads: bool = Field(False, description="check at every call which thread a function runs on")


class Effective(NamedTuple):
    """A setting as it is in force, fit for printing: secrets are masked."""

    value: str
    origin: str
    """``default``, ``command line``, a file, or the variable's name (``.env: `` before it when it stands there)."""


class Settings(BaseModel):
    """All sections. A constructor elsewhere receives its own section, never this."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    dialplan: Path = Field(Path("dialplans/hello.yaml"), description="the dialplan file")
    sip: SipSettings = SipSettings()
    realtime: RealtimeSettings = RealtimeSettings()
    redis: RedisSettings = RedisSettings()
    call: CallSettings = CallSettings()
    log: LogSettings = LogSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def masked(self) -> dict[str, Effective]:
        """Return every setting by its name (``sip.port``), secrets masked, with where its value came from."""
        return {name: Effective(_shown(_value(self, name)), self._origins.get(name, "default")) for name in FIELDS}


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


FIELDS: dict[str, FieldInfo] = dict(_fields(Settings))
"""Every setting by its dotted name."""
_SECTIONS = tuple(dict.fromkeys(name.partition(".")[0] for name in FIELDS if "." in name))


def variable_of(name: str) -> str:
    """Return the environment variable of a setting: ``sip.port`` -> ``GATEWAY_SIP__PORT``."""
    return ENV_PREFIX + name.upper().replace(".", "__")


_VARIABLES = {variable_of(name): name for name in FIELDS}
# Kubernetes and old Docker links put these into every container beside a service called "gateway".
_SERVICE_LINK = re.compile(r"GATEWAY_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)\w*)")


class _Given(NamedTuple):
    value: object
    place: str


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
    environ = {name: value for name, value in os.environ.items() if value.strip()}
    dotenv = _read_dotenv(problems)
    given: dict[str, _Given] = {}
    for variables, place in ((dotenv, f"{DOTENV}: "), (environ, "")):
        given |= {FALLBACKS[v]: _Given(variables[v], place + v) for v in FALLBACKS if v in variables}
    named = config or environ.get(CONFIG_VARIABLE) or dotenv.get(CONFIG_VARIABLE)
    given |= _read_config(Path(named) if named else None, problems)
    given |= _from_variables(dotenv, f"{DOTENV}: ", problems)
    given |= _from_variables(environ, "", problems)
    given |= _flatten(overrides or {}, "command line", problems)
    settings = _validated(given, problems)
    if settings is None or problems:
        raise ConfigError(*problems)
    return settings


def _read_dotenv(problems: list[str]) -> dict[str, str]:
    try:
        text = DOTENV.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{DOTENV}: cannot be read ({_why(error)}), correct or remove it")
        return {}
    found: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            problems.append(f"{DOTENV}:{binding.original.line}: not of the form NAME=value, correct or remove the line")
        elif binding.key and binding.value and binding.value.strip():
            found[binding.key] = binding.value
    return found


def _read_config(named: Path | None, problems: list[str]) -> dict[str, _Given]:
    path = named or DEFAULT_CONFIG
    try:
        table = tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        if named is not None:
            problems.append(f"{path}: no such configuration file, correct --config or {CONFIG_VARIABLE}")
        return {}
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: not TOML: {error}, correct that line")
        return {}
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        problems.append(f"{path}: cannot be read ({_why(error)}), give a TOML file in UTF-8")
        return {}
    return _flatten(table, str(path), problems)


def _why(error: Exception) -> str:
    match error:
        case OSError(strerror=str() as reason):
            return reason
        case UnicodeDecodeError():
            return "it is not UTF-8 text"
        case _:
            return "it is nested too deeply"


def _flatten(table: Mapping[str, Any], place: str, problems: list[str]) -> dict[str, _Given]:
    flat: dict[str, object] = {}
    for name, value in table.items():
        if name in _SECTIONS and isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": deeper for inner, deeper in value.items()}
        elif name in _SECTIONS:
            problems.append(f"{place}: {name}: is a section, write [{name}] and its settings below it")
        else:
            flat[name] = value
    for name in flat.keys() - FIELDS.keys():
        section = name.partition(".")[0]
        near = [field for field in FIELDS if section in _SECTIONS and field.startswith(f"{section}.")]
        problems.append(f"{place}: {name}: unknown setting, {_did_you_mean(name, near or [*FIELDS, *_SECTIONS])}")
    return {name: _Given(flat[name], place) for name in flat if name in FIELDS and flat[name] is not None}


def _from_variables(variables: Mapping[str, str], place: str, problems: list[str]) -> dict[str, _Given]:
    for name, value in variables.items():
        known = name in _VARIABLES or name == CONFIG_VARIABLE
        linked = _SERVICE_LINK.fullmatch(name) or (name == "GATEWAY_PORT" and "://" in value)
        if name.upper().startswith(ENV_PREFIX) and not known and not linked:
            known_ends = [variable.removeprefix(ENV_PREFIX) for variable in (*_VARIABLES, CONFIG_VARIABLE)]
            hint = _did_you_mean(name.upper().removeprefix(ENV_PREFIX), known_ends, ENV_PREFIX)
            problems.append(f"{place}{name}: unknown setting, {hint}")
    return {_VARIABLES[v]: _Given(value, place + v) for v, value in variables.items() if v in _VARIABLES}


def _did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else "the settings are listed by `gateway check`"


def _validated(given: Mapping[str, _Given], problems: list[str]) -> Settings | None:
    nested: dict[str, Any] = {}
    for name, (value, _) in given.items():
        section, _, field = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[field] = value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        problems.extend(_problem(details, given) for details in error.errors())
        return None
    settings._origins.update({name: place for name, (_, place) in given.items()})
    return settings


def _problem(details: ErrorDetails, given: Mapping[str, _Given]) -> str:
    name = ".".join(str(part) for part in details["loc"])
    message = details["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
    if name in given:
        place = given[name].place
        if details["type"] != "value_error":
            value = "" if name in SECRET_FIELDS else f", not {str(given[name].value)[:40]!r}"
            message = f"{message}{value} ({FIELDS[name].description})"
    else:  # about several settings of a section: name the places of those it speaks of
        inside = {field.rpartition(".")[2]: at.place for field, at in given.items() if field.startswith(f"{name}.")}
        spoken_of = {place for field, place in inside.items() if field in message} or set(inside.values())
        place = " and ".join(sorted(spoken_of)) or "default"
    return _masked_text(f"{place}: {name}: {message}")


def _value(settings: Settings, name: str) -> object:
    section, _, field = name.rpartition(".")
    return getattr(getattr(settings, section) if section else settings, field)


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case SecretStr():
            return "********"
        case AnyUrl():
            return _masked_url(urlsplit(str(value)))
        case _:
            return _masked_text(str(value))


def _masked_url(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    login = f"{user.partition(':')[0]}:********@" if ":" in user else user + at
    query = re.sub(r"(?i)((?:^|&)[^=&]*(?:pass|key|token|secret)[^=&]*=)[^&]*", r"\1********", parts.query)
    return f"{parts.scheme}://{login}{host}{parts.path}{'?' if query else ''}{query}"


def _masked_text(text: str) -> str:
    """Mask a key that stands where none belongs."""
    return re.sub(r"\b([es]k)-[\w-]+", r"\1-********", text)


def environment_for_child(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without any setting of the gateway, and with ``variables``."""
    foreign = {name: value for name, value in os.environ.items() if not _is_ours(name)}
    return {**foreign, **variables}


def _is_ours(name: str) -> bool:
    return name.startswith(ENV_PREFIX) or name in FALLBACKS
