from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from gateway.dialplan.model.agent import ToolSet
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.read.yaml_tree import dotted
from gateway.tools.runner import own_definitions
from gateway.worker.tool_check import tool_findings
from tests.fakes.plugins import install_plugins

pytestmark = pytest.mark.unit

WEBHOOK = {"name": "order", "description": "Looks up.", "url": "https://h/x"}


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(tmp_path, monkeypatch)


def plan(**tools: Any) -> Dialplan:
    agents = {"sales": {"instructions": "Sell.", "tools": tools}}
    return Dialplan.model_validate({"agents": agents, "routes": [{"name": "all", "agent": "sales"}]})


def told(dialplan: Dialplan, secrets: Mapping[str, SecretStr] | None, *, remarks: bool = False) -> list[str]:
    found = tool_findings(dialplan, secrets)
    return [f"{dotted(each.path)}: {each.problem}" for each in found if each.is_remark is remarks]


NEEDY = {
    "webhooks": [{**WEBHOOK, "headers": {"Authorization": "Bearer ${CRM}"}, "signed_with": "crm"}],
    "plugins": [{"name": "thread"}],
    "mcp": [{"server_label": "docs", "server_url": "https://m/", "authorization": "CRM"}],
}


def test_tools_with_everything_they_need_pass() -> None:
    assert list(tool_findings(plan(**NEEDY), {"crm": SecretStr("x")})) == []


def test_without_settings_the_secrets_that_nobody_looked_for_are_remarked() -> None:
    assert told(plan(**NEEDY), None) == []
    remarks = told(plan(**NEEDY), None, remarks=True)
    tools = "agents.sales.tools"
    assert [line.partition(": ")[0] for line in remarks] == [
        f"{tools}.webhooks[0].headers.Authorization",
        f"{tools}.webhooks[0].signed_with",
        f"{tools}.mcp[0].authorization",
    ]
    assert all(": not checked: the secret " in line for line in remarks)


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ({"webhooks": [{**WEBHOOK, "headers": {"A": "${crm}"}}]}, "webhooks[0].headers.A: there is no secret 'crm'"),
        ({"webhooks": [{**WEBHOOK, "headers": {"Host": "x"}}]}, "webhooks[0].headers.Host: not a header of yours"),
        ({"webhooks": [{**WEBHOOK, "headers": {"A": "${}"}}]}, "webhooks[0].headers.A: no header can have this value"),
        ({"webhooks": [{**WEBHOOK, "headers": {"A": "${ODD}"}}]}, "webhooks[0].headers.A: no header can have this va"),
        ({"webhooks": [{**WEBHOOK, "signed_with": "CRM"}]}, "webhooks[0].signed_with: there is no secret 'CRM'"),
        ({"webhooks": [{**WEBHOOK, "url": "https://u:p@h/"}]}, "webhooks[0].url: contains a user or password"),
        ({"plugins": [{"name": "nothing"}]}, "plugins[0].name: no package has an entry point"),
        ({"plugins": [{"name": "unmarked"}]}, "plugins[0].name: the entry point 'unmarked' is no function"),
        ({"plugins": [{"name": "missing"}]}, "plugins[0].name: the entry point 'missing' (no_such_module:f) cannot be"),
        (
            {"plugins": [{"name": "faulty"}]},
            "plugins[0].name: the entry point 'faulty' (shop_tools_of_a_test_broken:f) cannot be imported: ZeroDiv",
        ),
        (
            {"plugins": [{"name": "wrong_schema"}]},
            "plugins[0].name: parameters.properties.a.type: there is no type 'text'",
        ),
        ({"plugins": [{"name": "no_json"}]}, "plugins[0].name: parameters.properties.a.enum: a value of the type set"),
        ({"plugins": [{"name": "half_a_letter"}]}, "the session cannot be written as JSON: "),
        (
            {"mcp": [{"server_label": "docs", "server_url": "https://m/", "authorization": "tok"}]},
            "mcp[0].authorization: there is no secret 'tok'",
        ),
    ],
)
def test_a_tool_that_could_not_work_is_told_with_its_place(tools: dict[str, Any], expected: str) -> None:
    (problem,) = told(plan(**tools), {"odd": SecretStr("line\nline")})
    assert problem.startswith(f"agents.sales.tools.{expected}" if "[0]" in expected else f"agents.sales: {expected}")


def test_mcp_servers_have_labels_of_their_own() -> None:
    servers = [{"server_label": "m", "server_url": f"https://m{number}/"} for number in range(2)]
    (problem,) = told(plan(mcp=servers), {})
    assert problem == "agents.sales.tools.mcp[1].server_label: another server has this label; rename one"


def test_an_approval_of_a_tool_that_is_not_offered_is_remarked() -> None:
    server = {"server_label": "m", "server_url": "https://m/", "allowed_tools": ["search", "order"]}
    odd = plan(mcp=[{**server, "require_approval": ["oder", "search"], "approve": ["sell"]}])
    assert told(odd, {}) == []
    at = "agents.sales.tools.mcp[0]"
    assert told(odd, {}, remarks=True) == [
        f"{at}.require_approval[0]: the tool 'oder' is not among allowed_tools; did you mean 'order'?",
        f"{at}.approve[0]: the tool 'sell' is not among allowed_tools; there are 'search', 'order'",
    ]


def test_very_many_tools_are_remarked() -> None:
    many = plan(webhooks=[{**WEBHOOK, "name": f"t{number}"} for number in range(128)])
    assert told(many, {}) == []
    assert told(many, {}, remarks=True) == ["agents.sales.tools: 129 tools; OpenAI may refuse more than 128"]


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
    (problem,) = told(dialplan, secrets)
    assert problem.startswith("agents.shop.tools.plugins[0].name: no package has an entry point")


def test_own_tools_are_defined_for_the_model() -> None:
    tools = plan(webhooks=[WEBHOOK], plugins=[{"name": "thread"}]).agents["sales"].tools
    first, second = own_definitions(tools)
    assert tuple(first) == ("order", "Looks up.", {"type": "object", "properties": {}})
    assert tuple(second) == ("thread", "Say on which thread it runs.", {"type": "object", "properties": {}})
