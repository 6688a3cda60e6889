"""Webhooks: who is told what happens to calls."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gateway.settings.section import Name, PositiveSeconds, Section, WebUrl, listed, tabled
from gateway.settings.sip import Networks

WebhookEvent = Literal[
    "call.started", "call.answered", "call.ended", "call.transfer", "call.transcript", "call.recording"
]
ALL_EVENTS: tuple[WebhookEvent, ...] = (
    "call.started",
    "call.answered",
    "call.ended",
    "call.transfer",
    "call.transcript",
    "call.recording",
)


class WebhookEndpoint(Section):
    """A server that is told. Its secret is not here: ``secret`` names one of the ``secrets``."""

    url: WebUrl = Field(repr=False, description="where messages are sent; http only within `webhooks.allow_private`")
    secret: Name = Field(description="which of the `secrets` signs them")
    events: Annotated[tuple[WebhookEvent, ...], BeforeValidator(listed), Field(min_length=1)] = Field(
        ALL_EVENTS, description="what it is told"
    )
    timeout_s: PositiveSeconds = Field(10, le=60, description="limit for one attempt")


class WebhooksSettings(Section):
    """Messages to servers of yours about what happens to calls, sent by ``gateway web``."""

    endpoints: dict[Name, Annotated[WebhookEndpoint, BeforeValidator(tabled)]] = Field(
        {}, description="servers that are told: name -> table, see docs/webhooks.md"
    )
    allow_private: Networks = Field(
        (), description="networks that are no part of the Internet and may be sent to all the same"
    )
    attempts: int = Field(12, ge=1, le=100, description="attempts before a message is given up")
    first_retry_s: PositiveSeconds = Field(
        5, description="delay after the first failed attempt; each further one is four times as long"
    )
    last_retry_s: PositiveSeconds = Field(3600, description="longest delay, unless the server asks for a longer one")
    keep_days: PositiveSeconds = Field(7, description="how long messages that were given up can be sent again")
    backlog: int = Field(
        10000, ge=1, le=1_000_000, description="messages that wait per endpoint; beyond that the oldest is given up"
    )

    @model_validator(mode="after")
    def _first_before_last(self) -> Self:
        if self.first_retry_s > self.last_retry_s:
            raise ValueError(f"first_retry_s {self.first_retry_s:g} is greater than last_retry_s {self.last_retry_s:g}")
        return self


def webhook_mistakes(webhooks: WebhooksSettings, secrets: Collection[str]) -> Iterator[tuple[str, str]]:
    """
    Yield each mistake: the setting by its dotted name, and the problem with its cure.

    Args:
        webhooks: the section.
        secrets: names of all secrets.
    """
    for name, endpoint in webhooks.endpoints.items():
        if endpoint.secret not in secrets:
            yield (
                f"webhooks.endpoints.{name}.secret",
                f"there is no secret {endpoint.secret!r}; set it in the section [secrets] or as "
                f"GATEWAY_SECRETS__{endpoint.secret.upper()}",
            )
        if endpoint.url.username or endpoint.url.password:
            yield f"webhooks.endpoints.{name}.url", "contains a user or password; the signature says who sends"
