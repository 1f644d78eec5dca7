"""DeepLesion: the CT slice that a radiologist marked, and four attributes of patient and lesion.

Modalities: `slice` (the key slice as it was looked at) and `table` (age, sex, location and size, as
AlignedFusion takes them). One lesion is a case; two lesions can share a slice. The group is the
patient.

The task is our choice: the coarse type of the lesion, one of eight parts of the body, on the
lesions that have one, which are those of the official validation and test parts. AlignedFusion
detects lesions instead, which no method here does; the boxes are columns of the dataset (`box_x1`
and so on, pixels of the released slice). By default five folds, by patient and ours; one fold
(--n-folds 1) trains on the official validation part and tests on the official test part.

Pictures: 16-bit PNG hold Hounsfield units plus 32768. The window that the radiologist had set
becomes 0 to 255, what lies outside is cut off, and the slice is scaled to a square. The release's
Key_slices are drawn over and not read.

Choices: the location in the body (x, y, z from 0 to 1, by the release's own regression) is one
attribute of 3 x 2 x 5 boxes, so that it is there or absent as a whole, as in AlignedFusion;
`location: coordinates` makes three numbers of it. Size is the long diameter in mm. Lesions that the
release marks as possibly noisy stay in (column `possibly_noisy`).

What gives the label away: the types are parts of the body, and the location says where in the body
the lesion is.

Source: Yan et al., Journal of Medical Imaging 5(3), 2018, and the files of the release. The use of
the four attributes: AlignedFusion, MIDL 2026, under review.
"""

# R rows of the table, N cases, H W height and width of a slice

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from bench.data import Attribute, Dataset, Modality
from bench.dataset import (
    DatasetPlugin,
    MissingFiles,
    bad_cell,
    files_there,
    filled,
    find_root,
    fingerprint_files,
    label_codes,
    numbers,
    read_table,
    words_of,
)
from bench.errors import BadData
from bench.pictures import read_deep_grey
from bench.spec import Frozen

if TYPE_CHECKING:
    import pandas as pd

TABLE = "DL_info.csv"
IMAGES = "Images_png"
COLUMNS = (
    "File_name",
    "Patient_index",
    "Bounding_boxes",
    "Lesion_diameters_Pixel_",
    "Normalized_lesion_location",
    "Coarse_lesion_type",
    "Possibly_noisy",
    "Spacing_mm_px_",
    "DICOM_windows",
    "Patient_gender",
    "Patient_age",
    "Train_Val_Test",
)
TYPES = ("bone", "abdomen", "mediastinum", "liver", "lung", "kidney", "soft tissue", "pelvis")
TYPE_CODES = ("-1", *(str(k + 1) for k in range(len(TYPES))))  # -1: not labelled
PARTS = ("1", "2", "3")  # training, validation, test
FILE_NAME = re.compile(r"(\d+_\d+_\d+)_(\d+\.png)")  # patient_study_series, key slice
BOX = ("box_x1", "box_y1", "box_x2", "box_y2")
HOUNSFIELD_ZERO = 32768
WHITE = 255.0

AXES = ("x", "y", "z")
N_BINS = (3, 2, 5)  # of the location along x, y, z
LOCATION_LEAK = "the types are parts of the body, and this is where in the body the lesion is"
# AlignedFusion: the words of the sentences do not matter.
AGE = Attribute("age", template="The patient is {value} years old")
SEX = Attribute(
    "sex", "categorical", categories=("female", "male"), template="The patient is {value}"
)
SIZE = Attribute("size", template="The lesion is {value} mm long")
BINNED = Attribute(
    "location",
    "categorical",
    categories=tuple(
        f"x {x + 1}/{N_BINS[0]}, y {y + 1}/{N_BINS[1]}, z {z + 1}/{N_BINS[2]}"
        for z in range(N_BINS[2])
        for y in range(N_BINS[1])
        for x in range(N_BINS[0])
    ),
    leak=LOCATION_LEAK,
    template="The lesion lies at {value} of the body",
)
COORDINATES = tuple(
    Attribute(
        f"location_{axis}",
        leak=LOCATION_LEAK,
        template=f"The lesion lies at {axis} = {{value}} of the body",
    )
    for axis in AXES
)


