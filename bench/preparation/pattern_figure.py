"""The figure of a dataset's gaps: which modalities cases have together, how often, in which class.

Dots over modalities beside bars of cases, as in UpSet plots (A. Lex et al., IEEE TVCG 20(12),
2014); each bar is parted by class.
"""

# M modalities, P patterns, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.availability import subset_name
from bench.drawing import COLOURS, GREY, file_name, panels, title
from bench.report import Drawing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from bench.data import Dataset

MAX_PATTERNS = 16
FEW_CLASSES = 3  # whose shares are written beside a bar
HATCHES = ("", "///", "...", "xxx")  # seven colours with each: 28 classes


def patterns(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the availability patterns, the most frequent first, and their cases by class.

    Returns:
        (P, M) bool and (P, K) int64.
    """
    natural = dataset.natural().modality
    found, place = np.unique(natural, axis=0, return_inverse=True)
    counts = np.zeros((len(found), len(dataset.classes)), dtype=np.int64)
    np.add.at(counts, (place.reshape(-1), dataset.label), 1)
    order = np.lexsort((-found.sum(axis=1), -counts.sum(axis=1)))
    return found[order], counts[order]


def pattern_frame(dataset: Dataset) -> pd.DataFrame:
    """Return a row per pattern and class: its cases, and the class's share of the pattern."""
    import pandas as pd

    found, counts = patterns(dataset)
    rows = [
        {
            "pattern": _name(pattern),
            "modalities": _long_name(dataset, pattern),
            "class": name,
            "cases": int(of_class[k]),
            "share": round(float(of_class[k] / of_class.sum()), 4),
        }
        for pattern, of_class in zip(found, counts, strict=True)
        for k, name in enumerate(dataset.classes)
    ]
    return pd.DataFrame(rows)


def pattern_drawing(dataset: Dataset) -> Drawing:
    """Draw the most frequent patterns with the classes of their cases."""
    found, counts = patterns(dataset)
    shown = min(len(found), MAX_PATTERNS)
    height = 1.1 + 0.3 * shown + 0.12 * max(map(len, dataset.modality_names))
    width = 1.2 + 0.34 * dataset.n_modalities
    figure, (dots, bars) = panels(
        2, 2, (3.6, height), sharey=True, gridspec_kw={"width_ratios": [width, 4.5]}
    )
    _draw_dots(dots, found[:shown], dataset.modality_names)
    _draw_bars(bars, counts[:shown], dataset.classes)
    more = f" {len(found) - shown} rarer patterns are not shown." if len(found) > shown else ""
    note = (
        f"{dataset.n_cases} cases. A row is an availability pattern: a filled dot is a modality "
        "that its cases have. Beside each bar: cases, share of all"
        f"{', share of each class' if len(dataset.classes) <= FEW_CLASSES else ''}.{more}"
    )
    title(figure, f"{dataset.name}: which modalities cases have", note)
    return Drawing(file_name(dataset.name, "patterns"), figure, pattern_frame(dataset))


def _draw_dots(ax: Axes, found: np.ndarray, modalities: tuple[str, ...]) -> None:
    rows, columns = np.meshgrid(*map(np.arange, found.shape), indexing="ij")
    for there, colour in ((False, "#DDDDDD"), (True, "#202020")):
        at = found == there
        ax.scatter(columns[at], rows[at], s=36, color=colour, zorder=2)
    for row, pattern in enumerate(found):
        places = np.flatnonzero(pattern)
        if len(places) > 1:
            ax.plot(places[[0, -1]], [row, row], color="#202020", linewidth=1.2, zorder=1)
    ax.set_xticks(range(len(modalities)), modalities, rotation=90)
    ax.set_yticks(range(len(found)), [_name(pattern) for pattern in found])
    ax.set_xlim(-0.6, len(modalities) - 0.4)
    ax.invert_yaxis()
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0)


def _draw_bars(ax: Axes, counts: np.ndarray, classes: tuple[str, ...]) -> None:
    left = np.zeros(len(counts))
    for k, name in enumerate(classes):
        colour, hatch = COLOURS[k % len(COLOURS)], HATCHES[k // len(COLOURS) % len(HATCHES)]
        ax.barh(
            range(len(counts)),
            counts[:, k],
            left=left,
            height=0.7,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.4,
            label=name,
        )
        left += counts[:, k]
    total = counts.sum()
    for row, of_class in enumerate(counts):
        ax.annotate(
            _beside(of_class, total),
            (float(left[row]), row),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=GREY,
        )
    ax.set_xlim(0, 1.45 * float(left.max()))
    ax.set_xlabel("cases", fontsize=8)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.legend(
        fontsize=7,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=min(4, len(classes)),
    )


def _beside(of_class: np.ndarray, total: int) -> str:
    """Write `12 (5 %): 25/75 %`; the shares of classes only where they are few."""
    n_cases = of_class.sum()
    text = f"{n_cases} ({100 * n_cases / total:.0f} %)"
    if len(of_class) > FEW_CLASSES:
        return text
    return f"{text}: {'/'.join(f'{100 * each / n_cases:.0f}' for each in of_class)} %"


def _name(pattern: np.ndarray) -> str:
    return subset_name(tuple(np.flatnonzero(pattern).tolist())) if pattern.any() else "-"


def _long_name(dataset: Dataset, pattern: np.ndarray) -> str:
    names = [dataset.modality_names[m] for m in np.flatnonzero(pattern)]
    return "+".join(names) or "nothing"
