"""A chapter of a report: what searches, an ablation or a sensitivity study add to its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report import Drawing
from bench.reporting.summary import Finding
from bench.tables import Table

if TYPE_CHECKING:
    from bench.reporting.contents import Contents
    from bench.scores.results import RunResult


@dataclass(frozen=True)
class Chapter:
    """Words, tables and figures that belong together, and the runs behind them."""

    identity: str  # of its place in the page
    title: str
    lead: str  # what it is, in a few words
    findings: tuple[Finding, ...]  # for the summary
    tables: tuple[Table, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    views: tuple[tuple[str, tuple[Drawing, ...]], ...] = ()  # heading, figures shown at a press
    reasons: tuple[tuple[str, str], ...] = ()  # which trials have no value, and why
    runs: tuple[RunResult, ...] = ()
    failures: tuple[tuple[str, str, str], ...] = ()  # run, state, reason
    contents: tuple[Contents, ...] = ()  # whose costs are told

    @property
    def figures(self) -> tuple[Drawing, ...]:
        """All of its figures."""
        return (*self.drawings, *(each for _, drawings in self.views for each in drawings))
