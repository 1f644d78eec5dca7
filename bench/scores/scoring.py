"""Scores of stored predictions, averaged over repeats.

A repeat is a (fold, seed) pair, a place a (training setting, condition) pair: where in a table a
score stands. Scores are never stored: they are computed here, from the stored predictions, each
time that they are printed.
"""

# R repeats, P places

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.scores.metrics import Metric, metric_named
from bench.scores.results import Repeat, RunResult

if TYPE_CHECKING:
    import pandas as pd

Place = tuple[str, str]  # training setting, condition


def scores(result: RunResult, metrics: Sequence[str] = ("ACC", "AUC")) -> pd.DataFrame:
    """Score one run.

    Returns:
        One row per condition and metric: condition, metric, value (not in percent, NaN where
        undefined), n (cases), flagged (a mean over classes that lacks one).
    """
    import pandas as pd

    rows = []
    for condition in result.conditions:
        for name in metrics:
            n, value, flagged = _score(result, condition, metric_named(name))
            rows.append((condition, name, value, n, flagged))
    return pd.DataFrame(rows, columns=["condition", "metric", "value", "n", "flagged"])


def _score(result: RunResult, condition: str, metric: Metric) -> tuple[int, float, bool]:
    if condition not in result.parts:
        return 0, float("nan"), False
    case, label, proba = result.parts[condition]
    value, flagged = metric.score(label, proba)
    return len(case), value, flagged


@dataclass(frozen=True)
class Summary:
    """A mean over repeats and what it leaves out."""

    mean: float  # NaN without a defined repeat
    spread: float | None  # sample SD (ddof=1) over repeats; None below two
    n_repeats: int  # averaged
    undefined: tuple[Repeat, ...] = ()  # left out: no value there
    flagged: tuple[Repeat, ...] = ()  # averaged, although a class is absent there


def summarise(values: np.ndarray, flagged: np.ndarray, repeats: Sequence[Repeat]) -> Summary:
    """Average over repeats, saying which have no value and which are flagged.

    Args:
        values: (R,) scores, NaN where undefined.
        flagged: (R,) bool.
        repeats: R pairs.
    """
    defined = ~np.isnan(values)
    used = values[defined]
    each = list(zip(repeats, defined.tolist(), flagged.tolist(), strict=True))
    return Summary(
        float(used.mean()) if len(used) else float("nan"),
        float(used.std(ddof=1)) if len(used) > 1 else None,
        len(used),
        tuple(repeat for repeat, is_defined, _ in each if not is_defined),
        tuple(repeat for repeat, is_defined, is_flagged in each if is_defined and is_flagged),
    )


@dataclass(frozen=True, eq=False)
class ScoreGrid:
    """The scores of one row's finished runs."""

    repeats: tuple[Repeat, ...]
    places: tuple[Place, ...]
    values: Mapping[str, np.ndarray]  # metric -> (R, P), NaN where undefined or not run
    flagged: Mapping[str, np.ndarray]  # metric -> (R, P) bool
    is_run: np.ndarray  # (R, P) bool
    n_cases: Mapping[Place, int]  # distinct cases over the repeats

    def cell(self, metric: str, place: Place) -> Summary:
        """Average one place over the repeats that were run there."""
        return self.average(metric, [place])

    def average(
        self, metric: str, places: Sequence[Place], weights: Sequence[float] | None = None
    ) -> Summary:
        """Average each repeat's mean over these places: the column AVG.

        A repeat in which one of them is undefined is left out: its mean would be of other columns.

        Args:
            metric: its name.
            places: P of them.
            weights: (P,) that sum to 1; None: all the same.
        """
        chosen = [self.places.index(place) for place in places]
        ran = np.asarray(self.is_run[:, chosen].all(axis=1), bool)
        repeats = [repeat for repeat, is_there in zip(self.repeats, ran, strict=True) if is_there]
        if not chosen:
            return summarise(np.full(len(repeats), np.nan), np.zeros(len(repeats), bool), repeats)
        values = self.values[metric][ran][:, chosen]  # NaN in a mean if one is undefined
        means = values.mean(axis=1) if weights is None else values @ np.asarray(weights)
        flagged = np.asarray(self.flagged[metric][ran][:, chosen].any(axis=1), bool)
        return summarise(means, flagged, repeats)

    def unfinished(self, places: Sequence[Place]) -> list[Repeat]:
        """List the repeats that were run at some of these places only."""
        ran = self.is_run[:, [self.places.index(place) for place in places]]
        partly = np.asarray(ran.any(axis=1) & ~ran.all(axis=1), bool)
        return [repeat for repeat, is_partly in zip(self.repeats, partly, strict=True) if is_partly]

    def has_value(self, metric: str, place: Place) -> bool:
        """Tell whether any repeat has a score there."""
        return not np.isnan(self.values[metric][:, self.places.index(place)]).all()


