"""What may be asked of a table: metrics, subgroups, probabilities, common cases, monotonicity."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.errors import BadRequest, UnknownName
from bench.layout import Layout, LayoutColumn
from bench.report import ReportOptions, weights_of
from bench.reporting.printing import metrics_of, tables_of
from bench.scores.monotonicity import contains
from bench.scores.results import load_results
from bench.scores.rows import layouts_of
from bench.store import StudyFolder
from bench.tables import Cell, Row, RowGroup, Table, to_markdown
from tests.command_line import call
from tests.synthetic_runs import (
    ACC_0_AUC_0,
    ACC_50_AUC_50,
    ACC_50_AUC_75,
    ACC_100_AUC_100,
    binary,
    finished,
)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def subsets_layout() -> Layout:
    """Lay out two modalities as the protocol all-subsets does."""
    subsets = {"0": (0,), "1": (1,), "01": (0, 1)}
    columns = tuple(
        LayoutColumn("complete", "all-subsets", name, name, name, subset=subset)
        for name, subset in subsets.items()
    )
    return Layout("toy", "all-subsets", "All subsets", "subsets", columns)


def build(study: StudyFolder, *, shown: Layout | None = None, **options: Any) -> Table:
    results = load_results(study)
    layouts = layouts_of(results) if shown is None else [shown]
    (table,) = tables_of(results, layouts, ReportOptions(**{"metrics": ("ACC",)} | options))
    return table


def group(table: Table, title: str) -> RowGroup:
    return next(each for each in table.groups if each.title == title)


def cell(table: Table, key: str, metric: str = "ACC", row: Row | None = None) -> Cell:
    c = next(i for i, each in enumerate(table.columns) if (each.key, each.group) == (key, metric))
    return (row or table.rows[0]).cells[c]


def notes_of(table: Table, each: Row | Cell) -> str:
    return " ".join(table.footnotes[mark] for mark in each.marks)


def two_seeds(study: StudyFolder) -> None:
    first = {"0": ACC_50_AUC_75, "1": ACC_100_AUC_100}
    second = {"0": ACC_100_AUC_100, "1": ACC_100_AUC_100}
    for seed, scores in enumerate((first, second)):
        finished(study, binary(scores), seed=seed)


# --- metrics ----------------------------------------------------------------------------------


def test_each_metric_is_printed_in_its_unit(study: StudyFolder) -> None:
    # probabilities of class 1: 0.1, 0.6, 0.4, 0.9 for the labels 0, 0, 1, 1
    finished(study, binary({"0": ACC_50_AUC_75}))
    metrics = ("BACC", "F1", "ECE", "Brier", "NLL")
    table = build(study, metrics=metrics)
    found = {name: cell(table, "0", name) for name in metrics}
    assert found["BACC"].value == 50.0  # recalls 1/2 and 1/2
    assert found["F1"].value == 50.0  # both classes: 2 TP = 2 of 2 TP + FP + FN = 4
    # two cases at 0.9 are right, two at 0.6 wrong: (2 * 0.1 + 2 * 0.6) / 4
    assert found["ECE"].value == pytest.approx(35.0, abs=1e-5)
    # squared errors over both classes: 2 * 0.01 and 2 * 0.36, twice each, over 4 cases
    assert found["Brier"].value == pytest.approx(0.37, abs=1e-6)
    nll = -(math.log(0.9) + math.log(0.4)) / 2
    assert found["NLL"].value == pytest.approx(nll, abs=1e-6)
    assert (found["Brier"].number, found["F1"].number) == ("0.370", "50.00")
    assert [each.unit for each in table.columns[::2]] == ["%", "%", "%", "", ""]


def test_lower_is_better_for_losses(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_100_AUC_100}), method="good")
    finished(study, binary({"0": ACC_0_AUC_0}), method="bad")
    table = build(study, metrics=("Brier",))
    assert {each.label: each.cells[0].best for each in table.rows} == {"good": True, "bad": False}
    assert "lower is better" in table.caption[0]
    assert "percent" not in table.caption[0]


def test_a_mean_over_classes_says_how_it_counts_an_absent_one(study: StudyFolder) -> None:
    finished(study, binary({"0": (0.1, 0.6)}))  # both cases of class 0, one of them right
    table = build(study, metrics=("BACC", "F1"))
    assert cell(table, "0", "BACC").value == 50.0
    assert cell(table, "0", "F1").value == pytest.approx(100 / 3)  # mean of 2/3 and 0
    assert "that BACC is the mean over the classes" in notes_of(table, cell(table, "0", "BACC"))
    assert "that F1 is the mean with 0 for that class" in notes_of(table, cell(table, "0", "F1"))


def test_metrics_are_named_in_any_case() -> None:
    assert metrics_of(["auc", "NLL", "AUC"]) == ("AUC", "NLL")
    assert metrics_of([]) == ("ACC", "AUC")
    with pytest.raises(UnknownName, match="no metric is named 'AOC'; did you mean AUC"):
        metrics_of(["AOC"])


# --- subgroups --------------------------------------------------------------------------------


def sites(study: StudyFolder) -> None:
    """Store a run: both cases of site a right, those of b wrong, one of each label."""
    columns = {"site": ["a", "b", "a", "b"], "age": [10, 9, 9, 10]}
    finished(study, binary({"0": (0.1, 0.9, 0.9, 0.1)}), columns=columns)


def test_subgroups_are_blocks_of_rows_with_their_cases(study: StudyFolder) -> None:
    sites(study)
    table = build(study, by="site", metrics=("ACC", "AUC"))
    assert [each.title for each in table.groups] == [
        "all (n = 4)",
        "site = a (n = 2)",
        "site = b (n = 2)",
    ]
    found = {each.title[:8]: each.rows[0].cells[0].value for each in table.groups}
    assert found == {"all (n =": 50.0, "site = a": 100.0, "site = b": 0.0}
    b = group(table, "site = b (n = 2)").rows[0]
    assert cell(table, "0", "AUC", b).value == 0.0
    assert cell(table, "0", "AUC", b).n == 2


def test_subgroups_that_are_numbers_are_sorted_by_size(study: StudyFolder) -> None:
    sites(study)
    titles = [each.title for each in build(study, by="age").groups]
    assert titles == ["all (n = 4)", "age = 9 (n = 2)", "age = 10 (n = 2)"]


def test_the_best_is_marked_within_each_subgroup(study: StudyFolder) -> None:
    sites(study)
    columns = {"site": ["a", "b", "a", "b"], "age": [10, 9, 9, 10]}
    reverse = binary({"0": (0.9, 0.1, 0.1, 0.9)})
    finished(study, reverse, method="other", columns=columns)
    table = build(study, by="site")
    best = [(each.title[:8], row.label) for each in table.groups for row in each.rows
            if row.cells[0].best]  # fmt: skip
    assert best[2:] == [("site = a", "concat"), ("site = b", "other")]


def test_a_subgroup_of_one_class_has_no_auc(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_50_AUC_75}), columns={"site": ["a", "a", "b", "b"]})
    table = build(study, by="site", metrics=("ACC", "AUC"))
    row = group(table, "site = a (n = 2)").rows[0]
    assert cell(table, "0", "ACC", row).value == 50.0
    assert cell(table, "0", "AUC", row).text == "-"
    assert notes_of(table, cell(table, "0", "AUC", row)).startswith("Undefined in every repeat:")
    assert "site = a (n = 2)" in to_markdown(table)


def test_cases_without_a_value_are_a_subgroup_of_their_own(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_50_AUC_75}), columns={"site": ["", "b", "", "b"]})
    titles = [each.title for each in build(study, by="site").groups]
    assert titles == ["all (n = 4)", "site = b (n = 2)", "site = not known (n = 2)"]


def test_an_unknown_column_of_subgroups_is_refused_with_those_there(study: StudyFolder) -> None:
    sites(study)
    with pytest.raises(UnknownName, match="no subgroup column of toy is named 'sites'; did you"):
        build(study, by="sites")


def test_datasets_without_the_column_are_left_out(study: StudyFolder) -> None:
    sites(study)
    finished(study, binary({"0": ACC_50_AUC_75}), dataset="plain")
    results = load_results(study)
    (table,) = tables_of(results, layouts_of(results), ReportOptions(by="site"))
    assert table.title.startswith("toy")


# --- probabilities of conditions --------------------------------------------------------------


def test_expected_is_the_mean_under_the_stated_probabilities(study: StudyFolder) -> None:
    two_seeds(study)
    table = build(study, weights={"0": 0.25, "1": 0.75})
    assert [each.key for each in table.columns] == ["0", "1", "AVG", "Expected", "Worst"]
    found = cell(table, "Expected")
    # repeats: 0.25 * 50 + 0.75 * 100 = 87.5, and 100
    assert found.value == 93.75
    assert found.spread == pytest.approx(12.5 / math.sqrt(2))
    assert any("have these probabilities: 0 = 0.25, 1 = 0.75." in each for each in table.caption)


def test_worst_is_the_column_with_the_lowest_mean_and_names_it(study: StudyFolder) -> None:
    two_seeds(study)
    found = cell(build(study, worst=True), "Worst")
    assert (found.value, found.note) == (75.0, "0")  # ACC under 0: 50 and 100
    assert found.spread == pytest.approx(50 / math.sqrt(2))
    loss = cell(build(study, worst=True, metrics=("Brier",)), "Worst", "Brier")
    assert loss.note == "0"


def test_a_condition_that_never_occurs_does_not_have_to_be_scored(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_50_AUC_75}), conditions=["0", "1"])
    found = cell(build(study, weights={"0": 1.0, "1": 0.0}), "Expected")
    assert found.value == 50.0


def test_expected_needs_a_score_wherever_it_is_over(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_50_AUC_75}), conditions=["0", "1"])
    table = build(study, weights={"0": 0.5, "1": 0.5})
    found = cell(table, "Expected")
    assert found.text == "-"
    assert notes_of(table, found) == "No repeat has a score in every column that Expected is over."


def test_weights_name_tested_conditions_of_one_table(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_50_AUC_75}))
    finished(study, binary({"x": ACC_50_AUC_75}), dataset="other")
    results = load_results(study)
    layouts = layouts_of(results)
    with pytest.raises(UnknownName, match="no tested condition is named '2'"):
        tables_of(results, layouts, ReportOptions(weights={"2": 1.0}))
    with pytest.raises(BadRequest, match="conditions of different tables"):
        tables_of(results, layouts, ReportOptions(weights={"0": 0.5, "x": 0.5}))
    other, toy = sorted(
        tables_of(results, layouts, ReportOptions(weights={"x": 1.0})), key=lambda each: each.title
    )
    assert "Expected" in [each.key for each in other.columns]
    assert "Expected" not in [each.key for each in toy.columns]
    said = "No column Expected: the stated probabilities are of other columns (x)."
    assert said in toy.caption
    assert said not in other.caption


def test_weights_of_a_file_keep_the_names_of_subsets(tmp_path: Path) -> None:
    file = tmp_path / "weights.yaml"
    file.write_text("012: 0.7\n02: 0.2\n")
    assert weights_of(["01=0.1"], file) == {"012": 0.7, "02": 0.2, "01": 0.1}


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (["0=0.7", "1=0.2"], "must sum to 1, got 0.9"),
        (["0=0.6", "1=0.400002"], "got 1.000002"),
        (["0=1.2", "1=-0.2"], "the weight of 0 must be a probability"),
        (["0=nan"], "got 'nan'"),
        (["0=half"], "got 'half'"),
        (["0"], "--weight wants CONDITION=PROBABILITY, got '0'"),
    ],
)
def test_weights_that_are_no_distribution_are_refused(pairs: list[str], text: str) -> None:
    with pytest.raises(BadRequest, match=text):
        weights_of(pairs, None)


def test_weights_may_miss_1_by_rounding() -> None:
    assert len(weights_of(["0=0.3333333", "1=0.3333333", "01=0.3333333"], None)) == 3


# --- common cases -----------------------------------------------------------------------------


def part(condition: str, cases: str, right: str) -> pd.DataFrame:
    """Lay out cases of alternating labels under a condition, some of them right."""
    label = [ord(case) % 2 for case in cases]
    p_1 = [0.9 if (case in right) == bool(y) else 0.1 for case, y in zip(cases, label, strict=True)]
    frame = pd.DataFrame({"case": list(cases), "condition": condition, "label": label})
    return frame.assign(p_0=[1 - p for p in p_1], p_1=p_1)


def test_common_cases_are_those_of_every_column(study: StudyFolder) -> None:
    # all of 0: 3 of 4 right, of 1: 1 of 2; on the common cases c and d: 2 of 2 and 1 of 2
    frame = pd.concat([part("0", "abcd", "bcd"), part("1", "cd", "c")])
    finished(study, frame)
    whole, common = build(study), build(study, common_cases=True)
    assert [each.value for each in whole.rows[0].cells] == [75.0, 50.0, 62.5]
    assert [each.value for each in common.rows[0].cells] == [100.0, 50.0, 75.0]
    assert [each.n for each in common.columns] == [2, 2, None]
    assert "Restricted to the 2 cases that every column has." in common.caption


def test_columns_with_as_many_but_other_cases_are_said_to_differ(study: StudyFolder) -> None:
    finished(study, pd.concat([part("0", "abcd", "a"), part("1", "cdef", "c")]))
    said = "6 test cases in all, n per column; the columns have different cases, compare rows"
    assert any(said in each for each in build(study).caption)


def test_cases_that_no_column_shows_are_not_counted(study: StudyFolder) -> None:
    finished(study, pd.concat([part("0", "abcd", "a"), part("1", "ab", "a")]))
    (whole,) = layouts_of(load_results(study))
    shown = replace(whole, columns=tuple(c for c in whole.columns if c.condition == "1"))
    assert "2 test cases in all, n per column." in build(study, shown=shown).caption


def test_a_column_without_any_case_does_not_empty_the_others(study: StudyFolder) -> None:
    finished(study, part("0", "abcd", "bcd"), conditions=["0", "1"])
    table = build(study, common_cases=True)
    assert cell(table, "0").value == 75.0
    assert cell(table, "1").text == "-"


# --- monotonicity -----------------------------------------------------------------------------


def test_a_larger_subset_that_scores_worse_is_listed_with_both_scores(study: StudyFolder) -> None:
    scores = {"0": ACC_100_AUC_100, "1": ACC_0_AUC_0, "01": ACC_50_AUC_75}
    finished(study, binary(scores))
    table = build(study, shown=subsets_layout(), monotonicity=True, metrics=("ACC", "NLL"))
    (row,) = table.rows
    note = notes_of(table, row)
    assert "ACC in 1 of 2 pairs, 01 50.00 below 0 100.00" in note
    # -ln p: of 0 (2 ln 0.9 + 2 ln 0.8) / 4, of 01 (2 ln 0.9 + 2 ln 0.4) / 4
    assert "NLL in 1 of 2 pairs, 01 0.511 above 0 0.164" in note
    assert any("In 2 pairs of columns one contains the other" in each for each in table.caption)


def test_equal_scores_and_gains_are_no_violation(study: StudyFolder) -> None:
    scores = {"0": ACC_50_AUC_50, "1": ACC_0_AUC_0, "01": ACC_50_AUC_75}
    finished(study, binary(scores))
    table = build(study, shown=subsets_layout(), monotonicity=True)
    assert not table.rows[0].marks


def test_pairs_are_compared_on_the_cases_of_both(study: StudyFolder) -> None:
    # 01 has c and d alone: it is right on one of them, and so is 0, though on all it has 3 of 4
    frame = pd.concat([part("0", "abcd", "abc"), part("1", "cd", ""), part("01", "cd", "d")])
    finished(study, frame)
    table = build(study, shown=subsets_layout(), monotonicity=True)
    assert (cell(table, "0").value, cell(table, "01").value) == (75.0, 50.0)
    assert not table.rows[0].marks


def test_lower_rates_contain_higher_ones_of_the_same_training() -> None:
    def column(setting: str, condition: str, rate: float) -> LayoutColumn:
        return LayoutColumn(setting, "as-trained", condition, condition, "", rate=rate)

    low, high = column("complete", "as-is", 0.0), column("complete", "attribute-30", 0.3)
    assert contains(low, high)
    assert not contains(high, low)
    assert not contains(column("complete", "as-is", 0.0), column("attribute-30", "as-is", 0.3))


# --- the command line -------------------------------------------------------------------------


def test_the_options_reach_the_table(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_seeds(study)
    out = ["table", "--out", str(study.root), "--format", "csv", "--metric", "acc"]
    assert call(*out, "--weight", "0=0.25", "--weight", "1=0.75", "--digits", "1") == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    found = {line["condition"]: line["mean"] for line in lines}
    assert found["Expected"] == "93.75"
    assert call(*out, "--condition", "1") == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["condition"] for line in lines] == ["1", "AVG"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--weight", "0=0.5"], "must sum to 1"),
        (["--weight", "7=1"], "no tested condition is named '7'"),
        (["--by", "site"], "no subgroup column of toy is named 'site'"),
        (["--metric", "AOC"], "did you mean AUC"),
        (["--weights", "absent.yaml"], "absent.yaml"),
    ],
)
def test_what_does_not_fit_is_one_line_and_exit_code_2(
    study: StudyFolder, capsys: pytest.CaptureFixture[str], options: list[str], text: str
) -> None:
    two_seeds(study)
    assert call("table", "--out", str(study.root), *options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert text in err
