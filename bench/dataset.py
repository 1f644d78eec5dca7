"""What a dataset plugin is, and how its files are found, read and fingerprinted.

A plugin file ends with `PLUGIN = TheClass`. The tables of a release are read as text: what a cell
means (a number, a class, absent) is the plugin's decision, and a cell that breaks its promise is
named with its file and line.
"""

# N rows of a table, or cases

from __future__ import annotations

import hashlib
import os
import unicodedata
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bench.csv_records import csv_records, delimiter_of
from bench.data import Dataset
from bench.errors import BadData, BadRequest
from bench.spec import Frozen

if TYPE_CHECKING:
    import pandas as pd

MissingFiles = Literal["error", "absent"]  # what a file that is not in the folder is

DATA_VARIABLE = "BENCH_DATA_DIR"
N_NAMED = 10  # files or names that an error lists before it says how many more there are
MAX_TABLE_BYTES = 512 * 2**20  # of a table, unpacked: a small XLSX can claim to be larger
MAX_COLUMNS = 20_000
ZIP_MARK = b"PK\x03\x04"
MAX_SHOWN = 80  # characters of a cell in an error
MAX_ARRAY_BYTES = 64 * 2**30  # of a file of arrays, unpacked
PICTURE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class DatasetPlugin(ABC):
    """A plugin that loads one dataset; what it declares can be listed without loading it."""

    name: ClassVar[str]
    display_name: ClassVar[str]
    description: ClassVar[str]  # one line
    citation: ClassVar[str]
    licence: ClassVar[str]
    config_class: ClassVar[type[Frozen]] = Frozen
    needs_root: ClassVar[bool] = True  # False: comes with a library, no files to point at
    default_folds: ClassVar[int] = 5  # 1: the official parts; 0: its only official folds
    default_seeds: ClassVar[tuple[int, ...]] = (0,)
    recipe_defaults: ClassVar[Mapping[str, Any]] = {}  # fields of bench.spec.Recipe
    encoder_defaults: ClassVar[Mapping[str, Any]] = {}  # fields of bench.spec.EncoderConfig

    @abstractmethod
    def load(self, config: Any, root: Path | None) -> Dataset:
        """Read the cases; pictures stay on disk until they are asked for.

        Args:
            config: an instance of `config_class`.
            root: the user's data folder as given, or None; see `find_root`.

        Raises:
            BadData: a file is missing or a cell cannot be read as promised.
            BadRequest: files are needed and no folder was given.
        """

    def load_new(self, config: Any, root: Path | None) -> Dataset:
        """Read cases to predict, whose labels nobody knows; as `load` unless a plugin says more.

        Args:
            config: an instance of `config_class`.
            root: as of `load`.

        Raises:
            BadData: as of `load`.
            BadRequest: likewise.
        """
        dataset: Dataset = self.load(config, root)
        return dataset

    def oddities(self, config: Any, root: Path | None) -> Sequence[str]:
        """Say what is odd in the files and was read all the same; `bench prepare` shows it."""
        return ()


def find_root(name: str, data_root: Path | None, needed_paths: Sequence[str]) -> Path:
    """Find the folder that holds a release.

    It is the folder that was given (`--data-root`, or else the environment variable
    BENCH_DATA_DIR), or the sub-folder of it that is named after the dataset (- may be _).

    Args:
        name: the dataset's name.
        data_root: the folder that the user gave, or None.
        needed_paths: files and folders that must exist, relative to the release's folder.

    Raises:
        BadRequest: no folder was given.
        BadData: something needed is missing; all of it is listed.
    """
    return find_layout(name, data_root, {"release": needed_paths})[0]


def find_layout(
    name: str, data_root: Path | None, layouts: Mapping[str, Sequence[str]]
) -> tuple[Path, str]:
    """Find the folder that holds a release in one of several layouts, and say in which one.

    The folder is looked for as by `find_root`.

    Args:
        name: the dataset's name.
        data_root: the folder that the user gave, or None.
        layouts: by name, the files and folders that must exist; the first that fits is taken, and
            an error speaks of the one that fits best.

    Raises:
        BadRequest: no folder was given.
        BadData: something needed is missing; all of it is listed.
    """
    given = data_root or os.environ.get(DATA_VARIABLE)
    if not given:
        asked = " or ".join(some_of(needed) for needed in layouts.values())
        raise BadRequest(
            f"{name} is read from files and no folder was given; set --data-root or "
            f"{DATA_VARIABLE} to the folder that holds {asked}"
        )
    folder = Path(given).expanduser()
    named = [folder / each for each in (name, name.replace("-", "_"))]
    candidates = [*filter(Path.is_dir, named), folder]
    missing = {
        (candidate, layout): [path for path in needed if not (candidate / path).exists()]
        for candidate in candidates
        for layout, needed in layouts.items()
    }
    best = min(missing, key=lambda each: len(missing[each]) / len(layouts[each[1]]))
    if missing[best]:
        raise BadData(
            f"{name}: {len(missing[best])} of {len(layouts[best[1]])} needed files are not in "
            f"{best[0]}: {some_of(missing[best])}; point --data-root at the unpacked release"
        )
    return best


