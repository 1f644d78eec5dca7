"""The average over a table's columns, per variant of a method: intervals, differences and tests.

The score of a repeat is its mean over the columns of a layout (AVG). What the repeats are decides
the interval and the test: folds get the corrected resampled t, seeds on one fixed split are
compared by Obuchowski and Rockette, and one repeat alone has neither.
"""

# R repeats, P places, N cases, K classes

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from bench import captions
from bench.layout import Layout
from bench.results import (
    Metric,
    Place,
    Repeat,
    RunResult,
    metric_named,
    score_grid,
)
from bench.statistics import (
    WEIGHTED,
    adjust,
    compare_methods,
    corrected_resampled_t,
)
from bench.tables import DASH, Cell, Column, Footnotes, Row, RowGroup, Table

ALPHA = 0.05
Design = Literal["folds", "seeds", "single"]
TESTS: Mapping[Design, str] = {
    "folds": "corrected resampled t-test over folds",
    "seeds": "Obuchowski-Rockette test, seeds and cases random",
    "single": "not tested, as there is one repeat",
}
INTERVALS: Mapping[Design, str] = {
    "folds": "corrected for the overlap of the folds' training parts",
    "seeds": "over seeds, for the split at hand",
    "single": "none, as there is one repeat",
}


@dataclass(frozen=True)
class Estimate:
    """A mean over repeats, or a difference of two."""

    mean: float  # NaN without a repeat that has every column
    spread: float | None = None  # sample SD over repeats
    interval: tuple[float, float] | None = None  # 95 %
    p: float = math.nan  # two-sided; NaN: not tested
    n_repeats: int = 0


def score_range(found: Estimate, metric: Metric) -> tuple[float, float] | None:
    """Return the interval of a mean score in its unit, cut to what the metric can be; None: none.

    Args:
        found: an average of scores, not a difference.
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
    def places(self) -> dict[str, list[Place]]:
        """By metric, the columns that AVG is over: where some row has a score."""
        places = list(dict.fromkeys(column.place for column in self.layout.columns))
        found: dict[str, list[Place]] = {}
        for metric in self.metrics:
            grids = [score_grid(each.done, places, [metric]) for each in self.everyone]
            found[metric] = [p for p in places if any(grid.has_value(metric, p) for grid in grids)]
        return found

    @cached_property
    def design(self) -> Design:
        """What the repeats are."""
        repeats = {run.repeat for each in self.everyone for run in each.runs}
        if len({fold for fold, _ in repeats}) > 1:
            return "folds"
        return "seeds" if len(repeats) > 1 else "single"

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Training and test cases of a fold, for the correction of its overlap."""
        for run in (run for each in self.everyone for run in each.done if run.folder):
            assert run.folder is not None
            frame = run.folder.availability()
            frame = frame[frame["condition"] == ""]
            sizes = frame["part"].value_counts()
            return int(sizes["train"]), int(sizes["test"])
        return 1, 0

    def average(self, series: Series, metric: str) -> Estimate:
        """Average AVG over the repeats of a variant."""
        return self._estimate(self.averages(series, metric))

    def averages(self, series: Series, metric: str) -> dict[Repeat, float]:
        """Return the AVG of each repeat that has every column."""
        places = self.places[metric]
        if not places:
            return {}
        grid = score_grid(series.done, places, [metric])
        means = grid.values[metric].mean(axis=1).tolist()
        return {r: v for r, v in zip(grid.repeats, means, strict=True) if not math.isnan(v)}

    def at(self, series: Series, metric: str, place: Place) -> Estimate:
        """Average one column over the repeats of a variant."""
        grid = score_grid(series.done, [place], [metric])
        values = grid.values[metric][:, 0].tolist()
        pairs = zip(grid.repeats, values, strict=True)
        return self._estimate({r: v for r, v in pairs if not math.isnan(v)})

    @cached_property
    def compared(self) -> tuple[Series, ...]:
        """The rows beside the reference."""
        return tuple(each for each in self.everyone if each is not self.reference)

    @cached_property
    def differences(self) -> dict[tuple[str, str], Estimate]:
        """By label and metric, a variant's AVG minus that of the reference."""
        return {
            (each.label, metric): self._difference(each, metric)
            for each in self.compared
            for metric in self.metrics
        }

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

    def _difference(self, series: Series, metric: str) -> Estimate:
        own, other = self.averages(series, metric), self.averages(self.reference, metric)
        found = self._estimate({r: own[r] - other[r] for r in own if r in other}, tested=True)
        if self.design != "seeds" or found.n_repeats < 2:
            return found
        return self._compared(series, metric, found)

    def _estimate(self, values: Mapping[Repeat, float], *, tested: bool = False) -> Estimate:
        """Average over repeats; p is of a mean of zero."""
        if not values:
            return Estimate(math.nan)
        every = np.array(list(values.values()))
        spread = float(every.std(ddof=1)) if len(every) > 1 else None
        units = _fold_means(values) if self.design == "folds" else every
        if len(units) < 2:
            return Estimate(float(every.mean()), spread, n_repeats=len(every))
        n_train, n_test = self.counts if self.design == "folds" else (1, 0)
        found = corrected_resampled_t(units, n_train=n_train, n_test=n_test, alpha=ALPHA)
        p = found.p if tested and self.design == "folds" else math.nan
        return Estimate(float(every.mean()), spread, found.interval, p, len(every))

    def _compared(self, series: Series, metric: str, found: Estimate) -> Estimate:
        """Test seeds on a fixed split; leave a difference untested that no test fits."""
        try:
            label, own, other = _stacked(series.done, self.reference.done, self.places[metric])
            test = compare_methods(
                label, own, other, metric=WEIGHTED[metric], paired_seeds=True, alpha=ALPHA
            )
        except ValueError:  # cases or repeats differ between the runs
            return Estimate(found.mean, found.spread, n_repeats=found.n_repeats)
        return Estimate(found.mean, found.spread, test.interval, test.p, found.n_repeats)


