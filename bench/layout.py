"""What a table shows: for one dataset and one protocol, which trainings and tests its columns are.

Plans make layouts and studies keep them as plain JSON, so that reports know which runs belong
together without importing a protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bench.availability import Subset

TableKind = Literal["subsets", "rates", "single"]


@dataclass(frozen=True)
class Heading:
    """How a table heads the column of one training setting and one condition."""

    header: str
    rate: float | None = None  # share of absent cells, where the columns are rates
    block: str = ""  # title that it shares with the columns beside it: `train 30 %`


@dataclass(frozen=True)
class LayoutColumn:
    """One column: what was trained, by which rule an epoch was chosen, what was tested."""

    setting: str  # name of the training setting
    selection: str  # name of the rule
    condition: str
    header: str
    long_name: str
    rate: float | None = None
    block: str = ""
    subset: Subset | None = None  # what the condition keeps, where the columns are subsets

    @property
    def place(self) -> tuple[str, str]:
        """Training setting and condition: rows of different rules share it."""
        return self.setting, self.condition

    @property
    def name(self) -> str:
        """Its header with its block."""
        return f"{self.header} ({self.block})" if self.block else self.header


@dataclass(frozen=True)
class Layout:
    """The table of one protocol on one dataset."""

    dataset: str
    protocol: str
    display_name: str
    kind: TableKind
    columns: tuple[LayoutColumn, ...]
    variant: str = ""  # of the protocol, for titles: `attributes`
    axis: str = ""  # what the columns' rates are shares of
    law: str = ""  # by which absent cells were chosen, in words

    @property
    def title(self) -> str:
        """`wdbc, M-Tr+C-Te (attributes)`."""
        variant = f" ({self.variant})" if self.variant else ""
        return f"{self.dataset}, {self.display_name}{variant}"

    @property
    def trainings(self) -> set[tuple[str, str]]:
        """The training settings and rules of its runs."""
        return {(column.setting, column.selection) for column in self.columns}

    def unblocked(self) -> Layout:
        """Move the title of an only block into that of the table."""
        blocks = {column.block for column in self.columns}
        if len(blocks) != 1:
            return self
        variant = ", ".join(filter(None, [self.variant, *blocks]))
        columns = tuple(replace(column, block="") for column in self.columns)
        return replace(self, variant=variant, columns=columns)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Layout:
        """Rebuild a layout from plain JSON."""
        columns = tuple(_column_of(column) for column in value["columns"])
        return cls(**{**value, "columns": columns})


def _column_of(value: Mapping[str, Any]) -> LayoutColumn:
    subset = value["subset"]
    return LayoutColumn(**{**value, "subset": None if subset is None else tuple(subset)})


def merged(layouts: Iterable[Layout]) -> list[Layout]:
    """Join the layouts of one dataset, protocol and law, in the order of their first.

    A study that was asked twice for a protocol, with other rates or another rule, shows one table.
    """
    known: dict[tuple[str, ...], Layout] = {}
    for layout in layouts:
        key = (layout.dataset, layout.protocol, layout.kind, layout.variant, layout.law)
        known[key] = _joined(known[key], layout) if key in known else layout
    return list(known.values())


def _joined(first: Layout, second: Layout) -> Layout:
    """Put the columns of both together, blocks in order of appearance, rates ascending."""
    columns = list(dict.fromkeys([*first.columns, *second.columns]))
    blocks = list(dict.fromkeys(column.block for column in columns))
    columns.sort(key=lambda column: (blocks.index(column.block), column.rate or 0.0))
    return replace(first, columns=tuple(columns))
