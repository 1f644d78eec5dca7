"""Write a table as Markdown that reads well in a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from bench.tables.model import SIGNS, Cell, Table, counts

TERMINAL_WIDTH = 100  # characters


def to_markdown(table: Table, *, width: int = TERMINAL_WIDTH) -> str:
    """Write a table that reads well in a terminal and renders as Markdown.

    Each block of columns stands below the one before; a block wider than `width` characters is
    continued below itself. The best number is in **asterisks**, the second in _underscores_.
    Sentences are no wider than `TERMINAL_WIDTH`.
    """
    of_text = min(width, TERMINAL_WIDTH)
    parts = [f"### {_escaped(table.title)}"]
    for title, indexes in table.blocks():
        grid = _grid(table, title, indexes)
        parts += [_lines(chunk) for chunk in _chunks_of_width(grid, width)]
    parts += [_wrapped(" ".join(_escaped(sentence) for sentence in table.caption), of_text)]
    notes = [f"- [{_escaped(mark)}] {_escaped(text)}" for mark, text in table.footnotes.items()]
    parts += ["\n".join(_wrapped(note, of_text) for note in notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _wrapped(text: str, width: int) -> str:
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _grid(table: Table, title: str, indexes: Sequence[int]) -> list[list[str]]:
    columns = [table.columns[i] for i in indexes]
    headers = [_escaped(column.header) + _marks(column.marks) for column in columns]
    grid = [[_escaped(title), *headers]]
    if any(column.n is not None for column in columns):
        grid.append(["n", *counts(columns)])
    for group in table.groups:
        if group.title.strip():
            grid.append([f"_{_escaped(group.title)}_"] + [""] * len(columns))
        for row in group.rows:
            label = _escaped(row.label) + _marks(row.marks)
            grid.append([label, *(_cell(row.cells[i]) for i in indexes)])
    return grid


def _cell(cell: Cell) -> str:
    number = _escaped(cell.number)
    if cell.best:
        number = f"**{number}**"
    elif cell.second:
        number = f"_{number}_"
    spread = f" ± {cell.deviation}" if cell.deviation else ""
    note = f" ({_escaped(cell.note)})" if cell.note.strip() else ""
    return number + spread + note + _marks(cell.marks)


def _marks(marks: Sequence[str]) -> str:
    # a lone asterisk behind a number is no markup, and reads better without its escape
    signs = "".join(mark for mark in marks if mark in SIGNS)
    return signs + "".join(f" [{_escaped(mark)}]" for mark in marks if mark not in SIGNS)


def _chunks_of_width(grid: Sequence[Sequence[str]], width: int) -> list[list[list[str]]]:
    """Cut a grid into pieces of at most `width` characters, each with the column of labels."""
    widths = [max(map(len, column)) + 3 for column in zip(*grid, strict=True)]  # with " | "
    chunks: list[list[int]] = [[]]
    for c in range(1, len(widths)):
        used = 1 + widths[0] + sum(widths[i] for i in chunks[-1])
        if chunks[-1] and used + widths[c] > width:
            chunks.append([])
        chunks[-1].append(c)
    return [[[line[0], *(line[c] for c in chunk)] for line in grid] for chunk in chunks]


def _lines(grid: Sequence[Sequence[str]]) -> str:
    widths = [max(3, *map(len, column)) for column in zip(*grid, strict=True)]
    lines = []
    for line in grid:
        cells = [line[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([lines[0], f"| {' | '.join(rule)} |", *lines[1:]])


def _escaped(text: str) -> str:
    """Escape what Markdown would read as markup; underscores inside a word are safe."""
    text = re.sub(r"([\\`*|<\[\]])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
