"""One measured ratio beside its goal, and the page on which they are printed."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

PACKAGES = ("torch", "timm", "numpy", "pandas", "scikit-learn")


@dataclass(frozen=True)
class Goal:
    """What a number has to keep."""

    id: str
    relation: Literal["<=", ">=", "="]
    bound: float

    def is_met_by(self, value: float) -> bool:
        """Tell whether a number keeps it; NaN does not."""
        if self.relation == "=":
            return value == self.bound
        return value <= self.bound if self.relation == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:g}"


@dataclass(frozen=True)
class Result:
    """One line of the page."""

    goal: Goal
    what: str  # numerator / denominator, or what is counted
    value: float
    n: int  # turns, or 1 for what is counted
    times: str = ""  # both medians

    @property
    def met(self) -> bool:
        """Whether the goal is kept."""
        return self.goal.is_met_by(self.value)

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of its line."""
        met = "yes" if self.met else "NO"
        value = f"{self.value:.3g}"
        return (self.goal.id, self.what, value, str(self.goal), met, self.times, str(self.n))


HEAD = ("id", "what", "ratio", "goal", "met", "medians", "n")


def page(results: Sequence[Result], command: str) -> str:
    """Write the table with what it was measured on and the command that printed it."""
    lines = [HEAD, *(result.cells for result in results)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    rule = tuple("-" * width for width in widths)
    table = ["| " + " | ".join(_padded(line, widths)) + " |" for line in (HEAD, rule, *lines[1:])]
    return "\n".join([*machine(), "", f"`{command}`", "", *table]) + "\n"


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]


def machine() -> list[str]:
    """Describe when and on what: date, processor, cores, load, versions."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return [
        f"{date.today().isoformat()}; {_processor()}, {_n_cores()} cores, load {load:.1f}; "
        f"Python {platform.python_version()}, {versions}."
    ]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _n_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
