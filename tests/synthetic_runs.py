"""Runs on disk with predictions that are made up, so that their scores can be worked by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.spec import EncoderConfig, Recipe, RunSpec
from bench.store import RunFolder, StudyFolder

# probabilities of class 1 for the labels 0, 0, 1, 1, named by their ACC and AUC in percent
ACC_100_AUC_100 = (0.1, 0.2, 0.8, 0.9)
ACC_50_AUC_75 = (0.1, 0.6, 0.4, 0.9)
ACC_0_AUC_0 = (0.9, 0.8, 0.2, 0.1)
ACC_50_AUC_50 = (0.5, 0.5, 0.5, 0.5)
LABEL = (0, 0, 1, 1)


def run_spec(**changes: Any) -> RunSpec:
    """Build a specification that differs from the usual one in these fields."""
    values: dict[str, Any] = {
        "method": "concat",
        "preset": "",
        "method_config": {},
        "dataset": "toy",
        "dataset_config": {},
        "encoder": EncoderConfig.model_validate({}),
        "recipe": Recipe.model_validate({}),
        "setting": {"name": "complete", "gaps": None},
        "fold": 0,
        "n_folds": 1,
        "seed": 0,
        "selection": "all-subsets",
        "precision": "float32",
        "fingerprint": "f",
        "split": "s",
        "pattern": "p",
        "sources": "c",
    }
    return RunSpec(**{**values, **changes})


def binary(
    scores: Mapping[str, Sequence[float]], label: Sequence[int] = LABEL, first_case: int = 0
) -> pd.DataFrame:
    """Lay out the predictions of two classes: condition -> probability of class 1 per case."""
    frames = []
    for condition, p in scores.items():
        p_1 = np.asarray(p, float)
        cases = [f"case{first_case + i}" for i in range(len(p_1))]
        frame = pd.DataFrame({"case": cases, "condition": condition, "label": label[: len(p_1)]})
        frames.append(frame.assign(p_0=1 - p_1, p_1=p_1))
    return pd.concat(frames, ignore_index=True)


def finished(study: StudyFolder, predictions: pd.DataFrame, **changes: Any) -> RunFolder:
    """Store a finished run; `long_names` names the conditions, `facts` adds to its facts.

    `columns` tells subgroups: name -> value of each case, in the order of the predictions.
    """
    columns = changes.pop("columns", {})
    facts = changes.pop("facts", {})
    long_names = changes.pop("long_names", {"0": "mean", "1": "se", "01": "mean+se"})
    asked = changes.pop("conditions", list(predictions["condition"].unique()))
    spec = run_spec(**changes)
    folder = study.run(spec)
    folder.begin(spec, {})
    folder.write_predictions(predictions)
    if columns:
        cases = pd.DataFrame({"case": predictions["case"].unique()})
        for name, values in columns.items():
            cases[f"column.{name}"] = values
        folder.write_frame("cases.parquet", cases)
    folder.finish(conditions=asked, long_names=long_names, **facts)
    return folder


def failed(study: StudyFolder, error: str, **changes: Any) -> RunFolder:
    """Store a run that failed."""
    spec = run_spec(**changes)
    folder = study.run(spec)
    folder.begin(spec, {})
    folder.fail(error, "Traceback ...")
    return folder


def skipped(study: StudyFolder, reason: str, **changes: Any) -> RunFolder:
    """Store a run that the method cannot take."""
    spec = run_spec(**changes)
    folder = study.run(spec)
    folder.begin(spec, {})
    folder.skip(reason)
    return folder
