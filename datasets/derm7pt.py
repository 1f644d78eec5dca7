"""Derm7pt: one lesion photographed twice, with and without a dermoscope, and what was noted of it.

Modalities: `clinical`, `dermoscopic` (pictures that share one encoder) and `table` (sex,
management, location, elevation and difficulty by default; the seven criteria on request). One row
of the release is a case and a group: the release has no patient numbers. The split is the official
one.

Two tasks. `classes: 2` is CMML's: melanoma against nevus, 827 cases in parts of 346, 161 and 320.
`classes: 5` is AlignedFusion's: all 1011 cases in parts of 413, 203 and 395. A diagnosis is a
melanoma when it begins with that word (melanosis does not) and a nevus when it contains that word.

Choices: nine cases have no clinical picture of their own, their dermoscopic file is named twice;
their clinical picture is absent. The word "absent" in a criterion is a finding and not a gap. The
order of the modalities is that in which the numbers of CMML's table 2 fit. Names of pictures are
looked up as written, and without regard to case where that finds nothing: extensions are in mixed
case. AlignedFusion names the five diagnoses as its attributes, which would hand out the label; the
five columns that CMML uses stand in for them.

What gives the label away: `management` was decided after the diagnosis was suspected. All 252
melanomas were excised, and logistic regression on the five attributes reaches AUC 0.91 for
melanoma against nevus, without management 0.70. The criteria are a dermatologist's reading of the
dermoscopic picture, made to tell melanoma.

By default the pictures are encoded as in CMML, by a pretrained Swin-T that trains at a tenth of the
learning rate. Its weights are downloaded: where that cannot be, give encoder.weights, or set
encoder.pretrained=false (with encoder.image=resnet10t for a CPU).

Source: Kawahara et al., IEEE Journal of Biomedical and Health Informatics 23(2), 2019, and the
files of the release; the two papers' uses of it: arXiv 2605.25968 (CMML), and AlignedFusion, MIDL
2026, under review.
"""

# N cases of the task, R rows of the release

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, field_validator

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
    read_table,
    unique_names,
    words_of,
)
from bench.errors import BadData
from bench.spec import Frozen

if TYPE_CHECKING:
    import pandas as pd

TABLE = "meta/meta.csv"
INDEX_FILES = {part: f"meta/{part}_indexes.csv" for part in ("train", "valid", "test")}
IMAGES = "images"
NEEDED = (TABLE, *INDEX_FILES.values(), IMAGES)
# The download unpacks to a folder of its own name.
LAYOUTS = {inner: [Path(inner, name).as_posix() for name in NEEDED] for inner in ("", "release_v0")}

MELANOMAS = (
    "melanoma",
    "melanoma (in situ)",
    "melanoma (less than 0.76 mm)",
    "melanoma (0.76 to 1.5 mm)",
    "melanoma (more than 1.5 mm)",
    "melanoma metastasis",
)
NEVI = (
    "blue nevus",
    "clark nevus",
    "combined nevus",
    "congenital nevus",
    "dermal nevus",
    "recurrent nevus",
    "reed or spitz nevus",
)
OTHERS = ("dermatofibroma", "lentigo", "melanosis", "miscellaneous", "vascular lesion")
CLASS_OF = {
    "basal cell carcinoma": "BCC",
    "seborrheic keratosis": "SK",
    **dict.fromkeys(MELANOMAS, "MEL"),
    **dict.fromkeys(NEVI, "NEV"),
    **dict.fromkeys(OTHERS, "MISC"),
}
CLASSES = {2: ("NEV", "MEL"), 5: ("BCC", "NEV", "MEL", "MISC", "SK")}

