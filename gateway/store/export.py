"""
Records of calls as files: CSV for spreadsheets, JSON Lines for programs, Parquet for analysis.

Theory of operation
-------------------
An ``Encoder`` takes records page by page and returns the bytes each page becomes, so an export of any length needs the
memory of one page; ``export`` does that for a file. The columns are the fields of ``CallRecord`` in its order, always
all of them, so files of different days fit together.

- *CSV* (RFC 4180, UTF-8): times in ISO 8601. What callers write about themselves ends up in cells, and a spreadsheet
  takes a cell that begins with ``=`` for a formula; such a cell gets an apostrophe in front of it. Telephone numbers
  keep their plus.
- *JSON Lines*: an object each, as ``GET /v1/cdrs`` has them: times in Unix seconds, unknown fields left out.
- *Parquet*: text, integers, floating-point numbers, and times as UTC time stamps in microseconds; a row group a page.
  Needs the optional package pyarrow.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal, Protocol, get_args

from gateway.errors import ConfigError
from gateway.store.record import CallRecord

ExportFormat = Literal["csv", "jsonl", "parquet"]

MEDIA_TYPES: dict[ExportFormat, str] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
COLUMNS = tuple(CallRecord.model_fields)
TIMES = frozenset(name for name in COLUMNS if name.endswith("_at"))
PAGE = 1000
"""Records that ``export`` holds in memory."""

# https://owasp.org/www-community/attacks/CSV_Injection; the last four are the full-width forms.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


class Encoder(Protocol):
    """Makes one file."""

    def encode(self, records: Sequence[CallRecord]) -> bytes:
        """Return the bytes that follow for a page of records; perhaps none yet."""

    def finish(self) -> bytes:
        """Return the last bytes of the file."""


def encoder_for(form: ExportFormat) -> Encoder:
    """
    Return what makes a file of a format.

    Raises:
        ConfigError: the format needs a package that is not installed.
    """
    match form:
        case "csv":
            return _Csv()
        case "jsonl":
            return _JsonLines()
        case "parquet":
            return _Parquet()


async def export(
    records: AsyncIterable[CallRecord] | Iterable[CallRecord], form: ExportFormat, out: BinaryIO, *, page: int = PAGE
) -> int:
    """
    Write records to a file as they come; return how many there were.

    Args:
        records: in the order in which they are to stand in the file.
        form: of the file.
        out: where it goes; not closed.
        page: records that are held in memory.

    Raises:
        ConfigError: the format needs a package that is not installed.
        OSError: the file cannot be written.
    """
    encoder, waiting, count = encoder_for(form), list[CallRecord](), 0
    async for record in _each(records):
        waiting.append(record)
        if len(waiting) == page:
            out.write(encoder.encode(waiting))
            count += len(waiting)
            waiting.clear()
    out.write(encoder.encode(waiting) + encoder.finish())
    return count + len(waiting)


async def _each(records: AsyncIterable[CallRecord] | Iterable[CallRecord]) -> AsyncIterable[CallRecord]:
    if isinstance(records, AsyncIterable):
        async for record in records:
            yield record
    else:
        for record in records:
            yield record


class _Csv:
    def __init__(self) -> None:
        self._begun = False

    def encode(self, records: Sequence[CallRecord]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        if not self._begun:
            self._begun = True
            writer.writerow(COLUMNS)
        writer.writerows([_cell(name, value) for name, value in record] for record in records)
        return text.getvalue().encode()

    def finish(self) -> bytes:
        return b"" if self._begun else self.encode(())


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if name in TIMES and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return safe_cell(value) if isinstance(value, str) else f"{value}"


def safe_cell(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: with an apostrophe in front where one could."""
    text = text.replace("\0", "")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


class _JsonLines:
    def encode(self, records: Sequence[CallRecord]) -> bytes:
        lines = (json.dumps(record.model_dump(exclude_none=True), ensure_ascii=False) for record in records)
        return "".join(f"{line}\n" for line in lines).encode()

    def finish(self) -> bytes:
        return b""


class _Parquet:
    def __init__(self) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise ConfigError(
                "parquet needs the package pyarrow: pip install 'sip-voice-gateway[parquet]', or export csv or jsonl"
            ) from None
        self._arrow = pyarrow
        self._schema = pyarrow.schema([(name, self._type(name)) for name in COLUMNS])
        self._out = _Drained()
        self._writer = parquet.ParquetWriter(self._out, self._schema, compression="zstd")

    def encode(self, records: Sequence[CallRecord]) -> bytes:
        if records:
            rows = [record.model_dump() for record in records]
            columns = [
                self._arrow.array(
                    [_micros(row[name]) if name in TIMES else row[name] for row in rows], self._type(name)
                )
                for name in COLUMNS
            ]
            self._writer.write_table(self._arrow.table(columns, schema=self._schema))
        return self._out.drain()

    def finish(self) -> bytes:
        self._writer.close()
        return self._out.drain()

    def _type(self, name: str) -> Any:
        if name in TIMES:
            return self._arrow.timestamp("us", tz="UTC")
        kinds = get_args(CallRecord.model_fields[name].annotation)
        if int in kinds:
            return self._arrow.int64()
        return self._arrow.float64() if float in kinds else self._arrow.string()


def _micros(at: float | None) -> int | None:
    return None if at is None else round(at * 1e6)


class _Drained(io.RawIOBase):
    """A file that is written from front to back, and gives away what was written so far."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._waiting += part
        self._written += len(part)
        return len(part)

    def drain(self) -> bytes:
        drained = bytes(self._waiting)
        self._waiting.clear()
        return drained
