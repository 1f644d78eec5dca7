"""Lines of `bench list` and `bench status`: aligned columns, nothing imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.errors import unknown
from bench.plugin_file import FOLDERS, Kind
from bench.registry import Listing, Registry


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad all but the last column to the width of its longest cell."""
    if not rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def list_lines(
    kind: str | None, *, check: bool, include: Sequence[Path], override: bool
) -> Iterator[str]:
    """List the plugins of one kind or all; with `check` each is imported."""
    registry = Registry(include, override=override)
    for each in [_kind(kind)] if kind else FOLDERS:
        yield f"{each}s"
        listings = registry.check(each) if check else registry.scan(each)
        yield from aligned([_row(listing) for listing in listings])
    if kind is None:
        yield from aligned([_row(each) for each in registry.unplaced()])


def _kind(name: str) -> Kind:
    for kind, folder in FOLDERS.items():
        if name in (kind, folder):
            return kind
    raise unknown("kind of plugin", name, FOLDERS.values())


def _row(listing: Listing) -> tuple[str, str]:
    where = "" if listing.source == "built-in" else f" [{listing.source}]"
    text = f"BROKEN: {listing.problem}" if listing.problem else listing.doc
    return f"  {listing.name}{where}", text
