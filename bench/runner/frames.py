"""What a run keeps of its cases, as tables: predictions, who has what, labels and subgroups."""

# K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.data import Availability, Dataset
from bench.engine.inference import Scored
from bench.runner.material import Material, Test


def predictions_frame(
    material: Material, tests: Sequence[Test], scored: Sequence[Scored]
) -> pd.DataFrame:
    """Lay predictions out: case, condition, label, p_0 ... p_{K-1}.

    A case that has nothing in its condition gets the class shares of training.
    """
    n_classes = len(material.dataset.classes)
    rows = np.concatenate([np.zeros(0, int), *(test.rows for test in tests)])
    shares = np.bincount(material.label[material.split.train], minlength=n_classes)
    proba = np.tile(shares / shares.sum(), (len(rows), 1))
    asked = np.concatenate([np.zeros(0, bool), *(test.has_any for test in tests)])
    proba[asked] = np.concatenate(
        [np.zeros((0, n_classes)), *(each.proba.reshape(-1, n_classes) for each in scored)]
    )
    frame = pd.DataFrame({"case": material.dataset.cases[rows]})
    frame["condition"] = [test.condition.name for test in tests for _ in test.rows]
    frame["label"] = material.label[rows]
    for k in range(n_classes):
        frame[f"p_{k}"] = proba[:, k].astype(np.float32)
    return frame


def availability_frame(material: Material, tests: Sequence[Test]) -> pd.DataFrame:
    """Lay out who has what: case, part, condition, a column per modality and per attribute.

    The parts `train` and `valid` have no condition; `test` has one block per condition with gaps
    and one, without a name, of what the cases truly have.
    """
    dataset, split = material.dataset, material.split
    blocks = [("train", "", split.train, material.availability)]
    blocks += [("valid", "", split.valid, material.valid_availability)]
    blocks += [("test", "", split.test, dataset.natural())]
    blocks += [
        ("test", test.condition.name, test.rows, test.pattern.availability)
        for test in tests
        if test.condition.gaps is not None
    ]
    return pd.concat([_availability_block(dataset, *block) for block in blocks], ignore_index=True)


def _availability_block(
    dataset: Dataset, part: str, condition: str, rows: np.ndarray, availability: Availability
) -> pd.DataFrame:
    seen = availability.rows(rows)
    columns: dict[str, Any] = {"case": dataset.cases[rows], "part": part, "condition": condition}
    for m, modality in enumerate(dataset.modalities):
        columns[modality.name] = seen.modality[:, m]
        for a, attribute in enumerate(modality.attributes):
            columns[f"{modality.name}.{attribute.name}"] = seen.attributes[m][:, a]
    return pd.DataFrame(columns)


def cases_frame(material: Material) -> pd.DataFrame:
    """Lay out the test cases: case, label, group, and the columns that tell subgroups."""
    dataset, test = material.dataset, material.split.test
    columns: dict[str, Any] = {
        "case": dataset.cases[test],
        "label": dataset.label[test],
        "group": dataset.group[test],
    }
    columns |= {f"column.{name}": values[test] for name, values in dataset.columns.items()}
    return pd.DataFrame(columns)
