"""Whether a study is what its tables say: everything asked is there, and all rows had the same.

The outcome is kept with what it was found for, so that a report of a study that was never checked,
or changed since, can say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.layout import Layout
from bench.reporting.printing import Asked, layouts_with_runs
from bench.scores.captions import SELECTION, repeat_name
from bench.scores.results import RunResult
from bench.scores.rows import RowRuns, rows_of, runs_of
from bench.spec import canonical_json, digest
from bench.store import StudyFolder
from bench.wording import counted, listed

OUTCOME = "check.json"
N_SHOWN = 5  # faults of one kind that are listed
SUM_TOLERANCE = 1e-3  # of probabilities that are stored in single precision


@dataclass(frozen=True)
class Check:
    """One promise of a study, and where it is broken."""

    promise: str
    faults: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Shown:
    """The runs of one table."""

    layout: Layout
    rows: Sequence[RowRuns]

    @property
    def name(self) -> str:
        """Its title."""
        return self.layout.title

    @property
    def runs(self) -> list[RunResult]:
        """Those that were not skipped for a reason of the method's."""
        return [run for row in self.rows for run in row.runs if run.state != "skipped"]


def check(folder: StudyFolder) -> list[Check]:
    """Check a study and keep the outcome beside it.

    Raises:
        BadData: a file is damaged; names it.
        BadRequest: runs that no table can show together.
    """
    asked = Asked.of(folder)
    results = asked.results(folder)
    shown = [
        Shown(layout, rows_of(runs_of(results, layout)))
        for layout in layouts_with_runs(asked, results)
    ]
    done = [run for run in results if run.state == "done"]
    checks = [
        Check("all cells asked for are there", tuple(_absent(folder, results))),
        Check("every row has every fold and seed", _each(shown, _incomplete)),
        Check("all rows have the same splits", _each(shown, _split)),
        Check("all rows have the same missing patterns", _each(shown, _pattern)),
        Check("all rows are tested on the same cases", _each(shown, _cases)),
        Check("all rows have the same encoders and weights", _each(shown, _encoder)),
        Check("all rows have the same training budget", _each(shown, _budget)),
        Check("no prediction is NaN, all are probabilities", tuple(_not_numbers(done))),
        Check("epochs are chosen by one rule, on validation alone", _each(shown, _selection)),
        Check("no test case is in training or validation", tuple(_leaking(done))),
    ]
    outcome = {"key": _key(folder), "faults": [f for each in checks for f in each.faults]}
    folder.write_json(OUTCOME, outcome)
    return checks


def lines_of(checks: Sequence[Check]) -> list[str]:
    """Write a line per promise, with its faults below."""
    lines = []
    for each in checks:
        lines.append(f"{'FAULT' if each.faults else 'ok   '}  {each.promise}")
        lines += [f"       - {fault}" for fault in each.faults[:N_SHOWN]]
        if len(each.faults) > N_SHOWN:
            lines.append(f"       - and {len(each.faults) - N_SHOWN} more")
    n_faults = sum(bool(each.faults) for each in checks)
    kept = f"{n_faults} of {len(checks)} promises are broken" if n_faults else "no fault found"
    return [*lines, kept]


def standing(folder: StudyFolder) -> str:
    """Say whether a study was checked as it stands; empty if it was, without a fault."""
    outcome = folder.read_if_whole(OUTCOME)
    if outcome.get("key") != _key(folder):
        changed = " since it changed" if outcome else ""
        return f"UNCHECKED: `bench check` was not run on this study{changed}."
    n_faults = len(outcome["faults"])
    faults = "fault" if n_faults == 1 else "faults"
    return f"CHECKED WITH {n_faults} {faults.upper()}: see `bench check`." if n_faults else ""


def _key(folder: StudyFolder) -> str:
    """Return what changes when a run of the study is begun, ends or is asked for more."""
    asked = folder.read_json("study.json") if folder.has("study.json") else {}
    cells = [entry["cells"] for entry in asked.get("requests", {}).values()]
    statuses = {run.path.name: run.status() for run in folder.runs() if run.has_spec()}
    ended = {
        name: [status.get("state"), status.get("conditions")] for name, status in statuses.items()
    }
    return digest([ended, cells])


def _each(shown: Iterable[Shown], faults_of: Callable[[Shown], Iterable[str]]) -> tuple[str, ...]:
    return tuple(f"{each.name}: {fault}" for each in shown for fault in faults_of(each))


# --- what is there ----------------------------------------------------------------------------


def _absent(folder: StudyFolder, results: Sequence[RunResult]) -> Iterator[str]:
    """List the runs that were asked for and are not done, and conditions that they lack."""
    wanted: dict[str, set[str]] = {}
    for entry in folder.requests():
        for name, conditions in entry["cells"]:
            wanted.setdefault(name, set()).update(conditions)
    there = {run.folder.path.name: run for run in results if run.folder is not None}
    for name in sorted(wanted.keys() | there.keys()):
        run = there.get(name)
        if run is None:
            yield f"{name} was never begun"
        elif run.state not in ("done", "skipped"):
            yield f"{name} is {run.state}{f': {run.reason}' if run.reason else ''}"
        elif run.state == "done" and (lacking := wanted.get(name, set()) - {*run.conditions}):
            yield f"{name} was not tested in {', '.join(sorted(lacking))}"


