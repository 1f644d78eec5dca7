"""What a plugin file says of itself when it is read, not imported: name, kind, first line, faults.

A file's name is its plugin's name: `all_subsets.py` is `all-subsets`. The kind is read from the
class that `PLUGIN` names: derived from Method or ShallowMethod, DatasetPlugin, Protocol or Report,
directly, through classes of the same file, or through a class imported from a built-in plugin.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["method", "dataset", "protocol", "report"]

FOLDERS: dict[Kind, str] = {
    "method": "methods",
    "dataset": "datasets",
    "protocol": "protocols",
    "report": "reports",
}
BASES: dict[str, Kind] = {
    "Method": "method",
    "ShallowMethod": "method",
    "DatasetPlugin": "dataset",
    "Protocol": "protocol",
    "Report": "report",
}


def plugin_name(path: Path) -> str:
    """Return the name that a plugin file gives its plugin: `all_subsets.py` is `all-subsets`."""
    return path.stem.replace("_", "-")


def plugin_files(folder: Path) -> list[Path]:
    """List the files of a folder that are to be plugins: no tests, none that starts with `_`."""
    return [
        path
        for path in sorted(folder.glob("*.py"))
        if not path.name.startswith(("_", "test_")) and path.name != "conftest.py"
    ]


@dataclass(frozen=True)
class PluginFile:
    """What a plugin file says without being imported."""

    doc: str = ""  # first line of its docstring
    kind: Kind | None = None  # None: it cannot be told
    problem: str = ""

    @property
    def unplaced(self) -> str:
        """Why a file outside the four folders cannot be placed; empty if it can."""
        if self.kind or self.problem:
            return self.problem
        bases = ", ".join(BASES)
        return f"its kind cannot be told: PLUGIN must name a class derived from one of {bases}"


def read_plugin_file(path: Path) -> PluginFile:
    """Read and parse a plugin file; what is wrong with it is its `problem`, never an error."""
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        return PluginFile(problem=f"syntax error, line {error.lineno}: {error.msg}")
    except (OSError, ValueError) as error:
        return PluginFile(problem=f"cannot be read: {' '.join(str(error).split())}")
    doc = (ast.get_docstring(tree) or "").partition("\n")[0]
    plugin = _assigned_plugin(tree)
    if plugin is None:
        return PluginFile(doc, problem="no PLUGIN at the end")
    return PluginFile(doc, _kind_of(_last_name(plugin), tree))


def _assigned_plugin(tree: ast.Module) -> ast.expr | None:
    """Return what a module assigns to PLUGIN, or None."""
    for node in reversed(tree.body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "PLUGIN" for target in targets):
            return getattr(node, "value", None)
    return None


def _last_name(node: ast.expr) -> str:
    """Return `Method` of `Method`, `method.Method` and `Method[Config]`; else nothing."""
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    return getattr(node, "attr", getattr(node, "id", ""))


def _kind_of(class_name: str, tree: ast.Module) -> Kind | None:
    """Follow a class of a module through its bases to one whose kind is known."""
    imported = _imported_kinds(tree)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    waiting, seen = [class_name], set()
    while waiting:
        name = waiting.pop(0)
        if name in classes and name not in seen:
            seen.add(name)
            waiting += [_last_name(base) for base in classes[name].bases]
        elif kind := imported.get(name, BASES.get(name)):
            return kind
    return None


def _imported_kinds(tree: ast.Module) -> dict[str, Kind]:
    """Map the names imported from `bench` to the kind of plugin that they are a base of."""
    kinds: dict[str, Kind] = {}
    plugins = {f"bench.{folder}.": kind for kind, folder in FOLDERS.items()}
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("bench"):
            continue
        of_plugin = [kind for start, kind in plugins.items() if str(node.module).startswith(start)]
        for alias in node.names:
            kind = of_plugin[0] if of_plugin else BASES.get(alias.name)
            if kind:
                kinds[alias.asname or alias.name] = kind
    return kinds
