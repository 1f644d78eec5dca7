"""Degradation curves: the numbers that are drawn, and the files that are written."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.figures import write_drawing
from bench.layout import Layout, LayoutColumn
from bench.report import Drawing, ReportOptions
from bench.reports.curves import PLUGIN
from bench.scores.results import load_results
from bench.store import StudyFolder
from tests.command_line import call
from tests.synthetic_runs import (
    ACC_0_AUC_0,
    ACC_50_AUC_75,
    ACC_100_AUC_100,
    binary,
    failed,
    finished,
)

RATES = {"as-is": 0.0, "attribute-30": 0.3}


def layout(*trainings: str, kind: Any = "rates") -> Layout:
    """Lay out two rates at test, in a block per training if there are several."""
    columns = tuple(
        LayoutColumn(
            training,
            "all-subsets",
            condition,
            f"{100 * rate:g} %",
            "",
            rate=rate,
            block=f"train {training}" if len(trainings) > 1 else "",
        )
        for training in trainings
        for condition, rate in RATES.items()
    )
    axis = "share of cells absent at test; each block is a training"
    return Layout("toy", "m-tr+m-te", "M-Tr+M-Te", kind, columns, "attributes", axis, "at random")


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def draw(study: StudyFolder, *layouts: Layout, metric: str = "ACC") -> list[Drawing]:
    return PLUGIN().draw(load_results(study), layouts, ReportOptions((metric,)))


def points(data: pd.DataFrame) -> dict[tuple[str, float], float]:
    return {(row["panel"], row["rate"]): row["mean"] for _, row in data.iterrows()}


def two_seeds(study: StudyFolder, **changes: Any) -> None:
    for seed, scores in enumerate((ACC_100_AUC_100, ACC_50_AUC_75)):
        by_condition = {"as-is": ACC_100_AUC_100, "attribute-30": scores}
        finished(study, binary(by_condition), seed=seed, **changes)


def test_a_point_is_the_mean_and_deviation_over_repeats(study: StudyFolder) -> None:
    two_seeds(study)
    (drawing,) = draw(study, layout("complete"))
    assert drawing.name == "curves-toy-ACC"
    data = drawing.data
    assert data["rate"].tolist() == [0.0, 0.3]
    assert data["mean"].tolist() == [100.0, 75.0]  # at 30 %: 100 and 50
    assert data["sd"].tolist() == pytest.approx([0.0, 50 / math.sqrt(2)])
    assert data["n"].tolist() == [4, 4]
    assert set(data["repeats"]) == {2}


def test_each_training_of_a_grid_is_a_panel(study: StudyFolder) -> None:
    finished(study, binary({"as-is": ACC_100_AUC_100, "attribute-30": ACC_50_AUC_75}))
    scores = binary({"as-is": ACC_50_AUC_75, "attribute-30": ACC_0_AUC_0})
    finished(study, scores, setting={"name": "attribute-50", "gaps": {"rate": 0.5}})
    (drawing,) = draw(study, layout("complete", "attribute-50"))
    assert points(drawing.data) == {
        ("M-Tr+M-Te (attributes), train complete", 0.0): 100.0,
        ("M-Tr+M-Te (attributes), train complete", 0.3): 50.0,
        ("M-Tr+M-Te (attributes), train attribute-50", 0.0): 50.0,
        ("M-Tr+M-Te (attributes), train attribute-50", 0.3): 0.0,
    }
    assert len(drawing.figure.axes) == 2


def test_the_figure_shows_the_numbers_behind_it(study: StudyFolder) -> None:
    two_seeds(study, method="a")
    failed(study, "out of memory", method="b")
    (drawing,) = draw(study, layout("complete"))
    (ax,) = drawing.figure.axes
    (line,) = ax.lines
    assert np.asarray(line.get_xdata()).tolist() == [0.0, 30.0]
    assert np.asarray(line.get_ydata()).tolist() == [100.0, 75.0]
    assert len(ax.collections) == 1  # the band
    assert ax.get_xlabel() == "share of cells absent at test (%)"
    (legend,) = drawing.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a"]
    note = " ".join(legend.get_title().get_text().split())
    assert note.startswith("Band: ± sample SD over 2 repeats. Absent: at random.")
    assert note.endswith("Without a finished run: b.")


def test_one_repeat_has_no_band(study: StudyFolder) -> None:
    finished(study, binary({"as-is": ACC_100_AUC_100, "attribute-30": ACC_50_AUC_75}))
    (drawing,) = draw(study, layout("complete"))
    assert drawing.data["sd"].isna().all()
    (legend,) = drawing.figure.legends
    assert "no band" in legend.get_title().get_text()


def test_no_two_methods_look_alike(study: StudyFolder) -> None:
    for i in range(24):  # more than there are colours
        finished(study, binary({"as-is": ACC_100_AUC_100}), method=f"method{i}")
    (drawing,) = draw(study, layout("complete"))
    looks = {(line.get_color(), line.get_marker()) for line in drawing.figure.axes[0].lines}
    assert len(looks) == 24


def test_what_has_no_rates_is_left_out(study: StudyFolder) -> None:
    two_seeds(study)
    assert draw(study, layout("complete", kind="subsets")) == []


def test_files_are_pdf_png_and_csv_and_the_same_each_time(study: StudyFolder) -> None:
    two_seeds(study)
    contents = []
    for _ in range(2):
        (drawing,) = draw(study, layout("complete"))
        paths = write_drawing(drawing, study.reports_path)
        contents.append([path.read_bytes() for path in paths])
    assert [path.name for path in paths] == [
        f"curves-toy-ACC.{ending}" for ending in ("pdf", "png", "csv")
    ]
    assert contents[0] == contents[1]
    pdf, png, table = contents[0]
    assert pdf.startswith(b"%PDF")
    assert png.startswith(b"\x89PNG")
    assert b"toy,M-Tr+M-Te (attributes),share of cells absent at test,complete,as-is,0.0" in table
    assert sorted(path.name for path in study.reports_path.iterdir()) == sorted(
        path.name for path in paths
    )


def test_the_command_names_the_files_or_says_why_there_are_none(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_seeds(study)
    out = ["--out", str(study.root)]
    assert call("figure", "curves", *out) == 2
    assert "curves finds nothing to draw in this study" in capsys.readouterr().err
    assert call("figure", "subsets", *out) == 2
    assert "subsets makes tables" in capsys.readouterr().err
    entry = {"asked": {"methods": ["concat"]}, "layouts": [layout("complete").to_json()]}
    cells = [[path.name, []] for path in study.runs_path.iterdir()]
    study.write_json("study.json", {"requests": {"k": {**entry, "cells": cells, "files": []}}})
    assert call("figure", *out, "--metric", "auc") == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == [f"curves-toy-AUC.{ending}" for ending in ("pdf", "png", "csv")]


def test_matplotlib_is_imported_when_something_is_drawn() -> None:
    code = (
        "import sys, bench.reports.curves, bench.figures, bench.reporting.printing\n"
        "print({'torch', 'matplotlib', 'seaborn', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
