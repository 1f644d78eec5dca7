"""The table of scores that reports share: rows by the columns of a layout, AVG and its kin beside.

What has no number says why: a word in its place, a dash with a footnote, never a gap. A report
adds the sentences of its caption that are its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bench.errors import unknown
from bench.layout import Layout, LayoutColumn
from bench.report import ReportOptions
from bench.reporting.published import CAPTION, PrintedColumn, published_groups
from bench.scores import captions, significance
from bench.scores.contest import Entrant, Target
from bench.scores.metrics import Metric, metric_named
from bench.scores.monotonicity import pairs_sentence, violations_sentence
from bench.scores.results import Repeat, RunResult
from bench.scores.rows import RowRuns, rows_of, runs_of
from bench.scores.scoring import Place, ScoreGrid, Summary, cases_scored, common_cases, score_grid
from bench.scores.significance import Claim, Family, family_of
from bench.scores.subgroups import Subgroup, subgroups_of
from bench.tables import DASH, Cell, Column, Footnotes, Row, RowGroup, Table, mark_best

AVERAGE, EXPECTED, WORST = "AVG", "Expected", "Worst"
EXTRAS = {AVERAGE: "mean", EXPECTED: "mean under stated probabilities", WORST: "worst column"}
WORDS = {
    "failed": "failed",
    "damaged": "damaged",
    "running": "running",
    "pending": "pending",
    "skipped": "n/a",
}
NOT_TESTED = "No finished run of this row tested this column."
UNDEFINED = "Undefined in every repeat: this column has no cases, or one class."


@dataclass(frozen=True, eq=False)
class Contents:
    """What one table is made of."""

    layout: Layout
    columns: tuple[LayoutColumn, ...]  # one per place
    rows: Sequence[RowRuns]
    options: ReportOptions
    notes: Footnotes

    @classmethod
    def of(cls, results: Sequence[RunResult], layout: Layout, options: ReportOptions) -> Contents:
        """Choose the runs and columns of one table."""
        layout = layout.unblocked()
        columns: dict[Place, LayoutColumn] = {}
        for column in layout.columns:  # rows of different rules share a column
            columns.setdefault(column.place, column)
        rows = rows_of(runs_of(results, layout))
        if options.common_cases:
            done = [run for row in rows for run in row.done]
            common = common_cases(done, columns)
            rows = [row.of_cases(lambda run: common.get(run.repeat, ())) for row in rows]
        return cls(layout, tuple(columns.values()), rows, options, Footnotes())

    @cached_property
    def done(self) -> list[RunResult]:
        """The finished runs."""
        return [run for row in self.rows for run in row.done]

    @cached_property
    def repeats(self) -> list[Repeat]:
        """Those of any row and training."""
        return sorted({run.repeat for row in self.rows for run in row.runs})

    @cached_property
    def blocks(self) -> dict[str, list[LayoutColumn]]:
        """The columns that stand together."""
        blocks: dict[str, list[LayoutColumn]] = {}
        for column in self.columns:
            blocks.setdefault(column.block, []).append(column)
        return blocks

    @cached_property
    def settings(self) -> dict[str, list[Repeat]]:
        """By training setting, the repeats of any row."""
        return {
            setting: sorted(
                {run.repeat for row in self.rows for run in row.runs if run.setting == setting}
            )
            for setting in dict.fromkeys(column.setting for column in self.columns)
        }

    @cached_property
    def n_cases(self) -> dict[Place, int]:
        """By place, the distinct cases over all rows and repeats."""
        return {column.place: len(cases_scored(self.done, column.place)) for column in self.columns}

    def weights(self, block: str) -> list[float] | None:
        """Return the stated probability of each column of a block; None if they do not fit it."""
        wanted = self.options.weights
        names = [column.condition for column in self.blocks[block]]
        fits = bool(wanted) and set(wanted) <= set(names) and len(set(names)) == len(names)
        return [wanted.get(name, 0.0) for name in names] if fits else None

    def extras(self, block: str) -> list[str]:
        """List the columns that follow those of a block."""
        average = [AVERAGE] if self.layout.kind != "single" else []
        expected = [EXPECTED] if self.weights(block) else []
        return average + expected + [WORST] * (self.options.worst or bool(self.options.weights))


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of a table for all its cases, or for one subgroup of them."""

    contents: Contents
    subgroup: Subgroup
    grids: Sequence[ScoreGrid]  # one per row
    is_whole: bool = True  # all cases of the table

    @classmethod
    def of(cls, contents: Contents, subgroup: Subgroup) -> Part:
        """Score the finished runs."""
        places = [column.place for column in contents.columns]
        metrics = contents.options.metrics
        grids = [score_grid(row.done, places, metrics) for row in subgroup.rows]
        return cls(contents, subgroup, grids, subgroup.rows is contents.rows)

    @cached_property
    def averaged(self) -> dict[tuple[str, str], list[LayoutColumn]]:
        """By metric and block, the columns that AVG is over: where some row has a score."""
        return {
            (metric, block): [
                column
                for column in members
                if any(grid.has_value(metric, column.place) for grid in self.grids)
            ]
            for metric in self.contents.options.metrics
            for block, members in self.contents.blocks.items()
        }

    @cached_property
    def families(self) -> dict[str, Family]:
        """By metric, the comparisons with the reference; empty where nothing is to be tested."""
        claim, rows = self.contents.options.claim, self.subgroup.rows
        is_wanted = claim.test != "none" and self.is_whole and len(rows) > 1
        if not is_wanted or (claim == Claim() and len(self.contents.repeats) < 2):
            return {}
        entrants = [Entrant(row, grid) for row, grid in zip(rows, self.grids, strict=True)]
        first = reference_of([row.label for row in rows], claim.reference)
        others = entrants[:first] + entrants[first + 1 :]
        return {
            metric: family_of(
                metric_named(metric), self._targets(metric), entrants[first], others, claim
            )
            for metric in self.contents.options.metrics
        }

    def _targets(self, metric: str) -> list[Target]:
        """List what is compared: each column with a score, and the average of each block."""
        targets = []
        for block in self.contents.blocks:
            columns = self.averaged[metric, block]
            targets += [Target(column.header, block, (column.place,)) for column in columns]
            if AVERAGE in self.contents.extras(block) and len(columns) > 1:
                places = tuple(column.place for column in columns)
                targets.append(Target(AVERAGE, block, places))
        return targets


