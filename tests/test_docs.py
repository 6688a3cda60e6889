"""What the documents say is what the program does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from gateway.dialplan.read.loader import load_dialplan
from gateway.settings.masks import shown
from gateway.settings.sections import FIELDS, SOURCES, Settings, TrunkSettings, variable_of
from gateway.store.record import CallRecord

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "dialplans").glob("*.yaml"))
NOT_COMMANDS = {"__init__", "main", "render"}


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
    value, description = Settings().masked()[name].value, FIELDS[name].description
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
    assert load_dialplan(path).routes


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
