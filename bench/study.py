"""Plan a grid of runs and carry it out; what is finished is never done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import BadData, BadRequest, BenchError, Claimed, Damaged
from bench.executor import CLAIMED, LEFT, Executor, Outcome, Task, stops_the_study
from bench.expectation import Expectation
from bench.layout import Layout
from bench.request import Request
from bench.sources import stamp_of_code
from bench.spec import RunSpec, canonical_json, digest
from bench.store import REPRESENTATIONS, Finished, RunFolder, StudyFolder

ELSEWHERE_SECONDS = 0.5  # between looks at what another coordinator is at work on
FOUND = "found"  # the value of a run that was finished, by another coordinator, when its turn came


@dataclass(frozen=True)
class Cell:
    """One run of a study: its specification and the conditions asked of it."""

    spec: RunSpec
    conditions: tuple[Mapping[str, Any], ...]  # the fields of `bench.protocol.Condition`
    reason: str = ""  # why it cannot run; empty: it can
    retry_batch: int | None = None  # batch size of the retry when memory runs out; None: no retry

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {
            "spec": self.spec.model_dump(mode="json"),
            "conditions": [dict(condition) for condition in self.conditions],
            "reason": self.reason,
            "retry_batch": self.retry_batch,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cell:
        """Rebuild a cell that crossed a process border."""
        spec, conditions = RunSpec(**value["spec"]), tuple(value["conditions"])
        return cls(spec, conditions, value["reason"], value.get("retry_batch"))

    def is_done(self, folder: RunFolder, *, keeps: bool = False) -> bool:
        """Say whether the store answers this cell; `keeps`: with its representations."""
        asked = [condition["name"] for condition in self.conditions]
        return folder.state == "skipped" or _has(folder, asked, keeps=keeps)


@dataclass(frozen=True)
class Study:
    """The cells of a request, the data files behind them, and the tables that they make."""

    cells: tuple[Cell, ...]
    files: tuple[tuple[str, int, int], ...]  # path, bytes, nanoseconds of the last change
    layouts: tuple[Layout, ...] = ()
    limit: int | None = None  # only the first cells of the request, so many

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {
            "cells": [cell.to_json() for cell in self.cells],
            "files": list(self.files),
            "layouts": [layout.to_json() for layout in self.layouts],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Study:
        """Rebuild a study that crossed a process border."""
        return cls(
            tuple(Cell.from_json(cell) for cell in value["cells"]),
            tuple((path, size, at) for path, size, at in value["files"]),
            tuple(Layout.from_json(layout) for layout in value["layouts"]),
        )


def plan(request: Request) -> Study:
    """Resolve a request into cells; imports plugins and torch, loads data, trains nothing.

    Raises:
        BenchError: an unknown name, key or value, or data that cannot be read.
    """
    from bench.planning import Planner

    return joined([Planner(part).study() for part in request.parts()])


def joined(parts: Sequence[Study]) -> Study:
    """Put studies together; what they share appears once."""
    cells = {cell.spec.folder: cell for part in parts for cell in part.cells}
    files = dict.fromkeys(file for part in parts for file in part.files)
    layouts = dict.fromkeys(layout for part in parts for layout in part.layouts)
    return replace(
        parts[0], cells=tuple(cells.values()), files=tuple(files), layouts=tuple(layouts)
    )


def scan(request: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Scan a dataset of a request for leaks; the counterpart of a task."""
    from bench.planning import Arena, Planner

    return Arena(Planner(Request(**request)), dataset).scan().to_json()


@dataclass(frozen=True)
class Answer:
    """A study that is over: its folders in order, and how many cells did what."""

    folders: tuple[str, ...]
    n_trained: int
    n_found: int
    failed: tuple[Outcome, ...]
    layouts: tuple[Layout, ...]
    n_left: int = 0  # cells that go on without this process
    mended: tuple[str, ...] = ()  # what was damaged of finished runs, which were carried out again


