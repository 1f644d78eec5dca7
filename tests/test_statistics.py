from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from bench import metrics
from bench.errors import BadRequest
from bench.statistics import (
    WEIGHTED,
    CaseResamples,
    Estimates,
    adjust,
    attainability,
    clopper_pearson_upper,
    compare_methods,
    conover,
    corrected_resampled_t,
    critical_difference,
    delong,
    friedman,
    jackknife,
    mcnemar,
    mean_estimates,
    nemenyi,
    nemenyi_difference,
    obuchowski_rockette,
    paired_delong,
    pairwise_signed_rank,
    probability_of_superiority,
    resample_cases,
    sign_flip,
    signed_rank,
    smallest_p,
    two_level_bootstrap,
    weighted_accuracy,
    weighted_auc,
    weighted_macro_f1,
)
from bench.statistics.estimates import placements
from bench.statistics.multiplicity import Correction, Test
from bench.statistics.resampling import case_counts
from bench.statistics.weighted import leave_one_out

# statsmodels' names in the reference file
CORRECTIONS: dict[str, Correction] = {
    "bonferroni": "bonferroni",
    "holm": "holm",
    "holm-sidak": "holm-sidak",
    "hommel": "hommel",
    "fdr_bh": "bh",
    "fdr_by": "by",
}
PLAIN = {
    "ACC": metrics.accuracy,
    "AUC": lambda label, proba: metrics.auc(label, proba).value,
    "balanced ACC": metrics.balanced_accuracy,
    "macro F1": metrics.macro_f1,
    "ECE": metrics.ece,
    "Brier": metrics.brier,
    "NLL": metrics.nll,
}


def golden(shared: Path, name: str) -> dict:
    return json.loads((shared / "golden" / "statistics" / f"{name}.json").read_text())


def exactly(expected: object) -> object:
    """Equal to 1e-12, as numbers and ranks are; None is NaN."""
    return pytest.approx(np.nan if expected is None else expected, abs=1e-12, rel=0, nan_ok=True)


def tail(expected: object) -> object:
    """Equal to 1e-9, as p-values through continuous tails are; None is NaN."""
    return pytest.approx(np.nan if expected is None else expected, abs=1e-9, rel=0, nan_ok=True)


