"""What a table of scores is made of: its rows and columns, their scores, and what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.errors import unknown
from bench.layout import Layout, LayoutColumn
from bench.report import ReportOptions
from bench.scores.contest import Entrant, Target
from bench.scores.metrics import metric_named
from bench.scores.results import Repeat, RunResult
from bench.scores.rows import RowRuns, rows_of, runs_of
from bench.scores.scoring import Place, ScoreGrid, cases_scored, common_cases, score_grid
from bench.scores.significance import Claim, Family, family_of
from bench.scores.subgroups import Subgroup
from bench.tables import Footnotes

AVERAGE, EXPECTED, WORST = "AVG", "Expected", "Worst"
EXTRAS = {AVERAGE: "mean", EXPECTED: "mean under stated probabilities", WORST: "worst column"}


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
    def cases(self) -> dict[Place, set[str]]:
        """By place, the distinct cases over all rows and repeats."""
        return {column.place: cases_scored(self.done, column.place) for column in self.columns}

    @cached_property
    def n_cases(self) -> dict[Place, int]:
        """By place, how many these are."""
        return {place: len(cases) for place, cases in self.cases.items()}

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
