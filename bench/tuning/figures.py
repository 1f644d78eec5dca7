"""Figures of searches: the course of one, and Optuna's views of what its parameters do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.category import StrCategoryLocator
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from bench.drawing import BLUE, GREY, ORANGE, panels, title
from bench.report import Drawing
from bench.tuning.results import SearchResult, value_of

if TYPE_CHECKING:
    import optuna

PER_ROW = 4  # panels side by side
N_SLICES = 6  # parameters in a slice or parallel plot, the most important ones
SIZES = {"slice": (5.6, 3.2), "parallel": (9.0, 4.0), "contour": (7.0, 5.6), "rank": (7.0, 5.6)}
DPI = 150  # of Optuna's views, many in a page, whose lines and dots take many bytes
N_CROSSED = 3  # in a contour or rank plot, each pair once
NOTHING = 1e-3  # share of a row of panels; the layout divides by it


def draw_history(results: Sequence[SearchResult], name: str) -> Drawing:
    """Draw each search's trials in their order, with the best so far and the default."""
    figure, axes = panels(len(results), PER_ROW, (3.2, 2.4))
    for axis, result in zip(axes, results, strict=True):
        _draw_course(axis, result)
        axis.set_title(result.label, fontsize=8)
        axis.set_xlabel("trial", fontsize=8)
        axis.set_ylabel(_score_label(result), fontsize=8)
    known = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    axes[0].legend(known.values(), known.keys(), fontsize=7, frameon=False)
    search = results[0].search
    note = "a pruned trial stands at the score of its last epoch"
    title(figure, f"{search.dataset}, {search.protocol}: search", note)
    frames = [result.frame() for result in results]
    return Drawing(name, figure, pd.concat(frames, ignore_index=True))


def _score_label(result: SearchResult) -> str:
    return "validation score (%)" if result.factor > 1 else "validation score"


def _draw_course(axis: Axes, result: SearchResult) -> None:
    """Draw one search: a point per trial, a line for the best so far, marks for the others."""
    places = {each.number: i for i, each in enumerate(result.trials)}
    x = [places[each.number] for each in result.complete]
    y = [result.factor * value_of(each) for each in result.complete]
    axis.plot(x, y, "o", ms=3, color=BLUE, label="complete")
    if y:
        axis.step(x, np.maximum.accumulate(y), where="post", color=ORANGE, lw=1, label="best")
    if result.default is not None:
        default = result.factor * value_of(result.default)
        axis.axhline(default, color=GREY, lw=0.8, ls=":", label="default")
    for state, marker, label in (("PRUNED", "x", "pruned"), ("FAIL", "|", "failed")):
        chosen = [each for each in result.trials if each.state.name == state]
        floor = min(y, default=0.0)
        at = [floor if each.value is None else result.factor * each.value for each in chosen]
        if chosen:
            where = [places[each.number] for each in chosen]
            axis.plot(where, at, marker, ms=4, color=GREY, label=label, ls="none")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_gains(results: Sequence[SearchResult], name: str) -> Drawing:
    """Draw, for each search, how far the default is from the best: the farthest on top."""
    chosen = sorted(results, key=lambda each: each.gain or 0.0)
    lines = [
        (each.label, each.factor * value_of(each.default), each.factor * value_of(each.best))
        for each in chosen
        if each.default is not None and each.best is not None
    ]
    data = pd.DataFrame(lines, columns=["search", "default", "best"])
    search = results[0].search
    figure, (axis,) = panels(1, 1, (5.5, 0.9 + 0.25 * len(lines)))
    y = np.arange(len(lines))
    axis.hlines(y, data["default"], data["best"], color=GREY, lw=1)
    axis.plot(data["default"], y, "o", ms=4, color=GREY, label="default")
    axis.plot(data["best"], y, "o", ms=4, color=ORANGE, label="best")
    for place, (_, default, best) in enumerate(lines):
        at = axis.get_yaxis_transform()  # x in shares of the panel, y in rows
        axis.text(1.02, place, f"{best - default:+.2f}", va="center", fontsize=8, transform=at)
    axis.set_yticks(y, data["search"])
    axis.set_ylim(-0.6, len(lines) - 0.4)
    axis.set_xlabel(_score_label(results[0]), fontsize=8)
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=7, frameon=False)
    note = "the best of many trials is above one draw by chance alone"
    title(figure, f"{search.dataset}, {search.protocol}: default against best", note)
    return Drawing(name, figure, data)


