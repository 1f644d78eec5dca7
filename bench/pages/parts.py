"""What a page is put together from: tables and figures inside it, with their numbers as CSV."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import tables
from bench.figures import NOTE, TITLE
from bench.tables import Table

WIDE = 2.2  # times as wide as high: a picture that takes the whole width
WIDE_PIXELS = 1600  # so does one whose letters half the width would make too small


@dataclass(frozen=True)
class Picture:
    """A figure inside the page."""

    name: str
    source: str  # a data URI
    numbers: str  # CSV as a data URI
    alt: str
    is_wide: bool  # takes the whole width

    @classmethod
    def of(cls, name: str, png: bytes, csv: bytes) -> Picture:
        """Embed a figure and its numbers."""
        from PIL import Image

        with Image.open(io.BytesIO(png)) as picture:
            width, height = picture.size
            alt = _alt(name, picture.info, csv.count(b"\n") - 1)
        sources = _data_uri(png, "image/png"), _data_uri(csv, "text/csv")
        return cls(name, *sources, alt, width > WIDE * height or width > WIDE_PIXELS)


@dataclass(frozen=True)
class Part:
    """A table inside the page."""

    identity: str
    title: str
    body: str  # HTML, escaped by its writer
    numbers: str  # CSV as a data URI

    @classmethod
    def of(cls, table: Table, identity: str) -> Part:
        """Embed a table and its numbers."""
        numbers = _data_uri(tables.to_csv(table).encode(), "text/csv")
        return cls(identity, table.title, tables.to_html(table, identity=identity), numbers)


@dataclass(frozen=True)
class Section:
    """A chapter inside the page."""

    identity: str
    title: str
    parts: tuple[Part, ...]
    pictures: tuple[Picture, ...]
    views: tuple[tuple[str, tuple[Picture, ...]], ...]  # heading, pictures shown at a press
    reasons: tuple[tuple[str, str], ...]  # which trials have no value, and why


def _alt(name: str, said: Mapping[str | tuple[int, int], object], n_lines: int) -> str:
    """Say what a figure shows, in its own words where it has any."""
    about = f"{said[TITLE]}." if TITLE in said else f"Figure {name}."
    numbers = f"Its {n_lines} lines of numbers are in the CSV beside it."
    return " ".join([about, *([str(said[NOTE])] if NOTE in said else []), numbers])


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def parts_of(built: Iterable[Table], stem: str) -> tuple[Part, ...]:
    """Embed tables under numbered identities."""
    return tuple(Part.of(each, f"{stem}{i}") for i, each in enumerate(built, 1))


def pictures_of(folder: Path, names: Iterable[str]) -> tuple[Picture, ...]:
    """Embed the figures of these names that lie in a folder with their numbers."""
    found = []
    for name in names:
        png, numbers = (folder / f"{name}.{ending}" for ending in ("png", "csv"))
        if numbers.is_file():
            found.append(Picture.of(name, png.read_bytes(), numbers.read_bytes()))
    return tuple(found)
