"""Write a table for a paper: LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.tables.model import Cell, Table, counts

N_COLUMNS = 8  # of numbers side by side on a page of A4
N_LINES = 48  # of a float, in lines of a table, on a page of A4 landscape
N_LETTERS = 170  # of a caption's line there

COMMANDS = r"""\providecommand{\best}[1]{\textbf{#1}}
\providecommand{\second}[1]{\underline{#1}}
\providecommand{\sig}[1]{\rlap{\textsuperscript{#1}}}
\providecommand{\pms}[1]{{\scriptsize$\,\pm\,$#1}}"""

ESCAPES = {
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
WITHOUT_GLYPH = "\u0126\u0127\u0138\u013f\u0140\u0149\u0166\u0167"  # Latin, not in T1


def to_latex(table: Table, *, standalone: bool = False, max_columns: int = N_COLUMNS) -> str:
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
        _tabular(table, title, indexes[start : start + max_columns])
        for title, indexes in table.blocks()
        for start in range(0, len(indexes), max_columns)
    ]
    notes = "\n".join(_footnotes(table))
    floats = _pages([*pieces, *filter(None, [notes])], 2 + len(caption) / N_LETTERS)
    lines = [COMMANDS]
    for page, each in enumerate(floats):
        lines += [r"\begin{table}[htbp]", r"\centering\footnotesize"]
        lines += [r"\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{4pt}"]
        lines += [r"\addtocounter{table}{-1}"] if page else []
        lines += [rf"\caption{{{_escaped(f'{title} (continued).' if page else caption)}}}"]
        lines += ["\n\\par\\medskip\n".join(each), r"\end{table}"]
    return _document(lines) if standalone else "\n".join(lines) + "\n"


def _pages(pieces: Sequence[str], n_taken: float) -> list[list[str]]:
    """Sort pieces into floats that fit a page each, in their order.

    Args:
        pieces: whole `tabular` environments and the footnotes; one may be higher than a page.
        n_taken: lines that the caption of the first float takes.
    """
    pages: list[list[str]] = [[]]
    for piece in pieces:
        # rules, and the distance to the next
        n_letters = len(piece) if "minipage" in piece else 0
        n_lines = n_letters / N_LETTERS + piece.count("\\\\") + piece.count(r"\midrule") / 2 + 2
        if pages[-1] and n_taken + n_lines > N_LINES:
            pages.append([])
            n_taken = 2.0
        pages[-1].append(piece)
        n_taken += n_lines
    return pages


def _document(lines: Sequence[str]) -> str:
    head = [r"\documentclass[a4paper,landscape]{article}", r"\usepackage[margin=1.5cm]{geometry}"]
    head += [r"\usepackage[T1]{fontenc}", r"\usepackage[utf8]{inputenc}", r"\usepackage{textcomp}"]
    head += [r"\usepackage{booktabs}", r"\usepackage{xcolor}", r"\begin{document}"]
    return "\n".join([*head, *lines, r"\end{document}"]) + "\n"


def _tabular(table: Table, title: str, indexes: Sequence[int]) -> str:
    columns = [table.columns[i] for i in indexes]
    lines = [rf"\begin{{tabular}}{{@{{}}l*{{{len(columns)}}}{{r}}@{{}}}}", r"\toprule"]
    headers = [_escaped(column.header) + _marks(column.marks, r"\sig") for column in columns]
    lines += [_line([_escaped(title), *headers])]
    if any(column.n is not None for column in columns):
        lines += [_line(["$n$", *counts(columns)])]
    lines += [r"\midrule"]
    for g, group in enumerate(table.groups):
        if group.title.strip():
            span = rf"\multicolumn{{{len(columns) + 1}}}{{@{{}}l}}"
            lines += [r"\midrule"] if g else []
            lines += [rf"{span}{{\textit{{{_escaped(group.title)}}}}}\\"]
        for row in group.rows:
            label = _escaped(row.label) + _marks(row.marks, r"\textsuperscript")
            lines += [_line([label, *(_cell(row.cells[i]) for i in indexes)])]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _line(cells: Sequence[str]) -> str:
    # braces around the first cell: a row that begins with [ would be read as the length of \\
    return " & ".join([f"{{{cells[0]}}}", *cells[1:]]) + r"\\"


def _cell(cell: Cell) -> str:
    number = _escaped(cell.number)
    if cell.value is not None and number.startswith("-"):
        number = f"${number[0]}${number[1:]}"  # a minus, no hyphen
    if cell.best:
        number = rf"\best{{{number}}}"
    elif cell.second:
        number = rf"\second{{{number}}}"
    spread = rf"\pms{{{cell.deviation}}}" if cell.deviation else ""
    note = rf"\,{{\scriptsize({_escaped(cell.note)})}}" if cell.note.strip() else ""
    return number + spread + note + _marks(cell.marks, r"\sig")


def _marks(marks: Sequence[str], command: str) -> str:
    return rf"{command}{{{','.join(_escaped(mark) for mark in marks)}}}" if marks else ""


def _footnotes(table: Table) -> list[str]:
    if not table.footnotes:
        return []
    notes = [
        rf"\textsuperscript{{{_escaped(mark)}}}\,{_escaped(text)}"
        for mark, text in table.footnotes.items()
    ]
    # raggedright inside a minipage: long reasons must not stretch over the line
    return [
        r"\begin{minipage}{\linewidth}\scriptsize\raggedright",
        "\\par\n".join(notes),
        r"\end{minipage}",
    ]


def _escaped(text: str) -> str:
    """Escape a string; what pdflatex has no glyph for becomes its code point.

    Letters of Polish and Icelandic need `\\usepackage[T1]{fontenc}` in the document.
    """
    escaped = "".join(_character(char) for char in " ".join(text.split()))
    return re.sub(r"-(?=-)", "-{}", escaped)  # two in a row would join to a longer dash


def _character(char: str) -> str:
    if char in ESCAPES:
        return ESCAPES[char]
    if " " <= char <= "~" or ("\u00c0" <= char <= "\u017e" and char not in WITHOUT_GLYPH):
        return char
    return f"U+{ord(char):04X}"
