"""A dialplan file read from disk: a ``Dialplan``, or every mistake in it with its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import ValidationError

from gateway.dialplan.mistakes import did_you_mean, explain
from gateway.dialplan.model import Dialplan
from gateway.dialplan.tree import MAX_DEPTH, MAX_NODES, YamlTree, mistake_at
from gateway.errors import DialplanError, Mistake

MAX_BYTES = 1 << 20


def load_dialplan(path: Path) -> Dialplan:
    """
    Read and check a dialplan.

    Raises:
        DialplanError: with all mistakes of the first kind found: file, syntax, structure and content.
    """
    name = str(path)
    text = _read(path, name)
    root = _compose(text, name)
    tree = YamlTree(name)
    plain = tree.value(root)
    if not tree.mistakes and not isinstance(plain, dict):
        tree.refuse(root, (), "a dialplan is a mapping with the keys agents and routes")
    if tree.mistakes:
        raise DialplanError(*tree.mistakes)
    mistakes = list(_unknown_agents(plain, tree))
    try:
        dialplan = Dialplan.model_validate(plain)
    except ValidationError as error:
        # The model itself speaks of one unknown agent without a place; found here already, all and with their lines.
        told = [e for e in error.errors() if e["loc"] or not mistakes]
        mistakes += [explain(details, tree) for details in told]
        raise DialplanError(*sorted(mistakes, key=lambda mistake: (mistake.line, mistake.column))) from None
    return dialplan


def _unknown_agents(plain: object, tree: YamlTree) -> Iterator[Mistake]:
    match plain:
        case {"agents": dict(agents), "routes": list(routes)} if agents:
            for index, rule in enumerate(routes):
                name = rule.get("agent") if isinstance(rule, dict) else None
                if isinstance(name, str) and name not in agents:
                    problem = f"there is no agent {name!r}; {did_you_mean(name, agents)}"
                    yield tree.mistake(("routes", index, "agent"), problem)


def _read(path: Path, name: str) -> str:
    try:
        if path.exists() and not path.is_file():
            raise DialplanError(Mistake(name, 0, 0, "", "not a regular file; give a YAML file"))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DialplanError(Mistake(name, 0, 0, "", "no such file; correct the setting `dialplan`")) from None
    except (OSError, ValueError) as error:
        raise DialplanError(Mistake(name, 0, 0, "", f"cannot be read: {error}")) from None
    if len(data) > MAX_BYTES:
        raise DialplanError(Mistake(name, 0, 0, "", f"larger than {MAX_BYTES} bytes; that is no dialplan"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        problem = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise DialplanError(Mistake(name, line, column, "", problem)) from None


class _Loader(yaml.SafeLoader):
    """Composes nodes, and stops at files that are too deep or too large to compose."""

    depth = 0
    count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.count += 1
        if self.depth > MAX_DEPTH or self.count > MAX_NODES:
            problem = "nested too deeply" if self.depth > MAX_DEPTH else "too many values"
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"{problem} for a dialplan", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(text: str, name: str) -> yaml.Node:
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise DialplanError(mistake_at(name, mark, f"not YAML: {problem}")) from None
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        problem = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML; remove it"
        raise DialplanError(Mistake(name, line, column, "", problem)) from None
    except (ValueError, OverflowError) as error:  # an escape beyond Unicode, a version number of thousands of digits
        raise DialplanError(mistake_at(name, loader.get_mark() if loader else None, f"not YAML: {error}")) from None
    if root is None:
        raise DialplanError(Mistake(name, 1, 1, "", "empty; a dialplan has the keys agents and routes"))
    return root
