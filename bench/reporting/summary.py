"""The findings of a study in plain words: who wins, where, by how much, and how sure that is.

Every sentence is computed from the stored predictions. A row is said to be ahead only if the 95 %
interval of the paired difference leaves zero out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.layout import LayoutColumn
from bench.report import ReportOptions
from bench.reporting.contents import Contents
from bench.reporting.differences import INTERVALS, Difference, Rows
from bench.scores.metrics import Metric, metric_named
from bench.wording import counted, listed

CAUTION = (
    "The leader of each table was found by the same scores, so that its lead is flattered; the "
    "intervals are not corrected for the number of comparisons."
)


@dataclass(frozen=True)
class Finding:
    """What one table says."""

    title: str
    sentences: tuple[str, ...]


def finding(contents: Contents) -> Finding:
    """Put a table into words."""
    rows = Rows.of(contents)
    if not rows.grids:
        return Finding(contents.layout.title, ("No run has finished.",))
    sentences = [
        sentence
        for name in contents.options.metrics
        for block in contents.blocks
        for sentence in _Words(rows, metric_named(name), block).sentences()
    ]
    return Finding(contents.layout.title, (*sentences, *_states(contents)))


def options_sentence(options: ReportOptions) -> str:
    """Say what the whole report is restricted to; empty if to nothing."""
    return "Only cases that every column has are scored." if options.common_cases else ""


def _states(contents: Contents) -> Iterator[str]:
    """Say which rows have no number at all."""
    empty = [row.label for row in contents.rows if not row.done]
    if empty:
        yield f"Without a finished run: {listed(empty)}."


@dataclass(frozen=True, eq=False)
class _Words:
    """Words one metric of one block of columns."""

    rows: Rows
    metric: Metric
    block: str

    def sentences(self) -> Iterator[str]:
        columns = self.rows.columns(self.metric.name, self.block)
        ranked = self._ranked(columns)
        if not ranked:
            yield f"{self._where(columns)}: no row has a score in every column."
            return
        (leader, score), *others = ranked
        if not others:
            yield f"{self._where(columns)}: {leader}, the only row, has {self._number(score)}."
            return
        yield self._lead(columns, leader, score, others)
        yield from self._places(columns, leader)
        yield from self._sure(columns, leader, [label for label, _ in others])

    def _ranked(self, columns: Sequence[LayoutColumn]) -> list[tuple[str, float]]:
        """List the rows with a mean over these columns, best first."""
        places = [column.place for column in columns]
        means = {
            label: grid.average(self.metric.name, places).mean
            for label, grid in self.rows.grids.items()
        }
        known = [(label, mean) for label, mean in means.items() if not math.isnan(mean)]
        return sorted(known, key=lambda each: -self._sign * each[1])

    @property
    def _sign(self) -> float:
        return 1.0 if self.metric.better == "higher" else -1.0

    def _where(self, columns: Sequence[LayoutColumn]) -> str:
        block = f", {self.block}" if self.block else ""
        if len(columns) == 1:
            return f"{self.metric.name}{block}, {columns[0].long_name or columns[0].header}"
        return f"{self.metric.name}{block}, mean of {len(columns)} columns"

    def _number(self, value: float) -> str:
        return f"{self.metric.factor * value:.{self.metric.digits}f}"

    def _lead(
        self,
        columns: Sequence[LayoutColumn],
        leader: str,
        score: float,
        others: Sequence[tuple[str, float]],
    ) -> str:
        ties = [leader, *(label for label, other in others if math.isclose(other, score))]
        if len(ties) > 1:
            return f"{self._where(columns)}: {listed(ties)} share the lead, {self._number(score)}."
        second, second_score = others[0]
        found = self.rows.difference(leader, second, self.metric.name, columns)
        n_most = max(
            len(self.rows.values(label, self.metric.name, columns)) for label in (leader, second)
        )
        return (
            f"{self._where(columns)}: {leader} leads with {self._number(score)}, before {second} "
            f"with {self._number(second_score)}. {self._judged(found, n_most)}"
        )

    def _judged(self, found: Difference, n_most: int) -> str:
        """Say how large a lead is and whether it is more than chance over the repeats of both."""
        if not found.n_repeats:
            return "They have no repeat in common."
        both = f" on the {counted(found.n_repeats, 'repeat')} that both have"
        where = both if found.n_repeats < n_most else ""
        size = f"The lead is {self._number(self._sign * found.mean)}{where}"
        if found.interval is None:
            return f"{size}; {found.why_none}."
        ends = sorted(self._sign * end for end in found.interval)
        said = f"{size} (95 % interval {self._number(ends[0])} to {self._number(ends[1])})"
        return f"{said}, {'more than chance' if found.is_clear else 'which may be chance'}."

    def _places(self, columns: Sequence[LayoutColumn], leader: str) -> Iterator[str]:
        """Say in how many columns the leader is best, and where its lead is largest or lost."""
        if len(columns) < 2:
            return
        leads = {column.name: self._lead_in(column, leader) for column in columns}
        known = {name: lead for name, lead in leads.items() if not math.isnan(lead)}
        if not known:
            return
        n_best = sum(lead >= -1e-9 for lead in known.values())
        largest, smallest = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
        least = known[smallest]
        word = "behind" if least < -1e-9 else "ahead"
        yield (
            f"{leader} is best in {n_best} of {len(known)} columns: most in {largest} "
            f"({self._number(known[largest])} ahead of the best other row), least in {smallest} "
            f"({self._number(abs(least))} {word})."
        )

    def _lead_in(self, column: LayoutColumn, leader: str) -> float:
        """Return by how much a row is ahead of the best other one in a column."""
        ranked = self._ranked([column])
        own = [mean for label, mean in ranked if label == leader]
        other = [mean for label, mean in ranked if label != leader]
        return self._sign * (own[0] - other[0]) if own and other else math.nan

    def _sure(
        self, columns: Sequence[LayoutColumn], leader: str, others: Sequence[str]
    ) -> Iterator[str]:
        """Say which rows are behind the leader beyond chance."""
        if self.rows.design == "single":
            yield "One repeat: no interval, so that no difference is sure."
            return
        compared = {
            other: self.rows.difference(leader, other, self.metric.name, columns)
            for other in others
        }
        clear = [
            other
            for other, found in compared.items()
            if found.is_clear and self._sign * found.mean > 0
        ]
        unclear = [other for other in others if other not in clear]
        behind = f"behind {leader}: {listed(clear)}" if clear else f"behind {leader}: none"
        rest = f"; not told apart from it: {listed(unclear)}" if unclear else ""
        yield f"Clearly {behind}{rest} ({INTERVALS[self.rows.design]})."