def some_cases(
    n_models: int, n: int = 60, n_classes: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels (N,) and probabilities (S, N, K) with ties that know something of the labels."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n_models, n, n_classes)) + 1.5 * np.eye(n_classes)[label]
    proba = np.exp(logits).round(1) + 0.05
    return label, proba / proba.sum(-1, keepdims=True)


# --- DeLong -----------------------------------------------------------------------------------


def test_delong_equals_the_reference(shared: Path) -> None:
    for case in golden(shared, "delong")["cases"]:
        positive = np.array(case["y"]) == 1
        found = paired_delong(np.array(case["a"]), np.array(case["b"]), positive)
        expected = case["delong"]
        assert found.auc == exactly((expected["auc_a"], expected["auc_b"])), case["name"]
        assert found.variance == exactly((expected["var_a"], expected["var_b"]))
        assert found.covariance == exactly(expected["cov"])
        assert found.difference == exactly(expected["diff"])
        assert found.se**2 == exactly(expected["var_diff"])
        assert found.z == tail(expected["z"])
        assert found.p == tail(expected["p"])
        assert found.interval == tail(tuple(expected["ci95"]))


def test_a_case_is_placed_by_the_share_of_the_other_class_below_it() -> None:
    score = np.array([[0.9, 0.5, 0.5, 0.1]])
    of_positive, of_negative = placements(score, np.array([True, True, False, False]))
    assert of_positive.tolist() == [[1.0, 0.75]]
    assert of_negative.tolist() == [[0.75, 1.0]]


def test_delong_has_no_p_for_unequal_aucs_without_variance() -> None:
    positive = np.array([True, True, False, False])
    perfect, constant = np.array([0.9, 0.8, 0.2, 0.1]), np.full(4, 0.5)
    found = paired_delong(perfect, constant, positive)
    assert (found.difference, found.se) == (0.5, 0.0)
    assert np.isnan(found.p)


def test_delong_has_neither_variance_nor_p_below_two_cases_of_a_class() -> None:
    found = paired_delong(
        np.array([0.9, 0.2, 0.1]), np.array([0.1, 0.2, 0.3]), np.array([True, False, False])
    )
    assert found.difference == 1.0
    assert np.isnan(found.se)
    assert np.isnan(found.p)
    assert np.isnan(delong(np.ones((1, 3)), np.ones(3, bool)).value).all()


# --- jackknife and weights --------------------------------------------------------------------


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_weighted_score_is_the_score_of_repeated_cases(name: str, n_classes: int) -> None:
    label, (proba,) = some_cases(1, n_classes=n_classes)
    count = np.random.default_rng(1).integers(0, 3, (len(label), 5))
    for weight in (np.ones_like(count), count):
        found = WEIGHTED[name](label, proba, weight.astype(float))
        for b in range(weight.shape[1]):
            again = np.repeat(np.arange(len(label)), weight[:, b])
            assert found[b] == exactly(PLAIN[name](label[again], proba[again]))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_jackknife_of_the_auc_is_that_of_leaving_each_case_out(n_classes: int) -> None:
    label, proba = some_cases(3, n=40, n_classes=n_classes)
    rest = [np.delete(np.arange(40), n) for n in range(40)]
    without = np.array(
        [[metrics.auc(label[keep], rows[keep]).value for keep in rest] for rows in proba]
    )
    centred = without - without.mean(1, keepdims=True)
    found = jackknife(label, proba, weighted_auc)
    assert found.covariance == exactly(39 / 40 * centred @ centred.T)
    assert found.value == exactly([metrics.auc(label, rows).value for rows in proba])
    assert leave_one_out(weighted_auc, label, proba)[1] == exactly(without)


def test_the_jackknife_of_accuracy_is_the_covariance_of_correctness() -> None:
    label, proba = some_cases(3)
    direct = mean_estimates(proba.argmax(2) == label)
    found = jackknife(label, proba, weighted_accuracy)
    assert found.value == exactly(direct.value)
    assert found.covariance == exactly(direct.covariance)
    assert direct.covariance == exactly(np.cov(proba.argmax(2) == label) / len(label))


def test_the_jackknife_of_two_classes_is_near_delong() -> None:
    label, proba = some_cases(2, n=400)
    ratio = jackknife(label, proba, weighted_auc).covariance / (
        delong(proba[:, :, 1], label == 1).covariance
    )
    assert ratio == pytest.approx(1, abs=0.02)


def test_the_jackknife_cannot_tell_with_one_case_of_a_class() -> None:
    label, proba = some_cases(2, n_classes=3)
    label = np.where(label == 2, 1, label)
    label[0] = 2
    found = jackknife(label, proba, weighted_auc)
    assert np.isfinite(found.value).all()
    assert np.isnan(found.covariance).all()


def test_a_mean_over_conditions_counts_a_case_only_where_it_is_scored() -> None:
    label, proba = some_cases(2)
    partial = proba.copy()
    partial[:, :20] = np.nan
    found = jackknife(label, np.stack([proba, partial]), weighted_accuracy)
    right = proba.argmax(2) == label
    assert found.value == exactly((right.mean(1) + right[:, 20:].mean(1)) / 2)
    half = jackknife(label, partial, weighted_accuracy)
    only = mean_estimates(right[:, 20:])
    assert half.covariance == pytest.approx(only.covariance, rel=0.02)


# --- Obuchowski-Rockette ----------------------------------------------------------------------


@pytest.mark.parametrize("design", ["crossed", "nested"])
def test_obuchowski_rockette_equals_the_reference(shared: Path, design: str) -> None:
    reference = golden(shared, "obuchowski_rockette")
    estimates = delong(np.array(reference["scores"]), np.array(reference["y"]) == 1)
    assert estimates.value == exactly(reference["auc"])
    assert estimates.covariance == exactly(np.array(reference["cov"]))
    expected = reference["result"][design]
    found = obuchowski_rockette(estimates, 3, paired_seeds=design == "crossed")
    assert found.difference == exactly(expected["diff"])
    assert found.ms_method == exactly(expected["MS_test"])
    assert found.ms_error == exactly(expected["MS_error"])
    covariances = (found.cov1, found.cov2, found.cov3)
    assert covariances == tuple(expected[key] and exactly(expected[key]) for key in CORRELATIONS)
    assert found.se**2 == exactly(2 / 3 * expected["denominator"])
    assert found.statistic == tail(expected["F"])
    assert found.df == tail(expected["df2"])
    assert found.p == tail(expected["p"])
    assert found.interval == tail(tuple(expected["ci95"]))


CORRELATIONS = ("cov1", "cov2", "cov3")


def test_without_chance_in_the_cases_the_test_is_the_paired_or_the_pooled_t() -> None:
    from scipy import stats

    a, b = np.array([0.81, 0.84, 0.83]), np.array([0.80, 0.80, 0.81])
    fixed = Estimates(np.concatenate([a, b]), np.zeros((6, 6)))
    for paired, oracle in ((True, stats.ttest_rel(a, b)), (False, stats.ttest_ind(a, b))):
        found = obuchowski_rockette(fixed, 3, paired_seeds=paired)
        assert found.p == tail(oracle.pvalue)
        assert found.df == pytest.approx(oracle.df)
        assert found.interval == tail(tuple(oracle.confidence_interval(0.95)))


def test_methods_with_different_numbers_of_repeats_are_compared_as_nested() -> None:
    from scipy import stats

    a, b = np.array([0.81, 0.84, 0.83, 0.85]), np.array([0.80, 0.81])
    fixed = Estimates(np.concatenate([a, b]), np.zeros((6, 6)))
    found = obuchowski_rockette(fixed, 4, paired_seeds=False)
    assert found.p == tail(stats.ttest_ind(a, b).pvalue)
    with pytest.raises(ValueError, match="got 4 and 2"):
        obuchowski_rockette(fixed, 4, paired_seeds=True)


def test_without_chance_in_the_trainings_the_test_is_delong() -> None:
    rng = np.random.default_rng(3)
    positive = np.arange(50) < 20
    a, b = positive + rng.normal(size=(2, 50))
    single = paired_delong(a, b, positive)
    found = obuchowski_rockette(delong(np.stack([a, a, b, b]), positive), 2, paired_seeds=True)
    assert found.p == tail(single.p)
    assert found.interval == tail(single.interval)
    assert np.isinf(found.df)


@pytest.mark.parametrize("paired", [True, False])
def test_a_method_does_not_differ_from_itself(paired: bool) -> None:
    label, proba = some_cases(3)
    for metric in (weighted_auc, weighted_accuracy, weighted_macro_f1):
        found = compare_methods(label, proba, proba, metric=metric, paired_seeds=paired)
        assert found.difference == 0
        assert found.p == 1


def test_one_repeat_cannot_tell_about_training_again() -> None:
    label, proba = some_cases(2)
    found = compare_methods(label, proba[:1], proba[1:], paired_seeds=True)
    assert np.isfinite(found.difference)
    assert np.isnan([found.se, found.p, *found.interval]).all()


def test_compare_methods_takes_the_covariance_that_suits_the_metric() -> None:
    label, proba = some_cases(6)
    of_auc, of_accuracy = (
        delong(proba[:, :, 1], label == 1),
        mean_estimates(proba.argmax(2) == label),
    )
    for metric, estimates in ((weighted_auc, of_auc), (weighted_accuracy, of_accuracy)):
        expected = obuchowski_rockette(estimates, 3, paired_seeds=True)
        assert expected == compare_methods(
            label, proba[:3], proba[3:], metric=metric, paired_seeds=True
        )


def test_the_macro_auc_and_a_mean_over_conditions_are_compared_by_the_jackknife() -> None:
    label, proba = some_cases(6, n_classes=3)
    macro = compare_methods(label, proba[:3], proba[3:], paired_seeds=True)
    estimates = jackknife(label, proba, weighted_auc)
    assert macro == obuchowski_rockette(estimates, 3, paired_seeds=True)
    twice = np.stack([proba, proba])
    average = compare_methods(label, twice[:, :3], twice[:, 3:], paired_seeds=True)
    assert average.p == tail(macro.p)


def test_cases_that_only_one_method_has_are_refused() -> None:
    label, proba = some_cases(2)
    fewer = proba.copy()
    fewer[:, 0] = np.nan
    with pytest.raises(ValueError, match="same cases"):
        compare_methods(label, proba, fewer, paired_seeds=True)
    found = compare_methods(label, fewer, fewer + 0.0, paired_seeds=True)
    assert found.p == 1


# --- bootstrap --------------------------------------------------------------------------------


def test_a_resample_keeps_the_size_of_each_class() -> None:
    label = np.array([0] * 7 + [1] * 3 + [2])
    count = case_counts(label, 50, np.random.default_rng(0))
    for k, n in enumerate((7, 3, 1)):
        assert (count[label == k].sum(0) == n).all()
    assert count.mean() == 1
    assert count.max() > 1


def test_all_models_and_conditions_see_the_same_resamples() -> None:
    label, proba = some_cases(2)
    found = resample_cases(label, np.stack([proba, proba[::-1]]), n_resamples=30, seed=4)
    assert (found.resampled[0] == found.resampled[1, ::-1]).all()
    alone = resample_cases(label, proba[:1], n_resamples=30, seed=4)
    assert (alone.resampled == found[0, :1].resampled).all()
    assert found.mean_over_conditions().value[0] == exactly(found.value[0].mean())
    assert (alone.resampled != resample_cases(label, proba[:1], n_resamples=30).resampled).any()


def test_the_bootstrap_of_cases_has_the_spread_of_delong() -> None:
    label, proba = some_cases(1, n=300)
    found = resample_cases(label, proba, n_resamples=2000)
    se = delong(proba[:, :, 1], label == 1).covariance[0, 0] ** 0.5
    assert found.resampled.std() == pytest.approx(se, rel=0.08)


def test_three_repeats_give_the_bootstrap_ten_means(shared: Path) -> None:
    reference = golden(shared, "resampling")["cases"][1]
    d = np.array(reference["d"])
    every = {round(float(np.mean(each)), 9) for each in product(d, repeat=3)}
    assert len(every) == reference["n_distinct"]
    first = CaseResamples(d, np.repeat(d[:, None], 5000, axis=1))
    second = CaseResamples(0 * d, 0 * first.resampled)
    found = two_level_bootstrap(first, second, paired_seeds=True, alpha=1e-9)
    assert found.interval == pytest.approx((reference["min"], reference["max"]))
    assert found.p == exactly(2 / 5001)
    assert found.p_superior == 1


def test_paired_repeats_are_drawn_together_and_others_are_not() -> None:
    value = np.array([0.7, 0.8, 0.9])
    method = CaseResamples(value, np.repeat(value[:, None], 400, axis=1))
    paired = two_level_bootstrap(method, method, paired_seeds=True)
    assert (paired.interval, paired.p, paired.p_superior) == ((0, 0), 1, 0.5)
    nested = two_level_bootstrap(method, method, paired_seeds=False)
    assert nested.interval[0] < 0 < nested.interval[1]
    assert nested.p > 0.5


def test_the_bootstrap_has_no_p_where_a_resample_has_no_score() -> None:
    undefined = CaseResamples(np.zeros(2), np.full((2, 50), np.nan))
    found = two_level_bootstrap(undefined, undefined, paired_seeds=True)
    assert np.isnan([found.p, found.p_superior]).all()


def test_methods_on_different_resamples_are_refused() -> None:
    one, other = (CaseResamples(np.zeros(2), np.zeros((2, n))) for n in (50, 60))
    with pytest.raises(ValueError, match="same resamples"):
        two_level_bootstrap(one, other, paired_seeds=True)


# --- signed ranks, flips, folds, McNemar ------------------------------------------------------


def test_signed_rank_equals_full_enumeration(shared: Path) -> None:
    for case in golden(shared, "wilcoxon")["cases"]:
        found = signed_rank(
            np.array(case["d"]), zeros=case["zero_method"], alternative=case["alternative"]
        )
        expected = case["enumeration"]
        assert found.exact
        assert found.p == exactly(expected["p"]), case["name"]
        assert (found.w_plus, found.w_minus) == (expected["w_plus"], expected["w_minus"])
        assert found.statistic == expected["statistic"]
        assert found.n_nonzero == expected["n_nonzero"]
        assert found.rank_biserial == exactly(case["rank_biserial"])


def test_the_normal_approximation_equals_scipy(shared: Path) -> None:
    for case in golden(shared, "wilcoxon")["cases"]:
        if case["scipy_asymptotic"]["pvalue"] is None:
            continue
        found = signed_rank(
            np.array(case["d"]),
            zeros=case["zero_method"],
            alternative=case["alternative"],
            exact=False,
        )
        assert not found.exact
        assert found.p == tail(case["scipy_asymptotic"]["pvalue"]), case["name"]


def test_differences_that_only_rounding_tells_apart_are_ties() -> None:
    a, b = np.array([0.3, 0.2, 0.5, 0.9]), np.array([0.2, 0.1, 0.6, 0.9])
    found = signed_rank(a - b)
    assert (found.w_plus, found.w_minus, found.n_nonzero) == (4, 2, 3)


def test_many_pairs_are_tested_by_the_approximation() -> None:
    difference = np.random.default_rng(0).normal(0.1, 1, 501)
    found, exact = signed_rank(difference), signed_rank(difference, exact=True)
    assert not found.exact
    assert found.p == pytest.approx(exact.p, rel=0.01)


def test_all_sign_flips_equal_the_reference(shared: Path) -> None:
    case = golden(shared, "resampling")["cases"][0]
    found = sign_flip(np.array(case["d"]))
    assert (found.exact, found.n_flips) == (True, case["total"])
    assert found.p == exactly(case["count"] / case["total"])
    assert found.p == exactly(case["scipy_permutation_test"])


def test_drawn_sign_flips_are_near_all_of_them() -> None:
    difference = np.random.default_rng(1).normal(0.4, 1, 14)
    every, drawn = sign_flip(difference), sign_flip(difference, n_exact=10, seed=2)
    assert (every.exact, drawn.exact) == (True, False)
    assert drawn.p == pytest.approx(every.p, abs=0.02)
    assert sign_flip(np.ones(30), n_resamples=999).p == exactly(1 / 1000)


def test_the_corrected_t_equals_the_reference(shared: Path) -> None:
    for case in golden(shared, "corrected_resampled_t")["cases"]:
        found = corrected_resampled_t(
            np.array(case["d"]), n_train=case["n_train"], n_test=case["n_test"]
        )
        expected = case["result"]
        assert found.mean == exactly(expected["mean"])
        assert found.t == tail(expected["t"])
        assert found.df == expected["df"]
        assert found.p == tail(expected["p_two_sided"])
        assert found.interval == tail(tuple(expected["ci95"]))


def test_the_corrected_t_has_no_p_for_a_constant_difference() -> None:
    constant, none = (
        corrected_resampled_t(np.full(3, value), n_train=80, n_test=20) for value in (0.1, 0.0)
    )
    assert np.isnan([constant.t, constant.p]).all()
    assert constant.interval == exactly((0.1, 0.1))
    assert none.p == 1
    assert np.isnan(corrected_resampled_t(np.ones(1), n_train=80, n_test=20).p)


def test_mcnemar_equals_the_reference(shared: Path) -> None:
    for case in golden(shared, "mcnemar")["cases"]:
        b, c = case["b"], case["c"]
        assert mcnemar(b, c, method="exact").p == exactly(case["exact"]["pvalue"])
        assert mcnemar(b, c).p == exactly(case["mid_p"])
        if not b + c:
            continue  # the reference's chi squared is 0 / 0, and statsmodels makes p = 0 of it
        for ours, theirs in (("chi2", "chi2"), ("chi2-corrected", "chi2_corrected")):
            found = mcnemar(b, c, method=ours)  # type: ignore[arg-type]
            assert found.statistic == exactly(case[theirs]["statistic"])
            assert found.p == tail(case[theirs]["pvalue"])


@pytest.mark.parametrize("method", ["exact", "mid-p", "chi2", "chi2-corrected"])
def test_models_that_never_disagree_do_not_differ(method: str) -> None:
    assert mcnemar(0, 0, method=method).p == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("numbers", [[], [[1.0]], [np.nan]])
def test_tests_of_pairs_refuse_what_is_no_list_of_differences(numbers: list) -> None:
    for test in (signed_rank, sign_flip):
        with pytest.raises(ValueError, match="finite"):
            test(np.array(numbers))


def test_superiority_counts_pairs_of_runs_and_half_of_the_ties() -> None:
    a, b = np.array([0.3, 0.6]), np.array([0.1, 0.6])
    assert probability_of_superiority(a, b) == (2 + 0.5) / 4
    assert probability_of_superiority(a, b, paired=True) == (1 + 0.5) / 2


# --- families ---------------------------------------------------------------------------------


def test_corrections_equal_the_reference(shared: Path) -> None:
    for case in golden(shared, "multiplicity")["cases"]:
        for theirs, ours in CORRECTIONS.items():
            found = adjust(np.array(case["p"]), ours)
            assert found == exactly(case[theirs]["adjusted"]), (case["name"], ours)
            rejected = found <= case["alpha"] + 1e-12
            assert rejected.tolist() == case[theirs]["reject"]


@pytest.mark.parametrize(("theirs", "ours"), CORRECTIONS.items())
def test_corrections_agree_with_statsmodels(theirs: str, ours: Correction) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 40):
        p = (rng.uniform(0, 1, n) ** 3).round(2).clip(1e-4)
        assert adjust(p, ours) == exactly(multitest.multipletests(p, method=theirs)[1])


