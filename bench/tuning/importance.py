"""`bench sensitivity --study NAME`: what the parameters of finished searches do.

For every method: how far its default is from its best, so which method needs tuning; how much each
parameter matters, by a named evaluator; and Optuna's views of the trials.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.errors import BadRequest
from bench.reporting.printing import check_format, print_built
from bench.search.space import quiet_optuna
from bench.store import StudyFolder
from bench.tables import DASH, Cell, Column, Footnotes, Row, RowGroup, Table
from bench.tuning.results import SearchResult, by_row, by_table, stored_searches, value_of
from bench.wording import counted

if TYPE_CHECKING:
    import optuna

    from bench.report import Drawing

EvaluatorName = Literal["ped-anova", "fanova"]
MIN_TRIALS = 4  # complete ones, below which no importance is computed
EVALUATORS: Mapping[EvaluatorName, str] = {
    "ped-anova": "PED-ANOVA (trials in the best tenth against all)",
    "fanova": "fANOVA (64 trees of depth 64, seed 0)",
}


def make_evaluator(name: EvaluatorName) -> optuna.importance.BaseImportanceEvaluator:
    """Make an evaluator with its settings pinned: Optuna's versions have other defaults."""
    import optuna

    if name == "fanova":
        return optuna.importance.FanovaImportanceEvaluator(n_trees=64, max_depth=64, seed=0)
    return optuna.importance.PedAnovaImportanceEvaluator()


