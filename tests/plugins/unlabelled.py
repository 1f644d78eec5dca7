"""Four cases as those of `planted`, without labels; the last one has nothing at all."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bench.data import Attribute, Dataset, Modality, PictureArray
from bench.dataset import DatasetPlugin
from bench.spec import Frozen

TABLE = (Attribute("age"), Attribute("sex", "categorical"), Attribute("size"))


class UnlabelledConfig(Frozen):
    """How the cases differ from those of `planted`."""

    change: Literal["", "kind", "attribute", "width", "name", "classes"] = ""


class Unlabelled(DatasetPlugin):
    """New cases."""

    name = "unlabelled"
    display_name = "Unlabelled"
    description = "four new cases"
    citation = "none"
    licence = "none"
    needs_root = False
    config_class = UnlabelledConfig

    def load(self, config: UnlabelledConfig, root: Path | None) -> Dataset:
        """Make the cases."""
        table = TABLE[:2] if config.change == "attribute" else TABLE
        if config.change == "kind":
            table = (Attribute("age", "categorical"), *TABLE[1:])
        width = 5 if config.change == "width" else 4
        frame = pd.DataFrame(
            {
                "age": [50, np.nan, np.nan, np.nan],
                "sex": ["m", "x", None, None],
                "size": [np.nan] * 4,
            }
        )
        available = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
        picture = "picture" if config.change == "name" else "view"
        return Dataset(
            name=self.name,
            modalities=(
                Modality(picture, "image"),
                Modality("clinical", "table", attributes=table),
                Modality("genes", "vector", width=width),
            ),
            classes=("a", "b") if config.change == "classes" else (),
            cases=np.array(["new0", "new1", "new2", "=new3"]),
            label=np.full(4, -1),
            group=np.arange(4).astype(str),
            content={
                picture: PictureArray(np.full((4, 8, 8, 1), 100, np.uint8)),
                "clinical": frame[[each.name for each in table]],
                "genes": np.zeros((4, width), np.float32),
            },
            available=available,
            fingerprint="unlabelled",
        )


PLUGIN = Unlabelled