def test_a_comparison_without_a_result_still_counts() -> None:
    found = adjust(np.array([0.01, np.nan, 0.02]))
    assert found == exactly([0.03, np.nan, 0.04])


def test_no_correction_changes_nothing_and_unknown_ones_are_refused() -> None:
    assert adjust(np.array([0.04, 0.2]), "none").tolist() == [0.04, 0.2]
    with pytest.raises(ValueError, match="got 'tukey'"):
        adjust(np.array([0.1]), "tukey")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        adjust(np.array([1.1]))


def test_the_floor_of_p_equals_the_reference(shared: Path) -> None:
    for case in golden(shared, "min_p")["cases"]:
        n, floor = case["n"], case["two_sided_exact"]
        for test in ("signed-rank", "mcnemar-exact"):
            assert smallest_p(test, n) == exactly(floor)
        assert smallest_p("sign-flip", n) == exactly(floor if n <= 16 else max(floor, 1 / 10_001))
        rising, tied = np.arange(1.0, n + 1), np.ones(n)
        assert signed_rank(rising).p == exactly(floor)
        assert signed_rank(rising, alternative="greater").p == exactly(case["one_sided_exact"])
        assert signed_rank(rising, exact=False).p == tail(case["asymptotic_two_sided"])
        assert signed_rank(tied, exact=False).p == tail(case["asymptotic_all_tied_two_sided"])


