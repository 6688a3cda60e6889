"""Can the tools of a dialplan be used with these secrets and these packages? Asked at start, not in a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import SecretStr

from gateway.dialplan.model.agent import AgentProfile, McpServer, Webhook
from gateway.dialplan.model.fields import PlanPath
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.read.lint import NO_SETTINGS
from gateway.dialplan.read.messages import Finding, did_you_mean
from gateway.dialplan.read.parameters import parameter_mistakes, parameter_remarks
from gateway.errors import AgentRefused, ConfigError
from gateway.tools.plugin import load_plugin
from gateway.tools.runner import own_definitions
from gateway.tools.webhook import header_problems, no_secret, secrets_named, signature_problems
from gateway.upstream.realtime.config import session_update

MANY_TOOLS = 128
"""What OpenAI's other APIs take at most; of the Realtime API no limit is known."""

Secrets = Mapping[str, SecretStr]


def tool_findings(dialplan: Dialplan, secrets: Secrets | None) -> Iterator[Finding]:
    """
    Yield why own tools of agents cannot be used. Imports the plugins; sends nothing.

    Args:
        dialplan: the agents and their tools.
        secrets: the secrets of the settings, names in lower case; None remarks which ones could not be looked for.
    """
    for name, agent in dialplan.agents.items():
        found = list(_of_agent(agent, secrets))
        if all(each.is_remark for each in found):
            found += _session_findings(agent, secrets)
        yield from (Finding(("agents", name, *each.path), each.problem, each.is_remark) for each in found)


def _of_agent(agent: AgentProfile, secrets: Secrets | None) -> Iterator[Finding]:
    tools = agent.tools
    count = len(tools.builtin) + len(tools.webhooks) + len(tools.plugins) + len(tools.mcp)
    if count > MANY_TOOLS:
        yield Finding(("tools",), f"{count} tools; OpenAI may refuse more than {MANY_TOOLS}", is_remark=True)
    for number, webhook in enumerate(tools.webhooks):
        yield from _below(("tools", "webhooks", number), _webhook_findings(webhook, secrets))
    for number, plugin in enumerate(tools.plugins):
        yield from _below(("tools", "plugins", number, "name"), _plugin_findings(plugin.name))
    labels = [server.server_label for server in tools.mcp]
    for number, server in enumerate(tools.mcp):
        if server.server_label in labels[:number]:
            yield Finding(("tools", "mcp", number, "server_label"), "another server has this label; rename one")
        yield from _below(("tools", "mcp", number), _server_findings(server, secrets))


def _below(path: PlanPath, found: Iterator[Finding]) -> Iterator[Finding]:
    return (Finding((*path, *each.path), each.problem, each.is_remark) for each in found)


def _webhook_findings(webhook: Webhook, secrets: Secrets | None) -> Iterator[Finding]:
    for name, problem in header_problems(webhook, secrets or {}):
        yield Finding(("headers", name), problem)
    for path, secret in secrets_named(webhook):
        yield from _secret_findings(path, secret, secrets)
    for problem in signature_problems(webhook, secrets or {}):
        yield Finding(("signed_with",), problem)
    if webhook.url.username or webhook.url.password:
        yield Finding(("url",), "contains a user or password; use the header Authorization with ${NAME}")


def _plugin_findings(name: str) -> Iterator[Finding]:
    try:
        parameters = load_plugin(name).definition.parameters
    except ConfigError as error:
        yield from (Finding((), problem) for problem in error.problems)
        return
    mistakes = parameter_mistakes(parameters)
    for each in mistakes or parameter_remarks(parameters):
        place = ".".join(("parameters", *map(str, each.path)))
        yield Finding((), f"{place}: {each.problem}", is_remark=not mistakes)


def _server_findings(server: McpServer, secrets: Secrets | None) -> Iterator[Finding]:
    if server.authorization is not None:
        yield from _secret_findings(("authorization",), server.authorization, secrets)
    for key, named in (("require_approval", server.require_approval), ("approve", server.approve)):
        for number, name in enumerate(named if isinstance(named, tuple) else ()):
            if server.allowed_tools is not None and name not in server.allowed_tools:
                hint = did_you_mean(name, server.allowed_tools)
                yield Finding((key, number), f"the tool {name!r} is not among allowed_tools; {hint}", is_remark=True)


def _secret_findings(path: PlanPath, name: str, secrets: Secrets | None) -> Iterator[Finding]:
    if secrets is None:
        yield Finding(path, f"not checked: the secret {name!r}; {NO_SETTINGS}", is_remark=True)
    elif name.lower() not in secrets:
        yield Finding(path, no_secret(name))


def _session_findings(agent: AgentProfile, secrets: Secrets | None) -> Iterator[Finding]:
    """Yield why the session could not be asked for, whatever the reason: it is made and written down once."""
    named = (server.authorization for server in agent.tools.mcp if server.authorization is not None)
    known = {name.lower(): SecretStr("unknown") for name in named} if secrets is None else secrets
    try:
        session_update(agent, own_definitions(agent.tools), known)
    except AgentRefused as error:
        yield Finding((), str(error))
