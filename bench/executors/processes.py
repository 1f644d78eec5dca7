"""In long-lived processes of this machine, one per slot, each with one thread.

A worker imports torch once and carries out run after run. With GPUs the slots are shared out over
them, and a run begins where its memory, measured on earlier runs like it, has room beside those at
work; one that was never measured has the GPU alone. The longest runs go first. A worker that dies,
runs out of memory or exceeds the time limit is a failed run and a new worker; the study goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from bench.errors import BenchError
from bench.executor import (
    KILLED_FOR_MEMORY,
    TIMED_OUT,
    WORKER_DIED,
    Executor,
    Means,
    Outcome,
    Task,
    longest_first,
    retry_of,
)
from bench.study.gpus import Gpu, gpus, next_task, uses_gpu
from bench.study.worker import serve

PATIENCE = 1.0  # seconds that a poll waits
GERUNDS = {"plan": "planning the study", "scan": "scanning the data for leaks"}  # what is called


@dataclass
class _Slot:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    gpu: Gpu | None = None
    task: Task | None = None
    started: float = 0.0
    run_started: float = 0.0  # the run at hand, of the many that a search has
    n_oom_kills: int = 0  # of this machine, when the task began


class Processes(Executor):
    """Gives tasks to workers, as many at a time as there are slots."""

    def __init__(self, means: Means | None = None):
        super().__init__(means)
        self.context = multiprocessing.get_context("spawn")
        self.waiting: list[Task] = []
        found = gpus()
        shared = [found[i % len(found)] if found else None for i in range(self.means.jobs)]
        self.slots = [self._open(gpu) for gpu in shared]

    def _open(self, gpu: Gpu | None) -> _Slot:
        ours, theirs = self.context.Pipe()
        arguments = (theirs, os.getpid(), gpu.name if gpu else "")
        process = self.context.Process(target=serve, args=arguments, daemon=True)
        with _interrupts_held_back():
            process.start()
        theirs.close()
        return _Slot(process, ours, gpu)

    @property
    def n_open(self) -> int:
        """How many tasks wait or are at work."""
        return len(self.waiting) + sum(slot.task is not None for slot in self.slots)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take tasks; the longest go first."""
        self.waiting = longest_first([*self.waiting, *tasks])

    def cancel(self) -> None:
        """Withdraw what waits."""
        self.waiting.clear()

    def call(self, task: Task) -> Outcome:
        """Carry out one task on the first worker, or else on a new one.

        Raises:
            BenchError: the task ended two workers.
        """
        slot = self.slots[0]
        outcome = self._called(slot, task)
        if outcome.unmarked:
            outcome = self._called(slot, task)
        slot.task = None
        if outcome.unmarked:
            raise BenchError(f"{GERUNDS[task.kind]} failed twice: {outcome.error}")
        return outcome

    def _called(self, slot: _Slot, task: Task) -> Outcome:
        self._give(slot, task)
        while (outcome := self._hear(slot)) is None:
            continue
        return outcome

    def poll(self) -> list[Outcome]:
        """Keep the workers busy; return what ended within a second."""
        for slot in self.slots:
            place = next_task(self.waiting, slot.gpu) if slot.task is None else None
            if place is not None:
                self._give(slot, self.waiting.pop(place))
        busy = [slot for slot in self.slots if slot.task]
        ready = wait([slot.pipe for slot in busy], timeout=PATIENCE)
        outcomes = []
        for slot in busy:
            outcome = self._hear(slot) if slot.pipe in ready else self._end_if_late(slot)
            if outcome is not None and not self._tries_again(slot, outcome):
                self.listener.ended(outcome, time.monotonic() - slot.started)
                outcomes.append(outcome)
        return outcomes

    def _give(self, slot: _Slot, task: Task) -> None:
        """Hand a task to an idle worker, or to a new one if it ended while it waited."""
        slot.task, slot.started, slot.n_oom_kills = task, time.monotonic(), _n_oom_kills()
        slot.run_started = slot.started
        if slot.gpu and uses_gpu(task):
            slot.gpu.give(task)
        try:
            slot.pipe.send(task)
        except OSError:
            self._replace(slot)
            slot.pipe.send(task)

    def _hear(self, slot: _Slot) -> Outcome | None:
        """Take what a worker says; None: its task goes on."""
        assert slot.task is not None
        try:
            kind, value = slot.pipe.recv()
        except (EOFError, OSError):
            kind, value = "outcome", Outcome(slot.task.name, _died(slot), _why_died(slot))
            self._replace(slot)
        if kind == "share":
            self.listener.advanced(slot.task.name, value)
            if slot.task.kind == "search":  # which says so at the beginning of each run
                slot.run_started = time.monotonic()
            return self._end_if_late(slot)
        assert isinstance(value, Outcome)
        return value

    def _end_if_late(self, slot: _Slot) -> Outcome | None:
        """End the worker of a run that exceeds the time limit."""
        limit = self.means.time_limit
        if slot.task is None or limit is None or time.monotonic() - slot.run_started < limit:
            return None
        slot.process.kill()
        slot.process.join()
        error = f"it took longer than the time limit of {limit:g} seconds and was ended"
        self._replace(slot)
        return Outcome(slot.task.name, error, TIMED_OUT)

    def _tries_again(self, slot: _Slot, outcome: Outcome) -> bool:
        """Free the slot; queue the one retry of a run that memory did not suffice for."""
        task = slot.task
        assert task is not None
        slot.task = None
        if slot.gpu:
            slot.gpu.take_back(task)
        again = retry_of(task, outcome)
        if again is not None:
            self.submit([again])
        return again is not None

    def _replace(self, slot: _Slot) -> None:
        fresh = self._open(slot.gpu)
        slot.pipe.close()
        slot.process, slot.pipe = fresh.process, fresh.pipe

    def close(self) -> None:
        """End the workers; one that is still at work is terminated."""
        for slot in self.slots:
            slot.pipe.close()
            if slot.task is not None:
                slot.process.terminate()
        for slot in self.slots:
            slot.process.join(timeout=5)
            if slot.process.is_alive():
                slot.process.kill()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Hold Ctrl-C back while a worker starts, which inherits this and so never sees one."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _died(slot: _Slot) -> str:
    slot.process.join(timeout=5)
    code = slot.process.exitcode
    how = (
        f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"({code})"
    )
    return f"the worker process ended {how}; out of memory is the usual cause, lower the batch size"


def _why_died(slot: _Slot) -> str:
    return KILLED_FOR_MEMORY if _n_oom_kills() > slot.n_oom_kills else WORKER_DIED


def _n_oom_kills() -> int:
    """Return how many processes Linux has killed for want of memory since it was started."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


PLUGIN = Processes
