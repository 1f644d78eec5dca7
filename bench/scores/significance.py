"""Which differences of a table hold: every row against one reference, cell by cell, as one family.

All comparisons of one metric in one table are a family and are corrected together, AVG included. A
star says that the reference is significantly better than a row, another mark that it is worse.
Before any test it is asked whether its p, corrected, could be small enough at all; where it could
not, the cell is "n.t.", not testable, and never starred.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import cast, get_args

import numpy as np

from bench.errors import BadRequest, unknown
from bench.scores.contest import (
    OF_TWO_MODELS,
    TESTS,
    Contest,
    Entrant,
    Outcome,
    Target,
    choose_test,
)
from bench.scores.metrics import Metric
from bench.scores.outcomes import outcome_of
from bench.scores.scoring import Place
from bench.statistics import Attainability, adjust, attainability
from bench.statistics.multiplicity import Correction, Test
from bench.wording import counted

BETTER, WORSE = "*", "°"  # of the reference, against the row that is marked
PAPERS_BETTER, PAPERS_WORSE = "†", "‡"  # by a test that is no evidence, never a star
NO_EVIDENCE = "wilcoxon-subsets"
NAMES = {
    "obuchowski-rockette": "Obuchowski-Rockette",
    "bootstrap": "two-level bootstrap",
    "corrected-t": "corrected resampled t (Nadeau and Bengio)",
    "delong": "paired DeLong",
    "mcnemar": "McNemar (mid-p)",
    "signed-rank": "exact Wilcoxon signed-rank",
    "sign-flip": "sign-flip permutation",
    NO_EVIDENCE: "Wilcoxon signed-rank over the means of columns",
}
# by whose smallest p it is known whether a test can reach alpha
ATTAINED_AS = {NO_EVIDENCE: "signed-rank", "mcnemar": "mcnemar-mid-p"}
CORRECTIONS = {"none": "no correction", "bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli"}


@dataclass(frozen=True)
class Claim:
    """What a table is asked to test."""

    test: str = "auto"  # by the design; none; or a name of `bench.scores.contest.TESTS`
    reference: str = ""  # label of a row; empty: the first one
    correction: Correction = "holm"
    alpha: float = 0.05

    def checked(self) -> Claim:
        """Return the claim if it can be made.

        Raises:
            UnknownName: there is no such test or correction.
            BadRequest: alpha is not a probability of error.
        """
        if self.test not in (*TESTS, "auto", "none"):
            raise unknown("test", self.test, (*TESTS, "auto", "none"))
        if self.correction not in get_args(Correction):
            raise unknown("correction", self.correction, get_args(Correction))
        if not 0 < self.alpha < 1:
            raise BadRequest(f"--alpha wants a number between 0 and 1, got {self.alpha:g}")
        return self


@dataclass(frozen=True)
class Comparison:
    """The reference against one row in one column or average."""

    row: str
    target: Target
    outcome: Outcome
    p_adjusted: float = math.nan


@dataclass(frozen=True, eq=False)
class Family:
    """All comparisons of one metric in one table, corrected together."""

    metric: Metric
    reference: str
    test: str
    claim: Claim
    comparisons: tuple[Comparison, ...]
    unit: str  # what is counted: seeds, folds, columns
    ratio: tuple[int, int] | None = None  # cases of training and test parts, of the corrected t

    @property
    def correction(self) -> Correction:
        """The correction; the papers had none."""
        return "none" if self.test == NO_EVIDENCE else self.claim.correction

    @cached_property
    def by_places(self) -> dict[tuple[str, tuple[Place, ...]], Comparison]:
        """By row and the places that a column is about."""
        return {(each.row, each.target.places): each for each in self.comparisons}

    @property
    def tested(self) -> list[Comparison]:
        """Those with a p."""
        return [each for each in self.comparisons if not math.isnan(each.outcome.p)]

    @property
    def shared_reason(self) -> str:
        """Why nothing is tested, if nothing is and all for one reason."""
        reasons = {each.outcome.reason for each in self.comparisons}
        return reasons.pop() if len(reasons) == 1 and not self.tested else ""

    def mark(self, comparison: Comparison) -> str:
        """Return the mark of a row's cell, empty if the difference may be chance."""
        if math.isnan(comparison.p_adjusted) or comparison.p_adjusted > self.claim.alpha:
            return ""
        sign = 1.0 if self.metric.better == "higher" else -1.0
        is_better = sign * comparison.outcome.difference > 0
        if self.test == NO_EVIDENCE:
            return PAPERS_BETTER if is_better else PAPERS_WORSE
        return BETTER if is_better else WORSE


def family_of(
    metric: Metric,
    targets: Sequence[Target],
    reference: Entrant,
    others: Sequence[Entrant],
    claim: Claim,
) -> Family:
    """Compare every row with the reference wherever both have a score.

    Args:
        metric: what is compared.
        targets: columns and averages.
        reference: the row that the others are compared with.
        others: those rows.
        claim: what is asked.

    Raises:
        BadRequest: the test does not fit the runs.
    """
    n_folds = max(len({fold for fold, _ in each.grid.repeats}) for each in (reference, *others))
    test = choose_test(claim.test, metric, max(n_folds, 1))
    contests = [
        (other.row.label, target, contest)
        for other in others
        for target in targets
        if _suits(test, target)
        if (contest := Contest(reference, other, metric, target.places)).is_there
    ]
    found = [
        Comparison(row, target, _attained(each, test, claim, len(contests)))
        for row, target, each in contests
    ]
    unit = _unit(test, n_folds)
    ratio = reference.fold_sizes if test == "corrected-t" and found else None
    family = Family(metric, reference.row.label, test, claim, tuple(found), unit, ratio)
    return replace(family, comparisons=_adjusted(family))


