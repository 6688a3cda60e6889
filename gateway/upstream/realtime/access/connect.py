"""Opens the sessions of one call with the Realtime API: the same configuration, key and caller each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import SecretStr

from gateway.call.builtin_tools import OwnTool
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentRefused
from gateway.ids import CallId
from gateway.settings.sections import RealtimeSettings
from gateway.upstream.core.dialect import Opening
from gateway.upstream.core.history import History
from gateway.upstream.core.owed import Owed
from gateway.upstream.core.prompts import silence_policy
from gateway.upstream.realtime.address import (
    handshake_headers,
    redactor,
    safety_identifier,
    session_url,
)
from gateway.upstream.realtime.config import mcp_rules, offered_tools, session_config
from gateway.upstream.realtime.dialect import RealtimeDialect
from gateway.upstream.realtime.failures import RealtimeJudge
from gateway.upstream.realtime.function_calls import CalledFunctions
from gateway.upstream.realtime.mcp import McpCalls
from gateway.upstream.realtime.responses import ResponseRequests
from gateway.upstream.realtime.wire.codec import lift
from gateway.upstream.realtime.wire.session import SessionConfig

SECRET_LIFE_S = 60
"""Of an ephemeral key that opens one connection at once."""


class Minted(Protocol):
    """An ephemeral key."""

    @property
    def value(self) -> SecretStr:
        """The key."""


class Minter(Protocol):
    """Makes ephemeral keys (``upstream/realtime/access/secrets.py``)."""

    async def mint(
        self,
        session: SessionConfig,
        *,
        model: str | None = None,
        seconds: int = 600,
        safety_identifier: str | None = None,
    ) -> Minted:
        """
        Mint a key.

        Raises:
            AgentRefused: the service said no.
            AgentLost: it cannot be reached.
            WireError: its answer holds no key.
        """


class SessionPlace(Protocol):
    """The place of an agent among the sessions of its model (``worker/session_place.py``)."""

    async def take(self) -> str:
        """
        Have a place, the same one each time, and return the model to talk with.

        Raises:
            SessionsFull: none of the models that may speak has one free.
        """

    def give_back(self) -> None:
        """Let another agent have the place; safe more than once."""


class RealtimeConnector:
    """
    The ``Connector`` of one call: what its sessions share, and what each is opened with.

    Args:
        call_id: our id of the call.
        settings: where the service is.
        profile: how the agent behaves.
        caller: URI of the caller.
        own_tools: definitions of the profile's plugins.
        secrets: tokens of MCP servers, by name in lower case.
        minter: makes ephemeral keys; needed if the profile wants them.
        place: among the sessions of the model, where those are limited.

    Attributes:
        history: what was said in the call.
        owed: what the agent owes the caller.
        judge: says what follows from a failure.
        redact: takes secrets out of text.
    """

    def __init__(
        self,
        *,
        call_id: CallId,
        settings: RealtimeSettings,
        profile: AgentProfile,
        caller: str = "",
        own_tools: Sequence[OwnTool] = (),
        secrets: Mapping[str, SecretStr] | None = None,
        minter: Minter | None = None,
        place: SessionPlace | None = None,
    ) -> None:
        self._place = place
        self._call_id = call_id
        self._settings = settings
        self._profile = profile
        self._caller = caller
        self._own_tools = own_tools
        self._secrets = secrets or {}
        self._minter = minter
        self.redact = redactor(settings, secrets)
        self.judge = RealtimeJudge(self.redact)
        self.history = History()
        self.owed = Owed(silence_policy(profile))
        offered, rounds = offered_tools(profile, own_tools), profile.tools.max_rounds
        mcp = McpCalls(call_id, mcp_rules(profile))
        self._calls = CalledFunctions(call_id, offered, self.history, max_rounds=rounds, mcp=mcp)
        self._requests = ResponseRequests(profile.instructions)

    async def prepare(self) -> Opening:
        """
        Get another session ready to be connected to.

        Raises:
            AgentRefused: the session is invalid, no ephemeral key is available, or no session is free.
            AgentLost: who mints the keys cannot be reached.
            WireError: the minted key makes no sense.
        """
        model = self._profile.model if self._place is None else await self._place.take()
        config = session_config(self._profile, self._own_tools, self._secrets)
        minted = await self._mint(config, model) if self._profile.client_secret else None
        dialect = RealtimeDialect(
            self._call_id,
            config,
            redact=self.redact,
            interrupts=self._profile.turn_detection.interrupt_response,
            history=self.history.new_session(),
            calls=self._calls,
            owed=self.owed,
            requests=self._requests,
            lay_out=lift if self._settings.session_layout == "xai" else lambda text: text,
        )
        url = session_url(str(self._settings.url), model, self._settings.model_parameter)
        return Opening(url, handshake_headers(self._settings, minted=minted, caller=self._caller), dialect)

    def close(self) -> None:
        """Give the place back."""
        if self._place is not None:
            self._place.give_back()

    async def _mint(self, config: SessionConfig, model: str) -> SecretStr:
        if self._minter is None:
            raise AgentRefused("the profile asks for ephemeral keys, but this process does not mint any")
        identifier = safety_identifier(self._settings, self._caller)
        minted = await self._minter.mint(config, model=model, seconds=SECRET_LIFE_S, safety_identifier=identifier)
        self.redact.add(minted.value)
        return minted.value