def _incomplete(shown: Shown) -> Iterator[str]:
    for setting in dict.fromkeys(run.setting for run in shown.runs):
        repeats = {run.repeat for run in shown.runs if run.setting == setting}
        for row in shown.rows:
            runs = [run for run in row.runs if run.setting == setting and run.state != "skipped"]
            has = {run.repeat for run in runs if run.state == "done"}
            lacking = sorted(repeats - has)
            if runs and lacking:
                yield f"{row.label} lacks {'; '.join(map(repeat_name, lacking))} ({setting})"


# --- what all rows share ----------------------------------------------------------------------


def _differing(
    runs: Iterable[RunResult],
    group: Callable[[RunResult], Any],
    of: Callable[[RunResult], Any],
) -> Iterator[tuple[Any, list[list[str]]]]:
    """Yield the groups in which runs differ, with the rows that agree with each other."""
    groups: dict[Any, dict[str, list[str]]] = {}
    for run in runs:
        rows = groups.setdefault(group(run), {}).setdefault(canonical_json(of(run)), [])
        if run.row not in rows:
            rows.append(run.row)
    for name, by_value in groups.items():
        if len(by_value) > 1:
            yield name, list(by_value.values())


def _against(rows: Sequence[Sequence[str]]) -> str:
    return " against ".join(listed(each) for each in rows)


def _split(shown: Shown) -> Iterator[str]:
    for repeat, rows in _differing(
        shown.runs, lambda run: run.repeat, lambda run: run.spec["split"]
    ):
        yield f"different splits in {repeat_name(repeat)}: {_against(rows)}"


def _pattern(shown: Shown) -> Iterator[str]:
    def group(run: RunResult) -> tuple[Any, ...]:
        return run.repeat, run.training

    for (repeat, training), rows in _differing(shown.runs, group, lambda run: run.spec["pattern"]):
        where = f"{repeat_name(repeat)}, trained with {training[0]}"
        yield f"different missing patterns in {where}: {_against(rows)}"


def _cases(shown: Shown) -> Iterator[str]:
    for column in {column.place: column for column in shown.layout.columns}.values():
        runs = [
            run
            for run in shown.runs
            if run.setting == column.setting and column.condition in run.parts
        ]

        def tested(run: RunResult, condition: str = column.condition) -> list[list[Any]]:
            case, label, _ = run.parts[condition]
            return sorted([name, k] for name, k in zip(case.tolist(), label.tolist(), strict=True))

        for repeat, rows in _differing(runs, lambda run: run.repeat, tested):
            where = f"column {column.name}, {repeat_name(repeat)}"
            yield f"different test cases or labels in {where}: {_against(rows)}"


def _encoder(shown: Shown) -> Iterator[str]:
    for _, rows in _differing(shown.runs, lambda run: "", lambda run: run.spec["encoder"]):
        yield f"different encoders or weights: {_against(rows)}"


def _budget(shown: Shown) -> Iterator[str]:
    for _, rows in _differing(shown.runs, lambda run: "", lambda run: run.spec["recipe"]):
        yield f"different training recipes: {_against(rows)}"


def _selection(shown: Shown) -> Iterator[str]:
    """A table may show several rules side by side, but then each row has them all."""
    rules: dict[str, set[str]] = {}
    for run in shown.runs:
        rules.setdefault(run.row, set()).add(run.spec["selection"])
    by_rules: dict[str, list[str]] = {}
    for row, names in rules.items():
        by_rules.setdefault(" and ".join(sorted(names)), []).append(row)
    if len(by_rules) > 1:
        said = "; ".join(f"{names} ({listed(rows)})" for names, rows in by_rules.items())
        yield f"different rules of selection: {said}"
    for rule in sorted(set().union(*rules.values()) - {*SELECTION}):
        yield f"{rule} is no rule that looks at validation alone"


# --- numbers ----------------------------------------------------------------------------------


def _not_numbers(runs: Iterable[RunResult]) -> Iterator[str]:
    for run in runs:
        for condition, (_, _, proba) in run.parts.items():
            sums = proba.sum(axis=1)
            if not np.isfinite(proba).all() or (np.abs(sums - 1) > SUM_TOLERANCE).any():
                yield f"{_name(run)}, column {condition}: not all rows are probabilities"


def _leaking(runs: Iterable[RunResult]) -> Iterator[str]:
    """Look for test cases among those that a run was trained or selected on."""
    for run in runs:
        if run.folder is None or not run.folder.path_of("availability.parquet").is_file():
            yield f"{_name(run)} has no record of the cases of its parts"
            continue
        frame = run.folder.availability()
        seen = set(frame.loc[frame["part"] != "test", "case"].astype(str))
        both = seen & {case for cases, _, _ in run.parts.values() for case in cases.tolist()}
        if both:
            yield f"{_name(run)}: {counted(len(both), 'test case')} also in training or validation"


def _name(run: RunResult) -> str:
    return f"{run.row} on {run.dataset}, {run.setting}, {repeat_name(run.repeat)}"
