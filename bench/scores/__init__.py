"""Scores of stored predictions, and which differences between them are significant.

What a report of one's own needs stands here: runs, their rows, and the scores of these.
"""

from bench.scores.metrics import METRICS, Metric, metric_named
from bench.scores.results import Repeat, RunResult, load_results
from bench.scores.rows import RowRuns, rows_of, runs_of
from bench.scores.scoring import Place, ScoreGrid, score_grid, scores

__all__ = [
    "METRICS",
    "Metric",
    "Place",
    "Repeat",
    "RowRuns",
    "RunResult",
    "ScoreGrid",
    "load_results",
    "metric_named",
    "rows_of",
    "runs_of",
    "score_grid",
    "scores",
]