def importances(result: SearchResult, evaluator: EvaluatorName) -> dict[str, float] | str:
    """Return the share of each parameter, summing to 1, or why there is none."""
    import optuna

    study = complete_trials(result)
    n_trials = len(study.trials)
    if n_trials < MIN_TRIALS:
        return f"{counted(n_trials, 'complete trial')}, it needs {MIN_TRIALS}"
    try:
        with quiet_optuna(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # few trials; their number is in the table
            found = optuna.importance.get_param_importances(
                study, evaluator=make_evaluator(evaluator)
            )
    except (ValueError, RuntimeError) as error:
        return " ".join(str(error).split())
    if not found or not np.isfinite(list(found.values())).all():
        return "the trials do not differ in any parameter that all of them have"
    return found


def complete_trials(result: SearchResult) -> optuna.Study:
    """Copy the complete trials whose parameters are known into a study in memory."""
    import optuna

    with quiet_optuna():
        study = optuna.create_study(direction="maximize", study_name=result.label)
        study.add_trials([each for each in result.complete if each.params])
    return study


def show_searches(
    study: StudyFolder,
    *,
    evaluator: EvaluatorName,
    storage: str | None,
    methods: Sequence[str],
    output: str,
    quiet: bool,
) -> int:
    """Print the tables of a study's searches and draw them; return the exit code.

    Args:
        study: where the searches lie.
        evaluator: of importance.
        storage: the address of their database, if they are not in files.
        methods: rows to be shown; empty: all.
        output: format of the tables.
        quiet: do not name the files.

    Raises:
        BadRequest: there is no such search.
    """
    check_format(output)
    results = stored_searches(study, storage)
    if methods:
        results = [each for each in results if each.search.row in methods]
    if not results:
        raise BadRequest(f"no search of {', '.join(methods)} is in {str(study.path)!r}")
    print_built(view_tables(results, evaluator), output)
    paths = _draw(results, evaluator, study)
    if not quiet:
        n_figures = sum(path.suffix == ".pdf" for path in paths)
        print(f"{counted(n_figures, 'figure')} in {study.reports_path}", file=sys.stderr)
    return 0


def view_tables(results: Sequence[SearchResult], evaluator: EvaluatorName) -> list[Table]:
    """Write, for each dataset and protocol, the gains and each method's importances."""
    tables = []
    for (dataset, protocol), rows in by_table(results).items():
        tables.append(gains_table(f"{dataset}, {protocol}: default against best", rows))
        for row, folds in by_row(rows).items():
            title = f"{dataset}, {protocol}: importance of {row}'s settings"
            tables.append(importance_table(title, folds, evaluator))
    return tables


# --- which method needs tuning ----------------------------------------------------------------


def gains_table(title: str, results: Sequence[SearchResult]) -> Table:
    """Write default, best and their distance for each method, the farthest first."""
    factor = min(each.factor for each in results)
    group, unit = "Validation score", "%" if factor > 1 else ""
    columns = [Column(name, name, group, unit=unit) for name in ("default", "best", "gain")]
    columns += [
        Column(name, name, "Searches", better="neither") for name in ("searches", "complete")
    ]
    rows = by_row(results)
    order = sorted(rows, key=lambda row: -mean_gain(rows[row]))
    lines = [Row(row, _gain_cells(rows[row], factor)) for row in order]
    caption = (
        "Validation scores, mean ± sample SD over searches (folds); the method that gains most, so "
        "that needs tuning most, first.",
        "The best of many trials is above one draw by chance alone: what is left of a gain, the "
        "final runs tell.",
    )
    return Table(title, tuple(columns), (RowGroup("", tuple(lines)),), caption)


def mean_gain(results: Sequence[SearchResult]) -> float:
    """Return how far the default is from the best, the mean over searches; -inf: unknown."""
    gains = [each.gain for each in results if each.gain is not None]
    return float(np.mean(gains)) if gains else -np.inf


def _gain_cells(results: Sequence[SearchResult], factor: float) -> tuple[Cell, ...]:
    whole = [each for each in results if each.default is not None and each.best is not None]
    default = [factor * value_of(each.default) for each in whole if each.default]
    best = [factor * value_of(each.best) for each in whole if each.best]
    gain = [b - d for b, d in zip(best, default, strict=True)]
    digits = 2 if factor > 1 else 4
    n_complete = sum(len(each.complete) for each in results)
    return (
        *(_mean_cell(values, digits) for values in (default, best, gain)),
        Cell(float(len(results)), digits=0),
        Cell(float(n_complete), digits=0),
    )


def _mean_cell(values: Sequence[float], digits: int) -> Cell:
    if not values:
        return Cell(text=DASH)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Cell(float(np.mean(values)), spread, digits, n_repeats=len(values))


# --- importance -------------------------------------------------------------------------------


def importance_table(
    title: str, results: Sequence[SearchResult], evaluator: EvaluatorName
) -> Table:
    """Write the share of each setting of one method, its default and its best values."""
    notes = Footnotes()
    found = [importances(each, evaluator) for each in results]
    shares = [each for each in found if not isinstance(each, str)]
    names = sorted(
        {name for each in results for trial in each.complete for name in trial.params},
        key=lambda name: -float(np.mean([each.get(name, 0.0) for each in shares] or [0.0])),
    )
    why = tuple(
        notes.mark(f"{each.label}: no importance: {reason}.")
        for each, reason in zip(results, found, strict=True)
        if isinstance(reason, str)
    )
    rows = [
        Row(
            name,
            (
                _mean_cell([100 * each.get(name, 0.0) for each in shares], 1),
                Cell(text=_said(results[:1], "default", name)),
                Cell(text=_said(results, "best", name)),
            ),
        )
        for name in names
    ]
    columns = (
        Column("importance", "importance (%)", "Setting", marks=why),
        Column("default", "default", "Setting", better="neither"),
        Column("best", "best", "Setting", better="neither"),
    )
    folds = f", mean ± sample SD over {len(shares)} searches" if len(shares) > 1 else ""
    caption = (
        f"Importance: {EVALUATORS[evaluator]}, in percent of the differences between complete "
        f"trials on validation{folds}.",
        "Best: of each search, in the order of the folds.",
    )
    return Table(title, columns, (RowGroup("", tuple(rows)),), caption, notes.as_mapping())


def _said(results: Sequence[SearchResult], which: Literal["default", "best"], name: str) -> str:
    """Write the values that the trials of some searches have of a parameter."""
    trials = [each.default if which == "default" else each.best for each in results]
    return ", ".join(
        DASH if trial is None or name not in trial.params else _short(trial.params[name])
        for trial in trials
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# --- figures ----------------------------------------------------------------------------------


def gain_drawings(results: Sequence[SearchResult]) -> list[Drawing]:
    """Draw, for each dataset and protocol, how far each default is from its best."""
    from bench.tuning.figures import draw_gains

    return [
        draw_gains(rows, f"gains-{dataset}-{protocol}")
        for (dataset, protocol), rows in by_table(results).items()
    ]


def view_drawings(result: SearchResult, evaluator: EvaluatorName) -> list[Drawing]:
    """Draw what the parameters of one search do; nothing if no importance can be computed."""
    from bench.tuning.figures import draw_views

    found = importances(result, evaluator)
    if isinstance(found, str):
        return []
    return draw_views(result, complete_trials(result), found, EVALUATORS[evaluator])


def _draw(
    results: Sequence[SearchResult], evaluator: EvaluatorName, study: StudyFolder
) -> list[Path]:
    from bench.figures import write_drawing

    folder = study.create().reports_path
    drawings = gain_drawings(results)
    for each in results:
        drawings += view_drawings(each, evaluator)
    return [path for drawing in drawings for path in write_drawing(drawing, folder)]
