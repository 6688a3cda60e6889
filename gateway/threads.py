"""
The threads of a process: each has a role, and each function that does not run just anywhere is marked with its role.

``loop``      asyncio, the main thread: everything except pjsua2
``sip``       created the pjsua2 library and polls it: every pjsua2 call and every callback
``clock``     PJMEDIA's conference bridge: reads or writes one buffer every 20 ms, nothing else
``recorder``  writes recordings to disk
``trace``     writes SIP traces to disk
``lookup``    asks the system for the addresses of one name
``plugin``    runs one call of a tool that is a plain function
``pool``      asyncio's pool: reads and checks a changed dialplan, waits for a thread to end

Threads are created here and nowhere else (``new_thread``, ``run_in_pool``), so none lacks a role. A library makes only
the clock: it takes its role in the first function that it calls (``runs_on("clock", foreign=True)``).

Marks cost nothing in a normal run: ``runs_on`` returns the function it was given. ``check_threads`` replaces marked
functions by ones that refuse any other thread. Tests call it before they import anything else; a debug run
(``log.debug_threads``) calls it once its settings are read. See ``docs/threads.md``.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

ThreadRole = Literal["loop", "sip", "clock", "recorder", "trace", "lookup", "plugin", "pool"]

P = ParamSpec("P")
R = TypeVar("R")

_local = threading.local()
_checking = False
_unchecked: list[tuple[Callable[..., object], ThreadRole, bool]] = []  # marked while checks are off


def enter_role(role: ThreadRole) -> None:
    """Give the current thread its role."""
    _local.role = role


def current_role() -> ThreadRole:
    """
    Return the current thread's role.

    Raises:
        RuntimeError: it has none.
    """
    role: ThreadRole | None = getattr(_local, "role", None)
    if role is None:
        raise RuntimeError(f"thread {threading.current_thread().name!r} has no role")
    return role


def new_thread(role: ThreadRole, run: Callable[[], object], *, name: str | None = None) -> threading.Thread:
    """Return a thread, not yet started, that takes ``role`` and calls ``run``. It does not keep the process alive."""

    def begin() -> None:
        enter_role(role)
        run()

    return threading.Thread(target=begin, name=name or role, daemon=True)


async def run_in_pool(function: Callable[[], R]) -> R:
    """Run ``function`` on a thread of asyncio's pool, with the role ``pool``, and return what it returns."""

    def run() -> R:
        enter_role("pool")
        return function()

    return await asyncio.to_thread(run)


def runs_on(role: ThreadRole, *, foreign: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Mark a function with the thread it runs on. Goes next to any decorator that is not a mark.

    Args:
        role: the thread's.
        foreign: a library made the thread and calls this function first: a thread without a role takes this one.

    Returns:
        What marks: it returns the function itself, or while checks are on one that raises ``RuntimeError`` when it is
        called on another thread. Either has the role as ``__runs_on__``.
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        if _checking:
            return _checked(function, role, foreign)
        function.__runs_on__ = role  # type: ignore[attr-defined]
        _unchecked.append((function, role, foreign))
        return function

    return mark


def check_threads() -> None:
    """Have marked functions refuse the wrong thread: those of every module that is loaded, or will be."""
    global _checking
    _checking = True
    while _unchecked:
        function, role, foreign = _unchecked.pop()
        *path, name = function.__qualname__.split(".")
        owner = functools.reduce(getattr, path, sys.modules[function.__module__])
        setattr(owner, name, _checked(function, role, foreign))


def _checked(function: Callable[P, R], role: ThreadRole, foreign: bool) -> Callable[P, R]:
    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if foreign and not hasattr(_local, "role"):
            enter_role(role)
        if current_role() != role:
            raise RuntimeError(f"{function.__qualname__} runs on {role!r}, called on {current_role()!r}")
        return function(*args, **kwargs)

    checked.__runs_on__ = role  # type: ignore[attr-defined]
    return checked
