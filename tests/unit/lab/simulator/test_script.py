from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.lab.simulator.answer import Failed, Incomplete, Say, ScriptedAnswer, ScriptedCall
from gateway.lab.simulator.script import Script, ScriptCursor, load_script

pytestmark = pytest.mark.unit

WHOLE = """
over: simulator
then: repeat
faults: [missing=rate_limits.updated]
answers:
  - output:
      - say: One moment, please.
        for_s: 2
      - call: look_up
        arguments: {number: 12, vip: true}
    overlap: true
    think_ms: 2000
  - output: [{sentence: 2}, {}]
    speed: 0.5
  - output: [{call: hang_up, arguments: "not { JSON"}]
  - end: {status: failed, code: insufficient_quota}
  - end: {status: incomplete, reason: content_filter}
    faults: ["drop=0.5"]
"""


def test_a_scenario_file_says_what_the_agent_does(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(WHOLE)
    script = load_script(path)
    first, second, third, failed, cut = script.answers
    assert first.output == (
        Say(say="One moment, please.", for_s=2.0),
        ScriptedCall(call="look_up", arguments={"number": 12, "vip": True}),
    )
    assert (first.overlap, first.think_ms, second.speed) == (True, 2000, 0.5)
    assert second.output == (Say(sentence=2), Say())
    (call,) = third.output
    assert isinstance(call, ScriptedCall)
    assert call.text == "not { JSON"
    assert isinstance(failed.end, Failed)
    assert failed.end.code == "insufficient_quota"
    assert cut.end == Incomplete(status="incomplete", reason="content_filter")
    assert (script.then, script.over, script.faults) == ("repeat", "simulator", ("missing=rate_limits.updated",))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("answers:\n  - output:\n      - cal: x\n", "3:14: answers[0].output[0].cal: unknown key"),
        ("answers:\n  - output:\n      - sentence: 9\n", "3:19: answers[0].output[0].sentence: "),
        ("answers:\n  - thinks: 1\n", "2:13: answers[0].thinks: unknown key"),
        ("answers:\n  - end: {status: finished}\n", "2:10: answers[0].end: "),
        ("answers:\n  - speed: 1\n    speed: 2\n", "3:5: speed: written twice"),
        ("answers: one\n", "1:10: answers: should be a list"),
        ("- one\n", "1:1: should be a mapping"),
        ("answers:\n  - faults: [explode]\n", "1:1: fault 'explode': unknown"),
        ("answers: [\n", "2:1: not YAML"),
        ("", " empty; a scenario needs the key answers"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_script(path)
    assert caught.value.problems[0].startswith(f"{path}:{told}")


def test_the_scenario_of_the_manual_loads(tmp_path: Path) -> None:
    manual = (Path(__file__).parents[4] / "docs" / "simulator.md").read_text(encoding="utf-8")
    path = tmp_path / "scenario.yaml"
    path.write_text(manual.split("```yaml\n")[1].split("```")[0])
    assert len(load_script(path).answers) == 19


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_script(tmp_path / "none.yaml")


def test_answers_come_in_order_and_then_sentences_or_the_answers_again() -> None:
    answers = [{"output": [{"call": "a"}]}, {"output": [{"call": "b"}]}]
    once, again = (
        ScriptCursor(Script.model_validate({"answers": answers, "then": then})) for then in ("sentences", "repeat")
    )
    assert [_calls(once) for _ in range(3)] == [["a"], ["b"], []]
    assert [_calls(again) for _ in range(3)] == [["a"], ["b"], ["a"]]
    assert ScriptCursor(Script(then="repeat")).take() == ScriptedAnswer()


def _calls(cursor: ScriptCursor) -> list[str]:
    return [part.call for part in cursor.take().output if isinstance(part, ScriptedCall)]
