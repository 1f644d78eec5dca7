from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.metrics import (
    accuracy,
    auc,
    average_over_conditions,
    balanced_accuracy,
    brier,
    ece,
    froc,
    macro_f1,
    nll,
    rank_auc,
    sensitivity_at_specificity,
)

GOLDEN = {
    "acc": accuracy,
    "balanced_acc_sklearn": balanced_accuracy,
    "macro_f1_labels_given": macro_f1,
    "ece15_top_label": ece,
    "brier_multiclass_sum": brier,
    "nll": nll,
    "macro_ovr_over_defined_classes": lambda label, proba: auc(label, proba).value,
}


def binary(score: list[float]) -> np.ndarray:
    """Return (N, 2) probabilities with these scores for class 1."""
    positive = np.array(score)
    return np.stack([1 - positive, positive], axis=1)


def random_case(n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    proba = rng.dirichlet(np.ones(n_classes), n).round(2)  # rounding makes ties
    return rng.integers(0, n_classes, n), proba


def reference_cases(shared: Path) -> list[dict]:
    path = shared / "golden" / "statistics" / "metrics.json"
    return json.loads(path.read_text())["cases"]


def close(expected: float | None) -> object:
    return pytest.approx(np.nan if expected is None else expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", GOLDEN)
def test_scores_equal_the_reference_numbers(shared: Path, name: str) -> None:
    for case in reference_cases(shared):
        score = GOLDEN[name](np.array(case["y"]), np.array(case["prob"]))
        assert score == close(case[name]), case["name"]


def test_auc_of_each_class_equals_the_reference_and_the_undefined_are_named(shared: Path) -> None:
    for case in reference_cases(shared):
        result = auc(np.array(case["y"]), np.array(case["prob"]))
        expected = case["per_class_ovr_auc"]
        assert [*result.per_class] == [close(value) for value in expected]
        assert result.undefined == tuple(k for k, value in enumerate(expected) if value is None)
        assert result.flagged == (None in expected)


def test_sensitivity_at_specificity_equals_the_reference(shared: Path) -> None:
    golden = json.loads((shared / "golden/statistics/sens_at_spec.json").read_text())
    label, proba = np.array(golden["y"]), binary(golden["s"])
    for target, expected in golden["result"].items():
        found = sensitivity_at_specificity(label, proba, specificity=float(target))
        assert found == close(expected), target


def test_ties_go_to_the_lowest_class() -> None:
    assert accuracy(np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]])) == 0.5


def test_auc_counts_a_tie_as_half() -> None:
    score = np.array([0.1, 0.4, 0.4, 0.9])
    positive = np.array([False, False, True, True])
    assert rank_auc(score, positive) == (3 + 0.5) / 4


def test_auc_is_one_for_a_perfect_and_zero_for_a_reversed_ranking() -> None:
    label = np.array([0, 0, 1])
    assert auc(label, binary([0.1, 0.2, 0.3])).value == 1.0
    assert auc(label, binary([0.9, 0.8, 0.3])).value == 0.0


@pytest.mark.parametrize("n_classes", [2, 4])
def test_scores_agree_with_scikit_learn(n_classes: int) -> None:
    from sklearn import metrics as sk

    label, proba = random_case(200, n_classes)
    columns = [1] if n_classes == 2 else range(n_classes)
    expected = np.mean([sk.roc_auc_score(label == k, proba[:, k]) for k in columns])
    predicted = proba.argmax(1)
    assert auc(label, proba).value == pytest.approx(expected, abs=1e-12)
    assert accuracy(label, proba) == pytest.approx(sk.accuracy_score(label, predicted))
    expected = sk.balanced_accuracy_score(label, predicted)
    assert balanced_accuracy(label, proba) == pytest.approx(expected)
    expected = sk.f1_score(label, predicted, labels=range(n_classes), average="macro")
    assert macro_f1(label, proba) == pytest.approx(expected)


def test_an_absent_class_leaves_the_macro_mean_and_is_flagged() -> None:
    label = np.array([0, 0, 1])
    proba = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1]])
    result = auc(label, proba)
    assert result.undefined == (2,)
    assert result.per_class[:2] == (0.5, 0.5)
    assert result.value == 0.5


def test_bins_of_the_calibration_error_hold_their_upper_edge() -> None:
    label = np.array([0, 0, 0])
    proba = binary([0.4, 0.4, 0.35])  # confidence 0.6 = 9/15 closes the ninth bin
    assert ece(label, proba) == pytest.approx((0.8 + 0.35) / 3)
    mixed = np.array([0, 1, 0])
    together = binary([0.4, 0.45, 0.35])  # 0.6 and 0.55 share the bin (8/15, 9/15]
    assert ece(mixed, together) == pytest.approx((abs(1 - 0.6 - 0.55) + 0.35) / 3)


