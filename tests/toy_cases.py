"""Six cases of three modalities with gaps at both levels, small enough to read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bench.data import Attribute, Availability, Dataset, Modality, PictureArray


def dataset(modalities: tuple[Modality, ...], content: dict[str, object], n: int = 6) -> Dataset:
    return Dataset(
        name="toy",
        modalities=modalities,
        classes=("benign", "malignant"),
        cases=np.array([f"case{i}" for i in range(n)]),
        label=np.zeros(n, np.int64),
        group=np.arange(n).astype(str),
        content=content,
        available=np.ones((n, len(modalities)), bool),
        fingerprint="toy",
    )


def everything(seed: int = 0) -> Dataset:
    """Return a table of a number and a category, a vector and a grey picture."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.normal(60, 10, 6), "sex": list("fmfmmf")})
    attributes = (Attribute("age"), Attribute("sex", "categorical"))
    modalities = (
        Modality("clinical", "table", attributes),
        Modality("genes", "vector", width=2),
        Modality("view", "image"),
    )
    pixels = rng.integers(0, 256, (6, 4, 4, 1), dtype=np.uint8)
    genes = rng.normal(size=(6, 2)).astype(np.float32)
    return dataset(modalities, {"clinical": frame, "genes": genes, "view": PictureArray(pixels)})


def gaps_of_everything() -> Availability:
    modality = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 0, 1]], bool)
    cells = np.array([[1, 1], [1, 0], [1, 0], [0, 1], [1, 1], [1, 1]], bool)
    return Availability(modality, {0: cells})


def with_planted_content(data: Dataset, gaps: Availability, number: float) -> Dataset:
    frame = data.table("clinical").copy()
    absent = ~(gaps.attributes[0] & gaps.modality[:, :1])
    frame.loc[absent[:, 0], "age"] = number
    frame.loc[absent[:, 1], "sex"] = "planted"
    content: Any = data.content
    genes = np.where(gaps.modality[:, [1]], content["genes"], np.float32(number))
    pixels = content["view"].pixels.copy()
    pixels[~gaps.modality[:, 2]] = 77
    return replace(data, content={"clinical": frame, "genes": genes, "view": PictureArray(pixels)})
