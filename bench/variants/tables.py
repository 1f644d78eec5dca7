"""The average over a table's columns, per variant of a method: intervals, differences and tests.

The score of a repeat is its mean over the columns of a layout (AVG). What the repeats are decides
the interval and the test: folds get the corrected resampled t, seeds on one fixed split are
compared by Obuchowski and Rockette, and one repeat alone has neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from bench.layout import Layout
from bench.scores import captions
from bench.scores.contest import Contest, Entrant, Outcome, choose_test
from bench.scores.metrics import Metric, metric_named
from bench.scores.outcomes import outcome_of
from bench.scores.results import Repeat, RunResult
from bench.scores.rows import RowRuns
from bench.scores.scoring import Place, score_grid
from bench.scores.significance import BETTER, WORSE
from bench.statistics import adjust, corrected_resampled_t
from bench.tables import DASH, Cell, Column, Footnotes, Row, RowGroup, Table
from bench.wording import counted

ALPHA = 0.05
Design = Literal["folds", "seeds", "single"]
TESTS: Mapping[Design, str] = {
    "folds": "corrected resampled t-test over folds, two-sided",
    "seeds": "Obuchowski-Rockette test, seeds and cases random, two-sided",
    "single": "not tested, as there is one repeat",
}
INTERVALS: Mapping[Design, str] = {
    "folds": "corrected for the overlap of the folds' training parts",
    "seeds": "over seeds, for the split at hand",
    "single": "none, as there is one repeat",
}


@dataclass(frozen=True)
class Estimate:
    """A mean score over repeats."""

    mean: float  # NaN without a repeat that has every column
    spread: float | None = None  # sample SD over repeats
    interval: tuple[float, float] | None = None  # 95 %
    n_repeats: int = 0


def score_range(found: Estimate, metric: Metric) -> tuple[float, float] | None:
    """Return the interval of a mean score in its unit, cut to what the metric can be; None: none.

    Args:
        found: an average of scores.
        metric: what was averaged; one in percent lies between 0 and 100.
    """
    if found.interval is None or any(map(math.isnan, found.interval)):
        return None
    low, high = (metric.factor * end for end in found.interval)
    return (max(low, 0.0), min(high, 100.0)) if metric.unit == "%" else (low, high)


@dataclass(frozen=True, eq=False)
class Series:
    """The runs of one variant."""

    label: str
    runs: tuple[RunResult, ...]  # of any state
    values: tuple[tuple[str, object], ...] = ()  # parameter and value, of a sweep

    @property
    def done(self) -> tuple[RunResult, ...]:
        """The finished runs."""
        return tuple(run for run in self.runs if run.state == "done")

    @property
    def state(self) -> str:
        """What a table says where there is no number."""
        return next((run.state for run in self.runs if run.state != "done"), DASH)

    @cached_property
    def validation(self) -> float:
        """The mean over repeats of the score that chose the weights; NaN if one has none."""
        scores = [run.facts.get("valid_score") for run in self.runs]
        known = [float(score) for score in scores if score is not None]
        return float(np.mean(known)) if known and len(known) == len(scores) else math.nan

    @property
    def validation_is_auc(self) -> bool:
        """Whether the validation score is an AUC, not a loss."""
        return all(run.facts.get("valid_is") == "auc" for run in self.done)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The variants of one method in the columns of one layout, against one of them."""

    layout: Layout
    reference: Series
    series: tuple[Series, ...]  # in the order of the rows; the reference may be among them
    metrics: tuple[str, ...] = ("ACC", "AUC")

    @cached_property
    def everyone(self) -> tuple[Series, ...]:
        """The rows, with the reference first if it is not among them."""
        there = any(each is self.reference for each in self.series)
        return self.series if there else (self.reference, *self.series)

    @cached_property
    def compared(self) -> tuple[Series, ...]:
        """The rows beside the reference."""
        return tuple(each for each in self.everyone if each is not self.reference)

    @cached_property
    def entrants(self) -> dict[str, Entrant]:
        """By label, the scores of each row in every column."""
        places = list(dict.fromkeys(column.place for column in self.layout.columns))
        return {
            each.label: Entrant(
                RowRuns(each.label, each.runs), score_grid(each.done, places, self.metrics)
            )
            for each in self.everyone
        }

    @cached_property
    def places(self) -> dict[str, list[Place]]:
        """By metric, the columns that AVG is over: where some row has a score."""
        places = list(dict.fromkeys(column.place for column in self.layout.columns))
        grids = [entrant.grid for entrant in self.entrants.values()]
        return {
            metric: [p for p in places if any(grid.has_value(metric, p) for grid in grids)]
            for metric in self.metrics
        }

    @cached_property
    def design(self) -> Design:
        """What the repeats are."""
        repeats = {run.repeat for each in self.everyone for run in each.runs}
        if len({fold for fold, _ in repeats}) > 1:
            return "folds"
        return "seeds" if len(repeats) > 1 else "single"

    def averages(self, series: Series, metric: str) -> dict[Repeat, float]:
        """Return the AVG of each repeat that has every column."""
        places = self.places[metric]
        return self.entrants[series.label].values(metric, places) if places else {}

    def average(self, series: Series, metric: str) -> Estimate:
        """Average AVG over the repeats of a variant."""
        return self._estimate(series, self.averages(series, metric))

    def at(self, series: Series, metric: str, place: Place) -> Estimate:
        """Average one column over the repeats of a variant."""
        return self._estimate(series, self.entrants[series.label].values(metric, [place]))

    def _estimate(self, series: Series, values: Mapping[Repeat, float]) -> Estimate:
        if not values:
            return Estimate(math.nan)
        every = np.array(list(values.values()))
        spread = float(every.std(ddof=1)) if len(every) > 1 else None
        units = _fold_means(values) if self.design == "folds" else every
        if len(units) < 2:
            return Estimate(float(every.mean()), spread, n_repeats=len(every))
        sizes = self.entrants[series.label].fold_sizes if self.design == "folds" else (1, 0)
        found = corrected_resampled_t(units, n_train=sizes[0], n_test=sizes[1], alpha=ALPHA)
        return Estimate(float(every.mean()), spread, found.interval, len(every))

    @cached_property
    def differences(self) -> dict[tuple[str, str], Outcome]:
        """By label and metric, a variant's AVG against that of the reference."""
        return {
            (each.label, metric): self._difference(each, metric_named(metric))
            for each in self.compared
            for metric in self.metrics
        }

    def _difference(self, series: Series, metric: Metric) -> Outcome:
        rows = (self.entrants[series.label], self.entrants[self.reference.label])
        contest = Contest(*rows, metric, tuple(self.places[metric.name]))
        if not contest.places or not contest.is_there:
            return Outcome(math.nan, (math.nan, math.nan), math.nan, math.nan, 0)
        test = choose_test("auto", metric, contest.n_folds)
        return outcome_of(contest, test, alpha=ALPHA)

    @cached_property
    def adjusted(self) -> dict[tuple[str, str], float]:
        """By label and metric, p adjusted by Holm over the variants, which are one family."""
        found: dict[tuple[str, str], float] = {}
        for metric in self.metrics:
            labels = [each.label for each in self.compared]
            p = np.array([self.differences[label, metric].p for label in labels])
            pairs = zip(labels, adjust(p, "holm").tolist(), strict=True)
            found |= {(label, metric): value for label, value in pairs}
        return found