def request_key(request: Request, limit: int | None) -> str:
    """Return a key that changes with the request, the first-party code and the user's plugins.

    Raises:
        BadRequest: what is to be included is not there.
    """
    elsewhere = {"out", "study", "data_root", "checkpoint_every", "keep_checkpoints"}
    asked = request.model_dump(mode="json", exclude=elsewhere)
    asked["data_root"] = str(Path(request.data_root).resolve()) if request.data_root else ""
    code = stamp_of_code(registry_of(request.include, request.override).include)
    return digest({"request": asked, "limit": limit, "code": code})


def stored_answer(request: Request, study: StudyFolder, limit: int | None) -> Answer | None:
    """Answer a request from the store alone, or return None; no plugin and no torch is imported.

    Raises:
        BadRequest: what is to be included is not there.
    """
    known = study.read_json("study.json").get("requests", {}) if study.has("study.json") else {}
    entry = known.get(request_key(request, limit))
    if entry is None or any(stamp_of_file(path) != [size, at] for path, size, at in entry["files"]):
        return None
    for name, conditions in entry["cells"]:
        folder = study.run_named(name)
        keeps = request.keep_representations
        if folder.state != "skipped" and not _has(folder, conditions, keeps=keeps):
            return None
    folders = tuple(name for name, _ in entry["cells"])
    layouts = tuple(Layout.from_json(layout) for layout in entry["layouts"])
    return Answer(folders, 0, len(folders), (), layouts)


def _has(folder: RunFolder, conditions: Sequence[str], *, keeps: bool) -> bool:
    """Say whether a run is finished with these conditions, and their representations if wanted."""
    status = folder.status()
    if status["state"] != "done" or _damage(folder, keeps=keeps):
        return False
    kept = set(status.get("representations", [])) if keeps else set(conditions)
    return set(conditions) <= set(status["conditions"]) & kept


def _damage(folder: RunFolder, *, keeps: bool) -> str:
    """Say what is damaged of a run, and of its representations if they are wanted."""
    return folder.damage(*([REPRESENTATIONS] if keeps else []))


def stamp_of_file(path: str) -> list[int] | None:
    """Return size and time of a file, None if it is not there."""
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


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
        _note(asked, part, study)
    outcomes = _marked(todo, cells, study, executor, fail_fast=fail_fast)
    study.sweep()  # after others on this study that were killed
    failed = tuple(outcome for outcome in outcomes if outcome.error)
    for asked, part in parts:
        _note(asked, part, study)
    for outcome in failed:
        if outcome.unreadable:
            raise BadData(outcome.error)
    values = [outcome.value for outcome in outcomes if not outcome.error]
    n_left, n_found = values.count(LEFT), values.count(FOUND)
    n_trained = len(values) - n_found - n_left
    n_found += len(cells) - len(todo)
    layouts = dict.fromkeys(layout for _, part in parts for layout in part.layouts)
    return Answer(
        tuple(cells), n_trained, n_found, failed, tuple(layouts), n_left, _mended(outcomes)
    )


def _mended(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
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
        "failed_at": _failed_at(folder),
    }
    return Task(cell.spec.folder, "run", own | context_of(request))


def _failed_at(folder: RunFolder) -> str | None:
    """Return when the last attempt failed, by which a later one of another coordinator is told."""
    status = folder.status()
    return str(status["ended"]) if status["state"] == "failed" else None


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


def _note(request: Request, planned: Study, study: StudyFolder) -> None:
    known = study.read_json("study.json") if study.has("study.json") else {"requests": {}}
    known["requests"][request_key(request, planned.limit)] = {
        "asked": request.model_dump(mode="json"),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cells": [
            [cell.spec.folder, [condition["name"] for condition in cell.conditions]]
            for cell in planned.cells
        ],
        "files": [list(each) for each in planned.files],
        "layouts": [layout.to_json() for layout in planned.layouts],
    }
    study.write_json("study.json", known)