def reference_of(labels: Sequence[str], name: str) -> int:
    """Return the place of the reference among rows, the first one if it is not named.

    Raises:
        UnknownName: no row has this name.
    """
    if name and name not in labels:
        raise unknown("row", name, labels)
    return labels.index(name) if name else 0


def score_table(
    results: Sequence[RunResult],
    layout: Layout,
    options: ReportOptions,
    explain: Callable[[Contents], list[str]],
) -> Table:
    """Make the table of a layout.

    Args:
        results: runs of any state, in the order in which their rows are wanted.
        layout: the columns.
        options: what was asked.
        explain: writes the sentences of the caption that explain this report's columns.

    Raises:
        UnknownName: a metric, or a column of subgroups, that is not there.
        BadRequest: two runs are the same repeat of the same configuration.
    """
    contents = Contents.of(results, layout, options)
    parts = [Part.of(contents, each) for each in subgroups_of(contents.rows, options.by)]
    columns = tuple(_columns(contents, parts[0]))
    groups = tuple(RowGroup(part.subgroup.title, mark_best(_rows(part), columns)) for part in parts)
    caption = _caption(contents, parts[0], explain(contents))
    printed = published(contents) if options.published else []
    if printed:
        groups = (*groups, *printed)
        caption = (*caption, CAPTION)
    elif options.published:
        caption = (*caption, "No published cells are of this dataset, task and protocol.")
    return Table(contents.layout.title, columns, groups, caption, contents.notes.as_mapping())


def published(contents: Contents) -> list[RowGroup]:
    """Make the rows of the papers' printed cells that belong beside these."""
    columns: list[PrintedColumn] = []
    for metric in contents.options.metrics:
        for block, members in contents.blocks.items():
            columns += [(metric, column) for column in members]
            columns += [(metric, name) for name in contents.extras(block)]
    return published_groups(contents.layout, columns, _n_classes(contents), contents.notes)


# --- columns ----------------------------------------------------------------------------------


def _columns(contents: Contents, whole: Part) -> Iterator[Column]:
    for name in contents.options.metrics:
        metric = metric_named(name)
        for block, members in contents.blocks.items():
            averaged = whole.averaged[name, block]
            for column in members:
                why = "" if column in averaged else _why_empty(contents, column)
                yield Column(
                    column.condition,
                    column.header,
                    name,
                    long_header=column.long_name,
                    unit=metric.unit,
                    n=contents.n_cases[column.place],
                    better=metric.better,
                    marks=(contents.notes.mark(why),) if why else (),
                    block=block,
                    training=column.setting,
                )
            for extra in contents.extras(block):
                yield _extra_column(extra, metric, block)


def _extra_column(name: str, metric: Metric, block: str) -> Column:
    return Column(
        name,
        name,
        metric.name,
        long_header=EXTRAS[name],
        unit=metric.unit,
        better=metric.better,
        block=block,
    )