def test_a_wrong_certainty_costs_a_finite_loss() -> None:
    assert nll(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(52 * np.log(2))


def test_perfect_certainty_has_no_loss() -> None:
    label, proba = np.array([0, 1]), np.eye(2)
    assert brier(label, proba) == nll(label, proba) == ece(label, proba) == 0.0


@pytest.mark.parametrize("score", [accuracy, balanced_accuracy, macro_f1, ece, brier, nll])
def test_no_case_gives_nan(score: Callable) -> None:
    assert np.isnan(score(np.zeros(0, int), np.zeros((0, 3))))


def test_auc_without_a_case_is_undefined_for_all_classes() -> None:
    result = auc(np.zeros(0, int), np.zeros((0, 3)))
    assert np.isnan(result.value)
    assert result.undefined == (0, 1, 2)


def test_sensitivity_is_nan_where_it_has_no_meaning() -> None:
    assert np.isnan(sensitivity_at_specificity(*random_case(20, 3), specificity=0.9))
    assert np.isnan(
        sensitivity_at_specificity(np.array([1, 1]), binary([0.2, 0.9]), specificity=0.9)
    )


def test_sensitivity_is_zero_when_a_negative_case_scores_highest() -> None:
    found = sensitivity_at_specificity(np.array([0, 1]), binary([0.9, 0.2]), specificity=1.0)
    assert found == 0.0


@pytest.mark.parametrize(
    ("label", "proba", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "label must be"),
        ([2], [[0.5, 0.5]], "label must lie in"),
        ([-1], [[0.5, 0.5]], "label must lie in"),
        ([0], [[np.nan, 0.5]], "proba must be finite"),
        ([0.5], [[0.5, 0.5]], "label must be integers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(label: list, proba: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auc(np.array(label), np.array(proba))


def test_a_specificity_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match="specificity must lie"):
        sensitivity_at_specificity(np.array([0, 1]), binary([0.1, 0.9]), specificity=95)


def detections(images: list[dict]) -> tuple[list, list, list]:
    """Sort the reference's images into lesions, boxes and scores."""
    return (
        [np.array(image["gt"]) for image in images],
        [np.array([box for box, _ in image["det"]]) for image in images],
        [np.array([score for _, score in image["det"]]) for image in images],
    )


def test_froc_equals_the_reference(shared: Path) -> None:
    for case in json.loads((shared / "golden/statistics/froc.json").read_text())["cases"]:
        curve, expected = froc(*detections(case["images"])), case["result"]
        assert (curve.n_images, curve.n_lesions) == (expected["n_images"], expected["n_gt"])
        assert curve.threshold.tolist() == [point["threshold"] for point in expected["curve"]]
        assert curve.fppi.tolist() == [point["fppi"] for point in expected["curve"]]
        assert curve.sensitivity.tolist() == [point["sens"] for point in expected["curve"]]
        for rate, value in expected["sens_at_fppi_step"].items():
            assert curve.at(float(rate)) == close(value), rate
        assert curve.mean() == close(expected["mean_over_0p5_1_2"])


def test_froc_counts_a_lesion_once_and_a_second_hit_as_no_false_positive() -> None:
    lesion = np.array([[0, 0, 10, 10]])
    twice = np.array([[0, 0, 10, 10], [0, 0, 10, 9]])
    curve = froc([lesion], [twice], [np.array([0.9, 0.8])])
    assert curve.sensitivity.tolist() == [1.0, 1.0]
    assert curve.fppi.tolist() == [0.0, 0.0]


def test_froc_counts_half_an_overlap_as_a_hit_and_less_as_a_miss() -> None:
    lesion, half, less = np.array([[0, 0, 10, 10]]), [[0, 0, 10, 5]], [[0, 0, 10, 4.9]]
    assert froc([lesion], [np.array(half)], [np.ones(1)]).at(0) == 1.0
    assert froc([lesion], [np.array(less)], [np.ones(1)]).at(1) == 0.0


def test_froc_without_lesions_has_no_sensitivity() -> None:
    curve = froc([np.empty((0, 4))], [np.array([[0, 0, 1, 1]])], [np.array([0.5])])
    assert np.isnan(curve.at(1))
    assert curve.fppi.tolist() == [1.0]


def test_average_has_the_spread_of_repeats_and_that_of_the_papers(shared: Path) -> None:
    golden = json.loads((shared / "golden/statistics/avg.json").read_text())
    average = average_over_conditions(np.array(golden["subset_by_seed"]))
    assert average.mean == close(golden["avg_mean"])
    assert average.sd_over_repeats == close(golden["avg_sd_over_seeds_ddof1"])
    assert average.sd_between_conditions == close(golden["avg_sd_between_subsets_ddof0"])
    printed = average_over_conditions(np.array(golden["paper_row"]["values"])[:, None])
    assert f"{printed.mean:.2f} {printed.sd_between_conditions:.2f}" == "80.57 4.00"
    assert np.isnan(printed.sd_over_repeats)
