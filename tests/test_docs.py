"""What the documents say is what the program does."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest

from gateway.dialplan.read.loader import load_dialplan
from gateway.redact import shown
from gateway.settings.load import FIELDS, SOURCES, effective
from gateway.settings.sections import Settings
from gateway.settings.sip import TrunkSettings
from gateway.settings.sources import variable_of
from gateway.store.record import CallRecord
from gateway.threads import ThreadRole

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "dialplans").glob("*.yaml"))
NOT_COMMANDS = {"__init__", "main", "render"}
GATEWAY = ROOT / "gateway"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAST = {"changelog.md", *(path.name for path in (ROOT / "docs" / "decisions").iterdir())}  # name files of their time
FIELD_TERMS = """
    agent, announcement, backoff, barge-in, breaker, bridge, client secret, codec, dialog, dialplan, digest, DTMF,
    expiry, failover, filler, function call, G.711, garbage, history, INVITE, IVR, jitter buffer, journal, leg, limits,
    MCP, menu, mute, NAPTR, PCM, phone number, playout, plugin, quality, rate limit, recording, redirect, redact, REFER,
    registration, reject, reload, resample, robot, route, RTP, screen, SDP, second leg, simulator, SRV, STUN,
    switchboard, template, tool call, trace, transcript, transfer, truncate, trunk, turn detection, uplink, usage, VAD,
    WAV, webhook
"""


def commands() -> list[str]:
    """Return the commands: modules of ``gateway/cli`` with a public function of their own name."""
    found = []
    for path in sorted((ROOT / "gateway" / "cli").glob("*.py")):
        functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if path.stem not in NOT_COMMANDS and path.stem in functions:
            found.append(path.stem)
    return found


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_stands_in_the_docs_as_it_is(name: str) -> None:
    value, description = effective(Settings())[name].value, FIELDS[name].description
    assert description, f"{name} has no description"
    row = f"| `{name}` | `{variable_of(name)}` | {value} | {description} |"
    assert row in (ROOT / "docs" / "settings.md").read_text().splitlines()


def test_the_docs_name_no_setting_that_is_not_there() -> None:
    known = {variable_of(name) for name in FIELDS} | {"GATEWAY_CONFIG"}
    for path in DOCS:
        named = set(re.findall(r"\bGATEWAY_[A-Z]\w*", path.read_text()))
        entries = tuple(f"{variable_of(name)}__" for name, folded in SOURCES.mappings.items() if folded)
        unknown = {name for name in named - known if not name.startswith(("GATEWAY_SERVICE_", *entries))}
        assert not unknown, f"{path.name} names {unknown}"


@pytest.mark.parametrize("name", TrunkSettings.model_fields)
def test_every_key_of_a_trunk_stands_in_the_docs_as_it_is(name: str) -> None:
    field = TrunkSettings.model_fields[name]
    default = "needed" if field.is_required() else shown(field.default)
    row = f"| `{field.alias or name}` | {default} | {field.description} |"
    assert row in (ROOT / "docs" / "trunks.md").read_text().splitlines()


def test_the_docs_name_no_key_of_a_trunk_that_is_not_there() -> None:
    text = (ROOT / "docs" / "trunks.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", text.partition("## All keys")[2], re.MULTILINE))
    assert named == {field.alias or name for name, field in TrunkSettings.model_fields.items()}


@pytest.mark.parametrize("name", CallRecord.model_fields)
def test_every_field_of_a_record_stands_in_the_docs_as_it_is(name: str) -> None:
    row = f"| `{name}` | {CallRecord.model_fields[name].description} |"
    assert row in (ROOT / "docs" / "redis.md").read_text().splitlines()


@pytest.mark.parametrize("command", commands())
def test_every_command_is_named_in_the_docs(command: str) -> None:
    text = "\n".join(path.read_text() for path in DOCS)
    assert re.search(rf"gateway {command.replace('_', '-')}\b", text)


def test_there_are_commands_and_examples() -> None:
    assert "check" in commands()
    assert ROOT / "dialplans" / "hello.yaml" in EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_dialplan_loads(path: Path) -> None:
    assert load_dialplan(path).dialplan.routes


def headings(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_to_headings_lead_to_headings(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text()):
        page = path.parent / target if target else path
        assert anchor in headings(page), f"{path.name} links to {target}#{anchor}"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def section(page: Path, title: str) -> str:
    """Return what stands under a heading of the second level."""
    return page.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(text: str) -> list[list[str]]:
    """Return the lines of each fenced block."""
    return [block.splitlines() for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def rooms_on_the_page() -> Iterator[str]:
    """Yield each file that the page of the architecture lists, as a path below ``gateway``."""
    folder = ""
    for line in chain.from_iterable(blocks(section(ARCHITECTURE, "Rooms"))):
        if found := re.match(r"(\S*/)(\s|$)", line):
            folder = found[1].removeprefix("./")
        elif names := re.match(r"((\s+\w+\.py)+)", line):
            yield from (folder + name for name in names[1].split())


def test_the_architecture_lists_every_file() -> None:
    there = {path.relative_to(GATEWAY).as_posix() for path in GATEWAY.rglob("*.py") if path.name != "__init__.py"}
    listed = list(rooms_on_the_page())
    assert there - {*listed} == set(), "add a line to docs/architecture.md, Rooms"
    assert {*listed} - there == set(), "gone, or moved: mend docs/architecture.md, Rooms"
    assert len(listed) == len({*listed}), "listed twice in docs/architecture.md"


def test_the_architecture_lists_every_folder() -> None:
    text = section(ARCHITECTURE, "Rooms")
    for path in GATEWAY.rglob("*.py"):
        folder = path.parent.relative_to(GATEWAY).as_posix()
        if any(node for node in ast.parse(path.read_text()).body[1:]):
            assert f"\n{folder}/" in text, f"docs/architecture.md, Rooms: {folder}/ is missing"


def test_the_architecture_has_the_layers_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if "layers" in contract)
    (shown_there,) = blocks(section(ARCHITECTURE, "Layers"))
    assert shown_there == [re.sub(r"\bgateway\.", "", line) for line in layers]


def test_the_architecture_names_the_pure_folders() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (folders,) = (contract["folders"] for contract in contracts if "folders" in contract)
    sentence = section(ARCHITECTURE, "Layers").partition("\nPure, and checked so:")[2]
    assert set(re.findall(r"`([\w.]+)`", sentence)) == {folder.removeprefix("gateway.") for folder in folders}


def defined_in(path: Path) -> set[str]:
    """Return the names of classes and functions of a file."""
    return {getattr(node, "name", "") for node in ast.parse(path.read_text()).body}


def test_the_glossary_names_what_there_is() -> None:
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "glossary.md").read_text())
    assert len(named) > 50
    gone = [path for path, _ in named if not (GATEWAY / path).is_file()]
    assert not gone, "moved or gone: mend docs/glossary.md"
    unknown = [f"{path}::{name}" for path, name in named if name and name not in defined_in(GATEWAY / path)]
    assert not unknown, "renamed: mend docs/glossary.md"


def test_no_word_has_two_meanings_in_the_glossary() -> None:
    words = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    words = [word for word in words if word not in {"word", "---"}]
    assert len(words) == len({*words})


TEXT_TERMS = """
    authentication, back-off, caller id, circuit breaker, client secret, drain, E-model, early media, goodbye, greeting,
    half-open, heartbeat, hold, holiday, hot reload, idle timeout, jitter buffer, keep-alive, outbound, roll-over,
    session timer, SRTP, truncated, voicemail, warm transfer
