"""A scenario file: what the agent does, response by response."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import ValidationError, model_validator

from gateway.errors import ConfigError, Mistake
from gateway.lab.simulator.answer import Part, ScriptedAnswer
from gateway.lab.simulator.faults.faults import parse_fault

_KINDS = {"dict_type": "should be a mapping", "model_type": "should be a mapping", "tuple_type": "should be a list"}


class Script(Part):
    """
    What the agent does.

    Attributes:
        answers: one per response inside the conversation, in order.
        then: what follows the last: the ``sentences`` that ship, in turn, or the answers again (``repeat``).
        over: a connection begins with the first answer (``connection``), or goes on where the one before it was
            (``simulator``).
        faults: what goes wrong on every connection, each as for ``--fault``.
    """

    answers: tuple[ScriptedAnswer, ...] = ()
    then: Literal["sentences", "repeat"] = "sentences"
    over: Literal["connection", "simulator"] = "connection"
    faults: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _faults_are_known(self) -> Self:
        for fault in (*self.faults, *(each for answer in self.answers for each in answer.faults)):
            try:
                parse_fault(fault)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self


class ScriptCursor:
    """Gives a script's answers, one after the other."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._next = 0

    def take(self) -> ScriptedAnswer:
        """Return the next answer; one sentence once the script is over."""
        answers = self._script.answers
        if self._next == len(answers) and self._script.then == "repeat":
            self._next = 0
        if self._next == len(answers):
            return ScriptedAnswer()
        self._next += 1
        return answers[self._next - 1]


def load_script(path: Path) -> Script:
    """
    Read and check a scenario file (YAML).

    Raises:
        ConfigError: ``file:line:column: field: problem`` for every mistake.
    """
    name = str(path)
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        plain = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(str(_mistake(name, error.problem_mark, "", f"not YAML: {problem}"))) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {error}") from None
    if root is None:
        raise ConfigError(f"{name}: empty; a scenario needs the key answers")
    doubled = [_mistake(name, key.start_mark, str(key.value), "written twice") for key in _doubled(root)]
    if doubled:
        raise ConfigError(*map(str, doubled))
    try:
        return Script.model_validate(plain)
    except ValidationError as error:
        mistakes = []
        for details in error.errors():
            problem = _KINDS.get(details["type"]) or details["msg"].removeprefix("Value error, ")
            if details["type"] == "extra_forbidden":
                problem = "unknown key"
            mark, field = _place(root, details["loc"])
            mistakes.append(_mistake(name, mark, field, problem))
        raise ConfigError(*map(str, mistakes)) from None


def _mistake(file: str, mark: yaml.Mark | None, field: str, problem: str) -> Mistake:
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    return Mistake(file, line, column, field, problem)


def _doubled(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield the keys that a mapping has twice; YAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                yield key
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
            yield from _doubled(value)
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _doubled(entry)


def _place(root: yaml.Node, path: tuple[str | int, ...]) -> tuple[yaml.Mark, str]:
    """Return the place of a value, or the nearest part of the file around it; tags of unions are no keys."""
    node, field = root, ""
    for part in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node, field = node.value[part], f"{field}[{part}]"
        elif isinstance(node, yaml.MappingNode):
            inner = next((value for key, value in node.value if key.value == part), None)
            if inner is not None:
                node, field = inner, f"{field}.{part}".removeprefix(".")
    return node.start_mark, field