def _fold_means(values: Mapping[Repeat, float]) -> np.ndarray:
    """Average seeds within a fold: (folds,)."""
    folds: dict[int, list[float]] = {}
    for (fold, _), value in values.items():
        folds.setdefault(fold, []).append(value)
    return np.array([np.mean(each) for each in folds.values()])


# --- the table --------------------------------------------------------------------------------


def comparison_table(comparison: Comparison, title: str, explanation: Sequence[str] = ()) -> Table:
    """Write AVG, its difference to the reference with interval and test, and the validation score.

    Args:
        comparison: what is shown.
        title: of the table.
        explanation: sentences that the caption begins with.
    """
    notes = Footnotes()
    metrics = [metric_named(name) for name in comparison.metrics]
    is_tested = comparison.design != "single"
    columns = [column for metric in metrics for column in _score_columns(metric, comparison.design)]
    columns += [column for metric in metrics for column in _p_columns(metric)] if is_tested else []
    columns.append(Column("validation", "score", "Validation", better="neither"))
    rows = []
    for series in comparison.everyone:
        cells = [cell for metric in metrics for cell in _score_cells(comparison, series, metric)]
        if is_tested:
            cells += [cell for metric in metrics for cell in _p_cells(comparison, series, metric)]
        marks = _outcome(series, notes)
        rows.append(Row(series.label, (*cells, _validation_cell(series)), marks))
    return Table(
        title,
        tuple(columns),
        (RowGroup("", tuple(rows)),),
        (*explanation, *_caption(comparison)),
        notes.as_mapping(),
    )