def _suits(test: str, target: Target) -> bool:
    """Say whether a test is about such a target: some are of averages alone, some of columns."""
    if test == NO_EVIDENCE:
        return len(target.places) > 1
    return test not in OF_TWO_MODELS or len(target.places) == 1


def _unit(test: str, n_folds: int) -> str:
    """Say what a test counts."""
    if test in OF_TWO_MODELS:
        return "case"
    return "column" if test == NO_EVIDENCE else "fold" if n_folds > 1 else "seed"


def _adjusted(family: Family) -> tuple[Comparison, ...]:
    p = np.array([each.outcome.p for each in family.comparisons])
    pairs = zip(family.comparisons, adjust(p, family.correction).tolist(), strict=True)
    return tuple(replace(each, p_adjusted=adjusted) for each, adjusted in pairs)


def _attained(contest: Contest, test: str, claim: Claim, n_comparisons: int) -> Outcome:
    """Compare, without a p where the smallest possible one, corrected, would exceed alpha."""
    outcome = outcome_of(contest, test, alpha=claim.alpha)
    if outcome.reason and outcome.n == 0:
        return outcome
    as_papers = test == NO_EVIDENCE
    name = cast(Test, ATTAINED_AS.get(test, test))
    correction: Correction = "none" if as_papers else claim.correction
    attainable = _attainable(name, outcome.n, n_comparisons, claim.alpha, correction)
    if attainable.reachable:
        return outcome
    reason = _unattainable(attainable, test, _unit(test, contest.n_folds))
    return replace(outcome, p=math.nan, reason=reason)


def _unattainable(found: Attainability, test: str, unit: str) -> str:
    needed = f"{found.n_needed} are needed" if found.n_needed else "no number of them would do"
    return (
        f"{NAMES[test]} with {counted(found.n, unit)} gives a corrected p of at least "
        f"{found.smallest_adjusted:.3g}; {needed}"
    )


@lru_cache(maxsize=4096)
def _attainable(test: Test, n: int, m: int, alpha: float, correction: Correction) -> Attainability:
    return attainability(test, n, n_comparisons=m, alpha=alpha, correction=correction)


# --- in words ---------------------------------------------------------------------------------


def sentences(families: Sequence[Family]) -> list[str]:
    """Say what was tested and what the marks of a table mean."""
    return [*claims_in_words(families), *_legend(families)]


def claims_in_words(families: Sequence[Family]) -> list[str]:
    """Say what was tested, once for the metrics that share it."""
    said: dict[str, list[str]] = {}
    for family in families:
        said.setdefault(_said(family), []).append(family.metric.name)
    if len(said) > 1:
        said = {f"{' and '.join(names)}: {text}": names for text, names in said.items()}
    return list(said)


def _said(family: Family) -> str:
    if not family.comparisons:
        return f"No test: no column has a score of {family.reference} and of another row."
    reason = family.shared_reason
    if reason:
        return f"n.t. (not testable) against {family.reference}: {reason}."
    if not family.tested:
        return f"n.t. (not testable) against {family.reference}: the footnotes say why."
    parts = [f"{NAMES[family.test]}, two-sided, unit: {_units(family)}"]
    parts += [_details(family)] if _details(family) else []
    parts += [f"reference {family.reference}", _correction(family)]
    parts += [f"alpha {family.claim.alpha:g}"]
    return f"Test: {'; '.join(parts)}."


def _units(family: Family) -> str:
    """Say how many units the comparisons have, the range if they differ."""
    counts = {each.outcome.n for each in family.tested}
    low, high = min(counts), max(counts)
    said = counted(high, family.unit)
    if low != high:
        said = f"{low} to {said}"
    return f"{said} and cases" if family.test == "obuchowski-rockette" else said


def _details(family: Family) -> str:
    """Say what a reader needs to repeat the test."""
    if family.ratio is not None:
        train, test = family.ratio
        return f"seeds within a fold averaged, n_test/n_train = {test / train:.3g}"
    if family.test in OF_TWO_MODELS:
        return "these two trained models on new cases, not training again"
    if family.test not in ("obuchowski-rockette", "bootstrap"):
        return ""
    designs = {each.outcome.paired for each in family.tested}
    words = {True: "the same seeds for all rows", False: "each row with seeds of its own"}
    return " or ".join(words[design] for design in sorted(designs, reverse=True))


def _correction(family: Family) -> str:
    m = len(family.comparisons)
    rows = len({each.row for each in family.comparisons})
    columns = len({each.target.places for each in family.comparisons})
    grid = (
        f" ({rows} rows x {columns} columns)"
        if rows * columns == m and min(rows, columns) > 1
        else ""
    )
    name = CORRECTIONS.get(family.correction, family.correction.capitalize())
    over = "in" if family.correction == "none" else "over"
    return f"{name} {over} {counted(m, 'comparison')}{grid} of a metric"


def _legend(families: Iterable[Family]) -> list[str]:
    tested = {family.test for family in families if family.tested}
    found = []
    if tested - {NO_EVIDENCE}:
        found.append(
            "A star: the reference is significantly better than this row; a circle: significantly "
            "worse."
        )
    if NO_EVIDENCE in tested:
        found.append(
            "A dagger (double: the reference is worse) is the mark that the papers print as a "
            "star. It is no evidence: the columns share their models and their cases."
        )
    return found


def not_tested(family: Family, comparison: Comparison) -> str:
    """Say in a footnote why one comparison has no p; empty if it has, or if the caption says it."""
    outcome = comparison.outcome
    if family.shared_reason or not math.isnan(outcome.p):
        return ""
    return f"n.t. (not testable) against {family.reference}: {outcome.reason}."
