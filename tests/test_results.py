"""Runs read for reports, and scores computed from their stored predictions."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import BadRequest, UnknownName
from bench.scores.results import RunResult, load_results, unreadable
from bench.scores.rows import layouts_of, rows_of, runs_of
from bench.scores.scoring import cases_scored, constant_places, score_grid, scores, summarise
from bench.store import State, StudyFolder
from tests.synthetic_runs import (
    ACC_0_AUC_0,
    ACC_50_AUC_50,
    ACC_50_AUC_75,
    ACC_100_AUC_100,
    binary,
    failed,
    finished,
    run_spec,
    skipped,
)

PLACES = [("complete", "0"), ("complete", "1")]


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def result(predictions: pd.DataFrame | None, *, facts: Any = None, **changes: Any) -> RunResult:
    state: State = "pending" if predictions is None else "done"
    return RunResult(run_spec(**changes).model_dump(mode="json"), state, facts or {}, predictions)


def test_every_run_that_was_begun_is_read_with_its_state(study: StudyFolder) -> None:
    finished(study, binary({"0": ACC_100_AUC_100}), method="a", preset="small")
    failed(study, "the loss is not finite\nin epoch 3", method="b", seed=1)
    skipped(study, "takes two modalities", method="c", setting={"name": "mcar"})
    (study.runs_path / "never-begun").mkdir()
    done, broken, skip = load_results(study)
    assert (done.row, done.dataset, done.setting, done.repeat) == (
        "a:small",
        "toy",
        "complete",
        (0, 0),
    )
    assert (done.state, done.reason) == ("done", "")
    assert done.predictions is not None
    assert len(done.predictions) == 4
    assert (broken.state, broken.reason) == ("failed", "the loss is not finite")
    assert broken.repeat == (0, 1)
    assert broken.predictions is None
    assert (skip.state, skip.reason, skip.setting) == ("skipped", "takes two modalities", "mcar")


def test_runs_come_in_the_order_of_the_names_given(study: StudyFolder) -> None:
    first = finished(study, binary({"0": ACC_100_AUC_100}), method="z")
    second = failed(study, "broken", method="a")
    finished(study, binary({"0": ACC_100_AUC_100}), method="m")
    named = load_results(study, [first.path.name, second.path.name, "not-there"])
    assert [each.row for each in named] == ["z", "a"]
    chosen = load_results(study, select=lambda folder: folder.state == "failed")
    assert [each.row for each in chosen] == ["a"]


def test_a_damaged_run_is_a_result_and_one_that_nobody_can_name_is_none(study: StudyFolder) -> None:
    folder = finished(study, binary({"0": ACC_100_AUC_100}))
    folder.path_of("predictions.parquet").write_bytes(b"PAR1")
    (run,) = load_results(study)
    assert run.state == "damaged"
    assert run.reason.startswith("'predictions.parquet' is damaged: ")
    assert run.predictions is None
    folder.path_of("spec.json").write_bytes(b"")
    assert load_results(study) == []
    assert "spec.json' is damaged" in unreadable(folder)


def test_scores_are_those_worked_by_hand() -> None:
    table = scores(result(binary({"0": ACC_50_AUC_75, "1": ACC_0_AUC_0})))
    assert table.to_dict("list") == {
        "condition": ["0", "0", "1", "1"],
        "metric": ["ACC", "AUC", "ACC", "AUC"],
        "value": [0.5, 0.75, 0.0, 0.0],
        "n": [4, 4, 4, 4],
        "flagged": [False, False, False, False],
    }


def test_a_condition_without_cases_has_no_score() -> None:
    found = result(binary({"0": ACC_50_AUC_75}), facts={"conditions": ["0", "1"]})
    table = scores(found, ("ACC",)).set_index("condition")
    assert table.loc["1", "n"] == 0
    assert table["value"].isna().to_dict() == {"0": False, "1": True}


def test_an_absent_class_flags_the_mean_over_the_others() -> None:
    # classes 0 and 1 are ranked perfectly, class 2 has no case
    predictions = pd.DataFrame({"case": ["a", "b"], "condition": "0", "label": [0, 1]})
    predictions = predictions.assign(p_0=[0.8, 0.1], p_1=[0.1, 0.7], p_2=[0.1, 0.2])
    table = scores(result(predictions)).set_index("metric")
    assert table.loc["AUC", "value"] == 1.0
    assert table["flagged"].to_dict() == {"ACC": False, "AUC": True}


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean AUC"):
        scores(result(binary({"0": ACC_50_AUC_75})), ("AUK",))


def test_spread_is_the_sample_deviation_over_repeats() -> None:
    found = summarise(np.array([0.75, 1.0]), np.zeros(2, bool), [(0, 0), (0, 1)])
    assert found.mean == 0.875
    assert found.spread == pytest.approx(0.125 * math.sqrt(2))  # sqrt(2 * 0.125^2 / (2 - 1))
    assert summarise(np.array([0.75]), np.zeros(1, bool), [(0, 0)]).spread is None


def test_repeats_without_value_and_flagged_ones_are_said() -> None:
    repeats = [(0, 0), (1, 0), (2, 0)]
    found = summarise(np.array([0.5, np.nan, 0.7]), np.array([False, True, True]), repeats)
    assert found.mean == pytest.approx(0.6)
    assert (found.n_repeats, found.undefined, found.flagged) == (2, ((1, 0),), ((2, 0),))
    nothing = summarise(np.array([np.nan]), np.array([True]), [(0, 0)])
    assert math.isnan(nothing.mean)
    assert (nothing.n_repeats, nothing.flagged) == (0, ())


def test_avg_is_over_repeats_of_each_repeats_mean() -> None:
    runs = [
        result(binary({"0": ACC_50_AUC_75, "1": ACC_100_AUC_100}), seed=0),
        result(binary({"0": ACC_100_AUC_100, "1": ACC_0_AUC_0}), seed=1),
    ]
    found = score_grid(runs, PLACES).average("AUC", PLACES)
    assert found.mean == pytest.approx((0.875 + 0.5) / 2)
    assert found.spread == pytest.approx(0.375 / math.sqrt(2))


def test_avg_agrees_with_the_reference(shared: Path) -> None:
    reference = json.loads((shared / "golden/statistics/avg.json").read_text())
    values = np.array(reference["subset_by_seed"])  # (C, R)
    repeats = [(0, seed) for seed in range(values.shape[1])]
    found = summarise(values.mean(0), np.zeros(len(repeats), bool), repeats)
    assert found.mean == pytest.approx(reference["avg_mean"], abs=1e-12)
    assert found.spread == pytest.approx(reference["avg_sd_over_seeds_ddof1"], abs=1e-12)


def test_a_repeat_with_an_undefined_column_is_left_out_of_avg() -> None:
    runs = [
        result(binary({"0": ACC_50_AUC_75, "1": ACC_100_AUC_100}), fold=0),
        result(binary({"0": (0.2, 0.3), "1": ACC_0_AUC_0}), fold=1),  # labels 0, 0: one class
    ]
    grid = score_grid(runs, PLACES)
    found = grid.average("AUC", PLACES)
    assert (found.mean, found.n_repeats, found.undefined) == (0.875, 1, ((1, 0),))
    assert grid.cell("AUC", PLACES[0]).undefined == ((1, 0),)
    assert grid.cell("ACC", PLACES[0]).n_repeats == 2


def test_cases_are_counted_once_over_seeds_and_folds() -> None:
    runs = [
        result(binary({"0": ACC_50_AUC_75, "1": ACC_50_AUC_75[:2]}), seed=0),
        result(binary({"0": ACC_50_AUC_75}), seed=1),
        result(binary({"0": ACC_50_AUC_75}, first_case=4), fold=1),
    ]
    assert [len(cases_scored(runs, place)) for place in PLACES] == [8, 2]
    assert score_grid(runs, PLACES).n_cases == {PLACES[0]: 8, PLACES[1]: 2}


def test_runs_are_sorted_into_tables_and_rows_in_the_order_given() -> None:
    runs = [
        result(None, method="b", dataset="y"),
        result(None, method="b", dataset="x"),
        result(None, method="a", dataset="x"),
        result(None, method="b", dataset="x", seed=1, split="other", pattern="other"),
        result(None, method="b", dataset="x", setting={"name": "mcar"}),
    ]
    layouts = layouts_of(runs)
    assert [each.title for each in layouts] == [
        "y, training: complete",
        "x, training: complete",
        "x, training: mcar",
    ]
    rows = rows_of(runs_of(runs, layouts[1]))
    assert [(row.label, len(row.runs)) for row in rows] == [("b", 2), ("a", 1)]


def test_configurations_of_one_name_are_rows_that_say_how_they_differ() -> None:
    runs = [
        result(None, method_config={"bank": {"size": 64}}, sources="c0ffee11"),
        result(None, method_config={"bank": {"size": 128}}, sources="deadbeef", seed=1),
    ]
    first, second = rows_of(runs)
    assert (first.label, second.label) == ("concat #1", "concat #2")
    assert first.differs == "method_config.bank.size = 64, sources c0ffee"
    assert second.differs == "method_config.bank.size = 128, sources deadbe"


def test_one_repeat_twice_is_refused() -> None:
    runs = [result(None, split="one"), result(None, split="two")]
    with pytest.raises(BadRequest, match="several runs of fold 0, seed 0"):
        rows_of(runs)


def test_constant_predictions_are_found_per_column() -> None:
    runs = [
        result(binary({"0": ACC_50_AUC_50, "1": ACC_50_AUC_50, "01": ACC_50_AUC_50[:1]})),
        result(binary({"0": (0.4,) * 4, "1": ACC_50_AUC_75, "01": (0.4,)}), seed=1),
    ]
    places = [("complete", condition) for condition in ("0", "1", "01", "absent")]
    assert constant_places(runs, places) == [("complete", "0")]
    assert constant_places([], places) == []


def test_reading_results_imports_no_torch() -> None:
    imports = "import sys, bench.scores.results, bench.reports.subsets"
    code = f"{imports}; print({{'torch', 'pandas'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
