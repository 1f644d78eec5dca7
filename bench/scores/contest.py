"""One row of a table against another: the difference, its interval and its p, in one column or AVG.

What is random decides the test. On a fixed split it is the seeds and the cases (Obuchowski and
Rockette, or the two-level bootstrap for scores without a smooth formula); over folds it is the
folds, whose cases are never pooled into one ranking. Where the data cannot carry a test, the
outcome has a reason in place of a p.
"""

# R repeats, P places, N cases, K classes, C conditions

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from bench.cache_folder import entry_path
from bench.errors import BadRequest, unknown
from bench.files import atomic_write
from bench.scores.metrics import Metric
from bench.scores.results import Repeat, RunResult
from bench.scores.rows import RowRuns
from bench.scores.scoring import Place, ScoreGrid
from bench.statistics import (
    WEIGHTED,
    compare_methods,
    corrected_resampled_t,
    mcnemar,
    paired_delong,
    probability_of_superiority,
    resample_cases,
    sign_flip,
    signed_rank,
    two_level_bootstrap,
)

OF_TWO_MODELS = ("delong", "mcnemar")  # about one training each, not about training again
ON_CASES = ("obuchowski-rockette", "bootstrap", *OF_TWO_MODELS)  # predictions of one split
TESTS = (*ON_CASES, "corrected-t", "signed-rank", "sign-flip", "wilcoxon-subsets")
BY_BOOTSTRAP = ("BACC", "F1", "ECE")  # scores that a jackknife does not suit
WEIGHTED_NAMES = {"BACC": "balanced ACC", "F1": "macro F1"}  # where they differ from ours
OF_METRIC = {"mcnemar": ("McNemar's test", "ACC"), "delong": ("DeLong's test", "AUC")}
N_RESAMPLES = 10_000
NAN = math.nan


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
    p_superior: float  # share of repeats in which the first is the better one, ties half
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
    def folds(self) -> np.ndarray:
        """(J, 2) scores of both in each fold that both have, seeds averaged."""
        first, second = (_by_fold(values) for values in self.values)
        return np.array([[first[f], second[f]] for f in sorted({*first} & {*second})])

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


# --- which test -------------------------------------------------------------------------------


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


# --- the outcome ------------------------------------------------------------------------------


def outcome_of(contest: Contest, test: str, *, alpha: float = 0.05) -> Outcome:
    """Compare two rows that both have a score.

    Args:
        contest: the rows, the metric and the places.
        test: a name of `TESTS` that fits the design.
        alpha: one minus the confidence of the interval.
    """
    if test in OF_TWO_MODELS:
        return _of_two_models(contest, test, alpha)
    if test in ON_CASES:
        return _on_cases(contest, test, alpha)
    if test == "wilcoxon-subsets":
        return _over_columns(contest)
    if test == "corrected-t" or contest.n_folds > 1:
        return _over_folds(contest, test, alpha)
    return _over_seeds(contest, test)


def _effect(contest: Contest, a: np.ndarray, b: np.ndarray, *, paired: bool) -> Outcome:
    """Return the difference alone, untested."""
    sign = 1.0 if contest.metric.better == "higher" else -1.0
    if not len(a) or not len(b):
        return Outcome(NAN, (NAN, NAN), NAN, NAN, 0, paired, "no repeat is common to both")
    superior = probability_of_superiority(sign * a, sign * b, paired=paired)
    n = min(len(a), len(b))
    return Outcome(float(a.mean() - b.mean()), (NAN, NAN), NAN, superior, n, paired)


def _tested(effect: Outcome, p: float, interval: tuple[float, float], why_not: str) -> Outcome:
    return replace(effect, p=p, interval=interval, reason=why_not if math.isnan(p) else "")


def _over_folds(contest: Contest, test: str, alpha: float) -> Outcome:
    a, b = contest.folds.reshape(-1, 2).T
    effect = _effect(contest, a, b, paired=True)
    if effect.n < 2:
        return replace(effect, reason=effect.reason or "only one fold is common to both")
    if test != "corrected-t":
        return _on_differences(effect, test, a - b)
    n_train, n_test = contest.first.fold_sizes
    found = corrected_resampled_t(a - b, n_train=n_train, n_test=n_test, alpha=alpha)
    return _tested(effect, found.p, found.interval, "the difference is the same in every fold")


def _over_seeds(contest: Contest, test: str) -> Outcome:
    a, b = contest.scores
    effect = _effect(contest, a, b, paired=contest.paired)
    if not contest.paired:
        return replace(effect, n=0, reason="the rows have no seeds in common")
    return _on_differences(effect, test, a - b)


def _over_columns(contest: Contest) -> Outcome:
    """Test over the means of columns, as the papers did: no evidence, the columns share all."""
    a, b = contest.scores
    effect = _effect(contest, a, b, paired=contest.paired)
    pairs = zip(*(_column_means(contest, each) for each in range(2)), strict=True)
    difference = np.array([first - second for first, second in pairs])
    return _on_differences(replace(effect, n=len(difference)), "signed-rank", difference)


def _column_means(contest: Contest, entrant: int) -> list[float]:
    row = (contest.first, contest.second)[entrant]
    by_place = (row.values(contest.metric.name, [place]) for place in contest.places)
    return [
        float(np.mean([values[repeat] for repeat in contest.repeats[entrant]]))
        for values in by_place
    ]


def _on_differences(effect: Outcome, test: str, difference: np.ndarray) -> Outcome:
    p = signed_rank(difference).p if test == "signed-rank" else sign_flip(difference).p
    return replace(effect, p=p)


# --- on cases ---------------------------------------------------------------------------------


