"""PAD-UFES-20: skin lesions photographed with phones, and what doctors noted of lesion and patient.

Modalities: `lesion` (where it is, what it does, and the patient's age: noted for every case),
`anamnesis` (history, habits and origin of the patient, skin type and the lesion's diameters:
absent as a block in 804 of 2298 cases) and, on request, `photo`. One row of the release, a photo,
is a case; the group is the patient (1373), since one lesion is photographed up to six times and
lesion numbers are given anew from patient to patient. The label is one of six diagnoses, or whether
it is a cancer (BCC, SCC or MEL).

Choices: UNK and blank both mean absent, and BRASIL is BRAZIL. Diameters and skin type belong to
the anamnesis because they were recorded, and are absent, with it. Four lesions have diameters of
0 mm, which are read as they are. `biopsed` is no input: every cancer was biopsied.

What gives the label away: the gaps. No cancer lacks the anamnesis, 804 of 1209 other lesions do:
that it is there has AUC 0.83 for cancer, and which attributes are there 0.88 (0.84 where UNK counts
as an answer), logistic regression by patient.

Photos are found by name wherever they lie under the folder: imgs_part_1 to 3 of the release, one
folder, or smaller copies as JPEG with the same names.

Source: Pacheco et al., Data in Brief 32, 106221, 2020, and the files of the release.
"""

