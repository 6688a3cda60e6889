"""
What becomes of a failure of the service: one table for every way it can say no, or be gone.

``docs/realtime.md`` shows ``TABLE`` as ``as_markdown`` prints it. Sources: RFC 6455 section 7.4.1 for the close codes
below 3000, the Realtime API's error codes and its own close codes (3000, 4000) for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import AgentError, AgentLost, AgentRefused
from gateway.upstream.core.dialect import ConnectionFault, Retry
from gateway.upstream.realtime.problems import words_of
from gateway.upstream.realtime.wire.codec import parse_http_refusal
from gateway.upstream.realtime.wire.objects import ErrorDetails


class FailureKind(StrEnum):
    """What a failure means for the session."""

    REFUSED = "refused"
    LOST = "lost"
    REJECTED = "rejected event"
    FAILED = "failed response"


class FailureSource(StrEnum):
    """Where a failure shows."""

    CONNECT = "connecting"
    HTTP = "HTTP status"
    EARLY_ERROR = "`error` before readiness"
    ERROR = "`error` in the session"
    CLOSE = "close code"
    STALLED = "half-open connection"
    RESPONSE = "failed response"


@dataclass(frozen=True, slots=True)
class FailureRow:
    """
    One line of the table.

    Attributes:
        keys: statuses, close codes or error codes; an empty tuple is every other.
        what: the keys in words, for people.
    """

    source: FailureSource
    keys: Container[int | str]
    what: str
    kind: FailureKind
    retry: Retry
    note: str = ""


BUSY = "conversation_already_has_active_response"
NO_ANSWER = "no_answer"
"""Code of an agent that is given up because it answers no more; not the service's."""

