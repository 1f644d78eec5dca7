"""The table of what was read from a manifest's free texts, which a person corrects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.errors import BadRequest
from bench.free_text import write_attributes
from bench.manifest.building import find_table
from bench.manifest.reading import read_manifest
from bench.manifest.reports import report, texts_of
from bench.manifest.schema import ReportColumn
from bench.manifest.spreadsheet import open_sheet


def write_tables(manifest: Path, data_root: Path | None, path: Path) -> Iterator[str]:
    """Write what is read from the free texts of a manifest, to be corrected; say what was written.

    Of several free texts each has a table of its own, named after its modality.

    Raises:
        BadRequest: the dataset is not described by a YAML file, or has no rules for a free text.
        BadConfig, BadData: as for a run; or the table is there already.
    """
    if manifest.suffix not in (".yaml", ".yml"):
        raise BadRequest(f"--attributes wants a dataset described by a YAML file, got {manifest}")
    file = read_manifest(manifest)
    root, table = find_table(file, data_root)
    sheet = open_sheet(file, table)
    said = {
        name: each
        for name, each in file.manifest.modalities.items()
        if isinstance(each, ReportColumn) and each.rules
    }
    if not said:
        raise BadRequest(f"{manifest} has no report with rules; --attributes has nothing to write")
    for name, each in said.items():
        keys = ("modalities", name)
        read, _ = report(sheet, each, root, *keys)
        own = path if len(said) == 1 else path.with_stem(f"{path.stem}-{name}")
        write_attributes(own, sheet.cases.tolist(), texts_of(sheet, each, *keys), read.cells)
        share = 100 * read.cells.notna().to_numpy().mean()
        yield (
            f"{own}: {len(sheet.cases)} cases, {len(read.attributes)} attributes of {name!r}, "
            f"{share:.0f} % mentioned; correct it, put it below the data root and name it with "
            "corrected: in the manifest"
        )
