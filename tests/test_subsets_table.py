"""The table of methods by subsets, on runs whose scores are worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import UnknownName
from bench.report import ReportOptions
from bench.reporting.printing import tables_of
from bench.reports.subsets import PLUGIN
from bench.scores.results import load_results
from bench.scores.rows import layouts_of
from bench.scores.significance import Claim
from bench.spec import EncoderConfig, Recipe
from bench.store import StudyFolder
from bench.tables import Cell, Row, Table, to_csv, to_latex, to_markdown
from tests.synthetic_runs import (
    ACC_0_AUC_0,
    ACC_50_AUC_50,
    ACC_50_AUC_75,
    ACC_100_AUC_100,
    binary,
    failed,
    finished,
    skipped,
)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def build(study: StudyFolder, **options: object) -> list[Table]:
    results = load_results(study)
    asked = ReportOptions(**options)  # type: ignore[arg-type]
    return [PLUGIN().build(results, layout, asked) for layout in layouts_of(results)]


def only(study: StudyFolder, **options: object) -> Table:
    (table,) = build(study, **options)
    return table


def row(table: Table, label: str) -> Row:
    return next(each for each in table.rows if each.label == label)


def cell(table: Table, label: str, metric: str, key: str) -> Cell:
    c = next(i for i, e in enumerate(table.columns) if (e.group, e.key) == (metric, key))
    return row(table, label).cells[c]


def notes_of(table: Table, each: Row | Cell) -> str:
    return " ".join(table.footnotes[mark] for mark in each.marks)


def two_seeds(study: StudyFolder, method: str = "concat") -> None:
    first = {"0": ACC_50_AUC_75, "1": ACC_100_AUC_100}
    second = {"0": ACC_100_AUC_100, "1": ACC_100_AUC_100}
    for seed, scores in enumerate((first, second)):
        finished(study, binary(scores), method=method, seed=seed)


def test_cells_are_mean_and_sample_deviation_over_repeats_in_percent(study: StudyFolder) -> None:
    two_seeds(study)
    table = only(study)
    assert [(each.group, each.key) for each in table.columns] == [
        ("ACC", "0"), ("ACC", "1"), ("ACC", "AVG"), ("AUC", "0"), ("AUC", "1"), ("AUC", "AVG"),
    ]  # fmt: skip
    half = 50 / math.sqrt(2)  # sample SD of two numbers is their distance over the root of two
    cells = row(table, "concat").cells
    # repeats of ACC: 50 and 100, 100 and 100, AVG 75 and 100; of AUC: 75 and 100, ...
    assert [each.value for each in cells] == [75.0, 100.0, 87.5, 87.5, 100.0, 93.75]
    expected = [half, 0.0, half / 2, half / 2, 0.0, half / 4]
    assert [each.spread for each in cells] == pytest.approx(expected)
    assert [each.n for each in table.columns] == [4, 4, None, 4, 4, None]
    assert cell(table, "concat", "AUC", "0").n_repeats == 2


def test_the_caption_is_written_from_the_runs(study: StudyFolder) -> None:
    two_seeds(study)
    table = only(study, preset="quick")
    caption = " ".join(table.caption)
    assert table.title == "toy, training: complete"
    for part in (
        "of the second class; in percent.",
        "Mean ± sample SD over 2 repeats (1 fold x 2 seeds).",
        "4 test cases in all, n per column.",
        "Columns: 0 = mean, 1 = se.",
        "Budget (preset quick): d_model 64, 30 epochs, batches of 64.",
        "Model selection: all-subsets = mean validation AUC over the non-empty subsets",
        "Class balance: none; encoder of pictures, where there are any: resnet10t (random weights)",
        "precision: float32.",
    ):
        assert part in caption


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "(random weights); precision"),
        ({"augment": {"p": 0.5, "together": True}}, "altered, p 0.5, together true; precision"),
        (
            {"augment": {"p_h_flip": 0.5}, "frozen": True},
            "p_h_flip 0.5 (pictures not: their encoder is frozen, and there are 0 variants); ",
        ),
        (
            {"augment": {"p_h_flip": 0.5, "variants": 2}, "frozen": True},
            "variants 2, p_h_flip 0.5;",
        ),
    ],
)
def test_a_caption_says_how_training_pictures_are_altered(
    study: StudyFolder, config: dict[str, object], said: str
) -> None:
    encoder = EncoderConfig.model_validate(config)
    finished(study, binary({"0": ACC_100_AUC_100}), encoder=encoder)
    caption = " ".join(only(study).caption)
    assert said in caption
    assert ("altered" in caption) == bool(config)


def test_what_differs_between_rows_is_said_per_row(study: StudyFolder) -> None:
    scores = binary({"0": ACC_50_AUC_75, "1": ACC_50_AUC_75, "01": ACC_100_AUC_100})
    recipe = Recipe.model_validate({"epochs": 60})
    finished(study, scores, method="a", facts={"dropout_law": "none"})
    finished(study, scores, method="b", facts={"dropout_law": "uniform"}, recipe=recipe)
    finished(study, scores, method="c", facts={"dropout_law": "none"})
    caption = " ".join(only(study).caption)
    assert "Modalities dropped in training: none (a, c); uniform (b)." in caption
    assert "30 epochs, batches of 64 (a, c); d_model 64, 60 epochs, batches of 64 (b)" in caption
    assert "Columns: 0 = mean, 1 = se; the others combine these." in caption


def test_one_repeat_has_no_spread(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_50_AUC_75}))
    table = only(study)
    assert all(each.spread is None for each in table.rows[0].cells)
    assert "One repeat (fold 0, seed 0): no spread." in table.caption
    assert "±" not in to_markdown(table)


@pytest.mark.parametrize("test", ["auto", "none"])
def test_a_table_of_one_repeat_says_why_it_has_no_test(study: StudyFolder, test: str) -> None:
    for method in "ab":
        finished(study, binary({"0": ACC_50_AUC_75}), method=method)
    caption = only(study, claim=Claim(test=test)).caption
    said = "No test: one repeat cannot tell how much training varies."
    assert (said in caption) == (test == "auto")


def test_a_budget_names_the_rows_that_had_it_more_than_once(study: StudyFolder) -> None:
    scores = binary({"0": ACC_50_AUC_75})
    finished(study, scores, method="a", facts={"n_models": 1})
    finished(study, scores, method="b", facts={"n_models": 15})
    caption = " ".join(only(study).caption)
    assert "30 epochs, batches of 64; b trains 15 models, each by itself." in caption


def test_a_budget_names_the_rows_whose_stages_go_beyond_it(study: StudyFolder) -> None:
    scores = binary({"0": ACC_50_AUC_75})
    finished(study, scores, method="a", facts={"share_of_epochs": 1.0})
    finished(study, scores, method="b", facts={"share_of_epochs": 2.5})
    caption = " ".join(only(study).caption)
    assert "batches of 64; the stages of b take 2.5 times these epochs." in caption


def test_a_caption_says_of_which_epochs_one_was_chosen(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_50_AUC_75}), recipe=Recipe(epochs=2))
    caption = " ".join(only(study).caption)
    assert "of a stage's epochs from epoch 6 on, of all where it has no more." in caption


def test_best_and_second_are_marked_per_column(study: StudyFolder) -> None:
    for method, scores in (("a", ACC_50_AUC_75), ("b", ACC_100_AUC_100), ("c", ACC_0_AUC_0)):
        finished(study, binary({"0": scores}), method=method)
    table = only(study)
    marks = [(cell(table, m, "AUC", "0").best, cell(table, m, "AUC", "0").second) for m in "abc"]
    assert marks == [(False, True), (True, False), (False, False)]


def test_a_failed_row_is_a_row_with_its_reason(study: StudyFolder) -> None:
    two_seeds(study)
    for seed in (0, 1):
        failed(study, "out of memory\nsecond line", method="huge", seed=seed)
    skipped(study, "takes two modalities", method="pair")
    table = only(study)
    assert {each.text for each in row(table, "huge").cells} == {"failed"}
    assert notes_of(table, row(table, "huge")) == "failed: out of memory."
    assert {each.text for each in row(table, "pair").cells} == {"n/a"}
    assert "n/a: takes two modalities (fold 0, seed 0)" in notes_of(table, row(table, "pair"))
    assert "not run (fold 0, seed 1)" in notes_of(table, row(table, "pair"))
    assert not row(table, "concat").marks


def test_a_row_with_fewer_repeats_says_what_became_of_the_rest(study: StudyFolder) -> None:
    two_seeds(study)
    finished(study, binary({"0": ACC_50_AUC_75, "1": ACC_50_AUC_75}), method="other", seed=0)
    failed(study, "the loss is not finite", method="other", seed=1)
    table = only(study)
    other = row(table, "other")
    assert notes_of(table, other) == (
        "1 of 2 repeats done; failed: the loss is not finite (fold 0, seed 1)."
    )
    assert (other.cells[0].value, other.cells[0].spread) == (50.0, None)


def test_a_study_of_failures_alone_is_a_table(study: StudyFolder) -> None:
    failed(study, "no such file", method="a")
    table = only(study)
    assert {each.text for each in table.rows[0].cells} == {"failed"}
    assert "Columns: - = no run has finished." in table.caption
    assert "failed" in to_markdown(table)


def test_a_column_without_cases_prints_a_dash_and_is_left_out_of_avg(study: StudyFolder) -> None:
    finished(
        study, binary({"0": ACC_50_AUC_75, "01": ACC_100_AUC_100}), conditions=["0", "1", "01"]
    )
    table = only(study)
    assert [each.key for each in table.columns[:4]] == ["0", "1", "01", "AVG"]
    empty = cell(table, "concat", "AUC", "1")
    assert (empty.value, empty.text, table.columns[1].n) == (None, "-", 0)
    assert cell(table, "concat", "AUC", "AVG").value == 87.5
    (mark,) = table.columns[1].marks
    assert table.footnotes[mark] == "Column 1 has no test cases and is left out of AVG."


def test_a_column_of_one_class_has_accuracy_but_no_auc(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_50_AUC_75, "1": (0.1, 0.9)}))  # both cases of class 0
    table = only(study)
    assert cell(table, "concat", "ACC", "1").value == 50.0
    assert cell(table, "concat", "AUC", "1").text == "-"
    assert cell(table, "concat", "ACC", "AVG").value == 50.0
    assert cell(table, "concat", "AUC", "AVG").value == 75.0
    marks = {each.group: each.marks for each in table.columns if each.key == "1"}
    assert marks["ACC"] == ()
    assert "of one class" in table.footnotes[marks["AUC"][0]]
    assert "compare rows within a column" in " ".join(table.caption)


def test_a_fold_without_a_class_is_never_averaged_silently(study: StudyFolder) -> None:
    whole = {"0": ACC_50_AUC_75, "1": ACC_100_AUC_100}
    finished(study, binary(whole), fold=0, n_folds=2)
    part = binary({"0": (0.1, 0.2), "1": ACC_0_AUC_0}, first_case=4)  # fold 1, column 0: class 0
    finished(study, part, fold=1, n_folds=2)
    table = only(study)
    one = cell(table, "concat", "AUC", "0")
    assert (one.value, one.n_repeats, one.n) == (75.0, 1, 6)
    assert notes_of(table, one).startswith("Without fold 1, seed 0, where this column is undefined")
    average = cell(table, "concat", "AUC", "AVG")
    assert (average.value, average.n_repeats) == (87.5, 1)  # not the mean of 87.5 and 0
    assert notes_of(table, average).startswith(
        "Without fold 1, seed 0, where a column is undefined"
    )
    assert cell(table, "concat", "ACC", "0").n_repeats == 2
    assert table.columns[0].n == 6


def test_a_mean_over_the_classes_that_are_there_is_footnoted(study: StudyFolder) -> None:
    predictions = pd.DataFrame({"case": ["a", "b"], "condition": "0", "label": [0, 1]})
    finished(study, predictions.assign(p_0=[0.8, 0.1], p_1=[0.1, 0.7], p_2=[0.1, 0.2]))
    table = only(study)
    found = cell(table, "concat", "AUC", "0")
    assert found.value == 100.0
    assert notes_of(table, found) == (
        "In fold 0, seed 0, this column lacks a class: that AUC is the mean over the classes there."
    )
    assert "macro one-versus-rest over 3 classes" in table.caption[0]


def test_a_row_that_lacks_a_condition_has_no_avg(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_50_AUC_75, "1": ACC_50_AUC_75}), method="a")
    finished(study, binary({"0": ACC_100_AUC_100}), method="b")
    table = only(study)
    assert cell(table, "b", "AUC", "1").text == "-"
    notes = notes_of(table, cell(table, "b", "AUC", "1"))
    assert notes == "No finished run of this row tested this column."
    assert cell(table, "b", "AUC", "AVG").text == "-"
    assert cell(table, "a", "AUC", "AVG").value == 75.0


def test_a_constant_prediction_is_said_whatever_the_row_is_called(study: StudyFolder) -> None:
    constant = {"0": ACC_50_AUC_50, "1": (0.3,) * 4}
    finished(study, binary(constant), method="pattern-only")
    finished(study, binary(constant | {"1": ACC_50_AUC_75}), method="a")
    finished(study, binary({"0": ACC_50_AUC_75, "1": ACC_50_AUC_75}), method="b")
    table = only(study)
    said = [sentence for sentence in table.caption if "exactly 50.00 AUC" in sentence]
    assert [sentence.partition(":")[0] for sentence in said] == [
        "a is exactly 50.00 AUC in column 0",
        "pattern-only is exactly 50.00 AUC in each column",
    ]
    assert cell(table, "pattern-only", "AUC", "1").value == 50.0


def test_a_constant_prediction_without_an_auc_is_not_said_to_have_one(study: StudyFolder) -> None:
    scores = {"0": (0.3,) * 4, "1": (0.3,) * 4, "2": (0.3,) * 4}
    predictions = binary(scores)
    finished(study, predictions[(predictions["condition"] != "2") | (predictions["label"] == 1)])
    table = only(study)
    assert cell(table, "concat", "AUC", "2").text == "-"
    (said,) = (each for each in table.caption if "exactly 50.00 AUC" in each)
    assert "exactly 50.00 AUC in columns 0 and 1:" in said


def test_each_dataset_and_setting_has_its_table_with_rows_in_the_order_given(
    study: StudyFolder,
) -> None:
    scores = binary({"0": ACC_50_AUC_75})
    for dataset in ("y", "x"):
        for method in ("b", "a"):
            finished(study, scores, method=method, dataset=dataset)
    finished(study, scores, dataset="x", setting={"name": "mcar"})
    results = load_results(study)
    results.sort(key=lambda each: (each.setting, each.row), reverse=True)
    tables = [PLUGIN().build(results, layout) for layout in layouts_of(results)]
    assert [table.title for table in tables] == [
        "x, training: mcar",
        "x, training: complete",
        "y, training: complete",
    ]
    assert [each.label for each in tables[1].rows] == ["b", "a"]


def test_differing_configurations_of_one_name_are_never_averaged(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_100_AUC_100}), method_config={"size": 1})
    finished(study, binary({"0": ACC_0_AUC_0}), method_config={"size": 2})
    table = only(study)
    by_note = {notes_of(table, each): each.cells[0].value for each in table.rows}
    assert {note.partition(": ")[2]: value for note, value in by_note.items()} == {
        "method_config.size = 1.": 100.0,
        "method_config.size = 2.": 0.0,
    }


def test_columns_and_metrics_can_be_chosen(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_50_AUC_75, "1": ACC_100_AUC_100}))
    results = load_results(study)
    options = ReportOptions(metrics=("AUC",), digits=1)
    (table,) = tables_of(results, layouts_of(results), options, conditions=("1", "0"))
    assert [each.key for each in table.columns] == ["1", "0", "AVG"]
    assert table.rows[0].cells[0].number == "100.0"
    with pytest.raises(UnknownName, match="no tested condition is named '2'"):
        tables_of(results, layouts_of(results), options, conditions=("2",))


def test_every_writer_prints_the_report(study: StudyFolder) -> None:
    two_seeds(study)
    failed(study, "100% of memory_used", method="huge")
    table = only(study)
    assert "87.50 ± 17.68" in to_markdown(table)
    assert r"100\% of memory\_used" in to_latex(table)
    assert "toy, training: complete" in to_csv(table)
