"""BUS-BRA: breast ultrasound, one lesion per case, seen in one or two views.

Modalities: `view_a` (the left view, or the only one), `view_b` (the right view, absent in 253 of
1064 cases and never a black picture), `mask` (the lesion as drawn in view_a: five numbers of its
shape, or the picture) and `table` (BI-RADS by default). The label is Pathology; Histology is the
same finding in finer words and never an input. One case is one group; the official 5 and 10 folds
are by case.

Choices: the attributes are those of view_a. The two views of one case (856) have different BI-RADS
categories, and its left one counts. The release's validation columns are by picture and put the two
views of some 200 cases on either side, so validation is carved from training by case instead.
Width and Height of bus_0856-l and bus_0857-r do not fit their pictures; they are read as they are.

What gives the label away (AUC of logistic regression alone, official 5 folds): BI-RADS is a
radiologist's verdict on these pictures (0.89); the outline in the mask (0.89 by its shape, 0.74 by
its pixels) and the box around it (0.84) were drawn by hand; even the scanner tells something
(0.55). Only the views themselves are free of human reading.

Source: Gomez-Flores et al., Medical Physics 51(4), 2024, and the files of the release.
"""

# N cases

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, field_validator

from bench.data import Attribute, Dataset, ImageFiles, Modality
from bench.dataset import (
    DatasetPlugin,
    bad_cell,
    filled,
    find_root,
    fingerprint_files,
    label_codes,
    numbers,
    read_table,
    unique_names,
)
from bench.errors import BadData
from bench.pictures import read_grey
from bench.spec import Frozen
from bench.wording import some_of

if TYPE_CHECKING:
    import pandas as pd

