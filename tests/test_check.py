"""`bench check`: every promise of a study, kept and broken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.reporting.checking import check, lines_of, standing
from bench.spec import EncoderConfig, Recipe
from bench.store import RunFolder, StudyFolder
from tests.command_line import call
from tests.synthetic_runs import ACC_50_AUC_75, ACC_100_AUC_100, binary, failed, finished, skipped


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def parts(test: Sequence[str], train: Sequence[str] = ("t0", "t1", "v0")) -> pd.DataFrame:
    """Lay out which cases a run was trained, selected and tested on."""
    seen = [(case, "valid" if case.startswith("v") else "train", "") for case in train]
    rows = [*seen, *((case, "test", "") for case in test)]
    return pd.DataFrame(rows, columns=["case", "part", "condition"]).assign(mean=True)


def stored(study: StudyFolder, method: str, *, train: Any = None, **changes: Any) -> RunFolder:
    """Store a run with the record of its parts."""
    predictions = binary({"0": ACC_50_AUC_75, "1": ACC_100_AUC_100})
    cases = list(predictions["case"].unique())
    frame = parts(cases) if train is None else parts(cases, train)
    folder = finished(study, predictions, method=method, **changes)
    folder.path_of("availability.parquet").unlink(missing_ok=True)
    frame.to_parquet(folder.path_of("availability.parquet"))
    return folder


def faults(study: StudyFolder) -> str:
    return " | ".join(fault for each in check(study) for fault in each.faults)


def two_methods(study: StudyFolder) -> None:
    for method in "ab":
        for seed in range(2):
            stored(study, method, seed=seed)


def test_a_whole_and_even_study_has_no_fault(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study)
    skipped(study, "takes two modalities", method="c")
    assert faults(study) == ""
    assert call("check", "--out", str(study.root)) == 0
    out = capsys.readouterr().out
    assert out.count("ok ") == 10
    assert out.endswith("no fault found\n")


def test_failed_and_absent_cells_and_conditions_are_named(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study)
    broken = failed(study, "out of memory", method="c")
    done = stored(study, "d").path.name
    cells = [["gone-run", ["0"]], [broken.path.name, ["0"]], [done, ["0", "01"]]]
    asked = {"methods": ["c", "d"]}
    entry = {"asked": asked, "cells": cells, "layouts": [], "files": []}
    study.write_json("study.json", {"requests": {"key": entry}})
    study.run_named("gone-run").path.mkdir()
    found = faults(study)
    assert "gone-run was never begun" in found
    assert f"{broken.path.name} is failed: out of memory" in found
    assert f"{done} was not tested in 01" in found
    assert call("check", "--out", str(study.root)) == 1
    assert "FAULT  all cells asked for are there" in capsys.readouterr().out


def test_rows_with_other_seeds_are_named(study: StudyFolder) -> None:
    two_methods(study)
    stored(study, "b", seed=2)
    assert "a lacks fold 0, seed 2 (complete)" in faults(study)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "other"}, "different splits in fold 0, seed 0: a against b"),
        ({"pattern": "other"}, "different missing patterns in fold 0, seed 0, trained with compl"),
        ({"encoder": EncoderConfig(image="vit")}, "different encoders or weights: a against b"),
        ({"encoder": EncoderConfig(weights="x.pt")}, "different encoders or weights: a against b"),
        ({"recipe": Recipe(epochs=60)}, "different training recipes: a against b"),
        ({"selection": "complete"}, "different rules of selection"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_rows_do_not_share_is_named(
    study: StudyFolder, changes: dict[str, Any], said: str
) -> None:
    stored(study, "a")
    stored(study, "b", **changes)
    assert faults(study).count("toy, training: complete: ") == 1
    assert said in faults(study)


def test_other_test_cases_are_named(study: StudyFolder) -> None:
    stored(study, "a")
    finished(study, binary({"0": ACC_50_AUC_75}, first_case=1), method="b")
    assert "different test cases or labels in column 0, fold 0, seed 0: a against b" in faults(
        study
    )
    assert "b on toy, complete, fold 0, seed 0 has no record of the cases of its parts" in faults(
        study
    )


def test_predictions_that_are_no_probabilities_are_named(study: StudyFolder) -> None:
    two_methods(study)
    folder = stored(study, "c")
    frame = pd.read_parquet(folder.path_of("predictions.parquet"))
    frame.loc[frame["condition"] == "1", "p_0"] = float("nan")
    frame.to_parquet(folder.path_of("predictions.parquet"))
    assert "c on toy, complete, fold 0, seed 0, column 1: not all rows are prob" in faults(study)


def test_test_cases_in_training_or_validation_are_named(study: StudyFolder) -> None:
    stored(study, "a", train=("t0", "case1", "v0"))
    assert "1 test case also in training or validation" in faults(study)


def test_two_rules_side_by_side_are_no_fault_if_every_row_has_both(study: StudyFolder) -> None:
    for method in "ab":
        for rule in ("complete", "as-trained"):
            stored(study, method, selection=rule)
    assert "rules of selection" not in faults(study)


def test_many_faults_are_cut_short(study: StudyFolder) -> None:
    for seed in range(8):
        failed(study, "out of memory", method="a", seed=seed)
    lines = lines_of(check(study))
    assert sum("is failed: out of memory" in line for line in lines) == 5
    assert "       - and 3 more" in lines


def test_a_study_says_whether_it_was_checked_as_it_stands(study: StudyFolder) -> None:
    two_methods(study)
    assert standing(study) == "UNCHECKED: `bench check` was not run on this study."
    check(study)
    assert standing(study) == ""
    failed(study, "out of memory", method="a", seed=2)
    assert standing(study).endswith("was not run on this study since it changed.")
    check(study)
    assert standing(study).startswith("CHECKED WITH ")


def test_a_report_of_an_unchecked_study_says_so_at_its_top(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study)
    assert call("report", "--out", str(study.root)) == 0
    page = Path(capsys.readouterr().out.strip())
    text = page.read_text()
    assert 0 < text.index("UNCHECKED: `bench check`") < text.index("<table>")
    check(study)
    assert call("report", "--out", str(study.root)) == 0
    assert "UNCHECKED" not in page.read_text()
