"""What a look at the files of ``docker/`` can show; the image itself is built by ``tests/e2e/test_image.py``."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gateway.settings.load import FIELDS, SOURCES
from gateway.settings.sources import variable_of

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
WRITTEN = sorted(path for path in DOCKER.rglob("*") if path.is_file())
PYTHON = {"python_version": "3.11", "python_full_version": "3.11.2"}
"""Debian 12's, as markers name it."""


def test_the_dockerfile_passes_the_linter() -> None:
    done = subprocess.run([f"{sys.prefix}/bin/hadolint", str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def pins() -> dict[str, str]:
    lines = (DOCKER / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_what_the_image_installs_is_what_the_project_asks_for() -> None:
    versions = {canonicalize_name(name): version for name, version in pins().items()}
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate(PYTHON):
            assert versions[canonicalize_name(wanted.name)] in wanted.specifier, f"docker/requirements.txt: {line}"


def test_the_image_copies_what_the_build_is_allowed_to_see() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    wanted = {name for line in copied for name in line.split()}
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert wanted == allowed


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(DOCKER).as_posix())
def test_no_file_names_a_setting_that_is_not_there(path: Path) -> None:
    known = {variable_of(name) for name in FIELDS}
    entries = tuple(f"{variable_of(name)}__" for name, folded in SOURCES.mappings.items() if folded)
    unknown = {name for name in re.findall(r"\bGATEWAY_[A-Z]\w*", path.read_text()) if name not in known}
    assert not {name for name in unknown if not name.startswith(entries)}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(DOCKER).as_posix())
def test_no_file_holds_a_secret(path: Path) -> None:
    assert not re.search(r"\b(sk|ek)[-_][A-Za-z0-9]{8,}", path.read_text())
