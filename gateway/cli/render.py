"""The only file that prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

_out = Console(highlight=False, soft_wrap=True)
_err = Console(highlight=False, soft_wrap=True, stderr=True)


def say(text: str) -> None:
    """Print one message for a person."""
    _out.print(text, markup=False)


def fail(text: str) -> None:
    """Print what went wrong to standard error."""
    _err.print(text, style="red", markup=False)


def log_line(text: str) -> None:
    """Pass on a line of the log that another process wrote."""
    _err.file.write(text + "\n")
    _err.file.flush()


def raw(text: str) -> None:
    """Print text exactly as it is: what goes into a file."""
    _out.file.write(text)


def as_json(value: Any) -> None:
    """Print a value as JSON, in one line: what another program reads."""
    _out.file.write(json.dumps(value, ensure_ascii=False) + "\n")
    _out.file.flush()


def binary() -> BinaryIO:
    """Return standard output for bytes."""
    return sys.stdout.buffer


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a column whose name ends in ``ms``, ``s``, ``%``, ``MB`` or ``$`` is aligned to the right."""
    _out.print(_drawn(title, columns, rows))


@contextmanager
def live_tables() -> Iterator[Callable[[str, Sequence[str], Iterable[Sequence[str]]], None]]:
    """Give a function like ``table`` that draws each table in the place of the one before."""
    with Live(console=_out, auto_refresh=False, transient=False) as live:
        yield lambda title, columns, rows: live.update(_drawn(title, columns, rows), refresh=True)


def _drawn(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        numeric = column.rpartition(" ")[2] in ("ms", "s", "%", "MB", "$")
        is_id = column in ("call", "worker")  # to be copied in one piece
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=is_id)
    for row in rows:
        drawn.add_row(*(_plain(cell) for cell in row))
    return drawn


def _plain(cell: str) -> str:
    """Return text of strangers as it is: no markup, and no sequence that a terminal would act on."""
    return "".join(
        each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in cell
    ).replace("[", r"\[")
