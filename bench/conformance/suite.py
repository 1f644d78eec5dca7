"""Hold one plugin to every promise and say which it keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from bench.conformance.networks import METHOD_CHECKS
from bench.conformance.promises import Broken, Check
from bench.conformance.shallow import SHALLOW_CHECKS
from bench.errors import BadRequest, BenchError, reason_for
from bench.method import Method, Plugin
from bench.plugin_faults import place_in_plugin
from bench.plugin_file import FOLDERS, plugin_name
from bench.registry import Registry

MAX_DETAIL = 300  # characters of a line that says why a promise is broken


def check_method(plugin: type[Plugin]) -> list[Check]:
    """Hold one method to every promise."""
    checks: Sequence[Any] = METHOD_CHECKS if issubclass(plugin, Method) else SHALLOW_CHECKS
    return [_check(check, plugin) for check in checks]


def _check(check: Callable[[Any], str], plugin: type[Plugin]) -> Check:
    name = check.__name__.replace("_", " ")
    try:
        return Check(name, True, check(plugin))
    except Broken as broken:
        return Check(name, False, str(broken))
    except (Exception, SystemExit) as error:
        where = place_in_plugin(error)
        return Check(name, False, f"{where}: {reason_for(error)}" if where else reason_for(error))


def _refuse_other_kinds(registry: Registry, name: str) -> None:
    """Refuse what is no method, saying what looks at a plugin of its kind."""
    if name in registry.names("method"):
        return
    for kind in FOLDERS:
        if name in registry.names(kind):
            look = f"say `bench prepare {name}`" if kind == "dataset" else "`bench run` uses it"
            raise BadRequest(f"{name} is a {kind}, and the suite is for methods; {look}")


def run_suite(name: str, include: Sequence[Path], *, override: bool) -> int:
    """Check one plugin by name or file and print a line for each promise; 1 if one is broken."""
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise BenchError(f"no plugin file is at {name!r}; give a method's name or a path")
        include, name = [*include, path], plugin_name(path)
    registry = Registry(include, override=override)
    _refuse_other_kinds(registry, name)
    plugin = registry.load("method", name)
    checks = check_method(plugin)
    for check in checks:
        detail = f" ({shorten(check.detail, MAX_DETAIL)})" if check.detail else ""
        print(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}{detail}")
    n_failed = sum(not check.passed for check in checks)
    print(f"{name}: {len(checks) - n_failed} of {len(checks)} promises kept")
    return 1 if n_failed else 0
