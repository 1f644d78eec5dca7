"""Write figures: PDF for the paper, PNG for the screen, and the numbers behind them as CSV."""

from __future__ import annotations

import io
from pathlib import Path

from bench.files import atomic_write
from bench.report import Drawing
from bench.tables import csv_text

N_COLOURS = 256  # of a palette
UNSEEN = 0.5  # mean difference, of 255 levels, that a palette may make
# no dates and versions: equal figures give equal bytes
METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
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
        drawing.figure.savefig(content, format=ending, dpi=drawing.dpi, metadata=told)
        # to place things takes longer than to draw them: done once, for the first format
        drawing.figure.set_layout_engine("none")
        pictures.append(folder / f"{drawing.name}.{ending}")
        found = content.getvalue()
        atomic_write(pictures[-1], _with_palette(found) if ending == "png" else found)
    return [*sorted(pictures), table]


def _words(drawing: Drawing) -> dict[str, str | None]:
    """Return what a figure says in words, for those who cannot see it."""
    said = {TITLE: drawing.figure.get_suptitle(), NOTE: drawing.figure.get_supxlabel()}
    return {key: " ".join(text.split()) for key, text in said.items() if text}


def _with_palette(png: bytes) -> bytes:
    """Write a picture in a third of its bytes, with a palette, unless that would be seen."""
    from PIL import Image, ImageChops, ImageStat
    from PIL.PngImagePlugin import PngInfo

    read = Image.open(io.BytesIO(png))
    full = read.convert("RGB")
    # median cut keeps the colours of large areas to the last level
    few = full.quantize(N_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    difference = ImageStat.Stat(ImageChops.difference(full, few.convert("RGB")))
    if max(difference.mean) > UNSEEN:
        return png
    words, content = PngInfo(), io.BytesIO()
    for key, value in read.info.items():
        if isinstance(value, str):
            words.add_text(str(key), value)
    few.save(content, "png", pnginfo=words)
    return content.getvalue()
