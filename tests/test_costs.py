"""Costs of models beside the runs of a study, and scores against them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.layout import Layout, LayoutColumn
from bench.registry import Registry
from bench.reporting.costs import cost_key, keep_costs
from bench.scores.results import load_results
from bench.store import StudyFolder
from tests.command_line import call
from tests.synthetic_runs import ACC_50_AUC_75, ACC_100_AUC_100, binary, finished, run_spec

COLUMNS = tuple(LayoutColumn("complete", "all-subsets", c, c, c) for c in ("0", "1"))
LAYOUT = Layout("toy", "all-subsets", "All subsets", "subsets", COLUMNS)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def key_of(**changes: object) -> str:
    return cost_key(run_spec(**changes).model_dump(mode="json"))


def two_methods(study: StudyFolder) -> None:
    for method, p in (("a", ACC_100_AUC_100), ("b", ACC_50_AUC_75)):
        facts = {"n_parameters": 100}
        finished(study, binary({"0": p, "1": p}), method=method, facts=facts)


def test_a_cost_is_that_of_a_model_whatever_its_fold_and_training() -> None:
    assert key_of() == key_of(fold=1, seed=2, split="other", setting={"name": "x", "gaps": None})
    assert key_of() != key_of(method_config={"n_heads": 2})
    assert key_of() != key_of(dataset="other")


def test_a_study_has_macs_and_latency_once_they_were_measured(study: StudyFolder) -> None:
    two_methods(study)
    figure = Registry().load("report", "pareto")()
    before = figure.draw(load_results(study), [LAYOUT])[0].data
    assert before[["macs", "latency"]].isna().all().all()
    keep_costs(study, {key_of(method="a"): {"macs": 5000, "seconds": 0.002}})
    keep_costs(study, {key_of(method="other"): {"macs": 1, "seconds": 1.0}})
    drawing = figure.draw(load_results(study), [LAYOUT])[0]
    found = drawing.data.set_index("method")
    assert found.loc["a", ["macs", "latency"]].tolist() == [5000, 2.0]
    assert found.loc["b", ["macs", "latency"]].isna().all()
    assert "A panel lacks what has no number in it: b." in " ".join(
        drawing.figure.get_supxlabel().split()
    )
    labels = [axes.get_xlabel() for axes in drawing.figure.axes]
    assert labels == ["parameters", "MACs of a complete case", "latency of a complete case, ms"]


def test_the_rows_of_a_study_are_measured_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("run", "-m", "concat:", "--folds", "0", "--set", "recipe.epochs=1", "--quiet")
    assert call(*asked) == 0
    capsys.readouterr()
    assert call("complexity", "--study", "main", "--repeats", "1") == 0
    assert "### Complexity on wdbc" in capsys.readouterr().out
    assert call("figure", "pareto", "--metric", "AUC") == 0
    csv = Path(capsys.readouterr().out.split()[-1]).read_text().splitlines()
    macs = csv[0].split(",").index("macs")
    (concat,) = (line.split(",") for line in csv if ",concat," in line)
    assert float(concat[macs]) > 1000


def test_what_a_study_measures_is_what_it_was_asked(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study)
    where = ("complexity", "--study", "main", "--out", str(study.root))
    assert call(*where, "-m", "concat") == 2
    assert "leave out -m and -d" in capsys.readouterr().err
    assert call(*where) == 2
    assert "notes no request" in capsys.readouterr().err
