"""The bytes of a dialplan's files, and the YAML nodes in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.composer import Composer

from gateway.dialplan.read.yaml_tree import MAX_DEPTH, MAX_NODES, CoreResolver, mistake_at
from gateway.errors import DialplanError, Mistake

MAX_BYTES = 8 << 20
"""Bytes of one file."""
MAX_FILES = 200
MAX_PATIENCE = 256 << 10
"""Characters of a broken file that are read again slowly for a better message."""
_FAST: Any = getattr(yaml, "CSafeLoader", None)  # libyaml; PyYAML can be built without it


class PlanFile(NamedTuple):
    """One file as it was read."""

    name: str
    data: bytes


def read_files(path: Path) -> list[PlanFile]:
    """
    Read a file, or all ``*.yaml`` files of a folder in the order of their names.

    Raises:
        DialplanError: none there, not to be read, or too large.
    """
    paths = files_of(path)
    if not paths:
        raise DialplanError(Mistake(str(path), 0, 0, "", "the folder has no *.yaml files; put a dialplan into it"))
    if len(paths) > MAX_FILES:
        raise DialplanError(Mistake(str(path), 0, 0, "", f"more than {MAX_FILES} files; this is not a dialplan"))
    return [PlanFile(str(each), _read(each)) for each in paths]


def files_of(path: Path) -> list[Path]:
    """
    Return the files of a plan by their names; hidden ones, such as the locks of editors, are not among them.

    Raises:
        DialplanError: the folder cannot be looked into.
    """
    try:
        return sorted(path.glob("[!.]*.yaml")) if path.is_dir() else [path]
    except (OSError, ValueError) as error:
        raise DialplanError(Mistake(str(path), 0, 0, "", f"cannot be read: {error}")) from None


def folder_of(path: Path) -> Path:
    """Return the folder that relative paths in a plan start from."""
    return path if path.is_dir() else path.parent


def _read(path: Path) -> bytes:
    name = str(path)
    try:
        if path.exists() and not path.is_file():
            raise DialplanError(Mistake(name, 0, 0, "", "not a regular file; give a YAML file or a folder of them"))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DialplanError(Mistake(name, 0, 0, "", "no such file; correct the setting `dialplan`")) from None
    except (OSError, ValueError) as error:
        raise DialplanError(Mistake(name, 0, 0, "", f"cannot be read: {error}")) from None
    if len(data) > MAX_BYTES:
        raise DialplanError(Mistake(name, 0, 0, "", f"larger than {MAX_BYTES} bytes; this is not a dialplan"))
    return data


def version_of(files: list[PlanFile]) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 over the files' lengths and bytes."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{len(file.data)}\n".encode())
        digest.update(file.data)
    return digest.hexdigest()[:12]


def compose(file: PlanFile) -> yaml.Node:
    """
    Return the root node of a file.

    Raises:
        DialplanError: not UTF-8, not YAML, empty, too deep or too large.
    """
    text = _decoded(file)
    root = None
    if _FAST is not None:
        try:
            root = _compose_with(_FastLoader, text, file.name)
        except DialplanError:
            if len(text) > MAX_PATIENCE:
                raise
            # The slow one says it in words that do not depend on the build, and more precisely.
            root = _compose_with(_Loader, text, file.name)
    else:
        root = _compose_with(_Loader, text, file.name)
    if root is None:
        raise DialplanError(Mistake(file.name, 1, 1, "", "empty; a dialplan has the keys agents and routes"))
    return root


def _decoded(file: PlanFile) -> str:
    try:
        return file.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = file.data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        problem = f"byte 0x{file.data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise DialplanError(Mistake(file.name, line, column, "", problem)) from None


def _compose_with(kind: Callable[[str], Any], text: str, name: str) -> yaml.Node | None:
    loader = None
    try:
        loader = kind(text)
        root: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise DialplanError(mistake_at(name, mark, f"not YAML: {problem}")) from None
    except yaml.reader.ReaderError as error:
        at = min(error.position, len(text) - 1)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        problem = f"the character U+{ord(text[at]):04X} is not allowed in YAML; remove it"
        raise DialplanError(Mistake(name, line, column, "", problem)) from None
    except (ValueError, OverflowError) as error:  # an escape beyond Unicode, a version number of thousands of digits
        mark = loader.get_mark() if isinstance(loader, _Loader) else None
        raise DialplanError(mistake_at(name, mark, f"not YAML: {error}")) from None
    return root


class _Bounded(Composer):
    """Composes nodes, and stops at files that are too deep or too large to compose."""

    depth = 0
    count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.count += 1
        if self.depth > MAX_DEPTH or self.count > MAX_NODES:
            problem = "nested too deeply" if self.depth > MAX_DEPTH else "too many values"
            mark = self.peek_event().start_mark  # type: ignore[attr-defined]
            raise yaml.MarkedYAMLError(problem=f"{problem} for a dialplan", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Loader(_Bounded, CoreResolver, yaml.SafeLoader):
    """PyYAML's own parser."""


if _FAST is not None:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class _FastLoader(_Bounded, CParser, CoreResolver):
        """libyaml's parser; the nodes are still composed here, where their depth is bounded."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            CoreResolver.__init__(self)
