from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.metrics import rank_auc
from bench.simulation import (
    AVERAGE,
    LIMITS,
    OVER_SUBSETS,
    SCENARIOS,
    Rate,
    Scenario,
    complete_auc,
    false_positive_rates,
    main,
    markdown,
    rejection_rates,
    simulate,
)

TYPICAL = SCENARIOS[1]
STILL = Scenario("still", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def drawn(scenario: Scenario = TYPICAL, *, gain: float = 0.0) -> np.ndarray:
    return simulate(scenario, np.random.default_rng(0), gain=gain)


def test_the_noise_of_a_modality_has_variance_one() -> None:
    for scenario in SCENARIOS:
        parts = (scenario.case, scenario.method_case, scenario.seed_case, scenario.rest)
        assert sum(parts) == pytest.approx(1)
    noise = drawn()[:, :, :3] - (TYPICAL.label - 0.5)
    assert noise.var() == pytest.approx(1, abs=0.15)


def test_a_study_has_methods_repeats_conditions_and_cases() -> None:
    assert drawn().shape == (2, 3, 7, 320)
    assert TYPICAL.label.sum() == 101


def test_without_noise_the_classes_are_one_apart() -> None:
    scores = drawn(STILL)
    assert (scores == TYPICAL.label - 0.5).all()


def test_each_effect_is_shared_by_whom_it_belongs_to() -> None:
    case = drawn(replace(STILL, case=1.0))
    assert (case == case[:1, :1]).all()
    method = drawn(replace(STILL, method_case=1.0))
    assert (method == method[:, :1]).all()
    assert (method[0] != method[1]).all()
    seed = drawn(replace(STILL, seed_case=1.0))
    assert (seed[0] == seed[1]).all()
    assert (seed[:, 0] != seed[:, 1]).all()
    apart = drawn(replace(STILL, seed_case=1.0, paired_seeds=False))
    assert (apart[0] != apart[1]).all()


def test_more_modalities_and_a_gain_separate_better() -> None:
    positive = TYPICAL.label == 1
    scores = drawn(gain=0.5).mean(1)
    of_first, of_second = (
        [rank_auc(condition, positive) for condition in method] for method in scores
    )
    assert min(np.subtract(of_first, of_second)) > 0
    assert of_second[-1] > max(of_second[:3])
    many = replace(TYPICAL, n_cases=40_000, n_positive=20_000)
    complete = drawn(many, gain=0.5)[0, 0, -1]
    assert rank_auc(complete, many.label == 1) == pytest.approx(complete_auc(many, 0.5), abs=0.02)


def test_the_limit_of_a_rate_is_above_it_and_decides() -> None:
    few, many = (Rate("", "two-level bootstrap", "AUC", n, 100) for n in (2, 8))
    assert few.share < few.upper < LIMITS["two-level bootstrap"] < many.upper
    assert few.within_limit
    assert not many.within_limit
    assert Rate("", OVER_SUBSETS, "AUC", 50, 100).within_limit


def test_the_same_seed_gives_the_same_rates() -> None:
    first, again = (rejection_rates(4, scenario=TYPICAL, n_resamples=50, seed=3) for _ in range(2))
    assert first == again


def test_the_table_has_a_row_per_scenario_and_test() -> None:
    wrong, right = (Rate("still", "t", "AUC", n, 100) for n in (5, 60))
    assert markdown([wrong], [right]).splitlines() == [
        "| scenario | test | AUC, false % | AUC, power % |",
        "| --- | --- | ---: | ---: |",
        "| still | t | 5.0 (10.2) | 60 |",
    ]


def test_the_command_prints_the_table_and_fails_beyond_a_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Of one study the upper limit is 95 % or more, whatever it finds.
    assert main(["--studies", "1"]) == 1
    printed = capsys.readouterr().out
    assert "| typical, paired seeds | Obuchowski-Rockette |" in printed
    assert "exceed them" in printed


@pytest.mark.slow
def test_the_default_tests_keep_their_level_and_the_papers_does_not() -> None:
    """The limits are those of the command's 2000 studies; fewer have wider ones."""
    rates = false_positive_rates(600, scenarios=[TYPICAL], n_resamples=300)
    for rate in rates:
        print(f"{rate.test}, {rate.score}: {rate.share:.3f}, upper limit {rate.upper:.3f}")
        assert rate.within_limit
    limited = {rate.score for rate in rates if rate.test in LIMITS}
    assert limited == {"AUC", "ACC", AVERAGE}
    assert min(rate.share for rate in rates if rate.test == OVER_SUBSETS) > 0.2


@pytest.mark.slow
def test_a_real_difference_is_found_far_more_often_than_one_that_is_not() -> None:
    equal = {rate.key: rate.share for rate in false_positive_rates(60, scenarios=[TYPICAL])}
    for rate in rejection_rates(60, scenario=TYPICAL, gain=0.2):
        print(f"{rate.test}, {rate.score}: power {rate.share:.2f}")
        if rate.test in LIMITS:
            assert rate.share > equal[rate.key] + 0.1