def test_each_test_reaches_its_floor_and_no_less() -> None:
    assert mcnemar(6, 0, method="exact").p == smallest_p("mcnemar-exact", 6)
    assert mcnemar(6, 0).p == smallest_p("mcnemar-mid-p", 6)
    assert sign_flip(np.ones(6)).p == smallest_p("sign-flip", 6)
    method = CaseResamples(np.ones(3), np.ones((3, 500)))
    other = CaseResamples(np.zeros(3), np.zeros((3, 500)))
    found = two_level_bootstrap(method, other, paired_seeds=True).p
    assert found == smallest_p("bootstrap", 3, n_resamples=500)


@pytest.mark.parametrize(("n_comparisons", "needed"), [(1, 6), (5, 8), (35, 11)])
def test_a_family_needs_more_pairs(n_comparisons: int, needed: int) -> None:
    three = attainability("signed-rank", 3, n_comparisons=n_comparisons)
    assert not three.reachable
    assert three.n_needed == needed
    assert f"{needed} are needed" in three.reason
    enough = attainability("signed-rank", needed, n_comparisons=n_comparisons)
    assert enough.reachable
    assert enough.reason == ""


@pytest.mark.parametrize("test", ["obuchowski-rockette", "corrected-t", "delong"])
def test_continuous_tests_can_reach_any_level_from_two_units_on(test: Test) -> None:
    assert attainability(test, 2, n_comparisons=1000).reachable
    assert not attainability(test, 1).reachable