def some_of(names: Sequence[str]) -> str:
    """Write out a list of names, cut after the first ten."""
    more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
    return ", ".join(names[:N_NAMED]) + more


def files_there(
    paths: Sequence[Path | None], missing_files: MissingFiles, *, folder: Path, source: str
) -> tuple[Path | None, ...]:
    """Return the files that are there, None for those that are not.

    Args:
        paths: (N,) one per case; None has no file and misses none.
        missing_files: `absent` takes a missing file for an absent modality, as long as one is
            there.
        folder: of the release, for the error.
        source: what names the files, for the error.

    Raises:
        BadData: a file is missing and that is a fault, or none is there at all; counts them and
            names the first.
    """
    there = tuple(path if path is not None and path.is_file() else None for path in paths)
    missing = [path for path, found in zip(paths, there, strict=True) if path and found is None]
    n_needed = sum(path is not None for path in paths)
    if missing and (missing_files == "error" or len(missing) == n_needed):
        names = [os.path.relpath(path, folder) for path in missing]
        raise BadData(
            f"{source}: {len(missing)} of {n_needed} files that it names are not under {folder}: "
            f"{some_of(names)}; complete the release, or set missing_files to absent if some are "
            "there"
        )
    return there


def fingerprint_files(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of files: names and sizes of all, content of those that are no pictures.

    Names are relative to the folder that all share, so a release can move. Pictures are not
    opened: one that is replaced by another of the same name and size goes unnoticed, and two
    thousand of them cost milliseconds.
    """
    files = list(paths)
    root = os.path.commonpath([path.parent for path in files])
    sha = hashlib.sha256()
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        sha.update(f"{name}\x1f{path.stat().st_size}\n".encode())
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            sha.update(path.read_bytes())
    return sha.hexdigest()


def fingerprint_arrays(*arrays: np.ndarray) -> str:
    """Return the SHA-256 of the shapes, types and values of arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.shape}\x1f{array.dtype.str}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def read_table(
    path: Path,
    required_columns: Sequence[str],
    *,
    header: Sequence[str] | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8-sig",
) -> pd.DataFrame:
    """Read a CSV file as text.

    Args:
        path: a file with a header line; a byte order mark is skipped.
        required_columns: columns that must be there; others are kept too.
        header: names of all columns, where the file has no header line.
        delimiter: what parts the cells; empty: what the header holds most of.
        encoding: of the file.

    Returns:
        Cells and names `composed`, without surrounding blanks, NaN where blank. The index is the
        line of the file (from 1, the header included) on which the record begins; lines without
        content are skipped.

    Raises:
        BadData: not readable, in another encoding, no CSV, larger than `MAX_TABLE_BYTES` or
            `MAX_COLUMNS`, a column missing or named twice, a record of another length than the
            header, or no record at all.
    """
    text = read_text(path, encoding)
    delimiter = delimiter or delimiter_of(text)
    return frame_of(path, required_columns, *_records(path, text, header, delimiter))


def check_unpacked(path: Path, limit: int, what: str = "table") -> None:
    """Refuse an archive whose parts would fill the memory."""
    with zipfile.ZipFile(path) as archive:
        n_bytes = sum(part.file_size for part in archive.infolist())
    if n_bytes > limit:
        raise _too_large(path, n_bytes, limit, what)


def _too_large(path: Path, n_bytes: int, limit: int, what: str = "table") -> BadData:
    return BadData(
        f"{path}: the {what} has {n_bytes} bytes, unpacked, and the limit is {limit}; keep what "
        "is needed of it"
    )


def too_wide(path: Path, n_columns: int) -> BadData:
    """Refuse a table of too many columns."""
    return BadData(
        f"{path}: the table has {n_columns} columns and the limit is {MAX_COLUMNS}; keep those "
        "that are needed"
    )


def without_blank_end(row: Sequence[str]) -> list[str]:
    """Leave out the blank cells at the end of a row, which spreadsheets write."""
    n_cells = max((place for place, cell in enumerate(row, start=1) if cell), default=0)
    return list(row[:n_cells])