def _why_empty(contents: Contents, column: LayoutColumn) -> str:
    """Say why no row has a score in a column; nothing if no run has finished."""
    trained = [run for run in contents.done if run.setting == column.setting]
    if not any(column.condition in run.conditions for run in trained):
        return ""
    if not contents.n_cases[column.place]:
        return f"Column {column.name} has no test cases and is left out of {AVERAGE}."
    return (
        f"The cases of column {column.name} are of one class, so that the AUC is undefined; it is "
        f"left out of {AVERAGE}."
    )


# --- rows -------------------------------------------------------------------------------------


def _rows(part: Part) -> list[Row]:
    pairs = zip(part.subgroup.rows, part.grids, strict=True)
    return [_RowWriter(part, row, grid).row() for row, grid in pairs]


@dataclass(frozen=True, eq=False)
class _RowWriter:
    """Writes one row of a part."""

    part: Part
    runs: RowRuns
    grid: ScoreGrid

    @property
    def contents(self) -> Contents:
        return self.part.contents

    def row(self) -> Row:
        """Return the row, with a footnote for what is not done."""
        outcomes = self.outcomes
        shared = outcomes.pop("", "")
        sentences = [f"Row {self.runs.label}: {self.runs.differs}."] if self.runs.differs else []
        marks = self._marks([*sentences, shared, self._violations()])
        cells = [
            self._tested(cell, metric, places)
            for metric in map(metric_named, self.contents.options.metrics)
            for block in self.contents.blocks
            for places, cell in self._block(metric, block, outcomes)
        ]
        return Row(self.runs.label, tuple(cells), marks)

    def _block(
        self, metric: Metric, block: str, outcomes: dict[str, str]
    ) -> Iterator[tuple[tuple[Place, ...], Cell]]:
        """Write the cells of a block, each with the places that a test of it is about."""
        for column in self.contents.blocks[block]:
            yield (column.place,), self._cell(metric, column, outcomes)
        for name in self.contents.extras(block):
            tested = self.part.averaged[metric.name, block] if name == AVERAGE else []
            yield tuple(column.place for column in tested), self._extra(name, metric, block)

    @property
    def outcomes(self) -> dict[str, str]:
        """By training setting, what became of the repeats that are not done; by "" if all alike."""
        found = {
            setting: captions.outcome_sentence(self.runs.trained(setting), repeats)
            for setting, repeats in self.contents.settings.items()
        }
        return {"": found.popitem()[1]} if len(set(found.values())) == 1 else found

    def _violations(self) -> str:
        """Say where more scores worse, if that is wanted: once, for all cases together."""
        contents = self.contents
        if not contents.options.monotonicity or self.runs not in contents.rows:
            return ""
        return violations_sentence(self.runs, contents.columns, contents.options.metrics)

    def _marks(self, sentences: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.contents.notes.mark(sentence) for sentence in sentences if sentence)

    def _cell(self, metric: Metric, column: LayoutColumn, outcomes: dict[str, str]) -> Cell:
        marks = self._marks([outcomes.get(column.setting, "")])
        trained = self.runs.trained(column.setting)
        if not trained.done:
            return Cell(text=_word(trained), marks=marks)
        n_cases = self.grid.n_cases[column.place]
        if column not in self.part.averaged[metric.name, column.block]:
            return Cell(text=DASH, n=n_cases, n_repeats=0)
        found = self.grid.cell(metric.name, column.place)
        if not found.n_repeats:
            note = self._marks([UNDEFINED if n_cases else NOT_TESTED])
            return Cell(text=DASH, n=n_cases, n_repeats=0, marks=(*marks, *note))
        return self._number(metric, found, n_cases, "this column", marks)

    def _extra(self, name: str, metric: Metric, block: str) -> Cell:
        """Write AVG, Expected or Worst."""
        if not self.runs.done:
            return Cell(text=_word(self.runs))
        places, weights = self._entering(name, metric, block)
        found = self.grid.average(metric.name, places, weights)
        unfinished = "; ".join(map(captions.repeat_name, self.grid.unfinished(places)))
        if not found.n_repeats:
            over = EXPECTED if weights else AVERAGE
            why = f"No repeat has a score in every column that {over} is over."
            return Cell(text=DASH, n_repeats=0, marks=self._marks([why]))
        if name == WORST:
            return self._worst(metric, self.part.averaged[metric.name, block])
        why = unfinished and f"Without {unfinished}, not done in every training."
        return self._number(metric, found, None, "a column", self._marks([why]))

    def _entering(
        self, name: str, metric: Metric, block: str
    ) -> tuple[list[Place], list[float] | None]:
        """Return the places that AVG, Expected or Worst is over, and their weights if they vary."""
        weights = self.contents.weights(block) if name == EXPECTED else None
        if weights is None:
            return [column.place for column in self.part.averaged[metric.name, block]], None
        pairs = zip(self.contents.blocks[block], weights, strict=True)
        chosen = [(column.place, weight) for column, weight in pairs if weight > 0]
        return [place for place, _ in chosen], [weight for _, weight in chosen]

    def _worst(self, metric: Metric, columns: Sequence[LayoutColumn]) -> Cell:
        sign = 1.0 if metric.better == "higher" else -1.0
        means = [sign * self.grid.cell(metric.name, column.place).mean for column in columns]
        worst = columns[means.index(min(means))]
        found = self.grid.cell(metric.name, worst.place)
        cell = self._number(metric, found, self.grid.n_cases[worst.place], "this column")
        return replace(cell, note=worst.header)

    def _tested(self, cell: Cell, metric: Metric, places: tuple[Place, ...]) -> Cell:
        """Mark a cell that was compared with the reference."""
        family = self.part.families.get(metric.name)
        found = family and family.by_places.get((self.runs.label, places))
        if not family or not found or cell.value is None:
            return cell
        p, adjusted = found.outcome.p, found.p_adjusted
        sign = family.mark(found)
        notes = self._marks([significance.not_tested(family, found)])
        return replace(
            cell,
            marks=(*((sign,) if sign else ()), *cell.marks, *notes),
            p=None if math.isnan(p) else p,
            p_adjusted=None if math.isnan(adjusted) else adjusted,
        )

    def _number(
        self,
        metric: Metric,
        found: Summary,
        n_cases: int | None,
        where: str,
        marks: tuple[str, ...] = (),
    ) -> Cell:
        """Print a mean in its unit, with a footnote for whatever it leaves out."""
        sentences = []
        if found.undefined:
            which = "; ".join(map(captions.repeat_name, found.undefined))
            sentences.append(
                f"Without {which}, where {where} is undefined: no cases, or one class."
            )
        if found.flagged:
            which = "; ".join(map(captions.repeat_name, found.flagged))
            sentences.append(
                f"In {which}, {where} lacks a class: that {metric.name} is {metric.lacking}."
            )
        digits = self.contents.options.digits
        return Cell(
            metric.factor * found.mean,
            None if found.spread is None else metric.factor * found.spread,
            metric.digits if digits is None else digits,
            marks=(*marks, *self._marks(sentences)),
            n=n_cases,
            n_repeats=found.n_repeats,
        )