def _on_cases(contest: Contest, test: str, alpha: float) -> Outcome:
    a, b = contest.scores
    effect = _effect(contest, a, b, paired=contest.paired)
    if effect.n < 2:
        return replace(effect, reason="one repeat cannot tell how much training varies")
    why_not = _unlike(contest)
    if why_not:
        return replace(effect, reason=why_not)
    asked = (test, contest.metric.name, contest.paired, alpha)
    is_slow = test == "bootstrap" or len(contest.places) > 1  # the rest takes milliseconds
    p, low, high = (kept if is_slow else _computed)(asked, _predictions(contest))
    why_nan = "the cases or their scores do not vary enough to tell"
    return _tested(effect, p, (low, high), why_nan)


def _of_two_models(contest: Contest, test: str, alpha: float) -> Outcome:
    """Compare one trained model with one other on the cases of one column."""
    a, b = contest.scores
    effect = _effect(contest, a, b, paired=contest.paired)
    why_not = _no_two_models(contest, test) or effect.reason or _unlike(contest)
    if why_not:
        return replace(effect, n=0, reason=why_not)
    label, first, second = _predictions(contest)
    effect = replace(effect, n=len(label))
    first, second = first[0, 0], second[0, 0]  # (N, K)
    if test == "mcnemar":
        right, other = (proba.argmax(1) == label for proba in (first, second))
        found = mcnemar(int((right & ~other).sum()), int((other & ~right).sum()))
        return _tested(effect, found.p, (NAN, NAN), "")
    delong = paired_delong(first[:, 1], second[:, 1], label == 1, alpha=alpha)
    why_nan = "the cases or their scores do not vary enough to tell"
    return _tested(effect, delong.p, delong.interval, why_nan)


def _no_two_models(contest: Contest, test: str) -> str:
    """Say why a test of two models does not apply; empty if it does."""
    name, metric = OF_METRIC[test]
    if contest.metric.name != metric:
        return f"{name} is a test of {metric}"
    n = max(len(each) for each in contest.repeats)
    if n > 1:
        return f"{name} compares one trained model with one other, and these rows have {n} repeats"
    _, _, proba = _parts(contest, contest.places[0])[0]
    if test == "delong" and proba.shape[1] != 2:
        return f"{name} is a test of two classes, and these are {proba.shape[1]}"
    return ""


Asked = tuple[str, str, bool, float]  # test, metric, whether seeds are paired, alpha
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # labels and the probabilities of both


def _computed(asked: Asked, arrays: Arrays) -> tuple[float, float, float]:
    """Return p and the ends of the interval."""
    test, name, paired, alpha = asked
    label, first, second = arrays
    metric = WEIGHTED[WEIGHTED_NAMES.get(name, name)]
    if test == "obuchowski-rockette":
        found = compare_methods(
            label, first, second, metric=metric, paired_seeds=paired, alpha=alpha
        )
        return found.p, *found.interval
    pool = resample_cases(
        label, np.concatenate([first, second], axis=1), metric=metric, n_resamples=N_RESAMPLES
    ).mean_over_conditions()
    n = first.shape[1]
    drawn = two_level_bootstrap(pool[:n], pool[n:], paired_seeds=paired, alpha=alpha)
    return drawn.p, *drawn.interval


def kept(asked: Asked, arrays: Arrays) -> tuple[float, float, float]:
    """Return what `_computed` does, from the cache if the same was ever asked of the same arrays.

    The code of the tests is part of what "the same" means. A cache that cannot be written costs
    time alone.
    """
    content = hashlib.sha256(json.dumps([asked, _code()]).encode())
    for array in arrays:
        content.update(f"{array.dtype} {array.shape}".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    path = entry_path("statistics", f"{asked[0]} {asked[1]}", content.hexdigest())
    path = path.with_name(f"{path.name}.json")
    if path.is_file():
        p, low, high = json.loads(path.read_text())
        return p, low, high
    found = _computed(asked, arrays)
    with contextlib.suppress(BadRequest, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(found).encode())
    return found


@lru_cache(maxsize=1)
def _code() -> str:
    """Hash the files that the numbers depend on."""
    files = [Path(__file__), *sorted((Path(__file__).parents[1] / "statistics").glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _parts(contest: Contest, place: Place) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """List cases, labels and probabilities of every run compared, those of the first row first."""
    setting, condition = place
    rows = zip((contest.first, contest.second), contest.repeats, strict=True)
    return [
        row.by_training[setting, repeat].parts[condition]
        for row, repeats in rows
        for repeat in repeats
    ]


def _unlike(contest: Contest) -> str:
    """Say why the runs cannot be compared case by case; empty if they can."""
    for place in contest.places:
        known = [
            dict(zip(case.tolist(), label.tolist(), strict=True))
            for case, label, _ in _parts(contest, place)
        ]
        if any(each.keys() != known[0].keys() for each in known):
            return "the runs were tested on different cases"
        if any(each != known[0] for each in known):
            return "the runs were tested with different labels"
    return ""


def _predictions(contest: Contest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels (N,) and probabilities (C, R_a, N, K) and (C, R_b, N, K).

    Rows of NaN are cases that a condition does not have.
    """
    parts = [_parts(contest, place) for place in contest.places]
    label_of = {
        case: label
        for (cases, labels, _), *_ in parts
        for case, label in zip(cases.tolist(), labels.tolist(), strict=True)
    }
    index = {case: i for i, case in enumerate(label_of)}
    n_classes = parts[0][0][2].shape[1]
    stacked = np.full((len(parts), len(parts[0]), len(index), n_classes), np.nan)
    for c, runs in enumerate(parts):
        for r, (cases, _, proba) in enumerate(runs):
            stacked[c, r, [index[case] for case in cases.tolist()]] = proba
    n_first = len(contest.repeats[0])
    return np.array(list(label_of.values())), stacked[:, :n_first], stacked[:, n_first:]
