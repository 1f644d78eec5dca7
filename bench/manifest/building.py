"""Make a dataset of a manifest and the files that it names."""

# N cases

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.data import Attribute, Dataset, Modality
from bench.dataset import MissingFiles
from bench.errors import BadData, unknown
from bench.manifest import columns
from bench.manifest.files import CasePictures, CaseVolumes, case_files, fingerprint, path_inside
from bench.manifest.reading import ManifestFile
from bench.manifest.reports import report, report_vectors
from bench.manifest.schema import (
    ImageColumn,
    Manifest,
    ReportColumn,
    TableColumns,
    VectorColumns,
    VolumeColumn,
)
from bench.manifest.spelling import SpelledPaths
from bench.manifest.spreadsheet import Sheet, open_sheet
from bench.spec import digest


@dataclass(frozen=True)
class Choices:
    """What the command line may say over a manifest."""

    missing_files: MissingFiles | None = None
    size: int | None = None  # side of all pictures


@dataclass(frozen=True)
class _Source:
    """One modality of the dataset, read or found."""

    modality: Modality
    content: object
    present: np.ndarray  # (N,) bool
    files: tuple[Path, ...] = ()
    columns: tuple[str, ...] = ()  # of the table, that are its attributes


@dataclass(frozen=True)
class _Known:
    """What training and testing must know of the cases."""

    classes: tuple[str, ...]
    label: np.ndarray  # (N,) int64; -1: not told
    group: np.ndarray  # (N,) str
    folds: Mapping[int, np.ndarray] = field(default_factory=dict)
    parts: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


def build(
    file: ManifestFile,
    data_root: Path | None,
    choices: Choices | None = None,
    *,
    labelled: bool = True,
) -> Dataset:
    """Read the table and find the files; decode no picture and no volume.

    Args:
        file: the manifest.
        data_root: the folder that the user gave; None: that of the manifest.
        choices: what is to differ from the manifest.
        labelled: False for cases to predict, which need no label, group, split, fold or subgroup
            and may lack everything; no such column is read.

    Raises:
        BadData: a file, column or cell is not what the manifest promises; it is named.
        BadRequest: a library that the files need is not installed.
    """
    choices = choices or Choices()
    root, table = find_table(file, data_root)
    sheet = open_sheet(file, table, labelled=labelled)
    known = _known(sheet) if labelled else _Known((), np.full(len(sheet.rows), -1), sheet.cases)
    sources = [
        _source(sheet, name, said, root, choices) for name, said in file.manifest.modalities.items()
    ]
    columns.check_inputs(sheet, {each.modality.name: each.columns for each in sources})
    available = np.stack([each.present for each in sources], axis=1)
    if labelled:
        _check_not_empty(sheet, available)
        _check_named(sheet, [each.modality for each in sources])
    files = tuple(path for each in sources for path in each.files)
    return Dataset(
        name=file.name,
        modalities=tuple(each.modality for each in sources),
        classes=known.classes,
        cases=sheet.cases,
        label=known.label,
        group=known.group,
        content={each.modality.name: each.content for each in sources},
        available=available,
        fingerprint=_fingerprint(file.manifest, table, files, root),
        folds=known.folds,
        parts=known.parts,
        columns=known.columns,
        files=(file.path, table, *files),
    )


def _known(sheet: Sheet) -> _Known:
    classes, label = columns.labels(sheet)
    return _Known(
        classes,
        label,
        columns.groups(sheet),
        columns.folds(sheet),
        columns.parts(sheet),
        columns.subgroups(sheet),
    )


def find_table(file: ManifestFile, data_root: Path | None) -> tuple[Path, Path]:
    """Return the data root and the table in it.

    The root is the folder that was given, or its sub-folder named after the dataset, or else the
    folder of the manifest.

    Raises:
        BadData: the table is not there, or not below the root.
    """
    beside, said = file.path.absolute().parent, file.manifest.table
    if data_root is not None and not data_root.is_dir():
        raise BadData(f"no folder is at {str(data_root)!r}; check --data-root")
    roots = [beside] if data_root is None else [data_root / file.name, data_root, beside]
    try:
        root = next((each for each in roots if SpelledPaths(each).find(said).is_file()), None)
    except (OSError, ValueError):
        raise BadData(f"{file.at('table')}: {file.manifest.table!r} is no path") from None
    if root is None:
        raise BadData(
            f"{file.at('table')}: {file.manifest.table!r} is not in {roots[-2:][0]}; put it there, "
            "or give its folder with --data-root"
        )
    return root, path_inside(file, root, file.manifest.table, "table")