def _fold_means(values: Mapping[Repeat, float]) -> np.ndarray:
    """Average seeds within a fold: (folds,)."""
    folds: dict[int, list[float]] = {}
    for (fold, _), value in values.items():
        folds.setdefault(fold, []).append(value)
    return np.array([np.mean(each) for each in folds.values()])


def _stacked(
    a: Iterable[RunResult], b: Iterable[RunResult], places: Sequence[Place]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay predictions out for a test: label (N,), probabilities (P, R, N, K), NaN where none.

    Raises:
        ValueError: the two have different repeats.
    """
    own, other = ({(run.setting, run.repeat): run for run in runs} for runs in (a, b))
    if own.keys() != other.keys():
        raise ValueError(f"repeats differ: {sorted(own)} and {sorted(other)}")
    repeats = sorted({repeat for _, repeat in own})
    labels = {
        case: label
        for run in own.values()
        for cases, found, _ in run.parts.values()
        for case, label in zip(cases.tolist(), found.tolist(), strict=True)
    }
    index = {case: i for i, case in enumerate(labels)}
    n_classes = next(p.shape[1] for run in own.values() for _, _, p in run.parts.values())
    stacks = []
    for runs in (own, other):
        proba = np.full((len(places), len(repeats), len(index), n_classes), np.nan)
        for c, (setting, condition) in enumerate(places):
            for r, repeat in enumerate(repeats):
                cases, _, scores = runs[setting, repeat].parts[condition]
                proba[c, r, [index[case] for case in cases.tolist()]] = scores
        stacks.append(proba)
    return np.array(list(labels.values())), stacks[0], stacks[1]


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
    cell = _number(mean, metric, score_range(mean, metric))
    if series is comparison.reference:
        return [cell, Cell(text="reference")]
    found = comparison.differences[series.label, metric.name]
    ends = found.interval and (metric.factor * found.interval[0], metric.factor * found.interval[1])
    return [cell, replace(_number(found, metric, ends), spread=None)]


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
    return [_p_cell(found.p), _p_cell(adjusted, _star(found.mean, adjusted, metric))]


def _number(found: Estimate, metric: Metric, ends: tuple[float, float] | None) -> Cell:
    """Write a mean with its spread, and its interval in brackets."""
    if math.isnan(found.mean):
        return Cell(text=DASH, n_repeats=0)
    note = ""
    if ends is not None and not any(map(math.isnan, ends)):
        note = " to ".join(f"{end:.{metric.digits}f}" for end in ends)
    spread = None if found.spread is None else metric.factor * found.spread
    value = metric.factor * found.mean
    return Cell(value, spread, metric.digits, note=note, n_repeats=found.n_repeats)


def _p_cell(p: float, marks: tuple[str, ...] = ()) -> Cell:
    return Cell(text="n.t.") if math.isnan(p) else Cell(p, digits=3, marks=marks)


def _star(difference: float, adjusted: float, metric: Metric) -> tuple[str, ...]:
    """Mark what the reference significantly beats with *, what beats it with a dagger."""
    if math.isnan(adjusted) or adjusted > ALPHA:
        return ()
    is_worse = difference < 0 if metric.better == "higher" else difference > 0
    return ("*",) if is_worse else ("†",)


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
        f"Differences to {comparison.reference.label}: {TESTS[comparison.design]}, two-sided.",
    ]
    if comparison.design != "single":
        sentences.append(
            f"p (Holm): adjusted over the {len(comparison.compared)} comparisons of one metric. "
            f"* at {ALPHA:g}: the reference is better; †: it is worse; "
            "n.t.: not testable."
        )
    sentences.append(
        "Validation: the score that chose the weights, in percent if it is an AUC; a setting is "
        "chosen by it, never by the test scores beside it."
    )
    return tuple(sentences)
