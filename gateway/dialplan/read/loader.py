"""A dialplan read from disk: a ``Dialplan``, or every mistake in it with its line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from pydantic import ValidationError

from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.read.files import PlanFile, compose, folder_of, read_files, version_of
from gateway.dialplan.read.inherit import inherit
from gateway.dialplan.read.lint import names_unknown, plan_mistakes, plan_remarks
from gateway.dialplan.read.messages import Finding, mistake_of
from gateway.dialplan.read.source import PlanSource, in_schema
from gateway.dialplan.read.yaml_tree import YamlTree
from gateway.errors import DialplanError, Mistake

MAX_MISTAKES = 500
"""Mistakes that are told at once."""


Look = Callable[[Dialplan], Iterable[Finding]]


def load_dialplan(path: Path, trunks: Collection[str] | None = None) -> Dialplan:
    """
    Read and check a dialplan.

    Args:
        path: a YAML file, or a folder whose ``*.yaml`` files make one plan in the order of their names.
        trunks: names of the trunks in the settings; None does not ask whether those of the plan are there.

    Raises:
        DialplanError: with all mistakes of the first kind found: file, syntax, structure and content.
    """
    return dialplan_of(read_files(path), folder_of(path), trunks)


def dialplan_of(
    files: list[PlanFile], folder: Path, trunks: Collection[str] | None = None, look: Look = lambda plan: ()
) -> Dialplan:
    """
    Check the files of a dialplan that were read already.

    Args:
        files: all of them, in their order.
        folder: where relative paths of WAV files start from.
        trunks: names of the trunks in the settings; None does not ask.
        look: finds more, which is told together with what is found here.

    Raises:
        DialplanError: as ``load_dialplan``.
    """
    written = _written(files)
    mistakes = [*written.mistakes, *names_unknown(written)]
    try:
        plan = Dialplan.model_validate(written.plain)
    except ValidationError as error:
        # The model itself speaks of one unknown name without a place; found here already, all and with their lines.
        # A list whose entries are all wrong counts as empty for it besides.
        told = [
            details
            for details in error.errors(include_url=False)
            if (details["loc"] or not mistakes) and not (details["type"] == "too_short" and details["input"])
        ]
        raise _refusal(files, [*mistakes, *(mistake_of(details, written) for details in told)]) from None
    found: list[Finding] = []
    if not mistakes:
        found = list(look(plan))
        mistakes = [*plan_mistakes(plan, written, folder, trunks), *_placed(found, written, are_remarks=False)]
    if mistakes:
        raise _refusal(files, mistakes)
    odd = [*plan_remarks(plan, written, trunks), *_placed(found, written, are_remarks=True)]
    return plan.read_from(folder, version_of(files), _in_order(files, odd))


def _placed(found: list[Finding], written: PlanSource, *, are_remarks: bool) -> list[Mistake]:
    return [written.mistake(each.path, each.problem) for each in found if each.is_remark is are_remarks]


def _written(files: list[PlanFile]) -> PlanSource:
    """Return what stands in the files, with defaults and extensions put in."""
    written = PlanSource()
    mistakes: list[Mistake] = []
    for file in files:
        tree = YamlTree(file.name, in_schema)
        try:
            root = compose(file)
            plain = tree.value(root)
        except DialplanError as error:
            mistakes += error.mistakes
            continue
        if not tree.mistakes and not isinstance(plain, dict):
            tree.refuse(root, (), "a dialplan is a mapping with the keys agents and routes")
        mistakes += tree.mistakes
        if isinstance(plain, dict):
            written.add(tree, plain)
    if mistakes:
        raise _refusal(files, mistakes)
    inherit(written)
    return written


def _refusal(files: list[PlanFile], mistakes: Iterable[Mistake]) -> DialplanError:
    return DialplanError(*_in_order(files, mistakes))


def _in_order(files: list[PlanFile], mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    """Return mistakes in the order of the files, each once."""
    order = {file.name: number for number, file in enumerate(files)}
    unique = dict.fromkeys(mistakes)
    ordered = sorted(unique, key=lambda mistake: (order.get(mistake.file, 0), mistake.line, mistake.column))
    return tuple(ordered[:MAX_MISTAKES])