TABLE = "bus_data.csv"
COLUMNS = ("ID", "Case", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX")
SHAPE = ("area", "width", "height", "aspect", "extent")  # of a lesion; see `_shape`
INSIDE = 127  # grey values above it are lesion
FOLD_FILES = {5: "5-fold-cv.csv", 10: "10-fold-cv.csv"}
TABLES = (TABLE, *FOLD_FILES.values())
NEEDED = (*TABLES, "Images", "Masks")
CLASSES = ("benign", "malignant")
BIRADS = ("2", "3", "4", "5")
SIDES = ({"left"}, {"single"}, {"left", "right"})  # what one case can have
ID = re.compile(r"bus_\w+-[lrs]")
BOX = re.compile(r"\[(\d+),(\d+),(\d+),(\d+)\]")
BOX_FIELDS = ("bbox_x", "bbox_y", "bbox_width", "bbox_height")  # pixels of the original picture

SIZE_LEAK = "the size goes with the scanner and with what was cut out around the lesion"
BOX_LEAK = "the box was drawn around the lesion by hand; alone it has AUC 0.84"
ATTRIBUTES = {
    attribute.name: attribute
    for attribute in (
        Attribute(
            "birads",
            "categorical",
            categories=BIRADS,
            leak="a radiologist's reading of the same pictures; alone it has AUC 0.89",
            template="The BI-RADS category of the lesion is {value}",
        ),
        Attribute(
            "device",
            "categorical",
            leak="the scanner goes with the diagnosis; alone it has AUC 0.55",
            template="The ultrasound scanner is {value}",
        ),
        Attribute("width", leak=SIZE_LEAK, template="The picture is {value} pixels wide"),
        Attribute("height", leak=SIZE_LEAK, template="The picture is {value} pixels high"),
        *(
            Attribute(name, leak=BOX_LEAK, template="The {name} of the lesion is {value} pixels")
            for name in BOX_FIELDS
        ),
    )
}
AttributeName = Literal[
    "birads", "device", "width", "height", "bbox_x", "bbox_y", "bbox_width", "bbox_height"
]


class BusbraConfig(Frozen):
    """How the release is read."""

    size: int = Field(64, ge=8, le=1024, description="side of the pictures in pixels")
    mask: Literal["shape", "picture"] = Field(
        "shape", description="the lesion as a vector (area, width, height, aspect, extent) or drawn"
    )
    attributes: tuple[AttributeName, ...] = Field(
        ("birads",), description="columns of the table; none leaves the table out"
    )

    @field_validator("attributes")
    @classmethod
    def _once(cls, attributes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(attributes)) < len(attributes):
            raise ValueError("an attribute is named twice")
        return attributes


class Busbra(DatasetPlugin):
    """Two views with natural gaps, a lesion mask and a radiologist's reading."""

    name = "busbra"
    display_name = "BUS-BRA"
    description = "breast ultrasound, 1064 cases, two views (one absent in 253), mask and BI-RADS"
    citation = (
        "W. Gómez-Flores, M. J. Gregorio-Calas, W. Coelho de Albuquerque Pereira: BUS-BRA: A "
        "breast ultrasound dataset for assessing computer-aided diagnosis systems. "
        "Medical Physics 51(4), 2024"
    )
    licence = "the release's own permissive licence; papers must cite the article"
    config_class = BusbraConfig
    recipe_defaults = {"epochs": 15}

    def load(self, config: BusbraConfig, root: Path | None) -> Dataset:
        """Read the tables and the masks' shapes; check that every picture is there."""
        folder = find_root(self.name, root, NEEDED)
        pictures = _read_pictures(folder)
        first, second = _views(pictures)
        paths = _paths(folder, pictures["ID"].to_numpy(dtype=str), first, second)
        cases = pictures["Case"].to_numpy(dtype=str)[first]
        label = label_codes(pictures["Pathology"], CLASSES, source=TABLE)
        table = _table(pictures.iloc[first], config.attributes)
        content: dict[str, object] = {
            name: ImageFiles(each, config.size) for name, each in paths.items()
        }
        if config.mask == "shape":
            content["mask"] = np.stack([_shape(path) for path in paths["mask"] if path])
        if config.attributes:
            content["table"] = table
        files = [folder / name for name in TABLES] + _present(paths)
        modalities = _modalities(config)
        available = {"view_b": second >= 0, "table": table.notna().any(axis=1).to_numpy()}
        always = np.ones(len(first), dtype=bool)
        return Dataset(
            name=self.name,
            modalities=modalities,
            classes=CLASSES,
            cases=cases,
            label=_per_case(pictures["Pathology"], label, first, second, source=TABLE),
            group=cases,
            content=content,
            available=np.stack([available.get(m.name, always) for m in modalities], axis=1),
            fingerprint=fingerprint_files(files),
            folds={n: _folds(folder, n, pictures["ID"], first, second) for n in FOLD_FILES},
            columns={"device": pictures["Device"].fillna("").to_numpy(dtype=str)[first]},
            files=tuple(files),
        )


def _modalities(config: BusbraConfig) -> tuple[Modality, ...]:
    shape = Modality("mask", "vector", width=len(SHAPE))
    attributes = tuple(ATTRIBUTES[name] for name in config.attributes)
    return (
        Modality("view_a", "image", encoder="view"),
        Modality("view_b", "image", encoder="view"),
        shape if config.mask == "shape" else Modality("mask", "image"),
        *([Modality("table", "table", attributes=attributes)] if attributes else []),
    )


def _read_pictures(folder: Path) -> pd.DataFrame:
    """Return the release's table, one row per picture, with sound ID and Case."""
    pictures = read_table(folder / TABLE, COLUMNS)
    filled(pictures["Case"], source=TABLE)
    for row, name in enumerate(filled(pictures["ID"], source=TABLE)):
        if not ID.fullmatch(name):  # it becomes a part of a path
            raise bad_cell(pictures["ID"], row, "of the form bus_0001-l", source=TABLE)
    unique_names(pictures["ID"], source=TABLE)
    return pictures


def _views(pictures: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return each case's row of view_a, and of view_b or -1: two (N,) int."""
    sides = pictures["Side"]
    rows_of: dict[str, dict[str, int]] = {}
    for row, (case, side) in enumerate(zip(pictures["Case"], sides, strict=True)):
        views = rows_of.setdefault(case, {})
        if side in views:
            raise bad_cell(sides, row, f"another side than case {case} has already", source=TABLE)
        views[side] = row
    for case, views in rows_of.items():
        if set(views) not in SIDES:
            wanted = f"so that case {case} has left and right, left alone, or single"
            raise bad_cell(sides, max(views.values()), wanted, source=TABLE)
    first = [views["left"] if "left" in views else views["single"] for views in rows_of.values()]
    second = [views.get("right", -1) for views in rows_of.values()]
    return np.array(first), np.array(second)


def _per_case(
    column: pd.Series, codes: np.ndarray, first: np.ndarray, second: np.ndarray, *, source: str
) -> np.ndarray:
    """Return the code of each case: (N,); its pictures must agree.

    Args:
        column: one cell per picture, for the error.
        codes: one per picture.
        first: (N,) rows of view_a.
        second: (N,) rows of view_b, -1: none.
        source: name of the file, for the error.
    """
    differs = (second >= 0) & (codes[second] != codes[first])
    if differs.any():
        row = int(second[differs.argmax()])
        raise bad_cell(column, row, "the same in both views of a case", source=source)
    return codes[first]


def _folds(
    folder: Path, n_folds: int, ids: pd.Series, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Return the official fold of each case, from 0: (N,) int."""
    import pandas as pd

    source = FOLD_FILES[n_folds]
    table = read_table(folder / source, ("ID", "kFold"))
    unique_names(table["ID"], source=source)
    place = pd.Index(table["ID"]).get_indexer(pd.Index(ids))
    if (place < 0).any():
        lacking = ids[place < 0].tolist()
        raise BadData(f"{source}: {len(lacking)} pictures have no fold: {some_of(lacking)}")
    fold = table["kFold"].iloc[place]
    codes = label_codes(fold, [str(k + 1) for k in range(n_folds)], source=source)
    return _per_case(fold, codes, first, second, source=source)


def _paths(
    folder: Path, ids: np.ndarray, first: np.ndarray, second: np.ndarray
) -> dict[str, tuple[Path | None, ...]]:
    """Return the picture files of each modality, one per case, None where it has none.

    Raises:
        BadData: pictures named in the table are not in the folder.
    """
    images, masks = folder / "Images", folder / "Masks"
    paths: dict[str, tuple[Path | None, ...]] = {
        "view_a": tuple(images / f"{ids[row]}.png" for row in first),
        "view_b": tuple(images / f"{ids[row]}.png" if row >= 0 else None for row in second),
        "mask": tuple(masks / f"{ids[row].replace('bus', 'mask', 1)}.png" for row in first),
    }
    there = {*images.iterdir(), *masks.iterdir()}
    needed = _present(paths)
    missing = [path.relative_to(folder).as_posix() for path in needed if path not in there]
    if missing:
        raise BadData(
            f"busbra: {len(missing)} of {len(needed)} pictures named in {TABLE} are not under "
            f"{folder}: {some_of(missing)}; complete the release"
        )
    return paths


def _present(paths: Mapping[str, Sequence[Path | None]]) -> list[Path]:
    return [path for each in paths.values() for path in each if path is not None]


def _shape(path: Path) -> np.ndarray:
    """Return the numbers of `SHAPE` of the lesion in a mask: (5,) float32.

    Area, and width and height of the bounding box, are shares of the picture's; aspect is height
    over width in pixels, extent the share of the box that is lesion.

    Raises:
        BadData: the mask cannot be read or is empty.
    """
    lesion = read_grey(path) > INSIDE  # (H, W)
    rows, columns = np.flatnonzero(lesion.any(axis=1)), np.flatnonzero(lesion.any(axis=0))
    if not len(rows):
        raise BadData(f"{path}: no lesion is drawn in the mask; get the file again")
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    shares = [lesion.mean(), width / lesion.shape[1], height / lesion.shape[0]]
    return np.array([*shares, height / width, lesion.sum() / (height * width)], np.float32)


def _table(rows: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """Return the chosen attributes of the cases, one row of the release's table each."""
    import pandas as pd

    known = rows["BIRADS"].isin(BIRADS) | rows["BIRADS"].isna()
    if not known.all():
        wanted = f"one of {', '.join(BIRADS)} or blank"
        raise bad_cell(rows["BIRADS"], int((~known.to_numpy()).argmax()), wanted, source=TABLE)
    cells = {
        "birads": rows["BIRADS"].to_numpy(),
        "device": rows["Device"].to_numpy(),
        "width": numbers(rows["Width"], source=TABLE),
        "height": numbers(rows["Height"], source=TABLE),
        **dict(zip(BOX_FIELDS, _boxes(rows["BBOX"]).T, strict=True)),
    }
    return pd.DataFrame({name: cells[name] for name in attributes}, index=range(len(rows)))


def _boxes(column: pd.Series) -> np.ndarray:
    """Return x, y, width, height in pixels of the original picture, NaN where blank: (N, 4)."""
    boxes = np.full((len(column), len(BOX_FIELDS)), np.nan)
    for row, cell in enumerate(column):
        if isinstance(cell, str):
            found = BOX.fullmatch(cell)
            if found is None:
                raise bad_cell(column, row, "a box like [91,24,103,79] or blank", source=TABLE)
            boxes[row] = [float(number) for number in found.groups()]
    return boxes


PLUGIN = Busbra
