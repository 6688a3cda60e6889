"""
The built-in tools: how each is offered to the voice model, and what a call of one asks of the call.

Theory of operation
-------------------
Everything about a built-in tool is here: its name (``BuiltinTool``), its event (a ``BuiltinToolAsked``, which also says
how it is written down) and its entry in ``_TOOLS``. The entry says what the model is shown, and how the arguments it
gives become the event, or else, in words for the model, why the tool cannot do that. Nothing is carried out here: the
event's rule in ``call/machine/`` decides what the call does.

The dialect of the voice model asks for ``builtin_definitions`` when it configures its session, and for ``tool_event``
when the model calls a function. Arguments of built-in tools are checked in full; those of the tools that a profile adds
(``OwnTool``) are checked against their schemas by what runs them (``tools/runner.py``).

This is part of a call's vocabulary, below the dialplan, so that profiles can name the tools.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Never, Protocol

from gateway.call.events import AgentEvent, CallEvent, Scalar, ToolAsked
from gateway.ids import CallId

BuiltinTool = Literal[
    "hang_up", "transfer_call", "send_dtmf", "wait", "leave_message", "start_recording", "pause_recording"
]
"""Names of the built-in tools, as a profile lists them."""

DIGITS = re.compile(r"[0-9*#A-Da-dwW,]{1,64}")
"""What ``send_dtmf`` takes: keys, and pauses as in dial strings."""

MAX_ARGUMENTS = 65_536
"""Characters of arguments that are read."""

MAX_REASON = 200
"""Characters of the reason of ``hang_up`` that are kept."""

MAX_SUMMARY = 2000
"""Most characters of the summary for a colleague before a warm transfer."""


@dataclass(frozen=True, slots=True)
class BuiltinToolAsked(AgentEvent):
    """The agent called a tool of the gateway's own; ``tool_call_id`` is the service's id of that call."""

    tool_call_id: str


@dataclass(frozen=True, slots=True)
class HangUpAsked(BuiltinToolAsked):
    """The agent wants the call to end (built-in tool ``hang_up``) once its last words were heard."""

    note = "hang_up_asked"

    reason: str


@dataclass(frozen=True, slots=True)
class TransferAsked(BuiltinToolAsked):
    """
    The agent wants the caller transferred (built-in tool ``transfer_call``) once its last words were heard.

    Attributes:
        tool_call_id: empty if a key of the caller asks for it, not the agent.
        target: SIP or tel URI.
        warm: the agent speaks with the target first, who takes the caller by the key 1 or declines by 2.
        summary: what the agent is to tell a warm target.
    """

    note = "transfer_asked"

    target: str
    warm: bool = False
    summary: str = ""

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        return {"tool_call_id": self.tool_call_id, "target": self.target, "warm": self.warm}


@dataclass(frozen=True, slots=True)
class DigitsAsked(BuiltinToolAsked):
    """The agent wants DTMF digits sent to the caller's side (built-in tool ``send_dtmf``)."""

    note = "digits_asked"

    digits: str


@dataclass(frozen=True, slots=True)
class WaitAsked(BuiltinToolAsked):
    """The agent wants to stay silent until somebody speaks to it (built-in tool ``wait``)."""

    note = "wait_asked"


@dataclass(frozen=True, slots=True)
class LeaveMessageAsked(BuiltinToolAsked):
    """The agent reached a voicemail (built-in tool ``leave_message``): it leaves its message, then the call ends."""

    note = "leave_message_asked"


@dataclass(frozen=True, slots=True)
class RecordingAsked(BuiltinToolAsked):
    """The agent wants recording on, or paused (built-in tools ``start_recording``, ``pause_recording``)."""

    note = "recording_asked"

    on: bool


class OfferedTarget(Protocol):
    """A target that the agent may transfer the caller to."""

    @property
    def uri(self) -> str:
        """SIP or tel URI."""

    @property
    def warm(self) -> bool:
        """Whether the agent speaks with the target first."""


class OwnTool(Protocol):
    """A tool that a profile adds, as it is offered to the model."""

    @property
    def name(self) -> str:
        """What the model calls it."""

    @property
    def description(self) -> str:
        """What it does, for the model."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON Schema of its arguments, an object."""


class ToolDefinition(NamedTuple):
    """The plain form of an ``OwnTool``."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """
    What one agent may call.

    Attributes:
        builtin: names of built-in tools.
        transfer_targets: the targets that ``transfer_call`` may name.
        own: names of the tools that the profile adds.
    """

    builtin: tuple[BuiltinTool, ...] = ()
    transfer_targets: Mapping[str, OfferedTarget] = field(default_factory=dict)
    own: frozenset[str] = frozenset()


def builtin_definitions(offered: OfferedTools) -> tuple[ToolDefinition, ...]:
    """Return the built-in tools of ``offered``, for the model."""
    return tuple(_definition(name, _TOOLS[name].shown(offered)) for name in offered.builtin)


def tool_event(call_id: CallId, tool_call_id: str, name: str, arguments: str, offered: OfferedTools) -> CallEvent | str:
    """
    Return what a finished function call asks of the call; else, in words for the model, why it cannot be done.

    Args:
        call_id: our id of the call.
        tool_call_id: the service's id of the function call.
        name: the function, as the model spelled it.
        arguments: JSON text from the model, in any shape.
        offered: what the model may call.
    """
    if name not in offered.builtin and name not in offered.own:
        known = ", ".join((*offered.builtin, *sorted(offered.own))) or "none"
        return f"there is no tool {name!r}; there is: {known}"
    given = _read(arguments)
    if isinstance(given, str):
        return given
    if name in offered.own:
        return ToolAsked(call_id, tool_call_id, name, arguments)
    return _TOOLS[name].asked(_Asked(call_id, tool_call_id, given, offered))


def _read(arguments: str) -> dict[str, Any] | str:
    if len(arguments) > MAX_ARGUMENTS:
        return "the arguments are too long; shorten them"
    try:
        given = json.loads(arguments, parse_constant=_refuse_constant) if arguments.strip() else {}
    except (ValueError, RecursionError):
        return "the arguments are not valid JSON; call the tool again with a JSON object"
    return given if isinstance(given, dict) else "the arguments are not a JSON object; call the tool again with one"


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")  # RFC 8259 section 6


class _Asked(NamedTuple):
    """One call of a tool: our id of the call, the service's id of the function call, arguments, what may be called."""

    call_id: CallId
    tool_call_id: str
    given: Mapping[str, Any]
    offered: OfferedTools


