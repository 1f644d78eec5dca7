"""The trials of one search, shared by processes: who works at what, who died, what comes next.

Optuna samples, prunes and stores; this file decides who may ask. One lock per search, which the
system takes back from a dead process, is held while a trial is handed out, so that no more trials
are at work than are wanted and none is lost. A trial at work names its process; when that process
is gone, the trial is marked failed and its parameters are asked again.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadRequest
from bench.files import damaged
from bench.liveness import birth, is_alive
from bench.search.journal import FileLock, open_journal
from bench.search.law import Budget, Law
from bench.search.space import quiet_optuna
from bench.store import RunFolder, StudyFolder
from bench.store.claims import SILENCE_SECONDS

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

MAX_DEATHS = 3  # of processes at one trial, after which its parameters are not asked again
JOURNAL = "journal"
SEARCHES = "searches"  # folder of a study
# of a search beside its trials
NOTED = (
    "at cells context dataset fixed fixed_recipe fold law name optuna protocol row scope storage"
)


def shown_storage(storage: str) -> str:
    """Return the address of a storage without its password."""
    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", storage)


def record_of(study: StudyFolder, name: str) -> dict[str, Any]:
    """Read what is noted of a search.

    Raises:
        Damaged: it is not as it was written, or no such note; names the file.
    """
    record = study.read_json(f"{SEARCHES}/{name}.json")
    lacking = sorted(set(NOTED.split()) - set(record))
    foreign = [] if lacking else sorted(set(record["law"]) - set(Law().to_json()))
    if lacking or foreign:
        path = study.path / SEARCHES / f"{name}.json"
        what = f"it lacks {', '.join(lacking)}" if lacking else f"unknown {', '.join(foreign)}"
        raise damaged(path, what, "delete it, and ask `bench tune` again")
    return record


# --- trials -----------------------------------------------------------------------------------


def is_killed(trial: FrozenTrial) -> bool:
    """Tell whether a trial ended with its process, so that another one has its place."""
    return bool(trial.user_attrs.get("killed"))


def seconds_of(trial: FrozenTrial) -> float:
    """Return how long a trial has taken, up to now if it is at work."""
    if "seconds" in trial.user_attrs:
        return float(trial.user_attrs["seconds"])
    if trial.datetime_start is None:
        return 0.0
    end = trial.datetime_complete or datetime.now()
    return (end - trial.datetime_start).total_seconds()


@dataclass(frozen=True)
class Claim:
    """A trial that this process works at, or why there is none."""

    trial: optuna.Trial | None
    prepared: Any = None  # what `prepare` made of it
    is_over: bool = False  # the budget is spent and nobody is at work; else: wait for the others


@dataclass(frozen=True, eq=False)
class Ledger:
    """The trials of one search."""

    name: str
    folder: Path  # where the journal and the lock lie
    runs: Path  # where the trials' run folders lie
    law: Law
    storage_url: str = JOURNAL

    @property
    def journal(self) -> Path:
        """The file of its trials, if they are in no database."""
        return self.folder / f"{self.name}.journal"

    @cached_property
    def storage(self) -> optuna.storages.BaseStorage:
        """Open the journal, or the database of the address.

        Raises:
            BadRequest: the database cannot be reached.
            Damaged: the journal cannot be read as it was written.
        """
        import optuna

        if self.storage_url == JOURNAL:
            return open_journal(self.journal)
        try:
            with quiet_optuna():
                return optuna.storages.get_storage(self.storage_url)
        except Exception as error:  # SQLAlchemy and its drivers raise what they like
            said = " ".join(str(error).split())[:200]
            raise BadRequest(
                f"--storage {shown_storage(self.storage_url)!r} cannot be opened: "
                f"{shown_storage(said)}; name a database, or leave it out for a file"
            ) from None

    @cached_property
    def study(self) -> optuna.Study:
        """Open the study, or make it."""
        import optuna

        laws: Any = {"sampler": self.law.make_sampler(0), "pruner": self.law.make_pruner()}
        where: Any = {"storage": self.storage, "study_name": self.name}
        with quiet_optuna():
            try:
                return optuna.load_study(**where, **laws)
            except KeyError:
                make = partial(optuna.create_study, direction="maximize", load_if_exists=True)
                return make(**where, **laws)

    @cached_property
    def lock(self) -> FileLock:
        """The lock of this search."""
        return FileLock(self.folder / f"{self.name}.lock")

    def trials(self) -> Sequence[FrozenTrial]:
        """Return all trials, as they are."""
        if self.storage_url == JOURNAL and not self.journal.exists():
            return []  # which reading does not change
        return self.study.get_trials(deepcopy=False)

    def finished(self) -> list[FrozenTrial]:
        """Return the trials that are over and keep their place."""
        return [each for each in self.trials() if each.state.is_finished() and not is_killed(each)]

    def claim(
        self,
        budget: Budget,
        default: Mapping[str, Any],
        prepare: Callable[[optuna.Trial, bool], Any],
    ) -> Claim:
        """Hand out the next trial: the default first, then those of the dead, then new ones.

        Args:
            budget: of the whole search.
            default: parameters of the default; empty if it lies outside the space.
            prepare: asks the trial for its parameters while nobody else may; takes whether it is
                the default. It must not raise.
        """
        with self.lock.held(), quiet_optuna():
            self._bury(counts=True)
            trials = [each for each in self.trials() if not is_killed(each)]
            over = [each for each in trials if each.state.is_finished()]
            at_work = [each for each in trials if each.state.name == "RUNNING"]
            seconds = sum(seconds_of(each) for each in [*over, *at_work])
            if budget.is_spent(len(over) + len(at_work), seconds):
                return Claim(None, is_over=not at_work)
            if not trials:
                attributes = {"place": 0, "default": True}
                self.study.enqueue_trial(dict(default), user_attrs=attributes)
            taken = {each.user_attrs.get("place") for each in trials}
            trial = self._ask(next(place for place in count() if place not in taken))
            return Claim(trial, prepare(trial, bool(trial.user_attrs.get("default"))))

    def _ask(self, place: int) -> optuna.Trial:
        from optuna.trial import TrialState

        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if waiting:
            place = waiting[0].user_attrs.get("place", place)
        self.study.sampler = self.law.make_sampler(place)
        trial = self.study.ask()
        trial.set_user_attr("place", place)
        trial.set_user_attr("worker", _worker())
        return trial

    def release(self) -> None:
        """Have the trials of processes that were interrupted asked again, as often as it takes."""
        with self.lock.held(), quiet_optuna():
            self._bury(counts=False)

    def end_dead(self, reason: str) -> list[FrozenTrial]:
        """Fail the trials of processes that were ended for a reason; they are not asked again."""
        from optuna.trial import TrialState

        with self.lock.held(), quiet_optuna():
            at_work = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            dead = [trial for trial in at_work if not self.lives(trial)]
            for trial in dead:
                self.fail(trial.number, reason)
        return dead

    def _bury(self, *, counts: bool) -> None:
        """Mark the trials of dead processes, and have their parameters asked again.

        Args:
            counts: whether a death speaks against the parameters.
        """
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not self.lives(trial):
                self._give_up(trial, counts=counts)

    def lives(self, trial: FrozenTrial) -> bool:
        """Tell whether the process that has a trial at work is alive."""
        worker = trial.user_attrs.get("worker")
        if worker is None:  # asked for under the lock by a process that no longer holds it
            return False
        if not is_alive(worker["pid"], worker["host"], worker["born"]):
            return False
        if worker["host"] == socket.gethostname():
            return True
        beats = [worker["started"], *self._beats(trial)]
        newest = max(datetime.fromisoformat(beat) for beat in beats)
        return (datetime.now(UTC) - newest).total_seconds() < SILENCE_SECONDS

    def _beats(self, trial: FrozenTrial) -> Iterator[str]:
        """Yield when the runs of a trial were last heard of."""
        for name in trial.user_attrs.get("runs", []):
            status = RunFolder(self.runs / name).status()
            yield from (status[key] for key in ("beat", "ended") if status.get(key))

    def abandon(self, trial: optuna.Trial) -> None:
        """Give up a trial that is interrupted; another one gets its parameters."""
        with self.lock.held(), quiet_optuna():
            frozen = self.trials()[trial.number]
            if not frozen.state.is_finished():
                self._give_up(frozen, counts=False)

    def _give_up(self, trial: FrozenTrial, *, counts: bool) -> None:
        attributes = dict(trial.user_attrs)
        n_deaths = attributes.get("deaths", 0) + counts
        worker = attributes.get("worker", {"pid": "?", "host": "?"})
        reason = f"its process {worker['pid']} on {worker['host']} ended"
        self.note(trial.number, deaths=n_deaths)
        if n_deaths >= MAX_DEATHS:
            self.fail(trial.number, f"{reason}, the {n_deaths}. time; not asked again")
            return
        carried = ("place", "default")
        kept: dict[str, Any] = {key: attributes[key] for key in carried if key in attributes}
        kept |= {"deaths": n_deaths, "again": trial.number}
        if not any(each.user_attrs.get("again") == trial.number for each in self.trials()):
            self.study.enqueue_trial(dict(trial.params), user_attrs=kept)
        self.note(trial.number, killed=True)  # after it is asked again: this process can die too
        self.fail(trial.number, f"{reason}; asked again")

    def note(self, number: int, **attributes: Any) -> None:
        """Write attributes of a trial."""
        study_id = self.storage.get_study_id_from_name(self.name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(trial_id, key, value)

    def fail(self, number: int, reason: str) -> None:
        """End a trial without a value, for a reason."""
        from optuna.trial import TrialState

        self.note(number, reason=reason)
        with contextlib.suppress(ValueError):  # its own process was faster
            self.study.tell(number, state=TrialState.FAIL)


def _worker() -> dict[str, Any]:
    """Name this process, as the run store does."""
    pid = os.getpid()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "pid": pid, "born": birth(pid), "started": started}