def _score_columns(metric: Metric, design: Design) -> list[Column]:
    interval = "" if design == "single" else " (95 %)"
    headers = {
        "mean": f"mean ± SD{interval}",
        "difference": f"minus reference{interval}",
    }
    group = f"AVG {metric.name}"
    return [
        Column(key, header, group, unit=metric.unit, better="neither")
        for key, header in headers.items()
    ]


def _score_cells(comparison: Comparison, series: Series, metric: Metric) -> list[Cell]:
    mean = comparison.average(series, metric.name)
    if math.isnan(mean.mean):
        return [Cell(text=series.state)] * 2
    cell = _number(mean.mean, metric, score_range(mean, metric), mean.n_repeats)
    if mean.spread is not None:
        cell = replace(cell, spread=metric.factor * mean.spread)
    if series is comparison.reference:
        return [cell, Cell(text="reference")]
    found = comparison.differences[series.label, metric.name]
    low, high = (metric.factor * end for end in found.interval)
    return [cell, _number(found.difference, metric, (low, high), found.n)]


def _p_columns(metric: Metric) -> list[Column]:
    headers = {f"p {metric.name}": metric.name, f"adjusted {metric.name}": f"{metric.name} (Holm)"}
    return [
        Column(key, header, "p of the difference", better="neither")
        for key, header in headers.items()
    ]


def _p_cells(comparison: Comparison, series: Series, metric: Metric) -> list[Cell]:
    if series is comparison.reference:
        return [Cell(text="reference")] * 2
    key = series.label, metric.name
    found, adjusted = comparison.differences[key], comparison.adjusted[key]
    return [_p_cell(found.p), _p_cell(adjusted, star(found.difference, adjusted, metric))]


def _number(value: float, metric: Metric, ends: tuple[float, float] | None, n: int) -> Cell:
    """Write a mean with its interval in brackets."""
    if math.isnan(value):
        return Cell(text=DASH, n_repeats=0)
    note = ""
    if ends is not None and not any(map(math.isnan, ends)):
        note = " to ".join(f"{end:.{metric.digits}f}" for end in ends)
    return Cell(metric.factor * value, None, metric.digits, note=note, n_repeats=n)


def _p_cell(p: float, marks: tuple[str, ...] = ()) -> Cell:
    return Cell(text="n.t.") if math.isnan(p) else Cell(p, digits=3, marks=marks)


def star(difference: float, adjusted: float, metric: Metric) -> tuple[str, ...]:
    """Mark what the reference significantly beats with a star, what beats it with a circle."""
    if math.isnan(adjusted) or adjusted > ALPHA:
        return ()
    is_worse = difference < 0 if metric.better == "higher" else difference > 0
    return (BETTER,) if is_worse else (WORSE,)


def _validation_cell(series: Series) -> Cell:
    if math.isnan(series.validation):
        return Cell(text=DASH)
    factor, digits = (100.0, 2) if series.validation_is_auc else (1.0, 3)
    return Cell(factor * series.validation, digits=digits, n_repeats=len(series.done))


def _outcome(series: Series, notes: Footnotes) -> tuple[str, ...]:
    said = {f"{run.state}: {run.reason}." for run in series.runs if run.state != "done"}
    return tuple(notes.mark(sentence) for sentence in sorted(said))


def _caption(comparison: Comparison) -> tuple[str, ...]:
    repeats = sorted({run.repeat for each in comparison.everyone for run in each.runs})
    sentences = [
        "AVG: each repeat's mean over the columns of the table above that have a score.",
        captions.repeats_sentence(repeats),
        f"In brackets, 95 % intervals: {INTERVALS[comparison.design]}.",
        f"Differences to {comparison.reference.label}: {TESTS[comparison.design]}.",
    ]
    if comparison.design != "single":
        n_compared = counted(len(comparison.compared), "comparison")
        sentences.append(
            f"p (Holm): adjusted over {n_compared} of one metric. "
            f"A star at {ALPHA:g}: the reference is better; a circle: it is worse; "
            "n.t.: not testable."
        )
    sentences.append(
        "Validation: the score that chose the weights, in percent if it is an AUC; a setting is "
        "chosen by it, never by the test scores beside it."
    )
    return tuple(sentences)
