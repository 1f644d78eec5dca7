"""Slurm as a study sees it: which of its jobs are queued, and what a job does on its node.

A study keeps a record of what was submitted (`slurm/<time>/jobs.json`), so that any later process
can tell what became of a cell: from the record, the store and `squeue`. The accounting database
(`sacct`), which many clusters and all small ones lack, is never asked.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import FrameType
from typing import Any

from bench.errors import BadRequest
from bench.executor import Task, retry_of
from bench.store import StudyFolder
from bench.store.claims import job_of_slurm
from bench.study.worker import perform

RECORD = "jobs.json"
FOLDER = "slurm"  # of a study
SHORTLY_BEFORE_THE_LIMIT = signal.SIGUSR2  # what submitit asks Slurm to send
PATIENCE = 60.0  # seconds that a command of Slurm may take
CANNOT_RUN = ("DependencyNeverSatisfied", "JobHeldAdmin", "BadConstraints", "PartitionTimeLimit")


@dataclass(frozen=True)
class Bundle:
    """The cells of one Slurm job, carried out one after the other."""

    job: str  # as squeue writes it: `17_3`
    cells: tuple[str, ...]
    log: str = ""  # what the job printed


@dataclass(frozen=True)
class Job:
    """A job that Slurm has: its state and why it waits."""

    state: str  # PENDING, RUNNING, COMPLETING, ...
    reason: str

    @property
    def in_words(self) -> str:
        """Say it for a list."""
        waits = self.state == "PENDING" and self.reason not in ("None", "")
        return f"{self.state.lower()} ({self.reason})" if waits else self.state.lower()


# --- the commands of Slurm --------------------------------------------------------------------


def has_slurm() -> bool:
    """Say whether this machine can ask a Slurm."""
    return shutil.which("squeue") is not None


def queue() -> dict[str, Job] | None:
    """Return this user's jobs by number, each task of an array by itself; None: no answer."""
    if not has_slurm():
        return None
    user = str(os.getuid())  # a container may know no name for it
    command = ["squeue", "--noheader", "--array", "--format=%i|%T|%r", "--user", user]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.strip().split("|") for line in done.stdout.splitlines() if line.count("|") == 2)
    return {number: Job(state, reason) for number, state, reason in lines}


def cancel_jobs(jobs: Iterable[str], *, waiting_only: bool = False) -> None:
    """Take jobs out of the queue, those at work too unless told otherwise.

    Raises:
        BadRequest: Slurm refuses, or does not answer.
    """
    numbers = sorted(set(jobs))
    if not numbers:
        return
    command = ["scancel", *(["--state=PENDING"] if waiting_only else []), *numbers]
    _call(command)


def _call(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise BadRequest(
            f"{command[0]} does not do its work ({said[0] if said else 'no reason given'}); see "
            "whether the cluster answers"
        ) from error


# --- the record of a study --------------------------------------------------------------------


def write_bundles(study: StudyFolder, batch: str, bundles: Sequence[Bundle]) -> None:
    """Keep what was submitted together."""
    (study.path / FOLDER / batch).mkdir(parents=True, exist_ok=True)
    record = {"bundles": [asdict(bundle) for bundle in bundles]}
    study.write_json(f"{FOLDER}/{batch}/{RECORD}", record)


def bundles_of(study: StudyFolder) -> list[Bundle]:
    """List what was ever submitted for a study, the latest last.

    A record that is damaged is left out: should its cells be submitted once more, their claims
    keep them from being done twice.
    """
    paths = sorted(study.path.glob(f"{FOLDER}/*/{RECORD}"))
    records = [study.read_if_whole(str(path.relative_to(study.path))) for path in paths]
    return [
        Bundle(each["job"], tuple(each["cells"]), each["log"])
        for record in records
        for each in record.get("bundles", ())
    ]


def queued_cells(study: StudyFolder, jobs: Mapping[str, Job]) -> dict[str, Bundle]:
    """Return, by cell, the bundles of a study whose jobs Slurm still has."""
    live = [bundle for bundle in bundles_of(study) if bundle.job in jobs]
    return {cell: bundle for bundle in live for cell in bundle.cells}


# --- on the node ------------------------------------------------------------------------------


def work_through(tasks: Sequence[Mapping[str, Any]], max_requeues: int) -> None:
    """Carry out a bundle: what a Slurm job does.

    Each cell is looked up in the store before it is worked on. At the signal shortly before the
    time limit the training saves itself and the job is put back into the queue, where it goes on
    from there; at SIGTERM, which comes before a preempted or cancelled job is killed, it saves
    itself and ends.

    Args:
        tasks: fields of `bench.executor.Task`.
        max_requeues: of one job, so that one whose limit is too short for a single epoch ends.
    """
    with _stopping() as heard:
        for fields in tasks:
            if heard:
                break
            _work(Task(**fields))
    if SHORTLY_BEFORE_THE_LIMIT in heard and _n_requeues() < max_requeues:
        _call(["scontrol", "requeue", job_of_slurm()])
        raise SystemExit(1)  # Slurm ends what is left of this job and starts it again


def _work(task: Task) -> None:
    outcome = perform(task, lambda share: None)
    again = retry_of(task, outcome)
    if again is not None:
        perform(again, lambda share: None)


@contextmanager
def _stopping() -> Iterator[list[int]]:
    """Ask the training to stop at a signal; give the numbers of those that were heard."""
    from bench.engine.resume import ask_to_stop

    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        ask_to_stop()

    numbers = (SHORTLY_BEFORE_THE_LIMIT, signal.SIGTERM)
    before: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, hear) for number in numbers
    }
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _n_requeues() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def bundled(tasks: Sequence[Task], most_seconds: float) -> list[list[Task]]:
    """Put short tasks together, the longest first; one whose time is unknown stays alone.

    Args:
        tasks: that need the same resources.
        most_seconds: that a bundle of several may be expected to take.
    """
    bundles: list[list[Task]] = []
    filled: list[float] = []
    for task in sorted(tasks, key=lambda task: -(task.seconds or 0.0)):
        place = next(
            (
                i
                for i, seconds in enumerate(filled)
                if task.seconds is not None and seconds + task.seconds <= most_seconds
            ),
            None,
        )
        if place is None:
            bundles.append([task])
            filled.append(float("inf") if task.seconds is None else task.seconds)
        else:
            bundles[place].append(task)
            filled[place] += task.seconds or 0.0
    return bundles


def as_fields(task: Task) -> dict[str, Any]:
    """Return what `work_through` takes, with absolute paths: a job may start elsewhere."""
    payload = dict(task.payload)
    for key in ("path", "data_root"):
        payload[key] = os.path.abspath(payload[key]) if payload.get(key) else payload.get(key)
    payload["include"] = [os.path.abspath(path) for path in payload.get("include", [])]
    return asdict(replace(task, payload=payload))
