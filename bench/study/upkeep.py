"""`bench cancel` and `bench clean`: end what is at work on a study, remove what is of no use."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BadRequest
from bench.store import RunFolder, StudyFolder
from bench.study.attendance import attending
from bench.study.cluster import FOLDER, RECORD, bundles_of, cancel_jobs, queue
from bench.study.standing import standings
from bench.wording import counted

PATIENCE = 10.0  # seconds that a coordinator has to end, before it is ended less gently


def cancel_lines(study: StudyFolder) -> Iterator[str]:
    """End all work on a study: jobs of Slurm, and coordinators of this machine; say which.

    What is finished stays, and the rest is pending: the command of the study goes on from there.

    Raises:
        BadRequest: there is no such study, or Slurm refuses.
    """
    study.runs()  # says so if it is not there
    coordinators, elsewhere = _coordinators(study)
    _end(study, set(coordinators))  # before its jobs, which it would submit once more
    if coordinators:
        processes = ", ".join(
            f"{pid} ({counted(n, 'run') if n else 'no run'} at work here)"
            for pid, n in sorted(coordinators.items())
        )
        yield f"ended {counted(len(coordinators), 'coordinator')}: {processes}"
    jobs = queue() or {}
    live = sorted({bundle.job for bundle in bundles_of(study) if bundle.job in jobs})
    cancel_jobs(live)
    if live:
        yield f"cancelled {counted(len(live), 'Slurm job')}: {', '.join(live)}"
    for host in sorted(elsewhere):
        yield f"runs are at work on {host}; call this there as well"
    if not (live or coordinators or elsewhere):
        yield "nothing is at work"


def _coordinators(study: StudyFolder) -> tuple[Counter[int], set[str]]:
    """Count the runs at work of each coordinator of this host; name the other hosts at work."""
    here: Counter[int] = Counter()
    elsewhere = set()
    runs = study.runs() if study.exists() else []  # whose planning was ended leaves no folder
    marks = [run.status() for run in runs]
    at_work = [mark for mark in marks if mark["state"] == "running" and "job" not in mark]
    for mark in [*at_work, *attending(study)]:
        if mark["host"] == socket.gethostname():
            here[int(mark["coordinator"])] += "state" in mark  # of a run, not of an attendance
        else:
            elsewhere.add(mark["host"])
    return here, elsewhere


def _end(study: StudyFolder, coordinators: set[int]) -> None:
    """Ask them to end, which they do as by Ctrl-C; end whoever has not done so in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in coordinators & _coordinators(study)[0].keys():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
            except PermissionError:
                raise BadRequest(
                    f"process {pid} belongs to another user, who has to end it"
                ) from None
        deadline = time.monotonic() + PATIENCE / 2
        while coordinators & _coordinators(study)[0].keys() and time.monotonic() < deadline:
            time.sleep(0.1)


# --- cleaning ---------------------------------------------------------------------------------


KINDS = {"pending": "unfinished", "damaged": "failed"}  # of waste, by state where they differ


@dataclass(frozen=True)
class Waste:
    """A folder that can go, and why."""

    path: Path
    why: str

    @property
    def n_bytes(self) -> int:
        """The size of all its files."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())


def waste(study: StudyFolder, kinds: Sequence[str]) -> list[Waste]:
    """List what can be removed; never a finished run that is up to date, nor one at work.

    Args:
        study: whose folder is looked through.
        kinds: of `unfinished`, `failed`, `stale`, `logs` (of Slurm jobs that are over); empty: all.

    Raises:
        BadRequest: there is no such study.
    """
    wanted = set(kinds) or {"unfinished", "failed", "stale", "logs"}
    found = []
    for each in standings(study):
        path = study.run_named(each.name).path
        kind = "stale" if each.is_stale else KINDS.get(each.state, each.state)
        if kind in wanted and path.is_dir():
            found.append(Waste(path, each.note if kind == "failed" and each.note else kind))
    return found + (_logs(study) if "logs" in wanted else [])


def _logs(study: StudyFolder) -> list[Waste]:
    jobs = queue() if (study.path / FOLDER).is_dir() else {}
    if jobs is None or any(bundle.job in jobs for bundle in bundles_of(study)):
        return []
    records = sorted(study.path.glob(f"{FOLDER}/*/{RECORD}"))
    whole = [study.read_if_whole(str(record.relative_to(study.path))) for record in records]
    if jobs and not all(whole):  # nobody knows whose jobs these are
        return []
    return [Waste(record.parent, "logs of Slurm jobs that are over") for record in records]


def remove(found: Sequence[Waste]) -> None:
    """Remove folders; a run that was begun since it was listed stays.

    Raises:
        BadRequest: a folder cannot be removed.
    """
    for each in found:
        if RunFolder(each.path).state == "running":
            continue
        try:
            shutil.rmtree(each.path)
        except OSError as error:
            raise BadRequest(
                f"cannot remove {str(each.path)!r}: {(error.strerror or str(error)).lower()}"
            ) from error
