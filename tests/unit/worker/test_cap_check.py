"""Limits in money need prices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.audio.pcm import PHONE
from gateway.dialplan.read.files import folder_of, read_files
from gateway.errors import DialplanError
from gateway.settings.sections import Settings
from gateway.worker.live_plan import load_plan

pytestmark = pytest.mark.unit

PLAN = """\
agents:
  known: {instructions: Be kind.}
  odd: {instructions: Be odd., model: my-deployment}
routes:
  - {name: free, match: {to: "1"}, agent: odd}
  - name: one
    match: {to: "2"}
    limits: {max_usd: 0.5, per_caller: {usd_per_day: 2}}
    agent: known
  - name: two
    match: {to: "3"}
    limits:
      usd_per_day: 20
      over: {action: agent, agent: odd}
    agent: known
"""
PRICE = {"text_in": 1, "audio_in": 1, "text_out": 1, "audio_out": 1}


def mistakes(folder: Path, text: str = PLAN, **settings: Any) -> list[str]:
    path = folder / "plan.yaml"
    path.write_text(text)
    try:
        load_plan(read_files(path), folder_of(path), Settings.model_validate(settings), PHONE)
    except DialplanError as error:
        return [str(mistake).removeprefix(f"{folder}/") for mistake in error.mistakes]
    return []


def test_a_limit_in_money_with_a_model_without_a_price_is_a_mistake_with_its_place_and_cure(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path)
    assert mistake == (
        "plan.yaml:13:20: routes[2].limits.usd_per_day: cannot be counted: no price (text_in, audio_in, text_out, "
        "audio_out) is known for 'my-deployment' of the agent 'odd'; set [prices.\"my-deployment\"] text_in = ... in "
        "the settings, or leave the limit out"
    )


def test_a_price_of_the_settings_mends_it(tmp_path: Path) -> None:
    assert mistakes(tmp_path, prices={"my-deployment": PRICE}) == []
    (mistake,) = mistakes(tmp_path, prices={"my-deployment": {**PRICE, "audio_out": None}})
    assert "no price (audio_out) is known for 'my-deployment'" in mistake


def test_what_transcribes_the_caller_needs_a_price_too(tmp_path: Path) -> None:
    text = PLAN.replace("model: my-deployment", "transcription: my-whisper")
    (mistake,) = mistakes(tmp_path, text)
    assert (
        "no price (minute) is known for 'my-whisper' of the agent 'odd'; set [prices.\"my-whisper\"] minute" in mistake
    )
    assert mistakes(tmp_path, PLAN.replace("model: my-deployment", "transcription: null")) == []


def test_a_limit_over_all_routes_needs_the_prices_of_every_agent(tmp_path: Path) -> None:
    text = PLAN.replace("usd_per_day: 20", "calls_per_day: 20")
    assert mistakes(tmp_path, text) == []
    (mistake,) = mistakes(tmp_path, text, cost={"usd_per_day": 50})
    assert mistake.startswith("plan.yaml:3:")
    assert (
        "agents.odd.model: no price (text_in, audio_in, text_out, audio_out) is known for 'my-deployment', which"
        in (mistake)
    )
