"""Free text of a manifest's table: read as one value, or as the attributes that it mentions."""

# N cases

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from bench.data import Attribute
from bench.errors import BadConfig, BadData
from bench.free_text import attributes_of, checked_rules, with_corrections
from bench.manifest.columns import Table
from bench.manifest.files import path_inside
from bench.manifest.schema import REPORT_SENTENCE, SENTENCE, ReportColumn
from bench.manifest.spelling import SpelledPaths
from bench.manifest.spreadsheet import Sheet


def report(
    sheet: Sheet, said: ReportColumn, root: Path, *keys: str
) -> tuple[Table, tuple[Path, ...]]:
    """Read a free text and return its attributes with the files that they depend on.

    Args:
        sheet: the table.
        said: the column, and how its attributes are found.
        root: the data root.
        keys: where the manifest says it.

    Raises:
        BadData: the column or the corrected table is not there, or does not fit.
        BadConfig: the model cannot be used.
    """
    if not said.rules:
        return _whole(sheet, said, keys), ()
    manifest, texts = sheet.file.manifest, texts_of(sheet, said, *keys)
    model = str(SpelledPaths(root).find(os.path.expanduser(said.model))) if said.model else ""
    found = attributes_of(texts, said.rules, model=model)
    files = _model_files(model)
    if said.corrected:
        table = _corrected(sheet, said, root, keys)
        found = with_corrections(found, sheet.cases.tolist(), said.rules, table)
        files = (*files, table)
    attributes = tuple(
        Attribute(
            name,
            "categorical",
            rules.vocabulary,
            manifest.leaks.get(name, ""),
            manifest.templates.get(name, SENTENCE),
        )
        for name, rules in checked_rules(said.rules).items()
    )
    return Table(attributes, found.where(found.notna(), np.nan).astype(object)), files


def _whole(sheet: Sheet, said: ReportColumn, keys: tuple[str, ...]) -> Table:
    import pandas as pd

    column, manifest = sheet.column(said.report, *keys, "report"), sheet.file.manifest
    template = manifest.templates.get(said.report, REPORT_SENTENCE)
    leak = manifest.leaks.get(said.report, "")
    attribute = Attribute(said.report, "categorical", (), leak, template)
    return Table((attribute,), pd.DataFrame({said.report: column.to_numpy(dtype=object)}))


def texts_of(sheet: Sheet, said: ReportColumn, *keys: str) -> list[str | None]:
    """Return the text of each case (N,), None where it is blank."""
    column = sheet.column(said.report, *keys, "report")
    return [cell if isinstance(cell, str) else None for cell in column]


def report_vectors(
    sheet: Sheet, said: ReportColumn, root: Path, *keys: str
) -> tuple[np.ndarray, tuple[Path, ...]]:
    """Return the [CLS] vector of each whole report, and the files of the model that read it.

    Each distinct text is read once and kept in the cache. Nothing is fitted, so that a report which
    training never saw is read like any other.

    Args:
        sheet: the table.
        said: the column and the model.
        root: the data root; a model's folder may be named from there.
        keys: where the manifest says it.

    Returns:
        (N, C) float32, NaN where the report is blank; C is the width of the model.

    Raises:
        BadData: the column is not there, or blank in every row of cases with labels.
        BadConfig: the model cannot be had, or has no [CLS].
    """
    from bench.encoders.language import sentence_features
    from bench.spec import EncoderConfig

    texts = texts_of(sheet, said, *keys)
    there = [place for place, text in enumerate(texts) if text is not None]
    if sheet.labelled and not there:
        raise BadData(f"{sheet.file.at(*keys, 'report')}: column {said.report} is all blank")
    folder = SpelledPaths(root).find(os.path.expanduser(said.cls))
    config = EncoderConfig(text="cls", text_model=str(folder) if folder.is_dir() else said.cls)
    try:
        read = sentence_features([texts[place] or "" for place in there] or [""], config)
    except BadConfig as error:
        reason = str(error.__cause__ or error).removeprefix(f"encoder.text_model={folder} ")
        raise BadConfig(
            f"{sheet.file.at(*keys, 'cls')}: {said.cls} gives no vector of a report ({reason}); "
            "name a folder or hub id of a model like BERT"
        ) from error
    vectors = np.full((len(texts), read[0].shape[1]), np.nan, np.float32)
    vectors[there] = np.concatenate([each.numpy() for each in read])[: len(there)]
    return vectors, _model_files(str(folder) if folder.is_dir() else "")


def _model_files(model: str) -> tuple[Path, ...]:
    if not model:
        return ()
    from bench.encoders.hub import files_of

    return tuple(files_of(Path(model)))


def _corrected(sheet: Sheet, said: ReportColumn, root: Path, keys: tuple[str, ...]) -> Path:
    """Return the corrected table, which lies below the data root."""
    path = path_inside(sheet.file, root, said.corrected, *keys, "corrected")
    if not path.is_file():
        raise BadData(
            f"{sheet.file.at(*keys, 'corrected')}: {said.corrected!r} is not in {root}; write it "
            "with `bench prepare MANIFEST --attributes FILE`, or take the key out"
        )
    return path
