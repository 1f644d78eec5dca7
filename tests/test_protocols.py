"""Protocols end to end: what is stored, what is shared, and that nothing unobserved is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.cli import main
from bench.registry import registry_of
from bench.store import RunFolder, StudyFolder

SPY = '''
"""Records what it is handed in training."""
import torch
from bench.blocks import Head, PooledProjection
from bench.method import Config, Method, Prediction

SEEN = []


class Spy(Method):
    name = "spy"
    display_name = "Spy"
    config_class = Config

    def __init__(self, task, config):
        super().__init__(task, config)
        self.pool = PooledProjection(task)
        self.head = Head(task.d_model, task.d_model, task.n_classes)

    def forward(self, tokens, available):
        return Prediction(self.head(self.pool(tokens, available).sum(1)))

    def losses(self, tokens, observed, label, progress):
        SEEN.append((tokens, observed))
        return {"ce": progress.cross_entropy(self(tokens, observed).logits, label)}


PLUGIN = Spy
'''

NOISY = '''
"""WDBC with noise in the cells that a stored pattern calls unobserved."""
import os
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.datasets.wdbc import Wdbc


class Noisy(Wdbc):
    name = "noisy"

    def load(self, config, root):
        dataset = replace(super().load(config, root), name="noisy")
        path = os.environ.get("NOISY_PATTERN")
        if not path:
            return dataset
        pattern = pd.read_parquet(path).query("condition == ''").set_index("case")
        pattern = pattern.loc[dataset.cases]
        content = {}
        for modality in dataset.modalities:
            frame = dataset.table(modality.name).copy()
            for name in frame.columns:
                gone = ~pattern[f"{modality.name}.{name}"].to_numpy(bool)
                frame.loc[gone, name] = np.random.default_rng(0).normal(size=gone.sum()) * 1e6
            content[modality.name] = frame
        return replace(dataset, content=content)


PLUGIN = Noisy
'''

RATES = ("m-tr+c-te", "c-tr+m-te", "m-tr+m-te")


def bench(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments), "-q"])
    return int(stop.value.code or 0)


def run(out: Path, *arguments: str, dataset: str = "wdbc") -> list[RunFolder]:
    code = bench(
        *("run", "-d", dataset, "--folds", "0", "--out", str(out)),
        *("--set", "recipe.epochs=1", *arguments),
    )
    assert code == 0
    return StudyFolder(out, "main").runs()


def setting_of(folder: RunFolder) -> dict[str, Any]:
    return folder.spec()["setting"]


@pytest.mark.parametrize("level", ["attribute", "modality"])
@pytest.mark.parametrize("protocol", RATES)
def test_the_stored_pattern_keeps_rate_nesting_and_independence_from_the_method(
    tmp_path, protocol, level
):
    methods = ("-m", "logistic-meanfill", "-m", "pattern-only", "--no-floor")
    rates = ("--rates", "0,0.2,0.4", "--level", level)
    grid = ("--set", "m-tr+m-te.grid=true") if protocol == "m-tr+m-te" else ()
    folders = run(tmp_path, "-p", protocol, *rates, *grid, *methods)
    patterns: dict[tuple[str, str], pd.DataFrame] = {}
    for folder in folders:
        frame = folder.availability()
        for (part, condition), block in frame.groupby(["part", "condition"], sort=False):
            key = f"{part} {condition or setting_of(folder)['name'] * (part != 'test')}"
            stored = patterns.setdefault((key, ""), block.reset_index(drop=True))
            pd.testing.assert_frame_equal(stored, block.reset_index(drop=True))
    _check_rates_and_nesting({key: frame for (key, _), frame in patterns.items()}, level)


def _check_rates_and_nesting(patterns: dict[str, pd.DataFrame], level: str) -> None:
    wanted = "." if level == "attribute" else ""
    columns = [
        name for name in next(iter(patterns.values())).columns[3:] if ("." in name) == bool(wanted)
    ]
    assert any(key.endswith("40") for key in patterns)
    for key, frame in patterns.items():
        rate = 0.2 if key.endswith("-20") else 0.4 if key.endswith("-40") else 0.0
        gone = (~frame[columns].to_numpy(bool)).sum(0)
        assert set(gone) == {round(rate * len(frame))}, key
        if key.endswith("-20"):
            more = ~patterns[key.replace("-20", "-40")][columns].to_numpy(bool)
            assert (~frame[columns].to_numpy(bool) <= more).all()


def test_the_rate_protocols_share_one_run_and_its_predictions_at_rate_zero(tmp_path):
    asked = [flag for name in RATES for flag in ("-p", name)]
    grid = ("--set", "m-tr+m-te.grid=true", "--rates", "0,0.3")
    folders = run(tmp_path, *asked, *grid, "-m", "logistic-meanfill", "--no-floor")
    names = sorted(setting_of(folder)["name"] for folder in folders)
    assert names == ["attribute-30", "complete"]
    complete = next(each for each in folders if setting_of(each)["name"] == "complete")
    assert complete.status()["conditions"] == ["as-is", "attribute-30"]


def test_the_natural_protocol_shares_the_complete_run(tmp_path):
    first = run(tmp_path, "-p", "c-tr+m-te", "--rates", "0", "-m", "concat", "--no-floor")
    before = {folder.path.name: folder.status()["ended"] for folder in first}
    after = run(tmp_path, "-p", "natural", "-m", "concat", "--no-floor")
    assert {folder.path.name: folder.status()["ended"] for folder in after} == before


@pytest.mark.parametrize("level", ["attribute", "modality"])
def test_no_content_of_an_unobserved_cell_reaches_the_method_in_training(tmp_path, level):
    plugin = tmp_path / "spy.py"
    plugin.write_text(SPY)
    flags = ("--include", str(plugin), "-m", "spy", "--no-floor", "-p", "m-tr+c-te")
    (folder,) = run(tmp_path / "out", *flags, "--rates", "0.4", "--level", level)
    seen = vars(_module(plugin))["SEEN"]
    assert seen
    n_valid = 0
    for tokens, observed in seen:
        for m, each in enumerate(tokens):
            unseen = each.codes < 0
            n_valid += int(each.valid.sum())
            assert each.numbers[unseen].isnan().all()
            assert (each.values[~each.valid] == 0).all()
            assert not each.valid[~observed[:, m]].any()
    frame = folder.availability().query("part == 'train'")
    attributes = [name for name in frame.columns if "." in name]
    assert n_valid == frame[attributes].to_numpy(bool).sum()


def _module(plugin: Path) -> Any:
    import sys

    return sys.modules[registry_of([str(plugin)], False).load("method", "spy").__module__]


@pytest.mark.parametrize("method", ["concat", "logistic-specialist"])
def test_noise_planted_in_every_unobserved_training_cell_changes_nothing(
    tmp_path, monkeypatch, method
):
    plugin = tmp_path / "noisy.py"
    plugin.write_text(NOISY)
    flags = (
        "--include",
        str(plugin),
        "-m",
        method,
        "--no-floor",
        "-p",
        "m-tr+c-te",
        "--rates",
        "0.4",
    )
    clean = run(tmp_path / "clean", *flags, dataset="noisy")[0]
    monkeypatch.setenv("NOISY_PATTERN", str(clean.path_of("availability.parquet")))
    monkeypatch.setattr("bench.runner.material._datasets", {})
    noisy = run(tmp_path / "noisy", *flags, dataset="noisy")[0]
    pd.testing.assert_frame_equal(noisy.predictions(), clean.predictions())


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--rates", "1.5"), "a rate is a share of cells"),
        (("--rates", "x"), "--rates wants numbers"),
        (("--rates", "0.9", "--level", "modality"), "at most 0.667"),
        (("--mechanism", "mcra"), "mechanism"),
        (("--mechanism", "mar", "--given", "aage"), "no column of wdbc is named 'aage'"),
        (("--level", "cell"), "level"),
        (("--split", "leave-one-group-out=site"), "no column of wdbc to split by"),
        (("--split", "random"), "--split wants"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_request_is_one_line_and_exit_code_2(tmp_path, capsys, flags, text):
    arguments = ("-m", "concat", "-p", "c-tr+m-te", "--out", str(tmp_path), "--folds", "0")
    assert bench("run", *arguments, *flags) == 2
    said = capsys.readouterr().err.strip()
    assert text in said
    assert "\n" not in said


def test_the_pattern_is_part_of_the_identity(tmp_path):
    folders = run(
        tmp_path, "-p", "m-tr+c-te", "--rates", "0,0.3", "-m", "pattern-only", "--no-floor"
    )
    assert len({json.dumps(folder.spec()["pattern"]) for folder in folders}) == 2


def test_leave_one_group_out_tests_one_site_per_fold(tmp_path, shared):
    root = shared / "data" / "heart_uci"
    code = bench(
        *("run", "-d", "heart", "--data-root", str(root), "-m", "pattern-only", "--no-floor"),
        *("-p", "natural", "--split", "leave-one-group-out=site", "--out", str(tmp_path)),
    )
    assert code == 0
    folders = StudyFolder(tmp_path, "main").runs()
    sites = [set(each.read_frame("cases.parquet")["column.site"]) for each in folders]
    assert sorted(site for each in sites for site in each) == [
        "cleveland",
        "hungarian",
        "switzerland",
        "va",
    ]
    assert sum(len(each.predictions()) for each in folders) == 920
    assert np.all([len(each) == 1 for each in sites])
