"""The neutral table and its writers."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.reporting.printing import print_built
from bench.tables import (
    Cell,
    Column,
    Footnotes,
    Row,
    RowGroup,
    Table,
    mark_best,
    to_csv,
    to_latex,
    to_markdown,
)
from bench.tables.csv import FIELDS

NASTY = r"a&b%c_d#e$f{g}h^i~j\k <l> |m| [n] *o* `p` --q"


def columns(*keys: str, group: str = "AUC") -> tuple[Column, ...]:
    return tuple(Column(key, key, group, unit="%", n=320) for key in keys)


def values(*numbers: float | None) -> tuple[Cell, ...]:
    return tuple(Cell(text="failed") if each is None else Cell(each) for each in numbers)


def marks_of(table_rows: tuple[Row, ...], column: int = 0) -> str:
    words = {(True, False): "best", (False, True): "second", (False, False): "none"}
    cells = [row.cells[column] for row in table_rows]
    return " ".join(words[cell.best, cell.second] for cell in cells)


@pytest.fixture
def table() -> Table:
    heads = (*columns("0", "012"), Column("AVG", "AVG", "AUC", unit="%"))
    heads += (Column("0", "0", "ACC", long_header="mean", unit="%", n=320),)
    rows = (
        Row(
            "cmml",
            (
                Cell(81.678, 1.504, best=True, n=320, n_repeats=3),
                Cell(89.42, 0.794, marks=("*", "a"), second=True),
                Cell(87.49),
                Cell(75.0),
            ),
        ),
        Row("sfusion", (Cell(text="failed"),) * 4, marks=("b",)),
    )
    notes = {"a": "Without fold 0, seed 1.", "b": "failed: out of memory"}
    caption = ("Mean ± sample SD over 3 repeats.", "320 test cases.")
    return Table("Derm7pt", heads, (RowGroup("binary", rows),), caption, notes)


def test_a_row_needs_a_cell_per_column() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("t", columns("0", "1"), (RowGroup("", (Row("a", values(1.0)),)),))


def test_best_and_second_are_decided_on_unrounded_values() -> None:
    rows = [Row("a", values(80.001)), Row("b", values(80.004)), Row("c", values(79.0))]
    assert marks_of(mark_best(rows, columns("0"))) == "second best none"


def test_ties_share_the_mark() -> None:
    rows = [Row("row", values(value)) for value in (0.3, 0.1 + 0.2, 0.2, 0.2)]
    assert marks_of(mark_best(rows, columns("0"))) == "best best second second"


def test_words_are_never_best_and_one_number_has_no_rival() -> None:
    rows = [Row("a", values(1.0)), Row("b", values(None))]
    assert marks_of(mark_best(rows, columns("0"))) == "none none"


def test_the_column_says_which_direction_is_better() -> None:
    rows = [Row("a", values(1.0)), Row("b", values(2.0))]
    lower = (replace(columns("0")[0], better="lower"),)
    neither = (replace(columns("0")[0], better="neither"),)
    assert marks_of(mark_best(rows, lower)) == "best second"
    assert marks_of(mark_best(rows, neither)) == "none none"


def test_equal_footnotes_share_a_letter_and_letters_never_end() -> None:
    notes = Footnotes()
    marks = [notes.mark(f"sentence {i}") for i in range(28)]
    assert (marks[0], marks[25], marks[26], marks[27]) == ("a", "z", "aa", "ab")
    assert notes.mark("sentence 0") == "a"
    assert notes.as_mapping()["ab"] == "sentence 27"


def test_markdown_has_one_aligned_block_per_metric(table: Table) -> None:
    lines = to_markdown(table).splitlines()
    assert lines[0] == "### Derm7pt"
    assert lines[2:8] == [
        "| AUC (%)     |                0 |                 012 |    AVG |",
        "| ----------- | ---------------: | ------------------: | -----: |",
        "| n           |              320 |                 320 |        |",
        "| _binary_    |                  |                     |        |",
        "| cmml        | **81.68** ± 1.50 | _89.42_ ± 0.79* [a] |  87.49 |",
        "| sfusion [b] |           failed |              failed | failed |",
    ]
    blocks = [line for line in lines if line.startswith(("| AUC", "| ACC"))]
    assert len(blocks) == 2
    assert "Mean ± sample SD over 3 repeats. 320 test cases." in lines
    assert "- [b] failed: out of memory" in lines


def test_markdown_blocks_are_rectangles(table: Table) -> None:
    for block in to_markdown(table).split("\n\n"):
        lengths = {len(line) for line in block.splitlines() if line.startswith("|")}
        assert len(lengths) <= 1


def test_markdown_fits_the_terminal_and_loses_no_column() -> None:
    keys = [f"{i:07b}" for i in range(1, 16)]
    cells = tuple(Cell(80.0 + i, 1.25, marks=("a",)) for i in range(15))
    wide = Table("t", columns(*keys), (RowGroup("", (Row("logistic-specialist", cells),)),))
    text = to_markdown(wide, width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert all(text.count(key) == 1 for key in keys)
    assert text.count("logistic-specialist") == text.count("AUC (%)") > 1


def test_markdown_wraps_the_caption(table: Table) -> None:
    long = replace(table, caption=("word " * 60,))
    assert max(map(len, to_markdown(long, width=72).splitlines())) <= 72


@pytest.mark.parametrize(
    ("is_terminal", "columns_of_terminal", "widest"),
    [(True, "80", 80), (True, "200", 200), (False, "80", 100)],
)
def test_tables_are_as_wide_as_the_terminal_and_as_a_page_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_terminal: bool,
    columns_of_terminal: str,
    widest: int,
) -> None:
    monkeypatch.setenv("COLUMNS", columns_of_terminal)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    column, cell = Column("0", "0", "AUC", unit="%"), Cell(80.0, 1.25)
    row = Row("logistic-specialist", (cell,) * 15)
    wide = Table("t", (column,) * 15, (RowGroup("", (row,)),), ("word " * 60,))
    print_built([wide], "markdown")
    lines = capsys.readouterr().out.splitlines()
    blocks = [len(line) for line in lines if line.startswith("|")]
    assert widest - 15 < max(blocks) <= widest
    assert max(len(line) for line in lines if "word" in line) <= min(widest, 100)


def test_markdown_escapes_what_it_would_read_as_markup() -> None:
    named = Table(NASTY, columns("0"), (RowGroup("", (Row("a_b|c", values(1.0)),)),))
    text = to_markdown(named)
    assert r"a_b\|c" in text
    assert r"\<l> \|m\| \[n\] \*o\* \`p\`" in text


def test_latex_has_the_structure_of_a_booktabs_table(table: Table) -> None:
    text = to_latex(table)
    assert text.count(r"\begin{tabular}{@{}l*{3}{r}@{}}") == 1
    assert text.count(r"\begin{tabular}{@{}l*{1}{r}@{}}") == 1
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 2
    assert r"\hline" not in text
    assert not re.search(r"\\begin\{tabular\}\{[^\n]*\|", text)
    assert r"{cmml} & \best{81.68}\pms{1.50} & \second{89.42}\pms{0.79}\sig{*,a} & 87.49\\" in text
    assert r"\multicolumn{4}{@{}l}{\textit{binary}}\\" in text
    assert r"{sfusion\textsuperscript{b}} & failed & failed & failed\\" in text
    assert r"\caption{Derm7pt. Mean $\pm$ sample SD over 3 repeats. 320 test cases.}" in text
    assert r"\textsuperscript{b}\,failed: out of memory" in text


def test_latex_continues_wide_blocks_below(table: Table) -> None:
    keys = [str(i) for i in range(10)]
    wide = Table("t", columns(*keys), (RowGroup("", (Row("a", (Cell(1.0),) * 10),)),))
    text = to_latex(wide, max_columns=8)
    assert r"@{}l*{8}{r}@{}" in text
    assert r"@{}l*{2}{r}@{}" in text


def test_latex_escapes_every_string() -> None:
    notes = {"a": NASTY}
    heads = (Column("0", NASTY, NASTY, n=1),)
    row = Row(NASTY, (Cell(text=NASTY),), marks=("a",))
    text = to_latex(Table(NASTY, heads, (RowGroup(NASTY, (row,)),), (NASTY,), notes))
    escaped = (
        r"a\&b\%c\_d\#e\$f\{g\}h\textasciicircum{}i\textasciitilde{}j\textbackslash{}k "
        r"\textless{}l\textgreater{} \textbar{}m\textbar{} [n] *o* \`{}p\`{} -{}-q"
    )
    assert text.count(escaped) == 8
    assert NASTY not in text


def test_latex_writes_the_code_point_of_what_it_has_no_glyph_for() -> None:
    text = to_latex(Table("Klinik Zürich, 皮肤, ħ", columns("0"), ()))
    assert "Klinik Zürich, U+76AEU+80A4, U+0127" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(table: Table, tmp_path: Path) -> None:
    named = "äßø" + NASTY
    rows = (Row("[x]", table.rows[0].cells), Row(named, table.rows[1].cells, marks=("b",)))
    nasty = replace(
        table, title=named, groups=(*table.groups, RowGroup(named, rows)), footnotes={"b": named}
    )
    (tmp_path / "t.tex").write_text(to_latex(nasty, standalone=True), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 0


def test_csv_has_a_line_per_row_condition_and_metric_with_unrounded_numbers(table: Table) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(lines) == 2 * 4
    assert tuple(lines[0]) == FIELDS
    assert lines[0] == {
        "table": "Derm7pt",
        "group": "binary",
        "row": "cmml",
        "training": "",
        "condition": "0",
        "condition_name": "",
        "metric": "AUC",
        "unit": "%",
        "mean": "81.678",
        "sd": "1.504",
        "n": "320",
        "repeats": "3",
        "p": "",
        "p_adjusted": "",
        "text": "",
        "marks": "",
    }
    assert lines[3]["condition_name"] == "mean"
    assert (lines[4]["mean"], lines[4]["text"], lines[4]["marks"]) == ("", "failed", "b")


def test_csv_tables_can_be_joined(table: Table) -> None:
    both = to_csv(table) + to_csv(replace(table, title="other"), header=False)
    assert {line["table"] for line in csv.DictReader(io.StringIO(both))} == {"Derm7pt", "other"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\n=1"])
def test_csv_disarms_formulas(text: str) -> None:
    one = Table("t", columns("0"), (RowGroup("", (Row(text, values(-1.5)),)),))
    line = next(csv.DictReader(io.StringIO(to_csv(one))))
    assert line["row"] == "'" + text.strip()
    assert line["mean"] == "-1.5"


def test_columns_of_one_metric_stand_in_blocks_with_titles() -> None:
    heads = (
        Column("0", "0 %", "AUC", unit="%", block="training 0 %", training="complete"),
        Column("0", "0 %", "AUC", unit="%", block="training 50 %", training="attribute-50"),
    )
    one = Table("t", heads, (RowGroup("", (Row("a", values(1.0, 2.0)),)),))
    assert one.blocks() == [("AUC (%), training 0 %", [0]), ("AUC (%), training 50 %", [1])]
    lines = list(csv.DictReader(io.StringIO(to_csv(one))))
    assert [(each["metric"], each["training"]) for each in lines] == [
        ("AUC", "complete"),
        ("AUC", "attribute-50"),
    ]


def test_a_note_follows_the_number_in_brackets() -> None:
    cell = Cell(71.251, 0.5, note="1_2", marks=("a",), best=True)
    one = Table("t", columns("Worst"), (RowGroup("", (Row("a", (cell,)),)),))
    assert "**71.25** ± 0.50 (1_2) [a]" in to_markdown(one)
    assert r"\best{71.25}\pms{0.50}\,{\scriptsize(1\_2)}\sig{a}" in to_latex(one)
    assert next(csv.DictReader(io.StringIO(to_csv(one))))["text"] == "1_2"
