"""`bench merge`: put the runs of several machines into one study; what contradicts is shown."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.errors import BadData, BadRequest
from bench.store import RunFolder, StudyFolder
from bench.wording import counted

CURE = "delete the wrong one and merge again"
RANKS = ("done", "skipped", "failed")  # the best attempt of a run is taken; others are left


@dataclass(frozen=True)
class Merged:
    """What came of one run or search by its name: from where it was taken, or why it was not."""

    name: str
    taken: Path | None
    n_same: int = 0  # further ones with the same predictions or trials
    conflict: str = ""  # with what to do
    damaged: tuple[str, ...] = ()  # those that were left, with the reason
    kind: Literal["run", "search"] = "run"


def merge(sources: Sequence[StudyFolder], into: StudyFolder) -> list[Merged]:
    """Copy the runs of several studies into one; what is there already counts as a source.

    A run that is finished in several is taken once if the predictions of the conditions that they
    share are equal; further conditions are added. If they differ, none is taken.

    Raises:
        BadRequest: a study is not there, or the folder cannot be written.
        BadData: a study's own file is damaged.
    """
    _check(sources, into)
    runs: dict[str, list[RunFolder]] = {}
    for source in [*([into] if into.exists() else []), *sources]:
        for run in source.runs():
            runs.setdefault(run.path.name, []).append(run)
    into.create()
    _merge_requests(sources, into)
    return [_merge_run(name, attempts, into) for name, attempts in sorted(runs.items())]


def _check(sources: Sequence[StudyFolder], into: StudyFolder) -> None:
    for source in sources:
        if source.path.resolve() == into.path.resolve():
            raise BadRequest(f"{source.name} cannot be merged into itself; name another --into")
        source.runs()  # says so if it is not there


def _merge_run(name: str, attempts: Sequence[RunFolder], into: StudyFolder) -> Merged:
    found = {run.path: run.damage() for run in attempts}
    damaged = tuple(f"{path}: {damage}" for path, damage in found.items() if damage)
    whole = [run for run in attempts if not found[run.path]]
    of_rank = {state: [run for run in whole if run.state == state] for state in RANKS}
    done = of_rank["done"]
    conflict = next(filter(None, (_conflict(done[0], other) for other in done[1:])), "")
    if conflict:
        return Merged(name, None, conflict=conflict, damaged=damaged)
    best = next((runs[0] for runs in of_rank.values() if runs), None)
    if best is None:
        return Merged(name, None, damaged=damaged)
    target = into.run_named(name)
    if best.path != target.path:
        _copy(best.path, target.path)
    for other in done[1:]:
        _add(target, other)
    return Merged(name, best.path, n_same=max(0, len(done) - 1), damaged=damaged)


def _conflict(one: RunFolder, other: RunFolder) -> str:
    """Say how two finished runs of one identity contradict each other; empty if they do not."""
    ours, theirs = one.predictions(), other.predictions()
    shared = sorted(set(ours["condition"]) & set(theirs["condition"]))
    for condition in shared:
        left, right = (
            frame[frame["condition"] == condition].drop(columns="condition").set_index("case")
            for frame in (ours, theirs)
        )
        if not left.sort_index().equals(right.sort_index()):
            return (
                f"predictions of condition {condition!r} differ between {one.path} and "
                f"{other.path}; {CURE}"
            )
    return ""


def _copy(source: Path, target: Path) -> None:
    """Copy a run folder, whole or not at all, over an attempt that is not done."""
    temporary = target.parents[1] / f".{target.name}.{os.getpid()}.tmp"  # beside the runs
    try:
        shutil.copytree(source, temporary, ignore=shutil.ignore_patterns("running.json", ".*"))
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except OSError as error:
        raise BadRequest(
            f"cannot copy {str(source)!r} to {str(target)!r}: "
            f"{(error.strerror or str(error)).lower()}; make room and rights there"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _add(target: RunFolder, other: RunFolder) -> None:
    """Add the conditions that another finished attempt of the same run has more."""
    status, there = other.status(), set(target.status()["conditions"])
    new = [name for name in status["conditions"] if name not in there]
    if not new:
        return
    predictions, availability = other.predictions(), other.availability()
    with target.held():
        target.add_availability(availability[availability["condition"].isin(new)])
        target.add_predictions(
            predictions[predictions["condition"].isin(new)],
            {name: status["long_names"][name] for name in new},
            {name: gaps for name, gaps in status["condition_gaps"].items() if name in new},
        )


def _merge_requests(sources: Sequence[StudyFolder], into: StudyFolder) -> None:
    """Put the requests together, and what lies beside them, as the leak scans."""
    known: dict[str, Any] = {"requests": {}}
    for source in [*sources, into]:
        if source.has("study.json"):
            known["requests"] |= source.read_json("study.json")["requests"]
    into.write_json("study.json", known)
    for source in sources:
        for path in source.path.glob("*.json"):
            if not into.has(path.name):
                try:
                    into.write_json(path.name, source.read_json(path.name))
                except BadData:  # it can be made again
                    continue


def merged_lines(merged: Sequence[Merged], into: StudyFolder) -> Iterator[str]:
    """Say what was taken, what was found twice, what was damaged, and each conflict."""
    for each in merged:
        yield from (f"damaged and left: {damage}" for damage in each.damaged)
        if each.conflict:
            yield f"conflict: {each.name}: {each.conflict}"
    yield _counts([each for each in merged if each.kind == "run"], "run", into)
    if searches := [each for each in merged if each.kind == "search"]:
        yield _counts(searches, "search", into)


def _counts(merged: Sequence[Merged], kind: str, into: StudyFolder) -> str:
    n_taken = sum(each.taken is not None for each in merged)
    n_same = sum(each.n_same > 0 for each in merged)
    n_conflicts = sum(bool(each.conflict) for each in merged)
    n_open = len(merged) - n_taken - n_conflicts
    left = "unfinished" if kind == "run" else "damaged"
    return (
        f"{into.path}: {counted(n_taken, kind)}; {n_same} found several times and equal, "
        f"{n_conflicts} in conflict, {n_open} {left} and left"
    )
