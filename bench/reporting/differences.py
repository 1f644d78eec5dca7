"""Paired differences between rows of a table, with the interval that the repeats can carry.

Two rows are compared repeat by repeat: the same fold, seed and gaps. Folds share training cases,
so that their interval is widened (Nadeau and Bengio 2003); seeds on one split tell how much
training again would change, not how much other cases would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from bench.layout import LayoutColumn
from bench.reporting.contents import Contents, Part
from bench.scores.contest import Contest, Entrant
from bench.scores.metrics import metric_named
from bench.scores.results import Repeat
from bench.scores.rows import RowRuns
from bench.scores.scoring import ScoreGrid
from bench.scores.subgroups import Subgroup
from bench.statistics import corrected_resampled_t

ALPHA = 0.05
Design = Literal["folds", "seeds", "single"]
INTERVALS: Mapping[Design, str] = {
    "folds": "95 % interval over folds, corrected for their shared training cases",
    "seeds": "95 % interval over seeds, for the split at hand",
    "single": "no interval, as there is one repeat",
}


@dataclass(frozen=True)
class Difference:
    """One row's score minus another's, in the metric's own scale (not in percent)."""

    mean: float  # NaN without a common repeat
    interval: tuple[float, float] | None = None  # 95 %; None below two folds or seeds
    n_repeats: int = 0
    why_none: str = ""  # why there is no interval, as the end of a sentence

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


@dataclass(frozen=True, eq=False)
class Rows:
    """The finished rows of one table, scored, by label."""

    contents: Contents
    part: Part

    @classmethod
    def of(cls, contents: Contents) -> Rows:
        """Score all cases of a table."""
        return cls(contents, Part.of(contents, Subgroup("", contents.rows)))

    @cached_property
    def grids(self) -> dict[str, ScoreGrid]:
        """By label, the scores of the rows that have a finished run."""
        pairs = zip(self.contents.rows, self.part.grids, strict=True)
        return {row.label: grid for row, grid in pairs if row.done}

    @cached_property
    def by_label(self) -> dict[str, RowRuns]:
        """By label, the rows that have a finished run."""
        return {row.label: row for row in self.contents.rows if row.done}

    @property
    def reference(self) -> str:
        """The row that others are compared with: the one asked for, else the first finished."""
        named = self.contents.options.claim.reference
        return named if named in self.grids else next(iter(self.grids))

    @cached_property
    def design(self) -> Design:
        """What the repeats are."""
        repeats = self.contents.repeats
        if len({fold for fold, _ in repeats}) > 1:
            return "folds"
        return "seeds" if len(repeats) > 1 else "single"

    @cached_property
    def entrants(self) -> dict[str, Entrant]:
        """By label, the finished rows with their scores."""
        return {label: Entrant(self.by_label[label], grid) for label, grid in self.grids.items()}

    def columns(self, metric: str, block: str) -> list[LayoutColumn]:
        """List the columns that AVG is over."""
        return self.part.averaged[metric, block]

    def values(
        self, label: str, metric: str, columns: Sequence[LayoutColumn]
    ) -> dict[Repeat, float]:
        """Return each repeat's mean over columns; those that lack one are left out."""
        grid = self.grids[label]
        chosen = [grid.places.index(column.place) for column in columns]
        if not chosen:
            return {}
        means = grid.values[metric][:, chosen].mean(axis=1).tolist()
        return {r: v for r, v in zip(grid.repeats, means, strict=True) if not math.isnan(v)}

    def difference(
        self, label: str, reference: str, metric: str, columns: Sequence[LayoutColumn]
    ) -> Difference:
        """Compare the means over columns of two rows on the repeats that both have.

        Folds of one number but other test cases are not the same repeat.
        """
        own = self.values(label, metric, columns)
        other = self.values(reference, metric, columns)
        rows = self.entrants[label], self.entrants[reference]
        places = tuple(column.place for column in columns)
        if not Contest(*rows, metric_named(metric), places).shares_folds:
            return Difference(math.nan)
        sizes = rows[1].fold_sizes if self.design == "folds" else (1, 0)
        return self.estimate({r: own[r] - other[r] for r in own if r in other}, sizes)

    def estimate(
        self, values: Mapping[Repeat, float], sizes: tuple[int, int] = (1, 0)
    ) -> Difference:
        """Average paired differences; seeds within a fold count as one.

        Args:
            values: by repeat.
            sizes: cases in the training parts and in the test parts; the default corrects nothing.
        """
        if not values:
            return Difference(math.nan)
        units = _fold_means(values) if self.design == "folds" else np.array(list(values.values()))
        mean = float(np.mean(units))
        if len(units) < 2:
            unit = "fold" if self.design == "folds" else "repeat"
            why = f"one {unit} cannot tell whether that is chance"
            return Difference(mean, None, len(values), why)
        n_train, n_test = sizes
        found = corrected_resampled_t(units, n_train=n_train, n_test=n_test, alpha=ALPHA)
        low, high = found.interval
        if high > low or not mean:
            return Difference(mean, (low, high), len(values))
        why = "it is the same every time, which does not tell whether that is chance"
        return Difference(mean, None, len(values), why)


def _fold_means(values: Mapping[Repeat, float]) -> np.ndarray:
    """Average seeds within a fold: (folds,)."""
    folds: dict[int, list[float]] = {}
    for (fold, _), value in values.items():
        folds.setdefault(fold, []).append(value)
    return np.array([np.mean(each) for each in folds.values()])
