"""
Tools in Python: functions that other packages offer as entry points in the group ``gateway.tools``.

An asynchronous function runs on the loop and must not block it; a plain one runs in a thread of its own, which nothing
can stop: when it takes too long its result is forgotten.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ParamSpec, TypeVar, cast

from gateway.call.builtin_tools import ToolDefinition
from gateway.errors import ConfigError
from gateway.threads import new_thread

GROUP = "gateway.tools"
MAX_THREADS = 32
"""Plain functions running in this process, including those that are no longer waited for."""

P = ParamSpec("P")
R = TypeVar("R")
Result = str | dict[str, Any] | None

_threads: set[threading.Thread] = set()


@dataclass(frozen=True, slots=True)
class CallFacts:
    """The call that a tool is used in: our id of it, and what else is known (``from``, ``to``, ``agent``...)."""

    call_id: str
    facts: Mapping[str, str]


def tool(
    *, description: str, parameters: Mapping[str, Any] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Mark a function ``(arguments: dict, call: CallFacts) -> str | dict | None`` as a tool.

    Args:
        description: what it does, for the model.
        parameters: JSON Schema of its arguments; None takes none.
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        function.tool_description = description  # type: ignore[attr-defined]
        function.tool_parameters = dict(parameters or {"type": "object", "properties": {}})  # type: ignore[attr-defined]
        return function

    return mark


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A function found by its entry point, and its description for the model."""

    definition: ToolDefinition
    function: Callable[[dict[str, Any], CallFacts], Awaitable[Result] | Result]

    async def run(self, arguments: dict[str, Any], call: CallFacts) -> Result:
        """Run the function once. Raises what it raises; for ``SystemExit``, which would end the loop, RuntimeError."""
        if inspect.iscoroutinefunction(self.function):
            try:
                return cast(Result, await self.function(arguments, call))
            except SystemExit:
                raise RuntimeError("the tool asked the process to exit") from None
        return await _in_thread(self.definition.name, lambda: cast(Result, self.function(arguments, call)))


@cache
def load_plugin(name: str) -> LoadedPlugin:
    """
    Return the plugin of this name; its package is imported once per process.

    Raises:
        ConfigError: there is none, or more than one, or it cannot be used; says what is installed.
    """
    found = entry_points(group=GROUP, name=name)
    if not found:
        installed = sorted(entry_points(group=GROUP).names)
        there = f"installed are {', '.join(installed)}" if installed else "none is installed"
        raise ConfigError(f"no package has an entry point {name!r} in the group {GROUP!r}; {there}")
    if len(found) > 1:
        raise ConfigError(f"several packages have an entry point {name!r} in the group {GROUP!r}; keep one of them")
    function = _imported(next(iter(found)))
    description = getattr(function, "tool_description", None)
    parameters = getattr(function, "tool_parameters", None)
    if not callable(function) or not isinstance(description, str) or not isinstance(parameters, Mapping):
        raise ConfigError(f"the entry point {name!r} is no function marked with gateway.tools.plugin.tool; mark it")
    return LoadedPlugin(ToolDefinition(name, description, dict(parameters)), function)


def _imported(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # somebody else's code, which may raise anything
        words = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"the entry point {entry.name!r} ({entry.value}) cannot be imported: {words}") from error


async def _in_thread(name: str, work: Callable[[], Result]) -> Result:
    """
    Run ``work`` in a daemon thread, so that one that hangs does not keep the process from ending.

    Threads: called on the loop; ``work`` runs on its own thread, and what comes of it is handed back to the loop.
    """
    if len(_threads) >= MAX_THREADS:
        raise RuntimeError(f"{MAX_THREADS} plain functions are at work already")
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    context = contextvars.copy_context()  # log entries of the thread keep the call's id

    def run() -> None:
        result, error = None, None
        try:
            result = context.run(work)
        except BaseException as caught:  # noqa: BLE001 - somebody else's code; the loop gets what it raised
            error = caught
        _threads.discard(thread)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(_settle, future, result, error)

    thread = new_thread("plugin", run, name=f"plugin {name}")
    _threads.add(thread)
    thread.start()
    return await future


def _settle(future: asyncio.Future[Result], result: Result, error: BaseException | None) -> None:
    if future.done():  # nobody waits any more
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, Exception) and not isinstance(error, StopIteration):
        future.set_exception(error)
    else:  # these would end the loop, or cannot be set
        future.set_exception(RuntimeError(f"the tool raised {type(error).__name__}"))
