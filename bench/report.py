"""What a report is: runs in, a table or a figure out. A plugin file ends with `PLUGIN = ...`.

A report is told which runs belong together by a layout: one dataset and one protocol, a column per
training and condition. It reads stored predictions and imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import BadRequest
from bench.scores.significance import Claim

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as MatplotlibFigure

    from bench.layout import Layout
    from bench.scores.results import RunResult
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
    claim: Claim = field(default_factory=Claim)  # what is tested
    common_cases: bool = False  # score only the cases that every column has
    published: bool = False  # show the papers' printed cells
    leaks: Mapping[str, Sequence[str]] = field(default_factory=dict)  # dataset -> what gives away


WEIGHTS_SUM = 1e-6  # how far from 1 stated probabilities may sum
DEFAULTS = ReportOptions()


def weights_of(pairs: Sequence[str], file: Path | None) -> dict[str, float]:
    """Read the probabilities of conditions.

    Args:
        pairs: `012=0.7`; they go before the file's.
        file: a YAML mapping; names are read as text, so that 012 stays what it is.

    Raises:
        BadRequest: one cannot be read, is negative, or they do not sum to 1.
    """
    texts = {} if file is None else _read_weights(file)
    for pair in pairs:
        name, equals, text = pair.rpartition("=")
        if not (equals and name):
            raise BadRequest(f"--weight wants CONDITION=PROBABILITY, got {pair!r}")
        texts[name] = text
    weights = {name: _probability(name, text) for name, text in texts.items()}
    if weights and not abs(sum(weights.values()) - 1) <= WEIGHTS_SUM:
        raise BadRequest(
            f"the weights of conditions must sum to 1, got {sum(weights.values()):.9g}; "
            "give every condition that can occur its probability"
        )
    return weights


def _read_weights(file: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadRequest(f"--weights {str(file)!r}: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise BadRequest(f"--weights {str(file)!r} wants lines such as '012: 0.7'")
    return found


def _probability(name: str, text: Any) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 1:
        raise BadRequest(f"the weight of {name} must be a probability, from 0 to 1, got {text!r}")
    return value


class Report(ABC):
    """A plugin that makes the table of a layout."""

    name: ClassVar[str]
    display_name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ()  # of layouts it is for; empty: any

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
    dpi: int = 200  # of its PNG


class Figure(ABC):
    """A plugin that draws layouts; it imports matplotlib when it draws."""

    name: ClassVar[str]
    display_name: ClassVar[str]
    needs: ClassVar[str] = ""  # what a study must have beside predictions, said where it lacks it

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
