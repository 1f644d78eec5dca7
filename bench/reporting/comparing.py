"""Two rows against each other, of one study or of two: the difference and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import BadRequest, unknown
from bench.layout import Layout
from bench.reporting.printing import Asked, layouts_with_runs
from bench.scores import captions
from bench.scores.contest import Entrant, Target
from bench.scores.metrics import Metric, metric_named
from bench.scores.results import RunResult
from bench.scores.rows import RowRuns, differing_keys, rows_of, runs_of
from bench.scores.scoring import score_grid
from bench.scores.significance import (
    BETTER,
    NO_EVIDENCE,
    WORSE,
    Claim,
    Comparison,
    Family,
    claims_in_words,
    family_of,
)
from bench.store import StudyFolder
from bench.tables import DASH, Cell, Column, Footnotes, Row, RowGroup, Table

AVERAGE = "AVG"
PAIRS = "pairs of"
SMALLEST_P = 1e-4  # printed as it is; what is smaller is printed as smaller than this
OF_METHODS = ("method", "preset", "method_config", "sources")  # methods may differ in these


@dataclass(frozen=True, eq=False)
class Side:
    """One of two rows that are compared, and the study that it is from."""

    name: str
    label: str  # with the study, where there are two
    folder: StudyFolder
    asked: Asked
    results: list[RunResult]

    @classmethod
    def of(cls, text: str, out: Path, study: str) -> Side:
        """Read `NAME` or `NAME@STUDY`.

        Raises:
            BadRequest: there is no such study.
        """
        name, _, other = text.partition("@")
        folder = StudyFolder(out, other or study)
        if not folder.exists():
            raise BadRequest(f"no study is at {folder.path}; `bench run` makes one")
        asked = Asked.of(folder)
        return cls(name, text if other else name, folder, asked, asked.results(folder))

    def row(self, layout: Layout) -> RowRuns | None:
        """Return its runs of a table; None if it has none there."""
        rows = {row.label: row for row in rows_of(runs_of(self.results, layout))}
        return rows.get(self.name)

    def layouts(self, dataset: str) -> list[Layout]:
        """List the tables of its study, those of one dataset if it is named.

        Raises:
            UnknownName: the study has no such dataset.
        """
        found = layouts_with_runs(self.asked, self.results)
        known = {layout.dataset for layout in found}
        if dataset and dataset not in known:
            raise unknown("dataset of this study", dataset, known)
        return [layout for layout in found if dataset in ("", layout.dataset)]

    def check_name(self) -> None:
        """Refuse a row that its study does not have.

        Raises:
            UnknownName: names the nearest.
        """
        tables = layouts_with_runs(self.asked, self.results)
        known = {row.label for layout in tables for row in rows_of(runs_of(self.results, layout))}
        if self.name not in known:
            raise unknown(f"row of study {self.folder.path.name}", self.name, known)


def compared(
    first: Side, second: Side, *, dataset: str, metrics: Sequence[str], claim: Claim
) -> list[Table]:
    """Compare two rows wherever both were run: a table per dataset and protocol.

    Args:
        first: the one that a positive difference speaks for.
        second: the other.
        dataset: only this one; empty: all.
        metrics: by name.
        claim: how to test; its reference does not matter.

    Raises:
        BenchError: a name that is not there, or nothing that both were run on.
    """
    first.check_name()
    second.check_name()
    if (first.name, first.folder.path) == (second.name, second.folder.path):
        raise BadRequest(f"{first.label} cannot be compared with itself; name two rows")
    built = []
    for layout in first.layouts(dataset):
        rows = first.row(layout), second.row(layout)
        if rows[0] is not None and rows[1] is not None:
            pair = Pair.of((first.label, rows[0]), (second.label, rows[1]), layout, metrics)
            built.append(pair.table(metrics, claim))
    if not built:
        raise BadRequest(
            f"{first.label} and {second.label} share no table: no dataset and training setting "
            "has runs of both"
        )
    return built


@dataclass(frozen=True, eq=False)
class Pair:
    """Both rows of one table."""

    layout: Layout
    labels: tuple[str, str]
    first: Entrant
    second: Entrant

    @classmethod
    def of(
        cls,
        first: tuple[str, RowRuns],
        second: tuple[str, RowRuns],
        layout: Layout,
        metrics: Sequence[str],
    ) -> Pair:
        """Score both."""
        layout = layout.unblocked()
        places = list(dict.fromkeys(column.place for column in layout.columns))
        entrants = [
            Entrant(replace(row, label=label), score_grid(row.done, places, metrics))
            for label, row in (first, second)
        ]
        return cls(layout, (first[0], second[0]), *entrants)

    def table(self, metrics: Sequence[str], claim: Claim) -> Table:
        """Return the table of differences."""
        families = [self._family(metric_named(name), claim) for name in metrics]
        columns = tuple(
            column for family in families for column in _columns(self.labels, family.metric)
        )
        notes = Footnotes()
        groups = tuple(
            RowGroup(block, tuple(self._rows(families, block, notes)))
            for block in dict.fromkeys(column.block for column in self.layout.columns)
        )
        title = f"{self.layout.title}: {self.labels[0]} against {self.labels[1]}"
        return Table(title, columns, groups, self._caption(families), notes.as_mapping())

    def _targets(self, metric: str) -> list[Target]:
        targets = []
        for block in dict.fromkeys(column.block for column in self.layout.columns):
            columns = {
                column.place: column.header
                for column in self.layout.columns
                if column.block == block and self._has(metric, column.place)
            }
            targets += [Target(header, block, (place,)) for place, header in columns.items()]
            if self.layout.kind != "single" and len(columns) > 1:
                targets.append(Target(AVERAGE, block, tuple(columns)))
        return targets

    def _has(self, metric: str, place: tuple[str, str]) -> bool:
        return any(each.grid.has_value(metric, place) for each in (self.first, self.second))

    def _family(self, metric: Metric, claim: Claim) -> Family:
        return family_of(metric, self._targets(metric.name), self.first, [self.second], claim)

    def _rows(self, families: Sequence[Family], block: str, notes: Footnotes) -> list[Row]:
        """Write a row per column of the study's table."""
        names = dict.fromkeys(
            target.name
            for family in families
            for target in self._targets(family.metric.name)
            if target.block == block
        )
        return [
            Row(name, tuple(c for f in families for c in self._cells(f, block, name, notes)))
            for name in names
        ]

    def _cells(self, family: Family, block: str, name: str, notes: Footnotes) -> list[Cell]:
        targets = self._targets(family.metric.name)
        chosen = [each for each in targets if (each.block, each.name) == (block, name)]
        if not chosen:
            return [Cell(text=DASH)] * 7
        (target,) = chosen
        means = [
            self._mean(entrant, family.metric, target) for entrant in (self.first, self.second)
        ]
        found = family.by_places.get((self.second.row.label, target.places))
        return [*means, *(_difference(family, found, notes) if found else [Cell(text=DASH)] * 5)]

    def _mean(self, entrant: Entrant, metric: Metric, target: Target) -> Cell:
        found = entrant.grid.average(metric.name, target.places)
        if not found.n_repeats:
            return Cell(text=DASH)
        spread = None if found.spread is None else metric.factor * found.spread
        return Cell(metric.factor * found.mean, spread, metric.digits, n_repeats=found.n_repeats)

    def _caption(self, families: Sequence[Family]) -> tuple[str, ...]:
        first, second = self.labels
        sentences = [
            captions.metrics_sentence([each.metric.name for each in families], self._n_classes()),
            *self._repeats(_compared_by(families)),
            f"A is {first}, B is {second}. P(A > B): share of {_compared_by(families)} in which A "
            "is better, ties half.",
            *claims_in_words(families),
            _legend(families),
            self._unlike(),
        ]
        return tuple(sentence for sentence in sentences if sentence)

    def _repeats(self, compared_by: str) -> list[str]:
        """Say what the means are over, and what the differences are over where that differs."""
        own = [each.grid.repeats for each in (self.first, self.second)]
        if not own[0] or not own[1] or set(own[0]) == set(own[1]):
            return [captions.repeats_sentence(sorted({*own[0], *own[1]}))]
        each = [
            f"{side}: {captions.repeats_sentence(sorted(repeats))}"
            for side, repeats in zip("AB", own, strict=True)
        ]
        is_paired = not compared_by.startswith(PAIRS)
        return [*each, f"A - B is over the {compared_by} that both have."] if is_paired else each

    def _n_classes(self) -> int:
        runs = [*self.first.row.done, *self.second.row.done]
        return next((p.shape[1] for run in runs for _, _, p in run.parts.values()), 0)

    def _unlike(self) -> str:
        """Say in what the rows differ beside their methods; a difference may come from that."""
        specs = [row.runs[0].spec for row in (self.first.row, self.second.row)]
        if specs[0]["method"] == specs[1]["method"]:
            keys = [key for key in differing_keys(specs) if key != "sources"]
        else:
            keys = [key for key in differing_keys(specs) if not key.startswith(OF_METHODS)]
        return f"They differ in: {', '.join(keys)}." if keys else ""