class _Shown(NamedTuple):
    """What the model is shown of a tool: its description, a JSON Schema for each argument, those it must give."""

    description: str
    arguments: Mapping[str, Mapping[str, Any]] = {}
    required: tuple[str, ...] = ()


class _Builtin(NamedTuple):
    """A tool: its event, what the model is shown, and what a call of it asks for or why it cannot be done."""

    event: type[BuiltinToolAsked]
    shown: Callable[[OfferedTools], _Shown]
    asked: Callable[[_Asked], CallEvent | str]


def _definition(name: str, shown: _Shown) -> ToolDefinition:
    schema: dict[str, Any] = {"type": "object", "properties": dict(shown.arguments), "additionalProperties": False}
    if shown.required:
        schema["required"] = list(shown.required)
    return ToolDefinition(name, shown.description, schema)


def _plain(event: type[BuiltinToolAsked], description: str, **fields: Scalar) -> _Builtin:
    """Return a tool without arguments, whose event has these fields."""
    shown = _Shown(description)
    return _Builtin(event, lambda _: shown, lambda asked: event(asked.call_id, asked.tool_call_id, **fields))


def _hang_up(asked: _Asked) -> CallEvent | str:
    reason = asked.given.get("reason", "")
    return HangUpAsked(asked.call_id, asked.tool_call_id, reason[:MAX_REASON] if isinstance(reason, str) else "")


def _show_hang_up(_: OfferedTools) -> _Shown:
    return _Shown(
        "End the call. Say goodbye first, in the same answer: the call ends when that has been heard.",
        {"reason": {"type": "string", "description": "why the call ends, in a few words, for the record"}},
    )


def _transfer(asked: _Asked) -> CallEvent | str:
    name = asked.given.get("target")
    targets = asked.offered.transfer_targets
    target = targets.get(name) if isinstance(name, str) else None
    if target is None:
        return f"target: {name!r} is nobody to transfer to; name one of {', '.join(targets)}"
    if not target.warm:
        return TransferAsked(asked.call_id, asked.tool_call_id, target.uri)
    summary = asked.given.get("summary")
    if not isinstance(summary, str) or not summary.strip():
        return f"summary: say in a few sentences what {name} shall be told before they take the caller"
    summary = summary.strip()[:MAX_SUMMARY]
    return TransferAsked(asked.call_id, asked.tool_call_id, target.uri, warm=True, summary=summary)


def _show_transfer(offered: OfferedTools) -> _Shown:
    description = "Transfer the caller to someone else. Say so first, in the same answer."
    target = {"type": "string", "enum": list(offered.transfer_targets), "description": "whom to transfer to"}
    warm = [name for name, each in offered.transfer_targets.items() if each.warm]
    if not warm:
        return _Shown(description, {"target": target}, ("target",))
    asks = "what they shall be told: who calls, what it is about, what was done so far"
    return _Shown(
        f"{description} You speak with {' or '.join(warm)} yourself before they take the caller, who waits meanwhile.",
        {"target": target, "summary": {"type": "string", "description": asks}},
        ("target", "summary"),
    )


def _send_dtmf(asked: _Asked) -> CallEvent | str:
    digits = asked.given.get("digits")
    if not isinstance(digits, str) or DIGITS.fullmatch(digits) is None:
        return "digits: give text of 1 to 64 of 0-9, *, #, A-D; w or a comma is a pause"
    return DigitsAsked(asked.call_id, asked.tool_call_id, digits)


def _show_dtmf(_: OfferedTools) -> _Shown:
    keys = "keys in order: 0-9, *, #, A-D; w or a comma is a pause"
    return _Shown(
        "Press keys of the telephone, for example to get through a menu that you hear.",
        {"digits": {"type": "string", "pattern": f"^{DIGITS.pattern}$", "description": keys}},
        ("digits",),
    )


_TOOLS: Mapping[str, _Builtin] = {
    "hang_up": _Builtin(HangUpAsked, _show_hang_up, _hang_up),
    "transfer_call": _Builtin(TransferAsked, _show_transfer, _transfer),
    "send_dtmf": _Builtin(DigitsAsked, _show_dtmf, _send_dtmf),
    "wait": _plain(
        WaitAsked,
        "Stay silent until someone speaks to you: when you are put on hold, hear music, or nobody talks to you.",
    ),
    "leave_message": _plain(
        LeaveMessageAsked,
        "Use it when you have reached a voicemail or an answering machine, not a person. Do not speak before: say your "
        "message after the answer of this tool, once and in full. The call ends when it has been heard.",
    ),
    "start_recording": _plain(RecordingAsked, "Record this call from now on, or go on after a pause.", on=True),
    "pause_recording": _plain(
        RecordingAsked,
        "Pause the recording of this call, for example before the caller says the number of a card.",
        on=False,
    ),
}

EVENTS: tuple[type[BuiltinToolAsked], ...] = tuple(dict.fromkeys(tool.event for tool in _TOOLS.values()))
"""The events of the built-in tools."""