def composed(text: str) -> str:
    """Write é as one letter where it came as two, so that what looks the same is the same (NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def frame_of(
    path: Path,
    required_columns: Sequence[str],
    columns: Sequence[str],
    lines: Sequence[int],
    rows: Sequence[Sequence[str]],
) -> pd.DataFrame:
    """Build the table of a file from its records, NaN where blank; see `read_table`."""
    import pandas as pd

    columns = [composed(name) for name in columns]
    if len(columns) > MAX_COLUMNS:
        raise too_wide(path, len(columns))
    missing = [column for column in required_columns if column not in columns]
    if missing:
        raise BadData(
            f"{path}: column {some_of(missing)} is missing; the file has {some_of(columns)}"
        )
    unnamed = [str(place) for place, name in enumerate(columns, start=1) if not name]
    if len(unnamed) > 1:
        raise BadData(f"{path}: columns {some_of(unnamed)} of the header have no name; name them")
    repeated = sorted(name for name, n_times in Counter(columns).items() if n_times > 1)
    if repeated:
        raise BadData(f"{path}: column {some_of(repeated)} stands there twice; keep one of them")
    if not rows:
        raise BadData(f"{path}: no record follows the header; get the file again")
    cells = [[composed(cell) or np.nan for cell in row] for row in rows]
    index = pd.Index(lines, name="line")
    return pd.DataFrame(cells, columns=columns, index=index, dtype=object)


def other_length(path: Path, line: int, n_cells: int, n_columns: int) -> BadData:
    """Refuse a row that is not as long as the header."""
    return BadData(f"{path}, line {line}: {n_cells} cells under {n_columns} columns; mend the line")


def _records(
    path: Path, text: str, header: Sequence[str] | None, delimiter: str
) -> tuple[list[str], list[int], list[list[str]]]:
    """Return the header, and the line and cells of each record."""
    lines: list[int] = []
    rows: list[list[str]] = []
    for line, row in csv_records(path, text, delimiter):
        lines.append(line)
        rows.append([cell.strip() for cell in row])
    if not rows:
        raise BadData(f"{path}: the file is empty; get it again")
    columns = rows[0] if header is None else list(header)
    first = 1 if header is None else 0
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(columns):
            raise other_length(path, line, len(row), len(columns))
    n_named = len(without_blank_end(columns))
    if not any(any(row[n_named:]) for row in rows):  # spreadsheets write columns that are blank
        columns, rows = columns[:n_named], [row[:n_named] for row in rows]
    return columns, lines[first:], rows[first:]


def read_text(path: Path, encoding: str = "utf-8-sig") -> str:
    """Return the text of a file.

    Raises:
        BadData: not readable, larger than `MAX_TABLE_BYTES`, or in another encoding.
    """
    try:
        n_bytes = path.stat().st_size
        if n_bytes > MAX_TABLE_BYTES:
            raise _too_large(path, n_bytes, MAX_TABLE_BYTES)
        content = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    if content.startswith(ZIP_MARK):
        raise BadData(f"{path}: an archive or workbook, no text; an XLSX file is to be named .xlsx")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        name = encoding.upper().removesuffix("-SIG")
        raise BadData(f"{path}, line {line}: not {name}; save the file as UTF-8") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise BadData(f"{path}, line {line}: it holds NUL, as UTF-16 does; save the file as UTF-8")
    return text


def read_matrix(path: Path, n_columns: int) -> np.ndarray:
    """Read a file of numbers that are parted by blanks, one record per line, without a header.

    Args:
        path: a UTF-8 file; empty lines are skipped.
        n_columns: numbers in a record.

    Returns:
        (N, n_columns) float64.

    Raises:
        BadData: not readable, or a line with other than finite numbers or with another count.
    """
    rows = []
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        words = text.split()
        if words and len(words) != n_columns:
            raise BadData(f"{path}, line {line}: {len(words)} numbers, not {n_columns}; mend it")
        if words:
            rows.append(_finite(words, f"{path}, line {line}"))
    return np.array(rows).reshape(-1, n_columns)


def _finite(words: Sequence[str], where: str) -> np.ndarray:
    """Return the numbers of one record."""
    try:
        values = np.array(words, np.float64)
    except ValueError as error:
        raise BadData(f"{where}: {error}; mend the line") from error
    if not np.isfinite(values).all():
        word = words[int(np.isfinite(values).argmin())]
        raise BadData(f"{where}: {word!r} is no finite number; mend the line")
    return values


def read_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read arrays of an .npz file; nothing is unpickled.

    Args:
        path: the file; arrays that are not asked for are left alone.
        shapes: by name of an array, the shape that it must have; -1 stands for any length.

    Raises:
        BadData: not readable, larger than `MAX_ARRAY_BYTES`, or an array is missing, of Python
            objects or of another shape.
    """
    try:
        check_unpacked(path, MAX_ARRAY_BYTES, "archive")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in shapes}
    except KeyError as error:
        raise BadData(f"{path}: {error.args[0]}; get the file again") from error
    except BadData:
        raise
    except Exception as error:  # damaged archives raise many kinds, and claim any size
        reason = getattr(error, "strerror", None) or "damaged, of another kind, or with objects"
        raise BadData(f"{path}: no readable .npz ({reason}); get the file again") from error
    for name, shape in shapes.items():
        found = arrays[name].shape
        if len(found) != len(shape) or any(
            w not in (-1, n) for w, n in zip(shape, found, strict=True)
        ):
            raise BadData(f"{path}: {name} has shape {found}, not {shape}; get the file again")
    return arrays


