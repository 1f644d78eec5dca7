"""`bench status`: what became of every run of a study, by its files and by the queue of Slurm.

Nothing is imported that trains or plans, and nothing is written.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.errors import BadData, BenchError
from bench.plugins.listing import aligned
from bench.registry import registry_of
from bench.sources import code_of_run
from bench.store import RunFolder, StudyFolder, reason_of
from bench.study.cluster import Job, queue, queued_cells
from bench.wording import counted

STALE = "stale: the code behind it has changed since"
OPEN = ("pending", "queued", "running")  # states that a later look may find changed


@dataclass(frozen=True)
class Standing:
    """Where one run stands."""

    name: str
    state: str
    note: str = ""
    is_stale: bool = False


@dataclass(frozen=True)
class OwnPlugins:
    """Files and folders of the user's plugins, those still there, and manifests."""

    paths: tuple[Path, ...] = ()
    override: bool = False  # whether they win over the built-in


NO_PLUGINS = OwnPlugins()


def standings(study: StudyFolder) -> list[Standing]:
    """Say of every run that was asked for, or that is there, where it stands.

    Raises:
        BadRequest: there is no such study.
    """
    there = {run.path.name: run for run in study.runs()}
    asked = own_plugins(study)
    wanted = {name for entry in study.requests() for name, _ in entry["cells"]}
    names = sorted({*there, *wanted})
    jobs = queue() if (study.path / "slurm").is_dir() else None
    queued = queued_cells(study, jobs) if jobs else {}
    found = []
    for name in names:
        waits = jobs[queued[name].job] if jobs and name in queued else None
        run, plugins = there.get(name), asked.get(name, NO_PLUGINS)
        found.append(_standing(run, jobs, waits, plugins) if run else _unbegun(name, waits))
    return found


def own_plugins(study: StudyFolder) -> dict[str, OwnPlugins]:
    """Return for each run that was asked for the user's plugins that it was asked with."""
    known = study.read_json("study.json")["requests"] if study.has("study.json") else {}
    found: dict[str, OwnPlugins] = {}
    for entry in known.values():
        asked = entry.get("asked", {})
        paths = tuple(path for each in asked.get("include", ()) if (path := Path(each)).exists())
        for name, _ in entry["cells"]:
            found.setdefault(name, OwnPlugins(paths, bool(asked.get("override"))))
    return found


def _unbegun(name: str, waits: Job | None, note: str = "") -> Standing:
    if waits is not None:
        return Standing(name, "queued", f"Slurm: {waits.in_words}")
    return Standing(name, "pending", note)


def _standing(
    run: RunFolder, jobs: Mapping[str, Job] | None, waits: Job | None, plugins: OwnPlugins
) -> Standing:
    try:
        damage = run.damage()
        if not damage:
            return _whole(run, jobs, waits, plugins)
    except BadData as error:  # of a run at work, or one that the system does not let be read
        damage = str(error)
    return Standing(run.path.name, "damaged", damage)


def _whole(
    run: RunFolder, jobs: Mapping[str, Job] | None, waits: Job | None, plugins: OwnPlugins
) -> Standing:
    name, status = run.path.name, run.status()
    if status["state"] == "running":
        if jobs is not None and "job" in status and status["job"] not in jobs:
            return _unbegun(name, waits, f"its Slurm job {status['job']} is gone; it begins again")
        return Standing(name, "running", _work_in_words(run, status))
    if status["state"] == "pending":
        return _unbegun(name, waits, "interrupted" if run.mark() or run.has_spec() else "")
    if status["state"] == "done" and _is_stale(run, plugins):
        return Standing(name, "done", STALE, is_stale=True)
    return Standing(name, status["state"], reason_of(status))


def _work_in_words(run: RunFolder, mark: Mapping[str, Any]) -> str:
    """Say where a run is at work, since when, how far it is and how long it takes yet."""
    job = f" (Slurm job {mark['job']})" if "job" in mark else ""
    started = datetime.fromisoformat(mark["started"])
    elapsed = datetime.now(UTC) - started
    said = [
        f"{mark['host']}, process {mark['pid']}{job}",
        f"since {started.astimezone():%H:%M} ({_duration(elapsed)})",
    ]
    n_done = mark.get("epochs", 0)
    if n_done and run.has_spec():
        n_epochs = run.spec()["recipe"]["epochs"]
        said.append(f"epoch {n_done} of {n_epochs}")
        said.append(f"at most {_duration(elapsed / n_done * max(0, n_epochs - n_done))} left")
    return ", ".join(said)


def _duration(time_: timedelta) -> str:
    seconds = max(0, round(time_.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _is_stale(run: RunFolder, plugins: OwnPlugins) -> bool:
    """Say whether the code that a run was made with is no longer there.

    A run of a plugin that is not found any more is left as it is.
    """
    spec = run.spec()
    try:
        registry = registry_of([str(path) for path in plugins.paths], plugins.override)
        found = [registry.find("method", spec["method"]), registry.find("dataset", spec["dataset"])]
        now = code_of_run([each.code for each in found])
    except BenchError:
        return False
    return bool(now != spec["sources"])


def staleness(study: StudyFolder) -> list[str]:
    """Say in a line how many finished runs other code made than is there; nothing if none."""
    done = [each for each in standings(study) if each.state == "done"]
    n_stale = sum(each.is_stale for each in done)
    made = f"{n_stale} of {counted(len(done), 'finished run')}"
    said = f"note: code that has changed since made {made}; `bench status` names them"
    return [said] if n_stale else []


def status_lines(found: Sequence[Standing]) -> Iterator[str]:
    """List runs with state and note, and count the states."""
    yield from aligned([(each.name, each.state, each.note) for each in found])
    counts = Counter(each.state for each in found)
    counts["stale"] = sum(each.is_stale for each in found)
    yield ", ".join(f"{n} {state}" for state, n in counts.items() if n) or "no runs"


def watch(study: StudyFolder, seconds: float | None) -> Iterator[str]:
    """Give the whole of `status_lines`, again after so many seconds until no run is open.

    None: once.
    """
    while True:
        found = standings(study)
        yield "\n".join(status_lines(found))
        if seconds is None or not any(each.state in OPEN for each in found):
            return
        time.sleep(seconds)
