"""What a plugin file says of itself when it is read, not imported: name, kind, first line, faults.

A file's name is its plugin's name: `all_subsets.py` is `all-subsets`. The kind is read from the
class that `PLUGIN` names: derived from Method or ShallowMethod, DatasetPlugin, Protocol, Report,
Figure or Executor, directly or through other classes of the same file, of the package or of a
neighbour's file.
A YAML file is a manifest, a dataset that gives itself its name.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PACKAGE = Path(__file__).parent
MAX_DEPTH = 20  # of derived classes; a circle of them ends here
MANIFEST_ENDINGS = (".yaml", ".yml")

Kind = Literal["method", "dataset", "protocol", "report", "executor"]

FOLDERS: dict[Kind, str] = {
    "method": "methods",
    "dataset": "datasets",
    "protocol": "protocols",
    "report": "reports",
    "executor": "executors",
}
BASES: dict[str, Kind] = {
    "Method": "method",
    "ShallowMethod": "method",
    "DatasetPlugin": "dataset",
    "Protocol": "protocol",
    "Report": "report",
    "Figure": "report",
    "Executor": "executor",
}


def plugin_name(path: Path) -> str:
    """Return the name that a plugin file gives its plugin.

    `all_subsets.py` is `all-subsets`, and `m_tr__c_te.py` is `m-tr+c-te`: two underscores are a
    plus, which a module's name cannot hold.
    """
    return path.stem.replace("__", "+").replace("_", "-")


def shown_path(path: Path) -> str:
    """Write a path as short as it can be from the working folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def is_manifest(path: str | Path) -> bool:
    """Say whether this is the path of a dataset's description and not of a plugin's code."""
    return str(path).lower().endswith(MANIFEST_ENDINGS)


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
    name: str = ""  # that it gives itself; empty: its file's

    @property
    def unplaced(self) -> str:
        """Why a file outside the built-in folders cannot be placed; empty if it can."""
        if self.kind or self.problem:
            return self.problem
        bases = ", ".join(BASES)
        return f"its kind cannot be told: PLUGIN must name a class derived from one of {bases}"


def read_plugin_file(path: Path, kind: Kind | None = None) -> PluginFile:
    """Read and parse a plugin file; what is wrong with it is its `problem`, never an error.

    Args:
        path: the file.
        kind: its kind where the folder tells; None: that of the class that `PLUGIN` names.
    """
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
    return PluginFile(doc, kind or _kind_of(_last_name(plugin), tree, path))


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


def _kind_of(class_name: str, tree: ast.Module, path: Path, depth: int = 0) -> Kind | None:
    """Follow a class through its bases to one whose kind is known, into other files if need be."""
    if depth > MAX_DEPTH:
        return None
    origin = _origins(tree, path).get(class_name)
    if origin is not None:
        file, name = origin
        return BASES.get(name) or _kind_in_file(name, file, depth + 1)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            kinds = (_kind_of(_last_name(base), tree, path, depth + 1) for base in node.bases)
            return next(filter(None, kinds), None)
    return BASES.get(class_name)


def _kind_in_file(class_name: str, path: Path, depth: int) -> Kind | None:
    try:
        return _kind_of(class_name, ast.parse(path.read_bytes()), path, depth)
    except (OSError, SyntaxError, ValueError):
        return None  # importing the plugin will say what is wrong with it


def _origins(tree: ast.Module, path: Path) -> dict[str, tuple[Path, str]]:
    """Map each name imported from `bench` or from a neighbour to its file and its name there."""
    origins: dict[str, tuple[Path, str]] = {}
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom):
            continue
        parts = (node.module or "").split(".")
        if node.level:
            folder = path.parents[node.level - 1]
        elif parts[0] == PACKAGE.name:
            folder = PACKAGE.parent
        else:
            continue
        file = folder.joinpath(*parts).with_suffix(".py")
        origins.update({each.asname or each.name: (file, each.name) for each in node.names})
    return origins
