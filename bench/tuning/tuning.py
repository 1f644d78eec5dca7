"""`bench tune`: search a method's settings on validation alone, the same budget for every method.

Workers share the searches of a request through their ledgers; here they are sent out until each
search has spent its budget, whoever dies meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import BenchError
from bench.executor import TIMED_OUT, Executor, Outcome, Task, value_of
from bench.request import Request
from bench.runner.cell import Cell, run_cell
from bench.search.law import Budget, Law
from bench.search.ledger import seconds_of
from bench.search.search import Search
from bench.search.trials import damaged_cells, payload_of, silent, work
from bench.spec import RunSpec
from bench.store import StudyFolder
from bench.study.attendance import noted
from bench.study.coordination import mended_lines
from bench.study.session import PLAIN, Manner, check_executor, check_jobs, open_executor
from bench.tuning.planning import Plan, Refused


def carry_out(searches: Sequence[Search], budget: Budget, executor: Executor, n_slots: int) -> None:
    """Carry out searches until each has spent its budget, whoever dies meanwhile.

    Raises:
        BenchError: a search cannot go on.
        RuntimeError: a fault of ours; its trace is in the text.
    """
    tasks = [
        _task(search, budget, slot, waits=n_slots == 1)
        for search in searches
        if not is_over(search, budget)
        for slot in range(n_slots)
    ]
    while tasks:
        n_begun = _n_begun(searches)
        died = [each for each in map(_told(searches), executor.run(tasks, fail_fast=False)) if each]
        tasks = [
            _task(each, budget, 0, waits=True) for each in searches if not is_over(each, budget)
        ]
        if tasks and died and _n_begun(searches) == n_begun:
            raise BenchError(f"no trial could be begun: {died[0]}")


def _told(searches: Sequence[Search]) -> Callable[[Outcome], str]:
    """Make what takes how a task ended, and returns why its worker died; empty: it did not."""
    by_name = {search.name: search for search in searches}

    def told(outcome: Outcome) -> str:
        if not outcome.unmarked:
            value_of(outcome)
        if outcome.fault == TIMED_OUT:
            _end_late(by_name[outcome.name.rpartition("#")[0]], outcome.error)
        return outcome.error

    return told


def _end_late(search: Search, reason: str) -> None:
    """Write down that a trial and its run took too long, which their process no longer can."""
    for trial in search.ledger.end_dead(reason):
        for name in trial.user_attrs.get("runs", []):
            folder = search.study.run_named(name)
            if folder.has_spec() and folder.state != "done":
                folder.begin(RunSpec(**folder.spec()), {})
                folder.fail(reason, "")


def _n_begun(searches: Sequence[Search]) -> int:
    """Count the trials that a process has ever taken."""
    every = (trial.state.name for search in searches for trial in search.ledger.trials())
    return sum(state != "WAITING" for state in every)


def is_over(search: Search, budget: Budget) -> bool:
    """Tell whether a search has spent its budget, as far as its trials are over."""
    over = search.ledger.finished()
    return budget.is_spent(len(over), sum(map(seconds_of, over)))


def _task(search: Search, budget: Budget, slot: int, *, waits: bool) -> Task:
    payload = {
        "search": search.to_json(),
        "out": str(search.study.root),
        "study": search.study.name,
        "storage": search.storage,
        "budget": {"n_trials": budget.n_trials, "seconds": budget.seconds},
        "waits": waits,
    }
    return Task(f"{search.name}#{slot}", "search", payload)


@dataclass(frozen=True)
class Done:
    """The searches of a request, how many of their trials were finished before, what was mended."""

    planned: list[Search | Refused]
    n_found: int
    mended: tuple[str, ...]  # what was damaged of finished runs, which were carried out again


def carry_out_plan(
    request: Request, how: Plan, *, jobs: int, quiet: bool, manner: Manner = PLAIN
) -> Done:
    """Make the searches of a request and carry them out, each until its budget is spent.

    Raises:
        BenchError: a space that is empty or contradicts itself, or a request that cannot be
            carried out; nothing is trained then.
    """
    check_jobs(jobs)
    manner = replace(manner, searches=True)
    check_executor(jobs, manner, request)
    planned = list(how.searches(request))
    searches = [each for each in planned if isinstance(each, Search)]
    for each in searches:
        each.space.check()
    for each in searches:
        each.study.create()
        each.write_record(how.budget)
    n_found = sum(len(each.ledger.finished()) for each in searches)
    mends = [_mend(each, cell) for each in searches for cell in damaged_cells(each)]
    mended: list[Outcome] = []
    if mends or not all(is_over(each, how.budget) for each in searches):
        try:
            study = StudyFolder(Path(request.out), request.study)
            with (
                noted(study),
                open_executor(jobs, quiet=quiet, manner=manner, request=request) as executor,
            ):
                mended += executor.run(mends, fail_fast=False)
                carry_out(searches, how.budget, executor, jobs)
        except KeyboardInterrupt:
            for each in searches:
                each.ledger.release()
            raise
    return Done(planned, n_found, mended_lines(mended))


def _mend(search: Search, cell: Cell) -> Task:
    """Make the work of a run of a finished trial, whose score stays that of the trial."""
    return Task(cell.spec.folder, "run", payload_of(search, cell))


def overhead(request: Request) -> tuple[float, float]:
    """Time a run and the trial of a search that trains the same, for a benchmark.

    Both are carried out in this process after a run that warms it up, each in a study folder of
    its own below the request's.

    Args:
        request: one method, dataset and fold; its study must not be there.

    Returns:
        Seconds of the run, seconds of the trial from asking for it to telling its value.
    """
    study = StudyFolder(Path(request.out), request.study).create()
    search = next(
        each for each in Plan(Law(), Budget(1)).searches(request) if isinstance(each, Search)
    )
    (cell, *_) = search.cells
    seconds = []
    for name in ("warm", "plain"):
        folder = replace(study, name=f"{study.name}-{name}").create().run(cell.spec)
        payload = {"cell": cell.to_json(), "path": str(folder.path), **search.context}
        started = time.perf_counter()
        run_cell(payload, silent)
        seconds.append(time.perf_counter() - started)
    search.write_record(Budget(1))
    task = _task(replace(search, cells=(cell,)), Budget(1), 0, waits=True)
    started = time.perf_counter()
    work(task.payload, silent)
    return seconds[1], time.perf_counter() - started
