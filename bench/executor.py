"""The contract of executors: where runs are carried out, in this process or anywhere else.

An executor takes tasks (`submit`), says how they ended (`poll`), withdraws what has not begun
(`cancel`) and lets go of what it holds (`close`). What a task is, and that a task which dies is an
outcome and never the end of a study, is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from bench.errors import BadData, BenchError
from bench.spec import Frozen

# kinds of faults that are no class of error
WORKER_DIED = "worker"  # the process ended under the task
KILLED_FOR_MEMORY = "killed for memory"  # the operating system ended the process
TIMED_OUT = "time"  # the task took longer than it may, and was ended
OUT_OF_MEMORY = "memory"  # the process refused more memory and lives on
BUG = "bug"  # an error that is not the user's
CLAIMED = "claimed"  # not a fault: another coordinator is at work on it

LEFT = "left"  # the value of a task that was submitted and goes on without this process


@dataclass(frozen=True)
class Task:
    """One piece of work: what to call and with what; plain JSON, so that it can cross a border."""

    name: str
    kind: str  # "run", "plan", "scan" or "search"
    payload: Mapping[str, Any]
    seconds: float | None = None  # it is expected to take; None: unknown
    peak_bytes: int | None = None  # of a GPU, it is expected to need; None: unknown


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

    @property
    def unmarked(self) -> bool:
        """Whether the task was ended before it could write down how it went."""
        return self.fault in (WORKER_DIED, KILLED_FOR_MEMORY, TIMED_OUT)


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


@dataclass(frozen=True)
class Means:
    """With what an executor is to work."""

    jobs: int = 1  # tasks at a time, where this machine carries them out
    listener: Listener = field(default_factory=Silent)
    place: Path = Path("results", "main")  # folder of the study
    settings: Frozen = field(default_factory=Frozen)  # of --executor-config, as its class
    time_limit: float | None = None  # seconds that a run may take; None: any
    detach: bool = False  # leave as soon as everything is submitted


class Executor(ABC):
    """Carries out tasks in any order; the base class of every executor plugin."""

    name: ClassVar[str]
    config_class: ClassVar[type[Frozen]] = Frozen  # of the settings in --executor-config
    ends_hangs: ClassVar[bool] = True  # whether --time-limit can be kept
    detaches: ClassVar[bool] = False  # whether work goes on without the coordinator
    searches: ClassVar[bool] = True  # whether it takes tasks that are searches, not runs

    def __init__(self, means: Means | None = None):
        self.means = means or Means()
        self.listener = self.means.listener

    @property
    @abstractmethod
    def n_open(self) -> int:
        """How many tasks were submitted, not cancelled, and not yet told by `poll`."""

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> None:
        """Take tasks; none has to begin before the next `poll`."""

    @abstractmethod
    def poll(self) -> list[Outcome]:
        """Wait a while for tasks to end; return how they did. An empty list: none has yet."""

    @abstractmethod
    def cancel(self) -> None:
        """Withdraw the tasks that have not begun; those at work go on and are still told."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held; what this process is the parent of ends."""

    def call(self, task: Task) -> Outcome | None:
        """Carry out one task at once; None: there is no place for it but the coordinator."""
        return None

    def run(self, tasks: Sequence[Task], *, fail_fast: bool) -> Iterator[Outcome]:
        """Carry out the tasks; yield each outcome as it comes."""
        self.listener.started(len(tasks))
        self.submit(tasks)
        while self.n_open:
            for outcome in self.poll():
                yield outcome
                if stops_the_study(outcome, fail_fast=fail_fast):
                    self.cancel()


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
    if outcome.fault == BUG:
        raise RuntimeError(outcome.trace)
    raise BenchError(outcome.error)


def longest_first(tasks: Sequence[Task]) -> list[Task]:
    """Order tasks so that none is left running alone at the end; the unknown ones go first."""
    return sorted(tasks, key=lambda task: -(float("inf") if task.seconds is None else task.seconds))


def retry_of(task: Task, outcome: Outcome) -> Task | None:
    """Return the one retry, with a smaller batch, of a run that memory did not suffice for.

    None: it ended otherwise, was such a retry itself, or its method does not allow one.
    """
    batch_size = task.payload.get("retry_batch")
    if outcome.fault not in (OUT_OF_MEMORY, KILLED_FOR_MEMORY) or batch_size is None:
        return None
    smaller = {"batch_size": batch_size, "because": outcome.error}
    payload = {**task.payload, "retry_batch": None, "smaller": smaller}
    payload.pop("failed_at", None)  # the first attempt is no other coordinator's
    return replace(task, payload=payload, peak_bytes=None)
