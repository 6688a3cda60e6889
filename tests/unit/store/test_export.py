from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pyarrow
import pytest
from pyarrow import parquet

from gateway.errors import ConfigError
from gateway.store.export import COLUMNS, ExportFormat, encoder_for, export, safe_cell
from gateway.store.record import CallRecord

pytestmark = pytest.mark.unit

FIRST = CallRecord(
    call_id="c1",
    caller="+493012345678",
    from_uri="sip:+493012345678@192.0.2.1",
    metadata='{"a": "é, \\"quoted\\""}',
    created_at=1_700_000_000.25,
    ended_at=1_700_000_060.5,
    setup_ms=420,
    mos=4.1,
    cost_usd=0.0123,
)
SECOND = CallRecord(call_id="c2", caller="=cmd|' /C calc'!A0", end_detail="two\r\nlines", created_at=1_700_000_100.0)


async def exported(form: ExportFormat, *records: CallRecord, page: int = 1000) -> bytes:
    out = io.BytesIO()
    assert await export(records, form, out, page=page) == len(records)
    return out.getvalue()


async def test_csv_has_a_column_for_each_field_and_times_people_read() -> None:
    rows = list(csv.DictReader(io.StringIO((await exported("csv", FIRST, SECOND)).decode(), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["created_at"] == "2023-11-14T22:13:20.250000Z"
    assert (rows[0]["caller"], rows[0]["setup_ms"], rows[0]["mos"]) == ("+493012345678", "420", "4.1")
    assert (rows[0]["metadata"], rows[0]["route"]) == (FIRST.metadata, "")
    assert rows[1]["end_detail"] == "two\r\nlines"


async def test_a_caller_cannot_put_a_formula_into_a_spreadsheet() -> None:
    rows = list(csv.DictReader(io.StringIO((await exported("csv", SECOND)).decode(), newline="")))
    assert rows[0]["caller"] == "'=cmd|' /C calc'!A0"


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", " =1", "\t=1", "\r=1", "\uff1d1", "\n=1"])
def test_what_a_spreadsheet_could_compute_gets_an_apostrophe(text: str) -> None:
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize("text", ["+493012345678", "-7", "3.5", "sip:a@b", "", "a=b", "'=1"])
def test_numbers_and_other_text_stay_as_they_are(text: str) -> None:
    assert safe_cell(text) == text


async def test_json_lines_are_the_records_of_the_api() -> None:
    lines = (await exported("jsonl", FIRST, SECOND)).decode().splitlines()
    assert [json.loads(line) for line in lines] == [record.model_dump(exclude_none=True) for record in (FIRST, SECOND)]
    assert CallRecord.model_validate(json.loads(lines[0])) == FIRST


async def test_parquet_has_typed_columns() -> None:
    table = parquet.read_table(io.BytesIO(await exported("parquet", FIRST, SECOND)))
    assert tuple(table.column_names) == COLUMNS
    assert table.schema.field("created_at").type == pyarrow.timestamp("us", tz="UTC")
    assert table.schema.field("setup_ms").type == pyarrow.int64()
    assert table.schema.field("cost_usd").type == pyarrow.float64()
    assert table.schema.field("caller").type == pyarrow.string()
    rows = table.to_pylist()
    assert rows[0]["created_at"] == datetime.fromtimestamp(1_700_000_000.25, UTC)
    assert (rows[1]["caller"], rows[1]["setup_ms"]) == (SECOND.caller, None)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
async def test_a_file_is_the_same_however_it_is_cut_into_pages(form: ExportFormat) -> None:
    records = [FIRST.model_copy(update={"call_id": f"c{number}"}) for number in range(25)]
    data = await exported(form, *records, page=4)
    if form == "parquet":
        assert parquet.ParquetFile(io.BytesIO(data)).num_row_groups == 7
        assert parquet.read_table(io.BytesIO(data)).column("call_id").to_pylist() == [f"c{n}" for n in range(25)]
    else:
        assert data == await exported(form, *records)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
async def test_an_export_of_nothing_is_a_file_all_the_same(form: ExportFormat) -> None:
    data = await exported(form)
    if form == "parquet":
        assert parquet.read_table(io.BytesIO(data)).num_rows == 0
    else:
        assert data.decode().splitlines() == ([",".join(COLUMNS)] if form == "csv" else [])


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
async def test_an_export_holds_one_page_however_many_records_there_are(form: ExportFormat) -> None:
    async def many() -> AsyncIterator[CallRecord]:
        for number in range(500):
            yield FIRST.model_copy(update={"call_id": f"call{number}"})

    class Written(io.BytesIO):
        longest = 0

        def write(self, data: object) -> int:
            assert isinstance(data, bytes)
            self.longest = max(self.longest, len(data))
            return len(data)

    out = Written()
    assert await export(many(), form, out, page=10) == 500
    alone = len(await exported(form, *[FIRST] * 10))
    # Parquet's footer lists every column of every row group.
    assert out.longest < (2 * alone if form != "parquet" else 2 * alone * 50)


def test_parquet_says_what_to_install_where_its_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="sip-voice-gateway\\[parquet\\]"):
        encoder_for("parquet")
