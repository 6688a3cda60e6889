"""`gateway calls export` and `erase`: the command, the HTTP API and Redis, each real."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pyarrow import parquet

from gateway.child_process import ChildProcess
from gateway.ids import CallId
from gateway.settings.sources import environment_for_child
from tests.rigs.redis_dump import dump_of
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until
from tests.rigs.web_api import TOKENS, WebApi, opened, serving

pytestmark = pytest.mark.integration

NUMBER = "+493012345678"
FORMULA = "=HYPERLINK(1)"
COUNT = 3


@pytest.fixture
async def api(redis: RedisServer, tmp_path: Path) -> AsyncIterator[WebApi]:
    """Three calls have ended, one of them of somebody who calls themselves a formula."""
    async with opened(redis, "w1") as store, serving(redis, tmp_path) as api:
        for number, caller in enumerate((NUMBER, FORMULA, NUMBER)):
            given = {"direction": "inbound", "caller": caller, "end_reason": "caller_hung_up"}
            store.note(CallId(f"call{number}"), "ended", state="ended", ended_at=1_700_000_000.5 + number, **given)
        with redis.client() as client:
            await until(lambda: client.xlen("{gateway}:cdrs") == COUNT)
        yield api


async def calls(api: WebApi, token: str, *words: str) -> tuple[int, str]:
    """Run ``gateway calls``; return its exit code and what it printed."""
    variables = {"GATEWAY_API__URL": api.url, "GATEWAY_API__TOKEN": TOKENS[token]}
    command = (sys.executable, "-m", "gateway", "calls", *words)
    async with ChildProcess(*command, environment=environment_for_child(variables)) as child:
        code = await child.wait(40)
        return code, child.output


async def test_records_are_exported_in_each_format(api: WebApi, tmp_path: Path) -> None:
    files = {form: tmp_path / f"calls.{form}" for form in ("csv", "jsonl", "parquet")}
    for form, path in files.items():
        code, output = await calls(api, "read", "export", "--since", "2020-01-01", "-f", form, "-o", str(path))
        assert (code, "bytes written" in output) == (0, True), output
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text(), newline="")))
    assert [row["caller"] for row in rows] == [NUMBER, f"'{FORMULA}", NUMBER]  # the newest first
    assert rows[0]["ended_at"] == "2023-11-14T22:13:22.500000Z"
    lines = [json.loads(line) for line in files["jsonl"].read_text().splitlines()]
    assert [line["call_id"] for line in lines] == ["call2", "call1", "call0"]
    table = parquet.read_table(files["parquet"])
    assert table.column("caller").to_pylist() == [NUMBER, FORMULA, NUMBER]


async def test_a_person_is_erased_by_a_command_and_the_audit_does_not_name_them(
    api: WebApi, redis: RedisServer
) -> None:
    code, output = await calls(api, "admin", "erase", NUMBER, "--dry-run")
    assert (code, "there are: 2 calls" in output) == (0, True), output
    assert NUMBER in dump_of(redis.url)
    code, output = await calls(api, "admin", "erase", NUMBER)
    assert (code, "erased: 2 calls" in output) == (0, True), output
    with redis.client() as client:
        await until(lambda: client.xlen("{gateway}:audit") == 2)
    dump = dump_of(redis.url)
    assert NUMBER not in dump
    assert FORMULA in dump


async def test_who_may_only_read_erases_nobody(api: WebApi, redis: RedisServer) -> None:
    code, output = await calls(api, "read", "erase", NUMBER)
    assert code != 0
    assert "scope" in output
    assert NUMBER in dump_of(redis.url)
