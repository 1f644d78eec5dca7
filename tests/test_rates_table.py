"""The table of methods by missing rates, on runs whose scores are worked by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.layout import Layout, LayoutColumn
from bench.report import ReportOptions
from bench.reporting.printing import tables_of
from bench.reports.rates import PLUGIN
from bench.scores.results import load_results
from bench.store import StudyFolder
from bench.tables import Cell, Row, Table, to_latex, to_markdown
from tests.command_line import call
from tests.synthetic_runs import (
    ACC_0_AUC_0,
    ACC_50_AUC_75,
    ACC_100_AUC_100,
    binary,
    failed,
    finished,
    skipped,
)

LAW = "attributes of the tables, completely at random, exact counts per column"
NOT_AT_RANDOM = "attributes of the tables, NOT at random: by the label, exact counts per column"
RATE = {0: None, 30: 0.3, 50: 0.5}


def setting(percent: int) -> dict[str, Any]:
    """Return the training setting at a rate as specifications have it."""
    rate = RATE[percent]
    gaps = None if rate is None else {"rate": rate, "level": "attribute"}
    return {"name": f"attribute-{percent}" if gaps else "complete", "gaps": gaps}


def test_condition(percent: int) -> str:
    return f"attribute-{percent}" if percent else "as-is"


test_condition.__test__ = False  # type: ignore[attr-defined]


def drawn(*shares: float, n_displaced: int = 0) -> dict[str, Any]:
    """Return what a run notes of a draw."""
    realised = {f"table.a{i}": share for i, share in enumerate(shares)}
    return {"realised": realised, "n_displaced": n_displaced}


def column(train: int, test: int, header: int, block: str = "") -> LayoutColumn:
    return LayoutColumn(
        setting(train)["name"],
        "as-trained",
        test_condition(test),
        f"{header} %",
        "",
        rate=header / 100,
        block=block,
    )


def layout(protocol: str, *columns: LayoutColumn, law: str = LAW) -> Layout:
    axis = "share of cells absent"
    return Layout("toy", protocol, protocol.title(), "rates", columns, "attributes", axis, law)


TEST_RATES = layout("c-tr+m-te", column(0, 0, 0), column(0, 30, 30))
TRAIN_RATES = layout("m-tr+c-te", column(0, 0, 0), column(30, 0, 30))
GRID = layout(
    "m-tr+m-te",
    *(column(train, test, test, f"train {train} %") for train in (0, 50) for test in (0, 30)),
)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def trained(study: StudyFolder, percent: int, scores: dict[int, Any], **changes: Any) -> None:
    """Store a run trained at a rate: rate at test -> probabilities."""
    by_condition = {test_condition(test): p for test, p in scores.items()}
    values = {"selection": "as-trained", "setting": setting(percent), **changes}
    finished(study, binary(by_condition), long_names={}, **values)


def build(study: StudyFolder, shown: Layout, **options: Any) -> Table:
    return PLUGIN().build(load_results(study), shown, ReportOptions(**options))


def cell(table: Table, label: str, metric: str, header: str, block: str = "") -> Cell:
    place = (metric, header, block)
    c = next(i for i, e in enumerate(table.columns) if (e.group, e.header, e.block) == place)
    return row(table, label).cells[c]


def row(table: Table, label: str) -> Row:
    return next(each for each in table.rows if each.label == label)


def notes_of(table: Table, each: Row | Cell) -> str:
    return " ".join(table.footnotes[mark] for mark in each.marks)


def test_a_row_runs_over_the_trainings_of_its_columns(study: StudyFolder) -> None:
    trained(study, 0, {0: ACC_100_AUC_100})
    trained(study, 30, {0: ACC_50_AUC_75})
    table = build(study, TRAIN_RATES)
    assert [(each.header, each.training) for each in table.columns[:3]] == [
        ("0 %", "complete"),
        ("30 %", "attribute-30"),
        ("AVG", ""),
    ]
    assert [each.value for each in table.rows[0].cells] == [100.0, 50.0, 75.0, 100.0, 75.0, 87.5]
    assert len(table.rows) == 1


def test_avg_is_over_repeats_of_each_repeats_mean_over_trainings(study: StudyFolder) -> None:
    trained(study, 0, {0: ACC_100_AUC_100}, seed=0)
    trained(study, 30, {0: ACC_100_AUC_100}, seed=0)
    trained(study, 0, {0: ACC_100_AUC_100}, seed=1)
    trained(study, 30, {0: ACC_0_AUC_0}, seed=1)
    found = cell(build(study, TRAIN_RATES), "concat", "ACC", "AVG")
    # means of the repeats: 100 and 50
    assert (found.value, found.n_repeats) == (75.0, 2)
    assert found.spread == pytest.approx(50 / 2**0.5)


def test_protocols_that_share_a_training_show_it_each(study: StudyFolder) -> None:
    trained(study, 0, {0: ACC_100_AUC_100, 30: ACC_50_AUC_75})
    trained(study, 30, {0: ACC_0_AUC_0})
    results = load_results(study)
    test, train = tables_of(results, [TEST_RATES, TRAIN_RATES], ReportOptions(metrics=("ACC",)))
    assert [each.value for each in test.rows[0].cells] == [100.0, 50.0, 75.0]
    assert [each.value for each in train.rows[0].cells] == [100.0, 0.0, 50.0]


def test_a_grid_has_a_block_and_an_avg_per_training(study: StudyFolder) -> None:
    trained(study, 0, {0: ACC_100_AUC_100, 30: ACC_50_AUC_75})
    trained(study, 50, {0: ACC_50_AUC_75, 30: ACC_0_AUC_0})
    table = build(study, GRID, metrics=("ACC",))
    assert [title for title, _ in table.blocks()] == ["ACC (%), train 0 %", "ACC (%), train 50 %"]
    assert [each.value for each in table.rows[0].cells] == [100.0, 50.0, 75.0, 50.0, 0.0, 25.0]
    assert "mean over the columns of its block." in " ".join(table.caption)


def test_an_only_block_is_named_in_the_title(study: StudyFolder) -> None:
    trained(study, 50, {0: ACC_50_AUC_75, 30: ACC_0_AUC_0})
    shown = layout("m-tr+m-te", *GRID.columns[2:])
    table = build(study, shown, metrics=("ACC",))
    assert table.title == "toy, M-Tr+M-Te (attributes, train 50 %)"
    assert [title for title, _ in table.blocks()] == ["ACC (%)"]


def test_a_training_that_a_method_cannot_take_is_a_word_with_its_reason(study: StudyFolder) -> None:
    for method in ("concat", "strict"):
        trained(study, 0, {0: ACC_100_AUC_100}, method=method)
    trained(study, 30, {0: ACC_50_AUC_75})
    reason = "needs complete training data"
    skipped(study, reason, method="strict", selection="as-trained", setting=setting(30))
    table = build(study, TRAIN_RATES)
    assert cell(table, "strict", "ACC", "0 %").value == 100.0
    absent = cell(table, "strict", "ACC", "30 %")
    assert (absent.value, absent.text) == (None, "n/a")
    assert notes_of(table, absent) == f"n/a: {reason}."
    assert cell(table, "strict", "ACC", "AVG").text == "-"
    assert not row(table, "strict").marks


def test_a_repeat_that_failed_at_one_rate_is_left_out_of_avg_and_said(study: StudyFolder) -> None:
    for seed in (0, 1):
        trained(study, 0, {0: ACC_100_AUC_100}, seed=seed)
    trained(study, 30, {0: ACC_50_AUC_75}, seed=0)
    failed(study, "out of memory", seed=1, selection="as-trained", setting=setting(30))
    table = build(study, TRAIN_RATES)
    at_30, average = (cell(table, "concat", "ACC", header) for header in ("30 %", "AVG"))
    assert (at_30.value, at_30.n_repeats) == (50.0, 1)
    assert notes_of(table, at_30) == (
        "1 of 2 repeats done; failed: out of memory (fold 0, seed 1)."
    )
    assert (average.value, average.n_repeats) == (75.0, 1)
    assert notes_of(table, average) == "Without fold 0, seed 1, not done in every training."
    assert cell(table, "concat", "ACC", "0 %").n_repeats == 2


def test_a_rate_that_nobody_trained_yet_is_a_dash(study: StudyFolder) -> None:
    trained(study, 0, {0: ACC_100_AUC_100})
    table = build(study, TRAIN_RATES)
    found = cell(table, "concat", "ACC", "30 %")
    assert (found.text, found.marks) == ("-", ())
    assert cell(table, "concat", "ACC", "AVG").value == 100.0


def test_the_caption_says_law_rates_and_turns_that_passed(study: StudyFolder) -> None:
    for seed, share in enumerate((0.298, 0.303)):
        facts = {
            "gaps": drawn(0.5, n_displaced=2),
            "condition_gaps": {
                "as-is": drawn(),
                "attribute-30": drawn(share, 0.3, n_displaced=1),
            },
        }
        for method in ("a", "b"):  # methods share the draw: it counts once
            scores = {0: ACC_100_AUC_100, 30: ACC_50_AUC_75}
            trained(study, 50, scores, method=method, seed=seed, facts=facts)
    caption = " ".join(build(study, layout("m-tr+m-te", *GRID.columns[2:])).caption)
    for part in (
        "Columns: share of cells absent.",
        f"Absent: {LAW}.",
        "Realised in training, range over columns and repeats: 50.0 % at 50 %.",
        "Realised at test, range over columns and repeats: 29.8 to 30.3 % at 30 %.",
        "The draw is not completely at random: 6 turns fell on a case's last cell and passed to "
        "another case (4 in training, 50 %; 2 at test, 30 %).",
        'In AlignedFusion\'s words as-trained is the row "(Miss Val.)".',
        "4 test cases in all, n per column.",
    ):
        assert part in caption


def test_gaps_that_are_not_at_random_are_marked(study: StudyFolder) -> None:
    trained(study, 0, {0: ACC_100_AUC_100, 30: ACC_50_AUC_75})
    table = build(study, layout("c-tr+m-te", *TEST_RATES.columns, law=NOT_AT_RANDOM))
    caption = " ".join(table.caption)
    assert "NOT at random: by the label" in caption
    assert "turn" not in caption


def test_complete_training_has_the_validation_of_the_papers_plain_row(study: StudyFolder) -> None:
    trained(study, 0, {0: ACC_100_AUC_100, 30: ACC_50_AUC_75})
    caption = " ".join(build(study, TEST_RATES).caption)
    assert "the plain row in AlignedFusion's words" in caption
    assert "Miss Val." not in caption


def test_both_rules_of_selection_are_rows_of_one_table(study: StudyFolder) -> None:
    trained(study, 30, {0: ACC_100_AUC_100})
    trained(study, 30, {0: ACC_50_AUC_75}, selection="complete")
    (first,) = (each for each in TRAIN_RATES.columns if each.setting == "attribute-30")
    second = LayoutColumn("attribute-30", "complete", "as-is", "30 %", "", rate=0.3)
    table = build(study, layout("m-tr+c-te", first, second), metrics=("ACC",))
    assert {each.label: each.cells[0].value for each in table.rows} == {
        "concat (as-trained)": 100.0,
        "concat (complete)": 50.0,
    }
    assert [each.header for each in table.columns] == ["30 %", "AVG"]
    caption = " ".join(table.caption)
    assert 'as-trained is the row "(Miss Val.)"' in caption
    assert "complete is the plain row" in caption


def test_a_study_prints_its_protocols_alike_whether_trained_or_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path)]
    asked = ["run", "-m", "pattern-only", "--no-floor", "--folds", "0", "--rates", "0,0.3", "-q"]
    asked += [part for name in ("m-tr+c-te", "c-tr+m-te", "natural") for part in ("-p", name)]
    printed = []
    for command in (asked, asked, ["table"]):  # trained, found, and read
        assert call(*command, *out) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    titles = [line for line in printed[0].splitlines() if line.startswith("###")]
    assert titles == [
        "### wdbc, M-Tr+C-Te (attributes)",
        "### wdbc, C-Tr+M-Te (attributes)",
        "### wdbc, Natural gaps",
    ]
    (study_file,) = tmp_path.rglob("study.json")
    (entry,) = json.loads(study_file.read_text())["requests"].values()
    assert [each["kind"] for each in entry["layouts"]] == ["rates", "rates", "single"]
    header = next(line for line in printed[0].splitlines() if line.startswith("| ACC (%)"))
    assert [part.strip() for part in header.split("|")[2:-1]] == ["0 %", "30 %", "AVG"]


def grid_table(study: StudyFolder) -> Table:
    for seed in (0, 1):
        for method in ("logistic-specialist", "alignedfusion:paper"):
            for percent in (0, 50):
                scores = {0: ACC_100_AUC_100, 30: ACC_50_AUC_75}
                trained(study, percent, scores, method=method, seed=seed)
    return build(study, GRID, worst=True, monotonicity=True)


def test_markdown_fits_the_terminal(study: StudyFolder) -> None:
    text = to_markdown(grid_table(study))
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(study: StudyFolder, tmp_path: Path) -> None:
    (tmp_path / "t.tex").write_text(to_latex(grid_table(study), standalone=True), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
