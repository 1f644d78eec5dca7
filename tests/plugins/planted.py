"""Cases with gaps at both levels, in whose files content can be planted where it must not matter.

`content=own` is the truth. `gaps` replaces what nobody may see, in every cell, vector and picture
that is not observed: by noise, NaN or the next case's values, in turn. `test` replaces, in the test
part of fold 0 of 3, one present modality of each case: the case's number tells which.
"""

# N cases, M modalities

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.data import Attribute, Availability, Dataset, Modality, PictureArray
from bench.dataset import DatasetPlugin
from bench.spec import Frozen

N_CASES = 54
MODALITIES = (
    Modality("view", "image"),
    Modality(
        "clinical",
        "table",
        attributes=(Attribute("age"), Attribute("sex", "categorical"), Attribute("size")),
    ),
    Modality("genes", "vector", width=4),
)


class PlantedConfig(Frozen):
    """What is planted."""

    content: Literal["own", "gaps", "test"] = "own"
    pictures: bool = True  # False: no case has one


@dataclass(frozen=True)
class Gapped(Dataset):
    """A dataset that knows its gaps by heart and does not look at the cells for them."""

    gaps: Availability = field(kw_only=True)

    def natural(self) -> Availability:
        """Return the gaps."""
        return self.gaps


class Planted(DatasetPlugin):
    """A picture, a table and a vector, every case with gaps of its own."""

    name = "planted"
    display_name = "Planted"
    description = "54 cases with planted content"
    citation = "none"
    licence = "none"
    needs_root = False
    config_class = PlantedConfig
    default_folds = 3

    def load(self, config: PlantedConfig, root: Path | None) -> Dataset:
        """Draw the cases and plant."""
        label = np.arange(N_CASES) // 3 % 2
        gaps = gaps_of_both_levels()
        if not config.pictures:
            gaps = Availability(gaps.modality & np.array([False, True, True]), gaps.attributes)
        content = own_content(label)
        if config.content == "gaps":
            content = replaced(content, ~gaps.modality, ~gaps.attributes[1], kinds=3)
        if config.content == "test":
            hidden = hidden_in_test() & gaps.modality
            cells = hidden[:, [1]] & gaps.attributes[1]
            content = replaced(content, hidden, cells, kinds=2)
        return Gapped(
            name=self.name,
            modalities=MODALITIES,
            classes=("benign", "malignant"),
            cases=np.array([f"{case:02d}" for case in range(N_CASES)]),
            label=label.astype(np.int64),
            group=np.arange(N_CASES).astype(str),
            content={**content, "view": PictureArray(content["view"])},
            available=gaps.modality,
            fingerprint="planted",
            folds={3: np.arange(N_CASES) % 3},
            gaps=gaps,
        )


def hidden_in_test() -> np.ndarray:
    """Say which modality of which test case of fold 0 has other content: (N, M) bool."""
    case = np.arange(N_CASES)
    return (case % 3 == 0)[:, None] & (case[:, None] // 3 % 3 == np.arange(3))


def gaps_of_both_levels() -> Availability:
    """Draw who has what: three quarters of the modalities, of their attributes as well."""
    rng = np.random.default_rng(3)
    modality = rng.random((N_CASES, 3)) < 0.75
    modality[~modality.any(1), 2] = True
    cells = (rng.random((N_CASES, 3)) < 0.75) & modality[:, [1]]
    cells[:, 0] |= modality[:, 1] & ~cells.any(1)
    return Availability(modality, {1: cells})


def own_content(label: np.ndarray) -> dict[str, Any]:
    """Draw content that tells the label."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {
            "age": rng.normal(60, 10, N_CASES) + 10 * label,
            "sex": rng.choice(["f", "m"], N_CASES),
            "size": rng.normal(size=N_CASES) + label,
        }
    )
    genes = rng.normal(size=(N_CASES, 4)) + label[:, None]
    pixels = rng.integers(0, 200, (N_CASES, 8, 8, 1)) + 50 * label[:, None, None, None]
    return {
        "view": pixels.astype(np.uint8),
        "clinical": frame,
        "genes": genes.astype(np.float32),
    }


def replaced(
    content: dict[str, Any], modality: np.ndarray, cells: np.ndarray, *, kinds: int
) -> dict[str, Any]:
    """Replace content: case by case noise, the next case's values, and NaN if there are 3 kinds.

    Args:
        content: as drawn.
        modality: (N, M) bool, pictures and vectors to replace.
        cells: (N, A) bool, cells of the table to replace.
        kinds: 2 or 3.
    """
    rng = np.random.default_rng(5)
    kind = np.arange(N_CASES) // 9 % kinds
    frame = content["clinical"].copy()
    for a, name in enumerate(frame.columns):
        numeric = name != "sex"
        noise = rng.normal(0, 100, N_CASES) if numeric else np.full(N_CASES, "planted", object)
        for k, values in enumerate((noise, frame[name].shift(-1).ffill().to_numpy(), np.nan)):
            rows = cells[:, a] & (kind == k)
            frame.loc[rows, name] = values if np.isscalar(values) else values[rows]
    pixels, genes = content["view"], content["genes"]
    other = rng.integers(0, 256, pixels.shape, dtype=np.uint8)
    pictures = [other, np.roll(pixels, -1, 0), np.full_like(pixels, 255)]
    vectors = [rng.normal(0, 100, genes.shape), np.roll(genes, -1, 0), np.full_like(genes, np.nan)]
    return {
        "view": _chosen(pixels, pictures, modality[:, 0], kind),
        "clinical": frame,
        "genes": _chosen(genes, vectors, modality[:, 2], kind).astype(np.float32),
    }


def _chosen(
    own: np.ndarray, kinds: list[np.ndarray], rows: np.ndarray, kind: np.ndarray
) -> np.ndarray:
    """Take rows of the kind that each has, where they are to be replaced."""
    chosen = own.copy()
    for k, values in enumerate(kinds):
        chosen[rows & (kind == k)] = values[rows & (kind == k)]
    return chosen


PLUGIN = Planted
