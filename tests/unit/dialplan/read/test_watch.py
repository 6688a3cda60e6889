"""What shows from outside that a plan's files changed, and which sounds a plan's text speaks of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.dialplan.read.files import PlanFile
from gateway.dialplan.read.watch import MAX_SOUNDS, SETTLED_AFTER_S, Stamp, are_settled, plan_stamps, sounds_in, stamps

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("filler: soft.wav", ["soft.wav"]),
        ("files: [a.wav, b/c.WAV,d.wav]", ["a.wav", "b/c.WAV", "d.wav"]),
        ("files: {prompt: 'two words.wav'}", ["two words.wav"]),
        ('prompt: "with # and , in it.wav" # not this one', ["with # and , in it.wav"]),
        ("- ../up/there.wav\n- /abs/olute.wav", ["../up/there.wav", "/abs/olute.wav"]),
        ("it's twice.wav\nagain: twice.wav", ["twice.wav"]),
        ("no.wave, wav, .txt", []),
    ],
)
def test_names_of_sounds_are_found_in_the_text(text: str, names: list[str]) -> None:
    found = sounds_in([PlanFile("plan.yaml", text.encode())], Path("/plans"))
    assert found == [Path("/plans") / name for name in names]


@pytest.mark.parametrize("data", [b".wav" * 300_000, b"a" * 1_000_000 + b".wav", b"x.wav " * 300_000, b"\xff\0.wav"])
def test_a_text_made_to_take_long_does_not(data: bytes) -> None:
    assert len(sounds_in([PlanFile("plan.yaml", data)], Path("/plans"))) <= MAX_SOUNDS  # quadratic work takes hours


def test_more_sounds_than_anybody_has_are_not_followed() -> None:
    data = b" ".join(b"%d.wav" % number for number in range(2 * MAX_SOUNDS))
    files = [PlanFile("a", data), PlanFile("b", data.replace(b".", b"b."))]
    assert len(sounds_in(files, Path())) == MAX_SOUNDS


def test_whatever_happens_to_a_file_shows(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    seen = [plan_stamps(plan)]
    plan.write_text("one")
    seen.append(plan_stamps(plan))
    plan.write_text("three")
    seen.append(plan_stamps(plan))
    os.utime(plan, ns=(1, 1))
    seen.append(plan_stamps(plan))
    other = tmp_path / "new"
    other.write_text("three")
    os.utime(other, ns=(1, 1))
    other.replace(plan)
    seen.append(plan_stamps(plan))
    assert len(set(seen)) == len(seen)
    assert plan_stamps(plan) == seen[-1]


def test_a_folder_shows_its_yaml_files_and_no_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml", ".hidden.yaml", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".#a.yaml").symlink_to("somebody@somewhere")
    assert [Path(stamp.path).name for stamp in plan_stamps(tmp_path)] == ["a.yaml", "b.yaml"]


def test_a_file_that_is_a_link_shows_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder in ("one", "two"):
        (tmp_path / folder / "plan.yaml").write_text("same")
    (tmp_path / "now").symlink_to("one")
    before = plan_stamps(tmp_path / "now" / "plan.yaml")
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "now")
    assert plan_stamps(tmp_path / "now" / "plan.yaml") != before


def test_what_is_not_there_or_cannot_be_there_has_an_empty_stamp() -> None:
    assert stamps([Path("/nowhere/x.wav"), Path("a\0b")]) == (Stamp("/nowhere/x.wav"), Stamp("a\0b"))


def test_a_file_is_settled_when_its_last_change_is_older_than_a_coarse_clock_can_hide() -> None:
    changed = Stamp("plan.yaml", ctime_ns=1_000_000_000_000)
    assert not are_settled((changed,), 1000.0)
    assert not are_settled((changed,), 1000 + SETTLED_AFTER_S)
    assert are_settled((changed,), 1000.1 + SETTLED_AFTER_S)
    assert not are_settled((changed, Stamp("other", ctime_ns=2_000_000_000_000)), 1010.0)
