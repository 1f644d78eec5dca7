"""Content that nobody may see is planted in the files: no trained run changes by a bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.executors.inline import Inline
from bench.registry import Registry
from bench.request import Request
from bench.store import RunFolder, StudyFolder
from bench.study.coordination import carry_out
from bench.study.planning import plan
from tests.command_line import PLUGINS
from tests.plugins.planted import N_CASES, gaps_of_both_levels, hidden_in_test

TINY = {"epochs": 1, "batch_size": 16, "d_model": 16, "warmup_epochs": 0}


def trained(root: Path, method: str, content: str) -> dict[str, RunFolder]:
    """Train every row of a method on the planted dataset; return its runs by row."""
    request = Request(
        methods=(method,),
        datasets=("planted",),
        folds=(0,),
        floor=False,
        device="cpu",
        settings={"recipe": TINY, "planted": {"content": content}},
        include=(str(PLUGINS / "planted.py"),),
        study=content,
    )
    study = StudyFolder(root, content).create()
    answer = carry_out(request, plan(request), study, Inline(), fail_fast=True)
    assert answer.failed == ()
    return {name.partition("-planted-")[0]: study.run_named(name) for name in answer.folders}


def losses(run: RunFolder) -> list[object]:
    """Return all of the training log but the time."""
    return [{key: row[key] for key in row if key != "seconds"} for row in run.history()]


def unseen(predictions: pd.DataFrame) -> np.ndarray:
    """Say which predictions were made without the modality whose content was replaced."""
    hidden = hidden_in_test()[predictions["case"].astype(int)]  # (n, M)
    kept = np.array([[str(m) in subset for m in range(3)] for subset in predictions["condition"]])
    return ~(hidden & kept).any(1)


@pytest.mark.parametrize("method", Registry().names("method"))
def test_planted_content_changes_no_bit_of_a_trained_run(tmp_path: Path, method: str) -> None:
    own, gaps, test = (trained(tmp_path, method, content) for content in ("own", "gaps", "test"))
    for row, run in own.items():
        if run.state == "skipped":
            pytest.skip(run.reason())
        assert losses(gaps[row]) == losses(run)
        bytes_ = [each.path_of("predictions.parquet").read_bytes() for each in (run, gaps[row])]
        assert bytes_[0] == bytes_[1]
        before, after = run.predictions(), test[row].predictions()
        same = (before == after).all(axis=1).to_numpy()
        assert same[unseen(before)].all()
        if method != "pattern-only":  # the content of what is there does matter
            assert not same.all()


def test_the_planted_content_is_where_it_should_be() -> None:
    gaps = gaps_of_both_levels()
    assert 0.15 < (~gaps.modality).mean() < 0.35
    seen = gaps.attributes[1][gaps.modality[:, 1]]
    assert 0.15 < (~seen).mean() < 0.4
    assert hidden_in_test().sum() == N_CASES // 3
    plugin = Registry([PLUGINS / "planted.py"]).load("dataset", "planted")()
    own, planted = (
        plugin.load(plugin.config_class(content=content), None) for content in ("own", "gaps")
    )
    differs = planted.table("clinical").ne(own.table("clinical")).to_numpy()
    np.testing.assert_array_equal(differs & ~gaps.attributes[1], differs)
    assert differs[~gaps.attributes[1]].mean() > 0.8  # the next case may have the same sex
    assert planted.table("clinical").isna().to_numpy().any(axis=0).all()
    assert np.isnan(planted.content["genes"]).any()