def test_the_bootstrap_reaches_what_its_resamples_allow() -> None:
    assert attainability("bootstrap", 3, n_comparisons=35).reachable
    few = attainability("bootstrap", 3, n_comparisons=35, n_resamples=1000)
    assert not few.reachable
    assert "no number of them would do" in few.reason


def test_the_false_discovery_rate_does_not_multiply_the_floor() -> None:
    assert attainability("signed-rank", 6, n_comparisons=35, correction="bh").reachable


# --- ranks over datasets ----------------------------------------------------------------------


def test_friedman_and_its_kin_equal_the_reference(shared: Path) -> None:
    for case in golden(shared, "friedman_nemenyi")["cases"]:
        score, names = np.array(case["scores_methods_by_blocks"]), case["methods"]
        found = friedman(score)
        assert found.average_rank == exactly(tuple(case["average_ranks"][name] for name in names))
        assert found.chi2 == tail(case["friedman_chi2"])
        assert found.p == tail(case["friedman_p"])
        assert found.iman_davenport_f == tail(case["iman_davenport_F"])
        assert found.iman_davenport_p == tail(case["iman_davenport_p"])
        assert found.kendall_w == tail(case["kendall_w"])
        limit = nemenyi_difference(*score.shape)
        assert limit == pytest.approx(case["nemenyi_cd05"], rel=1e-6)
        assert nemenyi(score) == pytest.approx(np.array(case["nemenyi_p"]), abs=1e-6)
        assert conover(score) == tail(np.array(case["conover_p"]))
        pairs = pairwise_signed_rank(score)
        for table, key in ((pairs.p, ""), (pairs.adjusted, "_holm")):
            for pair, expected in case["pairwise_wilcoxon_exact" + key].items():
                i, j = (names.index(name) for name in pair.split("|"))
                assert table[i, j] == table[j, i] == exactly(expected)