"""


def test_every_other_term_of_the_field_can_be_found() -> None:
    text = in_one_form("".join(path.read_text() for path in GATEWAY.rglob("*.py")))
    terms = [" ".join(term.split()) for term in TEXT_TERMS.split(",")]
    assert [term for term in terms if in_one_form(term) not in text] == []


def in_one_form(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def test_every_term_of_the_field_is_in_the_name_of_a_file_or_class() -> None:
    names = {
        in_one_form(part) for path in GATEWAY.rglob("*.py") for part in path.relative_to(GATEWAY).with_suffix("").parts
    }
    for path in GATEWAY.rglob("*.py"):
        names |= {
            in_one_form(node.name) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
        }
    terms = [" ".join(term.split()) for term in FIELD_TERMS.split(",")]
    assert [term for term in terms if not any(in_one_form(term) in name for name in names)] == []


@pytest.mark.parametrize("path", [path for path in DOCS if path.name not in PAST], ids=lambda path: path.name)
def test_files_that_the_docs_name_are_there(path: Path) -> None:
    named = set(re.findall(r"`([\w/]+\.py)(?:::[\w.]+)?`", path.read_text()))
    gone = {
        name for name in named if not any((base / name).is_file() for base in (ROOT, GATEWAY)) and not in_tests(name)
    }
    assert not gone, f"{path.name} names files that are gone"


def in_tests(name: str) -> bool:
    """Return whether a file of the tests has this name; only theirs may stand without a folder."""
    return name.startswith("test_") and any((ROOT / "tests").rglob(name))


def test_files_that_the_code_names_are_there() -> None:
    there = [path.relative_to(ROOT).as_posix() for folder in ("gateway", "tests", "docs") for path in python_in(folder)]
    ends = {"/".join(path.split("/")[start:]) for path in there for start in range(path.count("/") + 1)}
    for path in python_in("gateway"):
        named = set(re.findall(r"(?<![\w/.*])((?:[a-z_]+/)*[a-z_]+\.py)\b", path.read_text()))
        assert named <= ends, f"{path.relative_to(ROOT)} names {named - ends}"


def python_in(folder: str) -> Iterator[Path]:
    """Return the Python files below a folder of the repository."""
    return (ROOT / folder).rglob("*.py")


@pytest.mark.parametrize("page", ["threads.md", "architecture.md"])
def test_every_role_of_a_thread_is_in_the_tables(page: str) -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"\w+", row)} == set(get_args(ThreadRole))
