"""Start, reload, ``gateway dialplan check`` and ``gateway check`` come to the same end with every plan."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import wave
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli import check, dialplan
from gateway.errors import ConfigError, SipError
from gateway.lab.callers.gateway_process import GatewayProcess
from gateway.settings.load import load_settings
from gateway.worker.worker import Worker
from tests.fakes.plugins import install_plugins

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SETTINGS = """\
[sip]
host = "127.0.0.1"
port = 0
[realtime]
api_key = "test-key"
url = "ws://127.0.0.1:9/v1/realtime"
[trunks.main]
host = "127.0.0.1"
[trunks.carrier]
host = "127.0.0.2"
[secrets]
crm_token = "x"
webhook_key = "x"
manuals_token = "x"
odd = "two\\nlines"
"""
GOOD = "agents: {a: {instructions: x}}\nroutes: [{name: all, agent: a}]\n"


def agent(lines: str) -> str:
    """Return a plan whose agent has these lines."""
    inner = "".join(f"    {line}\n" for line in lines.splitlines())
    return f"agents:\n  a:\n    instructions: x\n{inner}routes: [{{name: all, agent: a}}]\n"


def webhook(keys: str = "", *, parameters: str = "{type: object, properties: {}}", name: str = "t") -> str:
    more = f", {keys}" if keys else ""
    entry = f"- {{name: {name}, description: x, url: https://h.example/x, parameters: {parameters}{more}}}"
    return agent(f"tools:\n  webhooks:\n    {entry}")


def prop(schema: str, more: str = "") -> str:
    return webhook(parameters=f"{{type: object, properties: {{n: {schema}}}{more}}}")


def route(step: str) -> str:
    return f"agents: {{a: {{instructions: x}}}}\nroutes: [{{name: all, {step}}}]\n"


TAKEN = {
    "numbers": prop(
        "{enum: [1, 2], const: 5, minimum: 1, multipleOf: .5, default: false}", ", additionalProperties: false"
    ),
    "json": webhook(parameters='{"type":"object","properties":{"n":{"type":"integer","enum":[1,2]}},"required":["n"]}'),
    "recursive reference": prop("{$ref: '#/$defs/m'}", ", $defs: {m: {items: {$ref: '#/$defs/m'}}}"),
    "required without a property": prop("{type: integer}", ", required: [z]"),
    "array without items": prop("{type: array}"),
    "secrets that are there": webhook('headers: {Authorization: "Bearer ${CRM_TOKEN}"}, signed_with: webhook_key'),
    "mcp": agent("tools: {mcp: [{server_label: m, server_url: https://m.example/, authorization: MANUALS_TOKEN}]}"),
    "plugin": agent("tools: {plugins: [{name: order}]}"),
    "trunks that are there": route("match: {trunk: MAIN}, action: dial, to: '+49301', trunk: carrier"),
    "sounds": route("action: announce, files: sounds/good.wav"),
    "sound without an end": route("action: announce, files: sounds/empty.wav"),
    "filler": agent("filler: sounds/good.wav"),
    "sound of an apology": agent("on_no_answer: {then: [apologize, play], sound: sounds/good.wav}"),
    "own tool named as one built in that is not offered": webhook(name="transfer_call"),
}
REFUSED = {
    "no reference": (prop("{$ref: '#/$defs/m'}"), "points nowhere"),
    "no reference in $defs": (prop("{}", ", $defs: {m: {not: {$ref: '#/n'}}}"), "points nowhere"),
    "reference to the web": (prop("{$ref: 'https://example.com/s.json'}"), "nothing is fetched"),
    "reference round and round": (
        prop("{$ref: '#/$defs/m'}", ", $defs: {m: {$ref: '#/$defs/m'}}"),
        "refers to itself endlessly",
    ),
    "root array": (webhook(parameters="{type: array}"), "must be that of an object"),
    "root without a type": (webhook(parameters="{properties: {}}"), "must be that of an object"),
    **{
        f"root {key}": (webhook(parameters=f"{{type: object, properties: {{}}, {key}: {value}}}"), f"refuse {key} at")
        for key, value in {"anyOf": "[{}]", "oneOf": "[{}]", "allOf": "[{}]", "enum": "[{}]", "not": "{}"}.items()
    },
    "empty enum": (prop("{enum: []}"), "is empty"),
    "unknown type": (prop("{type: text}"), "there is no type 'text'"),
    "text for a number": (prop("{minimum: '1'}"), "not a JSON Schema"),
    "number for text": (prop("{description: 5}"), "put it into quotes"),
    "pattern": (prop("{pattern: '['}"), "not a regular expression"),
    "infinite": (prop("{maximum: .inf}"), "not a number in JSON"),
    "too large": (prop("{maximum: 1e999}"), "too large for a number"),
    "number for a key": (prop("{}").replace("{n:", "{1:"), "a key in JSON is text"),
    "key twice": (prop("{minimum: 1, minimum: 2}"), "written twice"),
    "large schema": (prop(f"{{description: {'x' * 70_000}}}"), "more than 65536 characters"),
    "deep schema": (prop("{items: " * 42 + "{}" + "}" * 42), "levels deep"),
    "schema that is text": (webhook(parameters="none"), "should be a mapping"),
    "no secret in a header": (webhook('headers: {A: "${NOBODY}"}'), "there is no secret 'NOBODY'"),
    "no secret that signs": (webhook("signed_with: nobody"), "there is no secret 'nobody'"),
    "no secret of mcp": (TAKEN["mcp"].replace("MANUALS_TOKEN", "nobody"), "there is no secret 'nobody'"),
    "secret of two lines": (webhook('headers: {A: "${ODD}"}'), "no header can have this value"),
    "header of ours": (webhook("headers: {Content-Length: '5'}"), "not a header of yours"),
    "label of an MCP server twice": (
        agent(
            "tools: {mcp: [{server_label: m, server_url: 'https://m/'}, {server_label: m, server_url: 'https://n/'}]}"
        ),
        "another server has this label",
    ),
    "password in a URL": (webhook().replace("https://h", "https://u:p@h"), "contains a user or password"),
    "no trunk of a step": (route("action: dial, to: '+49301', trunk: carier"), "no trunk 'carier'"),
    "no trunk of a match": (route("match: {trunk: man}, agent: a"), "no trunk 'man'"),
    "no trunk inside": (route("action: hunt, steps: [{action: dial, to: '1', trunk: x}, 486]"), "no trunk 'x'"),
    "no sound": (route("action: announce, files: none.wav"), "there is no WAV file"),
    "sound of another kind": (route("action: announce, files: sounds/stereo.wav"), "2 channels, mono is wanted"),
    "sound of another rate": (route("action: announce, files: sounds/fast.wav"), "16000 samples per second"),
    "sound that is none": (route("action: announce, files: sounds/text.wav"), "not a WAV file"),
    "no filler": (agent("filler: none.wav"), "there is no WAV file"),
    "silent filler": (agent("filler: sounds/silent.wav"), "nothing but silence"),
    "empty filler": (agent("filler: sounds/empty.wav"), "nothing but silence"),
    "no sound of an apology": (agent("on_no_answer: {then: [play], sound: none.wav}"), "there is no WAV file"),
    "apology without a sound": (agent("on_no_answer: {then: [play]}"), "play and sound go together"),
    "template of an apology": (agent("on_no_answer: {apology: '{{ groups.area }}'}"), "no such named group"),
    "no plugin": (agent("tools: {plugins: [{name: nobodys}]}"), "no package has an entry point"),
    "unmarked plugin": (agent("tools: {plugins: [{name: unmarked}]}"), "no function marked"),
    "broken plugin": (agent("tools: {plugins: [{name: missing}]}"), "cannot be imported"),
    "faulty plugin": (agent("tools: {plugins: [{name: faulty}]}"), "cannot be imported: ZeroDivisionError"),
    "plugin's schema": (agent("tools: {plugins: [{name: wrong_schema}]}"), "there is no type 'text'"),
    "plugin's schema that is no JSON": (agent("tools: {plugins: [{name: no_json}]}"), "is not JSON"),
    "plugin that cannot be offered": (agent("tools: {plugins: [{name: half_a_letter}]}"), "cannot be written as JSON"),
    "name of a tool": (webhook(name="'order state'"), "should match pattern"),
    "name of a tool twice": (webhook(name="hang_up"), "two tools are named 'hang_up'"),
    "nobody to transfer to": (agent("tools: {builtin: [transfer_call]}"), "without transfer_targets"),
    "transfer to no URI": (
        agent("tools: {builtin: [transfer_call], transfer_targets: {x: nobody}}"),
        "'nobody' is not a URI",
    ),
    "template": (agent("greeting: '{{ callr }}'"), "there is no variable 'callr'"),
    "template of metadata": (agent("greeting: '{{ metadata.team }}'"), "no such metadata"),
    "agent": (route("agent: b"), "there is no agent 'b'"),
    "voice": (agent("voice: ceder"), "there is no voice"),
    "never reached": (
        GOOD.replace("[{name: all, agent: a}", "[{name: all, agent: a}, {name: b, agent: a}"),
        "never re",
    ),
    "not YAML": ("agents: [", "not YAML"),
    "empty": ("", "empty; a dialplan has"),
}


settings_and_plan = typer.Typer()
settings_and_plan.command()(check.check)


class Verdict(NamedTuple):
    """What one way to read a plan made of it: its mistakes, none when it is taken."""

    by: str
    mistakes: tuple[str, ...]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with settings, sounds and plugins."""
    for name in list(os.environ):
        if name.startswith("GATEWAY_") or name in ("OPENAI_API_KEY", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.toml").write_text(SETTINGS)
    shutil.copytree(ROOT / "dialplans" / "sounds", tmp_path / "sounds")
    write_sound(tmp_path / "sounds" / "good.wav")
    write_sound(tmp_path / "sounds" / "stereo.wav", channels=2)
    write_sound(tmp_path / "sounds" / "fast.wav", rate_hz=16000)
    write_sound(tmp_path / "sounds" / "silent.wav", sample=b"\0\0")
    write_sound(tmp_path / "sounds" / "empty.wav", sample=b"")
    (tmp_path / "sounds" / "text.wav").write_text("no sound")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    install_plugins(plugins, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(plugins))
    return tmp_path


def write_sound(path: Path, *, rate_hz: int = 8000, channels: int = 1, sample: bytes = b"\x10\x10") -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(sample * 800 * channels)


def worker(plan: Path) -> Worker:
    return Worker(load_settings(overrides={"dialplan": plan}), lambda line: None)


def started(plan: Path) -> tuple[str, ...]:
    """Return the mistakes that keep a worker from starting."""
    try:
        worker(plan)
    except ConfigError as error:
        return error.problems
    return ()


class Readers:
    """All that read a plan, in one process."""

    def __init__(self, folder: Path) -> None:
        self.plan = folder / "plan.yaml"
        self.plan.write_text(GOOD)
        self.worker = worker(self.plan)
        self.runner = CliRunner()

    def verdicts(self, text: str) -> list[Verdict]:
        self.plan.write_text(text)
        return [Verdict("serve", started(self.plan)), Verdict("reload", self.reload()), *self.commands()]

    def reload(self) -> tuple[str, ...]:
        return asyncio.run(self.worker._plan.reload()).mistakes

    def commands(self) -> Iterator[Verdict]:
        plan = str(self.plan)
        checked = self.runner.invoke(dialplan.app, ["check", plan, "--json"])
        told = json.loads(checked.stdout)
        assert (checked.exit_code, told["ok"]) in ((0, True), (1, False)), checked.output
        places = (f"{each['file']}:{each['line']}:{each['column']}" for each in told["mistakes"])
        words = (
            f"{each['field']}: {each['problem']}" if each["field"] else each["problem"] for each in told["mistakes"]
        )
        yield Verdict("dialplan check", tuple(f"{place}: {text}" for place, text in zip(places, words, strict=True)))
        checked = self.runner.invoke(settings_and_plan, ["--dialplan", plan])
        assert checked.exit_code in (0, 1), checked.exception
        yield Verdict("check", tuple(checked.stderr.splitlines()))
        assert checked.exit_code == bool(checked.stderr)


def plans_of_the_tests() -> list[str]:
    """Return what looks like a plan, or like routes or an agent of one, in tests and documents; right or wrong."""
    found: dict[str, None] = {}
    for path in sorted((ROOT / "dialplans").glob("*.yaml")):
        found[path.read_text()] = None
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            found.update(dict.fromkeys(_plans_in(node)))
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL):
            found.update(dict.fromkeys(_as_plans(block)))
    return list(found)


