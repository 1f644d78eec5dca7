"""Figures of searches: the course of one, and Optuna's views of what its parameters do."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.report import Drawing
from bench.search_results import SearchResult, value_of
from bench.variant_figures import COLOURS, GREY, STYLE, make_panels


def draw_history(results: Sequence[SearchResult], name: str) -> Drawing:
    """Draw each search's trials in their order, with the best so far and the default."""
    with mpl.rc_context(STYLE):
        figure, axes = make_panels(len(results), 3.2, 2.3)
        for axis, result in zip(axes, results, strict=True):
            _draw_course(axis, result)
            axis.set(title=result.label, xlabel="trial")
            unit = " (%)" if result.factor > 1 else ""
            axis.set_ylabel(f"validation score{unit}")
        axes[0].legend(fontsize=6, frameon=False)
        search = results[0].search
        figure.suptitle(f"{search.dataset}, {search.protocol}: search", fontsize=9)
    frames = [result.frame() for result in results]
    return Drawing(name, figure, pd.concat(frames, ignore_index=True))


def _draw_course(axis: Axes, result: SearchResult) -> None:
    """Draw one search: a point per trial, a line for the best so far, marks for the others."""
    places = {each.number: i for i, each in enumerate(result.trials)}
    x = [places[each.number] for each in result.complete]
    y = [result.factor * value_of(each) for each in result.complete]
    axis.plot(x, y, "o", ms=3, color=COLOURS[0], label="complete")
    if y:
        axis.step(x, np.maximum.accumulate(y), where="post", color=COLOURS[1], lw=1, label="best")
    if result.default is not None:
        default = result.factor * value_of(result.default)
        axis.axhline(default, color=GREY, lw=0.8, ls=":", label="default")
    for state, marker, label in (("PRUNED", "x", "pruned (last epoch)"), ("FAIL", "|", "failed")):
        chosen = [each for each in result.trials if each.state.name == state]
        floor = min(y, default=0.0)
        at = [floor if each.value is None else result.factor * each.value for each in chosen]
        if chosen:
            where = [places[each.number] for each in chosen]
            axis.plot(where, at, marker, ms=4, color=GREY, label=label, ls="none")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
