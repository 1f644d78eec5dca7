"""Faults of a plugin's author: one line that says where, never a traceback or a wrong exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bench.availability import random_subset
from bench.conformance import check_method
from bench.data import Attribute, Dataset, Modality, PictureArray
from bench.dataset import checked_dataset
from bench.errors import BadData, BadPlugin
from bench.registry import Registry
from bench.reporting.checking import check
from bench.store import StudyFolder
from bench.study.standing import standings
from tests.command_line import call

N_CASES = 6
SOUND = Modality("x", "sound")  # type: ignore[arg-type]

METHOD = """
from pydantic import Field
from bench.blocks import Head, PooledProjection
from bench.method import Config, Method, Prediction

class OddConfig(Config):
    p_drop: float = Field({default}, ge=0, lt=1)

class Odd(Method):
    config_class = {settings}
    presets = {presets}

    def __init__(self, task, config):
        super().__init__(task, config)
        self.pool = PooledProjection(task)
        self.head = Head(task.d_model, 4, task.n_classes)

    def forward(self, tokens, available):
        return Prediction(self.head(self.pool(tokens, available).sum(1)){columns})

    def losses(self, tokens, observed, label, progress):
        {line}
        return {{"ce": (self(tokens, observed).logits - label[:, None]).square().mean()}}

PLUGIN = Odd
"""

DATASET = """
from bench.dataset import DatasetPlugin

class Odd(DatasetPlugin):
    needs_root = False

    def load(self, config, root):
        raise KeyError("age")

PLUGIN = Odd
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def method(folder: Path, **parts: str) -> Path:
    """Write a method; its fault is one of its parts."""
    path = folder / "odd.py"
    whole = {
        "default": "0.5",
        "settings": "OddConfig",
        "line": "pass",
        "columns": "",
        "presets": "{}",
    }
    whole |= parts
    path.write_text(METHOD.format(**whole))
    return path


def dataset() -> Dataset:
    cases = np.array([f"c{row}" for row in range(N_CASES)])
    return Dataset(
        name="odd",
        modalities=(
            Modality("view", "image"),
            Modality("chart", "table", attributes=(Attribute("age"),)),
            Modality("blood", "vector", width=2),
        ),
        classes=("a", "b"),
        cases=cases,
        label=np.arange(N_CASES) % 2,
        group=cases,
        content={
            "view": PictureArray(np.zeros((N_CASES, 2, 2, 1), np.uint8)),
            "chart": pd.DataFrame({"age": np.arange(N_CASES)}),
            "blood": np.zeros((N_CASES, 2), np.float32),
        },
        available=np.ones((N_CASES, 3), bool),
        fingerprint="odd",
    )


def with_content(name: str, content: Any) -> Callable[[Dataset], Dataset]:
    return lambda given: replace(given, content={**given.content, name: content})


def test_a_dataset_that_fits_together_is_given_back() -> None:
    given = dataset()
    assert checked_dataset(given, "odd") is given


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda given: None, "load must return a Dataset, got NoneType"),
        (lambda given: replace(given, label=given.label + 1), "from 0 to 1, got from 1 to 2"),
        (lambda given: replace(given, label=given.label * 0.5), "label must be integers, got"),
        (lambda given: replace(given, label=given.label[:-1]), "label must be an array of 6"),
        (lambda given: replace(given, group=None), "group must be an array of 6"),
        (lambda given: replace(given, cases=given.cases[[0, *range(5)]]), "'c0' is that of 2"),
        (lambda given: replace(given, available=given.available * 1), "available must be (6, 3)"),
        (lambda given: replace(given, columns={"ward": np.ones(5)}), "column 'ward' must be"),
        (lambda given: replace(given, folds={2: np.ones(5)}), "folds of 2 must be"),
        (lambda given: replace(given, content={}), "content lacks 'view', it has nothing"),
        (lambda given: replace(given, modalities=given.modalities[:1] * 3), "have one name"),
        (
            lambda given: replace(given, modalities=(SOUND, *given.modalities[1:])),
            "kind of 'x' must be one of image, table, vector, volume, got 'sound'",
        ),
        (with_content("view", np.zeros(6)), "content of 'view' must have a method read(rows)"),
        (with_content("blood", np.zeros((5, 2))), "must have 6 rows, one per case, got (5, 2)"),
        (with_content("chart", pd.DataFrame({"old": range(6)})), "no column 'age', it has old"),
        (
            with_content("chart", pd.DataFrame({"age": [1, None, "f", 4, 5, 6]}, dtype=object)),
            "attribute 'age' of 'chart' is numeric and holds 'f'",
        ),
    ],
)
def test_what_a_dataset_plugin_gives_is_checked_before_it_is_used(
    spoil: Callable[[Dataset], Any], said: str
) -> None:
    with pytest.raises(BadData) as caught:
        checked_dataset(spoil(dataset()), "odd")
    assert said in str(caught.value)
    assert str(caught.value).endswith("mend the dataset plugin")