def _source(sheet: Sheet, name: str, said: object, root: Path, choices: Choices) -> _Source:
    if isinstance(said, ImageColumn):
        return _pictures(sheet, name, said, root, choices)
    if isinstance(said, VolumeColumn):
        return _volumes(sheet, name, said, root, choices)
    if isinstance(said, VectorColumns):
        return _vector(sheet, name, said)
    if isinstance(said, ReportColumn) and said.cls:
        vectors, files = report_vectors(sheet, said, root, "modalities", name)
        return _vectors(name, vectors, (said.report,), files)
    if isinstance(said, ReportColumn):
        read, files = report(sheet, said, root, "modalities", name)
        return _table(name, read, (said.report,), files)
    assert isinstance(said, TableColumns)
    read = columns.table(sheet, said.table, "modalities", name, "table")
    return _table(name, read, tuple(each.name for each in read.attributes))


def _pictures(sheet: Sheet, name: str, said: ImageColumn, root: Path, choices: Choices) -> _Source:
    missing_files = choices.missing_files or sheet.file.manifest.missing_files
    found = case_files(sheet, said.image, root, missing_files, "modalities", name, "image")
    size = choices.size or said.size
    return _Source(
        Modality(name, "image", channels=said.channels, encoder=said.encoder),
        CasePictures(found.paths, size, said.channels, found.places),
        *_present(found.paths),
    )


def _volumes(sheet: Sheet, name: str, said: VolumeColumn, root: Path, choices: Choices) -> _Source:
    missing_files = choices.missing_files or sheet.file.manifest.missing_files
    found = case_files(sheet, said.volume, root, missing_files, "modalities", name, "volume")
    return _Source(
        Modality(name, "volume", channels=said.channels, encoder=said.encoder),
        CaseVolumes(found.paths, said.shape, said.channels, found.places),
        *_present(found.paths),
    )


def _present(paths: Sequence[Path | None]) -> tuple[np.ndarray, tuple[Path, ...]]:
    return np.array([path is not None for path in paths]), tuple(filter(None, paths))


def _vector(sheet: Sheet, name: str, said: VectorColumns) -> _Source:
    keys = ("modalities", name, "vector")
    names = [each for pattern in said.vector for each in columns.matching(sheet, pattern, *keys)]
    names = list(dict.fromkeys(names))
    return _vectors(name, columns.vectors(sheet, names), tuple(names))


def _vectors(
    name: str, values: np.ndarray, used: tuple[str, ...], files: tuple[Path, ...] = ()
) -> _Source:
    present = ~np.isnan(values).any(axis=1)
    content = np.where(present[:, None], values, np.float32(0))
    return _Source(Modality(name, "vector", width=values.shape[1]), content, present, files, used)


def _table(
    name: str, read: columns.Table, used: tuple[str, ...], files: tuple[Path, ...] = ()
) -> _Source:
    present = read.cells.notna().any(axis=1).to_numpy()
    attributes: tuple[Attribute, ...] = read.attributes
    return _Source(Modality(name, "table", attributes=attributes), read.cells, present, files, used)


def _check_not_empty(sheet: Sheet, available: np.ndarray) -> None:
    """Refuse a modality that no case has, and a case that has none.

    A report in which rules find nothing is left to the person who writes the rules.
    """
    for m, (name, said) in enumerate(sheet.file.manifest.modalities.items()):
        if not (available[:, m].any() or isinstance(said, ReportColumn)):
            raise BadData(
                f"{sheet.file.at('modalities', name)}: it is absent in every case of "
                f"{sheet.source}; take it out"
            )
    empty = ~available.any(axis=1)
    if empty.any():
        row = int(empty.argmax())
        raise BadData(
            f"{sheet.source}, line {sheet.rows.index[row]}: case {str(sheet.cases[row])!r} has no "
            f"modality at all ({int(empty.sum())} such cases); take these rows out"
        )


def _check_named(sheet: Sheet, modalities: Sequence[Modality]) -> None:
    """Refuse a template or a leak of a column or attribute that is not there."""
    said = sheet.file.manifest
    known = {str(name) for name in sheet.rows.columns}
    known |= {attribute.name for modality in modalities for attribute in modality.attributes}
    for key, named in (("templates", said.templates), ("leaks", said.leaks)):
        for name in named:
            if name not in known:
                error = unknown(f"column of {sheet.path.name}", name, known)
                raise BadData(f"{sheet.file.at(key, name)}: {error}")


def _fingerprint(manifest: Manifest, table: Path, files: Sequence[Path], root: Path) -> str:
    """Hash the files and what the manifest makes of them; its title changes no number."""
    # `sheet` came later than the first results: unsaid, it must not change what they are known by
    unsaid = set() if manifest.sheet else {"sheet"}
    said = manifest.model_dump(mode="json", exclude={*Manifest.COSMETIC, *unsaid})
    return digest([said, fingerprint(table, files, root)])