def score_grid(
    runs: Sequence[RunResult], places: Sequence[Place], metrics: Sequence[str] = ("ACC", "AUC")
) -> ScoreGrid:
    """Score the finished runs of one row at these places."""
    by_training = {(run.setting, run.repeat): run for run in runs}
    repeats = tuple(dict.fromkeys(run.repeat for run in runs))
    shape = (len(repeats), len(places))
    values = {name: np.full(shape, np.nan) for name in metrics}
    flagged = {name: np.zeros(shape, bool) for name in metrics}
    is_run = np.zeros(shape, bool)
    for r, repeat in enumerate(repeats):
        for p, (setting, condition) in enumerate(places):
            run = by_training.get((setting, repeat))
            if run is None:
                continue
            is_run[r, p] = True
            for name in metrics:
                found = _score(run, condition, metric_named(name))
                _, values[name][r, p], flagged[name][r, p] = found
    n_cases = {place: len(cases_scored(runs, place)) for place in places}
    return ScoreGrid(repeats, tuple(places), values, flagged, is_run, n_cases)


def cases_scored(runs: Iterable[RunResult], place: Place | None = None) -> set[str]:
    """Return the distinct cases that were scored over the runs, at one place or any."""
    return {
        case
        for run in runs
        for condition, (cases, _, _) in run.parts.items()
        if place is None or place == (run.setting, condition)
        for case in cases.tolist()
    }


def common_cases(runs: Iterable[RunResult], places: Collection[Place]) -> dict[Repeat, set[str]]:
    """Return, for each repeat, the cases that every run scored at every place that has cases."""
    parts: dict[Repeat, dict[Place, set[str]]] = {}
    settings: dict[Repeat, set[str]] = {}
    for run in runs:
        settings.setdefault(run.repeat, set()).add(run.setting)
        for condition, (cases, _, _) in run.parts.items():
            if (place := (run.setting, condition)) in places:
                found = parts.setdefault(run.repeat, {}).setdefault(place, set(cases.tolist()))
                found.intersection_update(cases.tolist())
    with_cases = {place for by_place in parts.values() for place in by_place}
    return {
        repeat: set.intersection(
            *(by_place.get(place, set()) for place in with_cases if place[0] in settings[repeat])
        )
        for repeat, by_place in parts.items()
    }


def constant_places(runs: Sequence[RunResult], places: Sequence[Place]) -> list[Place]:
    """List the places at which every run gives all its cases one and the same probability.

    Its AUC there is exactly one half: all pairs are ties. Places whose cases are of one class have
    no AUC and do not count.
    """
    return [place for place in places if _are_constant(runs, place)]


def _are_constant(runs: Sequence[RunResult], place: Place) -> bool:
    setting, condition = place
    there = [run for run in runs if run.setting == setting]
    parts = [run.parts[condition] for run in there if condition in run.parts]
    return (
        any((label != label[0]).any() for _, label, _ in parts)
        and len(parts) == len(there)
        and all((proba == proba[0]).all() for _, _, proba in parts)
    )
