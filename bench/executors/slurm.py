"""On a Slurm cluster, in job arrays through submitit (`pip install submitit`).

Cells that need the same resources are put into one array, short ones together in one job, and so
many jobs run at once as `at_once` allows. The store, on a file system that all nodes share, and
`squeue` tell how they go; neither the coordinator nor the accounting database is needed for that,
so the coordinator may leave (`--detach`) and another one may look later. A training that nears the
time limit of its job saves itself and goes on in a later turn of the queue.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from bench.errors import BadRequest
from bench.executor import LEFT, WORKER_DIED, Executor, Means, Outcome, Task
from bench.spec import Frozen
from bench.store import RunFolder, StudyFolder
from bench.study.cluster import (
    FOLDER,
    Bundle,
    Job,
    as_fields,
    bundled,
    cancel_jobs,
    queue,
    queued_cells,
    work_through,
    write_bundles,
)

LOOKS = 2  # at a queue that lacks a job, before it is taken for gone
RECORDED = "recorded"  # a fault that the run's own status holds
MAX_LOSSES = 2  # of one cell: what kills its job every time is not the cluster's fault


class Resources(Frozen):
    """What a job asks for; null leaves it to the cluster's default."""

    time: int = Field(60, ge=1, description="minutes of a job; near its end a training is requeued")
    memory: str | None = Field(None, description="of a job: 16GB")
    cpus: int = Field(1, ge=1, description="of a job; give --threads the same number")
    gpus: int = Field(0, ge=0, description="of a job; a run uses one")


