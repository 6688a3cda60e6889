"""
The responses of a session: how one is asked for, and what became of it.

``ResponseRequests`` turns what is owed (``core/owed.py``) into ``response.create``. ``Responses`` takes how each ended,
settles the debts with it, and returns what the call is to learn of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import structlog

from gateway.call.events import (
    AgentFailed,
    AnnouncementFailed,
    AnnouncementSaid,
    AnswerCame,
    AnswerLate,
    ApologyAsked,
    CallEvent,
    Noted,
)
from gateway.errors import AgentLost, AgentRefused
from gateway.ids import CallId
from gateway.upstream.core.debts import (
    Ask,
    Came,
    Cause,
    Debt,
    GiveUp,
    Missed,
    Move,
    Overdue,
    PlaySound,
    Renew,
    Said,
    Unsaid,
    Why,
    Wish,
)
from gateway.upstream.core.dialect import RenewSession, UpstreamEvent
from gateway.upstream.core.owed import EndedResponses, Owed
from gateway.upstream.realtime.failures import BUSY, NO_ANSWER, OTHER, FailureKind, FailureSource, find_row
from gateway.upstream.realtime.problems import Problems, stated_delay_s, words_of
from gateway.upstream.realtime.wire.client import ResponseCreate, ResponseOverrides
from gateway.upstream.realtime.wire.objects import ErrorDetails, ServerResponse, StatusDetails

_log = structlog.get_logger(__name__)

UNSTATED_S = 1.0
"""How long a service is left alone whose rate limit states no delay."""

_WRITTEN = frozenset({"output_text", "text"})


class ResponseRequests:
    """
    Makes ``response.create`` of what is asked for; outlives the session, as does what it learns of the service.

    Args:
        instructions: of the agent. Those of a response replace the session's, so they are repeated in it.
    """

    def __init__(self, instructions: str = "") -> None:
        self._instructions = instructions
        self._refused: frozenset[str] = frozenset()  # fields of a response that the service does not take

    def do_without(self, fields: Iterable[str]) -> None:
        """Take note that the service refuses these fields: instructions become a message before the response."""
        self._refused |= frozenset(fields)

    def make(self, wish: Wish) -> tuple[ResponseCreate, str]:
        """Return the event, and the text of a message that belongs before it (empty: none)."""
        fields = self._fields(wish.ask) if wish.ask is not None else {}
        hint = wish.hint
        if "instructions" in self._refused and "instructions" in fields:
            hint = "\n".join(filter(None, (str(fields["instructions"]), wish.hint)))
        fields = {name: value for name, value in fields.items() if name not in self._refused}
        if not fields:
            return ResponseCreate(event_id=wish.event_id), hint
        return ResponseCreate(event_id=wish.event_id, response=ResponseOverrides.model_validate(fields)), hint

    def _fields(self, ask: Ask) -> dict[str, object]:
        fields: dict[str, object] = {}
        if ask.task:
            told = ask.task if ask.alone or not self._instructions else f"{self._instructions}\n\n{ask.task}"
            fields["instructions"] = told
        if not ask.tools:
            fields["tool_choice"] = "none"
        if ask.aloud:
            fields["output_modalities"] = ("audio",)
        return fields


class Responses:
    """
    The responses of one session.

    Args:
        call_id: goes into every event.
        debts: what the agent owes the caller; outlives the session.
        requests: makes the events that ask for responses; outlives the session.
        ended: responses that are over.
        problems: logs and notes those that came to nothing.
    """

    def __init__(
        self, call_id: CallId, debts: Owed, requests: ResponseRequests, ended: EndedResponses, problems: Problems
    ) -> None:
        self._call_id = call_id
        self._owed = debts
        self._requests = requests
        self._ended = ended
        self._problems = problems
        self._written: str | None = None  # response of which text came

    def wrote(self, response_id: str | None) -> None:
        """Take note that a response, or the active one, comes as text."""
        self._written = response_id or self._owed.active_id
        self._owed.moved(response_id)

    def done(self, response: ServerResponse, *, called: bool, speaking: bool) -> list[UpstreamEvent]:
        """
        Take ``response.done``.

        Args:
            response: as it ended.
            called: it called tools, which take the place of speech.
            speaking: the caller speaks.
        """
        stale = response.id in self._ended
        self._ended.add(response.id)
        events = self._reported(response)
        if stale and response.id != self._owed.active_id:
            return events
        details = response.status_details or StatusDetails()
        debts, spoke, given_up = self._owed.ended(response.id)
        cut = response.status == "cancelled" and (details.reason == "turn_detected" or speaking)
        error = self._error_of(response)
        if given_up:
            return events
        if cut or stale:
            self._owed.turned(debts, speaking=speaking)
        elif response.status == "failed":
            return events + self._failed(debts, error)
        elif response.status == "incomplete":
            self._owed.missed(debts, Why.INCOMPLETE, error.message or "")
        elif response.status == "cancelled":
            self._owed.missed(debts, Why.CANCELLED, f"cancelled by the service: {details.reason or 'no reason given'}")
        elif spoke or called:
            self._owed.paid(debts, spoke=spoke)
        elif self._is_written(response):
            self._owed.missed(debts, Why.WRITTEN, "text (output_text) came instead of speech")
        else:
            self._owed.missed(debts, Why.EMPTY, "completed without any output")
        return events

    def refused(self, error: ErrorDetails) -> list[UpstreamEvent]:
        """Take an ``error`` event; nothing when it is about no response."""
        fields = _refused_fields(error)
        if error.event_id is None and error.code != BUSY and not (fields or _may_concern_response(error)):
            self._owed.hurry()
            return []
        row = find_row(FailureSource.RESPONSE, error.code, error.type)
        delay_s = _delay_s(error)
        mine = self._owed.refused(error.event_id, words_of(error), busy=error.code == BUSY, delay_s=delay_s)
        if mine:
            self._requests.do_without(fields)
        return [self._refusal(error)] if mine and row.kind is FailureKind.REFUSED else []

    def reports(self) -> list[UpstreamEvent]:
        """Return what the call is to learn of its debts since the last time, in order; nothing is returned twice."""
        return [each for move in self._owed.take_moves() for each in self._events_of(move)]

    def _failed(self, debts: list[Debt], error: ErrorDetails) -> list[UpstreamEvent]:
        if find_row(FailureSource.RESPONSE, error.code, error.type).kind is FailureKind.REFUSED:
            return [self._refusal(error)]
        self._owed.missed(debts, Why.FAILED, words_of(error), _delay_s(error))
        return []

    def _refusal(self, error: ErrorDetails) -> AgentFailed:
        refused = AgentRefused(f"the service no longer answers: {words_of(error)}", code=error.code)
        return AgentFailed(self._call_id, refused)

    def _error_of(self, response: ServerResponse) -> ErrorDetails:
        details = response.status_details or StatusDetails()
        return self._problems.cleaned(details.error or ErrorDetails(code=details.reason, message=details.reason))

    def _reported(self, response: ServerResponse) -> list[UpstreamEvent]:
        if response.status not in ("failed", "incomplete"):
            return []
        name = f"response_{response.status}"
        return [*self._problems.tell(name, self._error_of(response), each=True, response_id=response.id)]

    def _is_written(self, response: ServerResponse) -> bool:
        parts = [part for item in response.output or () for part in item.content or ()]
        return self._written == response.id or any(part.type in _WRITTEN for part in parts)

    def _events_of(self, move: Move) -> list[UpstreamEvent]:
        match move:
            case Missed():
                return [self._missed(move)]
            case Overdue():
                return [AnswerLate(self._call_id)]
            case Came():
                return [AnswerCame(self._call_id)]
            case PlaySound(sound=sound):
                return [ApologyAsked(self._call_id, sound)]
            case Renew(detail=detail):
                return [RenewSession(detail)]
            case GiveUp(detail=detail):
                return [AgentFailed(self._call_id, AgentLost(detail, code=NO_ANSWER))]
            case Said(cause=Cause.ANNOUNCEMENT):
                return [AnnouncementSaid(self._call_id)]
            case Unsaid(cause=Cause.ANNOUNCEMENT, detail=detail):
                return [AnnouncementFailed(self._call_id, detail)]
            case _:
                return []

    def _missed(self, move: Missed) -> CallEvent:
        fields: dict[str, str | int | float] = {
            "owed_for": move.cause.value,
            "why": move.why.value,
            "detail": move.detail,
            "tries": move.tries,
            "then": move.then,
        }
        _log.warning("answer_missing", call_id=self._call_id, **fields)
        return Noted(self._call_id, "answer_missing", fields)


def _delay_s(error: ErrorDetails) -> float:
    stated_s = stated_delay_s(error.message)
    return UNSTATED_S if not stated_s and error.code == "rate_limit_exceeded" else stated_s


def _may_concern_response(error: ErrorDetails) -> bool:
    """Return whether an error that names no event of ours may be about the response asked for."""
    row = find_row(FailureSource.RESPONSE, error.code)
    return error.type == "server_error" or row.keys != OTHER or error.code == "server_error"


def _refused_fields(error: ErrorDetails) -> frozenset[str]:
    """Return the fields of a ``response.create`` that a service does not take, where an error names any."""
    named = re.findall(r"\bresponse\.(\w+)", f"{error.param or ''} {error.message or ''}")
    return frozenset(named) & frozenset(ResponseOverrides.model_fields)
