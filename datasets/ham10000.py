"""HAM10000: dermoscopic pictures of pigmented lesions, with age, sex and place.

Modalities: `dermoscopic` (the picture) and `table`. One picture is a case; the group is the lesion,
since 10015 pictures show 7470 lesions. The release has no patients and no split; the folds are
ours, by lesion.

Choices: age 0 and the word "unknown" mean absent, like a blank. How a diagnosis was made (dx_type)
is no input, as every lesion that was merely followed up is a nevus; it is a column of the dataset.
Pictures are found by name wherever they lie under the folder: in two parts as released, or in one
folder.

Source: Tschandl, Rosendahl and Kittler, Scientific Data 5, 180161, 2018, and the files of the
release.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from bench.data import Attribute, Dataset, ImageFiles, Modality
from bench.dataset import (
    DatasetPlugin,
    MissingFiles,
    files_there,
    filled,
    find_layout,
    fingerprint_files,
    label_codes,
    numbers,
    read_table,
    unique_names,
    words_of,
)
from bench.spec import Frozen

if TYPE_CHECKING:
    import pandas as pd

# The table comes without an ending, or with one from other hosts.
LAYOUTS = {name: (name,) for name in ("HAM10000_metadata.csv", "HAM10000_metadata")}
COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
UNKNOWN = ("unknown",)
PLACES = (
    "abdomen",
    "acral",
    "back",
    "chest",
    "ear",
    "face",
    "foot",
    "genital",
    "hand",
    "lower extremity",
    "neck",
    "scalp",
    "trunk",
    "upper extremity",
)
ATTRIBUTES = (
    Attribute("age", template="The patient is {value} years old"),
    Attribute(
        "sex", "categorical", categories=("female", "male"), template="The patient is {value}"
    ),
    Attribute(
        "localization",
        "categorical",
        categories=PLACES,
        template="The lesion is located here: {value}",
    ),
)
MODALITIES = (
    Modality("dermoscopic", "image", channels=3),
    Modality("table", "table", attributes=ATTRIBUTES),
)


class Ham10000Config(Frozen):
    """How the release is read."""

    missing_files: MissingFiles = Field(
        "error", description="what a picture that is not in the folder is: a fault, or absent"
    )
    size: int = Field(64, ge=8, le=1024, description="side of the pictures in pixels")


class Ham10000(DatasetPlugin):
    """One picture and a small table of which few cells are absent."""

    name = "ham10000"
    display_name = "HAM10000"
    description = "skin lesions, 10015 dermoscopic pictures of 7470 lesions, 7 classes, table"
    citation = (
        "P. Tschandl, C. Rosendahl, H. Kittler: The HAM10000 dataset, a large collection of "
        "multi-source dermatoscopic images of common pigmented skin lesions. Scientific Data 5, "
        "180161, 2018"
    )
    licence = "Creative Commons, non-commercial (see the release)"
    config_class = Ham10000Config
    recipe_defaults = {"epochs": 15}

    def load(self, config: Ham10000Config, root: Path | None) -> Dataset:
        """Read the table and find the pictures; decode none."""
        folder, source = find_layout(self.name, root, LAYOUTS)
        rows = read_table(folder / source, COLUMNS)
        cases = unique_names(rows["image_id"], source=source)
        there = {path.stem: path for path in sorted(folder.rglob("*.jpg"))}
        paths = files_there(
            [there.get(name, folder / f"{name}.jpg") for name in cases],
            config.missing_files,
            folder=folder,
            source=source,
        )
        table = _table(rows, source)
        files = (folder / source, *(path for path in paths if path is not None))
        available = [[path is not None for path in paths], table.notna().any(axis=1)]
        return Dataset(
            name=self.name,
            modalities=MODALITIES,
            classes=DIAGNOSES,
            cases=cases,
            label=label_codes(rows["dx"], DIAGNOSES, source=source),
            group=filled(rows["lesion_id"], source=source),
            content={"dermoscopic": ImageFiles(paths, config.size, channels=3), "table": table},
            available=np.array(available).T,
            fingerprint=fingerprint_files(files),
            columns={"dx_type": filled(rows["dx_type"], source=source)},
            files=files,
        )


def _table(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return age, sex and place of the cases, NaN where not known."""
    import pandas as pd

    age = numbers(rows["age"], source=source)
    age[age == 0] = np.nan
    words = {
        attribute.name: words_of(
            rows[attribute.name],
            {word: word for word in attribute.categories},
            source=source,
            absent=UNKNOWN,
        )
        for attribute in ATTRIBUTES
        if attribute.kind == "categorical"
    }
    return pd.DataFrame({"age": age, **words}, index=range(len(rows)))


PLUGIN = Ham10000
