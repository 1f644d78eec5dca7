"""The rows of a table of scores: numbers, or the word or dash that says why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bench.layout import LayoutColumn
from bench.reporting.contents import AVERAGE, EXPECTED, WORST, Contents, Part
from bench.scores import captions, significance
from bench.scores.metrics import Metric, metric_named
from bench.scores.monotonicity import violations_sentence
from bench.scores.rows import RowRuns
from bench.scores.scoring import Place, ScoreGrid, Summary
from bench.tables import DASH, Cell, Row

WORDS = {
    "failed": "failed",
    "damaged": "damaged",
    "running": "running",
    "pending": "pending",
    "skipped": "n/a",
}
NOT_TESTED = "No finished run of this row tested this column."
UNDEFINED = "Undefined in every repeat: this column has no cases, or one class."


def rows_of_part(part: Part) -> list[Row]:
    """Write the rows of a part, in order."""
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
            why = [] if self.part.is_whole else [UNDEFINED]  # the head of the column says it of all
            return Cell(text=DASH, n=n_cases, n_repeats=0, marks=self._marks(why))
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
