"""P6: independent runs on two worker processes beside one; what handing a run over costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.executor import Means
from bench.executors.processes import Processes
from bench.request import Request
from bench.store import StudyFolder
from bench.study.coordination import carry_out, task_of
from bench.study.session import plan_in
from bench.study.study import Study, limited
from benchmarks.results import Goal, Result
from benchmarks.turns import in_turns, in_words, seconds

GOAL = Goal("P6", ">=", 1.8)
OVERHEAD = Goal("overhead", "<=", 50)  # ms
N_HANDED = 50  # runs handed over at a time


def measure(*, n_turns: int = 5, n_runs: int = 16, epochs: int = 30) -> Iterator[Result]:
    """Carry out the same runs on one worker and on two; the ratio is one / two.

    The workers have imported torch and loaded the data before: P9 counts that. What the executor
    adds to a run is timed on runs that the store has, so that nothing else is to be done.
    """
    with (
        TemporaryDirectory() as folder,
        closing(Processes(Means(jobs=1))) as one,
        closing(Processes(Means(jobs=2))) as two,
    ):
        request = _request(Path(folder), n_runs, epochs)
        planned = plan_in(one, request)
        places = (StudyFolder(Path(folder), f"turn-{i}") for i in count())

        def carried_out(executor: Processes, study: Study = planned) -> float:
            place = next(places).create()
            return seconds(lambda: carry_out(request, study, place, executor, fail_fast=True))

        for executor in (one, two):
            carried_out(executor, limited(planned, 2))
        turns = in_turns(lambda: carried_out(one), lambda: carried_out(two), n_turns)
        done = next(places).create()
        carry_out(request, planned, done, two, fail_fast=True)
        tasks = [task_of(cell, done.run(cell.spec), request) for cell in planned.cells]
        tasks = (tasks * N_HANDED)[:N_HANDED]
        spent = [seconds(lambda: list(one.run(tasks, fail_fast=True))) for _ in range(n_turns)]
    what = f"{n_runs} runs on 1 process / on 2 processes"
    yield Result(GOAL, what, turns.ratio, turns.n, turns.times)
    each = median(spent) / N_HANDED
    said = "ms to hand a finished run over, look it up and hear of it"
    yield Result(OVERHEAD, said, 1000 * each, turns.n, in_words(each))


def _request(out: Path, n_runs: int, epochs: int) -> Request:
    return Request(
        methods=("concat:dropout",),
        folds=(0,),
        seeds=tuple(range(n_runs)),
        settings={"recipe": {"epochs": epochs, "patience": epochs}},
        floor=False,
        device="cpu",
        out=str(out),
    )