def _plans_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
        yield from _as_plans("".join(map(str, parts)))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _as_plans(node.value)


def _as_plans(text: str) -> Iterator[str]:
    if not text.isprintable() and not text.replace("\n", "").isprintable():
        return
    if re.search(r"\bagents:", text) and "routes:" in text:
        yield text
        yield (
            text.replace("{profile}", "voice: cedar").replace("{name}", "tester").replace("{{", "{").replace("}}", "}")
        )
    elif re.match(r"\s*- (\{?name:|\{?match:)", text):
        yield f"agents: {{front: {{instructions: x}}, night: {{instructions: x}}}}\nroutes:\n{text}\n"
    elif re.match(r"\s*(greeting|voice|tools|turn_detection|keypad|recording|on_loss|transcription|filler)\w*:", text):
        yield agent(text)


def test_whoever_reads_a_plan_comes_to_the_same_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.check.table", lambda *shown: None)  # drawing takes most of the time
    readers = Readers(folder)
    counts: Counter[str] = Counter()
    differing: list[object] = []
    for text in [*plans_of_the_tests(), *TAKEN.values(), *(text for text, _ in REFUSED.values())]:
        verdicts = readers.verdicts(text)
        if len({verdict.mistakes for verdict in verdicts}) > 1:
            differing.append((text, verdicts))
        counts["refused by all" if verdicts[0].mistakes else "taken by all"] += 1
    print(f"{counts.total()} plans: {dict(counts)}, differing {len(differing)}")
    assert differing == []
    assert counts["taken by all"] > 40
    assert counts["refused by all"] > 60


