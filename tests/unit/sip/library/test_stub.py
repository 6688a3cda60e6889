"""What mypy believes of pjsua2 (``gateway/sip/library/stubs``) is in the module that is installed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.sip.library.pj import pj

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[4]
STUB = ROOT / "gateway" / "sip" / "library" / "stubs" / "pjsua2" / "__init__.pyi"
TREE = ast.parse(STUB.read_text(encoding="utf-8"))
NEWER = {"ByteVector.copy_to_bytearray", "ByteVector.assign_from_bytes"}  # of 2.16
MADE_WITH_EACH = {"this"}  # SWIG's own, on instances


def names(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Yield each name that a part of the stub declares, those of classes as ``Class.name``."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            if not node.name.startswith("_"):
                yield prefix + node.name
                yield from names(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id


@pytest.mark.parametrize("name", [each for each in names(TREE.body) if each not in NEWER])
def test_every_name_of_the_stub_is_in_the_module(name: str) -> None:
    owner, _, member = name.rpartition(".")
    if member not in MADE_WITH_EACH:
        assert hasattr(getattr(pj, owner) if owner else pj, member)


def test_every_constant_is_a_number() -> None:
    for name in names(TREE.body):
        if name.isupper():
            assert isinstance(getattr(pj, name), int)


def test_what_is_used_of_the_module_is_in_the_stub() -> None:
    declared = set(names(TREE.body))
    for path in (*(ROOT / "gateway").rglob("*.py"), *(ROOT / "tests").rglob("*.py")):
        used = set(re.findall(r"\bpj\.([A-Z]\w+)", path.read_text(encoding="utf-8")))
        assert used <= declared, path
