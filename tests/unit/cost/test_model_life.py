from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from gateway.cost.model_life import WARN_DAYS, ModelLife, lives_of, models_of, read_listed, shipped_shutdown_dates
from gateway.dialplan.model.plan import Dialplan

pytestmark = pytest.mark.unit

TODAY = date(2026, 12, 1)
PLAN = Dialplan.model_validate(
    {
        "agents": {
            "day": {"instructions": "x", "model": "a", "when_full": {"model": "b"}},
            "night": {"instructions": "x", "model": "b", "transcription": None},
        },
        "routes": [{"name": "all", "agent": "day"}],
    }
)


def test_every_model_that_a_plan_names_is_found_with_the_agents_that_use_it() -> None:
    assert models_of(PLAN) == {"a": ("day",), "b": ("day", "night"), "gpt-realtime-whisper": ("day",)}


def test_the_list_of_the_service_is_read_as_far_as_it_makes_sense() -> None:
    data = [
        {"id": "a", "shutdown_date": "2027-01-20"},
        {"id": "b", "shutdown_date": None},
        {"id": "c"},
        {"id": "d", "shutdown_date": "soon"},
        {"id": "e", "shutdown_date": "2027-01-20T00:00:00Z"},
        {"id": 7},
        {"id": "x" * 1000},
        "f",
        None,
    ]
    assert read_listed(json.dumps({"data": data}).encode()) == {
        "a": date(2027, 1, 20),
        "b": None,
        "c": None,
        "d": None,
        "e": date(2027, 1, 20),
    }


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data": {}}', b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_list_of_models_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="no list of models"):
        read_listed(body)


def test_the_service_is_believed_before_the_table_that_ships() -> None:
    model, day = next(iter(shipped_shutdown_dates().items()))
    told = date(2030, 1, 1)
    models = {model: ("day",), "new": (), "odd": ()}
    assert lives_of(models, {model: told, "new": None}, 7.5) == [
        ModelLife(model, told, "service", ("day",), 7.5),
        ModelLife("new", None, "service", (), 7.5),
        ModelLife("odd", None, "unknown", (), 7.5),
    ]
    assert lives_of({model: ()}, None, 7.5) == [ModelLife(model, day, "table")]
    assert lives_of({model: ()}, {model: None}, 7.5)[0].shutdown_date == day


@pytest.mark.parametrize(("days", "retires"), [(WARN_DAYS + 1, False), (WARN_DAYS, True), (0, True), (-3, True)])
def test_a_model_is_warned_of_three_months_before(days: int, retires: bool) -> None:
    life = ModelLife("m", TODAY + timedelta(days), "service")
    assert life.days_left(TODAY) == days
    assert life.retires(TODAY) is retires


def test_until_when_a_model_is_offered_is_said_in_words() -> None:
    assert ModelLife("m", date(2027, 1, 20), "service").words(TODAY) == "2027-01-20 (in 50 days)"
    assert ModelLife("m", TODAY, "service").words(TODAY) == "2026-12-01 (today)"
    assert ModelLife("m", date(2026, 11, 28), "table").words(TODAY) == (
        "2026-11-28 (3 days ago, by the table that ships with the gateway)"
    )
    assert ModelLife("m", None, "service").words(TODAY) == "no end announced"
    assert ModelLife("m").words(TODAY) == "not known"
    assert not ModelLife("m").retires(TODAY)


def test_a_life_survives_redis() -> None:
    life = ModelLife("m", date(2027, 1, 20), "table", ("day", "night"), 12.5)
    assert ModelLife.from_json(life.to_json()) == life
    assert ModelLife.from_json(ModelLife("m").to_json()) == ModelLife("m")


@pytest.mark.parametrize("text", ["?", "[]", "7", "{}", '{"model": 7}', '{"model": "m", "shutdown_date": "x"}'])
def test_what_is_no_life_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ModelLife.from_json(text)