MANAGEMENT_LEAK = "decided after the diagnosis was suspected: all melanomas were excised"
CRITERION_LEAK = "a dermatologist's reading of the dermoscopic picture, made to tell melanoma"
# The sentences are those of CMML's table 1, which gives the words of the first two.
NOTED = {
    attribute.name: attribute
    for attribute in (
        Attribute(
            "sex",
            "categorical",
            categories=("female", "male"),
            template="The {name} of patient is {value}",
        ),
        Attribute(
            "management",
            "categorical",
            categories=("clinical follow up", "excision", "no further examination"),
            leak=MANAGEMENT_LEAK,
            template="The {name} for the patient is {value}",
        ),
        Attribute(
            "location",
            "categorical",
            categories=(
                "abdomen",
                "acral",
                "back",
                "buttocks",
                "chest",
                "genital areas",
                "head neck",
                "lower limbs",
                "upper limbs",
            ),
            template="The lesion {name} is {value}",
        ),
        Attribute(
            "elevation",
            "categorical",
            categories=("flat", "nodular", "palpable"),
            template="The {name} is {value}",
        ),
        Attribute(
            "difficulty",
            "categorical",
            categories=("low", "medium", "high"),
            template="The diagnostic {name} is {value}",
        ),
    )
}
COLUMN_OF = {name: name for name in NOTED} | {"difficulty": "level_of_diagnostic_difficulty"}
FINDINGS = {
    "pigment_network": ("absent", "typical", "atypical"),
    "streaks": ("absent", "regular", "irregular"),
    "pigmentation": (
        "absent",
        "diffuse regular",
        "localized regular",
        "diffuse irregular",
        "localized irregular",
    ),
    "regression_structures": ("absent", "blue areas", "white areas", "combinations"),
    "dots_and_globules": ("absent", "regular", "irregular"),
    "blue_whitish_veil": ("absent", "present"),
    "vascular_structures": (
        "absent",
        "arborizing",
        "comma",
        "hairpin",
        "within regression",
        "wreath",
        "dotted",
        "linear irregular",
    ),
}
CRITERIA = tuple(
    Attribute(
        name,
        "categorical",
        categories=findings,
        leak=CRITERION_LEAK,
        template=f"The {name.replace('_', ' ')} is {{value}}",
    )
    for name, findings in FINDINGS.items()
)
COLUMNS = ("case_num", "diagnosis", *COLUMN_OF.values(), *FINDINGS, "clinic", "derm")

AttributeName = Literal["sex", "management", "location", "elevation", "difficulty"]


class Derm7ptConfig(Frozen):
    """How the release is read."""

    classes: Literal[2, 5] = Field(
        2, description="2: melanoma against nevus, as CMML; 5: all cases, as AlignedFusion"
    )
    attributes: tuple[AttributeName, ...] = Field(
        ("sex", "management", "location", "elevation", "difficulty"),
        description="columns of the table; leave management out for a table that does not leak",
    )
    criteria: bool = Field(False, description="add the seven criteria to the table")
    missing_files: MissingFiles = Field(
        "error", description="what a picture that is not in the folder is: a fault, or absent"
    )
    size: int = Field(224, ge=8, le=1024, description="side of the pictures in pixels")

    @field_validator("attributes")
    @classmethod
    def _once(cls, attributes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(attributes)) < len(attributes):
            raise ValueError("an attribute is named twice")
        return attributes

    @property
    def table(self) -> tuple[Attribute, ...]:
        """The attributes of the table, in order; without any there is no table."""
        return (*(NOTED[name] for name in self.attributes), *(CRITERIA if self.criteria else ()))


class Derm7pt(DatasetPlugin):
    """Two pictures of a lesion and a table, with the official split."""

    name = "derm7pt"
    display_name = "Derm7pt"
    description = "skin lesions, 827 (2 classes) or 1011 (5), clinical and dermoscopic photo, table"
    citation = (
        "J. Kawahara, S. Daneshvar, G. Argenziano, G. Hamarneh: Seven-point checklist and skin "
        "lesion classification using multitask multimodal neural nets. IEEE Journal of Biomedical "
        "and Health Informatics 23(2), 2019"
    )
    licence = "academic research only; the pictures may not be passed on (README of the release)"
    config_class = Derm7ptConfig
    default_folds = 1
    default_seeds = (0, 1, 2)  # CMML: three random seeds, not told which
    # lr and batch size: CFCML, an earlier method of CMML's first author, as CMML leaves them blank
    recipe_defaults = {"lr": 1e-4, "batch_size": 36, "encoder_lr_factor": 0.1}
    encoder_defaults = {"image": "swin_tiny_patch4_window7_224", "pretrained": True}

    def load(self, config: Derm7ptConfig, root: Path | None) -> Dataset:
        """Read the tables and find the pictures; decode none."""
        folder = Path(*find_layout(self.name, root, LAYOUTS))
        rows = read_table(folder / TABLE, COLUMNS)
        names = unique_names(rows["case_num"], source=TABLE)
        classes, parts = _classes_of(rows["diagnosis"]), _parts(folder, len(rows))
        taken = np.flatnonzero(np.isin(classes, CLASSES[config.classes]))  # (N,)
        rows, cases = rows.iloc[taken], names[taken]
        pictures = _pictures(folder, rows, config)
        table = _table(rows, config.table)
        available = {name: [path is not None for path in each] for name, each in pictures.items()}
        available["table"] = table.notna().any(axis=1).to_list()
        modalities = _modalities(config)
        files = (
            *(folder / name for name in (TABLE, *INDEX_FILES.values())),
            *(path for each in pictures.values() for path in each if path is not None),
        )
        return Dataset(
            name=self.name,
            modalities=modalities,
            classes=CLASSES[config.classes],
            cases=cases,
            label=np.array([CLASSES[config.classes].index(name) for name in classes[taken]]),
            group=cases,
            content={
                name: ImageFiles(each, config.size, channels=3) for name, each in pictures.items()
            }
            | ({"table": table} if config.table else {}),
            available=np.array([available[each.name] for each in modalities]).T,
            fingerprint=fingerprint_files(files),
            parts=parts[taken],
            columns={"diagnosis": rows["diagnosis"].to_numpy(dtype=str)},
            files=files,
        )


