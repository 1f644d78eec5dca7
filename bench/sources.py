"""The code that a number depends on, as a hash: parsed, without comments and docstrings.

The given files and the first-party files that they import, directly or not, are read and parsed,
never imported. First-party is the package `bench` and, for a user's plugin, what lies in its
folder. Renaming a folder, moving the checkout or rewording a comment leaves the hash as it is.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.errors import BadPlugin
from bench.plugin_file import FOLDERS

PACKAGE = Path(__file__).parent
ENGINE_FILES = (
    "engine/engine.py",
    "engine/stage.py",
    "engine/batches.py",
    "engine/optimiser.py",
    "engine/inference.py",
    "runner/runner.py",
    "data.py",
    "patterns.py",
    "splits.py",
    "seeds.py",
)


@dataclass(frozen=True)
class _Import:
    """One imported module: `from ..a import b` is level 2, parts ("a",), name "b"."""

    level: int
    parts: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class _Source:
    digest: str
    imports: tuple[_Import, ...]


def sources_hash(paths: Sequence[Path]) -> str:
    """Hash the code of these files and of the first-party files that they import.

    Raises:
        BadPlugin: a file cannot be read or parsed.
    """
    lines = sorted(f"{path.name} {_read(path).digest}" for path in source_files(paths))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def source_files(paths: Sequence[Path]) -> list[Path]:
    """List these files and the first-party files that they import, directly or not, once each.

    Raises:
        BadPlugin: a file cannot be read or parsed.
    """
    waiting = [(path.absolute(), _root(path.absolute())) for path in paths]
    seen: dict[Path, Path] = {}  # resolved -> as it was reached
    while waiting:
        path, root = waiting.pop()
        if path.resolve() in seen:
            continue
        seen[path.resolve()] = path
        for each in _read(path).imports:
            waiting += [(found, root) for found in _files_of(each, path, root)]
    return sorted(seen.values())


def _root(path: Path) -> Path:
    """Return the folder in which the absolute imports of a file's own kind are looked up."""
    return PACKAGE.parent if path.is_relative_to(PACKAGE) else path.parent


def _files_of(imported: _Import, importer: Path, root: Path) -> Iterator[Path]:
    """Yield the first-party files that one import runs; none for other packages."""
    if imported.level:
        start = importer.parents[imported.level - 1]
    else:
        start = PACKAGE.parent if imported.parts[0] == PACKAGE.name else root
    parts = imported.parts
    for n_parts in range(1, len(parts) + 1):
        yield from _module_file(start.joinpath(*parts[:n_parts]))
    if imported.name:
        yield from _module_file(start.joinpath(*parts, imported.name))


def _module_file(stem: Path) -> Iterator[Path]:
    # bench/__init__.py holds the version, which is recorded beside a run and never hashed.
    if stem == PACKAGE:
        return
    for path in (stem.with_name(stem.name + ".py"), stem / "__init__.py"):
        if path.is_file():
            yield path
            return


def _read(path: Path) -> _Source:
    try:
        status = path.stat()
        return _parse(path, status.st_mtime_ns, status.st_size)
    except (OSError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadPlugin(f"the source of {path} cannot be read: {reason}") from error


@cache
def _parse(path: Path, mtime_ns: int, size: int) -> _Source:
    """Parse a file once per process and state of the file."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    return _Source(hashlib.sha256(_text(tree).encode()).hexdigest(), tuple(_imports(tree)))


def _imports(node: ast.AST) -> Iterator[_Import]:
    """Yield all imports, those inside functions too, except what only a type checker runs."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield _Import(0, tuple(alias.name.split(".")))
    elif isinstance(node, ast.ImportFrom):
        parts = tuple(node.module.split(".")) if node.module else ()
        for alias in node.names:
            yield _Import(node.level, parts, alias.name)
    elif isinstance(node, ast.If) and _is_type_checking(node.test):
        for statement in node.orelse:
            yield from _imports(statement)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imports(child)


def _is_type_checking(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _text(node: object) -> str:
    """Write a syntax tree as text that is the same on every Python version.

    `ast.dump` is not: it names the empty fields that each version knows of.
    """
    if isinstance(node, list):
        return f"[{','.join(_text(each) for each in node if not _is_docstring(each))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = (
        f"{name}={_text(value)}"
        for name, value in ast.iter_fields(node)
        if value is not None and value != [] and name != "kind"
    )
    return f"{type(node).__name__}({','.join(fields)})"


def _is_docstring(node: object) -> bool:
    """Tell a string that stands alone as a statement: it does nothing."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def own_hash(paths: Sequence[Path]) -> str:
    """Hash the code of these files alone, not of what they import.

    Raises:
        BadPlugin: a file cannot be read or parsed.
    """
    lines = sorted(f"{path.name} {_read(path.absolute()).digest}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def code_of_run(plugins: Sequence[Path]) -> str:
    """Hash the code that a run's numbers depend on: its plugins and the engine's own files.

    Args:
        plugins: files of the method and the dataset; what they import counts with them.

    Raises:
        BadPlugin: a file cannot be read or parsed.
    """
    core = [PACKAGE / name for name in ENGINE_FILES]
    core += sorted((PACKAGE / "encoders").glob("*.py"))
    both = f"{own_hash(core)} {sources_hash(plugins)}"
    return hashlib.sha256(both.encode()).hexdigest()[:16]


def stamp_of_code(include: Sequence[Path]) -> str:
    """Return a stamp that changes when a file of `bench` or of the user's plugins is touched.

    It looks at paths, sizes and times only, so that a finished study is recognised at once.
    """
    folders = [PACKAGE, *(PACKAGE / name for name in FOLDERS.values())]
    files = [path for folder in folders for path in folder.glob("**/*.py")]
    for path in include:
        files += path.glob("**/*.py") if path.is_dir() else [path]
    stamps = sorted(
        f"{path} {stat.st_size} {stat.st_mtime_ns}" for path in set(files) if (stat := path.stat())
    )
    return hashlib.sha256("\n".join(stamps).encode()).hexdigest()
