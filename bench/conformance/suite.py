"""Hold one plugin to every promise and say which it keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.conformance.networks import METHOD_CHECKS
from bench.conformance.promises import Broken, Check
from bench.conformance.shallow import SHALLOW_CHECKS
from bench.errors import BenchError
from bench.method import Method, Plugin
from bench.registry import Registry


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
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def run_suite(name: str, include: Sequence[Path], *, override: bool) -> int:
    """Check one plugin by name or file and print a line for each promise; 1 if one is broken."""
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise BenchError(f"no plugin file is at {name!r}; give a method's name or a path")
        include, name = [*include, path], path.stem.replace("_", "-")
    plugin = Registry(include, override=override).load("method", name)
    checks = check_method(plugin)
    for check in checks:
        detail = f" ({check.detail})" if check.detail else ""
        print(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}{detail}")
    n_failed = sum(not check.passed for check in checks)
    print(f"{name}: {len(checks) - n_failed} of {len(checks)} promises kept")
    return 1 if n_failed else 0
