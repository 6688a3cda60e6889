"""
The log: one stream of lines on standard error, ours and the libraries', with no key or password in it.

``configure_logs`` is called once at start, ``bind_call`` once in each call's task; everything else takes a logger from
``structlog.get_logger(__name__)``.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.ids import CallId
from gateway.redact import SHOWN_MASK, mask_text

MAX_DEPTH = 6
MAX_TEXT = 1000
"""Characters of a value that are written: a stranger's packet must not fill the disk."""

_SECRET_NAME = re.compile(r"(?i)(api_?key|authorization|password|client_secret)$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MANY_LINES = ("exception", "stack")
_NO_PEOPLE = frozenset({"timestamp", "level", "logger", "worker", "call_id"})


class LogChoice(Protocol):
    """What ``configure_logs`` wants to know; ``settings.LogSettings`` is one."""

    @property
    def level(self) -> str:
        """``debug``, ``info``, ``warning`` or ``error``."""

    @property
    def format(self) -> str:
        """``text`` or ``json``."""


CHATTY = ("websockets", "aiohttp.access")
"""Libraries that tell of every connection; heard below ``warning`` only when everything is (``debug``)."""


def configure_logs(settings: LogChoice, *, worker: str = "", shorten: Callable[[str], str] | None = None) -> None:
    """
    Send our entries and those of libraries to standard error, in the same form. Calling it again replaces that.

    Args:
        settings: level and form.
        worker: name of this process among others of the same stream; every entry has it then.
        shorten: takes the numbers of people out of every text (``gateway/privacy.py``); None leaves them.
    """
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        *([_names(worker)] if worker else []),
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,  # before the masks: a traceback repeats values
                mask_secrets,
                *([_shortens(shorten)] if shorten is not None else []),
                *_renderers(settings.format),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for library in CHATTY:
        logging.getLogger(library).setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))


def _names(worker: str) -> Processor:
    def name(logger: WrappedLogger, method: str, entry: EventDict) -> EventDict:
        return {"worker": worker, **entry}

    return name


def _shortens(shorten: Callable[[str], str]) -> Processor:
    def without_people(logger: WrappedLogger, method: str, entry: EventDict) -> EventDict:
        return {name: value if name in _NO_PEOPLE else _in_each(value, shorten) for name, value in entry.items()}

    return without_people


def _in_each(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case dict():
            return {key: _in_each(inner, change) for key, inner in value.items()}
        case list():
            return [_in_each(inner, change) for inner in value]
    return value


def bind_call(call_id: CallId) -> AbstractContextManager[None]:
    """Put ``call_id`` into every entry of the ``with`` block: of this task, and of tasks it starts there."""
    return structlog.contextvars.bound_contextvars(call_id=call_id)


def mask_secrets(logger: WrappedLogger, method: str, entry: EventDict) -> EventDict:
    """Mask whatever looks like a key, a password or an ``Authorization`` value; a structlog processor."""
    return {name: _masked(value, name, 0) for name, value in entry.items()}


def _masked(value: Any, name: str, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAME.search(name):
        return SHOWN_MASK
    if isinstance(value, dict) and depth < MAX_DEPTH:
        return {key: _masked(inner, str(key), depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple) and depth < MAX_DEPTH:
        return [_masked(inner, "", depth + 1) for inner in value]
    text = mask_text(value if isinstance(value, str) else str(value))
    too_long = len(text) > MAX_TEXT and name not in _MANY_LINES
    return f"{text[:MAX_TEXT]}... ({len(text)} characters)" if too_long else text


def _renderers(kind: str) -> list[Processor]:
    if kind == "json":
        return [structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [
        _one_line,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=28
        ),
    ]


def _one_line(logger: WrappedLogger, method: str, entry: EventDict) -> EventDict:
    """Spell out control characters: a SIP header must not forge an entry or steer a terminal."""
    return {
        name: _CONTROL.sub(lambda found: repr(found[0])[1:-1], value)
        if isinstance(value, str) and name not in _MANY_LINES
        else value
        for name, value in entry.items()
    }
