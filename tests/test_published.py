"""The papers' printed cells beside measured ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.layout import Layout, LayoutColumn
from bench.report import ReportOptions
from bench.reporting.printing import tables_of
from bench.reporting.published import FILE, facts
from bench.scores.results import load_results
from bench.store import StudyFolder
from bench.tables import Cell, Table, to_markdown
from tests.synthetic_runs import ACC_50_AUC_75, binary, finished

SUBSETS = ("0", "1", "2", "01", "02", "12", "012")


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def subsets_of(dataset: str, variant: str = "") -> Layout:
    columns = tuple(LayoutColumn("complete", "all-subsets", s, s, s) for s in SUBSETS)
    return Layout(dataset, "all-subsets", "All subsets", "subsets", columns, variant)


def rates() -> Layout:
    columns = tuple(
        LayoutColumn("complete", "all-subsets", f"r{r}", f"{r} %", f"{r} %", rate=r / 100)
        for r in (0, 10)
    )
    law = "attributes of the tables, completely at random, exact counts per column"
    return Layout("derm7pt", "c-tr+m-te", "C-Tr+M-Te", "rates", columns, "attributes", law=law)


def build(study: StudyFolder, layout: Layout, **options: Any) -> Table:
    asked = ReportOptions(**{"published": True} | options)
    (table,) = tables_of(load_results(study), [layout], asked)
    return table


def printed(table: Table, label: str, metric: str, key: str) -> Cell:
    c = next(i for i, each in enumerate(table.columns) if (each.group, each.key) == (metric, key))
    (row,) = [row for group in table.groups[1:] for row in group.rows if row.label == label]
    return row.cells[c]


def notes_of(table: Table, cell: Cell) -> str:
    return " ".join(table.footnotes.get(mark, "") for mark in cell.marks)


def five_classes() -> pd.DataFrame:
    frame = pd.DataFrame({"case": [f"c{i}" for i in range(5)], "label": range(5)})
    proba = pd.DataFrame(np.eye(5), columns=[f"p_{k}" for k in range(5)])
    whole = pd.concat([frame, proba], axis=1)
    return pd.concat([whole.assign(condition=name) for name in ("r0", "r10")])


def test_every_printed_cell_is_carried_over(shared: Path) -> None:
    assert FILE.read_bytes() == (shared / "published.csv").read_bytes()
    assert len(facts()) == 526


def test_printed_cells_stand_below_measured_ones_of_their_dataset(study: StudyFolder) -> None:
    finished(study, binary(dict.fromkeys(SUBSETS, ACC_50_AUC_75)), dataset="derm7pt")
    table = build(study, subsets_of("derm7pt"))
    assert [group.title for group in table.groups] == ["", "published: CMML, table 2"]
    cell = printed(table, "ShaSpec", "AUC", "0")
    assert (cell.value, cell.spread, cell.marks) == (72.94, 3.5, ("†",))
    assert not any(each.best for row in table.groups[1].rows for each in row.cells)
    assert "compare their shape, not their digits" in " ".join(table.caption)
    assert "published: CMML, table 2" in to_markdown(table)


def test_known_faults_are_footnotes_of_their_cells(study: StudyFolder) -> None:
    for dataset in ("derm7pt", "odir"):
        predictions = binary(dict.fromkeys(SUBSETS, ACC_50_AUC_75))
        if dataset == "odir":
            predictions["p_2"] = 0.0
        finished(study, predictions, dataset=dataset)
    derm7pt, odir = (build(study, subsets_of(name)) for name in ("derm7pt", "odir"))
    assert "average 67.75" in notes_of(odir, printed(odir, "MCMoE", "ACC", "AVG"))
    assert "it is 0.11" in notes_of(odir, printed(odir, "CMML", "AUC", "AVG"))
    assert "No star in print" in notes_of(derm7pt, printed(derm7pt, "MCMoE", "AUC", "AVG"))
    assert "gain of 1.69" in notes_of(derm7pt, printed(derm7pt, "CMML", "AUC", "AVG"))
    assert "cannot have so small" in notes_of(derm7pt, printed(derm7pt, "SimMLM", "ACC", "2"))
    assert "spread between its seven means" in notes_of(
        derm7pt, printed(derm7pt, "SFusion", "ACC", "AVG")
    )


def test_rows_that_are_printed_twice_say_so(study: StudyFolder) -> None:
    finished(study, five_classes(), dataset="derm7pt")
    table = build(study, rates(), metrics=("ACC",))
    assert [group.title for group in table.groups] == ["", "published: AlignedFusion, table 1b"]
    row = next(row for row in table.groups[1].rows if row.label == "AlignedFusion")
    assert [cell.value for cell in row.cells] == [81.52, 81.27, None]
    said = " ".join(table.footnotes[mark] for mark in row.marks)
    assert "printed identically in AlignedFusion's tables 1(a), 1(b), 2" in said
    assert "single runs, without a spread" in said
    assert "78.23 in table 1(b)" in notes_of(table, printed(table, "Self-Attention", "ACC", "r0"))


@pytest.mark.parametrize(
    ("dataset", "variant"), [("toy", ""), ("derm7pt", "training: modality-30"), ("men", "")]
)
def test_other_datasets_and_trainings_have_none(
    study: StudyFolder, dataset: str, variant: str
) -> None:
    finished(study, binary(dict.fromkeys(SUBSETS, ACC_50_AUC_75)), dataset=dataset)
    table = build(study, subsets_of(dataset, variant))
    assert len(table.groups) == 1
    assert "No published cells are of this dataset, task and protocol." in table.caption


def test_another_task_of_the_dataset_has_none(study: StudyFolder) -> None:
    finished(study, five_classes().replace("r0", "0"), dataset="derm7pt")
    assert len(build(study, subsets_of("derm7pt")).groups) == 1


def test_they_are_shown_only_on_request(study: StudyFolder) -> None:
    finished(study, binary(dict.fromkeys(SUBSETS, ACC_50_AUC_75)), dataset="derm7pt")
    table = build(study, subsets_of("derm7pt"), published=False)
    assert len(table.groups) == 1
    assert "ublished" not in " ".join(table.caption)
