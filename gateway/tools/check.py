"""Can the tools of a dialplan be used with these secrets and these packages? Asked at start, not in a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import SecretStr

from gateway.dialplan.model import Dialplan, ToolSet, Webhook
from gateway.errors import ConfigError
from gateway.tools.arguments import schema_problem
from gateway.tools.plugin import load_plugin
from gateway.tools.webhook import headers_of


def check_tools(dialplan: Dialplan, secrets: Mapping[str, SecretStr]) -> None:
    """
    Make sure that every own tool of every agent can be used. Imports the plugins; sends nothing.

    Args:
        dialplan: the agents and their tools.
        secrets: the secrets of the settings, names in lower case.

    Raises:
        ConfigError: a line ``agents.NAME.tools.KIND.TOOL: problem`` for each mistake.
    """
    problems = [
        f"agents.{name}.tools.{problem}"
        for name, agent in dialplan.agents.items()
        for problem in _problems(agent.tools, secrets)
    ]
    if problems:
        raise ConfigError(*problems)


def _problems(tools: ToolSet, secrets: Mapping[str, SecretStr]) -> Iterator[str]:
    for webhook in tools.webhooks:
        yield from (f"webhooks.{webhook.name}: {problem}" for problem in _webhook_problems(webhook, secrets))
    for plugin in tools.plugins:
        try:
            problem = schema_problem(load_plugin(plugin.name).definition.parameters)
        except ConfigError as error:
            problem = str(error)
        if problem is not None:
            yield f"plugins.{plugin.name}: {problem}"
    for server in tools.mcp:
        if server.authorization is not None and server.authorization.lower() not in secrets:
            yield (
                f"mcp.{server.server_label}: authorization: there is no secret {server.authorization!r}; set it in "
                f"the section [secrets] or as GATEWAY_SECRETS__{server.authorization.upper()}"
            )


def _webhook_problems(webhook: Webhook, secrets: Mapping[str, SecretStr]) -> Iterator[str]:
    try:
        headers_of(webhook, secrets)
    except ConfigError as error:
        yield from error.problems
    if webhook.url.username or webhook.url.password:
        yield "url: holds a user or password; use the header Authorization with ${NAME}"
    problem = schema_problem(webhook.parameters)
    if problem is not None:
        yield f"parameters: {problem}"