class DeepLesionConfig(Frozen):
    """How the release is read."""

    location: Literal["binned", "coordinates"] = Field(
        "binned", description="one attribute of 30 boxes, or three numbers"
    )
    missing_files: MissingFiles = Field(
        "error", description="what a slice that is not in the folder is: a fault, or absent"
    )
    size: int = Field(128, ge=8, le=1024, description="side of the slices in pixels")

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attributes of the table, in order."""
        location = (BINNED,) if self.location == "binned" else COORDINATES
        return (AGE, SEX, *location, SIZE)


@dataclass(frozen=True)
class WindowedSlices:
    """CT slices of the release, one per case or None, as they look in a window."""

    paths: tuple[Path | None, ...]
    windows: tuple[tuple[float, float], ...]  # Hounsfield units that are black and white
    size: int

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8 (n, size, size, 1).

        Raises:
            BadData: a slice is missing, damaged or not of 16 bits; the file is named.
        """
        slices = [windowed(self.paths[row], self.windows[row], self.size) for row in rows]
        shape = (0, self.size, self.size, 1)
        return np.stack(slices) if slices else np.zeros(shape, np.uint8)


def windowed(path: Path | None, window: tuple[float, float], size: int) -> np.ndarray:
    """Return a slice of the release as grey values: uint8 (size, size, 1).

    Args:
        path: the file; None is refused: absent slices are not read.
        window: Hounsfield units that become 0 and 255; what lies outside is cut off.
        size: pixels of a side; scaled as `bench.pictures` does, after the window.

    Raises:
        BadData: no such file, damaged, or not of 16 bits; the file is named.
        ValueError: no path.
    """
    if path is None:
        raise ValueError("path is None: this case has no slice, read the rows that have one")
    low, high = window
    hounsfield = read_deep_grey(path).astype(np.float32) - HOUNSFIELD_ZERO  # (H, W)
    grey = ((hounsfield - low) / (high - low)).clip(0, 1) * WHITE
    scaled = Image.fromarray(grey).resize((size, size), Image.Resampling.BILINEAR)
    return np.rint(np.asarray(scaled)).astype(np.uint8)[..., None]


class DeepLesion(DatasetPlugin):
    """One picture and four attributes, one of them nearly the label."""

    name = "deeplesion"
    display_name = "DeepLesion"
    description = "CT slices, coarse type of the lesion (8 classes), age, sex, location and size"
    citation = (
        "K. Yan, X. Wang, L. Lu, R. M. Summers: DeepLesion: automated mining of large-scale lesion "
        "annotations and universal lesion detection with deep learning. Journal of Medical "
        "Imaging 5(3), 036501, 2018"
    )
    licence = "NIH Clinical Center: free to use, with the article cited"
    config_class = DeepLesionConfig
    recipe_defaults = {"epochs": 15}

    def load(self, config: DeepLesionConfig, root: Path | None) -> Dataset:
        """Read the lesions that have a type, and find their slices; decode none."""
        folder = find_root(self.name, root, (TABLE, IMAGES))
        rows = read_table(folder / TABLE, COLUMNS)
        code = label_codes(rows["Coarse_lesion_type"], TYPE_CODES, source=TABLE)
        part = label_codes(rows["Train_Val_Test"], PARTS, source=TABLE)
        taken = np.flatnonzero(code > 0)  # (N,)
        if not len(taken):
            raise BadData(f"{TABLE}: no lesion has a type, all are -1; get the file again")
        names = _cases(rows["File_name"])[taken]
        rows, part = rows.iloc[taken], part[taken]
        slices = _slices(folder, rows, config)
        table = _table(rows, config)
        there = np.array([path is not None for path in slices.paths])
        files = (folder / TABLE, *dict.fromkeys(path for path in slices.paths if path))
        boxes = _lists(rows["Bounding_boxes"], len(BOX))
        return Dataset(
            name=self.name,
            modalities=(
                Modality("slice", "image"),
                Modality("table", "table", attributes=config.attributes),
            ),
            classes=TYPES,
            cases=names,
            label=code[taken] - 1,
            group=filled(rows["Patient_index"], source=TABLE),
            content={"slice": slices, "table": table},
            available=np.stack([there, table.notna().any(axis=1)], axis=1),
            fingerprint=fingerprint_files(files),
            parts=_official_parts(part),
            columns={
                **dict(zip(BOX, boxes.T, strict=True)),
                "possibly_noisy": filled(rows["Possibly_noisy"], source=TABLE),
            },
            files=files,
        )