def test_friedman_agrees_with_scipy_and_posthocs() -> None:
    from scipy import stats

    posthocs = pytest.importorskip("scikit_posthocs")
    score = np.random.default_rng(2).normal(size=(5, 9)).round(1)
    oracle = stats.friedmanchisquare(*score)
    found = friedman(score)
    assert (found.chi2, found.p) == tail((oracle.statistic, oracle.pvalue))
    theirs = posthocs.posthoc_nemenyi_friedman(score.T).to_numpy()
    assert nemenyi(score) == pytest.approx(theirs, abs=1e-6)
    theirs = posthocs.posthoc_conover_friedman(score.T).to_numpy()
    assert conover(score) == tail(theirs)


def test_losses_are_ranked_the_other_way() -> None:
    score = np.array([[3.0, 4.0], [1.0, 2.0], [1.0, 5.0]])
    assert friedman(score).average_rank == (1.5, 2.75, 1.75)
    assert friedman(score, higher_is_better=False).average_rank == (2.5, 1.25, 2.25)


def test_methods_that_always_tie_have_no_friedman_test() -> None:
    assert np.isnan(friedman(np.ones((3, 4))).p)


def test_blocks_that_agree_in_full_have_an_infinite_f() -> None:
    found = friedman(np.arange(3.0)[:, None] + np.zeros((3, 4)))
    assert (found.kendall_w, found.iman_davenport_f, found.iman_davenport_p) == (1, np.inf, 0)


