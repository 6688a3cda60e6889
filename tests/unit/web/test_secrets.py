from __future__ import annotations

import pytest

from gateway.dialplan.model.agent import AgentProfile, ToolSet
from gateway.upstream.realtime.wire.session import McpTool
from gateway.web import secrets as mint

pytestmark = pytest.mark.unit


def test_a_session_without_the_gateway_offers_no_tool_that_nobody_runs_and_no_token() -> None:
    tools = ToolSet.model_validate(
        {
            "builtin": ["hang_up", "wait"],
            "webhooks": [{"name": "order", "description": "Looks up.", "url": "https://h/"}],
            "mcp": [
                {"server_label": "open", "server_url": "https://m/"},
                {"server_label": "closed", "server_url": "https://m/", "authorization": "crm"},
            ],
        }
    )
    session = mint.direct_session(AgentProfile(instructions="Be brief.", tools=tools))
    (server,) = session.tools or ()
    assert isinstance(server, McpTool)
    assert server.server_label == "open"


def test_a_profile_makes_a_session_with_its_voice() -> None:
    session = mint.direct_session(AgentProfile(instructions="Be brief.", voice="cedar"))
    assert session.tools == ()
    assert session.audio is not None
    assert session.audio.output is not None
    assert session.audio.output.voice == "cedar"