@pytest.mark.parametrize("kind", TAKEN)
def test_a_plan_that_can_be_used_is_taken(folder: Path, kind: str) -> None:
    (folder / "plan.yaml").write_text(TAKEN[kind])
    assert started(folder / "plan.yaml") == ()


@pytest.mark.parametrize("kind", REFUSED)
def test_each_kind_of_mistake_is_told_with_its_place(folder: Path, kind: str) -> None:
    text, words = REFUSED[kind]
    (folder / "plan.yaml").write_text(text)
    mistakes = started(folder / "plan.yaml")
    assert any(words in mistake for mistake in mistakes), mistakes
    assert all(re.match(rf"{re.escape(str(folder))}/plan\.yaml:\d+:\d+: ", mistake) for mistake in mistakes), mistakes


REALLY = ("numbers", "no reference", "no secret that signs", "plugin's schema")


@pytest.mark.parametrize("kind", REALLY)
async def test_the_real_commands_come_to_the_same_end(folder: Path, kind: str) -> None:
    is_good = kind in TAKEN
    text, words = (TAKEN[kind], "") if is_good else REFUSED[kind]
    (folder / "plan.yaml").write_text(text)
    command = [sys.executable, "-m", "gateway", "dialplan", "check", "plan.yaml"]
    checked = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == (0 if is_good else 1), checked.stdout + checked.stderr
    try:
        async with GatewayProcess({"GATEWAY_DIALPLAN": "plan.yaml"}):
            served = ""
    except SipError as error:
        served = str(error)
    assert bool(served) is not is_good, served
    assert words in served
    assert set(checked.stderr.splitlines()[:-1]) <= set(served.splitlines())