OTHER = ()
TABLE: tuple[FailureRow, ...] = (
    FailureRow(
        FailureSource.CONNECT,
        {ConnectionFault.CERTIFICATE},
        "certificate not trusted",
        FailureKind.REFUSED,
        Retry.NEVER,
    ),
    FailureRow(
        FailureSource.CONNECT,
        {ConnectionFault.HELD_BACK},
        "not even tried: the service is away",
        FailureKind.LOST,
        Retry.BACKOFF,
        "see [below](#while-the-service-is-away)",
    ),
    FailureRow(FailureSource.CONNECT, OTHER, "no route, no name, no answer in time", FailureKind.LOST, Retry.BACKOFF),
    FailureRow(
        FailureSource.HTTP,
        range(300, 400),
        "3xx",
        FailureKind.LOST,
        Retry.NEVER,
        "the key goes to the configured service alone",
    ),
    FailureRow(
        FailureSource.HTTP,
        {408, 409, 423, 425, 429},
        "408, 409, 423, 425, 429",
        FailureKind.LOST,
        Retry.BACKOFF,
        "`Retry-After` is a floor",
    ),
    FailureRow(FailureSource.HTTP, range(500, 600), "5xx", FailureKind.LOST, Retry.BACKOFF, "`Retry-After` is a floor"),
    FailureRow(FailureSource.HTTP, OTHER, "400, 401, 403, 404 and any other", FailureKind.REFUSED, Retry.NEVER),
    FailureRow(FailureSource.EARLY_ERROR, {"server_error"}, "`server_error`", FailureKind.LOST, Retry.BACKOFF),
    FailureRow(
        FailureSource.EARLY_ERROR, {"rate_limit_exceeded"}, "`rate_limit_exceeded`", FailureKind.LOST, Retry.BACKOFF
    ),
    FailureRow(
        FailureSource.EARLY_ERROR,
        {"session_expired"},
        "`session_expired`",
        FailureKind.LOST,
        Retry.BACKOFF,
        "a new session",
    ),
    FailureRow(
        FailureSource.EARLY_ERROR,
        {
            *("invalid_api_key", "insufficient_permissions", "invalid_model", "missing_model"),
            *("beta_api_shape_disabled", "insufficient_quota"),
        },
        "`invalid_api_key`, `insufficient_permissions`, `invalid_model`, `missing_model`, `beta_api_shape_disabled`, "
        "`insufficient_quota`",
        FailureKind.REFUSED,
        Retry.NEVER,
    ),
    FailureRow(
        FailureSource.EARLY_ERROR,
        OTHER,
        "any other, such as a rejected `session.update`",
        FailureKind.REFUSED,
        Retry.NEVER,
        "a session on its defaults is no agent; the parameter is named",
    ),
    FailureRow(
        FailureSource.ERROR,
        {BUSY},
        "`conversation_already_has_active_response`",
        FailureKind.REJECTED,
        Retry.ONCE,
        "asked again after `response.done`",
    ),
    FailureRow(
        FailureSource.ERROR, OTHER, "any other", FailureKind.REJECTED, Retry.NEVER, "final only if a CLOSE follows"
    ),
    FailureRow(
        FailureSource.CLOSE,
        {1000},
        "1000 unasked",
        FailureKind.LOST,
        Retry.ONCE,
        "after readiness, without an `error`: an orderly end, not a loss",
    ),
    FailureRow(
        FailureSource.CLOSE, {1001}, "1001", FailureKind.LOST, Retry.BACKOFF, "expired or going away: a new session"
    ),
    FailureRow(FailureSource.CLOSE, {1005}, "1005", FailureKind.LOST, Retry.ONCE, "cut by a proxy; may conceal 4000"),
    FailureRow(FailureSource.CLOSE, {1006}, "1006, no CLOSE at all", FailureKind.LOST, Retry.BACKOFF),
    FailureRow(FailureSource.CLOSE, {1011, 1012, 1013, 1014, 1015}, "1011 to 1015", FailureKind.LOST, Retry.BACKOFF),
    FailureRow(
        FailureSource.CLOSE,
        {1002, 1003, 1007, 1008, 1009},
        "1002, 1003, 1007, 1008, 1009",
        FailureKind.REFUSED,
        Retry.NEVER,
    ),
    FailureRow(
        FailureSource.CLOSE, range(3000, 5000), "3000, 4000 and any other from 3000", FailureKind.REFUSED, Retry.NEVER
    ),
    FailureRow(FailureSource.CLOSE, OTHER, "any other", FailureKind.LOST, Retry.NEVER),
    FailureRow(
        FailureSource.STALLED,
        OTHER,
        "nothing comes, not even a PONG; no data is taken",
        FailureKind.LOST,
        Retry.BACKOFF,
        "where data is not acknowledged, TCP ends: 1006",
    ),
    FailureRow(
        FailureSource.RESPONSE,
        {"rate_limit_exceeded"},
        "`rate_limit_exceeded`",
        FailureKind.FAILED,
        Retry.BACKOFF,
        "after the delay its message states, as `on_no_answer` says",
    ),
    FailureRow(
        FailureSource.RESPONSE,
        {"insufficient_quota"},
        "`insufficient_quota`",
        FailureKind.REFUSED,
        Retry.NEVER,
        "the call ends",
    ),
    FailureRow(FailureSource.RESPONSE, OTHER, "any other", FailureKind.FAILED, Retry.BACKOFF, "as `on_no_answer` says"),
)


def find_row(source: FailureSource, *keys: int | str | None) -> FailureRow:
    """Return the first row of ``source`` that names one of ``keys``, else its row for every other."""
    rows = [row for row in TABLE if row.source is source]
    return next((row for row in rows if any(key in row.keys for key in keys if key is not None)), rows[-1])


def judge_close(close_code: int | None, error_code: str | None, error_type: str | None) -> FailureRow:
    """
    Judge the end of a connection.

    Args:
        close_code: of the CLOSE frame; None without one.
        error_code: code of the ``error`` event that was the last thing heard; None without one.
        error_type: its type.
    """
    closed = find_row(FailureSource.CLOSE, 1006 if close_code is None else close_code)
    return _stricter(closed, _named_error(error_code, error_type))


