"""What only the whole plan shows: inheritance, several files, names, shadowed routes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.dialplan.model.steps import AgentStep, RejectStep
from gateway.dialplan.read.loader import load_dialplan
from gateway.errors import DialplanError

pytestmark = pytest.mark.unit

AGENTS = "agents:\n  front: {instructions: Be kind.}\nroutes:\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plan.yaml"


def told(path: Path, text: str = "", **options: object) -> list[str]:
    if text:
        path.write_text(text)
    with pytest.raises(DialplanError) as caught:
        load_dialplan(path, **options)  # type: ignore[arg-type]
    folder = path if path.is_dir() else path.parent
    return [str(mistake).replace(f"{folder}/", "") for mistake in caught.value.mistakes]


def test_agents_extend_others_and_the_defaults(file: Path) -> None:
    file.write_text("""\
defaults: {voice: cedar, turn_detection: {threshold: 0.7, silence_duration_ms: 900}}
agents:
  base: {instructions: Be kind., keypad: {shortcuts: {"0": "sip:a@b"}}, turn_detection: {threshold: 0.2}}
  night: {extends: base, instructions: Be brief., keypad: {masked: true}, voice: coral}
  calm: {extends: night, turn_detection: {kind: semantic_vad}, keypad: {shortcuts: {"1": "sip:c@d"}}}
routes:
  - {name: all, agent: calm}
""")
    agents = load_dialplan(file).dialplan.agents
    assert (agents["base"].voice, agents["night"].voice, agents["calm"].voice) == ("cedar", "coral", "coral")
    assert agents["night"].turn_detection.threshold == 0.2
    assert agents["night"].turn_detection.silence_duration_ms == 900
    assert agents["calm"].turn_detection.kind == "semantic_vad"
    assert agents["calm"].instructions == "Be brief."
    assert agents["calm"].keypad.shortcuts == {"0": "sip:a@b", "1": "sip:c@d"}
    assert agents["calm"].keypad.masked


def test_what_is_inherited_is_told_once_where_it_was_written(file: Path) -> None:
    text = """\
defaults: {voise: cedar, extends: a}
agents:
  a: {instructions: x, speed: 9, extends: c}
  b: {extends: a}
  c: {extends: b}
  d: {extends: bb, instructions: x}
routes:
  - {name: all, agent: a}
"""
    assert told(file, text) == [
        "plan.yaml:1:12: defaults.voise: unknown key; did you mean 'voice'?",
        "plan.yaml:1:26: defaults.extends: only agents can extend others",
        "plan.yaml:3:31: agents.a.speed: should be less than or equal to 1.5, not '9'",
        "plan.yaml:4:16: agents.b.extends: circular: a -> c -> b -> a",
        "plan.yaml:6:16: agents.d.extends: there is no agent 'bb'; did you mean 'b'?",
    ]


def test_a_folder_is_one_plan_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "10-agents.yaml").write_text("agents: {front: {instructions: x}}\n")
    (tmp_path / "20-first.yaml").write_text("routes:\n  - {name: one, match: {to: '1'}, agent: front}\n")
    (tmp_path / "30-last.yaml").write_text("agents: {night: {extends: front}}\nroutes: [{name: rest, agent: night}]\n")
    (tmp_path / "notes.txt").write_text("not: {yaml")
    loaded = load_dialplan(tmp_path)
    plan, version = loaded.dialplan, loaded.version
    assert [rule.name for rule in plan.routes] == ["one", "rest"]
    assert plan.agents["night"].instructions == "x"
    (tmp_path / "30-last.yaml").write_text("agents: {night: {extends: front}}\nroutes: [{name: last, agent: night}]\n")
    assert load_dialplan(tmp_path).version != version


def test_what_two_files_both_have_is_told_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(AGENTS + "  - {name: one, match: {to: '1'}, agent: front}\ntimezone: UTC\n")
    (tmp_path / "b.yaml").write_text(AGENTS + "  - {name: one, agent: fornt}\ntimezone: UTC\n")
    assert told(tmp_path) == [
        "b.yaml:2:3: agents.front: written twice (first in a.yaml:2); rename one",
        "b.yaml:4:12: routes[0].name: a route 'one' exists already (a.yaml:4); rename one",
        "b.yaml:4:24: routes[0].agent: there is no agent 'fornt'; did you mean 'front'?",
        "b.yaml:5:1: timezone: written in a.yaml already; keep it in one file",
    ]


@pytest.mark.parametrize(
    ("earlier", "later", "reached"),
    [
        ("", "match: {to: '1'}, ", False),
        ("match: {to: '+49*'}, ", "match: {to: '+4930'}, ", False),
        ("match: {to: '_1XX'}, ", "match: {to: ['123', '145']}, ", False),
        ("match: {to: '_1XX'}, ", "match: {to: ['123', '245']}, ", True),
        ("match: {to: '/1../'}, ", "match: {to: '123', trunk: main}, ", False),
        ("match: {to: '123', trunk: main}, ", "match: {to: '123'}, ", True),
        ("match: {percent: 50}, ", "match: {to: '1'}, ", True),
        ("match: {load: {above: 0.5}}, ", "match: {load: {above: 0.8}}, ", False),
        ("match: {load: {above: 0.8}}, ", "match: {load: {above: 0.5}}, ", True),
        ("match: {time: {weekdays: mon}}, ", "match: {time: {weekdays: mon}, from: '1'}, ", False),
        ("match: {headers: {X-A: '*'}}, ", "match: {headers: {x-a: b, X-C: d}}, ", False),
        ("match: {source: 10.0.0.0/8}, ", "match: {source: 10.1.2.3}, ", False),
        ("match: {source: 10.1.2.3}, ", "match: {source: 10.0.0.0/8}, ", True),
    ],
)
def test_a_route_that_an_earlier_one_covers_is_told(file: Path, earlier: str, later: str, reached: bool) -> None:
    file.write_text(AGENTS + f"  - {{name: one, {earlier}agent: front}}\n  - {{name: two, {later}agent: front}}\n")
    if reached:
        assert len(load_dialplan(file).dialplan.routes) == 2
    else:
        assert told(file) == [
            "plan.yaml:5:5: routes[1]: never reached: the route 'one' (line 4) takes every such call first; "
            "reorder them or remove one"
        ]


def test_names_that_nobody_has_are_told_at_once(file: Path, tmp_path: Path) -> None:
    text = """\
