"""The dialplan as ``gateway web`` follows it: with its files, those of the plan before, and where each route stands."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gateway.dialplan.read.files import PlanFile
from gateway.dialplan.read.loader import LoadedPlan, dialplan_of, route_places
from gateway.dialplan.read.source import RoutePlace


@dataclass(frozen=True, slots=True)
class ShownPlan(LoadedPlan):
    """
    A dialplan that can be used, and shown.

    Attributes:
        files: what it was read from.
        before: the files of the plan that it replaced; empty for the first one.
        places: where each route stands, in the order of the routes.
    """

    files: tuple[PlanFile, ...]
    before: tuple[PlanFile, ...]
    places: tuple[RoutePlace, ...]


class PlanReader:
    """
    Reads one plan after the other. Use it from one thread at a time.

    Args:
        trunks: names of the trunks in the settings.
    """

    def __init__(self, trunks: Collection[str]) -> None:
        self._trunks = trunks
        self._last: ShownPlan | None = None

    def load(self, files: list[PlanFile], folder: Path) -> ShownPlan:
        """
        Return the plan in these files. Tools are not run here, so theirs are not asked for.

        Raises:
            DialplanError: with all mistakes.
        """
        plan = dialplan_of(files, folder, self._trunks)
        last = self._last
        if last is None:
            before: tuple[PlanFile, ...] = ()
        else:
            before = last.before if last.version == plan.version else last.files
        shown = ShownPlan(plan.index, plan.version, plan.remarks, tuple(files), before, route_places(files))
        self._last = shown
        return shown
