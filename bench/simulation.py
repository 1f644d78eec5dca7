"""How often each test cries wolf: studies of two methods, simulated and tested.

`python -m bench.simulation --studies 2000 --seed 0` prints, for methods that are equal, the share
of studies in which a test at 5 % finds a difference, with its upper limit, and beside it the power
at a real difference. The limits that the default tests must keep are in `LIMITS`.

A score is the mean over the available modalities of: the class, by half a separation to either
side; what all methods find easy or hard in a case; what one method does; what one seed does to a
case, shared by methods where seeds are paired; and the rest of that training. Separation and
threshold vary by training too. This is the model of Roe and Metz (1997) with trainings as readers.
"""

# M methods (2), R repeats, C conditions (the 7 subsets of 3 modalities), N cases, S = M R models

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.availability import subsets
from bench.statistics import (
    CaseResamples,
    Estimates,
    WeightedMetric,
    clopper_pearson_upper,
    delong,
    jackknife,
    mean_estimates,
    obuchowski_rockette,
    resample_cases,
    signed_rank,
    two_level_bootstrap,
    weighted_accuracy,
    weighted_auc,
)
from bench.statistics.tails import upper_normal

N_METHODS = 2
N_MODALITIES = 3
SUBSETS = subsets(N_MODALITIES)  # the last one is complete
ALPHA = 0.05

AVERAGE = "AVG of AUC"  # over the subsets
OR = "Obuchowski-Rockette"
BOOTSTRAP = "two-level bootstrap"
OVER_SUBSETS = "Wilcoxon over subset means"
OVER_PAIRS = "Wilcoxon over seed x subset pairs"

# What the upper 95 % limit of the false-positive rate may be, for a claim at 5 % with 3 repeats.
LIMITS = {OR: 0.10, BOOTSTRAP: 0.09}


@dataclass(frozen=True)
class Scenario:
    """Where the noise of a study comes from. Variances of a modality's score, which sum to 1."""

    name: str
    case: float  # easy and hard cases, the same for all methods
    method_case: float  # cases that one method finds easy, in each of its trainings
    seed_case: float  # cases that trainings with one seed find easy
    rest: float  # each training on its own
    sd_separation: float  # between trainings; the separation itself is 1
    sd_threshold: float  # between trainings
    paired_seeds: bool = True  # repeat r of both methods shares the seed's effects
    between_modalities: float = 0.3  # correlation of these effects between modalities
    n_repeats: int = 3
    n_cases: int = 320  # of them 101 positive: the official test part of Derm7pt, MEL and NEV
    n_positive: int = 101

    @property
    def label(self) -> np.ndarray:
        """The cases' classes: (N,) int."""
        return (np.arange(self.n_cases) < self.n_positive).astype(np.int64)


SCENARIOS = (
    Scenario("stable trainings, paired seeds", 0.65, 0.2, 0.05, 0.1, 0.02, 0.02),
    Scenario("typical, paired seeds", 0.5, 0.2, 0.05, 0.25, 0.05, 0.05),
    Scenario("noisy trainings, paired seeds", 0.35, 0.2, 0.05, 0.4, 0.15, 0.1),
    Scenario("methods alike, paired seeds", 0.73, 0.02, 0.05, 0.2, 0.05, 0.05),
    Scenario("typical, independent seeds", 0.5, 0.2, 0.05, 0.25, 0.05, 0.05, paired_seeds=False),
)


def simulate(scenario: Scenario, rng: np.random.Generator, *, gain: float = 0.0) -> np.ndarray:
    """Draw the scores of one study; a case is called positive where its score is above 0.

    Args:
        scenario: where the noise comes from.
        rng: of all draws.
        gain: by how much the first method separates the classes better, in standard deviations.

    Returns:
        (M, R, C, N).
    """
    n_repeats, n_cases, paired = scenario.n_repeats, scenario.n_cases, scenario.paired_seeds

    def effect(variance: float, methods: int, repeats: int, cases: int = n_cases) -> np.ndarray:
        """Draw one effect for each modality: (methods, repeats, modalities, cases)."""
        common = rng.standard_normal((methods, repeats, 1, cases))
        own = rng.standard_normal((methods, repeats, N_MODALITIES, cases))
        rho = scenario.between_modalities
        return np.sqrt(variance) * (np.sqrt(rho) * common + np.sqrt(1 - rho) * own)

    seed_methods = 1 if paired else N_METHODS
    separation = 1 + effect(scenario.sd_separation**2, N_METHODS, n_repeats, 1)
    separation[0] += gain
    per_modality = (
        (scenario.label - 0.5) * separation
        + effect(scenario.case, 1, 1)
        + effect(scenario.method_case, N_METHODS, 1)
        + effect(scenario.seed_case, seed_methods, n_repeats)
        + effect(scenario.rest, N_METHODS, n_repeats)
        + effect(scenario.sd_threshold**2, N_METHODS, n_repeats, 1)
    )
    return np.stack([per_modality[:, :, list(subset)].mean(2) for subset in SUBSETS], axis=2)