def _cases(column: pd.Series) -> np.ndarray:
    """Return a name for each lesion: slice and number of the lesion in it, (R,) str."""
    for row, name in enumerate(filled(column, source=TABLE)):
        if not FILE_NAME.fullmatch(name):  # it becomes a part of a path
            raise bad_cell(column, row, "of the form 000001_01_01_109.png", source=TABLE)
    number = column.groupby(column).cumcount() + 1
    return (column.str.removesuffix(".png") + "-" + number.astype(str)).to_numpy(dtype=str)


def _official_parts(part: np.ndarray) -> np.ndarray | None:
    """Return `train` for official validation and `test` for official test rows: (N,) str.

    None without one of both: a file that was cut to one part can still be used in folds.
    """
    names = np.array(["train", "train", "test"])[part]
    return names if len(np.unique(names)) == 2 else None


def _slices(folder: Path, rows: pd.DataFrame, config: DeepLesionConfig) -> WindowedSlices:
    """Find the key slices, and the windows that they are shown in.

    Raises:
        BadData: a window is none, or a slice is missing and that is a fault.
    """
    windows = _lists(rows["DICOM_windows"], 2)
    empty = windows[:, 0] >= windows[:, 1]
    if empty.any():
        wanted = "two numbers that go up"
        raise bad_cell(rows["DICOM_windows"], int(empty.argmax()), wanted, source=TABLE)
    paths = [folder / IMAGES / FILE_NAME.sub(r"\1/\2", name) for name in rows["File_name"]]
    found = files_there(paths, config.missing_files, folder=folder, source=TABLE)
    return WindowedSlices(found, tuple(map(tuple, windows.tolist())), config.size)


def _table(rows: pd.DataFrame, config: DeepLesionConfig) -> pd.DataFrame:
    """Return the attributes of the lesions, NaN where blank."""
    import pandas as pd

    diameters = _lists(rows["Lesion_diameters_Pixel_"], 2)
    spacing = _lists(rows["Spacing_mm_px_"], 3)  # within the slice, within, between slices
    location = _lists(rows["Normalized_lesion_location"], len(AXES), blank=True)
    words = {"F": "female", "M": "male"}
    cells = {
        "age": numbers(rows["Patient_age"], source=TABLE),
        "sex": words_of(rows["Patient_gender"], words, source=TABLE),
        "location": _boxed(location),
        **{each.name: location[:, i] for i, each in enumerate(COORDINATES)},
        "size": diameters.max(axis=1) * spacing[:, 0],
    }
    chosen = {each.name: cells[each.name] for each in config.attributes}
    return pd.DataFrame(chosen, index=range(len(rows)))


def _boxed(location: np.ndarray) -> np.ndarray:
    """Return the box of the body that each lesion lies in: (N,) objects, NaN where not known.

    Args:
        location: (N, 3) in [0, 1]; what the regression puts outside goes to the outermost box.
    """
    known = ~np.isnan(location).any(axis=1)
    boxes = np.full(len(location), np.nan, dtype=object)
    place = np.clip(location[known] * N_BINS, 0, np.array(N_BINS) - 1).astype(int)  # (n, 3)
    code = place[:, 0] + N_BINS[0] * (place[:, 1] + N_BINS[1] * place[:, 2])
    boxes[known] = np.array(BINNED.categories)[code]
    return boxes


def _lists(column: pd.Series, n_numbers: int, *, blank: bool = False) -> np.ndarray:
    """Return the numbers that a column holds as text with commas: (N, n_numbers) float64.

    Args:
        column: of the table.
        n_numbers: in each cell.
        blank: whether a cell may be blank or hold NaN; all its numbers are then NaN.

    Raises:
        BadData: a cell holds something else; file, line and cell are named.
    """
    values = np.full((len(column), n_numbers), np.nan)
    for row, cell in enumerate(column):
        if blank and not isinstance(cell, str):
            continue
        read = _numbers_of(cell, n_numbers)
        if read is None or np.isinf(read).any() or (np.isnan(read).any() and not blank):
            raise bad_cell(column, row, f"{n_numbers} numbers parted by commas", source=TABLE)
        values[row] = np.nan if np.isnan(read).any() else read
    return values


def _numbers_of(cell: object, n_numbers: int) -> np.ndarray | None:
    try:
        read = np.array(str(cell).split(","), np.float64)
    except ValueError:
        return None
    return read if len(read) == n_numbers else None


PLUGIN = DeepLesion
