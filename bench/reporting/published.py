"""The two papers' printed cells, to be shown beside measured ones, with what is wrong with them.

They are facts of the papers and no targets: other code, other seeds, single runs in one of them.
Rows are shown only in the table of the dataset, the task and the protocol that they are of.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.layout import Layout, LayoutColumn
from bench.tables import DASH, Cell, Footnotes, Row, RowGroup

FILE = Path(__file__).parent / "published.csv"
CLASSES = {("CMML", "derm7pt"): 2, ("CMML", "odir"): 3, ("AlignedFusion", "derm7pt"): 5}
TRAIN_RATE = {"1c": 0.5, "1d": 0.5}  # tables whose training has a rate of its own
AVERAGE = "AVG"
STAR = "†"  # the papers' star, which is no evidence

CAPTION = (
    "Published rows are the papers' printed cells: other code, seeds and budgets; compare their "
    "shape, not their digits. A dagger there: the paper prints a star, by a signed-rank test whose "
    "unit it does not state; three runs cannot give one."
)

# What is wrong with a printed cell: paper, table, dataset, method, setting, metric ("" is any).
# Worked out from the papers' own numbers.
_TWO_VALUES = (
    "The same experiment, nothing absent, is printed as 77.97 in table 1(a) and 78.23 in table "
    "1(b)."
)
FAULTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("CMML", "2", "ODIR", "MCMoE", AVERAGE, "ACC"), "The paper's own cells average 67.75."),
    (
        ("CMML", "2", "Derm7pt", "MCMoE", AVERAGE, "AUC"),
        "No star in print, although the text calls the gain of 1.26 over it significant.",
    ),
    (
        ("CMML", "2", "Derm7pt", "CMML", AVERAGE, "AUC"),
        "The text's gain of 1.69 over SFusion is 1.68 by the printed cells.",
    ),
    (
        ("CMML", "2", "ODIR", "CMML", AVERAGE, "AUC"),
        "The text's gain of 0.97 is over MCMoE; over the best baseline, SFusion, it is 0.11.",
    ),
    (
        ("CMML", "2", "", "", AVERAGE, ""),
        "The paper's ± of AVG is the spread between its seven means (population SD; sample SD for "
        "MCMoE), not between runs.",
    ),
    (("AlignedFusion", "1a", "", "Self-Attention", "miss0%", ""), _TWO_VALUES),
    (("AlignedFusion", "1b", "", "Self-Attention", "miss0%", ""), _TWO_VALUES),
)
_ONE_ROW = (
    "This row is printed identically in AlignedFusion's tables 1(a), 1(b), 2 (another dataset) and "
    "4(a)."
)
# Of whole rows, by table and method.
FAULTS_OF_ROWS: Mapping[tuple[str, str], str] = {
    ("1a", "AlignedFusion"): _ONE_ROW,
    ("1b", "AlignedFusion"): _ONE_ROW,
    ("1a", "Self-Attention"): (
        "This row is printed again as FusionM4Net in table 2 and as the row without IT in table "
        "4(a)."
    ),
}
SMALLEST_SPREAD = 0.01  # printed for accuracies of three runs on 320 cases, which move in 0.10
ON_395_CASES = ("75.40", "76.55", "71.37", "75.90", "78.03", "78.11", "78.14", "78.18", "80.07",
                "81.04", "81.30")  # fmt: skip


PrintedColumn = tuple[str, LayoutColumn | str]  # metric; a column, or the name of what is beside


@dataclass(frozen=True)
class Fact:
    """One printed cell."""

    paper: str
    table: str
    dataset: str
    method: str
    protocol: str
    setting: str
    metric: str
    mean: str
    sd: str
    starred: str
    note: str


@cache
def facts() -> tuple[Fact, ...]:
    """Read all printed cells."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(Fact(**line) for line in csv.DictReader(file))


def published_groups(
    layout: Layout, columns: Sequence[PrintedColumn], n_classes: int, notes: Footnotes
) -> list[RowGroup]:
    """Make the rows of every printed table that a layout answers to.

    Args:
        layout: of the table.
        columns: its columns in order.
        n_classes: K of the measured runs; another task's cells are left out.
        notes: footnotes of the table.
    """
    tables: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts():
        if _answers(fact, layout, n_classes):
            tables.setdefault((fact.paper, fact.table), []).append(fact)
    return [
        RowGroup(f"published: {paper}, table {table}", tuple(_rows(found, columns, notes)))
        for (paper, table), found in tables.items()
    ]


def _answers(fact: Fact, layout: Layout, n_classes: int) -> bool:
    same = (fact.dataset.lower(), fact.protocol.lower()) == (layout.dataset, layout.protocol)
    if not same or CLASSES.get((fact.paper, layout.dataset)) != n_classes:
        return False
    if layout.kind == "rates":  # the papers' are of attributes, dropped completely at random
        return layout.law.startswith("attributes of the tables, completely")
    return not layout.variant  # trained on all that the cases have


def _rows(
    found: Sequence[Fact], columns: Sequence[PrintedColumn], notes: Footnotes
) -> Iterator[Row]:
    by_method: dict[str, dict[tuple[str, str], Fact]] = {}
    for fact in found:
        by_method.setdefault(fact.method, {})[fact.setting, fact.metric] = fact
    for method, cells in by_method.items():
        written = tuple(
            _cell(cells.get((_setting(column), metric)), column, notes)
            for metric, column in columns
        )
        if any(cell.value is not None for cell in written):
            faults = _faults_of_row(next(iter(cells.values())))
            yield Row(method, written, tuple(map(notes.mark, faults)))


def _setting(column: LayoutColumn | str) -> str:
    if isinstance(column, str):
        return column
    return column.header if column.rate is None else f"miss{100 * column.rate:g}%"


def _same_training(fact: Fact, column: LayoutColumn | str) -> bool:
    rate = TRAIN_RATE.get(fact.table)
    if rate is None or isinstance(column, str):
        return True
    return column.setting == f"attribute-{100 * rate:g}"


def _cell(fact: Fact | None, column: LayoutColumn | str, notes: Footnotes) -> Cell:
    if fact is None or not fact.mean or not _same_training(fact, column):
        return Cell(text=DASH)
    marks = [STAR] if fact.starred == "1" else []
    marks += map(notes.mark, _faults(fact))
    spread = float(fact.sd) if fact.sd else None
    return Cell(float(fact.mean), spread, digits=2, marks=tuple(marks))


def _faults_of_row(fact: Fact) -> Iterator[str]:
    if (fact.table, fact.method) in FAULTS_OF_ROWS:
        yield FAULTS_OF_ROWS[fact.table, fact.method]
    if fact.paper == "AlignedFusion":
        yield "AlignedFusion prints single runs, without a spread."


def _faults(fact: Fact) -> Iterator[str]:
    names = (fact.paper, fact.table, fact.dataset, fact.method, fact.setting, fact.metric)
    for wanted, sentence in FAULTS:
        if all(want in ("", name) for want, name in zip(wanted, names, strict=True)):
            yield sentence
    on_320 = (fact.paper, fact.dataset, fact.metric) == ("CMML", "Derm7pt", "ACC")
    if on_320 and fact.sd and float(fact.sd) <= SMALLEST_SPREAD:
        yield "Three accuracies on 320 cases cannot have so small a spread, unless it is 0."
    if (fact.paper, fact.dataset) == ("AlignedFusion", "Derm7pt") and fact.mean in ON_395_CASES:
        yield "No number of 395 test cases gives this accuracy."
