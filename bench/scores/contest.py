"""One row of a table against another: the difference, its interval and its p, in one column or AVG.

What is random decides the test. On a fixed split it is the seeds and the cases (Obuchowski and
Rockette, or the two-level bootstrap for scores without a smooth formula); over folds it is the
folds, whose cases are never pooled into one ranking. Where the data cannot carry a test, the
outcome has a reason in place of a p.
"""

# R repeats, C conditions

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.errors import BadRequest, unknown
from bench.scores.metrics import Metric
from bench.scores.results import Repeat, RunResult
from bench.scores.rows import RowRuns
from bench.scores.scoring import Place, ScoreGrid

OF_TWO_MODELS = ("delong", "mcnemar")  # about one training each, not about training again
ON_CASES = ("obuchowski-rockette", "bootstrap", *OF_TWO_MODELS)  # predictions of one split
TESTS = (*ON_CASES, "corrected-t", "signed-rank", "sign-flip", "wilcoxon-subsets")
BY_BOOTSTRAP = ("BACC", "F1", "ECE")  # scores that a jackknife does not suit


@dataclass(frozen=True)
class Target:
    """What one comparison is about: a column, or the average of several."""

    name: str  # the column's header, or AVG
    block: str
    places: tuple[Place, ...]  # one, or those that the average is over


@dataclass(frozen=True)
class Outcome:
    """What is known of the difference between two rows."""

    difference: float  # first minus second, mean over repeats, not in percent
    interval: tuple[float, float]  # of confidence 1 - alpha; NaN: the test gives none
    p: float  # two-sided, not adjusted; NaN: not tested
    p_superior: float  # share of folds or repeats in which the first is better, ties half
    n: int  # units: seeds, folds, columns, or cases
    paired: bool = True  # whether repeat r of both shares its seed
    reason: str = ""  # why it is not tested


@dataclass(frozen=True, eq=False)
class Entrant:
    """A row with its scores."""

    row: RowRuns
    grid: ScoreGrid

    def values(self, metric: str, places: Sequence[Place]) -> dict[Repeat, float]:
        """Return each repeat's mean over these places, without those that have none."""
        chosen = [self.grid.places.index(place) for place in places]
        means = self.grid.values[metric][:, chosen].mean(axis=1)
        pairs = zip(self.grid.repeats, means.tolist(), strict=True)
        return {repeat: mean for repeat, mean in pairs if not math.isnan(mean)}

    @cached_property
    def by_training(self) -> dict[tuple[str, Repeat], RunResult]:
        """The finished runs."""
        return {(run.setting, run.repeat): run for run in self.row.done}

    @cached_property
    def tested(self) -> dict[tuple[Place, int], set[str]]:
        """By place and fold, the cases that were scored."""
        found: dict[tuple[Place, int], set[str]] = {}
        for (setting, (fold, _)), run in self.by_training.items():
            for condition, (cases, _, _) in run.parts.items():
                found.setdefault(((setting, condition), fold), set()).update(cases.tolist())
        return found

    @cached_property
    def fold_sizes(self) -> tuple[int, int]:
        """Cases in the training parts and in the test parts, summed over folds.

        Runs without the file of their parts are taken for parts of k equal folds.
        """
        by_fold = {run.repeat[0]: run for run in self.row.done}
        sizes = [_part_sizes(run) for run in by_fold.values()]
        known = [size for size in sizes if size is not None]
        if not known:
            n_folds = max(len(by_fold), *(run.spec["n_folds"] for run in by_fold.values()))
            return n_folds - 1, 1
        return sum(train for train, _ in known), sum(test for _, test in known)


def _part_sizes(run: RunResult) -> tuple[int, int] | None:
    if run.folder is None or not run.folder.path_of("availability.parquet").is_file():
        return None
    frame = run.folder.availability()
    is_test = (frame["part"] == "test") & (frame["condition"] == "")
    return int((frame["part"] == "train").sum()), int(is_test.sum())


@dataclass(frozen=True, eq=False)
class Contest:
    """Two rows, one metric, one column or average."""

    first: Entrant
    second: Entrant
    metric: Metric
    places: tuple[Place, ...]

    @cached_property
    def values(self) -> tuple[dict[Repeat, float], dict[Repeat, float]]:
        """The scores of both by repeat."""
        name = self.metric.name
        return self.first.values(name, self.places), self.second.values(name, self.places)

    @cached_property
    def repeats(self) -> tuple[list[Repeat], list[Repeat]]:
        """The repeats of both that are compared: the common ones if two or more are."""
        first, second = (sorted(values) for values in self.values)
        common = sorted({*first} & {*second})
        return (common, common) if len(common) > 1 or first == second else (first, second)

    @property
    def paired(self) -> bool:
        """Whether both have the same repeats."""
        return self.repeats[0] == self.repeats[1]

    @cached_property
    def folds(self) -> tuple[dict[int, float], dict[int, float]]:
        """The scores of both by fold, seeds averaged."""
        first, second = (_by_fold(values) for values in self.values)
        return first, second

    @cached_property
    def common_folds(self) -> list[int]:
        """The folds that both have."""
        return sorted({*self.folds[0]} & {*self.folds[1]})

    @property
    def shares_folds(self) -> bool:
        """Whether a fold of one number has the same test cases in both rows."""
        return all(
            self.first.tested[place, fold] == self.second.tested[place, fold]
            for place in self.places
            for fold in self.common_folds
        )

    @cached_property
    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """(R_a,) and (R_b,) scores of the repeats that are compared."""
        first, second = (
            np.array([values[repeat] for repeat in repeats])
            for values, repeats in zip(self.values, self.repeats, strict=True)
        )
        return first, second

    @property
    def n_folds(self) -> int:
        """How many folds either has."""
        return len({fold for values in self.values for fold, _ in values})

    @property
    def is_there(self) -> bool:
        """Whether both have a score."""
        return all(self.values)


def _by_fold(values: Mapping[Repeat, float]) -> dict[int, float]:
    folds: dict[int, list[float]] = {}
    for (fold, _), value in values.items():
        folds.setdefault(fold, []).append(value)
    return {fold: float(np.mean(each)) for fold, each in folds.items()}


def choose_test(asked: str, metric: Metric, n_folds: int) -> str:
    """Choose the test by the design, or check the one that is asked for.

    Args:
        asked: a name of `TESTS`, or `auto`.
        metric: what is compared.
        n_folds: how many folds the rows have.

    Raises:
        UnknownName: there is no such test.
        BadRequest: the test does not fit the design.
    """
    if asked == "auto":
        if n_folds > 1:
            return "corrected-t"
        return "bootstrap" if metric.name in BY_BOOTSTRAP else "obuchowski-rockette"
    if asked not in TESTS:
        raise unknown("test", asked, (*TESTS, "auto", "none"))
    if asked in ON_CASES and n_folds > 1:
        raise BadRequest(
            f"--test {asked} ranks the cases of one split, and these runs have {n_folds} folds; "
            "say --test corrected-t"
        )
    if asked == "corrected-t" and n_folds == 1:
        raise BadRequest(
            "--test corrected-t compares over folds, and these runs have one; say "
            "--test obuchowski-rockette"
        )
    return asked
