"""The only file that prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

_out = Console(highlight=False, soft_wrap=True)
_err = Console(highlight=False, soft_wrap=True, stderr=True)


def say(text: str) -> None:
    """Print one message for a person."""
    _out.print(text, markup=False)


def fail(text: str) -> None:
    """Print what went wrong to standard error."""
    _err.print(text, style="red", markup=False)


def raw(text: str) -> None:
    """Print text exactly as it is: what goes into a file."""
    _out.file.write(text)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a column whose name ends in ``ms``, ``s``, ``%`` or ``MB`` is aligned to the right."""
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        numeric = column.rpartition(" ")[2] in ("ms", "s", "%", "MB")
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell.replace("[", r"\[") for cell in row))
    _out.print(drawn)
