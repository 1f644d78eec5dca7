"""What the figures of reports share: panels, colours that the colour-blind tell apart, labels.

Colours: M. Okabe, K. Ito, "Color universal design", 2008. Nothing here imports matplotlib before a
figure is drawn.
"""

from __future__ import annotations

import textwrap
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bench.report import DEFAULTS, Drawing, Figure, ReportOptions
from bench.reporting.contents import Contents
from bench.scores.metrics import metric_named
from bench.scores.results import RunResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

    from bench.layout import Layout

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
COLOURS = (BLUE, "#E69F00", GREEN, "#CC79A7", "#56B4E9", ORANGE, "#000000")
MARKERS = "osD^vPXp<>*"  # eleven beside seven colours: pairs repeat after 77 methods
LETTER_INCHES = 0.057  # of 7 points, the mean of a sentence
ENTRY_INCHES = 0.2  # of a legend, its letters 8 points high
TITLE_INCHES = 1.0  # of a title and a note of three lines
WHISKER = 1.5  # box heights beside the box from which on a value is a straggler (Tukey 1977)


class LayoutFigure(Figure):
    """A figure plugin that draws each layout by itself."""

    kinds: ClassVar[tuple[str, ...]] = ()  # of layouts it is for; empty: any

    def draw(
        self,
        results: Sequence[RunResult],
        layouts: Sequence[Layout],
        options: ReportOptions = DEFAULTS,
    ) -> list[Drawing]:
        """Draw the layouts of its kinds, one after the other."""
        chosen = [each for each in layouts if each.kind in (self.kinds or (each.kind,))]
        return [
            drawing
            for layout in chosen
            for drawing in self.draw_layout(Contents.of(results, layout, options))
        ]

    @abstractmethod
    def draw_layout(self, contents: Contents) -> Iterable[Drawing]:
        """Draw the runs of one layout; nothing where there is nothing to see."""


def panels(
    n: int, per_row: int, size: tuple[float, float], **shared: Any
) -> tuple[MatplotlibFigure, list[Axes]]:
    """Make a figure of n panels, each of a size in inches, `per_row` side by side at most.

    Args:
        n: at least one.
        per_row: most panels beside each other.
        size: width and height of a panel.
        shared: `sharex` and `sharey` of matplotlib's `subplots`.
    """
    from matplotlib.figure import Figure as MatplotlibFigure

    n_columns = min(n, per_row)
    n_rows = -(-n // n_columns)
    inches = (max(size[0] * n_columns, 4.2), size[1] * n_rows + 0.6)
    figure = MatplotlibFigure(figsize=inches, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False, **shared).ravel().tolist()
    for spare in axes[n:]:
        spare.remove()
    for ax in axes[:n]:
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for lowest in axes[n - n_columns : n]:  # of its column, perhaps above a spare place
        lowest.tick_params(labelbottom=True)
    return figure, axes[:n]


def legend_beside(figure: MatplotlibFigure, handles: Sequence[Any]) -> None:
    """Put a legend to the right of all panels, and make the figure high enough for it."""
    needed = len(handles) * ENTRY_INCHES + TITLE_INCHES
    figure.set_figheight(max(figure.get_figheight(), needed))
    figure.legend(handles=handles, loc="outside right center", fontsize=8, frameon=False)


def title(figure: MatplotlibFigure, text: str, note: str) -> None:
    """Write the title above a figure and its note below, in lines that fit its width."""
    n_letters = int(figure.get_figwidth() / LETTER_INCHES)
    figure.suptitle(textwrap.fill(text, n_letters), fontsize=10)
    figure.supxlabel(textwrap.fill(note, n_letters), fontsize=7, color="#404040")


def without_stragglers(
    values: Sequence[float], better: str, *, margin: float = 0.05
) -> tuple[float, float]:
    """Return limits of an axis that stragglers on the bad side do not stretch, with a margin.

    Args:
        values: at least one finite; the others are left out.
        better: `higher` or `lower`.
        margin: in shares of the range, added on both sides.
    """
    sign = 1.0 if better == "higher" else -1.0
    known = sign * np.asarray([value for value in values if np.isfinite(value)])
    first, third = np.percentile(known, [25, 75])
    inside = known[known >= first - WHISKER * (third - first)]
    low, high = sorted((sign * float(inside.min()), sign * float(inside.max())))
    room = margin * (high - low) or 1.0
    return low - room, high + room


def score_label(name: str) -> str:
    """Label the axis of a metric: `AUC (%)`, `NLL, lower is better`."""
    metric = metric_named(name)
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{name}{unit}{', lower is better' if metric.better == 'lower' else ''}"


def styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give each method a colour and a marker."""
    return {
        method: {"color": colour, "marker": marker}
        for method, colour, marker in zip(methods, cycle(COLOURS), cycle(MARKERS), strict=False)
    }


def file_name(*parts: str) -> str:
    """Join parts to the name of a file; what file systems or LaTeX may refuse becomes a dash."""
    text = "-".join(part for part in parts if part)
    kept = "".join(char if char.isalnum() or char in "+_-." else "-" for char in text)
    return "-".join(piece for piece in kept.split("-") if piece)
