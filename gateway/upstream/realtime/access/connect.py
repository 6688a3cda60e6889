"""Opens the sessions of one call: the same configuration, key and caller each time, and a memory they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import SecretStr

from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentRefused
from gateway.ids import CallId
from gateway.settings.sections import RealtimeSettings
from gateway.tools.builtin import OwnTool
from gateway.upstream.core.dialect import UpstreamEvent
from gateway.upstream.core.history import History
from gateway.upstream.core.owed import Owed
from gateway.upstream.link import UpstreamLink
from gateway.upstream.realtime.address import (
    SECRET_LIFE_S,
    Minter,
    handshake_headers,
    redactor,
    safety_identifier,
    session_url,
)
from gateway.upstream.realtime.config import mcp_rules, offered_tools, session_config, silence_policy
from gateway.upstream.realtime.dialect import RealtimeDialect
from gateway.upstream.realtime.function_calls import FunctionCalls
from gateway.upstream.realtime.mcp import McpCalls
from gateway.upstream.realtime.wire.codec import lift
from gateway.upstream.realtime.wire.session import SessionConfig


class RealtimeConnector:
    """
    Makes the links of one call.

    Args:
        call_id: our id of the call.
        settings: where the service is.
        profile: how the agent behaves.
        caller: URI of the caller.
        own_tools: definitions of the profile's plugins.
        secrets: tokens of MCP servers, by name in lower case.
        minter: makes ephemeral keys; needed if the profile wants them.

    Attributes:
        history: what was said in the call.
        calls: the tools called in it.
        owed: what the agent owes the caller.
    """

    def __init__(
        self,
        *,
        call_id: CallId,
        settings: RealtimeSettings,
        profile: AgentProfile,
        caller: str,
        own_tools: Sequence[OwnTool],
        secrets: Mapping[str, SecretStr],
        minter: Minter | None,
    ) -> None:
        self._call_id = call_id
        self._settings = settings
        self._profile = profile
        self._caller = caller
        self._own_tools = own_tools
        self._secrets = secrets
        self._minter = minter
        self._redact = redactor(settings, secrets)
        self.history = History()
        self.owed = Owed(silence_policy(profile))
        offered, rounds = offered_tools(profile, own_tools), profile.tools.max_rounds
        mcp = McpCalls(call_id, mcp_rules(profile))
        self.calls = FunctionCalls(call_id, offered, self.history, max_rounds=rounds, mcp=mcp)

    async def open(self, take: Callable[[UpstreamLink, UpstreamEvent], None]) -> UpstreamLink:
        """
        Begin to connect; the link tells the rest.

        Raises:
            AgentRefused: the session cannot be asked for, or no ephemeral key is to be had.
            AgentLost: who mints the keys cannot be reached.
            WireError: the minted key makes no sense.
        """
        config = session_config(self._profile, self._own_tools, self._secrets)
        minted = await self._mint(config) if self._profile.client_secret else None
        dialect = RealtimeDialect(
            self._call_id,
            config,
            redact=self._redact,
            interrupts=self._profile.turn_detection.interrupt_response,
            history=self.history.new_session(),
            calls=self.calls,
            owed=self.owed,
            lay_out=lift if self._settings.session_layout == "xai" else lambda text: text,
        )
        return UpstreamLink(
            call_id=self._call_id,
            settings=self._settings,
            url=session_url(str(self._settings.url), self._profile.model, self._settings.model_parameter),
            headers=handshake_headers(self._settings, minted=minted, caller=self._caller),
            dialect=dialect,
            take=take,
            redact=self._redact,
        )

    async def _mint(self, config: SessionConfig) -> SecretStr:
        if self._minter is None:
            raise AgentRefused("the profile wants ephemeral keys, and nobody here mints them")
        identifier = safety_identifier(self._settings, self._caller)
        minted = await self._minter.mint(
            config, model=self._profile.model, seconds=SECRET_LIFE_S, safety_identifier=identifier
        )
        self._redact.add(minted.value)
        return minted.value
