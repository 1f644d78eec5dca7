"""What a report is: runs in, a table or a figure out. A plugin file ends with `PLUGIN = ...`.

A report is told which runs belong together by a layout: one dataset and one protocol, a column per
training and condition. It reads stored predictions and imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as MatplotlibFigure

    from bench.layout import Layout
    from bench.results import RunResult
    from bench.tables import Table


@dataclass(frozen=True)
class ReportOptions:
    """What a user may ask of a report."""

    metrics: tuple[str, ...] = ("ACC", "AUC")
    digits: int | None = None  # of numbers; None: as each metric has them
    preset: str = ""  # the name of the budget that the study was asked with
    by: str = ""  # a column of the dataset, whose values are subgroups of cases
    weights: Mapping[str, float] = field(default_factory=dict)  # condition -> probability
    worst: bool = False  # show each row's worst column
    monotonicity: bool = False  # list where more scores worse
    common_cases: bool = False  # score only the cases that every column has


DEFAULTS = ReportOptions()


class Report(ABC):
    """A plugin that makes the table of a layout."""

    name: ClassVar[str]
    display_name: ClassVar[str]

    @abstractmethod
    def build(
        self, results: Sequence[RunResult], layout: Layout, options: ReportOptions = DEFAULTS
    ) -> Table:
        """Make the table.

        Args:
            results: runs of any state, in the order in which their rows are wanted; those of other
                datasets and trainings are left aside.
            layout: the columns.
            options: what was asked.

        Raises:
            BenchError: what was asked does not fit the runs.
        """


@dataclass(frozen=True)
class Drawing:
    """A figure, and the numbers that it shows."""

    name: str  # of its files
    figure: MatplotlibFigure
    data: pd.DataFrame


class Figure(ABC):
    """A plugin that draws layouts; it imports matplotlib when it draws."""

    name: ClassVar[str]
    display_name: ClassVar[str]

    @abstractmethod
    def draw(
        self,
        results: Sequence[RunResult],
        layouts: Sequence[Layout],
        options: ReportOptions = DEFAULTS,
    ) -> list[Drawing]:
        """Draw what it can of these layouts; it may leave some out, or all.

        Args:
            results: as for `Report.build`.
            layouts: those of a study, of any kind.
            options: what was asked.
        """
