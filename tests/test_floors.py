"""The import graph: every file has a floor and imports only from below; planning needs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bench

ROOT = Path(bench.__file__).parents[1]
PLUGIN_FOLDERS = ("methods", "datasets", "protocols", "reports")

# From the ground up: files of bench/ by name, a package or plugin folder for all its files. A file
# imports from lower floors, and on its own floor from what stands to its left. The files of a
# package may import each other, plugins never.
FLOORS = [
    "errors seeds availability wording plugin_file plugin_faults liveness",
    "spec layout pictures volumes data metrics statistics simulation",
    "blocks layers method attribute_fusion shallow protocol dataset splits patterns "
    "sources files store cache_folder executor",
    "encoders free_text manifest request registry leakscan conformance",
    "methods datasets protocols",
    "engine scores runner report tables search figures",
    "reporting drawing planes answers plugins",
    "reports study executors complexity preparation predicting",
    "tuning variants pages",
    "commands cli __main__",
]
PLACES = {
    unit: (level, place)
    for level, floor in enumerate(FLOORS)
    for place, unit in enumerate(floor.split())
}

TORCH = (
    "blocks layers method attribute_fusion shallow encoders methods conformance engine "
    "runner.material runner.deep runner.shallow runner.frames runner.representing "
    "runner.peak_memory runner.runner complexity study.planning predicting "
    "free_text.instruction"
)


def source_files() -> list[Path]:
    """List the files of the package and of the plugin folders, not through the links."""
    inside = [
        path
        for path in (ROOT / "bench").rglob("*.py")
        if path.relative_to(ROOT / "bench").parts[0] not in PLUGIN_FOLDERS
    ]
    return sorted(inside + [path for name in PLUGIN_FOLDERS for path in (ROOT / name).glob("*.py")])


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def unit(name: str) -> str:
    """Return what stands for a file in FLOORS: `bench/encoders/image.py` is `encoders`."""
    return name.removeprefix("bench/").split("/")[0].removesuffix(".py")


def runtime_imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports of a file, except those that only a type checker runs."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            yield from runtime_imports(child)


def module(path: Path) -> str:
    """Return the dotted name of a file: `bench/encoders/image.py` is `bench.encoders.image`."""
    return "bench." + relative(path).removeprefix("bench/").removesuffix(".py").replace("/", ".")


def with_torch(name: str) -> bool:
    """Tell whether a module, or the package that it lies in, may import torch."""
    return any(f"{name}.".startswith(f"bench.{each}.") for each in TORCH.split())


def modules_of(statement: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    assert statement.level == 0, f"line {statement.lineno}: imports are absolute, `from bench.x`"
    return [f"{statement.module}.{alias.name}" for alias in statement.names]


def first_party(module: str) -> str | None:
    """Return the file that a dotted name of `bench` lies in; None for other packages."""
    parts = module.split(".")
    if parts[0] != "bench":
        return None
    if len(parts) > 1 and parts[1] in PLUGIN_FOLDERS:
        return "/".join(parts[1:3])
    for n_parts in range(len(parts), 1, -1):
        path = ROOT.joinpath(*parts[:n_parts])
        if path.is_dir() or path.with_suffix(".py").is_file():
            return relative(path if path.is_dir() else path.with_suffix(".py"))
    return None


def edges() -> set[tuple[str, str]]:
    """Return every (unit, unit that it imports); a plugin imported by another one has its file."""
    return {
        (unit(relative(path)), target if target.startswith(PLUGIN_FOLDERS) else unit(target))
        for path in source_files()
        for statement in runtime_imports(ast.parse(path.read_bytes()))
        for module in modules_of(statement)
        if (target := first_party(module))
    }


def test_every_file_has_a_floor() -> None:
    units = {unit(relative(path)) for path in source_files()} - {"__init__"}
    assert sorted(units - set(PLACES)) == [], "give these a floor in FLOORS"


def test_a_file_imports_only_from_below() -> None:
    wrong = {
        (name, target)
        for name, target in edges()
        if name != target and PLACES[unit(target)] >= PLACES[name]
    }
    assert sorted(wrong) == []


def test_nobody_imports_a_plugin_by_name() -> None:
    assert sorted(edge for edge in edges() if edge[1].startswith(PLUGIN_FOLDERS)) == []


def test_what_plans_lists_and_prints_imports_no_torch() -> None:
    names = [
        name
        for path in source_files()
        if not with_torch(name := module(path)) and path.stem not in ("__init__", "__main__")
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'{name} imports torch')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
