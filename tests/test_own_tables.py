"""A user's own table is one file: named with `--report`, found with `--include`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.pages.page import write_report
from bench.store import StudyFolder
from tests.command_line import call
from tests.synthetic_runs import ACC_50_AUC_75, ACC_100_AUC_100, binary, finished

PLUGIN = '''"""How far the columns of each row lie apart."""

from bench.report import DEFAULTS, Report
from bench.scores import rows_of, runs_of, scores
from bench.tables import Cell, Column, Row, RowGroup, Table


class Range(Report):
    """Best less worst column, in percent, of the first repeat."""

    name = "range-of-columns"
    display_name = "Range of columns"
    KINDS

    def build(self, results, layout, options=DEFAULTS):
        """Make the table."""
        columns = tuple(Column(name, "range", name) for name in options.metrics)
        rows = []
        for row in rows_of(runs_of(results, layout)):
            found = scores(row.done[0], options.metrics)
            spans = found.groupby("metric")["value"].agg(lambda x: 100 * (x.max() - x.min()))
            cells = tuple(Cell(float(spans[column.group])) for column in columns)
            rows.append(Row(row.label, cells))
        groups = (RowGroup("", tuple(rows)),)
        return Table(f"{layout.title}: range", columns, groups, ("Best less worst.",))


PLUGIN = Range
'''


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    study = StudyFolder(tmp_path / "results", "main").create()
    for seed in range(2):
        predictions = binary({"0": ACC_50_AUC_75, "1": ACC_100_AUC_100})
        finished(study, predictions, method="a", seed=seed)
    return study


def write(folder: Path, kinds: str = "") -> Path:
    path = folder / "range_of_columns.py"
    path.write_text(PLUGIN.replace("KINDS", kinds))
    return path


def table(study: StudyFolder, *arguments: str) -> int:
    return call("table", "--out", str(study.root), *arguments)


@pytest.mark.parametrize("output", ["markdown", "latex", "csv"])
def test_it_is_printed_in_every_format(
    study: StudyFolder, tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    asked = ("--report", "range-of-columns", "--include", str(path), "--format", output)
    assert table(study, *asked) == 0
    out = capsys.readouterr().out
    assert "range" in out
    assert "50.0" in out  # ACC 100 less 50
    assert "25.0" in out  # AUC 100 less 75


def test_it_is_taken_into_the_report_of_a_study(study: StudyFolder, tmp_path: Path) -> None:
    page, *_ = write_report(study, include=[write(tmp_path)])
    assert ": range" in page.read_text()
    assert "Best less worst." in page.read_text()


def test_a_table_for_other_layouts_is_refused_and_left_out_of_the_page(
    study: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, 'kinds = ("rates",)')
    assert table(study, "--report", "range-of-columns", "--include", str(path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "range-of-columns is no table for what this study has (subsets)" in line
    page, *_ = write_report(study, include=[path])
    assert ": range" not in page.read_text()


def test_names_that_are_not_there_and_figures_are_refused(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table(study, "--report", "rnage") == 2
    assert "no report is named 'rnage'" in capsys.readouterr().err
    assert table(study, "--report", "heatmap") == 2
    assert "say `bench figure heatmap`" in capsys.readouterr().err


def test_a_built_in_table_can_be_named_too(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table(study) == 0
    usual = capsys.readouterr().out
    assert table(study, "--report", "subsets") == 0
    assert capsys.readouterr().out == usual