def run_cell(
    payload: Mapping[str, Any],
    report: Callable[[float], None],
    watch: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> str:
    """Carry out one cell in this process, unless the store has it by now.

    Args:
        payload: that of the task.
        report: takes the share that is done.
        watch: takes each row of the history, and may raise to stop the run.

    Returns:
        `FOUND` if nothing was to be done; what was damaged, if it had to be done again; else
        nothing.

    Raises:
        Claimed: another process is at work on it.
        BenchError: the run failed, here or with another coordinator since it was planned.
    """
    cell, folder = Cell.from_json(payload["cell"]), RunFolder(Path(payload["path"]))
    keeps = payload.get("keep", False)
    if cell.is_done(folder, keeps=keeps):
        return FOUND
    if "failed_at" in payload and _failed_at(folder) not in (None, payload["failed_at"]):
        raise BenchError(folder.reason())
    damage = _damage(folder, keeps=keeps)
    if damage:
        folder.take_back()
    try:
        with folder.held() if folder.state == "done" else nullcontext():
            _attempt(cell, payload, report, watch)
    except Finished:  # by another coordinator, between the look and the claim
        return run_cell(payload, report, watch)
    except Damaged as error:
        if folder.state != "done":
            raise
        folder.take_back()  # its weights, which nothing but further conditions looks at
        run_cell(payload, report, watch)
        return str(error)
    return damage


def _attempt(
    cell: Cell,
    payload: Mapping[str, Any],
    report: Callable[[float], None],
    watch: Callable[[Mapping[str, Any]], None],
) -> None:
    from bench.peak_memory import begin_measuring
    from bench.protocol import condition_of
    from bench.resume import SaveRule
    from bench.runner import Context, Hooks, execute, resolve_device

    conditions = [condition_of(condition) for condition in cell.conditions]
    context = Context(
        registry_of(payload["include"], payload["override"]),
        Path(payload["data_root"]) if payload["data_root"] else None,
        resolve_device(payload["device"]),
        payload["threads"],
        SaveRule(**payload["saving"]),
    )
    begin_measuring(context.device)
    spec, folder = _smaller_if_asked(cell.spec, payload, context.device)
    execute(folder, spec, conditions, context, Hooks(report, watch))
    if payload.get("keep"):  # searches have nothing to keep
        from bench.representing import keep_representations

        keep_representations(folder, cell.spec, conditions, context)


def _smaller_if_asked(
    spec: RunSpec, payload: Mapping[str, Any], device: str
) -> tuple[RunSpec, RunFolder]:
    """Return what is trained, with a smaller batch if this is the retry, and where it goes."""
    from bench.peak_memory import peak_memory

    smaller, path = payload.get("smaller"), Path(payload["path"])
    if smaller is None:
        return spec, RunFolder(path, further=lambda: peak_memory(device))
    recipe = spec.recipe.model_copy(update={"batch_size": smaller["batch_size"]})
    facts = {"smaller_batch": smaller}
    folder = RunFolder(path, further=lambda: facts | peak_memory(device), instead_of=spec)
    return spec.model_copy(update={"recipe": recipe}), folder


_registries: dict[str, Any] = {}


def registry_of(include: Sequence[str], override: bool) -> Any:
    """Return the registry of these includes, one per process, so that plugins load once."""
    from bench.registry import Registry

    key = canonical_json([list(include), override])
    if key not in _registries:
        _registries[key] = Registry([Path(path) for path in include], override=override)
    return _registries[key]


def limited(study: Study, limit: int | None) -> Study:
    """Keep the first cells of a study.

    Raises:
        BadRequest: the limit is below one.
    """
    if limit is None:
        return study
    if limit < 1:
        raise BadRequest(f"--limit wants a number of runs from 1 on, got {limit}")
    return replace(study, cells=study.cells[:limit], limit=limit)
