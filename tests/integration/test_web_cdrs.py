"""Records of ended calls over HTTP: filters, pages, totals, files; and erasing a caller."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from gateway.audio.wav import write_wav
from gateway.ids import CallId
from gateway.web.cdrs import DAYS
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until
from tests.rigs.web_api import WebApi, opened, problem, serving

pytestmark = pytest.mark.integration

ANN, BOB = "+4930111", "+4930222"
COUNT = 7


@pytest.fixture
async def api(redis: RedisServer, tmp_path: Path) -> AsyncIterator[WebApi]:
    """Seven calls have ended: the even ones Ann's on the route sales, the others Bob's on the route help."""
    (tmp_path / "recordings").mkdir()
    async with opened(redis, "w1") as store, serving(redis, tmp_path) as api:
        for number in range(COUNT):
            call_id = CallId(f"call{number}")
            recording = tmp_path / "recordings" / f"20260101-000000-call{number}.wav"
            write_wav(recording, 8000, bytes(1600), bytes(1600))
            caller, route = (BOB, "help") if number % 2 else (ANN, "sales")
            store.note(call_id, "invited", state="ringing", direction="inbound", caller=caller, route=route)
            store.note(call_id, "answered", state="talking", answered_at=1000.0, agent="hello")
            store.note(
                call_id,
                "ended",
                state="ended",
                end_reason="caller_hung_up",
                ended_at=1010.0,
                talk_ms=10_000,
                cost_usd=0.5,
                recording=str(recording),
            )
        await until(lambda: cdrs_in(redis) == COUNT)
        yield api


def cdrs_in(redis: RedisServer) -> int:
    with redis.client() as client:
        return int(client.xlen("{gateway}:cdrs"))


async def found(api: WebApi, **query: Any) -> dict[str, Any]:
    response = await api.ask("GET", "/v1/cdrs", token="read", params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_records_are_the_newest_first_with_whose_fault_the_end_was(api: WebApi) -> None:
    told = await found(api)
    assert [call["call_id"] for call in told["cdrs"]] == [f"call{number}" for number in reversed(range(COUNT))]
    assert "next_cursor" not in told
    assert {call["end"]["fault"] for call in told["cdrs"]} == {"nobody"}
    assert {call["talk_ms"] for call in told["cdrs"]} == {10_000}


async def test_pages_go_on_where_the_one_before_ended(api: WebApi) -> None:
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(COUNT):
        page = await found(api, limit=3, **cursor)
        seen += [call["call_id"] for call in page["cdrs"]]
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [f"call{number}" for number in reversed(range(COUNT))]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"caller": ANN}, 4),
        ({"route": "help"}, 3),
        ({"route": "help", "caller": ANN}, 0),
        ({"agent": "hello", "end_reason": "caller_hung_up"}, COUNT),
        ({"trunk": "main"}, 0),
        ({"since": 1}, COUNT),
        ({"until": 1000}, 0),
        ({"since": 4e9}, 0),
    ],
)
async def test_filters_let_through_what_fits(api: WebApi, query: dict[str, Any], count: int) -> None:
    assert len((await found(api, **query))["cdrs"]) == count


@pytest.mark.parametrize(
    "query",
    [
        {"since": "yesterday"},
        {"since": -1},
        {"since": 5, "until": 5},
        {"since": "nan"},
        {"limit": 0},
        {"limit": 10_000},
        {"cursor": "x"},
        {"route": "x" * 300},
    ],
)
async def test_what_cannot_be_meant_is_refused(api: WebApi, query: dict[str, Any]) -> None:
    assert problem(await api.ask("GET", "/v1/cdrs", token="read", params=query)) == (422, "invalid_request")


async def test_totals_have_every_day_and_its_routes(api: WebApi) -> None:
    response = await api.ask("GET", "/v1/cdrs/totals", token="read")
    days = response.json()["totals"]
    assert len(days) == DAYS
    assert [day["calls"] for day in days[:-1]] == [0] * (DAYS - 1)
    today = days[-1]
    assert today["day"] == datetime.now(UTC).date().isoformat()
    assert (today["calls"], today["answered"], today["talk_s"], today["cost_usd"]) == (COUNT, COUNT, 70, 3.5)
    assert {route: totals["calls"] for route, totals in today["by_route"].items()} == {"sales": 4, "help": 3}
    assert today["by_end_reason"] == {"caller_hung_up": COUNT}
    begin = datetime(2026, 1, 31, tzinfo=UTC).timestamp()
    two = await api.ask(
        "GET", "/v1/cdrs/totals", token="read", params={"since": begin + 5, "until": begin + 2 * 86_400}
    )
    assert [day["day"] for day in two.json()["totals"]] == ["2026-01-31", "2026-02-01"]
    for wrong in ({"since": 86_400 * 3, "until": 86_400}, {"since": 0}, {"until": -1}):
        assert problem(await api.ask("GET", "/v1/cdrs/totals", token="read", params=wrong))[0] == 422


async def test_records_are_exported_as_files_of_any_length(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.cdrs.MOST_CDRS", 2)  # so that a file has several pages
    ids = [f"call{number}" for number in reversed(range(COUNT))]
    told = await api.ask("GET", "/v1/cdrs/export", token="read")
    assert told.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert told.headers["Content-Disposition"] == 'attachment; filename="calls.csv"'
    assert [row["call_id"] for row in csv.DictReader(io.StringIO(told.text))] == ids
    told = await api.ask("GET", "/v1/cdrs/export?format=jsonl&route=help", token="read")
    assert [json.loads(line)["call_id"] for line in told.text.splitlines()] == ids[1::2]
    told = await api.ask("GET", "/v1/cdrs/export?format=parquet", token="read")
    assert parquet.read_table(io.BytesIO(told.content))["call_id"].to_pylist() == ids
    nothing = await api.ask("GET", "/v1/cdrs/export?until=1000", token="read")
    assert len(nothing.text.splitlines()) == 1
    assert problem(await api.ask("GET", "/v1/cdrs/export?format=xls", token="read"))[0] == 422


async def test_erasing_a_caller_leaves_nothing_of_them_and_all_of_the_others(
    api: WebApi, redis: RedisServer, tmp_path: Path
) -> None:
    path = f"/v1/callers/{ANN.replace('+', '%2B')}"
    tried = (await api.ask("DELETE", f"{path}?dry_run=true", token="admin")).json()
    assert (tried["dry_run"], len(tried["calls"]), len(tried["files"])) == (True, 4, 4)
    assert cdrs_in(redis) == COUNT
    erased = (await api.ask("DELETE", path, token="admin")).json()
    assert (erased["dry_run"], len(erased["calls"]), erased["cdrs"]) == (False, 4, 4)
    assert {call["caller"] for call in (await found(api))["cdrs"]} == {BOB}
    assert len(list((tmp_path / "recordings").iterdir())) == 3
    with redis.client() as client:
        await until(lambda: client.xlen("{gateway}:audit") == 2)
        entries = [fields for _, fields in client.xrange("{gateway}:audit")]
    assert {(entry["action"], entry["client"], entry["calls"]) for entry in entries} == {("erase", "admin", "4")}
    assert ANN not in str(entries)
    assert problem(await api.ask("DELETE", f"/v1/callers/{'1' * 129}", token="admin"))[0] == 422
