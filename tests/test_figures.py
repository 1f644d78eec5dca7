"""Figures as files: small where nobody sees it, whole where somebody would."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from PIL import Image

from bench.drawing import BLUE, legend_beside, panels
from bench.figures import write_drawing
from bench.report import Drawing


def written(picture: np.ndarray, folder: Path) -> Any:
    """Write a figure of a picture and of a line; return its PNG."""
    figure, (left, right) = panels(2, 2, (3.0, 2.0))
    left.imshow(picture)
    figure.suptitle("λ and a line")
    right.plot([0, 1, 2], [0, 1, 4], color=BLUE)
    png = write_drawing(Drawing("figure", figure, pd.DataFrame({"x": [1]}), 100), folder)[1]
    return Image.open(io.BytesIO(png.read_bytes()))


def test_a_figure_of_few_colours_has_a_palette_that_keeps_its_large_areas(tmp_path: Path) -> None:
    flat = np.full((4, 4, 3), (0.5, 0.25, 0.75))
    png = written(flat, tmp_path)
    assert (png.mode, png.text) == ("P", {"Title": "λ and a line"})
    assert png.size == (600, 260)
    counts = {colour: n for n, colour in png.convert("RGB").getcolors() or []}
    assert counts[255, 255, 255] > 50_000
    assert counts[127, 63, 191] > 10_000
    assert (0x00, 0x72, 0xB2) in counts


def test_a_figure_of_many_colours_keeps_them(tmp_path: Path) -> None:
    assert written(np.random.default_rng(0).random((64, 64, 3)), tmp_path).mode != "P"


def test_a_long_legend_makes_its_figure_high_and_every_column_of_panels_has_its_ticks() -> None:
    figure, axes = panels(5, 4, (1.5, 1.5), sharex=True)
    low = figure.get_figheight()
    legend_beside(figure, [Line2D([], [], label="one")])
    assert figure.get_figheight() == low
    figure.legends[0].remove()
    legend_beside(figure, [Line2D([], [], label=f"row {k}") for k in range(30)])
    FigureCanvasAgg(figure).draw()
    box = figure.legends[0].get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= figure.bbox.height
    shown = [any(tick.label1.get_visible() for tick in ax.xaxis.get_major_ticks()) for ax in axes]
    assert shown == [False, True, True, True, True]