class SlurmConfig(Resources):
    """Settings of a cluster, from the YAML file of --executor-config."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = Field((), description="lines of shell before the work: module load")
    at_once: int = Field(20, ge=1, description="jobs of one array that may run at the same time")
    bundle_minutes: float = Field(15, ge=0, description="short runs share a job up to this long")
    resources: dict[str, Resources] = Field(
        {}, description="by method or dataset: time, memory, cpus, gpus in place of the above"
    )
    sbatch: dict[str, Any] = Field({}, description="further options of sbatch, by long name")
    poll_seconds: float = Field(10, gt=0, description="between looks at store and queue")
    max_requeues: int = Field(50, ge=0, description="of one job at its time limit")


@dataclass
class _Open:
    """A cell that is not over, and where it is."""

    task: Task
    bundle: Bundle
    n_missed: int = 0  # looks in a row at which its job was not in the queue
    n_losses: int = 0  # jobs that ended under it
    n_failed: int = 0  # looks at which it had failed: its job may be about to retry it

    def is_lost(self, folder: RunFolder) -> bool:
        """Say whether its job ended while it was at work, and not before its turn."""
        mark = folder.mark()
        return mark is not None and mark.get("job") == self.bundle.job


class Slurm(Executor):
    """Submits cells as job arrays and follows them through the store and the queue."""

    config_class = SlurmConfig
    detaches = True
    ends_hangs = False  # a job's own limit does, and requeues what it ends
    searches = False  # a task is a cell here: queue and store are asked for it by its name

    def __init__(self, means: Means | None = None):
        super().__init__(means)
        self.submitit = _submitit()
        settings = self.means.settings
        self.settings = settings if isinstance(settings, SlurmConfig) else SlurmConfig()
        self.study = StudyFolder(self.means.place.parent, self.means.place.name)
        self.open: dict[str, _Open] = {}
        self.jobs: set[str] = set()  # of these cells, those that are over too
        self.is_cancelled = False

    @property
    def n_open(self) -> int:
        """How many cells are not known to be over."""
        return len(self.open)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Submit what no live job has yet; follow the rest where it is."""
        queued = queued_cells(self.study, queue() or {})
        for task in tasks:
            if task.name in queued:
                self.open[task.name] = _Open(task, queued[task.name])
                self.jobs.add(queued[task.name].job)
        self._submit([task for task in tasks if task.name not in queued], self.settings.at_once)

    def _submit(self, tasks: Sequence[Task], at_once: int) -> None:
        groups: dict[Resources, list[Task]] = {}
        for task in tasks:
            groups.setdefault(self.resources_of(task), []).append(task)
        for resources, group in groups.items():
            bundles = bundled(group, 60 * self.settings.bundle_minutes)
            self._submit_array(self._parameters(resources, at_once), bundles)

    def resources_of(self, task: Task) -> Resources:
        """Return what a cell asks for: the method's settings over the dataset's over all."""
        spec = task.payload["cell"]["spec"]
        values = {key: getattr(self.settings, key) for key in Resources.model_fields}
        for name in (spec["dataset"], spec["method"]):
            if name in self.settings.resources:
                values |= self.settings.resources[name].model_dump(exclude_unset=True)
        return Resources(**values)

    def _submit_array(
        self, parameters: Mapping[str, Any], groups: Sequence[Sequence[Task]]
    ) -> None:
        """Submit one array, a job for each group of cells, and keep a record of it."""
        batch = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6:06d}"
        executor = self.submitit.SlurmExecutor(folder=self.study.path / FOLDER / batch)
        executor.update_parameters(**parameters)
        with _explained(self.submitit), executor.batch():
            jobs = [
                executor.submit(work_through, list(map(as_fields, group)), self._max_requeues)
                for group in groups
            ]
        bundles = [
            Bundle(str(job.job_id), tuple(task.name for task in group), str(job.paths.stdout))
            for job, group in zip(jobs, groups, strict=True)
        ]
        write_bundles(self.study, batch, bundles)
        self.jobs.update(bundle.job for bundle in bundles)
        for bundle, group in zip(bundles, groups, strict=True):
            for task in group:
                before = self.open.get(task.name)
                n_losses = before.n_losses if before else 0
                self.open[task.name] = _Open(task, bundle, n_losses=n_losses)

    @property
    def _max_requeues(self) -> int:
        return self.settings.max_requeues

    def _parameters(self, resources: Resources, at_once: int) -> dict[str, Any]:
        """Word the settings as submitit does."""
        settings = self.settings
        asked = {
            "job_name": f"bench-{self.study.name}",
            "time": resources.time,
            "mem": resources.memory,
            "cpus_per_task": resources.cpus,
            "gpus_per_node": resources.gpus or None,
            "partition": settings.partition,
            "account": settings.account,
            "qos": settings.qos,
            "constraint": settings.constraint,
            "setup": list(settings.setup) or None,
            "additional_parameters": dict(settings.sbatch) or None,
        }
        asked = {key: value for key, value in asked.items() if value is not None}
        return asked | {"array_parallelism": max(1, at_once), "stderr_to_stdout": True}

    def poll(self) -> list[Outcome]:
        """Wait; then say which cells are over, by the store, or lost, by the queue."""
        if self.means.detach:
            return self._leave()
        time.sleep(self.settings.poll_seconds)
        jobs = queue()  # before the store: a job that ended meanwhile has written by then
        outcomes = [self._look_at(each, jobs) for each in self.open.values()]
        gone = [each for each in self.open.values() if each.n_missed >= LOOKS]
        n_live = self.settings.at_once if jobs is None else len(self.jobs & jobs.keys())
        room = self.settings.at_once - n_live
        told = [outcome for outcome in outcomes if outcome is not None]
        for outcome in told:
            del self.open[outcome.name]
        if room > 0 or self.is_cancelled:
            told += self._again([each for each in gone if each.task.name in self.open], room)
        for outcome in told:
            self.listener.ended(outcome, 0.0)
        return told

    def _leave(self) -> list[Outcome]:
        outcomes = [Outcome(name, value=LEFT) for name in self.open]
        self.open.clear()
        for outcome in outcomes:
            self.listener.ended(outcome, 0.0)
        return outcomes

    def _look_at(self, each: _Open, jobs: Mapping[str, Job] | None) -> Outcome | None:
        """Say how a cell ended; None: it has not, or it was never begun."""
        folder = _folder(each.task)
        told = _told(each.task, folder)
        each.n_failed += told is not None and told.fault == RECORDED
        if told is not None and (told.fault != RECORDED or each.n_failed >= LOOKS):
            return told
        status = folder.status()
        if status["state"] == "running":
            self.listener.advanced(each.task.name, _share(each.task, status))
        if jobs is None or each.bundle.job in jobs:
            each.n_missed = 0
            return None
        each.n_missed += 1
        return None

    def _again(self, gone: Sequence[_Open], room: int) -> list[Outcome]:
        """Submit once more what its job ended under or never came to; give up what is lost twice.

        A job that ended before it worked on anything counts as a loss of all its cells.

        Args:
            gone: cells without a job, which are not over.
            room: how many more jobs may run at once.
        """
        lost = {each.task.name for each in gone if each.is_lost(_folder(each.task))}
        worked = {each.bundle.job for each in gone if each.task.name in lost}
        tasks, outcomes = [], []
        for each in gone:
            name, bundle = each.task.name, each.bundle
            if name in lost:
                _folder(each.task).release()  # of a process that Slurm has ended, wherever it was
            idle = bundle.job not in worked and self.open.keys() >= set(bundle.cells)
            each.n_losses += name in lost or idle
            if each.n_losses >= MAX_LOSSES:
                outcomes.append(Outcome(name, _lost(bundle), WORKER_DIED))
            elif not self.is_cancelled:
                tasks.append(replace(each.task, seconds=None) if name in lost else each.task)
        for each in gone:
            if self.is_cancelled or each.n_losses >= MAX_LOSSES:
                del self.open[each.task.name]
        self._submit(tasks, room)
        return outcomes

    def cancel(self) -> None:
        """Withdraw the jobs that wait; their cells are pending again."""
        self.is_cancelled = True
        cancel_jobs((each.bundle.job for each in self.open.values()), waiting_only=True)

    def close(self) -> None:
        """Nothing is held: jobs go on without the coordinator, `bench cancel` ends them."""


