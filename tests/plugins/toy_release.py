"""Thirty cases with an age and a picture, read from a table and picture files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.data import Attribute, Dataset, ImageFiles, Modality
from bench.dataset import (
    DatasetPlugin,
    find_root,
    fingerprint_files,
    label_codes,
    numbers,
    read_table,
)
from bench.spec import Frozen

TABLE = "cases.csv"
CLASSES = ("benign", "malignant")


class ToyRelease(DatasetPlugin):
    """A release as small as it can be."""

    name = "toy-release"
    display_name = "Toy release"
    description = "thirty cases, an age and a picture"
    citation = "none"
    licence = "none"
    default_folds = 3

    def load(self, config: Frozen, root: Path | None) -> Dataset:
        """Read the table; pictures are read when they are asked for."""
        folder = find_root(self.name, root, (TABLE, "pictures"))
        table = read_table(folder / TABLE, ("case", "label", "age"))
        cases = table["case"].to_numpy(dtype=str)
        paths = tuple(folder / "pictures" / f"{case}.png" for case in cases)
        ages = numbers(table["age"], source=TABLE)
        return Dataset(
            name=self.name,
            modalities=(
                Modality("clinical", "table", attributes=(Attribute("age"),)),
                Modality("view", "image"),
            ),
            classes=CLASSES,
            cases=cases,
            label=label_codes(table["label"], CLASSES, source=TABLE),
            group=cases,
            content={
                "clinical": table.assign(age=ages)[["age"]].reset_index(drop=True),
                "view": ImageFiles(paths, size=8),
            },
            available=np.ones((len(cases), 2), dtype=bool),
            fingerprint=fingerprint_files([folder / TABLE, *paths]),
            files=(folder / TABLE, *paths),
        )


PLUGIN = ToyRelease
