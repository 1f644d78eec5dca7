"""What a dataset gives away before any method is trained: gaps, single attributes, split faults.

Logistic regression on the availability pattern alone and on each attribute alone, over the folds of
the dataset; attributes that decide a class; groups and identical pictures on both sides of a split.
A finding is a warning in reports, never a silent drop.
"""

# N cases, A attributes

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import Dataset, PictureArray, Split
from bench.metrics import auc
from bench.shallow import fit_logistic
from bench.spec import digest
from bench.wording import counted

PATTERN_WARNS_AT = 0.6  # AUC of gaps alone
LONE_ATTRIBUTE_WARNS_AT = 0.85  # AUC of one attribute alone, where the dataset declares its leak
N_DECIDING = 10  # cases of a class that must share one value
COMMON = 0.9  # a value that so many cases share decides nothing


@dataclass(frozen=True)
class LoneScore:
    """Score of something alone: mean AUC over the folds."""

    name: str
    auc: float
    note: str = ""


@dataclass(frozen=True)
class Scan:
    """What was found."""

    dataset: str
    n_cases: int
    n_folds: int
    modality_flags: float  # AUC of the modalities' flags alone
    attribute_flags: float  # AUC of the attributes' flags and the other modalities' flags
    attributes: tuple[LoneScore, ...]  # best first
    deciding: tuple[str, ...]
    split_faults: tuple[str, ...]

    def warnings(self) -> list[str]:
        """Return the sentences that every table of the dataset carries."""
        said = []
        flags = max(self.modality_flags, self.attribute_flags)
        if flags > PATTERN_WARNS_AT:
            said.append(
                f"the availability pattern alone reaches AUC {100 * flags:.1f}: what is missing "
                "tells the label"
            )
        said += [
            f"{each.name} alone reaches AUC {100 * each.auc:.1f} ({each.note})"
            for each in self.attributes
            if each.note and each.auc >= LONE_ATTRIBUTE_WARNS_AT
        ]
        return [*said, *self.deciding, *self.split_faults]

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Scan:
        """Rebuild a stored scan."""
        lists = {name: tuple(value[name]) for name in ("deciding", "split_faults")}
        attributes = tuple(LoneScore(**each) for each in value["attributes"])
        return cls(**{**value, **lists, "attributes": attributes})


def scan_file(spec: Mapping[str, Any]) -> str:
    """Name the file in which a study keeps the scan of a run's dataset and split."""
    keys = ("fingerprint", "dataset_config", "n_folds", "split_by")
    return f"leaks-{spec['dataset']}-{digest([spec[key] for key in keys])[:12]}.json"


def scan(dataset: Dataset, splits: list[Split]) -> Scan:
    """Look at a dataset and the splits that it will be used with.

    Args:
        dataset: the cases.
        splits: one per fold.
    """
    natural = dataset.natural()
    flags = natural.modality.astype(float)
    cells = [
        natural.attributes.get(m, natural.modality[:, m, None]) for m in range(dataset.n_modalities)
    ]
    lone = [
        LoneScore(f"{modality}.{name}", _mean_auc(dataset, x, splits), note)
        for modality, name, x, note in _attribute_features(dataset)
    ]
    return Scan(
        dataset.name,
        dataset.n_cases,
        len(splits),
        _mean_auc(dataset, flags, splits),
        _mean_auc(dataset, np.concatenate(cells, axis=1).astype(float), splits),
        tuple(sorted(lone, key=lambda each: -each.auc)),
        tuple(_deciding(dataset)),
        tuple(_split_faults(dataset, splits)),
    )


def _mean_auc(dataset: Dataset, x: np.ndarray, splits: list[Split]) -> float:
    """Score features (N, W) alone, over the folds in which the AUC is defined."""
    found = []
    for split in splits:
        label = dataset.label[split.train]
        model = fit_logistic(
            x[split.train], label, np.ones(len(label)), n_classes=len(dataset.classes), C=1.0
        )
        found.append(auc(dataset.label[split.test], model.predict_proba(x[split.test])).value)
    defined = [value for value in found if np.isfinite(value)]
    return round(float(np.mean(defined)), 4) if defined else 0.5