def test_a_diagram_is_refused_below_six_datasets() -> None:
    with pytest.raises(BadRequest, match="at least 6 datasets, got 5"):
        critical_difference(np.random.default_rng(0).normal(size=(3, 5)))


def test_a_diagram_joins_the_methods_that_do_not_differ() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=10)
    near = base + rng.normal(0, 0.01, (2, 10))
    score = np.vstack([base - 5, near, base + 5])  # 3 best, 1 and 2 alike, 0 worst
    found = critical_difference(score)
    assert [set(bar) for bar in found.cliques] == [{1, 2}]
    assert np.argsort(found.average_rank)[[0, 3]].tolist() == [3, 0]


def test_bars_may_overlap_but_none_lies_within_another() -> None:
    from bench.statistics.ranks import _bars

    equal = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]], bool)
    assert _bars(equal, np.array([2, 0, 1, 3])) == ((2, 0), (0, 1, 3))


def test_the_upper_limit_of_a_share_is_that_of_the_exact_binomial() -> None:
    from scipy import stats

    oracle = stats.binomtest(7, 100, alternative="less").proportion_ci(0.95).high
    assert clopper_pearson_upper(7, 100) == tail(oracle)
    assert clopper_pearson_upper(5, 5) == 1


def test_importing_the_tests_costs_no_scipy() -> None:
    import subprocess
    import sys

    code = "import sys, bench.statistics; sys.exit(any(m.startswith('scipy') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
