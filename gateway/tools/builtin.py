"""
The functions offered to the model, and what a call of one means: exactly one call event, or words for the model.

Nothing is carried out here. Arguments of the built-in tools are checked in full; those of the profile's own tools are
checked by who runs them, against their own schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Never, Protocol

from gateway.call.events import (
    CallEvent,
    DigitsAsked,
    HangUpAsked,
    LeaveMessageAsked,
    RecordingAsked,
    ToolAsked,
    TransferAsked,
    WaitAsked,
)
from gateway.ids import CallId

DIGITS = re.compile(r"[0-9*#A-Da-dwW,]{1,64}")
"""What ``send_dtmf`` takes: keys, and pauses as dial strings have them."""

MAX_ARGUMENTS = 65_536
"""Characters of arguments that are read."""

MAX_REASON = 200

MAX_SUMMARY = 2000
"""Characters of what a colleague is told before a warm transfer."""


class TransferTarget(Protocol):
    """Somebody the agent may transfer to."""

    @property
    def uri(self) -> str:
        """SIP or tel URI."""

    @property
    def warm(self) -> bool:
        """Whether the agent speaks with them first."""


class OwnTool(Protocol):
    """A tool of the profile's own, as it is offered; ``parameters`` is the JSON Schema of its arguments."""

    @property
    def name(self) -> str:
        """What the model calls it."""

    @property
    def description(self) -> str:
        """What it does, for the model."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON Schema of an object."""


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
        transfer_targets: whom ``transfer_call`` may name.
        own: names of the profile's own tools.
    """

    builtin: tuple[str, ...] = ()
    transfer_targets: Mapping[str, TransferTarget] = field(default_factory=dict)
    own: frozenset[str] = frozenset()


def builtin_definitions(offered: OfferedTools) -> tuple[ToolDefinition, ...]:
    """Return the built-in tools of ``offered``, for the model."""
    return tuple(_DEFINITIONS[name](offered) for name in offered.builtin)


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
    return _EVENTS[name](call_id, tool_call_id, given, offered)


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


def _hang_up(call_id: CallId, tool_call_id: str, given: dict[str, Any], _: OfferedTools) -> CallEvent | str:
    reason = given.get("reason", "")
    return HangUpAsked(call_id, tool_call_id, reason[:MAX_REASON] if isinstance(reason, str) else "")


def _transfer(call_id: CallId, tool_call_id: str, given: dict[str, Any], offered: OfferedTools) -> CallEvent | str:
    name = given.get("target")
    target = offered.transfer_targets.get(name) if isinstance(name, str) else None
    if target is None:
        return f"target: {name!r} is nobody to transfer to; name one of {', '.join(offered.transfer_targets)}"
    if not target.warm:
        return TransferAsked(call_id, tool_call_id, target.uri)
    summary = given.get("summary")
    if not isinstance(summary, str) or not summary.strip():
        return f"summary: say in a few sentences what {name} shall be told before they take the caller"
    return TransferAsked(call_id, tool_call_id, target.uri, warm=True, summary=summary.strip()[:MAX_SUMMARY])


def _send_dtmf(call_id: CallId, tool_call_id: str, given: dict[str, Any], _: OfferedTools) -> CallEvent | str:
    digits = given.get("digits")
    if not isinstance(digits, str) or DIGITS.fullmatch(digits) is None:
        return "digits: give text of 1 to 64 of 0-9, *, #, A-D; w or a comma is a pause"
    return DigitsAsked(call_id, tool_call_id, digits)


def _wait(call_id: CallId, tool_call_id: str, _given: dict[str, Any], _: OfferedTools) -> CallEvent | str:
    return WaitAsked(call_id, tool_call_id)


def _leave_message(call_id: CallId, tool_call_id: str, _given: dict[str, Any], _: OfferedTools) -> CallEvent | str:
    return LeaveMessageAsked(call_id, tool_call_id)


def _start_recording(call_id: CallId, tool_call_id: str, _given: dict[str, Any], _: OfferedTools) -> CallEvent | str:
    return RecordingAsked(call_id, tool_call_id, on=True)


def _pause_recording(call_id: CallId, tool_call_id: str, _given: dict[str, Any], _: OfferedTools) -> CallEvent | str:
    return RecordingAsked(call_id, tool_call_id, on=False)


_EVENTS: Mapping[str, Callable[[CallId, str, dict[str, Any], OfferedTools], CallEvent | str]] = {
    "hang_up": _hang_up,
    "transfer_call": _transfer,
    "send_dtmf": _send_dtmf,
    "wait": _wait,
    "leave_message": _leave_message,
    "start_recording": _start_recording,
    "pause_recording": _pause_recording,
}


def _function(name: str, description: str, *required: str, **properties: dict[str, Any]) -> ToolDefinition:
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return ToolDefinition(name, description, schema)


def _hang_up_definition(_: OfferedTools) -> ToolDefinition:
    return _function(
        "hang_up",
        "End the call. Say goodbye first, in the same answer: the call ends when that has been heard.",
        reason={"type": "string", "description": "why the call ends, in a few words, for the record"},
    )


def _transfer_definition(offered: OfferedTools) -> ToolDefinition:
    description = "Transfer the caller to someone else. Say so first, in the same answer."
    target = {"type": "string", "enum": list(offered.transfer_targets), "description": "whom to transfer to"}
    warm = [name for name, each in offered.transfer_targets.items() if each.warm]
    if not warm:
        return _function("transfer_call", description, "target", target=target)
    return _function(
        "transfer_call",
        f"{description} You speak with {' or '.join(warm)} yourself before they take the caller, who waits meanwhile.",
        "target",
        "summary",
        target=target,
        summary={
            "type": "string",
            "description": "what they shall be told: who calls, what it is about, what was done so far",
        },
    )


def _dtmf_definition(_: OfferedTools) -> ToolDefinition:
    return _function(
        "send_dtmf",
        "Press keys of the telephone, for example to get through a menu that you hear.",
        "digits",
        digits={
            "type": "string",
            "pattern": f"^{DIGITS.pattern}$",
            "description": "keys in order: 0-9, *, #, A-D; w or a comma is a pause",
        },
    )


def _wait_definition(_: OfferedTools) -> ToolDefinition:
    return _function(
        "wait",
        "Stay silent until someone speaks to you: when you are put on hold, hear music, or nobody talks to you.",
    )


def _message_definition(_: OfferedTools) -> ToolDefinition:
    return _function(
        "leave_message",
        "Use it when you have reached a voicemail or an answering machine, not a person. Do not speak before: say your "
        "message after the answer of this tool, once and in full. The call ends when it has been heard.",
    )


def _start_recording_definition(_: OfferedTools) -> ToolDefinition:
    return _function("start_recording", "Record this call from now on, or go on after a pause.")


def _pause_recording_definition(_: OfferedTools) -> ToolDefinition:
    return _function(
        "pause_recording",
        "Pause the recording of this call, for example before the caller says the number of a card.",
    )


_DEFINITIONS: Mapping[str, Callable[[OfferedTools], ToolDefinition]] = {
    "hang_up": _hang_up_definition,
    "transfer_call": _transfer_definition,
    "send_dtmf": _dtmf_definition,
    "wait": _wait_definition,
    "leave_message": _message_definition,
    "start_recording": _start_recording_definition,
    "pause_recording": _pause_recording_definition,
}
