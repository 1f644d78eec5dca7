"""Stars of tables: what is compared, which test, which family, and when nothing can be told."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import BadRequest, UnknownName
from bench.layout import Layout, LayoutColumn
from bench.report import ReportOptions
from bench.reporting.printing import tables_of
from bench.scores.contest import Contest, Entrant, choose_test
from bench.scores.metrics import METRICS
from bench.scores.outcomes import outcome_of
from bench.scores.results import load_results
from bench.scores.rows import layouts_of, rows_of
from bench.scores.scoring import score_grid
from bench.scores.significance import Claim
from bench.statistics import compare_methods, mcnemar, paired_delong, weighted_accuracy
from bench.store import StudyFolder
from bench.tables import Cell, Row, Table, to_csv, to_latex, to_markdown
from tests.command_line import call
from tests.synthetic_runs import (
    ACC_0_AUC_0,
    ACC_50_AUC_50,
    ACC_50_AUC_75,
    ACC_100_AUC_100,
    binary,
    failed,
    finished,
)

N_CASES = 80
LABEL = [0, 1] * (N_CASES // 2)
PLACE = ("complete", "0")


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def drawn(separation: float, *keys: int, conditions: Sequence[str] = ("0", "1")) -> Any:
    """Draw probabilities: cases are hard or easy for all methods, each training has its noise."""
    scores = {}
    for c, name in enumerate(conditions):
        hard = np.random.default_rng(c).normal(size=N_CASES)
        noise = np.random.default_rng([c, *keys]).normal(size=N_CASES)
        logit = separation * (np.array(LABEL) - 0.5) + hard + 0.3 * noise
        scores[name] = (1 / (1 + np.exp(-logit))).tolist()
    return binary(scores, LABEL)


def trained(study: StudyFolder, method: str, separation: float, **changes: Any) -> None:
    """Store three seeds of a method, or those of `seeds`."""
    conditions = changes.pop("conditions", ("0", "1"))
    for seed in changes.pop("seeds", range(3)):
        keys = (seed, *method.encode())
        predictions = drawn(separation, *keys, conditions=conditions)
        finished(study, predictions, method=method, seed=seed, **changes)


def in_folds(study: StudyFolder, method: str, scores: Sequence[Any], **changes: Any) -> None:
    changes = {"n_folds": len(scores)} | changes
    for fold, p in enumerate(scores):
        predictions = binary({"0": p}, first_case=4 * fold)
        finished(study, predictions, method=method, fold=fold, **changes)


def build(study: StudyFolder, *, metrics: tuple[str, ...] = ("AUC",), **claim: Any) -> Table:
    results = load_results(study)
    options = ReportOptions(metrics=metrics, claim=Claim(**claim).checked())
    (table,) = tables_of(results, layouts_of(results), options)
    return table


def row(table: Table, label: str) -> Row:
    return next(each for each in table.rows if each.label == label)


def cell(table: Table, label: str, key: str) -> Cell:
    c = next(i for i, each in enumerate(table.columns) if each.key == key)
    return row(table, label).cells[c]


def notes_of(table: Table, each: Row) -> str:
    return " ".join(table.footnotes.get(mark, "") for mark in each.cells[0].marks)


def caption(table: Table) -> str:
    return " ".join(table.caption)


def entrants(study: StudyFolder, metric: str = "ACC") -> list[Entrant]:
    rows = rows_of(load_results(study))
    return [Entrant(each, score_grid(each.done, [PLACE], [metric])) for each in rows]


# --- marks ------------------------------------------------------------------------------------


def test_a_row_that_the_reference_beats_has_a_star_and_a_better_one_a_circle(
    study: StudyFolder,
) -> None:
    for method, separation in (("a", 2.0), ("b", 0.2), ("c", 6.0), ("d", 2.0)):
        trained(study, method, separation)
    table = build(study)
    marks = {label: cell(table, label, "AVG").marks for label in "abcd"}
    assert marks == {"a": (), "b": ("*",), "c": ("°",), "d": ()}
    assert "A star: the reference is significantly better than this row; a circle" in caption(table)


def test_markdown_and_latex_print_the_marks_readably(study: StudyFolder) -> None:
    for method, separation in (("a", 2.0), ("b", 0.2), ("c", 6.0)):
        trained(study, method, separation)
    table = build(study)
    average = cell(table, "b", "AVG")
    assert f"{average.number} ± {average.deviation}* |" in to_markdown(table)
    latex = to_latex(table)
    assert r"\providecommand{\sig}[1]{\rlap{\textsuperscript{#1}}}" in latex
    assert r"\sig{*}" in latex
    assert r"\sig{$\circ$}" in latex


def test_lower_is_better_for_losses(study: StudyFolder) -> None:
    trained(study, "a", 2.0)
    trained(study, "b", -2.0)
    assert cell(build(study, metrics=("Brier",)), "b", "AVG").marks == ("*",)
    assert cell(build(study, metrics=("Brier",), reference="b"), "a", "AVG").marks == ("°",)


def test_no_test_prints_no_mark_and_no_sentence(study: StudyFolder) -> None:
    trained(study, "a", 2.0)
    trained(study, "b", 0.2)
    table = build(study, test="none")
    assert cell(table, "b", "AVG").marks == ()
    assert "Test:" not in caption(table)


# --- the family -------------------------------------------------------------------------------


def test_the_caption_says_test_unit_reference_family_and_alpha(study: StudyFolder) -> None:
    for method in "abc":
        trained(study, method, 1.0)
    assert (
        "Test: Obuchowski-Rockette, two-sided, unit: 3 seeds and cases; the same seeds for all "
        "rows; reference a; Holm over 6 comparisons (2 rows x 3 columns) of a metric; alpha 0.05."
    ) in caption(build(study))
    said = caption(build(study, correction="bh", alpha=0.1, reference="b"))
    assert "reference b; Benjamini-Hochberg over 6 comparisons" in said
    assert "alpha 0.1." in said


def test_holm_is_over_rows_and_columns_with_avg(study: StudyFolder) -> None:
    for method, separation in (("a", 2.0), ("b", 1.2), ("c", 0.9)):
        trained(study, method, separation)
    cells = [cell(build(study), label, key) for label in "bc" for key in ("0", "1", "AVG")]
    order = sorted(cells, key=lambda each: each.p or 0.0)
    largest = 0.0
    for k, each in enumerate(order):  # Holm 1979: the k-th smallest times what is left
        assert each.p is not None
        largest = max(largest, min(1.0, (6 - k) * each.p))
        assert each.p_adjusted == pytest.approx(largest)


def test_failed_rows_and_missing_cells_are_no_part_of_the_family(study: StudyFolder) -> None:
    trained(study, "a", 2.0)
    trained(study, "b", 1.0, conditions=("0",))
    for seed in range(3):
        failed(study, "out of memory", method="c", seed=seed)
    table = build(study)
    assert {each.text for each in row(table, "c").cells} == {"failed"}
    assert cell(table, "b", "1").p is None
    assert cell(table, "b", "0").p_adjusted == cell(table, "b", "0").p
    assert "Holm over 1 comparison of a metric" in caption(table)


def test_raw_and_adjusted_p_are_columns_of_the_csv(study: StudyFolder) -> None:
    trained(study, "a", 2.0)
    trained(study, "b", 1.0)
    lines = list(csv.DictReader(io.StringIO(to_csv(build(study)))))
    of_b = [line for line in lines if line["row"] == "b"]
    assert all(0 <= float(line["p"]) <= float(line["p_adjusted"]) for line in of_b)
    assert {line["p"] for line in lines if line["row"] == "a"} == {""}


def test_thirty_rows_are_one_family(study: StudyFolder) -> None:
    for m in range(30):
        trained(study, f"m{m:02}", 1.0, conditions=("0",), seeds=range(2))
    table = build(study)
    assert "Holm over 29 comparisons of a metric" in caption(table)
    told = [each.cells[0].p is not None or "n.t." in notes_of(table, each) for each in table.rows]
    assert told == [False] + [True] * 29


def test_one_row_or_one_repeat_is_not_tested(study: StudyFolder) -> None:
    trained(study, "a", 2.0)
    assert "Test" not in caption(build(study))
    trained(study, "b", 1.0, dataset="other", seeds=[0])
    trained(study, "c", 1.0, dataset="other", seeds=[0])
    results = load_results(study)
    tables = tables_of(results, layouts_of(results), ReportOptions())
    said = {table.title: caption(table) for table in tables}
    assert not any("n.t." in each or "Test:" in each for each in said.values())
    asked = ReportOptions(metrics=("AUC",), claim=Claim("obuchowski-rockette"))
    (table,) = [
        each for each in tables_of(results, layouts_of(results), asked) if len(each.rows) > 1
    ]
    assert "with 1 seed gives a corrected p of at least 1; 2 are needed" in caption(table)


# --- the test by design -----------------------------------------------------------------------


def test_a_fixed_split_is_tested_on_paired_seeds_and_cases(study: StudyFolder) -> None:
    trained(study, "a", 2.0, conditions=("0",))
    trained(study, "b", 1.0, conditions=("0",))
    first, second = entrants(study)
    found = outcome_of(Contest(first, second, METRICS["ACC"], (PLACE,)), "obuchowski-rockette")
    proba = [
        np.stack([run.parts["0"][2] for run in entrant.row.done]) for entrant in (first, second)
    ]
    expected = compare_methods(np.array(LABEL), *proba, metric=weighted_accuracy, paired_seeds=True)
    assert (found.p, found.interval) == (expected.p, expected.interval)
    assert found.difference == pytest.approx(expected.difference)
    assert found.p_superior == 1.0


def test_folds_take_the_corrected_resampled_t(study: StudyFolder) -> None:
    in_folds(study, "a", [ACC_100_AUC_100, ACC_100_AUC_100, ACC_50_AUC_75])
    in_folds(study, "b", [ACC_50_AUC_75, ACC_0_AUC_0, ACC_50_AUC_75])
    table = build(study, metrics=("ACC",))
    # differences 1/2, 1, 0: mean 1/2, s^2 = 1/4, se^2 = (1/3 + 1/2) / 4, t = 1.0954 on 2 df;
    # for 2 degrees of freedom p = 1 - t / sqrt(2 + t^2)
    t = 0.5 / math.sqrt((1 / 3 + 1 / 2) / 4)
    assert cell(table, "b", "0").p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert "corrected resampled t (Nadeau and Bengio), two-sided, unit: 3 folds" in caption(table)
    assert "seeds within a fold averaged, n_test/n_train = 0.5" in caption(table)


def test_seeds_within_a_fold_are_averaged_before_its_test(study: StudyFolder) -> None:
    in_folds(study, "a", [ACC_100_AUC_100, ACC_100_AUC_100, ACC_50_AUC_75])
    in_folds(study, "a", [ACC_100_AUC_100, ACC_100_AUC_100, ACC_100_AUC_100], seed=1)
    in_folds(study, "b", [ACC_50_AUC_75, ACC_50_AUC_75, ACC_50_AUC_75])
    first, second = entrants(study)
    contest = Contest(first, second, METRICS["ACC"], (PLACE,))
    assert contest.folds == ({0: 1.0, 1: 1.0, 2: 0.75}, {0: 0.5, 1: 0.5, 2: 0.5})
    assert outcome_of(contest, "corrected-t").n == 3


def test_a_fold_without_a_class_is_left_out_of_the_test(study: StudyFolder) -> None:
    for method, good in (("a", ACC_100_AUC_100), ("b", ACC_50_AUC_75)):
        in_folds(study, method, [good, ACC_100_AUC_100, good], n_folds=4)
        one_class = binary({"0": (0.1, 0.2)}, first_case=12)
        finished(study, one_class, method=method, fold=3, n_folds=4)
    first, second = entrants(study, "AUC")
    assert outcome_of(Contest(first, second, METRICS["AUC"], (PLACE,)), "corrected-t").n == 3


def test_different_seeds_are_compared_nested_and_common_ones_paired(study: StudyFolder) -> None:
    trained(study, "a", 2.0, seeds=[0, 1, 2])
    trained(study, "b", 1.0, seeds=[1, 2, 3])
    trained(study, "c", 1.0, seeds=[7, 8, 9])
    a, b, c = entrants(study)
    common = outcome_of(Contest(a, b, METRICS["ACC"], (PLACE,)), "obuchowski-rockette")
    nested = outcome_of(Contest(a, c, METRICS["ACC"], (PLACE,)), "obuchowski-rockette")
    assert (common.n, common.paired) == (2, True)
    assert (nested.n, nested.paired) == (3, False)
    assert not math.isnan(nested.p)
    assert "the same seeds for all rows or each row with seeds of its own" in caption(build(study))


def test_runs_that_were_tested_on_other_cases_are_not_compared(study: StudyFolder) -> None:
    for seed in range(2):
        finished(study, binary({"0": ACC_50_AUC_75}), method="a", seed=seed)
        finished(study, binary({"0": ACC_100_AUC_100}, first_case=1), method="b", seed=seed)
    assert "n.t. (not testable) against a: the runs were tested on different cases." in caption(
        build(study)
    )


def test_seeds_alone_are_not_compared_over_other_cases(study: StudyFolder) -> None:
    for seed in range(6):
        finished(study, binary({"0": ACC_50_AUC_75}), method="a", seed=seed)
        finished(study, binary({"0": ACC_100_AUC_100}, first_case=1), method="b", seed=seed)
    table = build(study, test="sign-flip", correction="none")
    assert cell(table, "b", "0").p is None
    assert "n.t. (not testable) against a: the runs were tested on different cases." in caption(
        table
    )


def test_folds_of_one_number_but_other_cases_are_not_paired(study: StudyFolder) -> None:
    in_folds(study, "a", [ACC_50_AUC_75] * 2 + [ACC_100_AUC_100])
    for fold in range(3):
        predictions = binary({"0": ACC_50_AUC_50}, first_case=4 * fold + 2)
        finished(study, predictions, method="b", fold=fold, n_folds=3)
    table = build(study)
    assert cell(table, "b", "0").p is None
    assert "folds of one number have different test cases in the two rows" in caption(table)


def test_constant_scores_and_equal_rows_are_no_difference(study: StudyFolder) -> None:
    for method in "ab":
        for seed in range(3):
            finished(study, binary({"0": ACC_50_AUC_50}), method=method, seed=seed)
    found = cell(build(study), "b", "0")
    assert (found.p, found.marks) == (1.0, ())


def test_a_class_of_one_case_is_named_as_the_reason(study: StudyFolder) -> None:
    for seed in range(3):
        for method, slope in (("a", 0.1), ("b", -0.1)):
            p = [0.5 + slope * (i - seed) / 4 for i in range(6)]
            finished(study, binary({"0": p}, [0, 0, 0, 1, 0, 0]), method=method, seed=seed)
    assert "n.t. (not testable) against a: a class has one case, which cannot tell" in caption(
        build(study)
    )


def test_a_reference_without_a_score_is_not_said_to_have_one(study: StudyFolder) -> None:
    for method in "ab":
        trained(study, method, 0.0)
    failed(study, "out of memory", method="c", seed=0)
    said = "No test: no column has a score of c and of another row."
    assert said in caption(build(study, reference="c"))


def test_the_bootstrap_tests_what_has_no_smooth_formula(study: StudyFolder) -> None:
    trained(study, "a", 2.0, conditions=("0",))
    trained(study, "b", 0.2, conditions=("0",))
    table = build(study, metrics=("F1",))
    assert cell(table, "b", "0").marks == ("*",)
    assert "two-level bootstrap" in caption(table)


def test_a_test_that_does_not_fit_the_design_is_refused(study: StudyFolder) -> None:
    in_folds(study, "a", [ACC_50_AUC_75, ACC_50_AUC_75])
    in_folds(study, "b", [ACC_50_AUC_75, ACC_50_AUC_75])
    with pytest.raises(BadRequest, match="these runs have 2 folds; say --test corrected-t"):
        build(study, test="obuchowski-rockette")
    with pytest.raises(BadRequest, match="these runs have one; say"):
        choose_test("corrected-t", METRICS["ACC"], 1)
    with pytest.raises(UnknownName, match="no test is named 'wilcoxon'; did you mean wilcoxon-sub"):
        Claim("wilcoxon").checked()
    with pytest.raises(UnknownName, match="no correction is named 'hol'"):
        Claim(correction="hol").checked()  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="--alpha wants a number between 0 and 1, got 5"):
        Claim(alpha=5).checked()
    with pytest.raises(UnknownName, match="no row is named 'x'"):
        build(study, reference="x")


# --- one trained model against one other -------------------------------------------------------


def two_models(study: StudyFolder, **changes: Any) -> None:
    trained(study, "a", 3.0, seeds=[0], **changes)
    trained(study, "b", 0.5, seeds=[0], **changes)


def test_mcnemar_counts_the_cases_that_one_model_alone_gets_right(study: StudyFolder) -> None:
    two_models(study)
    first, second = entrants(study)
    right = [
        each.row.done[0].parts["0"][2].argmax(1) == np.array(LABEL) for each in (first, second)
    ]
    counts = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    found = outcome_of(Contest(first, second, METRICS["ACC"], (PLACE,)), "mcnemar")
    assert found.p == mcnemar(*counts).p
    assert found.n == N_CASES
    table = build(study, metrics=("ACC",), test="mcnemar")
    assert cell(table, "b", "0").marks[-1] == "*"
    assert (
        "Test: McNemar (mid-p), two-sided, unit: 80 cases; these two trained models on new cases, "
        "not training again; reference a; Holm over 2 comparisons of a metric; alpha 0.05."
    ) in caption(table)


def test_delong_compares_two_models_and_gives_an_interval(study: StudyFolder) -> None:
    two_models(study)
    first, second = entrants(study, "AUC")
    found = outcome_of(Contest(first, second, METRICS["AUC"], (PLACE,)), "delong")
    one, other = (each.row.done[0].parts["0"][2][:, 1] for each in (first, second))
    expected = paired_delong(one, other, np.array(LABEL) == 1)
    assert (found.p, found.interval) == (expected.p, expected.interval)
    assert "Test: paired DeLong, two-sided, unit: 80 cases" in caption(build(study, test="delong"))


@pytest.mark.parametrize(
    ("test", "metric", "said"),
    [
        ("mcnemar", "AUC", "McNemar's test is a test of ACC"),
        ("delong", "ACC", "DeLong's test is a test of AUC"),
    ],
)
def test_a_test_of_two_models_is_for_one_metric(
    study: StudyFolder, test: str, metric: str, said: str
) -> None:
    two_models(study)
    table = build(study, metrics=(metric,), test=test)
    assert f"n.t. (not testable) against a: {said}." in caption(table)


@pytest.mark.parametrize("test", ["mcnemar", "delong"])
def test_several_trainings_are_no_two_models(study: StudyFolder, test: str) -> None:
    trained(study, "a", 3.0)
    trained(study, "b", 0.5)
    table = build(study, metrics=("ACC" if test == "mcnemar" else "AUC",), test=test)
    assert cell(table, "b", "0").p is None
    said = "compares one trained model with one other, and these rows have 3 repeats."
    assert said in caption(table)


def test_rows_that_cannot_be_tested_for_different_reasons_say_so_each(study: StudyFolder) -> None:
    trained(study, "a", 3.0, seeds=[0])
    trained(study, "b", 0.5, seeds=[0, 1])
    finished(study, binary({"0": ACC_100_AUC_100}, first_case=200), method="c")
    table = build(study, test="delong")
    assert "n.t. (not testable) against a: the footnotes say why." in caption(table)
    assert "these rows have 2 repeats" in notes_of(table, row(table, "b"))
    assert "different cases" in notes_of(table, row(table, "c"))


def test_delong_is_a_test_of_two_classes(study: StudyFolder) -> None:
    frame = drawn(1.0, 0, conditions=("0",)).assign(p_2=0.0)
    for method in "ab":
        finished(study, frame, method=method)
    assert "a test of two classes, and these are 3" in caption(build(study, test="delong"))


def test_delong_and_mcnemar_look_at_one_split(study: StudyFolder) -> None:
    in_folds(study, "a", [ACC_50_AUC_75, ACC_50_AUC_75])
    in_folds(study, "b", [ACC_50_AUC_75, ACC_50_AUC_75])
    with pytest.raises(BadRequest, match="say --test corrected-t"):
        build(study, test="mcnemar")


def test_ties_between_cases_count_half_in_score_and_test(study: StudyFolder) -> None:
    tied = [0.2, 0.6, 0.6, 0.9]  # of labels 0 0 1 1: one pair of four is tied, hence 7/8
    for seed in range(2):
        finished(study, binary({"0": ACC_100_AUC_100}), method="a", seed=seed)
        finished(study, binary({"0": tied}), method="b", seed=seed)
    found = cell(build(study), "b", "0")
    assert found.value == 87.5
    assert found.p is not None
    assert found.p > 0.05


# --- what cannot be told ----------------------------------------------------------------------


@pytest.mark.parametrize("test", ["signed-rank", "sign-flip"])
def test_three_seeds_alone_are_never_a_star(study: StudyFolder, test: str) -> None:
    trained(study, "a", 4.0)
    trained(study, "b", 0.2)
    table = build(study, test=test)
    assert cell(table, "b", "AVG").marks == ()
    # 3 pairs: p is at least 2^-2, times 3 comparisons; 2^(1-n) * 3 <= 0.05 from n = 7 on
    assert "with 3 seeds gives a corrected p of at least 0.75; 7 are needed" in caption(table)


def test_enough_seeds_alone_are_tested(study: StudyFolder) -> None:
    trained(study, "a", 4.0, conditions=("0",), seeds=range(6))
    trained(study, "b", 0.2, conditions=("0",), seeds=range(6))
    found = cell(build(study, test="signed-rank"), "b", "0")
    assert (found.p, found.marks) == (2 * 2**-6, ("*",))


def test_the_papers_mark_is_a_dagger_over_columns_and_no_evidence(study: StudyFolder) -> None:
    conditions = [str(c) for c in range(6)]
    trained(study, "a", 4.0, conditions=conditions)
    trained(study, "b", 0.2, conditions=conditions)
    table = build(study, test="wilcoxon-subsets")
    assert cell(table, "b", "AVG").marks == ("†",)
    assert all(cell(table, "b", key).marks == () for key in conditions)
    assert cell(table, "b", "AVG").p == 2 * 2**-6
    assert "It is no evidence: the columns share their models and their cases." in caption(table)
    assert "A star:" not in caption(table)
    assert cell(build(study, test="wilcoxon-subsets", reference="b"), "a", "AVG").marks == ("‡",)


def test_tables_of_two_datasets_have_families_of_their_own(study: StudyFolder) -> None:
    for dataset, conditions in (("x", ("0", "1")), ("y", ("0", "1", "01"))):
        trained(study, "a", 2.0, dataset=dataset, conditions=conditions)
        trained(study, "b", 1.0, dataset=dataset, conditions=conditions)
    results = load_results(study)
    tables = tables_of(results, layouts_of(results), ReportOptions())
    said = {table.title.partition(",")[0]: caption(table) for table in tables}
    assert "over 3 comparisons" in said["x"]
    assert "over 4 comparisons" in said["y"]


def test_trainings_with_one_test_condition_are_columns_of_their_own(study: StudyFolder) -> None:
    """As in M-Tr+C-Te, where each column is a training."""
    settings = ("attribute-10", "attribute-30")
    for setting, separations in zip(settings, ((4.0, 0.2), (1.0, 1.0)), strict=True):
        for method, separation in zip("ab", separations, strict=True):
            changes = {"setting": {"name": setting, "gaps": None}, "conditions": ("0",)}
            trained(study, method, separation, **changes)
    columns = tuple(LayoutColumn(each, "all-subsets", "0", each, each) for each in settings)
    layout = Layout("toy", "m-tr+c-te", "M-Tr+C-Te", "subsets", columns)
    (table,) = tables_of(load_results(study), [layout], ReportOptions(metrics=("AUC",)))
    assert [each.marks for each in row(table, "b").cells] == [("*",), (), ("*",)]
    assert "Holm over 3 comparisons" in caption(table)


# --- the cache --------------------------------------------------------------------------------


def test_slow_tests_are_kept_by_content(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    for method, separation in (("a", 2.0), ("b", 1.0)):
        trained(study, method, separation)
    first = cell(build(study), "b", "AVG")
    (path,) = (tmp_path / "cache" / "statistics").iterdir()
    assert cell(build(study), "b", "AVG") == first
    p, low, high = json.loads(path.read_text())
    assert p == first.p
    path.write_text(json.dumps([0.5, low, high]))
    assert cell(build(study), "b", "AVG").p == 0.5  # read, not computed
    build(study, reference="b")
    assert len(list(path.parent.iterdir())) == 2  # other arrays, another entry


# --- the command line -------------------------------------------------------------------------


def test_the_command_line_asks_for_tests(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(study, "a", 2.0)
    trained(study, "b", 0.2)
    where = ("--study", study.name, "--out", str(study.root))
    assert call("table", *where, "--reference", "b", "--correction", "bh", "--alpha", "0.01") == 0
    out = capsys.readouterr().out
    said = " ".join(out.split())
    assert "reference b; Benjamini-Hochberg over 3 comparisons of a metric; alpha 0.01." in said
    assert call("table", *where, "--test", "none") == 0
    assert "Test:" not in capsys.readouterr().out
    assert call("table", *where, "--test", "wilcoxon") == 2
    assert "no test is named 'wilcoxon'" in capsys.readouterr().err
