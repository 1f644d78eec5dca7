"""Find plugins: a file in a folder is the whole registration. Nothing is imported until asked for.

A plugin is found in `methods/`, `datasets/`, `protocols/`, `reports/` or `bench/executors/`
(built-in), at a path that the user names with `--include` (a file or a folder), or through an entry
point of an installed package (groups `bench.methods` and so on). Its file name is its name:
`all_subsets.py` is `all-subsets`. Files whose names start with `_` are never plugins; in an
included folder neither are tests (`test_*.py`, `conftest.py`).

The kind of an included file is told by its source (`bench/plugin_file.py`). It reaches the files
beside it by relative imports (`from .layers import Gate`). An included YAML file is a manifest: a
dataset that the plugin `manifest` reads, under the name that the file gives itself.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import bench
from bench.errors import BadConfig, BadPlugin, BadRequest, unknown
from bench.plugin_faults import INCLUDED
from bench.plugin_file import (
    BASES,
    FOLDERS,
    Kind,
    PluginFile,
    is_manifest,
    plugin_files,
    plugin_name,
    read_plugin_file,
    shown_path,
)

Origin = Literal["built-in", "include", "entry point"]


@dataclass(frozen=True)
class Found:
    """Where a plugin is; nothing of it has been imported.

    `target` is what to import: `bench.methods.cmml`, or an entry point's `package.module:Class`;
    an included file has none. `problem` is why it must not be used: another plugin has its name,
    or the file of an entry point is not there.
    """

    kind: Kind
    name: str
    path: Path
    source: Origin
    target: str = ""
    problem: str = ""

    @property
    def code(self) -> Path:
        """The file of its code: of a manifest, that of the plugin which reads it."""
        return folder_of("dataset") / "manifest.py" if is_manifest(self.path) else self.path


@dataclass(frozen=True)
class Listing:
    """One line of a list of plugins: what it says of itself, and what is wrong with it."""

    kind: Kind | None  # None: the kind of an included file cannot be told
    name: str
    doc: str  # first line of the file's docstring
    source: Origin
    path: Path
    problem: str = ""


class Registry:
    """The plugins that one request can name."""

    def __init__(self, include: Sequence[Path] = (), override: bool = False):
        """Take the user's own files and folders; none is read until a plugin is looked up.

        Args:
            include: Python files, folders of them, or manifests.
            override: let an included or installed plugin take the name of another. A later path
                wins over an earlier one, both over installed packages, those over the built-in.

        Raises:
            BadRequest: a path that is neither a folder, nor a Python file, nor a manifest.
        """
        self.include = tuple(_checked_include(Path(path)) for path in include)
        self.override = override
        self._collected: dict[Kind, dict[str, Found]] = {}

    def names(self, kind: Kind) -> list[str]:
        """List the names of a kind in order, those of broken plugins too."""
        return sorted(self._found(kind))

    def find(self, kind: Kind, name: str) -> Found:
        """Say where a plugin is without importing it.

        Raises:
            UnknownName: nothing has this name.
            BadPlugin: two plugins have this name, or its file's kind cannot be told.
        """
        found = self._found(kind).get(name)
        if found is None:
            self._refuse_unplaced(name)
            raise unknown(kind, name, self.names(kind))
        if found.problem:
            raise BadPlugin(f"{kind} {name}: {found.problem}")
        return found

    def load(self, kind: Kind, name: str) -> type[Any]:
        """Import a plugin and return its class, whose `name` is the file's.

        Raises:
            UnknownName: nothing has this name.
            BadPlugin: it cannot be imported, or `PLUGIN` is not a class of this kind.
            BadConfig: it is a manifest with a fault.
        """
        found = self.find(kind, name)
        try:
            plugin = _import(found)
        except BadConfig:  # of a manifest, which names its line
            raise
        except (Exception, SystemExit) as error:
            raise BadPlugin(_import_failure(found, error)) from error
        _check_class(found, plugin)
        if "name" not in vars(plugin):
            plugin.name = name
        return plugin

    def scan(self, kind: Kind | None = None) -> list[Listing]:
        """List plugins by reading their files, importing none; a broken one has its problem.

        Args:
            kind: the kind to list; None lists all, and the included files of no known kind.
        """
        if kind is not None:
            return [_listing(found) for _, found in sorted(self._found(kind).items())]
        return [listing for each in FOLDERS for listing in self.scan(each)] + self.unplaced()

    def unplaced(self) -> list[Listing]:
        """List the included files whose kind cannot be told, each with the reason."""
        return [
            Listing(None, plugin_name(path), page.doc, "include", path, page.unplaced)
            for path, page in self._included.items()
            if page.unplaced
        ]

    def check(self, kind: Kind) -> list[Listing]:
        """List plugins after importing each; one that fails has its reason, the rest goes on."""
        return [
            listing if listing.problem else replace(listing, problem=self._failure(kind, listing))
            for listing in self.scan(kind)
        ]

    def _refuse_unplaced(self, name: str) -> None:
        for path, page in self._included.items():
            if page.unplaced and plugin_name(path) == name:
                raise BadPlugin(f"{name} ({shown_path(path)}): {page.unplaced}")

    def _failure(self, kind: Kind, listing: Listing) -> str:
        try:
            self.load(kind, listing.name)
        except (BadPlugin, BadConfig) as error:
            return str(error)
        return ""

    def _found(self, kind: Kind) -> dict[str, Found]:
        if kind not in self._collected:
            self._collected[kind] = self._collect(kind)
        return self._collected[kind]

    def _collect(self, kind: Kind) -> dict[str, Found]:
        collected = {found.name: found for found in _built_in(kind)}
        known = {found.path.resolve() for found in collected.values()}
        included = (
            Found(kind, page.name or plugin_name(path), path, "include")
            for path, page in self._included.items()
            if page.kind == kind and path.resolve() not in known
        )
        for found in (*_installed(kind), *included):
            earlier = collected.get(found.name)
            if earlier and not self.override:
                found = replace(earlier, problem=_clash(earlier, found))
            collected[found.name] = found
        return collected

    @cached_property
    def _included(self) -> dict[Path, PluginFile]:
        """The plugin files among the included paths, in the order given, each once."""
        files: dict[Path, Path] = {}  # resolved -> as it was given
        for path in self.include:
            for file in plugin_files(path) if path.is_dir() else [path]:
                files.setdefault(file.resolve(), file)
        return {path: _read_page(path) for path in files.values()}


def folder_of(kind: Kind) -> Path:
    """Return the folder of the built-in plugins of a kind, as the package `bench` sees it.

    Raises:
        BadPlugin: the checkout has no symbolic links.
    """
    folder = Path(bench.__file__).parent / FOLDERS[kind]
    if not folder.is_dir():
        raise BadPlugin(
            f"bench/{folder.name} is not a link to the folder {folder.name}; "
            "clone with core.symlinks=true (git clone -c core.symlinks=true ...)"
        )
    return folder


def _checked_include(path: Path) -> Path:
    path = path.expanduser().absolute()
    if not path.exists():
        raise BadRequest(f"no file or folder to include is named {str(path)!r}; check the path")
    is_plugin = path.suffix == ".py" and not path.name.startswith("_")
    if not path.is_dir() and not is_plugin and not is_manifest(path):
        raise BadRequest(
            f"{str(path)!r} cannot be included; name a folder, a file that ends in .py and does "
            "not start with _, or a dataset's .yaml"
        )
    return path


def _read_page(path: Path, kind: Kind | None = None) -> PluginFile:
    """Read what a plugin file or a manifest says of itself; a fault is its `problem`."""
    if not is_manifest(path):
        return read_plugin_file(path, kind)
    from bench.manifest import manifest_name, read_manifest

    try:
        name = manifest_name(path)
    except BadConfig as error:
        return PluginFile(kind="dataset", problem=str(error))
    try:
        said = read_manifest(path).manifest.description
    except BadConfig as error:
        return PluginFile(kind="dataset", problem=str(error), name=name)
    return PluginFile(said or f"own data ({path.name})", "dataset", name=name)


def _built_in(kind: Kind) -> Iterator[Found]:
    for path in plugin_files(folder_of(kind)):
        target = f"bench.{FOLDERS[kind]}.{path.stem}"
        yield Found(kind, plugin_name(path), path, "built-in", target)


def _installed(kind: Kind) -> Iterator[Found]:
    for entry in _entry_points().select(group=f"bench.{FOLDERS[kind]}"):
        name = entry.name.replace("_", "-")
        path = _module_file(entry.module)
        if path:
            yield Found(kind, name, path, "entry point", entry.value)
        else:
            problem = f"no Python file of the module {entry.module!r} is installed"
            yield Found(kind, name, Path(entry.module), "entry point", entry.value, problem)


@cache
def _entry_points() -> Any:  # of another class in Python 3.11 than later, both with `select`
    """Read the entry points of all installed packages, once per process."""
    return entry_points()


def _module_file(module: str) -> Path | None:
    """Return the file of an installed module without importing it or its parents."""
    top, *parts = module.split(".")
    spec = find_spec(top)
    if spec is None:
        return None
    if not parts:
        return Path(spec.origin) if spec.origin else None
    for folder in spec.submodule_search_locations or ():
        stem = Path(folder, *parts)
        for path in (stem.with_name(stem.name + ".py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None


def _clash(earlier: Found, other: Found) -> str:
    return (
        f"two plugins have this name, {_origin(earlier)} and {_origin(other)}; "
        "rename one, or pass --override to use the latter"
    )


def _origin(found: Found) -> str:
    return f"the {found.source} one ({shown_path(found.path)})"


def _listing(found: Found) -> Listing:
    page = _read_page(found.path, found.kind)
    problem = found.problem
    if found.source != "entry point":  # which may name any class; its file needs no PLUGIN
        problem = problem or page.problem
    return Listing(found.kind, found.name, page.doc, found.source, found.path, problem)


def _import(found: Found) -> Any:
    """Import a plugin and return what it gives as its class."""
    if found.source == "entry point":
        entry = EntryPoint(found.name, found.target, f"bench.{FOLDERS[found.kind]}")
        loaded = entry.load()
        return loaded.PLUGIN if isinstance(loaded, ModuleType) else loaded
    if is_manifest(found.path):
        return importlib.import_module("bench.datasets.manifest").PLUGIN.of_file(found.path)
    if found.source == "include":
        return _import_file(found.path).PLUGIN
    return importlib.import_module(found.target).PLUGIN


def _import_file(path: Path) -> ModuleType:
    """Import a user's file as a module of a package that stands for its folder.

    The package is `bench_include_` and eight digits of the folder's hash: two folders may hold
    files of one name, a file reaches its neighbours by relative imports, and the module's name is
    the same in every process, so that its classes can be pickled.
    """
    digits = hashlib.sha256(str(path.parent).encode()).hexdigest()[:8]
    package = f"{INCLUDED}{digits}"
    if package not in sys.modules:
        module = ModuleType(package)
        module.__path__ = [str(path.parent)]
        sys.modules[package] = module
    importlib.invalidate_caches()  # the file may be younger than the last look at its folder
    return importlib.import_module(f"{package}.{path.stem}")


def _import_failure(found: Found, error: BaseException) -> str:
    text = " ".join(str(error).split())
    line = _line_of(found.path, error)
    where = shown_path(found.path) + (f":{line}" if line else "")
    return f"{found.kind} {found.name} cannot be imported ({where}): {type(error).__name__}: {text}"


def _line_of(path: Path, error: BaseException) -> int | None:
    """Return the line of a plugin's own file that an import failed at, if it got that far."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename) == path:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
    return lines[-1] if lines else None


