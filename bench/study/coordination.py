"""Carry out what a study lacks: cells become tasks, others' work is waited for, ends are noted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bench.errors import BadData, Claimed
from bench.executor import CLAIMED, LEFT, Executor, Outcome, Task, stops_the_study
from bench.request import Request
from bench.runner.cell import FOUND, Cell, failed_at
from bench.store import RunFolder, StudyFolder
from bench.study.expectation import Expectation
from bench.study.study import Answer, Study, note

ELSEWHERE_SECONDS = 0.5  # between looks at what another coordinator is at work on


def carry_out(
    request: Request, planned: Study, study: StudyFolder, executor: Executor, *, fail_fast: bool
) -> Answer:
    """Run the cells that the store does not answer, and note the request when all are over.

    Raises:
        BadData: a run met data that cannot be read; what is finished stays.
    """
    return carry_out_together([(request, planned)], study, executor, fail_fast=fail_fast)


def carry_out_together(
    parts: Sequence[tuple[Request, Study]],
    study: StudyFolder,
    executor: Executor,
    *,
    fail_fast: bool,
) -> Answer:
    """Run the cells of several requests that differ in settings alone, as `carry_out` does one.

    A cell that several of them ask for is run once; each request is noted as its own.

    Raises:
        BadData: a run met data that cannot be read; what is finished stays.
    """
    study.sweep()
    cells = {cell.spec.folder: (cell, asked) for asked, part in parts for cell in part.cells}
    todo = [
        task_of(cell, study.run(cell.spec), asked)
        for cell, asked in cells.values()
        if not _is_answered(cell, study.run(cell.spec), asked)
    ]
    for asked, part in parts:
        note(asked, part, study)
    outcomes = _marked(todo, cells, study, executor, fail_fast=fail_fast)
    study.sweep()  # after others on this study that were killed
    failed = tuple(outcome for outcome in outcomes if outcome.error)
    for asked, part in parts:
        note(asked, part, study)
    for outcome in failed:
        if outcome.unreadable:
            raise BadData(outcome.error)
    values = [outcome.value for outcome in outcomes if not outcome.error]
    n_left, n_found = values.count(LEFT), values.count(FOUND)
    n_trained = len(values) - n_found - n_left
    n_found += len(cells) - len(todo)
    layouts = dict.fromkeys(layout for _, part in parts for layout in part.layouts)
    return Answer(
        tuple(cells), n_trained, n_found, failed, tuple(layouts), n_left, mended_lines(outcomes)
    )


def mended_lines(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Name the runs that had to be carried out again, with what was damaged of each."""
    told = [each for each in outcomes if each.value not in (None, "", LEFT, FOUND)]
    return tuple(f"{each.name}: {each.value}" for each in told)


def retried(
    request: Request, cells: Sequence[Cell], study: StudyFolder, executor: Executor
) -> list[Outcome]:
    """Run cells of an earlier request again, and nothing else of it.

    Raises:
        BadData: a run met data that cannot be read.
    """
    known = {cell.spec.folder: (cell, request) for cell in cells}
    todo = [task_of(cell, study.run(cell.spec), request) for cell in cells]
    return _marked(todo, known, study, executor, fail_fast=False)


def _marked(
    todo: Sequence[Task],
    cells: Mapping[str, tuple[Cell, Request]],
    study: StudyFolder,
    executor: Executor,
    *,
    fail_fast: bool,
) -> list[Outcome]:
    """Carry tasks out and write down the end of those that could not."""
    outcomes = []
    for outcome in _carried_out(_expecting(todo, study, cells), study, executor, fail_fast):
        if outcome.unmarked:
            _mark_failed(study.run_named(outcome.name), cells[outcome.name][0], outcome.error)
        outcomes.append(outcome)
    return outcomes


def _expecting(
    todo: Sequence[Task], study: StudyFolder, cells: Mapping[str, tuple[Cell, Request]]
) -> list[Task]:
    """Say of tasks what they are expected to take."""
    if len(todo) < 2:  # nothing to put in order
        return list(todo)
    known = Expectation.of(study)
    specs = [cells[task.name][0].spec for task in todo]
    return [
        replace(task, seconds=known.seconds_of(spec), peak_bytes=known.peak_of(spec))
        for task, spec in zip(todo, specs, strict=True)
    ]


def _carried_out(
    todo: Sequence[Task], study: StudyFolder, executor: Executor, fail_fast: bool
) -> Iterator[Outcome]:
    """Carry tasks out; those that another coordinator has are waited for, or taken over."""
    elsewhere: dict[str, Task] = {}
    stopped = False
    while todo or elsewhere:
        tasks = {task.name: task for task in todo}
        for outcome in executor.run(todo, fail_fast=fail_fast) if todo else ():
            if outcome.fault == CLAIMED:
                elsewhere[outcome.name] = tasks[outcome.name]
                continue
            stopped |= stops_the_study(outcome, fail_fast=fail_fast)
            yield outcome
        if stopped:
            return
        todo = [
            each for each in elsewhere.values() if study.run_named(each.name).state != "running"
        ]
        for each in todo:
            del elsewhere[each.name]
        if elsewhere and not todo:
            time.sleep(ELSEWHERE_SECONDS)


def _is_answered(cell: Cell, folder: RunFolder, request: Request) -> bool:
    """Say whether a cell needs no work; one that cannot run is marked so."""
    if cell.reason:
        _skip(folder, cell)
    return cell.is_done(folder, keeps=request.keep_representations)


def _skip(folder: RunFolder, cell: Cell) -> None:
    if folder.state != "skipped":
        with suppress(Claimed):  # another coordinator says the same
            folder.begin(cell.spec, {})
            folder.skip(cell.reason)


def _mark_failed(folder: RunFolder, cell: Cell, error: str) -> None:
    """Write down what a worker that died could not."""
    if folder.state != "done":
        folder.begin(cell.spec, {})
        folder.fail(error, "")


def task_of(cell: Cell, folder: RunFolder, request: Request) -> Task:
    """Make the work of one cell; `run_cell` carries it out."""
    own = {
        "cell": cell.to_json(),
        "path": str(folder.path),
        "keep": request.keep_representations,
        "retry_batch": cell.retry_batch,
        "failed_at": failed_at(folder),
    }
    return Task(cell.spec.folder, "run", own | context_of(request))


def context_of(request: Request) -> dict[str, Any]:
    """Return what a worker needs beside the cell."""
    return {
        "include": list(request.include),
        "override": request.override,
        "data_root": request.data_root,
        "device": request.device,
        "threads": request.threads,
        "saving": {"every_seconds": request.checkpoint_every, "keep": request.keep_checkpoints},
    }
