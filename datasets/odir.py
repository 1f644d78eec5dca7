"""ODIR-5K: the left and the right fundus of a patient, age and sex.

Modalities: `left` and `right` (pictures that share one encoder; an eye of some patients is absent)
and `table` (sex and age). One patient is a case and a group. The release has no split; there are
three folds, as in CMML, and they are ours.

Cases: patients with one label only, without lens dust, low image quality, an invisible optic disk
or no fundus image in either eye. CMML tells its number of cases, 2,641, and that patients with
several diseases are left out, but not its rule. This one gives exactly that number on the table
full_df.csv (3358 patients: normal 1002, diabetes 679, other 960); neighbouring rules give 2640 to
2642. The annotations of the challenge (XLSX, 3500 patients) list more patients, so that the same
rule will give another number there.

Labels: `three` is CMML's task: normal, diabetes, other. `full` tells the diseases apart: eight
classes, of the same cases, each with the one label that the rule leaves them. Several labels at a
time are no task here; all eight marks are columns of the dataset (`label_N` and so on) in either
case.

Choices: the keywords of an eye are separated by the full-width comma U+FF0C; other commas are part
of a keyword. Age 1 stands for "not known" in adults and is absent. An eye is there when its picture
is listed: full_df.csv has one row per picture that was kept, and a patient with one row lacks an
eye. A sheet that is saved as CSV does as well; `table` and `images` name files of other names.

By default the pictures have 512 pixels and a frozen ResNet-50 with ImageNet's weights encodes them.
CMML's encoder is FLAIR's, a ResNet-50 too: give its file with encoder.weights. Weights are
downloaded: where that cannot be, train a small encoder from scratch (encoder.image=resnet10t,
encoder.pretrained=false, encoder.frozen=false; a frozen encoder without weights sees next to
nothing) on smaller pictures (odir.size=64).

Source: the files of the release (Peking University, challenge ODIR-2019); Li et al., Bench 2020.
The use: CMML, arXiv 2605.25968.
"""