def test_new_cases_need_no_labels() -> None:
    unlabelled = replace(dataset(), label=np.full(N_CASES, -1), classes=())
    assert checked_dataset(unlabelled, "odd", labelled=False) is unlabelled


def test_an_error_in_a_dataset_is_one_line_that_names_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.py"
    path.write_text(DATASET)
    assert call("run", "--include", str(path), "-d", "odd", "-m", "pattern-only") == 2
    assert call("prepare", "odd", "--include", str(path)) == 2
    line = f"bench: {path.name}:8: KeyError: 'age'; mend that plugin\n"
    assert capsys.readouterr().err == 2 * line


def test_an_error_in_a_report_is_one_line_and_the_runs_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "-m", "pattern-only", "--folds", "0", "--no-floor", "-q") == 0
    path = tmp_path / "odd.py"
    path.write_text(
        "from bench.report import Report\n\nclass Odd(Report):\n"
        "    def build(self, results, layout, options):\n"
        "        return len(layout)\n\nPLUGIN = Odd\n"
    )
    capsys.readouterr()
    assert call("table", "--report", "odd", "--include", str(path)) == 2
    assert (
        f"{path.name}:5: TypeError: object of type 'Layout' has no len()" in capsys.readouterr().err
    )
    assert call("table") == 0


def test_a_method_that_leaves_the_program_is_a_failed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = method(tmp_path, line="raise SystemExit(3)")
    assert call("run", "--include", str(path), "-m", "odd", "--folds", "0", "--no-floor") == 1
    assert "SystemExit: 3" in capsys.readouterr().err
    assert call("test", str(path)) == 1
    assert f"({path.name}:22: SystemExit: 3)" in capsys.readouterr().out


def test_a_request_asked_again_after_an_edit_takes_the_place_of_the_first(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path, "main")
    asked = {"asked": {"methods": ["odd"]}, "layouts": []}
    before, after = (asked | {"cells": [[f"odd-{n}", ["as-is"]]]} for n in "01")
    study.write_json("study.json", {"requests": {"k": before, "l": after}})
    assert [each.name for each in standings(study)] == ["odd-1"]
    (cells,) = [each for each in check(study) if "asked for" in each.promise]
    assert cells.faults == ("odd-1 was never begun",)


def test_what_a_method_prints_is_not_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = method(tmp_path, line="print('heard')")
    command = ["run", "--include", str(path), "-m", "odd", "--folds", "0", "--no-floor"]
    assert call(*command, "--set", "recipe.epochs=1", "--format", "csv") == 0
    out, err = capsys.readouterr()
    assert out.startswith("table,group,row,")
    assert "heard" in err
    assert "heard" not in out


def test_a_default_that_its_own_limits_refuse_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = method(tmp_path, default="'a half'")
    assert call("run", "--include", str(path), "-m", "odd", "--folds", "0") == 2
    assert "odd.p_drop: input should be a valid number" in capsys.readouterr().err


def test_logits_of_another_shape_are_a_failed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = method(tmp_path, columns="[:, :1]")
    assert call("run", "--include", str(path), "-m", "odd", "--folds", "0", "--no-floor") == 1
    assert "odd: logits must be (B, K), here (91, 2), got (91, 1)" in capsys.readouterr().err


def test_a_preset_that_is_no_setting_is_told_by_the_suite(tmp_path: Path) -> None:
    path = method(tmp_path, presets="{'big': {'p_dropp': 0.1}}")
    checks = check_method(Registry([path]).load("method", "odd"))
    said = "preset 'big': no setting of odd is named 'p_dropp'; did you mean p_drop?"
    assert said in [each.detail for each in checks if not each.passed]


def test_settings_that_are_no_class_of_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPlugin, match="config_class must be a class of settings"):
        Registry([method(tmp_path, settings="dict")]).load("method", "odd")


def test_a_method_that_takes_away_what_cases_have_is_told_and_does_not_hang(
    tmp_path: Path,
) -> None:
    path = method(tmp_path, line="progress.drop(observed.fill_(False), 'uniform')")
    checks = check_method(Registry([path]).load("method", "odd"))
    assert any("needs at least one observed modality" in each.detail for each in checks)


@pytest.mark.parametrize("law", ["uniform", "size-uniform", "proper"])
def test_nothing_can_be_drawn_from_nothing(law: Any) -> None:
    with pytest.raises(ValueError, match="at least one observed modality"):
        random_subset(torch.zeros(2, 3, dtype=torch.bool), torch.Generator(), law)


def test_the_suite_says_what_looks_at_a_plugin_of_another_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.py"
    path.write_text(DATASET)
    assert call("test", str(path)) == 2
    assert "odd is a dataset, and the suite is for methods" in capsys.readouterr().err