holidays: {office: [12-24]}
agents: {front: {instructions: "{{ groups.area }} {{ metadata.team }}", filler: no.wav}}
routes:
  - {name: a, match: {to: '1', time: {holidays: ofice}, trunk: mian}, agent: front, metadata: {team: "{{ time.our }}"}}
  - {name: b, match: {to: '2', time: [{not_holidays: [x]}]}, action: dial, to: "sip:{{ groups.x }}@h", trunk: other}
  - {name: c, match: {to: '3'}, action: announce, files: gone.wav, then: {action: dial, to: "sip:{{ time.x }}@h"}}
"""
    assert told(file, text, trunks={"main": object()}) == [
        "plan.yaml:2:32: agents.front.instructions: groups.area: no such named group in the match of the route 'a'; "
        "there are none",
        "plan.yaml:2:81: agents.front.filler: there is no WAV file no.wav",
        "plan.yaml:4:49: routes[0].match.time.holidays: there are no holidays 'ofice'; did you mean 'office'?",
        "plan.yaml:4:64: routes[0].match.trunk: the settings have no trunk 'mian'; did you mean 'main'?",
        "plan.yaml:4:102: routes[0].metadata.team: time.our: no such part; did you mean 'hour'?",
        "plan.yaml:5:54: routes[1].match.time[0].not_holidays: there are no holidays 'x'; there is only 'office'",
        "plan.yaml:5:80: routes[1].to: groups.x: no such named group in the match of the route 'b'; there are none",
        "plan.yaml:5:111: routes[1].trunk: the settings have no trunk 'other'; there is only 'main'",
        "plan.yaml:6:58: routes[2].files: there is no WAV file gone.wav",
        "plan.yaml:6:93: routes[2].then.to: time.x: no such part; there are 'clock', 'date', 'day', 'hour', "
        "'minute', 'month', 'part', 'weekday', 'year', 'zone'",
    ]


def test_mistakes_in_steps_and_matches_have_their_places(file: Path) -> None:
    text = (
        AGENTS
        + """\
  - name: a
    match: {too: 1, to: "/(/", from: [], time: {weekdays: moon, hours: 25:00-1:00, zone: Mars}, percent: 0, trunk: }
    action: menu
    prompt: a.wav
    keys: {"1": {action: regect}, "2": {action: dial, to: "+49"}, x: 486, "3": fornt, "4": {}, "5": 999}
    then: 3
  - {name: b, action: hunt, steps: [486, front]}
  - {name: c, action: announce, files: a.wav, answer: no}
  - {name: d, match: , action: reject, code: 200, reason: "{{ x }}"}
  - {name: e}
  - {name: f, agent: front, on_failure: {action: dial, to: "sip:a@b", headers: {Via: x}}, limits: {over: {agent: no}}}
