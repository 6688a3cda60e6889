"""
What becomes of a failure of the service: one table for every way it can say no, or be gone.

``docs/realtime.md`` shows ``TABLE`` as ``as_markdown`` prints it. Sources: RFC 6455 section 7.4.1 for the close codes
below 3000, the Realtime API's error codes and its own close codes (3000, 4000) for the rest.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from gateway.errors import AgentError, AgentLost, AgentRefused
from gateway.upstream.realtime.problems import words_of
from gateway.upstream.realtime.wire.objects import ErrorDetails


class Kind(StrEnum):
    """What a failure means for the session."""

    REFUSED = "refused"
    LOST = "lost"
    REJECTED = "rejected event"
    FAILED = "failed response"


class Retry(IntEnum):
    """Whether the same is tried again; the higher, the stricter."""

    BACKOFF = 0
    ONCE = 1
    NEVER = 2


class Source(StrEnum):
    """Where a failure shows."""

    CONNECT = "connecting"
    HTTP = "HTTP status"
    EARLY_ERROR = "`error` before readiness"
    ERROR = "`error` in the session"
    CLOSE = "close code"
    STALLED = "half-open connection"
    RESPONSE = "failed response"


@dataclass(frozen=True, slots=True)
class Row:
    """
    One line of the table.

    Attributes:
        keys: statuses, close codes or error codes; an empty tuple is every other.
        what: the keys in words, for people.
    """

    source: Source
    keys: Container[int | str]
    what: str
    kind: Kind
    retry: Retry
    note: str = ""


BUSY = "conversation_already_has_active_response"
NO_ANSWER = "no_answer"
"""Code of an agent that is given up because it answers no more; not the service's."""

OTHER = ()
TABLE: tuple[Row, ...] = (
    Row(Source.CONNECT, {"certificate"}, "certificate not trusted", Kind.REFUSED, Retry.NEVER),
    Row(
        Source.CONNECT,
        {"held_back"},
        "not even tried: the service is away",
        Kind.LOST,
        Retry.BACKOFF,
        "see [below](#while-the-service-is-away)",
    ),
    Row(Source.CONNECT, OTHER, "no route, no name, no answer in time", Kind.LOST, Retry.BACKOFF),
    Row(Source.HTTP, range(300, 400), "3xx", Kind.LOST, Retry.NEVER, "the key goes to the configured service alone"),
    Row(
        Source.HTTP,
        {408, 409, 423, 425, 429},
        "408, 409, 423, 425, 429",
        Kind.LOST,
        Retry.BACKOFF,
        "`Retry-After` is a floor",
    ),
    Row(Source.HTTP, range(500, 600), "5xx", Kind.LOST, Retry.BACKOFF, "`Retry-After` is a floor"),
    Row(Source.HTTP, OTHER, "400, 401, 403, 404 and any other", Kind.REFUSED, Retry.NEVER),
    Row(Source.EARLY_ERROR, {"server_error"}, "`server_error`", Kind.LOST, Retry.BACKOFF),
    Row(Source.EARLY_ERROR, {"rate_limit_exceeded"}, "`rate_limit_exceeded`", Kind.LOST, Retry.BACKOFF),
    Row(Source.EARLY_ERROR, {"session_expired"}, "`session_expired`", Kind.LOST, Retry.BACKOFF, "a new session"),
    Row(
        Source.EARLY_ERROR,
        {
            *("invalid_api_key", "insufficient_permissions", "invalid_model", "missing_model"),
            *("beta_api_shape_disabled", "insufficient_quota"),
        },
        "`invalid_api_key`, `insufficient_permissions`, `invalid_model`, `missing_model`, `beta_api_shape_disabled`, "
        "`insufficient_quota`",
        Kind.REFUSED,
        Retry.NEVER,
    ),
    Row(
        Source.EARLY_ERROR,
        OTHER,
        "any other, such as a rejected `session.update`",
        Kind.REFUSED,
        Retry.NEVER,
        "a session on its defaults is no agent; the parameter is named",
    ),
    Row(
        Source.ERROR,
        {BUSY},
        "`conversation_already_has_active_response`",
        Kind.REJECTED,
        Retry.ONCE,
        "asked again after `response.done`",
    ),
    Row(Source.ERROR, OTHER, "any other", Kind.REJECTED, Retry.NEVER, "final only if a CLOSE follows"),
    Row(
        Source.CLOSE,
        {1000},
        "1000 unasked",
        Kind.LOST,
        Retry.ONCE,
        "after readiness, without an `error`: an orderly end, not a loss",
    ),
    Row(Source.CLOSE, {1001}, "1001", Kind.LOST, Retry.BACKOFF, "expired or going away: a new session"),
    Row(Source.CLOSE, {1005}, "1005", Kind.LOST, Retry.ONCE, "a proxy's cut; may stand for 4000"),
    Row(Source.CLOSE, {1006}, "1006, no CLOSE at all", Kind.LOST, Retry.BACKOFF),
    Row(Source.CLOSE, {1011, 1012, 1013, 1014, 1015}, "1011 to 1015", Kind.LOST, Retry.BACKOFF),
    Row(Source.CLOSE, {1002, 1003, 1007, 1008, 1009}, "1002, 1003, 1007, 1008, 1009", Kind.REFUSED, Retry.NEVER),
    Row(Source.CLOSE, range(3000, 5000), "3000, 4000 and any other from 3000", Kind.REFUSED, Retry.NEVER),
    Row(Source.CLOSE, OTHER, "any other", Kind.LOST, Retry.NEVER),
    Row(
        Source.STALLED,
        OTHER,
        "nothing comes, not even a PONG; no data is taken",
        Kind.LOST,
        Retry.BACKOFF,
        "where data is not acknowledged, TCP ends: 1006",
    ),
    Row(
        Source.RESPONSE,
        {"rate_limit_exceeded"},
        "`rate_limit_exceeded`",
        Kind.FAILED,
        Retry.BACKOFF,
        "after the delay its message states, as `on_no_answer` says",
    ),
    Row(Source.RESPONSE, {"insufficient_quota"}, "`insufficient_quota`", Kind.REFUSED, Retry.NEVER, "the call ends"),
    Row(Source.RESPONSE, OTHER, "any other", Kind.FAILED, Retry.BACKOFF, "as `on_no_answer` says"),
)


