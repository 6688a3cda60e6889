"""The contents of a plan's files, put together, with the place of everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gateway.dialplan.model.fields import PlanPath
from gateway.dialplan.read.yaml_tree import YamlTree
from gateway.errors import Mistake


class RoutePlace(NamedTuple):
    """
    Where a route stands.

    Attributes:
        file: name of the file.
        line: from 1.
        match: the line of each key of its ``match``.
    """

    file: str
    line: int
    match: Mapping[str, int]


OF_THE_AUTHOR = "x-"
"""Keys at the top that begin so are the author's own, for anchors."""
_MAPPINGS = ("agents", "holidays")


def in_schema(path: PlanPath) -> bool:
    """Return whether a path leads into the JSON Schema of a tool's arguments."""
    agent = path[2:] if path[:1] == ("agents",) else path[1:] if path[:1] == ("defaults",) else ()
    return agent[:2] == ("tools", "webhooks") and agent[3:4] == ("parameters",)


class PlanSource:
    """
    One mapping made of all files.

    Paths here are those of the whole plan; ``mistake`` finds the file and the place there. A value that an agent has
    from another or from the defaults is found where it was written.

    Attributes:
        plain: the plan as dict, list, str and None.
        mistakes: what cannot be put together.
    """

    def __init__(self) -> None:
        self.plain: dict[str, object] = {}
        self.mistakes: list[Mistake] = []
        self._first: YamlTree | None = None
        self._owners: dict[PlanPath, YamlTree] = {}
        self._routes: list[tuple[YamlTree, int]] = []
        self._origins: dict[PlanPath, PlanPath] = {}

    def add(self, tree: YamlTree, plain: dict[str, object]) -> None:
        """Add a file; what an earlier one has already is a mistake."""
        self._first = self._first or tree
        for key, value in plain.items():
            if key.startswith(OF_THE_AUTHOR):
                continue
            there = self.plain.get(key)
            if key in _MAPPINGS and isinstance(value, dict) and isinstance(there, dict):
                self._join(tree, key, value, there)
            elif key == "routes" and isinstance(value, list) and isinstance(there, list):
                there += value
            elif key in self.plain:
                words = f"written in {self._owners[(key,)].file} already; keep it in one file"
                self.mistakes.append(tree.mistake((key,), words, at_key=True))
                continue
            else:
                self.plain[key] = list(value) if isinstance(value, list) else value
                self._owners[(key,)] = tree
                if key in _MAPPINGS and isinstance(value, dict):
                    self.plain[key] = {}
                    self._join(tree, key, value, self.plain[key])  # type: ignore[arg-type]
            if key == "routes" and isinstance(value, list):
                self._routes += [(tree, index) for index in range(len(value))]

    def _join(self, tree: YamlTree, key: str, new: dict[str, object], into: dict[str, object]) -> None:
        for name, value in new.items():
            if name in into:
                other = self._owners[(key, name)]
                words = f"written twice (first in {other.file}:{other.line_of((key, name))}); rename one"
                self.mistakes.append(tree.mistake((key, name), words, at_key=True))
            else:
                into[name] = value
                self._owners[(key, name)] = tree

    def inherited(self, path: PlanPath, source: PlanPath) -> None:
        """Remember that the value at ``path`` was written at ``source``."""
        self._origins[path] = source

    def mistake(self, path: PlanPath, problem: str, *, at_key: bool = False) -> Mistake:
        """Return a mistake at the value of ``path`` (or at its key), or at the nearest part around it."""
        tree, local = self._locate(self._source(path))
        return tree.mistake(local, problem, at_key=at_key)

    def index_at(self, route: PlanPath, number: int) -> tuple[int, ...]:
        """Return the index of a span of time when the route's ``time`` was written as a list, else nothing."""
        value: object = self.plain
        for part in (*route, "match", "time"):
            value = value[part] if isinstance(value, dict | list) else None  # type: ignore[index]
        return (number,) if isinstance(value, list) else ()

    def route_places(self) -> tuple[RoutePlace, ...]:
        """Return where each route stands, in the order of the routes."""
        written = self.plain.get("routes")
        places = []
        for (tree, index), route in zip(self._routes, written if isinstance(written, list) else (), strict=False):
            match = route.get("match") if isinstance(route, dict) else None
            at: PlanPath = ("routes", index)
            keys = match if isinstance(match, dict) else ()
            lines = {key: tree.mistake((*at, "match", key), "", at_key=True).line for key in keys}
            places.append(RoutePlace(tree.file, tree.line_of(at), lines))
        return tuple(places)

    def line_of(self, path: PlanPath) -> str:
        """Return ``line 7``, with the file when there are several."""
        tree, local = self._locate(self._source(path))
        several = any(owner is not self._first for owner in self._owners.values()) or any(
            owner is not self._first for owner, _ in self._routes
        )
        return f"{tree.file}:{tree.line_of(local)}" if several else f"line {tree.line_of(local)}"

    def _source(self, path: PlanPath) -> PlanPath:
        for _ in range(len(self._origins) + 1):
            for length in range(len(path), 0, -1):
                if (source := self._origins.get(path[:length])) is not None:
                    path = (*source, *path[length:])
                    break
            else:
                break
        return path

    def _locate(self, path: PlanPath) -> tuple[YamlTree, PlanPath]:
        assert self._first is not None
        if len(path) > 1 and path[0] == "routes" and isinstance(path[1], int) and path[1] < len(self._routes):
            tree, index = self._routes[path[1]]
            return tree, ("routes", index, *path[2:])
        tree = self._owners.get(path[:2]) or self._owners.get(path[:1]) or self._first
        return tree, path