def _compared_by(families: Sequence[Family]) -> str:
    """Say what P(A > B) counts."""
    outcomes = [each.outcome for family in families for each in family.comparisons]
    unit = "folds" if any(family.unit == "fold" for family in families) else "repeats"
    return unit if all(each.paired for each in outcomes) else f"{PAIRS} {unit}"


def _columns(labels: tuple[str, str], metric: Metric) -> list[Column]:
    names = {
        "a": ("A", labels[0]),
        "b": ("B", labels[1]),
        "difference": ("A - B", "difference"),
        "interval": ("interval", "of the difference"),
        "superior": ("P(A > B)", "how often A is better"),
        "p": ("p", "not adjusted"),
        "p_adjusted": ("p adj.", "adjusted"),
    }
    return [
        Column(key, header, metric.name, long_name, metric.unit, better="neither")
        for key, (header, long_name) in names.items()
    ]


def _difference(family: Family, found: Comparison, notes: Footnotes) -> list[Cell]:
    """Write difference, interval, P(A > B), p and adjusted p."""
    outcome, metric = found.outcome, family.metric
    sign = family.mark(found)
    marks: tuple[str, ...] = (sign,) if sign else ()
    if outcome.reason:
        marks += (notes.mark(f"n.t. (not testable): {outcome.reason}."),)
    if math.isnan(outcome.difference):
        return [Cell(text=DASH, marks=marks), *[Cell(text=DASH)] * 4]
    p = None if math.isnan(outcome.p) else outcome.p
    adjusted = None if math.isnan(found.p_adjusted) else found.p_adjusted
    low, high = (f"{metric.factor * end:.{metric.digits}f}" for end in outcome.interval)
    return [
        Cell(
            metric.factor * outcome.difference,
            digits=metric.digits,
            marks=marks,
            n_repeats=outcome.n if family.unit in ("fold", "seed") else None,
            p=p,
            p_adjusted=adjusted,
        ),
        Cell(text=DASH if math.isnan(outcome.interval[0]) else f"{low} to {high}"),
        Cell(outcome.p_superior, digits=2),
        Cell(text=_p(p)),
        Cell(text=_p(adjusted)),
    ]


def _p(value: float | None) -> str:
    if value is None:
        return "n.t."
    return f"{value:.4f}" if value >= SMALLEST_P else f"< {SMALLEST_P:.4f}"


def _legend(families: Sequence[Family]) -> str:
    """Say what the marks are and what the interval is."""
    confidence = f"{100 * (1 - families[0].claim.alpha):g} %"
    has_interval = any(
        not math.isnan(each.outcome.interval[0])
        for family in families
        for each in family.comparisons
    )
    said = f"Interval: {confidence}, not adjusted." if has_interval else "No interval."
    marks = {family.mark(each) for family in families for each in family.comparisons}
    if marks & {BETTER, WORSE}:
        said += " A star: A is significantly better; a circle: B is."
    if any(family.test == NO_EVIDENCE for family in families):
        said += " A dagger is the papers' mark and no evidence: the columns share models and cases."
    return said