# --- one study --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Score:
    """AUC or accuracy from the scores of S models."""

    estimates: Callable[[np.ndarray, np.ndarray], Estimates]  # of (S, N) scores and (N,) labels
    metric: WeightedMetric


_SCORES = {
    "AUC": _Score(lambda score, label: delong(score, label == 1), weighted_auc),
    "ACC": _Score(lambda score, label: mean_estimates((score > 0) == label), weighted_accuracy),
}


def _probabilities(score: np.ndarray) -> np.ndarray:
    """Return (..., N, 2) probabilities with the order and the sign of the scores."""
    positive = 1 / (1 + np.exp(-score))
    return np.stack([1 - positive, positive], axis=-1)


def p_values(
    scenario: Scenario, scores: np.ndarray, *, n_resamples: int, seed: int
) -> dict[tuple[str, str], float]:
    """Test one study in every way.

    Args:
        scenario: what the study was drawn from.
        scores: (M, R, C, N).
        n_resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        (test, score) -> p. The default tests look at the complete subset, that of AVG and
        Wilcoxon's at all.
    """
    label, n_repeats, paired = scenario.label, scenario.n_repeats, scenario.paired_seeds
    complete = scores[:, :, -1].reshape(-1, scenario.n_cases)
    found = {}
    for name, score in _SCORES.items():
        estimates = score.estimates(complete, label)
        found[OR, name] = obuchowski_rockette(estimates, n_repeats, paired_seeds=paired).p
        cases = resample_cases(
            label,
            _probabilities(complete),
            metric=score.metric,
            n_resamples=n_resamples,
            seed=seed,
        )
        found[BOOTSTRAP, name] = _bootstrap_p(cases, scenario, seed)
        flat = score.estimates(scores.reshape(-1, scenario.n_cases), label).value
        difference = np.subtract(*flat.reshape(N_METHODS, n_repeats, -1))  # (R, C)
        found[OVER_SUBSETS, name] = signed_rank(difference.mean(0)).p
        found[OVER_PAIRS, name] = signed_rank(difference.ravel()).p
    conditions = np.moveaxis(scores, 2, 0).reshape(len(SUBSETS), -1, scenario.n_cases)
    average = jackknife(label, _probabilities(conditions), weighted_auc)
    found[OR, AVERAGE] = obuchowski_rockette(average, n_repeats, paired_seeds=paired).p
    return found


def _bootstrap_p(cases: CaseResamples, scenario: Scenario, seed: int) -> float:
    first, second = cases[: scenario.n_repeats], cases[scenario.n_repeats :]
    return two_level_bootstrap(first, second, paired_seeds=scenario.paired_seeds, seed=seed).p


