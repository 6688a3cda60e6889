"""The table of what becomes of a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import AgentError, AgentLost, AgentRefused, WireError
from gateway.upstream.core.dialect import Retry
from gateway.upstream.realtime.failures import (
    TABLE,
    FailureKind,
    FailureSource,
    as_markdown,
    error_of_close,
    find_row,
    judge_close,
    judge_status,
    retry_of,
)
from gateway.upstream.realtime.wire.objects import ErrorDetails

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[4] / "docs"


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        *((status, FailureKind.REFUSED, Retry.NEVER) for status in (400, 401, 403, 404, 410, 451)),
        *((status, FailureKind.LOST, Retry.BACKOFF) for status in (408, 409, 423, 425, 429, 500, 502, 503, 504, 599)),
        *((status, FailureKind.LOST, Retry.NEVER) for status in (301, 302, 307)),
    ],
)
def test_a_status_is_judged(status: int, kind: FailureKind, retry: Retry) -> None:
    row = judge_status(status, None)

    assert (row.kind, row.retry) == (kind, retry)


@pytest.mark.parametrize(
    ("close_code", "kind", "retry"),
    [
        (1000, FailureKind.LOST, Retry.ONCE),
        (1001, FailureKind.LOST, Retry.BACKOFF),
        (1002, FailureKind.REFUSED, Retry.NEVER),
        (1003, FailureKind.REFUSED, Retry.NEVER),
        (1005, FailureKind.LOST, Retry.ONCE),
        (1006, FailureKind.LOST, Retry.BACKOFF),
        (None, FailureKind.LOST, Retry.BACKOFF),
        (1007, FailureKind.REFUSED, Retry.NEVER),
        (1008, FailureKind.REFUSED, Retry.NEVER),
        (1009, FailureKind.REFUSED, Retry.NEVER),
        (1011, FailureKind.LOST, Retry.BACKOFF),
        (1012, FailureKind.LOST, Retry.BACKOFF),
        (1013, FailureKind.LOST, Retry.BACKOFF),
        (1015, FailureKind.LOST, Retry.BACKOFF),
        (3000, FailureKind.REFUSED, Retry.NEVER),
        (4000, FailureKind.REFUSED, Retry.NEVER),
        (4004, FailureKind.REFUSED, Retry.NEVER),
        (2999, FailureKind.LOST, Retry.NEVER),
    ],
)
def test_a_close_code_is_judged(close_code: int | None, kind: FailureKind, retry: Retry) -> None:
    row = judge_close(close_code, None, None)

    assert (row.kind, row.retry) == (kind, retry)


def test_a_proxy_that_cuts_a_refused_connection_does_not_make_it_worth_another_try() -> None:
    assert judge_close(1005, "invalid_model", "invalid_request_error").retry is Retry.NEVER
    assert judge_status(429, "insufficient_quota").retry is Retry.NEVER


def test_an_error_that_means_nothing_for_the_connection_leaves_the_verdict_to_the_close_code() -> None:
    assert judge_close(1006, "response_cancel_not_active", "invalid_request_error").retry is Retry.BACKOFF


@pytest.mark.parametrize("code", ["invalid_api_key", "invalid_model", "unknown_parameter", None])
def test_an_error_before_readiness_is_a_refusal(code: str | None) -> None:
    assert find_row(FailureSource.EARLY_ERROR, code, "invalid_request_error").kind is FailureKind.REFUSED


@pytest.mark.parametrize(("code", "error_type"), [("server_error", None), (None, "server_error")])
def test_trouble_of_the_server_passes(code: str | None, error_type: str | None) -> None:
    assert find_row(FailureSource.EARLY_ERROR, code, error_type).retry is Retry.BACKOFF


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (AgentRefused("no", code="invalid_api_key", close_code=3000), Retry.NEVER),
        (WireError("noise"), Retry.NEVER),
        (AgentError("fault in the gateway"), Retry.NEVER),
        (AgentLost("gone"), Retry.BACKOFF),
        (AgentLost("gone", close_code=1000), Retry.ONCE),
        (AgentLost("gone", close_code=1011, code="server_error"), Retry.BACKOFF),
        (AgentLost("gone", http_status=302), Retry.NEVER),
        (AgentLost("gone", http_status=503), Retry.BACKOFF),
    ],
)
def test_an_error_tells_whether_to_try_again(error: AgentError, retry: Retry) -> None:
    assert retry_of(error) is retry


def test_the_end_of_a_working_session_without_a_complaint_is_orderly() -> None:
    assert error_of_close(1000, "", None, ready=True) is None
    assert isinstance(error_of_close(1000, "", None, ready=False), AgentLost)
    assert isinstance(error_of_close(1000, "", ErrorDetails(type="server_error"), ready=True), AgentLost)


def test_every_source_ends_in_a_row_for_every_other() -> None:
    for source in FailureSource:
        assert [row for row in TABLE if row.source is source][-1].keys == ()


def test_the_documents_show_the_table_as_it_is() -> None:
    assert as_markdown() in (DOCS / "realtime.md").read_text()
