"""One neutral table and its writers: Markdown for the terminal, LaTeX for papers, HTML, CSV.

A `Table` knows numbers, not how they look: rows of cells below columns, columns in blocks (one per
metric), footnotes, and a caption of whole sentences. Every string is escaped by the writer.
"""

from bench.tables.csv import csv_text, to_csv
from bench.tables.html import to_html
from bench.tables.latex import to_latex
from bench.tables.markdown import TERMINAL_WIDTH, to_markdown
from bench.tables.model import DASH, Cell, Column, Footnotes, Row, RowGroup, Table, mark_best

__all__ = [
    "DASH",
    "TERMINAL_WIDTH",
    "Cell",
    "Column",
    "Footnotes",
    "Row",
    "RowGroup",
    "Table",
    "csv_text",
    "mark_best",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
]