# --- many studies -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """How often a test rejects."""

    scenario: str
    test: str
    score: str
    n_rejected: int
    n_studies: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is a rate of."""
        return self.scenario, self.test, self.score

    @property
    def share(self) -> float:
        """Rejections over studies."""
        return self.n_rejected / self.n_studies

    @property
    def upper(self) -> float:
        """Upper 95 % limit of the share (Clopper and Pearson)."""
        return clopper_pearson_upper(self.n_rejected, self.n_studies)

    @property
    def within_limit(self) -> bool:
        """Whether the upper limit is what `LIMITS` allows; always, for tests without a limit."""
        return self.upper <= LIMITS.get(self.test, 1.0)


def rejection_rates(
    n_studies: int,
    *,
    scenario: Scenario,
    gain: float = 0.0,
    n_resamples: int = 500,
    seed: int = 0,
) -> list[Rate]:
    """Simulate studies and count how often each test rejects at 5 %.

    Args:
        n_studies: how many.
        scenario: where the noise comes from.
        gain: 0: the methods are equal; else the separation that the first one has more.
        n_resamples: of the bootstrap, per study.
        seed: of everything.
    """
    rng = np.random.default_rng([seed, round(1000 * gain)])
    n_rejected: Counter[tuple[str, str]] = Counter()
    for study in range(n_studies):
        scores = simulate(scenario, rng, gain=gain)
        found = p_values(scenario, scores, n_resamples=n_resamples, seed=study)
        n_rejected.update({key: int(p <= ALPHA) for key, p in found.items()})
    return [
        Rate(scenario.name, test, score, n, n_studies) for (test, score), n in n_rejected.items()
    ]


def false_positive_rates(
    n_studies: int,
    *,
    scenarios: Sequence[Scenario] = SCENARIOS,
    n_resamples: int = 500,
    seed: int = 0,
) -> list[Rate]:
    """Count how often each test finds a difference between equal methods; see `rejection_rates`."""
    return [
        rate
        for scenario in scenarios
        for rate in rejection_rates(
            n_studies, scenario=scenario, n_resamples=n_resamples, seed=seed
        )
    ]


def powers(n_studies: int, *, gain: float, seed: int = 0) -> list[Rate]:
    """Count how often each test finds a difference that is there."""
    return [
        rate
        for scenario in SCENARIOS
        for rate in rejection_rates(n_studies, scenario=scenario, gain=gain, seed=seed)
    ]


def complete_auc(scenario: Scenario, gain: float = 0.0) -> float:
    """Return the AUC that a training with average separation has on the complete subset."""
    variance = (1 + (N_MODALITIES - 1) * scenario.between_modalities) / N_MODALITIES
    return 1 - upper_normal((1 + gain) / np.sqrt(2 * variance))


# --- the table --------------------------------------------------------------------------------


def markdown(wrong: Sequence[Rate], right: Sequence[Rate]) -> str:
    """Make the table.

    Args:
        wrong: rates of false positives, printed with their upper limits.
        right: powers of the same tests.
    """
    scores = list(dict.fromkeys(rate.score for rate in wrong))
    cells = {
        ("false", rate.key): f"{100 * rate.share:.1f} ({100 * rate.upper:.1f})" for rate in wrong
    }
    cells |= {("power", rate.key): f"{100 * rate.share:.0f}" for rate in right}
    columns = [(kind, score) for kind in ("false", "power") for score in scores]
    rows = [
        ["scenario", "test", *(f"{score}, {kind} %" for kind, score in columns)],
        ["---", "---", *("---:" for _ in columns)],
    ]
    for scenario, test in dict.fromkeys((rate.scenario, rate.test) for rate in wrong):
        found = [cells.get((kind, (scenario, test, score)), "") for kind, score in columns]
        rows.append([scenario, test, *found])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and whether the default tests keep their limits; 1 if one does not."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulation",
        description="how often each test finds a difference between equal methods, and a real one",
    )
    parser.add_argument("--studies", type=int, default=2000, help="per scenario; power: a fifth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gain", type=float, default=0.2, help="separation, for the power")
    chosen = parser.parse_args(arguments)
    n_powers = max(1, chosen.studies // 5)
    wrong = false_positive_rates(chosen.studies, seed=chosen.seed)
    right = powers(n_powers, gain=chosen.gain, seed=chosen.seed)
    aucs = [100 * complete_auc(SCENARIOS[0], gain) for gain in (chosen.gain, 0.0)]
    print(
        f"False: {chosen.studies} studies of equal methods (upper 95 % limit), tests at 5 %. "
        f"Power: {n_powers} studies of AUC {aucs[0]:.1f} against {aucs[1]:.1f}.\n"
    )
    print(markdown(wrong, right))
    broken = [rate for rate in wrong if not rate.within_limit]
    limits = ", ".join(f"{test} {100 * limit:.0f} %" for test, limit in LIMITS.items())
    print(f"\nUpper limits allowed: {limits}; {len(broken)} of {len(wrong)} rates exceed them.")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