# P patients of the table, N cases

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from bench.data import Attribute, Dataset, ImageFiles, Modality
from bench.dataset import (
    DatasetPlugin,
    MissingFiles,
    bad_cell,
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
from bench.dataset.workbooks import read_sheet
from bench.errors import BadData
from bench.spec import Frozen

if TYPE_CHECKING:
    import pandas as pd

# Tables and the folders of their pictures, as the downloads unpack; the first that fits is read.
RELEASES = (
    ("full_df.csv", "preprocessed_images"),
    ("ODIR-5K_Training_Annotations(Updated)_V2.xlsx", "ODIR-5K_Training_Dataset"),
    ("ODIR-5K_Training_Annotations(Updated)_V2.xlsx", "ODIR-5K_Training_Images"),
    ("data.xlsx", "Training Images"),
    ("ODIR-5K/ODIR-5K/data.xlsx", "ODIR-5K/ODIR-5K/Training Images"),
)
EYES = {"left": "Left-Fundus", "right": "Right-Fundus"}
KEYWORDS = ("Left-Diagnostic Keywords", "Right-Diagnostic Keywords")
SEPARATOR = "\uff0c"  # the full-width comma
PICTURE = "filename"  # of the row, in the table with one row per eye
DISEASES = {
    "N": "normal",
    "D": "diabetes",
    "G": "glaucoma",
    "C": "cataract",
    "A": "macular degeneration",
    "H": "hypertension",
    "M": "myopia",
    "O": "other",
}
COLUMNS = ("ID", "Patient Age", "Patient Sex", *EYES.values(), *KEYWORDS, *DISEASES)
UNUSABLE = frozenset(
    {
        "lens dust",
        "low image quality",
        "optic disk photographically invisible",
        "no fundus image",
    }
)
THREE = ("normal", "diabetes", "other")
AGE_UNKNOWN = 1

# The sentences are those of CMML's table 1.
ATTRIBUTES = (
    Attribute(
        "sex",
        "categorical",
        categories=("female", "male"),
        template="The {name} of patient is {value}",
    ),
    Attribute("age", template="The {name} of patient is {value}"),
)
MODALITIES = (
    Modality("left", "image", channels=3, encoder="fundus"),
    Modality("right", "image", channels=3, encoder="fundus"),
    Modality("table", "table", attributes=ATTRIBUTES),
)


class OdirConfig(Frozen):
    """How the release is read."""

    labels: Literal["three", "full"] = Field(
        "three", description="normal, diabetes, other (CMML), or all eight; one label per case"
    )
    table: str = Field("", description="file of the annotations, .xlsx or .csv; empty: as released")
    images: str = Field("", description="folder of the pictures; empty: as released")
    missing_files: MissingFiles = Field(
        "error", description="what a picture that is not in the folder is: a fault, or absent"
    )
    size: int = Field(512, ge=8, le=1024, description="side of the pictures in pixels")


class Odir(DatasetPlugin):
    """Two eyes, one of them absent in some patients, and a small table."""

    name = "odir"
    display_name = "ODIR"
    description = "fundus photos of both eyes (one absent in some), sex and age, 2641 patients"
    citation = (
        "N. Li, T. Li, C. Hu, K. Wang, H. Kang: A benchmark of ocular disease intelligent "
        "recognition: one shot for multi-disease detection. Bench 2020, LNCS 12614, 2021"
    )
    licence = "not told with the release; do not pass the pictures on"
    config_class = OdirConfig
    default_folds = 3  # CMML
    # Ours: CMML leaves both blank.
    recipe_defaults = {"lr": 5e-4, "batch_size": 32}
    # CMML freezes the visual encoder of FLAIR, of the same shape.
    encoder_defaults = {"image": "resnet50", "pretrained": True, "frozen": True}

    def load(self, config: OdirConfig, root: Path | None) -> Dataset:
        """Read the table, apply the rule and find the pictures; decode none."""
        folder, table, images = _find(self.name, root, config)
        rows, listed = _patients(_read(folder / table), table)
        marks = _marks(rows, table)
        taken = np.flatnonzero((marks.sum(axis=1) == 1) & _is_usable(rows))  # (N,)
        if not len(taken):
            raise BadData(f"{table}: no patient has one label and two usable pictures; check it")
        rows, marks = rows.iloc[taken], marks[taken]
        eyes = _pictures(rows, listed, folder / images, config, source=table)
        cells = _table(rows, table)
        classes, label = _labels(marks, config)
        cases = rows["ID"].to_numpy(dtype=str)
        available = [[path is not None for path in eyes[name]] for name in EYES]
        files = (folder / table, *(path for each in eyes.values() for path in each if path))
        return Dataset(
            name=self.name,
            modalities=MODALITIES,
            classes=classes,
            cases=cases,
            label=label,
            group=cases,
            content={name: ImageFiles(each, config.size, channels=3) for name, each in eyes.items()}
            | {"table": cells},
            available=np.array([*available, cells.notna().any(axis=1)]).T,
            fingerprint=fingerprint_files(files),
            columns={f"label_{k}": marks[:, i].astype(str) for i, k in enumerate(DISEASES)},
            files=files,
        )


def _find(name: str, root: Path | None, config: OdirConfig) -> tuple[Path, str, str]:
    """Return the folder of the release, and its table and pictures in it."""
    releases = [(config.table or table, config.images or images) for table, images in RELEASES]
    layouts = {"\0".join(each): each for each in releases}
    folder, layout = find_layout(name, root, layouts)
    return folder, *layouts[layout]


def _read(path: Path) -> pd.DataFrame:
    read = read_sheet if path.suffix.lower() == ".xlsx" else read_table
    return read(path, COLUMNS)


def _patients(rows: pd.DataFrame, source: str) -> tuple[pd.DataFrame, set[str]]:
    """Return one row per patient, and the names of the pictures that there are.

    Raises:
        BadData: a patient is there twice, or with other cells in the row of the other eye.
    """
    if PICTURE not in rows.columns:
        unique_names(rows["ID"], source=source)
        return rows, {name for eye in EYES.values() for name in rows[eye].dropna()}
    filled(rows["ID"], source=source)
    first = rows.drop_duplicates("ID")
    firsts = first.iloc[rows["ID"].factorize()[0]]  # the patient's first row, for each row
    for column in COLUMNS:
        one, other = rows[column].fillna("").to_numpy(), firsts[column].fillna("").to_numpy()
        if (one != other).any():
            wanted = "as in the first row of the patient"
            raise bad_cell(rows[column], int((one != other).argmax()), wanted, source=source)
    return first, set(unique_names(rows[PICTURE], source=source))


def _marks(rows: pd.DataFrame, source: str) -> np.ndarray:
    """Return which of the eight labels each patient has: (P, 8) int64, 0 or 1."""
    return np.stack(
        [label_codes(rows[letter], ("0", "1"), source=source) for letter in DISEASES], axis=1
    )


def _is_usable(rows: pd.DataFrame) -> np.ndarray:
    """Say of each patient whether no keyword of either eye spoils its picture: (P,) bool."""
    said = zip(*(rows[column].fillna("") for column in KEYWORDS), strict=True)
    keywords = [SEPARATOR.join(eyes).split(SEPARATOR) for eyes in said]
    return np.array([UNUSABLE.isdisjoint(map(_plain, words)) for words in keywords])


def _plain(word: str) -> str:
    return word.strip().lower()


def _labels(marks: np.ndarray, config: OdirConfig) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the classes, and the one of each case: (N,) int64."""
    label = marks.argmax(axis=1)
    if config.labels == "full":
        return tuple(DISEASES.values()), label
    return THREE, np.minimum(label, THREE.index("other"))  # normal and diabetes come first


def _pictures(
    rows: pd.DataFrame, listed: set[str], images: Path, config: OdirConfig, *, source: str
) -> dict[str, tuple[Path | None, ...]]:
    """Return the picture of each eye, one per case, None where there is none.

    Raises:
        BadData: a listed picture is not in the folder and that is a fault.
    """
    there = {path.name: path for path in sorted(images.rglob("*.*"))}
    wanted = [
        there.get(name, images / name) if name in listed else None
        for eye in EYES.values()
        for name in rows[eye]
    ]
    found = files_there(wanted, config.missing_files, folder=images, source=source)
    return {"left": found[: len(rows)], "right": found[len(rows) :]}


def _table(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return sex and age of the cases, NaN where not known."""
    import pandas as pd

    age = numbers(rows["Patient Age"], source=source)
    age[age <= AGE_UNKNOWN] = np.nan
    words = {"Female": "female", "Male": "male"}
    sex = words_of(rows["Patient Sex"], words, source=source)
    return pd.DataFrame({"sex": sex, "age": age}, index=range(len(rows)))


PLUGIN = Odir
