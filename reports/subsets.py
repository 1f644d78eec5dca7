"""Methods by test conditions, one table per dataset and training setting: the papers' main table.

ACC and AUC in percent, each condition a column, AVG at the end. What has no number says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench import captions
from bench.errors import unknown
from bench.report import DEFAULTS, Report, ReportOptions
from bench.results import (
    Repeat,
    RowRuns,
    RunResult,
    ScoreGrid,
    Summary,
    by_table,
    cases_scored,
    metric_named,
    rows_of,
    score_grid,
)
from bench.tables import DASH, Cell, Column, Footnotes, Row, RowGroup, Table, mark_best

AVERAGE = "AVG"
WORDS = {"failed": "failed", "running": "running", "pending": "pending", "skipped": "n/a"}


@dataclass(frozen=True, eq=False)
class Contents:
    """What one table is made of."""

    rows: Sequence[RowRuns]
    conditions: Mapping[str, str]  # name -> long name, in the order of the columns
    n_cases: Mapping[str, int]  # condition -> distinct cases
    repeats: Sequence[Repeat]  # those of any row
    grids: Sequence[ScoreGrid]  # one per row
    options: ReportOptions
    notes: Footnotes

    @classmethod
    def of(cls, runs: Sequence[RunResult], options: ReportOptions) -> Contents:
        """Score the runs of one table."""
        rows = rows_of(runs)
        conditions = _conditions(rows, options.conditions)
        done = [run for row in rows for run in row.done]
        return cls(
            rows,
            conditions,
            {name: len(cases_scored(done, name)) for name in conditions},
            sorted({run.repeat for run in runs}),
            [score_grid(row.done, tuple(conditions), options.metrics) for row in rows],
            options,
            Footnotes(),
        )

    def averaged(self, metric: str) -> list[str]:
        """List the conditions that AVG is over: those in which some row has a score."""
        return [
            name
            for name in self.conditions
            if any(grid.has_value(metric, name) for grid in self.grids)
        ]


def _conditions(rows: Sequence[RowRuns], wanted: Sequence[str]) -> dict[str, str]:
    """Collect the conditions of all runs, or those wanted.

    Raises:
        UnknownName: one that is wanted was never tested.
    """
    known = {
        name: long for row in rows for run in row.done for name, long in run.conditions.items()
    }
    for name in wanted:
        if name not in known:
            raise unknown("tested condition", name, known)
    return {name: known[name] for name in wanted or known}


class SubsetsTable(Report):
    """ACC and AUC of every row under every condition, with AVG."""

    name = "subsets"
    display_name = "Subsets table"

    def build(self, results: Sequence[RunResult], options: ReportOptions = DEFAULTS) -> list[Table]:
        """Make one table per dataset and training setting, rows in the order given."""
        return [
            _table(f"{dataset}, training: {setting}", Contents.of(runs, options))
            for (dataset, setting), runs in by_table(results).items()
        ]


def _table(title: str, contents: Contents) -> Table:
    columns = tuple(
        column for metric in contents.options.metrics for column in _columns(contents, metric)
    )
    rows = [
        _row(contents, row, grid) for row, grid in zip(contents.rows, contents.grids, strict=True)
    ]
    return Table(
        title,
        columns,
        (RowGroup("", mark_best(rows, columns)),),
        _caption(contents),
        contents.notes.as_mapping(),
    )


# --- columns ----------------------------------------------------------------------------------


def _columns(contents: Contents, metric: str) -> list[Column]:
    better = metric_named(metric).better
    averaged = contents.averaged(metric)
    columns = [
        Column(
            name,
            name,
            metric,
            long_header=long,
            unit="%",
            n=contents.n_cases[name],
            better=better,
            marks=() if name in averaged else (contents.notes.mark(_why_empty(contents, name)),),
        )
        for name, long in contents.conditions.items()
    ]
    return [*columns, Column(AVERAGE, AVERAGE, metric, long_header="mean", unit="%", better=better)]


def _why_empty(contents: Contents, condition: str) -> str:
    if not contents.n_cases[condition]:
        return f"Column {condition} has no test cases and is left out of {AVERAGE}."
    return (
        f"The cases of column {condition} are of one class, so that the AUC is undefined; it is "
        f"left out of {AVERAGE}."
    )


# --- rows -------------------------------------------------------------------------------------


def _row(contents: Contents, row: RowRuns, grid: ScoreGrid) -> Row:
    sentences = [f"Row {row.label}: {row.differs}."] if row.differs else []
    sentences += [captions.outcome_sentence(row, contents.repeats)]
    marks = tuple(contents.notes.mark(sentence) for sentence in sentences if sentence)
    if not row.done:
        n_columns = len(contents.options.metrics) * (len(contents.conditions) + 1)
        return Row(row.label, (Cell(text=_word(row)),) * n_columns, marks)
    cells = []
    for metric in contents.options.metrics:
        cells += [_condition_cell(contents, grid, metric, name) for name in contents.conditions]
        cells.append(_average_cell(contents, grid, metric))
    return Row(row.label, tuple(cells), marks)


def _word(row: RowRuns) -> str:
    """Say in a word what became of a row without a finished run."""
    states = {run.state for run in row.runs}
    return next(word for state, word in WORDS.items() if state in states)


def _condition_cell(contents: Contents, grid: ScoreGrid, metric: str, condition: str) -> Cell:
    if condition not in contents.averaged(metric):
        return Cell(text=DASH, n=contents.n_cases[condition], n_repeats=0)
    found = grid.cell(metric, condition)
    n_cases = grid.n_cases[condition]
    if not found.n_repeats:
        what = "undefined" if n_cases else "not evaluated"
        mark = contents.notes.mark(f"This row is {what} in column {condition}.")
        return Cell(text=DASH, n=n_cases, n_repeats=0, marks=(mark,))
    return _cell(contents, found, n_cases, "this column")


def _average_cell(contents: Contents, grid: ScoreGrid, metric: str) -> Cell:
    found = grid.average(metric, contents.averaged(metric))
    if not found.n_repeats:
        mark = contents.notes.mark(f"No repeat has a score in every column that {AVERAGE} is over.")
        return Cell(text=DASH, n_repeats=0, marks=(mark,))
    return _cell(contents, found, None, "a column")


def _cell(contents: Contents, found: Summary, n: int | None, where: str) -> Cell:
    """Print a mean in percent, with a footnote for whatever it leaves out."""
    sentences = []
    if found.undefined:
        which = "; ".join(map(captions.repeat_name, found.undefined))
        sentences.append(f"Without {which}, where {where} is undefined: no cases, or one class.")
    if found.flagged:
        which = "; ".join(map(captions.repeat_name, found.flagged))
        sentences.append(
            f"In {which}, {where} lacks a class: that AUC is the mean over the classes there."
        )
    return Cell(
        100 * found.mean,
        None if found.spread is None else 100 * found.spread,
        contents.options.digits,
        marks=tuple(contents.notes.mark(sentence) for sentence in sentences),
        n=n,
        n_repeats=found.n_repeats,
    )


# --- caption ----------------------------------------------------------------------------------


def _caption(contents: Contents) -> tuple[str, ...]:
    rows, options = contents.rows, contents.options
    sentences = [
        captions.metrics_sentence(options.metrics, _n_classes(rows)),
        captions.repeats_sentence(contents.repeats),
        captions.average_sentence(len(contents.repeats)),
        "Best bold, second underlined, on unrounded means.",
        captions.cases_sentence(rows, contents.n_cases.values()),
        captions.columns_sentence(contents.conditions),
        captions.budget_sentence(rows, options.preset),
        captions.selection_sentence(rows),
        captions.dropout_sentence(rows),
        captions.arena_sentence(rows),
    ]
    if "AUC" in options.metrics:
        sentences += captions.constant_sentences(rows, tuple(contents.conditions))
    return tuple(sentence for sentence in sentences if sentence)


def _n_classes(rows: Sequence[RowRuns]) -> int:
    """Return K, 0 if no run has predictions."""
    widths = (p.shape[1] for row in rows for run in row.done for _, _, p in run.parts.values())
    return next(widths, 0)


PLUGIN = SubsetsTable
