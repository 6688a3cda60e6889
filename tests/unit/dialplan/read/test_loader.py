from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.dialplan.read.files import MAX_BYTES, read_files
from gateway.dialplan.read.loader import LoadedPlan, load_dialplan, route_places
from gateway.errors import DialplanError

pytestmark = pytest.mark.unit

GOOD = """\
agents:
  front: &front
    instructions: Be kind.
    turn_detection: {threshold: 0.7, interrupt_response: no}
  night:
    <<: *front
    voice: cedar
    greeting: ~
routes:
  - name: yes
    match: {to: 0123}
    agent: night
  - {name: all, agent: front}
"""

RICH = """\
timezone: Europe/Berlin
holidays: {office: [12-24..12-26, 2026-01-01]}
x-limits: &limits {max_calls: 5, per_caller: {calls_per_day: 3}, over: 486}
defaults:
  turn_detection: {kind: semantic_vad, eagerness: low}
agents:
  front: {instructions: "It is {{ time.clock }}, you are {{ metadata.team }}."}
  night:
    extends: front
    voice: cedar
    greeting: Hello
    tools:
      webhooks:
        - name: order
          description: Look up.
          url: https://h/x
          parameters:
            type: object
            properties:
              n: {type: integer, enum: [1, 0x1F], default: null}
              m: {$ref: "#/$defs/m"}
            $defs: {m: {type: [string, "null"], pattern: "^[a-z]+$", items: {$ref: "#"}}}
            required: [n]
routes:
  - name: one
    match:
      to: ["+49*", "_1NXX", '/^2(?P<desk>\\d+)$/']
      from: "+4930*"
      source: [192.0.2.0/24]
      headers: {X-A: b}
      time: [{weekdays: mon-fri, hours: "09:00-17:30", not_holidays: office}]
      load: {below: 0.9}
      percent: 50
    limits: *limits
    metadata: {team: north}
    action: menu
    say: "Press {{ groups.desk }}"
    agent: night
    keys:
      "1": {action: dial, to: "sip:{{ groups.desk }}@pbx", then: 486}
      "2": {action: hunt, steps: [{agent: front, on_failure: {action: dial, to: "sip:a@b"}}, 503]}
      "0": {action: redirect, contacts: "sip:a@b"}
    otherwise: {action: reject, code: 480, reason: "No {{ called }}"}
  - {name: rest, agent: night, metadata: {team: south}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plan.yaml"


def told(file: Path, text: str | bytes) -> list[str]:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DialplanError) as caught:
        load_dialplan(file)
    return [str(mistake).removeprefix(f"{file.parent}/") for mistake in caught.value.mistakes]


def test_a_good_file_gives_a_dialplan(file: Path) -> None:
    file.write_text("\ufeff" + GOOD)
    plan = load_dialplan(file).dialplan
    assert [rule.name for rule in plan.routes] == ["yes", "all"]
    assert plan.agents["front"].turn_detection.threshold == 0.7
    assert plan.agents["front"].turn_detection.interrupt_response is False
    assert (plan.agents["front"].voice, plan.agents["night"].voice) == ("marin", "cedar")
    assert plan.agents["night"].instructions == "Be kind."
    assert plan.agents["night"].greeting is None


def test_a_rich_file_gives_a_dialplan(file: Path) -> None:
    file.write_text(RICH)
    loaded = load_dialplan(file)
    plan = loaded.dialplan
    assert plan.agents["night"].instructions == plan.agents["front"].instructions
    assert plan.agents["night"].turn_detection.kind == "semantic_vad"
    assert plan.routes[0].limits.per_caller.calls_per_day == 3
    assert len(loaded.version) == 12


def test_a_value_is_the_text_that_was_written(file: Path) -> None:
    file.write_text(GOOD)
    assert load_dialplan(file).dialplan.routes[0].match.to == ("0123",)


def test_each_route_has_its_place_over_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "routes:\n  - name: one\n    match: {to: '1', from: '2'}\n    agent: x\n"
        "  - {name: two, agent: x, match: {trunk: t}}\n  - name: three\n    match: {percent: 50}\n    agent: x\n"
    )
    (tmp_path / "b.yaml").write_text(
        "agents:\n  x: {instructions: hello}\n"
        "routes:\n  - name: four\n    match:\n      to:\n        - '3'\n    agent: x\n"
    )
    places = route_places(read_files(tmp_path))
    assert [(Path(place.file).name, place.line, dict(place.match)) for place in places] == [
        ("a.yaml", 2, {"to": 3, "from": 3}),
        ("a.yaml", 5, {"trunk": 5}),
        ("a.yaml", 6, {"percent": 7}),
        ("b.yaml", 4, {"to": 6}),
    ]
    names = [route.name for route in load_dialplan(tmp_path).dialplan.routes]
    assert names == ["one", "two", "three", "four"]


def test_all_mistakes_are_told_at_once_with_their_places(file: Path) -> None:
    text = """\
