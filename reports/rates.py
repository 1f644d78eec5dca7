"""Methods by missing rates: what is lost as more of the cells are absent, in training or at test.

The layout of AlignedFusion's Table 1: rates are columns, AVG at the end, a block of columns for
each training. The caption says what the paper leaves open: what is absent, by which law, how the
draw went, and what validation saw.

Source: AlignedFusion paper (2026), tables 1(a) to 1(d).
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.layout import Layout
from bench.report import DEFAULTS, Report, ReportOptions
from bench.reporting.contents import Contents
from bench.reporting.score_table import score_table
from bench.scores import captions
from bench.scores.results import RunResult
from bench.tables import Table
from bench.wording import listed

# "Miss Val." in the paper is the only reading of its rows that fits both of their numbers
PAPER_ROWS = {"as-trained": 'the row "(Miss Val.)"', "complete": "the plain row"}


class RatesTable(Report):
    """Scores of every row at every missing rate, with AVG."""

    name = "rates"
    display_name = "Rates table"

    def build(
        self, results: Sequence[RunResult], layout: Layout, options: ReportOptions = DEFAULTS
    ) -> Table:
        """Make the table of a layout, rows in the order given."""
        return score_table(results, layout, options, _explain)


def _explain(contents: Contents) -> list[str]:
    layout = contents.layout
    return [
        f"Columns: {layout.axis}.",
        f"Absent: {layout.law}." if layout.law else "",
        *captions.gaps_sentences(contents.rows, contents.columns),
        _paper_rows(contents),
    ]


def _paper_rows(contents: Contents) -> str:
    """Say which row of the paper each rule of selection answers to."""
    runs = [run for row in contents.rows for run in row.runs]
    if not any(run.spec["setting"].get("gaps") for run in runs):
        row = PAPER_ROWS["complete"]
        return f"Validation keeps what its cases have: {row} in AlignedFusion's words."
    rules = dict.fromkeys(run.spec["selection"] for run in runs)
    said = [f"{rule} is {PAPER_ROWS[rule]}" for rule in rules if rule in PAPER_ROWS]
    return f"In AlignedFusion's words {listed(said)}." if said else ""


PLUGIN = RatesTable