def _modalities(config: Derm7ptConfig) -> tuple[Modality, ...]:
    return (
        Modality("clinical", "image", channels=3, encoder="lesion"),
        Modality("dermoscopic", "image", channels=3, encoder="lesion"),
        *([Modality("table", "table", attributes=config.table)] if config.table else []),
    )


def _classes_of(column: pd.Series) -> np.ndarray:
    """Return the class of each diagnosis among the five: (R,) str."""
    code = label_codes(column, tuple(CLASS_OF), source=TABLE)
    return np.array(list(CLASS_OF.values()))[code]


def _parts(folder: Path, n_rows: int) -> np.ndarray:
    """Return the official part of each row: (R,) str.

    The index files hold positions of rows in the table, from 0; they are not case numbers.

    Raises:
        BadData: a position does not exist or is there twice, or a row has no part.
    """
    parts = np.full(n_rows, "", dtype="<U5")
    for part, source in INDEX_FILES.items():
        column = read_table(folder / source, ("indexes",))["indexes"]
        for row, cell in enumerate(filled(column, source=source)):
            if not cell.isdecimal() or int(cell) >= n_rows:
                wanted = f"the position of a row of {TABLE}, from 0 to {n_rows - 1}"
                raise bad_cell(column, row, wanted, source=source)
            if parts[int(cell)]:
                wanted = f"another row than one of the part {parts[int(cell)]}"
                raise bad_cell(column, row, wanted, source=source)
            parts[int(cell)] = part
    if (parts == "").any():
        raise BadData(
            f"{TABLE}: {(parts == '').sum()} rows are in none of {', '.join(INDEX_FILES.values())};"
            f" first: position {int((parts == '').argmax())}, counted from 0; complete the release"
        )
    return parts


def _pictures(
    folder: Path, rows: pd.DataFrame, config: Derm7ptConfig
) -> dict[str, tuple[Path | None, ...]]:
    """Return the picture files of each modality, None where a case has none of its own.

    Raises:
        BadData: a name is blank, or pictures are missing and that is a fault.
    """
    images = folder / IMAGES
    there = {
        path.relative_to(images).as_posix().lower(): path for path in sorted(images.rglob("*.*"))
    }
    clinical, dermoscopic = (
        [_picture(images, name, there) for name in filled(rows[column], source=TABLE)]
        for column in ("clinic", "derm")
    )
    own = [None if path == twin else path for path, twin in zip(clinical, dermoscopic, strict=True)]
    found = files_there([*own, *dermoscopic], config.missing_files, folder=folder, source=TABLE)
    return {"clinical": found[: len(rows)], "dermoscopic": found[len(rows) :]}


def _picture(images: Path, name: str, there: Mapping[str, Path]) -> Path:
    """Return the file of a name, which may be written in another case than on the disk."""
    path = images / name
    return path if path.is_file() else there.get(name.lower(), path)


def _table(rows: pd.DataFrame, attributes: tuple[Attribute, ...]) -> pd.DataFrame:
    """Return words, one column per attribute, NaN where blank."""
    import pandas as pd

    read = {
        each.name: words_of(
            rows[COLUMN_OF.get(each.name, each.name)],
            {word: word for word in each.categories},
            source=TABLE,
        )
        for each in attributes
    }
    return pd.DataFrame(read, index=range(len(rows)))


PLUGIN = Derm7pt
