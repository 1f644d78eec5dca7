"""Check what a dataset plugin gives before anything is made of it."""

# N cases, M modalities, K classes

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np

from bench.data import Dataset, Modality, ModalityKind
from bench.errors import BadData


def checked_dataset(dataset: Any, name: str, *, labelled: bool = True) -> Dataset:
    """Return what a plugin's `load` gave if it is a dataset that fits together.

    Args:
        dataset: what it gave.
        name: of the plugin.
        labelled: False: the cases are new, and nobody knows their labels.

    Raises:
        BadData: names what does not fit.
    """
    if not isinstance(dataset, Dataset):
        raise BadData(
            f"{name}: load must return a Dataset, got {type(dataset).__name__}; "
            "mend the dataset plugin"
        )
    faults = [*_case_faults(dataset), *_modality_faults(dataset)]
    if labelled and not faults:
        faults = list(_label_faults(dataset))
    if faults:
        raise BadData(f"{dataset.name}: {faults[0]}; mend the dataset plugin")
    return dataset


def _case_faults(dataset: Dataset) -> Iterator[str]:
    """Say what is wrong with what stands once per case."""
    n_cases, n_modalities = len(dataset.cases), len(dataset.modalities)
    arrays = {"cases": dataset.cases, "label": dataset.label, "group": dataset.group}
    arrays |= {f"column {key!r}": values for key, values in dataset.columns.items()}
    arrays |= {f"folds of {n_folds}": values for n_folds, values in dataset.folds.items()}
    if dataset.parts is not None:
        arrays["parts"] = dataset.parts
    for what, values in arrays.items():
        if np.shape(values) != (n_cases,) or not isinstance(values, np.ndarray):
            yield f"{what} must be an array of {n_cases}, one per case, got {_told(values)}"
    names, count = np.unique(np.asarray(dataset.cases, str), return_counts=True)
    if len(names) < n_cases:
        yield f"the name {str(names[count.argmax()])!r} is that of {count.max()} cases"
    available = dataset.available
    if np.shape(available) != (n_cases, n_modalities) or np.asarray(available).dtype != bool:
        wanted = f"({n_cases}, {n_modalities}) bool"
        yield f"available must be {wanted}, a row per case, got {_told(available)}"


def _label_faults(dataset: Dataset) -> Iterator[str]:
    """Say which label is no class."""
    label, n_classes = dataset.label, len(dataset.classes)
    if label.dtype.kind not in "iu":
        yield f"label must be integers, got {_told(label)}"
    elif n_classes == 0 or label.min() < 0 or label.max() >= n_classes:
        came = f"from {label.min()} to {label.max()}"
        yield f"labels of {n_classes} classes must be from 0 to {n_classes - 1}, got {came}"


def _modality_faults(dataset: Dataset) -> Iterator[str]:
    """Say what is wrong with what the modalities declare and hold."""
    if len(set(dataset.modality_names)) < dataset.n_modalities:
        yield f"two modalities have one name: {', '.join(dataset.modality_names)}"
    for modality in dataset.modalities:
        if modality.kind not in get_args(ModalityKind):
            known = ", ".join(get_args(ModalityKind))
            yield f"the kind of {modality.name!r} must be one of {known}, got {modality.kind!r}"
        elif modality.name not in dataset.content:
            known = ", ".join(map(str, dataset.content)) or "nothing"
            yield f"content lacks {modality.name!r}, it has {known}"
        else:
            yield from _content_faults(modality, dataset.content[modality.name], dataset.n_cases)


def _content_faults(modality: Modality, content: Any, n_cases: int) -> Iterator[str]:
    what = f"content of {modality.name!r}"
    if modality.kind in ("image", "volume"):
        if not hasattr(content, "read"):
            yield f"{what} must have a method read(rows), got {_told(content)}"
        return
    if np.ndim(content) != 2 or len(content) != n_cases:
        yield f"{what} must have {n_cases} rows, one per case, got {_told(content)}"
    elif modality.kind == "table":
        columns = list(getattr(content, "columns", ()))
        lacking = [each.name for each in modality.attributes if each.name not in columns]
        if lacking or not modality.attributes:
            declared = repr(lacking[0]) if lacking else "any attribute that is declared"
            has = ", ".join(map(str, columns)) or "none"
            yield f"{what} has no column {declared}, it has {has}"
        else:
            yield from _numeric_faults(modality, content)


def _numeric_faults(modality: Modality, table: Any) -> Iterator[str]:
    """Say which attribute is declared numeric and holds a text."""
    import pandas as pd

    for attribute in modality.attributes:
        if attribute.kind != "numeric" or table[attribute.name].dtype != object:
            continue
        cells = table[attribute.name].dropna()
        wrong = cells[pd.to_numeric(cells, errors="coerce").isna()]
        if len(wrong):
            where = f"attribute {attribute.name!r} of {modality.name!r}"
            yield f"{where} is numeric and holds {wrong.iloc[0]!r}"


def _told(value: Any) -> str:
    """Write what came: `(210,) float64`, or the name of its type."""
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype}"
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} {shape}" if shape is not None else type(value).__name__
