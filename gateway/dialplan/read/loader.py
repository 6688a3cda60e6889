"""
A dialplan read from disk: a plan that can be used, or every mistake in it with its file, line and column.

From files to a plan it is one way, in seven stages; each one tells all mistakes of its kind at once and the next begins
only when there are none, so that one slip does not hide behind twenty that follow from it.

1. ``files.py`` reads the bytes, and composes YAML nodes: no such file, not UTF-8, not YAML, too large.
2. ``yaml_tree.py`` turns the nodes of one file into plain values. Every scalar stays the text it was written as, and
   the place of every key and value is remembered: duplicate keys, odd tags, control characters.
3. ``source.py`` joins the files into one mapping (``PlanSource``) that finds the place of any path: keys in two files.
4. ``inherit.py`` puts in what agents have from ``extends`` and ``defaults``.
5. ``lint.py`` looks for names that are unknown or used twice, and pydantic checks the whole by ``model/``.
   ``messages.py`` says each of pydantic's errors in words for the author, at the place in the file: pydantic's own path
   has parts that were never written (tags of unions, indices of a value that stands for a list).
6. ``routing/index.py`` makes the routes ready for deciding.
7. ``lint.py`` and ``look`` (the tools of the worker, which this folder cannot know) check what only the whole can show:
   WAV files, trunks, template variables, JSON Schemas, routes that are never reached.

``load_dialplan`` is for whoever looks at a plan alone. What takes calls goes through ``worker/live_plan.load_plan``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.read.files import PlanFile, compose, folder_of, read_files, version_of
from gateway.dialplan.read.inherit import inherit
from gateway.dialplan.read.lint import names_unknown, plan_mistakes, plan_remarks
from gateway.dialplan.read.messages import Finding, mistake_of
from gateway.dialplan.read.source import PlanSource, RoutePlace, in_schema
from gateway.dialplan.read.yaml_tree import YamlTree
from gateway.dialplan.routing.index import RouteIndex, compile_routes
from gateway.errors import DialplanError, Mistake

MAX_MISTAKES = 500
"""Mistakes reported at once."""


Look = Callable[[Dialplan], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """
    A dialplan that can be used.

    Attributes:
        index: its routes made ready for deciding.
        version: the first 12 hexadecimal digits of the SHA-256 of its files.
        remarks: what is odd about it, or could not be checked, though it can be used.
    """

    index: RouteIndex
    version: str
    remarks: tuple[Mistake, ...]

    @property
    def dialplan(self) -> Dialplan:
        """The agents and routes as they were written."""
        return self.index.plan


def load_dialplan(path: Path, trunks: Collection[str] | None = None) -> LoadedPlan:
    """
    Read and check a dialplan.

    Args:
        path: a YAML file, or a folder whose ``*.yaml`` files make one plan in the order of their names.
        trunks: names of the trunks in the settings; None does not check those that the plan names.

    Raises:
        DialplanError: with all mistakes of the first kind found: file, syntax, structure and content.
    """
    return dialplan_of(read_files(path), folder_of(path), trunks)


def dialplan_of(
    files: list[PlanFile], folder: Path, trunks: Collection[str] | None = None, look: Look = lambda plan: ()
) -> LoadedPlan:
    """
    Check the files of a dialplan that were read already.

    Args:
        files: all of them, in their order.
        folder: where relative paths of WAV files start from.
        trunks: names of the trunks in the settings; None does not check them.
        look: finds more, which is reported together with what is found here.

    Raises:
        DialplanError: as ``load_dialplan``.
    """
    written = _written(files)
    plan = _validated(files, written)
    index = compile_routes(plan)
    found = list(look(plan))
    mistakes = [*plan_mistakes(index, written, folder, trunks), *_placed(found, written, are_remarks=False)]
    if mistakes:
        raise _refusal(files, mistakes)
    odd = [*plan_remarks(plan, written, trunks), *_placed(found, written, are_remarks=True)]
    return LoadedPlan(index, version_of(files), _in_order(files, odd))


def route_places(files: list[PlanFile]) -> tuple[RoutePlace, ...]:
    """Return where each route stands, in the order of the plan's routes. Raises ``DialplanError``: as above."""
    return _written(files).route_places()


def _validated(files: list[PlanFile], written: PlanSource) -> Dialplan:
    """Return what was written as a plan whose parts are right each by itself."""
    mistakes = [*written.mistakes, *names_unknown(written)]
    try:
        plan = Dialplan.model_validate(written.plain)
    except ValidationError as error:
        # The model itself reports one unknown name without a place; found here already, all and with their lines.
        # A list whose entries are all wrong counts as empty for it besides.
        kept = [
            details
            for details in error.errors(include_url=False)
            if (details["loc"] or not mistakes) and not (details["type"] == "too_short" and details["input"])
        ]
        raise _refusal(files, [*mistakes, *(mistake_of(details, written) for details in kept)]) from None
    if mistakes:
        raise _refusal(files, mistakes)
    return plan


def _placed(found: list[Finding], written: PlanSource, *, are_remarks: bool) -> list[Mistake]:
    return [written.mistake(each.path, each.problem) for each in found if each.is_remark is are_remarks]


def _written(files: list[PlanFile]) -> PlanSource:
    """Return what the files hold, with defaults and extensions put in."""
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
