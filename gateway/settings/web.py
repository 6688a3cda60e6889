"""The HTTP API's section: where it listens, and who may do what."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, StringConstraints, field_validator

from gateway.settings.section import Name, Port, Section, listed, tabled

Scope = Literal["read", "control", "dial", "mint", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}$", to_lower=True)]


class TokenSettings(Section):
    """One token of the HTTP API: what it hashes to, and what its bearer may do."""

    hash: str = Field(
        pattern=r"^sha256:[0-9a-f]{64}$", description="SHA-256 of the token, as `gateway token` prints it: sha256:HEX"
    )
    scopes: Annotated[tuple[Scope, ...], BeforeValidator(listed), Field(min_length=1)] = Field(
        description="what its bearer may do: read, control, dial, mint, admin"
    )


class WebSettings(Section):
    """The HTTP API and the page (``gateway web``)."""

    start: bool = Field(False, description="have `gateway serve` start `gateway web` beside itself, as with --web")
    host: str = Field(
        "127.0.0.1", description="IP address to listen on; another than loopback needs tokens; for TLS, use a proxy"
    )
    port: Port = Field(8088, description="TCP port; 0 picks a free one")
    tokens: dict[Name, Annotated[TokenSettings, BeforeValidator(tabled)]] = Field(
        {}, description="who may use the API: name -> hash and scopes, as `gateway token` prints them"
    )
    hosts: tuple[HostName, ...] = Field(
        (), description="host names in URLs that lead here, separated by commas; IP addresses and localhost always do"
    )
    proxies: tuple[str, ...] = Field(
        (), description="addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed"
    )
    public_metrics: bool = Field(False, description="serve /metrics without a token, to whoever reaches the port")
    requests_per_minute: int = Field(1200, ge=1, description="requests per token and minute; more get 429")
    refusals_per_minute: int = Field(
        20, ge=1, description="wrong tokens per address and minute; after that, the address gets 429"
    )
    session_s: int = Field(
        43200, ge=60, le=2592000, description="how long a log-in on the page lasts, in seconds; then log in again"
    )
    profiles: tuple[str, ...] | None = Field(
        None, description="agents that secrets are minted for, separated by commas; if not set, every agent"
    )
    mint_limit_per_minute: int = Field(10, ge=1, description="secrets per token and minute; more get 429")
    mint_seconds_max: int = Field(
        600, ge=10, le=7200, description="longest lifetime of a secret that a client may ask for"
    )

    @field_validator("host")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError(f"{value!r} is not an IP address; give one such as 127.0.0.1") from None

    @field_validator("hosts", "proxies", "profiles", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return listed(value)

    @field_validator("proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"{network!r} is not an IP address or network; give one such as 10.0.0.0/8") from None
        return value

    @field_validator("tokens")
    @classmethod
    def _distinct(cls, value: dict[str, TokenSettings]) -> dict[str, TokenSettings]:
        if len({token.hash for token in value.values()}) < len(value):
            raise ValueError("two tokens have the same hash and could not be told apart; make one anew")
        return value

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback
