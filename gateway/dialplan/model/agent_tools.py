"""What an agent can do beside talking: tools of the gateway, of the user, and of MCP servers."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AnyHttpUrl, BeforeValidator, Field, model_validator

from gateway.dialplan.model.fields import Name, Part, Seconds, Text, Uri

BuiltinTool = Literal[
    "hang_up", "transfer_call", "send_dtmf", "wait", "leave_message", "start_recording", "pause_recording"
]


class Webhook(Part):
    """A tool of your own behind an HTTP request."""

    name: Name = Field(description="what the model calls it")
    description: Text = Field(description="what it does, for the model")
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}, description="JSON Schema of its arguments"
    )
    url: AnyHttpUrl = Field(description="where the request goes")
    method: Literal["POST", "PUT", "GET"] = Field("POST", description="GET sends the arguments in the query")
    timeout_s: Seconds = Field(10, description="no answer by then is told to the model as a failure")
    headers: dict[str, str] = Field(
        default_factory=dict, description="extra headers; ${NAME} is replaced by the secret NAME of the settings"
    )
    signed_with: Name | None = Field(None, description="name of the secret that signs the body (HMAC-SHA256)")


class Plugin(Part):
    """A tool of your own in Python, found by its entry point in the group ``gateway.tools``."""

    name: Name = Field(description="name of the entry point, and what the model calls it")
    timeout_s: Seconds = Field(10, description="no result by then is told to the model as a failure")


ToolNames = Annotated[tuple[str, ...], Field(min_length=1)]


class McpServer(Part):
    """An MCP server that the Realtime API itself calls."""

    server_label: Name = Field(description="name of the server")
    server_url: AnyHttpUrl = Field(description="where it is")
    authorization: Name | None = Field(None, description="name of the secret that is its access token")
    allowed_tools: tuple[str, ...] | None = Field(None, description="only these; none is all")
    timeout_s: Seconds = Field(30, description="a call that is not over by then is waited for no longer")
    require_approval: Literal["never", "always"] | ToolNames = Field(
        "never", description="before which tools the service asks the gateway; a list of tools, or one of"
    )
    approve: Literal["others", "all", "none"] | ToolNames = Field(
        "others",
        description="what is approved when the service asks, as far as allowed_tools has it; `others` is what "
        "require_approval does not name; a list of tools, or one of",
    )


class TransferTarget(Part):
    """Somebody the agent may transfer to."""

    uri: Annotated[Uri, Field(min_length=1)] = Field(description="SIP or tel URI")
    warm: bool = Field(
        False, description="the agent tells them first what it is about; they take the caller with the key 1"
    )


def _target(value: object) -> object:
    return {"uri": value} if isinstance(value, str) else value


Target = Annotated[
    TransferTarget,
    BeforeValidator(_target, json_schema_input_type=str | TransferTarget),
]


class ToolSet(Part):
    """What an agent can do beside talking."""

    builtin: tuple[BuiltinTool, ...] = Field(("hang_up",), description="tools of the gateway that are offered")
    transfer_targets: dict[Name, Target] = Field(
        default_factory=dict, description="transfer_call: whom the agent may name -> SIP or tel URI, or more of it"
    )
    webhooks: tuple[Webhook, ...] = Field((), description="tools behind HTTP requests")
    plugins: tuple[Plugin, ...] = Field((), description="tools in Python")
    mcp: tuple[McpServer, ...] = Field((), description="MCP servers, called by the Realtime API")
    filler_after_s: Seconds | None = Field(2, description="a tool that takes longer lets the caller hear the filler")
    max_rounds: Annotated[int, Field(ge=1, le=100)] = Field(
        6, description="answers in a row that call tools and say nothing; the next may call none, and speaks"
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [*self.builtin, *(tool.name for tool in self.webhooks), *(tool.name for tool in self.plugins)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two tools are named {name!r}; rename one")
        if "transfer_call" in self.builtin and not self.transfer_targets:
            raise ValueError("transfer_call is offered without transfer_targets; name whom the agent may transfer to")
        return self
