"""One neutral table and its writers: Markdown for the terminal, LaTeX for papers, HTML, CSV.

A `Table` knows numbers, not how they look: rows of cells below columns, columns in blocks (one per
metric), footnotes, and a caption of whole sentences. Every string is escaped by the writer.
"""

from __future__ import annotations

import csv
import html
import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

DASH = "-"
TERMINAL_WIDTH = 100  # characters
LATEX_COLUMNS = 8  # of numbers side by side on a page of A4
PRINTED_COLUMNS = {True: 8, False: 13}  # of a page that is printed: with a spread, without
LATEX_LINES = 48  # of a float, in lines of a table, on a page of A4 landscape
LATEX_LETTERS = 170  # of a caption's line there
SIGNS = ("*", "°", "†", "‡")  # marks of tests; all other marks are letters of footnotes
TIE = 1e-9  # means closer than this are one number that was summed in two orders


# --- the model --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A number with its spread, or a word in its place (`failed`, a dash)."""

    value: float | None = None  # in the unit that is printed, never rounded
    spread: float | None = None
    digits: int = 2
    text: str = ""  # printed where there is no value
    marks: tuple[str, ...] = ()  # stars, and the letters of footnotes
    best: bool = False
    second: bool = False
    note: str = ""  # short, in brackets after the value: the column that is the worst
    n: int | None = None  # cases behind the value
    n_repeats: int | None = None  # repeats behind the value
    p: float | None = None  # of a test against the reference, not adjusted
    p_adjusted: float | None = None

    @property
    def number(self) -> str:
        """The rounded value, or the word."""
        return self.text if self.value is None else f"{self.value:.{self.digits}f}"

    @property
    def deviation(self) -> str:
        """The rounded spread; empty if there is none."""
        if self.value is None or self.spread is None:
            return ""
        return f"{self.spread:.{self.digits}f}"


@dataclass(frozen=True)
class Column:
    """One column of numbers: one metric under one condition."""

    key: str  # of the condition, as CSV names it
    header: str
    group: str  # the block that it belongs to: a metric
    long_header: str = ""
    unit: str = ""
    n: int | None = None  # cases; None: not a matter of cases (an average over columns)
    better: Literal["higher", "lower", "neither"] = "higher"
    marks: tuple[str, ...] = ()  # letters of footnotes
    block: str = ""  # parts the columns of a metric: `train 30 %`
    training: str = ""  # name of the training setting, as CSV names it


@dataclass(frozen=True)
class Row:
    """One line: a label and a cell per column."""

    label: str
    cells: tuple[Cell, ...]
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowGroup:
    """Rows under one heading; an empty title prints none."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """What a report makes and a writer prints."""

    title: str
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    caption: tuple[str, ...] = ()  # whole sentences
    footnotes: Mapping[str, str] = field(default_factory=dict)  # mark -> sentence, in order

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(
                    f"row {row.label!r} has {len(row.cells)} cells for {len(self.columns)} columns"
                )

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows."""
        return tuple(row for group in self.groups for row in group.rows)

    def blocks(self) -> list[tuple[str, list[int]]]:
        """List the column blocks in order: title and column indexes."""
        blocks: dict[str, list[int]] = {}
        for index, column in enumerate(self.columns):
            title = f"{column.group} ({column.unit})" if column.unit else column.group
            title += f", {column.block}" if column.block else ""
            blocks.setdefault(title, []).append(index)
        return list(blocks.items())