timezone: Europe/Berln
"""
    )
    found = told(file, text)
    for expected in (
        "plan.yaml:5:12: routes[0].match: trunk: has no value; give one or leave the key out",
        "plan.yaml:8:26: routes[0].keys.1.action: unknown action 'regect'; did you mean 'reject'?",
        "plan.yaml:8:40: routes[0].keys.2: to: +49 is a number; name the trunk it is called through, or give a SIP URI",
        "plan.yaml:8:70: routes[0].keys.x: String should match pattern",
        "plan.yaml:8:80: routes[0].keys.3: there is no agent 'fornt'; did you mean 'front'?",
        "plan.yaml:8:92: routes[0].keys.4: does nothing; give agent: NAME, or action: with one of agent, reject",
        "plan.yaml:8:101: routes[0].keys.5: should be less than or equal to 699, not '999'",
        "plan.yaml:9:5: routes[0].then: unknown key; there are",
        "plan.yaml:10:36: routes[1].steps: step 1 (reject) cannot fail: the steps after it are never reached",
        "plan.yaml:11:5: routes[2]: answer: false without then; use action: reject",
        "plan.yaml:12:22: routes[3].match: should be a mapping",
        "plan.yaml:12:46: routes[3].code: should be greater than or equal to 400, not '200'",
        "plan.yaml:12:59: routes[3].reason: template: there is no variable 'x'; there are caller",
        "plan.yaml:13:5: routes[4]: does nothing; give agent: NAME",
        "plan.yaml:14:86: routes[5].on_failure.headers.Via: the header Via belongs to the SIP stack",
        "plan.yaml:14:114: routes[5].limits.over.agent: there is no agent 'no'; there is only 'front'",
        "plan.yaml:15:11: timezone: there is no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'?",
    ):
        assert any(line.startswith(expected) for line in found), (expected, found)
    match = told(file, text.replace(", trunk: }", "}"))
    for expected in (
        "plan.yaml:5:13: routes[0].match.too: unknown key; did you mean 'to'?",
        "plan.yaml:5:25: routes[0].match.to: '/(/' is not a regular expression that runs in linear time (RE2): missing",
        "plan.yaml:5:38: routes[0].match.from: is empty",
        "plan.yaml:5:59: routes[0].match.time.weekdays: 'moon' is not a weekday",
        "plan.yaml:5:72: routes[0].match.time.hours: '25:00-1:00' has an impossible hour or minute",
        "plan.yaml:5:90: routes[0].match.time.zone: there is no time zone 'Mars'",
        "plan.yaml:5:106: routes[0].match.percent: should be greater than 0, not '0'",
    ):
        assert any(line.startswith(expected) for line in match), (expected, match)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('keypad: {shortcuts: {"0": desk}}', "keypad.shortcuts.0: 'desk' is not a URI; give one such as sip:"),
        ('keypad: {shortcuts: {"0": "sip:a@b c"}}', "keypad.shortcuts.0: 'sip:a@b c' is not a URI"),
        (
            "tools: {builtin: [transfer_call], transfer_targets: {desk: '+4930123'}}",
            "tools.transfer_targets.desk: '+4930123' is not a URI",
        ),
        (
            "tools: {builtin: [hang_up, start_recording]}",
            "tools.builtin: start_recording: this agent never records; write `recording: {mode: by_tool}`",
        ),
    ],
)
def test_what_an_agent_could_never_do_is_told(file: Path, given: str, expected: str) -> None:
    found = told(file, f"agents:\n  a: {{instructions: Be kind., {given}}}\nroutes:\n  - {{name: r, agent: a}}\n")
    assert len(found) == 1
    assert found[0].startswith("plan.yaml:2:")
    assert f": agents.a.{expected}" in found[0]


def test_a_step_may_be_written_short(file: Path) -> None:
    file.write_text(AGENTS + "  - {name: a, agent: front, on_failure: 503, limits: {over: front}}\n")
    (rule,) = load_dialplan(file).dialplan.routes
    assert rule.step == AgentStep(agent="front", on_failure=RejectStep(code=503))
    assert rule.limits.over == AgentStep(agent="front")
