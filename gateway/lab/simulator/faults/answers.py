"""Faults of answers that come to nothing, or to something else than speech."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.lab.simulator.answer import (
    TRY_AGAIN_S,
    Cancelled,
    Crossed,
    Denied,
    Failed,
    Incomplete,
    ScriptedAnswer,
    ScriptedCall,
    ScriptedMcpCall,
    Stalled,
    Unanswered,
)
from gateway.lab.simulator.faults.fault import ALWAYS, AnswerFault, Fault, count, nothing, seconds

_NULL = "null"
_AFTER_ALL_S = 3600.0


@dataclass(frozen=True, slots=True)
class Change(AnswerFault):
    """Fields of answers that are other than the script, or the default, has them."""

    fields: Mapping[str, Any]

    def changed(self, answer: ScriptedAnswer) -> ScriptedAnswer:
        """Lay the fields over the answer."""
        return answer.model_copy(update=dict(self.fields))


@dataclass(frozen=True, slots=True)
class CutCalls(AnswerFault):
    """``cut_calls=failed``: answers that call functions are sent whole, and then end so."""

    end: Incomplete | Failed | Cancelled

    def changed(self, answer: ScriptedAnswer) -> ScriptedAnswer:
        """End those that call."""
        return answer.model_copy(update={"end": self.end}) if answer.calls else answer


@dataclass(frozen=True, slots=True)
class TellCalls(AnswerFault):
    """``tell_calls=deltas``: calls are announced and streamed but never done; ``done``: in ``response.done`` alone."""

    told: Literal["deltas", "done"]

    def changed(self, answer: ScriptedAnswer) -> ScriptedAnswer:
        """Change how its calls are announced."""
        parts = (
            part.model_copy(update={"told": self.told}) if isinstance(part, ScriptedCall) else part
            for part in answer.output
        )
        return answer.model_copy(update={"output": tuple(parts)})


def fail(value: str) -> Fault:
    """Read ``CODE``, ``CODE@SECONDS`` (after so much speech), ``CODE:TIMES``, and for CODE three more words."""
    told, _, times = value.partition(":")
    code, after_s = _with_seconds(told, 0.0)
    match code:
        case "no_error" | "no_details":
            end = Failed(status="failed", code=None, told=code, after_s=after_s)
        case _:
            end = Failed(status="failed", code=_code(code), after_s=after_s)
    return Change({"end": end}, numbers=_first(times))


def try_again(value: str) -> Fault:
    """Read ``SECONDS``."""
    end = Failed(status="failed", code="rate_limit_exceeded", try_again_s=seconds(value))
    return Change({"end": end})


def incomplete(value: str) -> Fault:
    """Read ``REASON``, ``REASON@SECONDS`` (after so much speech; half-way by default) or ``REASON:TIMES``."""
    told, _, times = value.partition(":")
    reason, at, after = told.partition("@")
    match reason:
        case "content_filter" | "max_output_tokens":
            end = Incomplete(status="incomplete", reason=reason, after_s=seconds(after) if at else None)
            return Change({"end": end}, numbers=_first(times))
    raise ValueError("give content_filter or max_output_tokens")


def cancelled(value: str) -> Fault:
    """Read nothing, or ``SECONDS`` of speech before it."""
    return Change({"end": Cancelled(status="cancelled", after_s=seconds(value or "0"))})


def empty(value: str) -> Fault:
    """Read no value."""
    nothing(value)
    return Change({"output": ()})


def comes_as(value: str) -> Fault:
    """Read ``text`` or ``transcript``."""
    if value not in ("text", "transcript"):
        raise ValueError("give text or transcript")
    return Change({"comes_as": value})


def stall(value: str) -> Fault:
    """Read nothing, ``SECONDS`` of speech before it, or ``SECONDS:deaf``."""
    after, _, deaf = value.partition(":")
    if deaf not in ("", "deaf"):
        raise ValueError("give seconds, or seconds:deaf")
    return Change({"end": Stalled(status="stalled", after_s=seconds(after or "0"), hears_cancel=not deaf)})


def deny(value: str) -> Fault:
    """Read ``CODE``, ``CODE@SECONDS`` (what a rate limit states) or either with ``:nameless``."""
    told, names_event = _named(value)
    code, try_again_s = _with_seconds(told, TRY_AGAIN_S)
    end = Denied(status="denied", code=_code(code), try_again_s=try_again_s, names_event=names_event)
    return Change({"end": end})


def unanswered(value: str) -> Fault:
    """Read no value."""
    nothing(value)
    return Change({"end": Unanswered(status="ignored")})


def crossed(value: str) -> Fault:
    """Read ``SECONDS``, ``done`` or ``done+SECONDS``, each alone or with ``:nameless``."""
    when, names_event = _named(value.replace(" ", "+"))  # what a bare + means in a URL's query
    event, _, late = when.partition("+") if when.startswith("done") else ("", "", when)
    if event not in ("", "done"):
        raise ValueError("give seconds, done, or done+seconds")
    late_s = seconds(late) if late else 0.0
    return Change({"crossed": Crossed(after_done=event == "done", late_s=late_s, names_event=names_event)})


def calls(value: str) -> Fault:
    """Read ``FUNCTION``."""
    if not value:
        raise ValueError("give the name of a function")
    return Change({"output": (ScriptedCall(call=value),)})


def cut_calls(value: str) -> Fault:
    """Read ``incomplete``, ``failed`` or ``cancelled``."""
    match value:
        case "incomplete":
            return CutCalls(Incomplete(status="incomplete", after_s=_AFTER_ALL_S))
        case "failed":
            return CutCalls(Failed(status="failed", code="server_error", after_s=_AFTER_ALL_S))
        case "cancelled":
            return CutCalls(Cancelled(status="cancelled", after_s=_AFTER_ALL_S))
    raise ValueError("give incomplete, failed or cancelled")


def tell_calls(value: str) -> Fault:
    """Read ``deltas`` or ``done``."""
    match value:
        case "deltas" | "done":
            return TellCalls(value)
    raise ValueError("give deltas or done")


def mcp(value: str) -> Fault:
    """Read ``completed``, ``failed`` or ``never``, each alone or with ``:early``, ``:goes_on``, ``:approval``."""
    ends, *more = value.split(":")
    if ends not in ("completed", "failed", "never") or not {"early", "goes_on", "approval"}.issuperset(more):
        raise ValueError("give completed, failed or never, and behind colons early, goes_on, approval")
    fields = {"mcp": "search", "ends": ends} | dict.fromkeys(more, True)
    return Change({"output": (ScriptedMcpCall.model_validate(fields),)})


def _first(times: str) -> range:
    return range(1, count(times, ALWAYS) + 1)


def _code(told: str) -> str | None:
    if not told:
        raise ValueError("give a code, or null")
    return None if told == _NULL else told


def _with_seconds(told: str, default: float) -> tuple[str, float]:
    name, at, number = told.partition("@")
    return name, seconds(number) if at else default


def _named(value: str) -> tuple[str, bool]:
    told, _, nameless = value.partition(":")
    if nameless not in ("", "nameless"):
        raise ValueError("behind the colon give nameless, or nothing")
    return told, not nameless
