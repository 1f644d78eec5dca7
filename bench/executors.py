"""Where runs are carried out: in this process, or one long-lived process per slot.

A worker that dies is a failed cell and a new worker; the study goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from bench.errors import BadData, BenchError, NotApplicable

WORKER_DIED = "worker"  # the fault of a task whose process ended under it


@dataclass(frozen=True)
class Task:
    """One piece of work: what to call and with what; plain JSON, so that it can cross a border."""

    name: str
    kind: str  # "run", "plan", "scan" or "search"
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a task ended. `fault` names the kind of error, empty if there was none."""

    name: str
    error: str = ""
    fault: str = ""
    trace: str = ""
    value: Any = None

    @property
    def unreadable(self) -> bool:
        """Whether the data cannot be read, which fails every run alike."""
        return self.fault == BadData.__name__


class Listener(Protocol):
    """Is told how tasks go; a progress bar, or nothing."""

    def started(self, n_tasks: int) -> None:
        """Take the number of tasks."""

    def advanced(self, name: str, share: float) -> None:
        """Take the share of a task that is done, 0 to 1."""

    def ended(self, outcome: Outcome, seconds: float) -> None:
        """Take how a task ended, and after how long."""


class Silent:
    """A listener that says nothing."""

    def started(self, n_tasks: int) -> None:
        """Ignore it."""

    def advanced(self, name: str, share: float) -> None:
        """Ignore it."""

    def ended(self, outcome: Outcome, seconds: float) -> None:
        """Ignore it."""


class Executor(Protocol):
    """Carries out tasks in any order and yields how each ended."""

    def run(self, tasks: Sequence[Task], *, fail_fast: bool) -> Iterator[Outcome]:
        """Carry out the tasks; yield each outcome as it comes."""

    def call(self, task: Task) -> Any:
        """Carry out one task and return its value; raise its error."""

    def close(self) -> None:
        """Let go of what is held."""


def perform(task: Task, report: Callable[[float], None]) -> Outcome:
    """Carry out one task in this process; an error becomes an outcome."""
    from bench import study
    from bench.request import Request

    try:
        if task.kind == "plan":
            planned = study.plan(Request(**task.payload))
            return Outcome(task.name, value=planned.to_json())
        if task.kind == "scan":
            return Outcome(task.name, value=study.scan(**task.payload))
        if task.kind == "search":
            from bench.tuning import work

            work(task.payload, report)
            return Outcome(task.name)
        study.run_cell(task.payload, report)
    except NotApplicable:
        return Outcome(task.name)
    except BenchError as error:
        return Outcome(task.name, str(error), type(error).__name__)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Outcome(task.name, text, "bug", traceback.format_exc())
    return Outcome(task.name)


def stops_the_study(outcome: Outcome, *, fail_fast: bool) -> bool:
    """Say whether the rest cannot or shall not go on."""
    return outcome.unreadable or bool(outcome.error and fail_fast)


def value_of(outcome: Outcome) -> Any:
    """Return what a task gave, or raise its error again.

    Raises:
        BenchError: the task ended in a fault of the user.
        RuntimeError: it ended in one of ours; the trace is in its text.
    """
    if not outcome.error:
        return outcome.value
    if outcome.fault == "bug":
        raise RuntimeError(outcome.trace)
    raise BenchError(outcome.error)


@dataclass
class Inline:
    """Runs every task in this process, one after the other."""

    listener: Listener = field(default_factory=Silent)

    def run(self, tasks: Sequence[Task], *, fail_fast: bool) -> Iterator[Outcome]:
        """Carry out the tasks in order."""
        self.listener.started(len(tasks))
        for task in tasks:
            started = time.monotonic()
            outcome = perform(task, partial(self.listener.advanced, task.name))
            self.listener.ended(outcome, time.monotonic() - started)
            yield outcome
            if stops_the_study(outcome, fail_fast=fail_fast):
                return

    def call(self, task: Task) -> Any:
        """Carry out one task and return its value."""
        return value_of(perform(task, lambda share: None))

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class _Slot:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    task: Task | None = None
    started: float = 0.0


class Processes:
    """Runs tasks on long-lived workers, one thread each; torch is imported once per worker."""

    def __init__(self, jobs: int, listener: Listener | None = None):
        self.listener = listener or Silent()
        self.context = multiprocessing.get_context("spawn")
        self.slots = [self._open() for _ in range(jobs)]

    def _open(self) -> _Slot:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=serve, args=(theirs, os.getpid()), daemon=True)
        with _interrupts_held_back():
            process.start()
        theirs.close()
        return _Slot(process, ours)

    def call(self, task: Task) -> Any:
        """Carry out one task on the first worker and return its value."""
        slot = self.slots[0]
        self._give(slot, task)
        while True:
            try:
                kind, value = slot.pipe.recv()
            except (EOFError, OSError):
                raise BenchError(_died(slot)) from None
            if kind == "outcome":
                slot.task = None
                return value_of(value)

    def run(self, tasks: Sequence[Task], *, fail_fast: bool) -> Iterator[Outcome]:
        """Carry out the tasks, as many at a time as there are workers."""
        self.listener.started(len(tasks))
        waiting = list(reversed(tasks))
        while waiting or any(slot.task for slot in self.slots):
            for slot in self.slots:
                if waiting and slot.task is None:
                    self._give(slot, waiting.pop())
            for outcome in self._collect():
                yield outcome
                if stops_the_study(outcome, fail_fast=fail_fast):
                    waiting.clear()

    def _give(self, slot: _Slot, task: Task) -> None:
        """Hand a task to an idle worker, or to a new one if it ended while it waited."""
        slot.task, slot.started = task, time.monotonic()
        try:
            slot.pipe.send(task)
        except OSError:
            self._replace(slot)
            slot.pipe.send(task)

    def _collect(self) -> Iterator[Outcome]:
        busy = [slot for slot in self.slots if slot.task]
        ready = wait([slot.pipe for slot in busy])
        for slot in busy:
            if slot.pipe not in ready:
                continue
            task = slot.task
            assert task is not None
            try:
                kind, value = slot.pipe.recv()
            except (EOFError, OSError):
                kind, value = "outcome", Outcome(task.name, _died(slot), WORKER_DIED)
                self._replace(slot)
            if kind == "share":
                self.listener.advanced(task.name, value)
                continue
            slot.task = None
            self.listener.ended(value, time.monotonic() - slot.started)
            yield value

    def _replace(self, slot: _Slot) -> None:
        fresh = self._open()
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


def serve(pipe: Connection, parent: int) -> None:
    """Serve tasks until the pipe closes; what a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        outcome = perform(task, lambda share: _send(pipe, ("share", share)))
        _send(pipe, ("outcome", outcome))


def _send(pipe: Connection, message: tuple[str, Any]) -> None:
    """Tell the coordinator, or end this process at once: nobody is there to write for."""
    try:
        pipe.send(message)
    except OSError:
        os._exit(1)


def _end_with(parent: int) -> None:
    """End this process when the coordinator is gone, so that no orphan writes into the store."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
