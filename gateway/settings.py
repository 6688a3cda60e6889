"""
Where this process lives: addresses, ports, keys and limits. The only reader of the environment.

A setting is looked for, first found wins: command-line option, environment (``GATEWAY_SIP__PORT=5070``), ``.env`` in the
working directory, the configuration file (TOML: ``[sip] port = 5070``), the default below. What a *call* does is not
here but in a dialplan.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    UrlConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from gateway.errors import ConfigError

ENV_PREFIX = "GATEWAY_"
DEFAULT_CONFIG = Path("gateway.toml")

Port = Annotated[int, Field(ge=0, le=65535)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
WebSocketUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["ws", "wss"])]
RedisUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["redis", "rediss", "unix"])]


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused, every value explained by its ``description``."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


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
    no_rtp_timeout_s: float = Field(
        30, ge=0, description="hang up when no RTP packet came for this long; 0 never does"
    )
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
        if self.rtp_port_max - self.rtp_port_min < 15:
            raise ValueError("the RTP range is too small: a worker needs at least 16 ports (two for each call and spare)")
        return self


class RealtimeSettings(Section):
    """The upstream voice model's service."""

    url: WebSocketUrl = Field(
        AnyUrl("wss://api.openai.com/v1/realtime"), description="WebSocket URL of the Realtime API"
    )
    api_key: SecretStr | None = Field(None, description="key of the service; OPENAI_API_KEY is read too")
    connect_timeout_s: PositiveSeconds = Field(5, description="limit for the socket and its handshake")
    close_timeout_s: PositiveSeconds = Field(1, description="limit for the closing handshake")
    uplink_ms: Literal[20, 40, 60, 100] = Field(20, description="caller audio per message to the model")

    @field_validator("api_key")
    @classmethod
    def _not_blank(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value and value.get_secret_value().strip() else None


class RedisSettings(Section):
    """Where the calls' sessions are kept."""

    url: RedisUrl | None = Field(
        None, description="redis://, rediss:// or unix:// URL; REDIS_URL is read too; none starts a private server"
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


class Settings(BaseSettings):
    """All sections. A constructor elsewhere receives its own section, never this."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        validate_default=True,
    )

    dialplan: Path = Field(Path("dialplans/hello.yaml"), description="the dialplan file")
    sip: SipSettings = SipSettings()
    realtime: RealtimeSettings = RealtimeSettings()
    redis: RedisSettings = RedisSettings()
    call: CallSettings = CallSettings()
    log: LogSettings = LogSettings()
