from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from gateway.dialplan.model import Dialplan, ToolSet
from gateway.errors import ConfigError
from gateway.tools.check import check_tools
from gateway.tools.runner import own_definitions
from tests.fakes.plugins import install_plugins

pytestmark = pytest.mark.unit

WEBHOOK = {"name": "order", "description": "Looks up.", "url": "https://h/x"}


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(tmp_path, monkeypatch)


def plan(**tools: Any) -> Dialplan:
    agents = {"sales": {"instructions": "Sell.", "tools": tools}}
    return Dialplan.model_validate({"agents": agents, "routes": [{"name": "all", "agent": "sales"}]})


def test_tools_with_everything_they_need_pass() -> None:
    check_tools(
        plan(
            webhooks=[{**WEBHOOK, "headers": {"Authorization": "Bearer ${CRM}"}, "signed_with": "crm"}],
            plugins=[{"name": "thread"}],
            mcp=[{"server_label": "docs", "server_url": "https://m/", "authorization": "CRM"}],
        ),
        {"crm": SecretStr("x")},
    )


@pytest.mark.parametrize(
    ("tools", "told"),
    [
        (
            {"webhooks": [{**WEBHOOK, "headers": {"A": "${crm}"}}]},
            "webhooks.order: headers.A: there is no secret 'crm'",
        ),
        ({"webhooks": [{**WEBHOOK, "signed_with": "CRM"}]}, "webhooks.order: signed_with: there is no secret 'CRM'"),
        ({"webhooks": [{**WEBHOOK, "url": "https://u:p@h/"}]}, "webhooks.order: url: holds a user or password"),
        ({"webhooks": [{**WEBHOOK, "parameters": {"type": "array"}}]}, "webhooks.order: parameters: the schema is not"),
        ({"plugins": [{"name": "nothing"}]}, "plugins.nothing: no package has an entry point"),
        ({"plugins": [{"name": "wrong_schema"}]}, "plugins.wrong_schema: no JSON Schema: $.properties.a.type"),
        (
            {"mcp": [{"server_label": "docs", "server_url": "https://m/", "authorization": "tok"}]},
            "mcp.docs: authorization: there is no secret 'tok'",
        ),
    ],
)
def test_a_tool_that_could_not_work_is_told_with_its_agent(tools: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_tools(plan(**tools), {})
    (problem,) = caught.value.problems
    assert problem.startswith(f"agents.sales.tools.{told}")


def examples() -> list[Any]:
    """Return the YAML in the docs, in order."""
    text = (Path(__file__).parents[3] / "docs" / "tools.md").read_text()
    return [yaml.safe_load(part.partition("```")[0]) for part in text.split("```yaml\n")[1:]]


def test_the_example_of_built_in_tools_in_the_docs_can_be_used() -> None:
    tools = ToolSet.model_validate(examples()[0]["tools"])
    assert [(name, target.warm) for name, target in tools.transfer_targets.items()] == [
        ("sales", False),
        ("boss", True),
    ]


def test_the_example_in_the_docs_can_be_used_but_for_a_plugin_that_is_not_installed() -> None:
    example = examples()[1]
    dialplan = Dialplan.model_validate({**example, "routes": [{"name": "all", "agent": "shop"}]})
    secrets = {name: SecretStr("x") for name in ("crm_token", "webhook_key", "manuals_token")}
    with pytest.raises(ConfigError) as caught:
        check_tools(dialplan, secrets)
    (problem,) = caught.value.problems
    assert problem.startswith("agents.shop.tools.plugins.opening_hours: no package has an entry point")


def test_own_tools_are_defined_for_the_model() -> None:
    tools = plan(webhooks=[WEBHOOK], plugins=[{"name": "thread"}]).agents["sales"].tools
    first, second = own_definitions(tools)
    assert tuple(first) == ("order", "Looks up.", {"type": "object", "properties": {}})
    assert tuple(second) == ("thread", "Say on which thread it runs.", {"type": "object", "properties": {}})
