"""Write a table as a part of a page."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from bench.tables.model import SIGNS, Cell, Column, RowGroup, Table, counts

PRINTED_COLUMNS = {True: 8, False: 13}  # of a page that is printed: with a spread, without


def to_html(table: Table, *, identity: str = "table") -> str:
    """Write a part of a page: heading, a `<table>` per block of columns, footnotes, caption.

    The heads of columns are buttons with `aria-sort`, which the script of the page serves: cells
    carry their unrounded values. Groups of rows are bodies of their own and are sorted by
    themselves. Each table lies in a box that scrolls by itself, also by keyboard. Paper does not
    scroll: for it, a block that is too wide stands there once more, continued below itself.

    Args:
        table: what to write.
        identity: begins the ids within this part, so that several tables share a page.
    """
    blocks = [
        part
        for title, indexes in table.blocks()
        for part in _block(table, title, indexes, identity)
    ]
    notes = [
        f'<li id="{_id(identity, mark)}"><b>{_escaped(mark)}</b> {_escaped(text)}</li>'
        for mark, text in table.footnotes.items()
    ]
    parts = [f'<h3 id="{_escaped(identity)}">{_escaped(table.title)}</h3>', *blocks]
    parts += [f'<ul class="notes">{"".join(notes)}</ul>'] if notes else []
    caption = " ".join(_escaped(sentence) for sentence in table.caption)
    parts += [f'<p class="caption">{caption}</p>'] if caption else []
    return "\n".join(parts) + "\n"


def _block(table: Table, title: str, indexes: Sequence[int], identity: str) -> Iterator[str]:
    """Yield the block in its box, and for paper the pieces of one that is too wide."""
    label = _escaped(f"{table.title}: {title}" if title else table.title)
    has_spread = any(row.cells[i].deviation for row in table.rows for i in indexes)
    n_beside = PRINTED_COLUMNS[has_spread]
    is_wide = len(indexes) > n_beside
    box = f'class="scroll{" wide" * is_wide}" role="region" tabindex="0" aria-label="{label}"'
    caption = f'<caption class="hidden">{label}; columns sort at a press of their heads</caption>'
    yield f"<div {box}>\n{_table(table, title, indexes, identity, caption)}\n</div>"
    for start in range(0, len(indexes), n_beside) if is_wide else ():
        piece = _table(table, title, indexes[start : start + n_beside], identity)
        yield f'<div class="printed">\n{piece}\n</div>'


def _table(
    table: Table, title: str, indexes: Sequence[int], identity: str, caption: str = ""
) -> str:
    columns = [table.columns[i] for i in indexes]
    lines = [f"<table>{caption}"]
    heads = [_head(Column("", title, "", better="lower"), identity)]
    heads += [_head(column, identity) for column in columns]
    lines += [f"<thead><tr>{''.join(heads)}</tr>"]
    if any(column.n is not None for column in columns):
        cells = "".join(f"<td>{count}</td>" for count in counts(columns))
        lines += [f'<tr class="n"><th scope="row">n</th>{cells}</tr>']
    lines += ["</thead>", *(_group(group, indexes, identity) for group in table.groups)]
    return "\n".join([*lines, "</table>"])


def _head(column: Column, identity: str) -> str:
    """Write the head of a column: which way it sorts first is that of its best value."""
    first = "ascending" if column.better == "lower" else "descending"
    said = column.long_header.strip()
    long_name = f' title="{_escaped(said)}"' if said else ""
    button = f'<button type="button"{long_name}>{_escaped(column.header)}</button>'
    # browsers leave buttons out of a head that they repeat on the next page
    plain = f'<span class="printed">{_escaped(column.header)}</span>'
    marks = _marks(column.marks, identity)
    return f'<th scope="col" aria-sort="none" data-first="{first}">{button}{plain}{marks}</th>'


def _group(group: RowGroup, indexes: Sequence[int], identity: str) -> str:
    span = len(indexes) + 1
    lines = ["<tbody>"]
    if group.title.strip():
        head = f'<th scope="rowgroup" colspan="{span}"><span>{_escaped(group.title)}</span></th>'
        lines += [f'<tr class="group">{head}</tr>']
    for row in group.rows:
        label = _escaped(row.label) + _marks(row.marks, identity)
        cells = "".join(_cell(row.cells[i], identity) for i in indexes)
        lines += [f'<tr><th scope="row">{label}</th>{cells}</tr>']
    return "\n".join([*lines, "</tbody>"])


def _cell(cell: Cell, identity: str) -> str:
    number = _escaped(cell.number)
    if cell.best:
        number = f"<strong>{number}</strong>"
    elif cell.second:
        number = f"<u>{number}</u>"
    spread = f' <span class="spread">± {cell.deviation}</span>' if cell.deviation else ""
    note = f' <span class="spread">({_escaped(cell.note)})</span>' if cell.note.strip() else ""
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    return f"<td{value}>{number}{spread}{note}{_marks(cell.marks, identity)}</td>"


def _marks(marks: Sequence[str], identity: str) -> str:
    """Write marks: signs of tests, which are raised by themselves, and letters of footnotes."""
    signs = "".join(mark for mark in marks if mark in SIGNS)
    linked = [
        f'<a href="#{_id(identity, mark)}">{mark}</a>' if mark.isalpha() else _escaped(mark)
        for mark in marks
        if mark not in SIGNS
    ]
    raised = f"<sup>{','.join(linked)}</sup>" if linked else ""
    return (f'<span class="sign">{signs}</span>' if signs else "") + raised


def _id(identity: str, mark: str) -> str:
    """Name a footnote; what is no letter or digit is written as its code point."""
    plain = "".join(char if char.isalnum() else f"U{ord(char):X}" for char in mark)
    return _escaped(f"{identity}-{plain}")


def _escaped(text: str) -> str:
    return html.escape(" ".join(text.split()))
