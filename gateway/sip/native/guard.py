"""The border between C++ and Python: no exception crosses it."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from gateway.threads import runs_on

_log = structlog.get_logger(__name__)
F = TypeVar("F", bound=Callable[..., None])


def callback(function: F) -> F:
    """
    Mark a pjsua2 callback: it runs on ``sip``, and what it raises is logged, no more.

    A question that the library refused says nothing about the call, so it goes on; where it cannot, the watch ends it.
    """

    @functools.wraps(function)
    def guarded(self: Any, *args: Any) -> None:
        try:
            function(self, *args)
        except Exception as error:  # noqa: BLE001 - an exception in C++ ends the process
            _log_failure(function, error)

    return runs_on("sip")(guarded)  # type: ignore[return-value]


def _log_failure(function: Callable[..., object], error: Exception) -> None:
    # As text: a handler that kept the traceback would keep call and endpoint, and what of these outlives the library
    # aborts the process.
    trace = traceback.format_exc()
    _log.error("sip_callback_failed", callback=function.__qualname__, problem=describe(error), exception=trace)


def describe(error: BaseException) -> str:
    """Return an error in one line; a pjsua2 error's text is in its fields."""
    reason = getattr(error, "reason", "")
    return f"{reason} ({error.status})" if reason and hasattr(error, "status") else str(error)


def answering(otherwise: int) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """
    Mark a callback of the C library that answers with a number: what it raises is logged, ``otherwise`` is the answer.

    Thread: sip.
    """

    def mark(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def guarded(self: Any, *args: Any) -> int:
            try:
                return function(self, *args)
            except Exception as error:  # noqa: BLE001 - an exception in C is lost, and with it the answer
                _log_failure(function, error)
                return otherwise

        return runs_on("sip")(guarded)

    return mark