def find_row(source: Source, *keys: int | str | None) -> Row:
    """Return the first row of ``source`` that names one of ``keys``, else its row for every other."""
    rows = [row for row in TABLE if row.source is source]
    return next((row for row in rows if any(key in row.keys for key in keys if key is not None)), rows[-1])


def judge_close(close_code: int | None, error_code: str | None, error_type: str | None) -> Row:
    """
    Judge the end of a connection.

    Args:
        close_code: of the CLOSE frame; None without one.
        error_code: code of the ``error`` event that was the last thing heard; None without one.
        error_type: its type.
    """
    closed = find_row(Source.CLOSE, 1006 if close_code is None else close_code)
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


def judge_status(status: int, error_code: str | None) -> Row:
    """Judge a handshake answered with an HTTP status that is not 101, and the error code in its body."""
    return _stricter(find_row(Source.HTTP, status), _named_error(error_code, None))


def retry_of(error: AgentError) -> Retry:
    """Tell whether a new session may be tried after ``error``."""
    if not isinstance(error, AgentLost) or error.code == NO_ANSWER:
        return Retry.NEVER
    if error.http_status is not None:
        return judge_status(error.http_status, error.code).retry
    if error.close_code is not None:
        return judge_close(error.close_code, error.code, None).retry
    return Retry.BACKOFF


def error_class(kind: Kind) -> type[AgentRefused] | type[AgentLost]:
    """Return the class of error that ends a session."""
    return AgentRefused if kind is Kind.REFUSED else AgentLost


def as_markdown(rows: Iterable[Row] = TABLE) -> str:
    """Return the table as it stands in the documents."""
    words = {Retry.NEVER: "no", Retry.ONCE: "once", Retry.BACKOFF: "yes, with back-off"}
    lines = ["| where | what | taken for | tried again | note |", "|---|---|---|---|---|"]
    lines += [f"| {row.source} | {row.what} | {row.kind} | {words[row.retry]} | {row.note} |" for row in rows]
    return "\n".join(lines) + "\n"


def _named_error(*keys: str | None) -> Row | None:
    row = find_row(Source.EARLY_ERROR, *keys)
    return None if row.keys == OTHER else row


def _stricter(row: Row, other: Row | None) -> Row:
    return row if other is None or other.retry <= row.retry else other