class Footnotes:
    """Gives equal sentences one letter: a, b, ..., z, aa, ab, ..."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, sentence: str) -> str:
        """Return the letter of a sentence."""
        return self._marks.setdefault(sentence, _letters(len(self._marks)))

    def as_mapping(self) -> dict[str, str]:
        """Return mark -> sentence, in the order in which they were first used."""
        return {mark: sentence for sentence, mark in self._marks.items()}


def _letters(index: int) -> str:
    first, last = divmod(index, 26)
    return (_letters(first - 1) if first else "") + chr(ord("a") + last)


def mark_best(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """Mark the best and the second best value of each column among these rows.

    Decided on unrounded values; equal ones share the mark. A column with fewer than two values has
    no best.
    """
    cells = [list(row.cells) for row in rows]
    for c, column in enumerate(columns):
        ranks = _ranks([each[c].value for each in cells], column.better)
        for each, rank in zip(cells, ranks, strict=True):
            each[c] = replace(each[c], best=rank == 0, second=rank == 1)
    return tuple(replace(row, cells=tuple(each)) for row, each in zip(rows, cells, strict=True))


def _ranks(values: Sequence[float | None], better: str) -> list[int | None]:
    """Rank from 0, the best; equal values share a rank, and None has none."""
    sign = -1.0 if better == "higher" else 1.0
    order = sorted((sign * value, i) for i, value in enumerate(values) if value is not None)
    ranks: list[int | None] = [None] * len(values)
    if better == "neither" or len(order) < 2:
        return ranks
    rank = 0
    for (before, _), (value, i) in zip([order[0], *order], order, strict=False):
        rank += not math.isclose(before, value, rel_tol=TIE, abs_tol=TIE)
        ranks[i] = rank
    return ranks


def _counts(columns: Sequence[Column]) -> list[str]:
    return ["" if column.n is None else str(column.n) for column in columns]


# --- Markdown ---------------------------------------------------------------------------------


def to_markdown(table: Table, *, width: int = TERMINAL_WIDTH) -> str:
    """Write a table that reads well in a terminal and renders as Markdown.

    Each block of columns stands below the one before; a block wider than `width` characters is
    continued below itself. The best number is in **asterisks**, the second in _underscores_.
    Sentences are no wider than `TERMINAL_WIDTH`.
    """
    of_text = min(width, TERMINAL_WIDTH)
    parts = [f"### {_markdown(table.title)}"]
    for title, indexes in table.blocks():
        grid = _markdown_grid(table, title, indexes)
        parts += [_markdown_lines(chunk) for chunk in _chunks_of_width(grid, width)]
    parts += [_wrapped(" ".join(_markdown(sentence) for sentence in table.caption), of_text)]
    notes = [f"- [{_markdown(mark)}] {_markdown(text)}" for mark, text in table.footnotes.items()]
    parts += ["\n".join(_wrapped(note, of_text) for note in notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _wrapped(text: str, width: int) -> str:
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _markdown_grid(table: Table, title: str, indexes: Sequence[int]) -> list[list[str]]:
    columns = [table.columns[i] for i in indexes]
    headers = [_markdown(column.header) + _markdown_marks(column.marks) for column in columns]
    grid = [[_markdown(title), *headers]]
    if any(column.n is not None for column in columns):
        grid.append(["n", *_counts(columns)])
    for group in table.groups:
        if group.title.strip():
            grid.append([f"_{_markdown(group.title)}_"] + [""] * len(columns))
        for row in group.rows:
            label = _markdown(row.label) + _markdown_marks(row.marks)
            grid.append([label, *(_markdown_cell(row.cells[i]) for i in indexes)])
    return grid


def _markdown_cell(cell: Cell) -> str:
    number = _markdown(cell.number)
    if cell.best:
        number = f"**{number}**"
    elif cell.second:
        number = f"_{number}_"
    spread = f" ± {cell.deviation}" if cell.deviation else ""
    note = f" ({_markdown(cell.note)})" if cell.note.strip() else ""
    return number + spread + note + _markdown_marks(cell.marks)


def _markdown_marks(marks: Sequence[str]) -> str:
    # a lone asterisk behind a number is no markup, and reads better without its escape
    signs = "".join(mark for mark in marks if mark in SIGNS)
    return signs + "".join(f" [{_markdown(mark)}]" for mark in marks if mark not in SIGNS)


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


def _markdown_lines(grid: Sequence[Sequence[str]]) -> str:
    widths = [max(3, *map(len, column)) for column in zip(*grid, strict=True)]
    lines = []
    for line in grid:
        cells = [line[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([lines[0], f"| {' | '.join(rule)} |", *lines[1:]])


def _markdown(text: str) -> str:
    """Escape what Markdown would read as markup; underscores inside a word are safe."""
    text = re.sub(r"([\\`*|<\[\]])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


# --- LaTeX ------------------------------------------------------------------------------------

LATEX_COMMANDS = r"""\providecommand{\best}[1]{\textbf{#1}}
\providecommand{\second}[1]{\underline{#1}}
\providecommand{\sig}[1]{\rlap{\textsuperscript{#1}}}
\providecommand{\pms}[1]{{\scriptsize$\,\pm\,$#1}}"""

LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\`{}",
    "±": r"$\pm$",
    "°": r"$\circ$",
    "\u00d7": r"$\times$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    **{char: "\\" + char for char in "&%$#_{}"},
}
LATEX_WITHOUT_GLYPH = "\u0126\u0127\u0138\u013f\u0140\u0149\u0166\u0167"  # Latin, not in T1


def to_latex(table: Table, *, standalone: bool = False, max_columns: int = LATEX_COLUMNS) -> str:
    """Write a `table` environment that needs booktabs and xcolor only.

    What is higher than a page goes on in further environments under the same number.

    Args:
        table: what to write.
        standalone: wrap it in a document that compiles by itself.
        max_columns: columns of numbers side by side; a wider block is continued below itself.
    """
    title = table.title.rstrip(".")
    caption = " ".join([f"{title}.", *table.caption])
    pieces = [
        _latex_tabular(table, title, indexes[start : start + max_columns])
        for title, indexes in table.blocks()
        for start in range(0, len(indexes), max_columns)
    ]
    notes = "\n".join(_latex_footnotes(table))
    floats = _latex_pages([*pieces, *filter(None, [notes])], 2 + len(caption) / LATEX_LETTERS)
    lines = [LATEX_COMMANDS]
    for page, each in enumerate(floats):
        lines += [r"\begin{table}[htbp]", r"\centering\footnotesize"]
        lines += [r"\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{4pt}"]
        lines += [r"\addtocounter{table}{-1}"] if page else []
        lines += [rf"\caption{{{_latex(f'{title} (continued).' if page else caption)}}}"]
        lines += ["\n\\par\\medskip\n".join(each), r"\end{table}"]
    return _latex_document(lines) if standalone else "\n".join(lines) + "\n"


def _latex_pages(pieces: Sequence[str], n_taken: float) -> list[list[str]]:
    """Sort pieces into floats that fit a page each, in their order.

    Args:
        pieces: whole `tabular` environments and the footnotes; one may be higher than a page.
        n_taken: lines that the caption of the first float takes.
    """
    pages: list[list[str]] = [[]]
    for piece in pieces:
        # rules, and the distance to the next
        n_letters = len(piece) if "minipage" in piece else 0
        n_lines = n_letters / LATEX_LETTERS + piece.count("\\\\") + piece.count(r"\midrule") / 2 + 2
        if pages[-1] and n_taken + n_lines > LATEX_LINES:
            pages.append([])
            n_taken = 2.0
        pages[-1].append(piece)
        n_taken += n_lines
    return pages


def _latex_document(lines: Sequence[str]) -> str:
    head = [r"\documentclass[a4paper,landscape]{article}", r"\usepackage[margin=1.5cm]{geometry}"]
    head += [r"\usepackage[T1]{fontenc}", r"\usepackage[utf8]{inputenc}", r"\usepackage{textcomp}"]
    head += [r"\usepackage{booktabs}", r"\usepackage{xcolor}", r"\begin{document}"]
    return "\n".join([*head, *lines, r"\end{document}"]) + "\n"


def _latex_tabular(table: Table, title: str, indexes: Sequence[int]) -> str:
    columns = [table.columns[i] for i in indexes]
    lines = [rf"\begin{{tabular}}{{@{{}}l*{{{len(columns)}}}{{r}}@{{}}}}", r"\toprule"]
    headers = [_latex(column.header) + _latex_marks(column.marks, r"\sig") for column in columns]
    lines += [_latex_line([_latex(title), *headers])]
    if any(column.n is not None for column in columns):
        lines += [_latex_line(["$n$", *_counts(columns)])]
    lines += [r"\midrule"]
    for g, group in enumerate(table.groups):
        if group.title.strip():
            span = rf"\multicolumn{{{len(columns) + 1}}}{{@{{}}l}}"
            lines += [r"\midrule"] if g else []
            lines += [rf"{span}{{\textit{{{_latex(group.title)}}}}}\\"]
        for row in group.rows:
            label = _latex(row.label) + _latex_marks(row.marks, r"\textsuperscript")
            lines += [_latex_line([label, *(_latex_cell(row.cells[i]) for i in indexes)])]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_line(cells: Sequence[str]) -> str:
    # braces around the first cell: a row that begins with [ would be read as the length of \\
    return " & ".join([f"{{{cells[0]}}}", *cells[1:]]) + r"\\"


def _latex_cell(cell: Cell) -> str:
    number = _latex(cell.number)
    if cell.value is not None and number.startswith("-"):
        number = f"${number[0]}${number[1:]}"  # a minus, no hyphen
    if cell.best:
        number = rf"\best{{{number}}}"
    elif cell.second:
        number = rf"\second{{{number}}}"
    spread = rf"\pms{{{cell.deviation}}}" if cell.deviation else ""
    note = rf"\,{{\scriptsize({_latex(cell.note)})}}" if cell.note.strip() else ""
    return number + spread + note + _latex_marks(cell.marks, r"\sig")


def _latex_marks(marks: Sequence[str], command: str) -> str:
    return rf"{command}{{{','.join(_latex(mark) for mark in marks)}}}" if marks else ""


def _latex_footnotes(table: Table) -> list[str]:
    if not table.footnotes:
        return []
    notes = [
        rf"\textsuperscript{{{_latex(mark)}}}\,{_latex(text)}"
        for mark, text in table.footnotes.items()
    ]
    # raggedright inside a minipage: long reasons must not stretch over the line
    return [
        r"\begin{minipage}{\linewidth}\scriptsize\raggedright",
        "\\par\n".join(notes),
        r"\end{minipage}",
    ]


def _latex(text: str) -> str:
    """Escape a string; what pdflatex has no glyph for becomes its code point.

    Letters of Polish and Icelandic need `\\usepackage[T1]{fontenc}` in the document.
    """
    escaped = "".join(_latex_character(char) for char in " ".join(text.split()))
    return re.sub(r"-(?=-)", "-{}", escaped)  # two in a row would join to a longer dash


def _latex_character(char: str) -> str:
    if char in LATEX_ESCAPES:
        return LATEX_ESCAPES[char]
    if " " <= char <= "~" or ("\u00c0" <= char <= "\u017e" and char not in LATEX_WITHOUT_GLYPH):
        return char
    return f"U+{ord(char):04X}"


# --- HTML -------------------------------------------------------------------------------------


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
        for part in _html_block(table, title, indexes, identity)
    ]
    notes = [
        f'<li id="{_html_id(identity, mark)}"><b>{_html(mark)}</b> {_html(text)}</li>'
        for mark, text in table.footnotes.items()
    ]
    parts = [f'<h3 id="{_html(identity)}">{_html(table.title)}</h3>', *blocks]
    parts += [f'<ul class="notes">{"".join(notes)}</ul>'] if notes else []
    caption = " ".join(_html(sentence) for sentence in table.caption)
    parts += [f'<p class="caption">{caption}</p>'] if caption else []
    return "\n".join(parts) + "\n"


def _html_block(table: Table, title: str, indexes: Sequence[int], identity: str) -> Iterator[str]:
    """Yield the block in its box, and for paper the pieces of one that is too wide."""
    label = _html(f"{table.title}: {title}" if title else table.title)
    has_spread = any(row.cells[i].deviation for row in table.rows for i in indexes)
    n_beside = PRINTED_COLUMNS[has_spread]
    is_wide = len(indexes) > n_beside
    box = f'class="scroll{" wide" * is_wide}" role="region" tabindex="0" aria-label="{label}"'
    caption = f'<caption class="hidden">{label}; columns sort at a press of their heads</caption>'
    yield f"<div {box}>\n{_html_table(table, title, indexes, identity, caption)}\n</div>"
    for start in range(0, len(indexes), n_beside) if is_wide else ():
        piece = _html_table(table, title, indexes[start : start + n_beside], identity)
        yield f'<div class="printed">\n{piece}\n</div>'


def _html_table(
    table: Table, title: str, indexes: Sequence[int], identity: str, caption: str = ""
) -> str:
    columns = [table.columns[i] for i in indexes]
    lines = [f"<table>{caption}"]
    heads = [_html_head(Column("", title, "", better="lower"), identity)]
    heads += [_html_head(column, identity) for column in columns]
    lines += [f"<thead><tr>{''.join(heads)}</tr>"]
    if any(column.n is not None for column in columns):
        counts = "".join(f"<td>{count}</td>" for count in _counts(columns))
        lines += [f'<tr class="n"><th scope="row">n</th>{counts}</tr>']
    lines += ["</thead>", *(_html_group(group, indexes, identity) for group in table.groups)]
    return "\n".join([*lines, "</table>"])


def _html_head(column: Column, identity: str) -> str:
    """Write the head of a column: which way it sorts first is that of its best value."""
    first = "ascending" if column.better == "lower" else "descending"
    said = column.long_header.strip()
    long_name = f' title="{_html(said)}"' if said else ""
    button = f'<button type="button"{long_name}>{_html(column.header)}</button>'
    # browsers leave buttons out of a head that they repeat on the next page
    plain = f'<span class="printed">{_html(column.header)}</span>'
    marks = _html_marks(column.marks, identity)
    return f'<th scope="col" aria-sort="none" data-first="{first}">{button}{plain}{marks}</th>'


def _html_group(group: RowGroup, indexes: Sequence[int], identity: str) -> str:
    span = len(indexes) + 1
    lines = ["<tbody>"]
    if group.title.strip():
        head = f'<th scope="rowgroup" colspan="{span}"><span>{_html(group.title)}</span></th>'
        lines += [f'<tr class="group">{head}</tr>']
    for row in group.rows:
        label = _html(row.label) + _html_marks(row.marks, identity)
        cells = "".join(_html_cell(row.cells[i], identity) for i in indexes)
        lines += [f'<tr><th scope="row">{label}</th>{cells}</tr>']
    return "\n".join([*lines, "</tbody>"])


def _html_cell(cell: Cell, identity: str) -> str:
    number = _html(cell.number)
    if cell.best:
        number = f"<strong>{number}</strong>"
    elif cell.second:
        number = f"<u>{number}</u>"
    spread = f' <span class="spread">± {cell.deviation}</span>' if cell.deviation else ""
    note = f' <span class="spread">({_html(cell.note)})</span>' if cell.note.strip() else ""
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    return f"<td{value}>{number}{spread}{note}{_html_marks(cell.marks, identity)}</td>"


def _html_marks(marks: Sequence[str], identity: str) -> str:
    """Write marks: signs of tests, which are raised by themselves, and letters of footnotes."""
    signs = "".join(mark for mark in marks if mark in SIGNS)
    linked = [
        f'<a href="#{_html_id(identity, mark)}">{mark}</a>' if mark.isalpha() else _html(mark)
        for mark in marks
        if mark not in SIGNS
    ]
    raised = f"<sup>{','.join(linked)}</sup>" if linked else ""
    return (f'<span class="sign">{signs}</span>' if signs else "") + raised


def _html_id(identity: str, mark: str) -> str:
    """Name a footnote; what is no letter or digit is written as its code point."""
    plain = "".join(char if char.isalnum() else f"U{ord(char):X}" for char in mark)
    return _html(f"{identity}-{plain}")


def _html(text: str) -> str:
    return html.escape(" ".join(text.split()))


# --- CSV --------------------------------------------------------------------------------------

# what a spreadsheet takes for the beginning of a formula, in full width too
FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"
CSV_FIELDS = (
    "table",
    "group",
    "row",
    "training",
    "condition",
    "condition_name",
    "metric",
    "unit",
    "mean",
    "sd",
    "n",
    "repeats",
    "p",
    "p_adjusted",
    "text",
    "marks",
)


def to_csv(table: Table, *, header: bool = True) -> str:
    """Write one line per row, condition and metric, with numbers that are not rounded.

    Strings that a spreadsheet would run as a formula get an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow(CSV_FIELDS)
    writer.writerows(_csv_lines(table))
    return out.getvalue()


def _csv_lines(table: Table) -> Iterator[list[str]]:
    for group in table.groups:
        for row in group.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                names = [table.title, group.title, row.label, column.training, column.key]
                names += [column.long_header, column.group, column.unit]
                numbers = [cell.value, cell.spread, cell.n, cell.n_repeats, cell.p, cell.p_adjusted]
                marks = " ".join([*row.marks, *column.marks, *cell.marks])
                yield [
                    *map(csv_text, names),
                    *("" if number is None else str(number) for number in numbers),
                    csv_text(cell.note if cell.value is not None else cell.text),
                    csv_text(marks),
                ]


def csv_text(text: str) -> str:
    """Return a string on one line, with an apostrophe if a spreadsheet would run it."""
    text = " ".join(text.split())
    is_formula = len(text) > 1 and text[0] in FORMULA
    return f"'{text}" if is_formula else text
