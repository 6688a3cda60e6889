from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.tools.plugin import CallFacts, load_plugin
from tests.fakes.plugins import NAMES, install_plugins

pytestmark = pytest.mark.unit

FACTS = CallFacts("call-1", {"from": "sip:ann@example.com"})


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(tmp_path, monkeypatch)


async def test_a_function_is_found_by_its_entry_point_and_run() -> None:
    plugin = load_plugin("order")
    assert plugin.definition.name == "order"
    assert plugin.definition.description == "Look an order up."
    assert plugin.definition.parameters["required"] == ["number"]
    assert await plugin.run({"number": 4}, FACTS) == {"number": 4, "call": "call-1", "from": "sip:ann@example.com"}


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    assert load_plugin("thread").definition.parameters == {"type": "object", "properties": {}}


async def test_a_tool_that_asks_the_process_to_exit_only_fails() -> None:
    with pytest.raises(RuntimeError, match="asked the process to exit"):
        await load_plugin("leave").run({}, FACTS)


def test_an_unknown_name_is_told_with_what_is_installed() -> None:
    with pytest.raises(ConfigError) as caught:
        load_plugin("ordr")
    assert "no package has an entry point 'ordr'" in str(caught.value)
    assert ", ".join(sorted((*NAMES, "faulty", "lost", "missing"))) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing", "'missing' (no_such_module:f) cannot be imported: No module named 'no_such_module'"),
        ("faulty", "cannot be imported: ZeroDivisionError: division by zero"),
        ("lost", "cannot be imported: module 'shop_tools_of_a_test' has no attribute 'no_such_function'"),
        ("unmarked", "is no function marked with gateway.tools.plugin.tool"),
    ],
)
def test_an_entry_point_that_is_no_tool_is_told(name: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_plugin(name)
    assert told in str(caught.value)


def test_two_packages_with_the_same_name_are_told(tmp_path: Path) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gateway.tools]\norder = shop_tools_of_a_test:thread\n")
    with pytest.raises(ConfigError, match="several packages have an entry point 'order'"):
        load_plugin("order")


def test_without_any_package_that_is_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(ConfigError, match="none is installed"):
        load_plugin("order")