agents:
  front:
    instructions: Be kind.
    voise: marin
    voice: ceder
    turn_detection: {threshold: 7, silence_duration_ms: fast}
  back:
    greeting: [1, 2]
  3: hello
routes:
  - name: one
    agent: fornt
  - {name: two, called: "", agent: nobody-at-all}
  - agent: front
    namee: x
extra: 1
"""
    assert told(file, text) == [
        "plan.yaml:4:5: agents.front.voise: unknown key; did you mean 'voice'?",
        "plan.yaml:5:12: agents.front.voice: there is no voice 'ceder'; did you mean 'cedar'?",
        "plan.yaml:6:33: agents.front.turn_detection.threshold: should be less than or equal to 1, not '7'",
        "plan.yaml:6:57: agents.front.turn_detection.silence_duration_ms: should be a valid integer, "
        "unable to parse string as an integer, not 'fast'",
        "plan.yaml:8:5: agents.back.instructions: is missing",
        "plan.yaml:8:15: agents.back.greeting: should be text",
        "plan.yaml:9:6: agents.3: should be a mapping: lines of `key: value`, not 'hello'",
        "plan.yaml:12:12: routes[0].agent: there is no agent 'fornt'; did you mean 'front'?",
        "plan.yaml:13:17: routes[1].called: unknown key; write `match: {to: ...}`",
        "plan.yaml:13:36: routes[1].agent: there is no agent 'nobody-at-all'; there are 'front', 'back', '3'",
        "plan.yaml:14:5: routes[2].name: is missing",
        "plan.yaml:15:5: routes[2].namee: unknown key; did you mean 'name'?",
        "plan.yaml:16:1: extra: unknown key; there are 'agents', 'routes', 'holidays', 'timezone', 'defaults'",
    ]


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("", ["plan.yaml:1:1: empty; a dialplan has the keys agents and routes"]),
        ("# nothing\n", ["plan.yaml:1:1: empty; a dialplan has the keys agents and routes"]),
        ("- 1\n", ["plan.yaml:1:1: a dialplan is a mapping with the keys agents and routes"]),
        ("null\n", ["plan.yaml:1:1: a dialplan is a mapping with the keys agents and routes"]),
        ("agents: {}\nroutes: []\n", ["plan.yaml:1:9: agents: ", "plan.yaml:2:9: routes: "]),
        (
            "agents: 1\nroutes: x\n",
            ["plan.yaml:1:9: agents: should be a mapp", "plan.yaml:2:9: routes: should be a list"],
        ),
        ("a: 1\n  b: 2\n", ["plan.yaml:2:4: not YAML: mapping values are not allowed here"]),
        ("a: 'x\n", ["plan.yaml:2:1: not YAML: while scanning a quoted scalar"]),
        ("a:\n\tb: 1\n", ["plan.yaml:2:1: not YAML: while scanning for the next token"]),
        ("a: 1\n---\nb: 1\n", ["plan.yaml:2:1: not YAML: expected a single document"]),
        ("a: *nowhere\n", ["plan.yaml:1:4: not YAML: found undefined alias"]),
        ("a: x\0y\n", ["plan.yaml:1:5: the character U+0000 is not allowed in YAML"]),
        (b"a: 1\nb: caf\xe9\n", ["plan.yaml:2:7: byte 0xe9 is not UTF-8"]),
        ("a: 1\n".encode("utf-16"), ["plan.yaml:1:1: byte 0xff is not UTF-8"]),
        (
            "a: 1\na: 2\nb: {c: 1, c: 2}\n",
            ["plan.yaml:2:1: a: written twice (first in line 1)", "plan.yaml:3:11: b.c: wr"],
        ),
        ("a: !!python/object:os.system x\n", ["plan.yaml:1:4: a: the tag tag:yaml.org,2002:python/object"]),
        ("a: !!set {b}\nc: !mine [1]\n", ["plan.yaml:1:4: a: the tag", "plan.yaml:2:4: c: the tag !mine"]),
        ("? [a]\n: 1\n", ["plan.yaml:1:3: a key must be plain text"]),
        ("<<: 1\n", ["plan.yaml:1:5: << takes a mapping"]),
        (
            'a: "x\\0y"\nb: "\\ud800"\n',
            ["plan.yaml:1:4: a: the character U+0000", "plan.yaml:2:4: b: the character U+D8"],
        ),
        ('a: "\\UFFFFFFFF"\n', ["plan.yaml:1:7: not YAML: "]),
        ("[" * 100_000, ["plan.yaml:1:65: not YAML: nested too deeply"]),
        ("a: &a [1, *a]\n", ["plan.yaml:1:4: a[1]: an alias inside the value it refers to"]),
        ("a: &a {<<: *a}\n", ["plan.yaml:1:4: a: an alias inside the value it refers to"]),
        ("x: [" + "1, " * 30_000 + "1]", ["plan.yaml:1:"]),
        (f"a: {'9' * 5000}\n", ["plan.yaml:1:1: agents: is missing", "plan.yaml:1:1: a: unknown key"]),
    ],
)
def test_what_is_no_dialplan_is_told_with_its_place(file: Path, text: str | bytes, mistakes: list[str]) -> None:
    found = told(file, text)
    for expected in mistakes:
        assert any(line.startswith(expected) for line in found), found


def test_a_bomb_of_aliases_is_refused_and_never_unfolded(file: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (mistake,) = told(file, "\n".join(lines))
    assert "its aliases expand to too many values" in mistake


def test_a_file_that_cannot_be_read_is_told(file: Path, tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "the folder has no"),
        (Path(os.devnull), "not a regular file"),
        (Path("a\0b"), "cannot be read"),
    ):
        with pytest.raises(DialplanError, match=words):
            load_dialplan(path)
    assert told(file, b"#" * (MAX_BYTES + 1)) == [f"plan.yaml: larger than {MAX_BYTES} bytes; this is not a dialplan"]


PIECES = [
    *(
        "match",
        "to",
        "from",
        "time",
        "hours",
        "9:00-1:00",
        "headers",
        "percent",
        "action",
        "menu",
        "keys",
        "hunt",
        "dial",
    ),
    *(
        "steps",
        "then",
        "limits",
        "over",
        "metadata",
        "holidays",
        "defaults",
        "extends",
        "timezone",
        "x-a",
        "486",
        "/(?P<",
    ),
    *("{{ ", " }}", "{% if ", "%}", "sip:a@b", "a.wav", "*", "_1[", "1e999", "-1", "0", "on_failure", "reject", "code"),
    *(
        "agents",
        "routes",
        "name",
        "agent",
        "called",
        "instructions",
        "voice",
        "turn_detection",
        "front",
        ": ",
        ":",
        "\n",
    ),
    *(
        "  ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&a ",
        "*a",
        "<<: ",
        "|",
        ">",
        '"',
        "'",
        "\\",
        "!!int ",
        "!!bool ",
        "!x ",
        "#",
    ),
    *(
        "null",
        "~",
        "$ref: ",
        "'#/",
        "type",
        "object",
        "1e3",
        ".inf",
        "true",
        "0x1F",
        "1:60",
        "2024-99-99",
        ".nan",
        "=",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "? ",
        "\t",
        "\ufeff",
        "\x85",
    ),
]


@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
    | st.tuples(st.integers(0, len(GOOD)), st.sampled_from(PIECES) | st.text(max_size=3), st.integers(0, 9)).map(
        lambda cut: GOOD[: cut[0]] + cut[1] + GOOD[cut[0] + cut[2] :]
    )
    | st.tuples(st.integers(0, len(RICH)), st.sampled_from(PIECES) | st.text(max_size=3), st.integers(0, 12)).map(
        lambda cut: RICH[: cut[0]] + cut[1] + RICH[cut[0] + cut[2] :]
    )
    | st.tuples(st.integers(0, len(RICH)), st.binary(min_size=1, max_size=2)).map(
        lambda cut: RICH.encode()[: cut[0]] + cut[1] + RICH.encode()[cut[0] + 1 :]
    )
    | st.text(max_size=60)
    | st.binary(max_size=60)
)
@example('"\\U00110000"')
@example("%YAML 1." + "9" * 5000 + "\n--- a\n")
def test_any_text_gives_a_dialplan_or_its_mistakes(file: Path, text: str | bytes) -> None:
    check_any(file, text)


NAMES = st.sampled_from(
    [*(piece for piece in PIECES if piece.isascii()), "front", "1", "2", "sip:a@b", "mon-fri", "x y"]
)
VALUES = st.recursive(
    NAMES | st.none() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("agents", "holidays", "defaults", "timezone"), VALUES)), VALUES
)
def test_any_yaml_gives_a_dialplan_or_its_mistakes(file: Path, top: dict[str, object], route: object) -> None:
    routes = [{"name": "one", **route}] if isinstance(route, dict) else [route]
    check_any(file, yaml.safe_dump({"agents": {"front": {"instructions": "x"}}, "routes": routes, **top}))


def check_any(file: Path, text: str | bytes) -> None:
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        result: LoadedPlan | DialplanError = load_dialplan(file)
    except DialplanError as error:
        result = error
    if isinstance(result, DialplanError):
        assert result.mistakes
        assert all(mistake.problem and mistake.file == str(file) for mistake in result.mistakes)


def test_a_large_broken_file_is_told(file: Path) -> None:
    lines = "".join(f"  - {{name: r{n}, match: {{to: '{n}'}}, agent: front}}\n" for n in range(12_000))
    (mistake,) = told(file, "agents: {front: {instructions: x}}\nroutes:\n" + lines + "  - [broken\nx: {y\n")
    assert mistake.startswith("plan.yaml:12004:")
