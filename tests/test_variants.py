"""Ablation and sensitivity: every variant has all repeats, and nothing is trained twice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.layout import Layout, LayoutColumn
from bench.scores.results import load_results
from bench.store import RunFolder, StudyFolder
from bench.variants.sensitivity import _values
from bench.variants.tables import Comparison, Series, comparison_table
from tests.command_line import call, snapshot
from tests.synthetic_runs import (
    ACC_0_AUC_0,
    ACC_50_AUC_75,
    ACC_100_AUC_100,
    binary,
    failed,
    finished,
)

SMALL = ("--n-folds", "2", "--set", "recipe.epochs=1", "--quiet")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def runs(study: str) -> list[RunFolder]:
    return StudyFolder(Path("results"), study).runs()


def configs(study: str) -> list[Mapping[str, Any]]:
    return [run.spec()["method_config"] for run in runs(study)]


# --- the commands -----------------------------------------------------------------------------


def test_an_ablation_trains_every_switch_on_every_fold_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ("ablate", "-m", "concat", *SMALL)
    assert call(*asked) == 0
    assert len(runs("ablation")) == 2 * 4  # folds by full, mean fill, learned fill, dropout
    out = capsys.readouterr().out
    for label in ("full", "mean fill", "learned fill", "with modality dropout"):
        assert out.count(f"| {label} ") >= 4
    assert "mean fill: fill = train_mean" in " ".join(out.split())
    before = snapshot(Path("results/ablation/runs"))
    assert call(*asked) == 0
    assert capsys.readouterr().out == out
    assert snapshot(Path("results/ablation/runs")) == before


def test_an_ablation_draws_avg_and_every_column() -> None:
    assert call("ablate", "-m", "elementwise-sum", *SMALL) == 0
    stem = Path("results/ablation/reports/ablation-elementwise-sum-wdbc-all-subsets")
    assert stem.with_suffix(".png").stat().st_size > 10_000
    assert stem.with_suffix(".pdf").is_file()
    shown = pd.read_csv(stem.with_suffix(".csv"), dtype={"panel": str})
    assert set(shown["panel"]) == {"AVG", "0", "1", "2", "01", "02", "12", "012"}
    assert set(shown["row"]) == {"full", "mean", "with modality dropout"}
    assert (shown["low"] <= shown["mean"]).all()
    assert (shown["mean"] <= shown["high"]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked", [("ablate",), ("sensitivity", "--param", "reduce=mean"), ("tune", "--trials", "1")]
)
def test_variants_and_searches_take_an_executor_and_a_time_limit(asked: tuple[str, ...]) -> None:
    manner = ("--executor", "processes", "--time-limit", "5m")
    method = ("-m", "elementwise-sum", "--folds", "0")
    assert call(*asked, *method, *SMALL, *manner, "--study", "there") == 0
    assert call(*asked, *method, *SMALL, "--executor", "inline", "--study", "here") == 0
    names = [run.path.name for run in runs("there")]
    assert names == [run.path.name for run in runs("here")]
    assert {run.state for run in runs("there")} == {"done"}


def test_settings_are_varied_one_at_a_time_around_the_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    params = ("--param", "p_drop=0,0.25", "--param", "reduce=sum,mean")
    assert call("sensitivity", "-m", "elementwise-sum", *SMALL, *params) == 0
    found = {(each["p_drop"], each["reduce"]) for each in configs("sensitivity")}
    assert found == {(0.0, "sum"), (0.5, "sum"), (0.25, "sum"), (0.5, "mean")}
    assert len(runs("sensitivity")) == 2 * len(found)  # the default is `reduce = sum` as well
    out = capsys.readouterr().out
    assert "| reduce = sum (default) " in out
    assert "sensitivity to p_drop" in out
    assert "; reference default; Holm over" in " ".join(out.split())
    stem = "results/sensitivity/reports/sensitivity-elementwise-sum-all-subsets-p_drop-reduce"
    shown = pd.read_csv(f"{stem}.csv")
    assert shown["panel"].tolist() == ["p_drop"] * 3 + ["reduce"] * 2
    assert Path(f"{stem}.png").is_file()


def test_a_sequence_keeps_the_value_that_is_best_on_validation() -> None:
    params = ("--param", "recipe.lr=1e-6,3e-3", "--param", "p_drop=0,0.25", "--sequential")
    assert call("sensitivity", "-m", "elementwise-sum", *SMALL, *params) == 0
    specs = [run.spec() for run in runs("sensitivity")]
    scores: dict[float, list[float]] = {}
    for run, spec in zip(runs("sensitivity"), specs, strict=True):
        if spec["method_config"]["p_drop"] == 0.5:
            scores.setdefault(spec["recipe"]["lr"], []).append(run.status()["valid_score"])
    best = max(scores, key=lambda lr: float(np.mean(scores[lr])))
    later = {s["recipe"]["lr"] for s in specs if s["method_config"]["p_drop"] != 0.5}
    assert set(scores) == {1e-6, 1e-3, 3e-3}  # 1e-3 is the default
    assert later == {best}


def test_a_grid_trains_all_combinations() -> None:
    params = ("--param", "p_drop=0,0.25", "--param", "reduce=sum,mean", "--grid")
    assert call("sensitivity", "-m", "elementwise-sum", *SMALL, "--folds", "0", *params) == 0
    found = {(each["p_drop"], each["reduce"]) for each in configs("sensitivity")}
    assert found == {(0.5, "sum"), (0.0, "sum"), (0.0, "mean"), (0.25, "sum"), (0.25, "mean")}
    assert Path("results/sensitivity/reports/grid-elementwise-sum-wdbc-all-subsets.png").is_file()


def test_values_are_numbers_words_and_lists() -> None:
    assert _values("n_context", "0.1,0.5,mean") == (0.1, 0.5, "mean")
    assert _values("lr", "1e-4, 1e-3, 1e-4") == (1e-4, 1e-3)
    assert _values("rates", "[[0, 1], [2]]") == ([0, 1], [2])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ablate", "-m", "concat-specialist"), "names no ablation"),
        (("ablate", "-m", "conact"), "did you mean concat?"),
        (("ablate", "-m", "concat", "--executor", "slrum"), "did you mean slurm?"),
        (
            ("ablate", "-m", "concat", "--executor", "inline", "--time-limit", "9s"),
            "leave --time-limit out",
        ),
        (
            ("sensitivity", "-m", "concat", "--param", "p_drop=0", "--time-limit", "0"),
            "wants a time such as 90s",
        ),
        (("sensitivity", "-m", "concat"), "nothing is varied"),
        (("sensitivity", "-m", "concat", "--param", "p_dorp=0"), "did you mean p_drop?"),
        (("sensitivity", "-m", "concat", "--param", "p_drop=0,2"), "less than 1"),
        (
            ("sensitivity", "-m", "cmml", "--param", "n_context=mean,1.5"),
            "cmml.n_context: input should be 'mean' or less than or equal to 1, got 1.5",
        ),
        (("sensitivity", "-m", "concat", "--param", "p_drop=nan"), "not a finite number"),
        (("sensitivity", "-m", "concat", "--param", "p_drop"), "NAME=VALUE"),
        (("sensitivity", "-m", "concat", "--param", "cmml.eta=1"), "section of settings"),
        (
            ("sensitivity", "-m", "concat", "--param", "p_drop=0", "--param", "p_drop=1"),
            "given twice",
        ),
        (
            ("sensitivity", "-m", "concat", "--param", "p_drop=0", "--grid", "--sequential"),
            "exclude each other",
        ),
        (
            ("sensitivity", "-m", "concat", "--sequential", "--param", "p_drop=0", "--param",
             "recipe.lr=-1"),
            "greater than 0",
        ),
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_line_and_trains_nothing(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments, *SMALL) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("results").exists()


# --- the numbers ------------------------------------------------------------------------------

LAYOUT = Layout(
    "toy",
    "all-subsets",
    "All subsets",
    "subsets",
    tuple(LayoutColumn("complete", "all-subsets", name, name, name) for name in ("0", "1")),
)


def parts(n_train: int, n_test: int) -> pd.DataFrame:
    return pd.DataFrame({"part": ["train"] * n_train + ["test"] * n_test, "condition": ""})


def store(
    study: StudyFolder, label: str, folds: Mapping[int, tuple[Any, Any]], **changes: Any
) -> Series:
    """Store a run per fold with scores for columns 0 and 1; 8 cases train and 4 are tested."""
    names = []
    for fold, (first, second) in folds.items():
        frame = binary({"0": first, "1": second}, first_case=4 * fold)
        folder = finished(
            study,
            frame,
            fold=fold,
            method=label,
            facts={"valid_score": 0.5 + 0.1 * fold, "valid_is": "auc"},
            **changes,
        )
        parts(8, 4).to_parquet(folder.path_of("availability.parquet"))
        names.append(folder.path.name)
    return Series(label, tuple(load_results(study, names)))


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def test_a_difference_over_folds_is_the_corrected_resampled_t(study: StudyFolder) -> None:
    whole = store(
        study,
        "full",
        {0: (ACC_100_AUC_100, ACC_100_AUC_100), 1: (ACC_100_AUC_100, ACC_50_AUC_75)},
    )
    part = store(
        study, "less", {0: (ACC_50_AUC_75, ACC_50_AUC_75), 1: (ACC_50_AUC_75, ACC_0_AUC_0)}
    )
    comparison = Comparison(LAYOUT, whole, (whole, part))
    assert comparison.averages(whole, "AUC") == {(0, 0): 1.0, (1, 0): 0.875}
    found = comparison.differences["less", "AUC"]
    # differences -0.25 and -0.5: mean -0.375, s^2 = 0.03125, se^2 = (1/2 + 4/8) s^2
    assert found.difference == pytest.approx(-0.375)
    t = -0.375 / math.sqrt(0.03125)
    assert found.p == pytest.approx(2 * (0.5 - math.atan(abs(t)) / math.pi))  # Cauchy: 1 df
    assert comparison.adjusted["less", "AUC"] == found.p  # a family of one
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(found.difference)


def test_one_repeat_has_no_interval_and_no_test(study: StudyFolder) -> None:
    whole = store(study, "full", {0: (ACC_100_AUC_100, ACC_100_AUC_100)})
    part = store(study, "less", {0: (ACC_50_AUC_75, ACC_0_AUC_0)})
    table = comparison_table(Comparison(LAYOUT, whole, (whole, part)), "toy")
    headers = [column.header for column in table.columns]
    assert headers == ["mean ± SD", "minus reference"] * 2 + ["score"]
    assert table.rows[1].cells[3].number == "-62.50"
    assert table.rows[1].cells[4].number == "50.00"
    assert any("not tested, as there is one repeat" in sentence for sentence in table.caption)


def test_a_failed_variant_is_a_row_with_its_reason(study: StudyFolder) -> None:
    whole = store(study, "full", {0: (ACC_100_AUC_100, ACC_100_AUC_100)})
    folder = failed(study, "out of memory", method="less")
    part = Series("less", tuple(load_results(study, [folder.path.name])))
    table = comparison_table(Comparison(LAYOUT, whole, (whole, part)), "toy")
    assert [cell.text for cell in table.rows[1].cells] == ["failed"] * 4 + ["-"]
    assert list(table.footnotes.values()) == ["failed: out of memory."]