# N cases

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from bench.data import Attribute, Dataset, ImageFiles, Modality
from bench.dataset import (
    DatasetPlugin,
    MissingFiles,
    files_there,
    filled,
    find_root,
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

TABLE = "metadata.csv"
DIAGNOSES = ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")
CANCERS = ("BCC", "MEL", "SCC")
PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg")  # of two files with one name, the first counts
ABSENT = ("UNK",)
YES_NO = {"True": "yes", "False": "no"}
COUNTRIES = (
    "AUSTRIA",
    "BRAZIL",
    "CZECH",
    "FRANCE",
    "GERMANY",
    "ISRAEL",
    "ITALY",
    "NETHERLANDS",
    "NORWAY",
    "POLAND",
    "POMERANIA",
    "PORTUGAL",
    "SPAIN",
)
REGIONS = (
    "ABDOMEN",
    "ARM",
    "BACK",
    "CHEST",
    "EAR",
    "FACE",
    "FOOT",
    "FOREARM",
    "HAND",
    "LIP",
    "NECK",
    "NOSE",
    "SCALP",
    "THIGH",
)
ORIGINS = {name: name.capitalize() for name in COUNTRIES} | {"BRASIL": "Brazil"}
WORDS = {
    "region": {name: name.lower() for name in REGIONS},
    "gender": {"FEMALE": "female", "MALE": "male"},
    "background_father": ORIGINS,
    "background_mother": ORIGINS,
}
BLOCK_LEAK = "no cancer lacks the anamnesis: that it is there has AUC 0.83 for cancer"
UNKNOWN_LEAK = "unknown in carcinomas above all: that it is unknown has AUC 0.64 for cancer"


def _number(name: str, template: str, leak: str = "") -> Attribute:
    return Attribute(name, leak=leak, template=template)


def _category(name: str, template: str, leak: str = "") -> Attribute:
    words = tuple(dict.fromkeys(WORDS.get(name, YES_NO).values()))
    return Attribute(name, "categorical", categories=words, leak=leak, template=template)


LESION = (
    _number("age", "The patient is {value} years old"),
    _category("region", "The lesion is on the {value}"),
    _category("itch", "The lesion itches: {value}"),
    _category("grew", "The lesion has grown: {value}", UNKNOWN_LEAK),
    _category("hurt", "The lesion hurts: {value}"),
    _category("changed", "The lesion has changed: {value}", UNKNOWN_LEAK),
    _category("bleed", "The lesion bleeds: {value}"),
    _category("elevation", "The lesion is elevated: {value}"),
)
ANAMNESIS = (
    _category("gender", "The patient is {value}", BLOCK_LEAK),
    _category("smoke", "The patient smokes: {value}", BLOCK_LEAK),
    _category("drink", "The patient drinks alcohol: {value}", BLOCK_LEAK),
    _category("pesticide", "The patient uses pesticides: {value}", BLOCK_LEAK),
    _category("background_father", "The origin of the patient's father is {value}", BLOCK_LEAK),
    _category("background_mother", "The origin of the patient's mother is {value}", BLOCK_LEAK),
    _category(
        "skin_cancer_history", "Skin cancer of the patient or the family: {value}", BLOCK_LEAK
    ),
    _category("cancer_history", "Any cancer of the patient or the family: {value}", BLOCK_LEAK),
    _category("has_piped_water", "The home of the patient has piped water: {value}", BLOCK_LEAK),
    _category("has_sewage_system", "The home of the patient has a sewer: {value}", BLOCK_LEAK),
    _number("fitspatrick", "The skin type of the patient is Fitzpatrick {value}", BLOCK_LEAK),
    _number("diameter_1", "The horizontal diameter of the lesion is {value} mm", BLOCK_LEAK),
    _number("diameter_2", "The vertical diameter of the lesion is {value} mm", BLOCK_LEAK),
)
TABLES = (
    Modality("lesion", "table", attributes=LESION),
    Modality("anamnesis", "table", attributes=ANAMNESIS),
)
COLUMNS = ("patient_id", "diagnostic", "img_id", "biopsed", *(a.name for a in LESION + ANAMNESIS))


class PadUfes20Config(Frozen):
    """How the release is read."""

    target: Literal["diagnostic", "cancer"] = Field(
        "diagnostic", description="six diagnoses, or cancer (BCC, MEL, SCC) against the others"
    )
    photo: bool = Field(False, description="take the photos as a third modality")
    missing_files: MissingFiles = Field(
        "error", description="what a photo that is not in the folder is: a fault, or absent"
    )
    size: int = Field(64, ge=8, le=1024, description="side of the photos in pixels")


class PadUfes20(DatasetPlugin):
    """Two tables, one with a block of gaps that goes with the label, and photos."""

    name = "padufes20"
    display_name = "PAD-UFES-20"
    description = "skin lesions, 2298 photos of 1373 patients, 6 classes; anamnesis absent in 35 %"
    citation = (
        "A. G. C. Pacheco, G. R. Lima, A. S. Salomão, B. Krohling, I. P. Biral, G. G. de Angelo et "
        "al.: PAD-UFES-20: A skin lesion dataset composed of patient data and clinical images "
        "collected from smartphones. Data in Brief 32, 106221, 2020"
    )
    licence = "CC BY 4.0"
    config_class = PadUfes20Config
    recipe_defaults = {"epochs": 20}

    def load(self, config: PadUfes20Config, root: Path | None) -> Dataset:
        """Read the table, and find the photos if they are asked for; decode none."""
        folder = find_root(self.name, root, (TABLE,))
        rows = read_table(folder / TABLE, COLUMNS)
        cases = _cases(rows["img_id"])
        label = label_codes(rows["diagnostic"], DIAGNOSES, source=TABLE)
        classes: tuple[str, ...] = DIAGNOSES
        if config.target == "cancer":
            classes = ("no cancer", "cancer")
            label = np.isin(label, [DIAGNOSES.index(name) for name in CANCERS]).astype(np.int64)
        tables = {each.name: _table(rows, each.attributes) for each in TABLES}
        data = Dataset(
            name=self.name,
            modalities=TABLES,
            classes=classes,
            cases=cases,
            label=label,
            group=filled(rows["patient_id"], source=TABLE),
            content=tables,
            available=np.stack([each.notna().any(axis=1) for each in tables.values()], axis=1),
            fingerprint=fingerprint_files([folder / TABLE]),
            columns={"biopsed": filled(rows["biopsed"], source=TABLE)},
            files=(folder / TABLE,),
        )
        return _with_photos(data, folder, config) if config.photo else data


def _cases(column: pd.Series) -> np.ndarray:
    """Return the names of the photos without their ending: (N,) str."""
    names = unique_names(column, source=TABLE)
    return np.array([name.removesuffix(".png") for name in names])


def _table(rows: pd.DataFrame, attributes: Sequence[Attribute]) -> pd.DataFrame:
    """Return numbers and words, one column per attribute, NaN where absent."""
    import pandas as pd

    read = {}
    for attribute in attributes:
        column = rows[attribute.name]
        if attribute.kind == "numeric":
            read[attribute.name] = numbers(column.mask(column.isin(ABSENT)), source=TABLE)
        else:
            words = WORDS.get(attribute.name, YES_NO)
            read[attribute.name] = words_of(column, words, source=TABLE, absent=ABSENT)
    return pd.DataFrame(read, index=range(len(rows)))


def _with_photos(data: Dataset, folder: Path, config: PadUfes20Config) -> Dataset:
    """Add the photos as the third modality.

    Raises:
        BadData: a photo is not there and that is a fault, or none is there at all.
    """
    found = _photos(folder)
    named = [found.get(case, folder / f"{case}.png") for case in data.cases]
    paths = files_there(named, config.missing_files, folder=folder, source=TABLE)
    files = (*data.files, *(path for path in paths if path is not None))
    there = np.array([path is not None for path in paths])
    return replace(
        data,
        modalities=(*data.modalities, Modality("photo", "image", channels=3)),
        content={**data.content, "photo": ImageFiles(paths, config.size, channels=3)},
        available=np.column_stack([data.available, there]),
        fingerprint=fingerprint_files(files),
        files=files,
    )


def _photos(folder: Path) -> dict[str, Path]:
    """Find pictures under the folder: name without ending -> file; PNG goes before JPEG."""
    found: dict[str, Path] = {}
    for suffix in PHOTO_SUFFIXES:
        for path in sorted(folder.rglob(f"*{suffix}")):
            found.setdefault(path.stem, path)
    return found


PLUGIN = PadUfes20