def short(text: str) -> str:
    """Cut a text that would fill the screen."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def bad_cell(column: pd.Series, position: int, wanted: str, *, source: str) -> BadData:
    """Build the error for the cell of a column at a position (from 0): file, line, value."""
    cell = column.iloc[position]
    shown = short(repr(cell)) if isinstance(cell, str) else "blank"
    return BadData(
        f"{source}, line {column.index[position]}: {column.name} is {shown}; it must be {wanted}"
    )


def filled(column: pd.Series, *, source: str) -> np.ndarray:
    """Return the cells of a column that may have no blank: (N,) str.

    Raises:
        BadData: a cell is blank; file and line are named.
    """
    blank = column.isna().to_numpy()
    if blank.any():
        raise bad_cell(column, int(blank.argmax()), "filled", source=source)
    return column.to_numpy(dtype=str)


def unique_names(column: pd.Series, *, source: str) -> np.ndarray:
    """Return the cells of a column that names something in each row: (N,) str.

    Raises:
        BadData: a cell is blank, or there twice; file and line are named.
    """
    names = filled(column, source=source)
    repeated = column.duplicated().to_numpy()
    if repeated.any():
        raise bad_cell(column, int(repeated.argmax()), "there once only", source=source)
    return names


def words_of(
    column: pd.Series, words: Mapping[str, str], *, source: str, absent: Sequence[str] = ()
) -> np.ndarray:
    """Return what the cells of a category mean.

    Args:
        column: (N,) of a table from `read_table`.
        words: the meaning of each cell that there can be.
        source: name of the file, for the error.
        absent: cells that mean absent, as a blank does.

    Returns:
        (N,) objects: str, NaN where absent.

    Raises:
        BadData: a cell is none of the words; file, line and cell are named.
    """
    given = column.mask(column.isin(absent))
    known = given.isna() | given.isin(words)
    if not known.all():
        wanted = f"one of {', '.join((*words, *absent))} or blank"
        raise bad_cell(column, int((~known.to_numpy()).argmax()), wanted, source=source)
    return given.map(words).to_numpy(dtype=object)


def label_codes(column: pd.Series, classes: Sequence[str], *, source: str) -> np.ndarray:
    """Return the index of each cell's class.

    Args:
        column: (N,) of a table from `read_table`; no blank is allowed.
        classes: the names in order.
        source: name of the file, for the error.

    Returns:
        (N,) int64 in [0, K).

    Raises:
        BadData: a cell is none of the classes; file, line and cell are named.
    """
    code_of = {name: code for code, name in enumerate(classes)}
    codes = np.array([code_of.get(cell, -1) for cell in column], dtype=np.int64)
    if (codes < 0).any():
        position = int((codes < 0).argmax())
        raise bad_cell(column, position, f"one of {', '.join(classes)}", source=source)
    return codes


def number(cell: str) -> float:
    """Read a number as a person writes it: 4_0, which Python takes for 40, is a slip.

    Raises:
        ValueError: it is none.
    """
    if "_" in cell:
        raise ValueError(f"{cell!r} is no number")
    return float(cell)


def numbers(column: pd.Series, *, source: str) -> np.ndarray:
    """Return the cells as numbers, NaN where blank.

    Args:
        column: (N,) of a table from `read_table`.
        source: name of the file, for the error.

    Returns:
        (N,) float64.

    Raises:
        BadData: a cell is no number that float32 holds; file, line and cell are named.
    """
    values = np.full(len(column), np.nan)
    for position, cell in enumerate(column):
        if not isinstance(cell, str):
            continue
        try:
            values[position] = number(cell)
        except ValueError:
            raise bad_cell(column, position, "a number or blank", source=source) from None
        if not np.isfinite(values[position]):
            raise bad_cell(column, position, "a finite number or blank", source=source)
        if abs(values[position]) > np.finfo(np.float32).max:
            raise bad_cell(column, position, "a number that float32 holds", source=source)
    return values
