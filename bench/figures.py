"""Write figures: PDF for the paper, PNG for the screen, and the numbers behind them as CSV."""

from __future__ import annotations

import io
from pathlib import Path

from bench.files import atomic_write
from bench.report import Drawing
from bench.tables import csv_text

DPI = 200
# no dates and versions: equal figures give equal bytes
METADATA: dict[str, dict[str, str | None]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}
TITLE, NOTE = "Title", "Description"  # of a PNG: what it says above and below its panels


def write_drawing(drawing: Drawing, folder: Path) -> list[Path]:
    """Write one figure in each format, every file whole or not at all.

    Args:
        drawing: the figure; its name is that of the files.
        folder: which is there.

    Raises:
        BadRequest: a file cannot be written; names it and the cause.
    """
    table = folder / f"{drawing.name}.csv"
    plain = drawing.data.map(lambda value: csv_text(value) if isinstance(value, str) else value)
    atomic_write(table, plain.to_csv(index=False, lineterminator="\n").encode())
    pictures = []
    for ending, metadata in METADATA.items():
        content = io.BytesIO()
        told = metadata | (_words(drawing) if ending == "png" else {})
        drawing.figure.savefig(content, format=ending, dpi=DPI, metadata=told)
        pictures.append(folder / f"{drawing.name}.{ending}")
        atomic_write(pictures[-1], content.getvalue())
    return [*pictures, table]


def _words(drawing: Drawing) -> dict[str, str | None]:
    """Return what a figure says in words, for those who cannot see it."""
    said = {TITLE: drawing.figure.get_suptitle(), NOTE: drawing.figure.get_supxlabel()}
    return {key: " ".join(text.split()) for key, text in said.items() if text}
