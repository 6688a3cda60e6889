"""The tables of the dialplan's reference, printed from the models so that they are never out of date."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.dialplan.model import agent, match, steps
from gateway.dialplan.model import plan as model
from gateway.dialplan.model import rule as route
from gateway.dialplan.report import cases

_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The file", model.Dialplan),
    ("`routes[]`", route.Rule),
    ("`match`", match.Match),
    ("`match.time`", match.TimeMatch),
    ("`match.load`", match.LoadMatch),
    ("`limits`", route.Limits),
    ("`limits.per_caller`", route.CallerLimits),
    *((f"`action: {name}`", kind) for name, kind in steps.STEPS.items()),
    ("`agents.NAME`", agent.AgentProfile),
    ("`turn_detection`", agent.TurnDetection),
    ("`keypad`", agent.KeypadRules),
    ("`recording`", agent.RecordingRules),
    ("`on_loss`", agent.OnLoss),
    ("`on_no_answer`", agent.OnNoAnswer),
    ("`when_full`", agent.WhenFull),
    ("`tools`", agent.ToolSet),
    ("`tools.transfer_targets.NAME`", agent.TransferTarget),
    ("`tools.webhooks[]`", agent.Webhook),
    ("`tools.plugins[]`", agent.Plugin),
    ("`tools.mcp[]`", agent.McpServer),
    ("A file of cases", cases.CaseFile),
    ("`cases[]`", cases.Case),
    ("`cases[].call`", cases.CaseCall),
    ("`cases[].expect`", cases.Expected),
)


def reference() -> str:
    """Return the reference in Markdown: a section for each part, a row for each key."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for title, kind in _SECTIONS:
        yield from (f"### {title}", "", (kind.__doc__ or "").strip().splitlines()[0], "")
        yield from ("| key | default | meaning |", "|---|---|---|")
        for name, field in kind.model_fields.items():
            if kind is not route.Rule or name != "step":
                yield f"| `{field.alias or name}` | {_default(field)} | {_meaning(field)} |"
        if kind is agent.AgentProfile:
            yield "| `extends` | none | name of an agent: this one has everything of it that it does not change |"
        if kind is model.Dialplan:
            yield "| `defaults` | none | what agents have unless they say otherwise, keys as in `agents.NAME` |"
            yield "| `x-...` | none | your own: a place for YAML anchors |"
        if kind is route.Rule:
            yield "| the keys of a step | needed | what happens: `agent: NAME`, or `action:` with its keys |"
        yield ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, steps.RejectStep):
        return str(value.code)
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "no arguments"
    return ", ".join(value) if isinstance(value, tuple) else f"{value}"


def _meaning(field: FieldInfo) -> str:
    words = field.description or "see below"
    choices = _choices(field.annotation)
    more = [word for word in choices if word not in words]
    text = f"{words}: {', '.join(choices)}" if len(choices) > 1 and more else words
    return text.replace("|", r"\|")


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(each) for each in get_args(kind)]
    if get_origin(kind) in (Union, UnionType, Annotated, tuple):
        return [word for each in get_args(kind) if each is not type(None) for word in _choices(each)]
    return []
