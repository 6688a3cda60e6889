"""The command as people and CI run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def gateway(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "dialplan", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60, check=False)


def test_exit_codes_are_those_that_ci_needs(tmp_path: Path) -> None:
    done = gateway("test", *map(str, sorted((ROOT / "dialplans" / "tests").glob("*.yaml"))), cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "plan.yaml").write_text("agents: {a: {instructions: x}}\nroutes: [{name: b, agent: c}]\n")
    done = gateway("check", "plan.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "plan.yaml:2:27: routes[0].agent: there is no agent 'c'; there is only 'a'\n1 mistake\n"
    done = gateway("explain", "--plan", "plan.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "plan.yaml:2:27: routes[0].agent: there is no agent 'c'; there is only 'a'\n"


def test_a_piped_schema_is_the_file(tmp_path: Path) -> None:
    assert gateway("schema", cwd=tmp_path).stdout == (ROOT / "dialplans" / "schema.json").read_text()