def _folder(task: Task) -> RunFolder:
    return RunFolder(Path(task.payload["path"]))


def _told(task: Task, folder: RunFolder) -> Outcome | None:
    """Say how a cell ended by its own word; an older failure than this attempt says nothing."""
    status = folder.status()
    asked = {condition["name"] for condition in task.payload["cell"]["conditions"]}
    if status["state"] == "skipped":
        return Outcome(task.name)
    if status["state"] == "done":
        is_there = asked <= set(status["conditions"]) and not folder.damage()
        return Outcome(task.name) if is_there else None
    if status["state"] == "failed" and status["ended"] != task.payload["failed_at"]:
        return Outcome(task.name, folder.reason(), RECORDED)
    return None


def _share(task: Task, status: Mapping[str, Any]) -> float:
    n_epochs = task.payload["cell"]["spec"]["recipe"]["epochs"]
    return min(1.0, float(status.get("epochs", 0)) / n_epochs)


def _lost(bundle: Bundle) -> str:
    return (
        f"its Slurm job {bundle.job} ended under it, like one before; out of memory is the usual "
        f"cause, see {bundle.log}"
    )


@contextmanager
def _explained(submitit: Any) -> Iterator[None]:
    """Turn what sbatch refuses into one line."""
    try:
        yield
    except submitit.core.utils.FailedJobError as error:
        said = str(error).strip().splitlines()[-1]
        raise BadRequest(
            f"sbatch refuses the jobs: {said}; see partition, account and resources in the file of "
            "--executor-config"
        ) from error


def _submitit() -> Any:
    """Import submitit where sbatch is.

    Raises:
        BadRequest: one of the two is not there.
    """
    try:
        import submitit
    except ImportError:
        raise BadRequest(
            "the executor slurm needs the package submitit; pip install submitit"
        ) from None
    for command in ("sbatch", "squeue"):
        if shutil.which(command) is None:
            raise BadRequest(
                f"the executor slurm finds no {command} here; run this where jobs are submitted, "
                "or say --executor processes"
            )
    return submitit


PLUGIN = Slurm