def draw_views(
    result: SearchResult, study: optuna.Study, shares: Mapping[str, float], evaluator: str
) -> list[Drawing]:
    """Draw Optuna's views of a search: importance, slice, contour, rank and parallel.

    Args:
        result: the search.
        study: its complete trials.
        shares: the importance of each parameter, the largest first.
        evaluator: what the importance is, in words.
    """
    import optuna.visualization.matplotlib as views

    names = [name for name in shares if all(name in each.params for each in study.trials)]
    target = "validation score"
    drawn = {
        "slice": lambda: views.plot_slice(study, names[:N_SLICES], target_name=target),
        "parallel": lambda: views.plot_parallel_coordinate(
            study, names[:N_SLICES], target_name=target
        ),
    }
    if len(names) > 1:
        drawn["contour"] = lambda: views.plot_contour(study, names[:N_CROSSED], target_name=target)
        drawn["rank"] = lambda: views.plot_rank(study, names[:N_CROSSED], target_name=target)
    stem = result.search.name.rpartition("-")[0]
    data = result.frame()
    drawings = [_draw_importance(result, shares, evaluator, f"importance-{stem}")]
    if names:
        drawings += [
            Drawing(f"{kind}-{stem}", _optuna_figure(draw, SIZES[kind], result.label), data, DPI)
            for kind, draw in drawn.items()
        ]
    return drawings


def _draw_importance(
    result: SearchResult, shares: Mapping[str, float], evaluator: str, name: str
) -> Drawing:
    lines = [(key, 100 * share) for key, share in reversed(list(shares.items()))]
    figure, (axis,) = panels(1, 1, (5.0, 0.5 + 0.22 * len(lines)))
    axis.barh([key for key, _ in lines], [share for _, share in lines], color=BLUE)
    for place, (_, share) in enumerate(lines):
        axis.text(share, place, f" {share:.1f}", va="center", fontsize=8)
    axis.set_xlabel("importance (%)", fontsize=8)
    title(figure, f"{result.label}: what its settings do", evaluator)
    return Drawing(name, figure, pd.DataFrame(reversed(lines), columns=["setting", "importance"]))


def _optuna_figure(draw: Callable[[], Any], size: tuple[float, float], label: str) -> Figure:
    """Draw with Optuna without leaving its style, its backend or its figure behind."""
    import matplotlib.pyplot as plt

    with mpl.rc_context({"font.size": 8.0}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # features that may change, axes without room
        mpl.rcParams.update({"figure.figsize": size, "figure.constrained_layout.use": True})
        plt.switch_backend("agg")
        grid = np.atleast_1d(draw())
        axes = _each_pair_once(grid) if grid.ndim == 2 else grid.tolist()
        figure = cast(Figure, axes[0].figure)
        heading = figure.get_suptitle() or axes[0].get_title()
        axes[0].set_title("")
        for axis in axes:
            _thin_out(axis)
        figure.suptitle(f"{label}: {heading.lower()}", fontsize=10)
        plt.close(figure)
    return figure


def _each_pair_once(grid: np.ndarray) -> list[Axes]:
    """Keep what is below the diagonal of each against each, and give it the whole figure."""
    n = len(grid)
    for row, column in zip(*np.triu_indices(n), strict=True):
        grid[row, column].set_visible(False)  # not removed: the colour bar is placed by them
    layout = grid[1, 0].get_subplotspec().get_gridspec()
    layout.set_height_ratios([NOTHING, *[1.0] * (n - 1)])
    layout.set_width_ratios([*[1.0] * (n - 1), NOTHING])
    kept: list[Axes] = grid[np.tril_indices(n, -1)].tolist()
    for axis in kept:
        axis.label_outer()
    return kept


def _thin_out(axis: Axes) -> None:
    """Take out the labels that would overlap, and the small ticks, which take long to draw."""
    if isinstance(axis.xaxis.get_major_locator(), StrCategoryLocator):
        axis.tick_params(axis="x", labelrotation=30)
    for line in (axis.xaxis, axis.yaxis):
        if _shows_a_decade(line):
            line.set_minor_locator(NullLocator())


def _shows_a_decade(line: XAxis | YAxis) -> bool:
    """Tell whether an axis is logarithmic and has a power of ten to label."""
    if line.get_scale() != "log":
        return False
    low, high = np.log10(line.get_view_interval())
    return bool(np.floor(high) >= np.ceil(low))