def error_of_close(
    close_code: int | None, reason: str, last_error: ErrorDetails | None, *, ready: bool
) -> AgentError | None:
    """
    Turn the end of a connection into an error.

    Args:
        close_code: of the CLOSE frame; None or 1006 without one.
        reason: its text without secrets; the service writes ``<error type>.<error code>``.
        last_error: the ``error`` event that was the last thing heard.
        ready: the session worked.

    Returns:
        ``AgentRefused`` or ``AgentLost``; None when a working session was closed in an orderly way.
    """
    if close_code == 1000 and ready and last_error is None:
        return None
    detail = "the service closed the session" if ready else "closed before the session was ready"
    if close_code is None or close_code == 1006:
        detail = "the connection broke off"
    said = last_error or ErrorDetails()
    if last_error is not None:
        detail += f": {words_of(last_error)}"
    elif reason:
        detail += f": {reason}"
    code = said.code if last_error is not None else (reason.partition(".")[2] or None)
    kind = error_class(judge_close(close_code, said.code, said.type).kind)
    return kind(f"{detail} (close code {close_code})", code=code, close_code=close_code)


def judge_status(status: int, error_code: str | None) -> FailureRow:
    """Judge a handshake answered with an HTTP status that is not 101, and the error code in its body."""
    return _stricter(find_row(FailureSource.HTTP, status), _named_error(error_code, None))


def retry_of(error: AgentError) -> Retry:
    """Tell whether a new session may be tried after ``error``."""
    if not isinstance(error, AgentLost) or error.code == NO_ANSWER:
        return Retry.NEVER
    if error.http_status is not None:
        return judge_status(error.http_status, error.code).retry
    if error.close_code is not None:
        return judge_close(error.close_code, error.code, None).retry
    return Retry.BACKOFF


def error_class(kind: FailureKind) -> type[AgentRefused] | type[AgentLost]:
    """Return the class of error that ends a session."""
    return AgentRefused if kind is FailureKind.REFUSED else AgentLost


class RealtimeJudge:
    """
    The ``Judge`` of the Realtime API: it looks failures up in ``TABLE``.

    Args:
        redact: takes secrets out of text.
    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact

    def connection_error(self, fault: ConnectionFault, detail: str) -> AgentError:
        """Return the error of a connection that cannot be made or goes no further."""
        source = FailureSource.STALLED if fault is ConnectionFault.STALLED else FailureSource.CONNECT
        return error_class(find_row(source, fault).kind)(self._redact(detail))

    def http_error(self, status: int, body: bytes) -> AgentError:
        """Return the error of a handshake that was refused; the service itself refuses after the 101 instead."""
        said = parse_http_refusal(body) or ErrorDetails()
        words, code = self._redact(said.message or ""), self._redact(said.code or "")
        detail = f"the service answered HTTP {status}" + (f": {words or code}" if words or code else "")
        kind = judge_status(status, code or None).kind
        return error_class(kind)(detail, code=code or None, http_status=status)

    def retry(self, error: AgentError) -> Retry:
        """Return whether a new session may be tried after an error."""
        return retry_of(error)


def as_markdown(rows: Iterable[FailureRow] = TABLE) -> str:
    """Return the table as printed in the documentation."""
    words = {Retry.NEVER: "no", Retry.ONCE: "once", Retry.BACKOFF: "yes, with back-off"}
    lines = ["| where | what | taken for | tried again | note |", "|---|---|---|---|---|"]
    lines += [f"| {row.source} | {row.what} | {row.kind} | {words[row.retry]} | {row.note} |" for row in rows]
    return "\n".join(lines) + "\n"


def _named_error(*keys: str | None) -> FailureRow | None:
    row = find_row(FailureSource.EARLY_ERROR, *keys)
    return None if row.keys == OTHER else row


def _stricter(row: FailureRow, other: FailureRow | None) -> FailureRow:
    return row if other is None or other.retry <= row.retry else other
