"""Every table as LaTeX: compiled on A4 landscape, without an overfull box, whatever names say."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from bench.complexity.tables import Effort, complexity_tables
from bench.layout import Layout, LayoutColumn
from bench.report import ReportOptions
from bench.reporting.comparing import Side, compared
from bench.reporting.printing import tables_of
from bench.request import Request
from bench.scores.results import load_results
from bench.scores.significance import Claim
from bench.store import StudyFolder
from bench.tables import Table, to_latex
from bench.variants.tables import Comparison, Series, comparison_table
from tests.synthetic_runs import binary, failed, finished

HOSTILE = r"a&b%c_d#e$f^g~h\i{j}"
METHODS = (HOSTILE, *(f"method_{m}:with&preset" for m in range(1, 7)))
SUBSETS = ("0", "1", "2", "01", "02", "12", "012")
N_CASES = 40
LABEL = [0, 1] * (N_CASES // 2)
OPTIONS = ReportOptions(metrics=("ACC", "AUC"))
TOO_HIGH = "Float too large for page"  # a warning; a box that is too wide is an overfull one

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed"),
]


def layout(
    dataset: str = HOSTILE, kind: Literal["subsets", "rates"] = "subsets", n_blocks: int = 1
) -> Layout:
    columns = tuple(
        LayoutColumn(
            "complete",
            "all-subsets",
            name,
            name,
            f"image_{name}+table&{name}",
            rate=i / 10 if kind == "rates" else None,
            block=f"train {10 * block} %" if n_blocks > 1 else "",
        )
        for block in range(n_blocks)
        for i, name in enumerate(SUBSETS)
    )
    return Layout(dataset, "all-subsets", f"All {HOSTILE}", kind, columns, HOSTILE)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def trained(study: StudyFolder, dataset: str = HOSTILE) -> None:
    """Store seven methods with three seeds on seven subsets, the last of which failed once."""
    for m, method in enumerate(METHODS):
        name, _, preset = method.partition(":")
        for seed in range(3):
            changes: dict[str, Any] = {"dataset": dataset, "seed": seed, "preset": preset}
            if m == 6 and seed == 2:
                failed(study, f"out of {HOSTILE}", method=name, **changes)
                continue
            rng = np.random.default_rng([m, seed])
            gap = (7 - m) / 4
            scores = {
                each: (1 / (1 + np.exp(-rng.normal(gap * (2 * np.array(LABEL) - 1))))).tolist()
                for each in SUBSETS
            }
            finished(study, binary(scores, LABEL), method=name, **changes)


def noted(study: StudyFolder, shown: Layout) -> None:
    entry = {"asked": {"methods": ["concat"]}, "layouts": [shown.to_json()], "files": []}
    cells = [[path.name, []] for path in sorted(study.runs_path.iterdir())]
    study.write_json("study.json", {"requests": {"k": {**entry, "cells": cells}}})


def compiled(tables: list[Table], folder: Path, *, may_be_high: bool = False) -> str:
    """Compile each table in a document and return what pdflatex says of boxes that do not fit."""
    bad = ("verfull",) if may_be_high else ("verfull", TOO_HIGH)
    assert tables
    said = []
    for i, table in enumerate(tables):
        path = folder / f"t{i}.tex"
        path.write_text(to_latex(table, standalone=True), encoding="utf-8")
        assert "a4paper,landscape" in path.read_text(encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
        )
        assert done.returncode == 0, done.stdout[-2000:]
        said += [line for line in done.stdout.splitlines() if any(each in line for each in bad)]
    return "\n".join(said)


def test_the_table_of_subsets(study: StudyFolder, tmp_path: Path) -> None:
    trained(study)
    assert compiled(tables_of(load_results(study), [layout()], OPTIONS), tmp_path) == ""
    more = replace(OPTIONS, worst=True, monotonicity=True, metrics=("ACC", "AUC", "Brier"))
    built = tables_of(load_results(study), [layout()], more)
    assert compiled(built, tmp_path) == ""


def test_the_table_of_rates(study: StudyFolder, tmp_path: Path) -> None:
    trained(study)
    for n_blocks in (1, 3):
        shown = layout(kind="rates", n_blocks=n_blocks)
        built = tables_of(load_results(study), [shown], OPTIONS)
        assert compiled(built, tmp_path) == ""


def test_published_beside_measured(study: StudyFolder, tmp_path: Path) -> None:
    trained(study, "derm7pt")
    shown = replace(layout("derm7pt"), variant="")
    options = replace(OPTIONS, published=True)
    (table,) = tables_of(load_results(study), [shown], options)
    assert len(table.groups) > 1
    assert compiled([table], tmp_path) == ""


def test_a_pairwise_comparison(study: StudyFolder, tmp_path: Path) -> None:
    trained(study)
    noted(study, layout())
    sides = [Side.of(name, study.root, "main") for name in METHODS[:2]]
    tables = compared(*sides, dataset="", metrics=("ACC", "AUC"), claim=Claim())
    assert compiled(tables, tmp_path) == ""


def test_an_ablation(study: StudyFolder, tmp_path: Path) -> None:
    trained(study)
    runs = [run for run in load_results(study) if run.state == "done"]
    labels = dict.fromkeys(run.row for run in runs)
    series = tuple(
        Series(f"w/o {label}", tuple(run for run in runs if run.row == label)) for label in labels
    )
    table = comparison_table(Comparison(layout(), series[0], series), HOSTILE)
    assert compiled([table], tmp_path) == ""


def test_complexity_per_subset(tmp_path: Path) -> None:
    request = Request(methods=("cmml:", "concat:", "elementwise-sum:"))
    tables = complexity_tables(request, Effort(n_repeats=1, per_subset=True))
    named = [replace(each, title=HOSTILE) for each in tables]
    assert compiled(named, tmp_path) == ""