def _check_class(found: Found, plugin: Any) -> None:
    """Refuse what is not a complete plugin class of its kind under its file's name."""
    where = f"{found.kind} {found.name} ({shown_path(found.path)})"
    bases = [base for base, kind in BASES.items() if kind == found.kind]
    if not isinstance(plugin, type) or not any(each.__name__ in bases for each in plugin.__mro__):
        raise BadPlugin(
            f"{where}: PLUGIN must be a class derived from {' or '.join(bases)}, got {plugin!r}"
        )
    if abstract := getattr(plugin, "__abstractmethods__", None):
        raise BadPlugin(f"{where}: {plugin.__name__} must define {', '.join(sorted(abstract))}")
    settings = getattr(plugin, "config_class", None)
    if settings is not None and not hasattr(settings, "model_fields"):
        raise BadPlugin(
            f"{where}: config_class must be a class of settings, derived from Config of "
            f"bench.method (a method) or Frozen of bench.spec, got {settings!r}"
        )
    if vars(plugin).get("name", found.name) != found.name:
        raise BadPlugin(
            f"{where}: its name is {vars(plugin)['name']!r} but its file gives {found.name!r}; "
            "rename one or leave the name out"
        )


_registries: dict[tuple[tuple[str, ...], bool], Registry] = {}


def registry_of(include: Sequence[str], override: bool) -> Registry:
    """Return the registry of these includes, one per process, so that plugins load once."""
    key = tuple(include), override
    if key not in _registries:
        _registries[key] = Registry([Path(path) for path in include], override=override)
    return _registries[key]
