"""
The contracts on folders, for import-linter: ``[[tool.importlinter.contracts]]`` in ``pyproject.toml``.

A module belongs to the folder it lies in, so a package of packages is no layer of its own: ``gateway.call`` is the
files of that folder and not ``gateway.call.session``. A file that is named in a contract is a folder of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


def _names(field: object) -> list[str]:
    """Return what a list field holds: import-linter puts the names themselves where the class has the field."""
    assert isinstance(field, list)
    return [str(name) for name in field]


def _folder_of(module: str, named: frozenset[str], packages: frozenset[str]) -> str:
    return module if module in named or module in packages else module.rpartition(".")[0]


def _packages(graph: ImportGraph) -> frozenset[str]:
    return frozenset(module.rpartition(".")[0] for module in graph.modules) | {"gateway"}


class FolderLayers(Contract):
    """Upper folders may import lower ones, never the reverse; those on one line never import each other."""

    layers = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Name every import that goes up or sideways, and every folder that no line names."""
        lines = [[name.strip() for name in line.split("|")] for line in _names(self.layers)]
        height = {name: -number for number, line in enumerate(lines) for name in line}
        named, packages = frozenset(height), _packages(graph)
        ours = sorted(module for module in graph.modules if module.split(".")[0] == "gateway")
        wrong = [f"{name} is on a line but not in the package" for name in sorted(named - set(ours))]
        for module in ours:
            folder = _folder_of(module, named, packages)
            if folder not in height:
                wrong.append(f"{module}: no line names its folder {folder}")
                continue
            for imported in sorted(graph.find_modules_directly_imported_by(module)):
                other = _folder_of(imported, named, packages)
                if other in height and other != folder and height[other] >= height[folder]:
                    (detail, *_) = graph.get_import_details(importer=module, imported=imported)
                    wrong.append(f"{module}:{detail['line_number']} imports {imported}: {folder} is not above {other}")
        return ContractCheck(kept=not wrong, metadata={"wrong": wrong})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print what is wrong."""
        _print(check)


class PureFolders(Contract):
    """
    No module of these folders reaches one of these libraries, through whatever it imports but ``marks``.

    ``marks`` are modules of ours that pure code may import though they import a library: what it takes from them does
    not use it. So ``gateway.threads``: a mark says which thread a method runs on.
    """

    folders = fields.ListField(subfield=fields.StringField())
    libraries = fields.ListField(subfield=fields.StringField())
    marks = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Name each pure module that reaches a library, with the way there."""
        wrong = [f"{name} is named but not there" for name in sorted(set(_names(self.folders)) - graph.modules)]
        wrong += [" -> ".join(chain) for chain in self.chains(graph, self.pure_modules(graph))]
        return ContractCheck(kept=not wrong, metadata={"wrong": wrong})

    def pure_modules(self, graph: ImportGraph) -> list[str]:
        """Return the modules of the folders."""
        folders = set(_names(self.folders))
        return sorted(module for module in graph.modules if {module, module.rpartition(".")[0]} & folders)

    def chains(self, graph: ImportGraph, modules: Iterable[str]) -> Iterator[list[str]]:
        """Return the shortest way from each module to each library, where there is one."""
        known = [library for library in _names(self.libraries) if library in graph.modules]
        with _without_imports_of(graph, _names(self.marks)):
            found = [graph.find_shortest_chain(module, library) for module in modules for library in known]
        return (list(chain) for chain in found if chain)

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print what is wrong."""
        _print(check)


@contextmanager
def _without_imports_of(graph: ImportGraph, modules: Iterable[str]) -> Iterator[None]:
    """Have the graph show no import of these modules meanwhile."""
    cut = [(module, imported) for module in modules for imported in graph.find_modules_directly_imported_by(module)]
    for module, imported in cut:
        graph.remove_import(importer=module, imported=imported)
    try:
        yield
    finally:
        for module, imported in cut:
            graph.add_import(importer=module, imported=imported)


def _print(check: ContractCheck) -> None:
    found: Any = check.metadata["wrong"]
    for line in found:
        output.print_error(line, bold=False)
