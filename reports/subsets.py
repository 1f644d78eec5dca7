"""Methods by test conditions: the main table of papers on missing modalities.

ACC and AUC in percent, each condition a column, AVG at the end. What has no number says why.
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


class SubsetsTable(Report):
    """Scores of every row under every condition, with AVG."""

    name = "subsets"
    display_name = "Subsets table"

    def build(
        self, results: Sequence[RunResult], layout: Layout, options: ReportOptions = DEFAULTS
    ) -> Table:
        """Make the table of a layout, rows in the order given."""
        return score_table(results, layout, options, _explain)


def _explain(contents: Contents) -> list[str]:
    """Say what the columns are, and what training lacked if it lacked anything."""
    layout = contents.layout
    lacking = layout.law or ("nothing but natural gaps" if layout.protocol else "")
    return [
        captions.columns_sentence({each.header: each.long_name for each in contents.columns}),
        f"Absent in training and validation: {lacking}." if lacking else "",
        *captions.gaps_sentences(contents.rows, contents.columns),
    ]


PLUGIN = SubsetsTable
