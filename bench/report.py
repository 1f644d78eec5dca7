"""What a report is: runs in, tables out. A plugin file in `reports/` ends with `PLUGIN = ...`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from bench.results import RunResult
    from bench.tables import Table


@dataclass(frozen=True)
class ReportOptions:
    """What a user may ask of a report."""

    metrics: tuple[str, ...] = ("ACC", "AUC")
    conditions: tuple[str, ...] = ()  # columns wanted, in order; empty: all that were tested
    digits: int = 2
    preset: str = ""  # the name of the budget that the study was asked with


DEFAULTS = ReportOptions()


class Report(ABC):
    """A plugin that makes tables of runs; it reads stored predictions and imports no torch."""

    name: ClassVar[str]
    display_name: ClassVar[str]

    @abstractmethod
    def build(self, results: Sequence[RunResult], options: ReportOptions = DEFAULTS) -> list[Table]:
        """Make the tables.

        Args:
            results: runs of any state, in the order in which their rows are wanted.
            options: what was asked.
        """