def _attribute_features(dataset: Dataset) -> Iterator[tuple[str, str, np.ndarray, str]]:
    """Yield modality, attribute, features (N, W) with NaN where absent, and its declared leak."""
    for modality in dataset.modalities:
        for attribute in modality.attributes:
            column = dataset.table(modality.name)[attribute.name]
            if column.isna().all():  # there is nothing to score
                continue
            if attribute.kind == "numeric":
                x = column.to_numpy(float, na_value=np.nan)[:, None]
            else:
                values = column.astype("string")
                known = sorted(values.dropna().unique())
                x = np.stack(
                    [(values == each).to_numpy(float, na_value=np.nan) for each in known], 1
                )
            yield modality.name, attribute.name, x, attribute.leak


def _deciding(dataset: Dataset) -> Iterator[str]:
    """Name attributes with one value in all cases of a class, though others have several."""
    for modality in dataset.modalities:
        for attribute in modality.attributes:
            if attribute.kind != "categorical":
                continue
            column = dataset.table(modality.name)[attribute.name].astype("string")
            share = column.value_counts(normalize=True)
            for k, name in enumerate(dataset.classes):
                values = column[dataset.label == k].dropna()
                if len(values) >= N_DECIDING and values.nunique() == 1:
                    value = values.iloc[0]
                    if share[value] < COMMON:
                        yield (
                            f"all {len(values)} cases of class {name} have "
                            f"{modality.name}.{attribute.name} = {value}"
                        )


def _split_faults(dataset: Dataset, splits: list[Split]) -> Iterator[str]:
    """Name groups and identical pictures that stand on both sides of a split."""
    digests = dict(_picture_digests(dataset))
    for fold, split in enumerate(splits):
        fitted = np.concatenate([split.train, split.valid])
        both = set(dataset.group[fitted]) & set(dataset.group[split.test])
        if both:
            yield f"fold {fold}: {len(both)} groups stand in training and test"
        for name, hashes in digests.items():
            twins = (set(hashes[fitted]) & set(hashes[split.test])) - {""}
            if twins:
                several = counted(len(twins), "picture")
                yield f"fold {fold}: in training and test alike: {several} of {name}"


def _picture_digests(dataset: Dataset) -> Iterator[tuple[str, np.ndarray]]:
    """Yield for each picture modality a hash per case, empty where there is none."""
    for m, modality in enumerate(dataset.modalities):
        content = dataset.content[modality.name]
        present = dataset.available[:, m]
        paths = getattr(content, "paths", None)
        if modality.kind == "image" and isinstance(paths, tuple):
            files = [path if there else None for path, there in zip(paths, present, strict=True)]
            yield modality.name, _file_digests(files)
            continue
        if isinstance(content, PictureArray):
            informative = content.pixels.reshape(dataset.n_cases, -1)
            # A blank or nearly blank picture is no twin of another: quadrants of a digit are.
            if informative.shape[1] < 256:
                continue
            parts = [
                row.tobytes() if there else b""
                for row, there in zip(informative, present, strict=True)
            ]
        else:
            continue
        yield (
            modality.name,
            np.array([hashlib.sha256(part).hexdigest() if part else "" for part in parts]),
        )


def _file_digests(paths: Sequence[Path | None]) -> np.ndarray:
    """Return a hash of each file, empty for None; only files of one size can be twins.

    A file that cannot be read is the loader's to name, not the scan's.
    """
    sizes = {path: path.stat().st_size for path in set(paths) if path is not None}
    n_of_size = Counter(sizes.values())
    digests = {
        path: hashlib.sha256(path.read_bytes()).hexdigest() if n_of_size[size] > 1 else str(path)
        for path, size in sizes.items()
    }
    return np.array(["" if path is None else digests[path] for path in paths])
