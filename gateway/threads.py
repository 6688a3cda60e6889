"""
The threads of a worker, and the mark that says on which one a method runs.

``loop``  asyncio, the worker's main thread: everything except pjsua2.
``sip``   our own thread that created the pjsua2 library and polls it: every pjsua2 call and callback.
``clock`` PJMEDIA's conference bridge: reads or writes one buffer every 20 ms and nothing else.
``recorder`` writes recordings to the disk; nothing else waits for it.

See ``docs/threads.md``.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

ThreadRole = Literal["loop", "sip", "clock", "recorder"]

P = ParamSpec("P")
R = TypeVar("R")

_local = threading.local()
_checking = False


def enter_role(role: ThreadRole) -> None:
    """Tell that the current thread is the worker's ``loop``, ``sip`` or ``recorder`` thread from now on."""
    _local.role = role


def current_role() -> ThreadRole:
    """Return the current thread's role. A thread we did not make and name can only be PJMEDIA's clock."""
    return getattr(_local, "role", None) or (
        "loop" if threading.get_ident() == threading.main_thread().ident else "clock"
    )


def check_threads(*, enabled: bool) -> None:
    """Switch the checks of ``runs_on`` on (debug runs, tests) or off (the default)."""
    global _checking
    _checking = enabled


def runs_on(role: ThreadRole) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Mark a function with the thread it runs on; where checks are on, refuse any other.

    Raises:
        RuntimeError: (by the marked function) it was called on the wrong thread.
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if _checking and current_role() != role:
                raise RuntimeError(f"{function.__qualname__} runs on {role!r}, called on {current_role()!r}")
            return function(*args, **kwargs)

        checked.__runs_on__ = role  # type: ignore[attr-defined]
        return checked

    return mark