def _word(row: RowRuns) -> str:
    """Say in a word what became of a row without a finished run."""
    states = {run.state for run in row.runs}
    return next((word for state, word in WORDS.items() if state in states), DASH)


# --- caption ----------------------------------------------------------------------------------


def _caption(contents: Contents, whole: Part, explanation: Sequence[str]) -> tuple[str, ...]:
    rows, options = contents.rows, contents.options
    extras = {extra for block in contents.blocks for extra in contents.extras(block)}
    in_blocks = len(contents.blocks) > 1
    n_repeats = len(contents.repeats)
    sentences = [
        captions.metrics_sentence(options.metrics, _n_classes(contents)),
        captions.repeats_sentence(contents.repeats),
        captions.average_sentence(n_repeats, in_blocks=in_blocks) if AVERAGE in extras else "",
        captions.expected_sentence(options.weights) if EXPECTED in extras else "",
        captions.worst_sentence(options.metrics) if WORST in extras else "",
        "Best bold, second underlined, on unrounded means.",
        *_tests(whole),
        captions.cases_sentence(rows, contents.n_cases.values()),
        captions.common_cases_sentence(len(cases_scored(contents.done)))
        if options.common_cases
        else "",
        *explanation,
        captions.budget_sentence(rows, options.preset),
        captions.tuning_sentence(rows),
        captions.selection_sentence(rows),
        captions.dropout_sentence(rows),
        captions.arena_sentence(rows),
        captions.leaks_sentence(options.leaks.get(contents.layout.dataset)),
    ]
    if "AUC" in options.metrics:
        sentences += captions.constant_sentences(rows, contents.columns)
    if options.monotonicity:
        sentences.append(pairs_sentence(contents.columns))
    return tuple(sentence for sentence in sentences if sentence)


def _tests(whole: Part) -> list[str]:
    """Say what was tested."""
    sentences = significance.sentences(list(whole.families.values()))
    if sentences and whole.contents.options.by:
        sentences.append("Subgroups are not tested.")
    is_wanted = whole.contents.options.claim.test != "none" and len(whole.contents.rows) > 1
    if not sentences and is_wanted and len(whole.contents.repeats) == 1:
        sentences.append("No test: one repeat cannot tell how much training varies.")
    return sentences


def _n_classes(contents: Contents) -> int:
    """Return K, 0 if no run has predictions."""
    widths = (p.shape[1] for run in contents.done for _, _, p in run.parts.values())
    return next(widths, 0)
