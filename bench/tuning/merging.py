"""`bench merge`: the searches of several machines, whose runs lie in one study then.

A search has the same name wherever it is asked for. One that was carried on in one place, so that
all its trials are known in another, is taken once, as far as it went. Two that went different ways
are shown and left: trials depend on those before them, so that one search cannot be made of two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import Damaged
from bench.files import atomic_write, explained, read_bytes
from bench.search.journal import DELETED, trials_in
from bench.search.law import Law
from bench.search.ledger import SEARCHES, Ledger, is_killed, record_of
from bench.store import StudyFolder
from bench.study.merging import CURE, Merged

Ended = tuple[str, Mapping[str, Any], float | None]  # state, parameters, value


@dataclass(frozen=True, eq=False)
class _Held:
    """A search as one study holds it."""

    study: StudyFolder
    record: Mapping[str, Any]
    trials: Mapping[int, Ended]  # place -> how it ended; none of those in a database

    @property
    def path(self) -> Path:
        """Where its record lies."""
        return self.study.path / SEARCHES / f"{self.record['name']}.json"

    @property
    def ledger(self) -> Ledger:
        """What keeps its trials."""
        law, folder = Law(**self.record["law"]), self.path.parent
        return Ledger(self.record["name"], folder, self.study.runs_path, law)


def merge_searches(sources: Sequence[StudyFolder], into: StudyFolder) -> list[Merged]:
    """Copy the searches of several studies into one; what is there already counts as a source.

    Raises:
        BadRequest: the folder cannot be written.
    """
    studies = [into, *sources]
    names = {path.stem for each in studies for path in (each.path / SEARCHES).glob("*.json")}
    return [_merge(name, studies, into) for name in sorted(names)]


def _merge(name: str, studies: Sequence[StudyFolder], into: StudyFolder) -> Merged:
    held, damaged = [], []
    for study in studies:
        if study.has(f"{SEARCHES}/{name}.json"):
            try:
                held.append(_held(study, name))
            except Damaged as error:
                damaged.append(str(error))
    kept: dict[str, Any] = {"kind": "search", "damaged": tuple(damaged)}
    if not held:
        return Merged(name, None, **kept)
    best = max(held, key=lambda each: len(each.trials))  # the first of equal ones, so that of into
    others = [each for each in held if each is not best]
    conflict = next(filter(None, (_conflict(each, best) for each in others)), "")
    if not conflict and best.study is not into:
        conflict = _take(best, into)
    if conflict:
        return Merged(name, None, conflict=conflict, **kept)
    return Merged(name, best.path, n_same=len(others), **kept)


def _held(study: StudyFolder, name: str) -> _Held:
    """Read a search, without changing a file of its study.

    Raises:
        Damaged: its record or its journal is.
    """
    record = record_of(study, name)
    trials = trials_in(study.path / SEARCHES / f"{name}.journal", name)
    return _Held(
        study,
        record,
        {
            each.user_attrs["place"]: (each.state.name, each.params, each.value)
            for each in trials
            if each.state.is_finished() and not is_killed(each)
        },
    )


def _conflict(one: _Held, longer: _Held) -> str:
    """Say how two searches of one name contradict each other; empty: one goes on with the other."""
    places = {one.record["storage"], longer.record["storage"]}
    if len(places) > 1:
        return f"its trials are in {' and in '.join(sorted(places))}; {CURE}"
    for place, ended in one.trials.items():
        if longer.trials.get(place) != ended:
            return f"trial {place} differs between {one.path} and {longer.path}; {CURE}"
    return ""


def _take(best: _Held, into: StudyFolder) -> str:
    """Copy a search over one that went less far; say why if a process is at work on that."""
    source, target = best.ledger, _Held(into, best.record, {}).ledger
    with explained(target.folder):
        target.folder.mkdir(parents=True, exist_ok=True)
    with target.lock.held():
        if _is_at_work(target):
            return f"a process is at work on it in {into.path}; merge again when it has ended"
        if source.journal.is_file():  # not if the trials are in a database
            rows = read_bytes(source.journal, DELETED)
            whole = rows[: rows.rfind(b"\n") + 1]  # the last may be being written
            atomic_write(target.journal, whole, lasting=True)
        into.write_json(f"{SEARCHES}/{target.name}.json", best.record)
    return ""


def _is_at_work(ledger: Ledger) -> bool:
    try:
        trials = trials_in(ledger.journal, ledger.name)
    except Damaged:  # nobody can go on with it
        return False
    return any(each.state.name == "RUNNING" and ledger.lives(each) for each in trials)
