"""The outcome of a contest: which test tells two rows apart, and what it says."""

# R repeats, N cases, K classes, C conditions

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from bench.scores.case_tests import Arrays, computed, kept
from bench.scores.contest import OF_TWO_MODELS, ON_CASES, Contest, Outcome
from bench.scores.scoring import Place
from bench.statistics import (
    corrected_resampled_t,
    mcnemar,
    paired_delong,
    probability_of_superiority,
    sign_flip,
    signed_rank,
)

OF_METRIC = {"mcnemar": ("McNemar's test", "ACC"), "delong": ("DeLong's test", "AUC")}
NAN = math.nan


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
    if not contest.shares_folds:
        a, b = (np.array(list(each.values())) for each in contest.folds)
        why_not = "folds of one number have different test cases in the two rows"
        return replace(_effect(contest, a, b, paired=False), reason=why_not)
    a, b = (np.array([each[fold] for fold in contest.common_folds]) for each in contest.folds)
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
    if why_not := _unlike(contest):
        return replace(effect, reason=why_not)
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
    predictions = _predictions(contest)
    p, low, high = (kept if is_slow else computed)(asked, predictions)
    return _tested(effect, p, (low, high), _why_nan(contest, predictions))


def _of_two_models(contest: Contest, test: str, alpha: float) -> Outcome:
    """Compare one trained model with one other on the cases of one column."""
    a, b = contest.scores
    effect = _effect(contest, a, b, paired=contest.paired)
    why_not = _no_two_models(contest, test) or effect.reason or _unlike(contest)
    if why_not:
        return replace(effect, n=0, reason=why_not)
    predictions = _predictions(contest)
    label, first, second = predictions
    effect = replace(effect, n=len(label))
    first, second = first[0, 0], second[0, 0]  # (N, K)
    if test == "mcnemar":
        right, other = (proba.argmax(1) == label for proba in (first, second))
        found = mcnemar(int((right & ~other).sum()), int((other & ~right).sum()))
        return _tested(effect, found.p, (NAN, NAN), "")
    delong = paired_delong(first[:, 1], second[:, 1], label == 1, alpha=alpha)
    return _tested(effect, delong.p, delong.interval, _why_nan(contest, predictions))


def _why_nan(contest: Contest, predictions: Arrays) -> str:
    """Say why a test on cases has no p."""
    label, first, _ = predictions
    counts = [np.bincount(label[~np.isnan(proba).any(axis=1)]) for proba in first[:, 0]]  # (N, K)
    if contest.metric.name == "AUC" and any((each == 1).any() for each in counts):
        return "a class has one case, which cannot tell how much its cases vary"
    return "the cases or their scores do not vary enough to tell"


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


def _predictions(contest: Contest) -> Arrays:
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
