"""The bench's figures: their names, their shapes, what is derived from them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.errors import ConfigError
from gateway.lab.bench.limit import gave_way
from gateway.lab.bench.results import BenchResult, Canary, Cpu, Memory, Setup, ShortCalls, Window, short_rows
from gateway.lab.bench.short_calls import ShortCallsPlan

pytestmark = pytest.mark.unit


def window(calls: int, gateway: float) -> Window:
    return Window(
        calls=calls,
        seconds=10.0,
        cpu=Cpu(gateway=gateway, edge=1.0, redis=0.5, model=3.0, callers=4.0, machine=50.0),
        interval_p50_ms=20.0,
        interval_p99_ms=21.0,
        interval_max_ms=33.0,
        received=500 * calls,
        fewest=500,
        lost=0,
        dropped=0,
        speech_share=0.2,
    )


def result() -> BenchResult:
    return BenchResult(
        asked=8,
        setup=Setup(8, {}, [10.0, 20.0], [180.0, 190.0], [12.0, 14.0]),
        steps=(window(4, 8.0), window(8, 14.4)),
        memory=Memory(calls=8, age_s=120.0, gateway=80.0, edge=9.0, processes=4, workers=2, largest_rss=60.0),
        floors=(window(8, 6.0), window(8, 8.4)),
        floor_rss_mb=55.0,
        idle_percent=0.18,
        idle_workers=2,
    )


SHORT = ShortCalls(
    rate=30,
    seconds=60,
    hold_s=0.5,
    placed=1800,
    answered=1798,
    refused={503: 2},
    lost=0,
    setup_ms=[10.0, 30.0],
    sockets=(20, 21, 20),
    memory_mb=(80.0, 90.0, 85.0),
    after_s=40.0,
    cpu=Cpu(gateway=60.0),
)


def test_the_floor_is_the_mean_of_both_windows() -> None:
    figures = result()
    assert figures.floor_per_call == pytest.approx(0.9)
    assert figures.floor_ratio == pytest.approx(2.0)
    assert figures.idle_ratio == pytest.approx(0.2)
    assert figures.memory.per_call == 10.0


def test_what_other_programs_used_is_the_rest_of_the_machine() -> None:
    assert window(4, 8.0).cpu.others == 33.5
    assert Cpu(gateway=5.0, machine=4.9).others == 0.0, "the kernel counts the machine in steps of 10 ms"


def test_without_a_floor_nothing_is_compared_with_it() -> None:
    figures = replace(result(), floors=())
    assert figures.floor_ratio is None
    assert figures.to_json()["floor_ratio"] is None
    assert all(floor == "" for _, _, floor, _ in figures.rows())


def test_the_json_is_of_all_calls_with_a_figure_for_each_step() -> None:
    canary = Canary(9.0, 80.0, 90.0, 21.0, 30.0, 0, 12.0)
    told = json.loads(json.dumps(replace(result(), canary=canary, short=SHORT).to_json()))
    assert told["calls"] == 8
    assert told["cpu_percent_per_call"] == 1.8
    assert [step["calls"] for step in told["steps"]] == [4, 8]
    assert told["setup_p95_ms"] == 19.5
    assert told["pss_mb_per_call"] == 10.0
    assert told["canary"]["delay_ms"] == 80.0
    assert told["short_calls"]["refused"] == {"503": 2}
    assert told["short_calls"]["cpu_ms_per_call"] == 20.0


def test_the_table_has_a_name_two_figures_and_a_unit_in_each_row() -> None:
    rows = {name: (own, floor, unit) for name, own, floor, unit in result().rows()}
    assert rows["CPU per call"] == ("1.80", "0.90", "% of one core")
    assert rows["calls held"] == ("8 of 8", "8", "")
    assert rows["CPU of edge"] == ("1.0", "1.0", "% of one core")
    assert dict(short_rows(SHORT))["refused"] == "2 with 503"


def test_a_figure_that_was_not_taken_is_said_to_be_missing() -> None:
    silent = replace(result(), setup=Setup(8, {503: 8}, [], [], []))
    assert silent.to_json()["setup_p50_ms"] is None
    assert ("setup, INVITE to 200: p50 / p95", "not measured", "", "ms") in [*silent.rows()]


def test_a_call_with_too_few_packets_makes_no_window() -> None:
    assert window(4, 8.0).is_whole
    assert not replace(window(4, 8.0), fewest=400).is_whole


def test_short_calls_are_written_as_rate_and_seconds() -> None:
    assert ShortCallsPlan.parse("30:60") == ShortCallsPlan(30, 60)
    assert ShortCallsPlan.parse("2.5:10:0.2").hold_s == 0.2


@pytest.mark.parametrize("text", ["30", "30:60:1:2", "a:b", "0:60", "30:0", "30:60:-1", ":"])
def test_what_is_not_rate_and_seconds_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 30:60"):
        ShortCallsPlan.parse(text)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dropped": 3}, "the bench"),
        ({"fewest": 300}, "300 packets"),
        ({"lost": 2}, "2 RTP packets"),
        ({"interval_p99_ms": 26.0}, "p99 of 26.0"),
        ({"interval_max_ms": 61.0}, "gap of 61 ms"),
    ],
)
def test_too_many_calls_are_known_by_what_callers_notice_first(change: dict[str, float], word: str) -> None:
    assert gave_way(window(4, 8.0), {}) is None
    assert word in (gave_way(replace(window(4, 8.0), **change), {}) or "")  # type: ignore[arg-type]
    assert "admission" in (gave_way(replace(window(4, 8.0), **change), {503: 1}) or "")  # type: ignore[arg-type]
