"""Subgroups of test cases: the values of a column of the dataset, such as site or scanner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.errors import unknown
from bench.scores.results import RunResult
from bench.scores.rows import RowRuns
from bench.scores.scoring import cases_scored

NAMELESS = ("", "nan", "None", "<NA>")  # how an absent value reads as text


@dataclass(frozen=True, eq=False)
class Subgroup:
    """The rows of a table with the predictions of some cases."""

    title: str  # with the number of cases; empty for a table without subgroups
    rows: Sequence[RowRuns]


def known_columns(results: Iterable[RunResult]) -> list[str]:
    """List the columns by which the cases of these runs can be told apart."""
    return sorted({name for run in results if run.state == "done" for name in run.subgroups})


def subgroups_of(rows: Sequence[RowRuns], column: str) -> list[Subgroup]:
    """Part the cases by a column, all of them first.

    Args:
        rows: those of one table.
        column: its name; empty: all cases together.

    Raises:
        UnknownName: the dataset has no such column.
    """
    if not column:
        return [Subgroup("", rows)]
    done = [run for row in rows for run in row.done]
    known = known_columns(done)
    if column not in known:
        names = ", ".join(dict.fromkeys(run.dataset for row in rows for run in row.runs))
        raise unknown(f"subgroup column of {names}", column, known)
    values = {value for run in done for value in run.subgroups.get(column, {}).values()}
    parts = [_part(rows, column, value) for value in sorted(values, key=_order)]
    return [Subgroup(f"all{_count(rows)}", rows), *parts]


def _part(rows: Sequence[RowRuns], column: str, value: str) -> Subgroup:
    def cases(run: RunResult) -> set[str]:
        found = run.subgroups.get(column, {})
        return {case for case, each in found.items() if each == value}

    chosen = [row.of_cases(cases) for row in rows]
    shown = "not known" if value in NAMELESS else value
    return Subgroup(f"{column} = {shown}{_count(chosen)}", chosen)


def _count(rows: Sequence[RowRuns]) -> str:
    return f" (n = {len(cases_scored(run for row in rows for run in row.done))})"


def _order(value: str) -> tuple[bool, float, str]:
    """Sort numbers by size, then names, then what is not known."""
    try:
        return value in NAMELESS, float(value), value
    except ValueError:
        return value in NAMELESS, float("inf"), value
