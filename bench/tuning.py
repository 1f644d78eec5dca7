"""`bench tune`: search a method's settings on validation alone, the same budget for every method.

A search is one method on one dataset and protocol, inside one fold: it sees that fold's training
and validation part, and what it finds serves that fold only. A trial is one run per repeat of the
fold in the study's run store, without any test condition; its value is the mean of their validation
scores. Processes share a search through its ledger.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.attendance import noted
from bench.cell import Cell, run_cell
from bench.coordination import context_of
from bench.errors import BadData, BadRequest, BenchError, GivenUp
from bench.executor import TIMED_OUT, Executor, Outcome, Task, value_of
from bench.ledger import JOURNAL, SEARCHES, Ledger, seconds_of, shown_storage
from bench.registry import registry_of
from bench.request import Request, numbers
from bench.search_law import Budget, Law
from bench.search_space import Configuration, Space, quiet_optuna
from bench.session import PLAIN, Manner, check_executor, check_jobs, open_executor
from bench.spec import RunSpec, digest
from bench.store import RunFolder, StudyFolder

if TYPE_CHECKING:
    import optuna

Scope = Literal["fold", "split", "shared"]
POLL_SECONDS = 0.2
Report = Callable[[float], None]
Watch = Callable[[Mapping[str, Any]], None]


class Pruned(GivenUp):
    """A run that a search stopped, since others were better at the same epoch."""


@dataclass(frozen=True)
class Search:
    """What one search is: all that decides its trials, and where it lies."""

    row: str  # the method as tables print it
    dataset: str
    protocol: str
    scope: Scope
    fold: int | None  # None: over all folds
    cells: tuple[Cell, ...]  # of the default, one per repeat and training setting
    fixed: Mapping[str, Any]  # settings of the method that the user gave
    fixed_recipe: Mapping[str, Any]
    law: Law
    study: StudyFolder
    context: Mapping[str, Any]  # what a run needs beside its specification
    storage: str = JOURNAL
    stored_as: str = ""  # the name that it was stored under, which an edit since may not give
    stored_optuna: str = ""  # the version that it was stored with

    @cached_property
    def name(self) -> str:
        """Its name in the store: what it searches, and a hash of all that decides its trials."""
        if self.stored_as:
            return self.stored_as
        where = f"f{self.fold}" if self.fold is not None else "all"
        stem = f"{self.row}-{self.dataset}-{self.protocol}-{where}".replace(":", "+")
        what = {
            "cells": [cell.spec.model_dump(mode="json") for cell in self.cells],
            "fixed": [dict(self.fixed), dict(self.fixed_recipe)],
            "law": self.law.to_json(),
        }
        return f"{stem}-{digest(what)[:12]}"

    @property
    def optuna(self) -> str:
        """The version of Optuna that it was carried out with."""
        import optuna

        return self.stored_optuna or str(optuna.__version__)

    @property
    def folder(self) -> Path:
        """Where its record, its journal and its lock lie."""
        return self.study.path / SEARCHES

    @cached_property
    def ledger(self) -> Ledger:
        """Its trials."""
        return Ledger(self.name, self.folder, self.study.runs_path, self.law, self.storage)

    @cached_property
    def space(self) -> Space:
        """What it varies; imports the method."""
        from bench.method import Method

        registry = registry_of(self.context["include"], self.context["override"])
        spec = self.cells[0].spec
        plugin = registry.load("method", spec.method)
        default = Configuration(spec.method_config, spec.recipe)
        is_trained = issubclass(plugin, Method)
        return Space(plugin, default, self.fixed, self.fixed_recipe, is_trained)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes; the address of a storage is handed over beside it."""
        return {
            "row": self.row,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "scope": self.scope,
            "fold": self.fold,
            "cells": [cell.to_json() for cell in self.cells],
            "fixed": dict(self.fixed),
            "fixed_recipe": dict(self.fixed_recipe),
            "law": self.law.to_json(),
            "context": dict(self.context),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], study: StudyFolder, storage: str) -> Search:
        """Rebuild a search that was stored or that crossed a process border."""
        names = ("row", "dataset", "protocol", "scope", "fold", "fixed", "fixed_recipe", "context")
        kept: dict[str, Any] = {key: value[key] for key in names}
        cells = tuple(Cell.from_json(cell) for cell in value["cells"])
        return cls(**kept, cells=cells, law=Law(**value["law"]), study=study, storage=storage)

    def write_record(self, budget: Budget) -> None:
        """Write down what was searched, how, and with which budget: the proof beside the trials."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {
            **self.to_json(),
            "name": self.name,
            "storage": shown_storage(self.storage),
            "budget": {"trials": budget.n_trials, "seconds": budget.seconds},
            "optuna": self.optuna,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.study.write_json(f"{SEARCHES}/{self.name}.json", record)


# --- one trial --------------------------------------------------------------------------------


def work(payload: Mapping[str, Any], report: Report) -> None:
    """Carry out trials of a search until its budget is spent; what a worker process does.

    Args:
        payload: a search, its budget, and whether to wait for trials that others are at.
        report: takes the share of the budget that is spent, at the beginning of each run and while
            others are waited for.
    """
    study = StudyFolder(Path(payload["out"]), payload["study"])
    search = Search.from_json(payload["search"], study, payload["storage"])
    budget = Budget(**payload["budget"])
    default = search.space.default_params()
    prepare = partial(_prepare, search.space, default is not None)

    def tell() -> None:
        n_finished = len(search.ledger.finished())
        report(min(1.0, n_finished / budget.n_trials) if budget.n_trials else 0.0)

    while not (claim := search.ledger.claim(budget, default or {}, prepare)).is_over:
        if claim.trial is not None:
            _Attempt(search, claim.trial, claim.prepared, tell).carry_out()
            tell()
        elif payload["waits"]:
            tell()
            time.sleep(POLL_SECONDS)
        else:
            return


def _prepare(
    space: Space, knows_default: bool, trial: optuna.Trial, is_default: bool
) -> Configuration | Exception:
    """Ask a trial for its configuration; what goes wrong is the result of the trial."""
    try:
        if is_default and not knows_default:
            return space.default
        return space.suggest(trial)
    except Exception as error:
        return error


@dataclass(frozen=True, eq=False)
class _Attempt:
    """One trial at work."""

    search: Search
    trial: optuna.Trial
    prepared: Configuration | Exception
    tell: Callable[[], None]  # that another run begins

    def carry_out(self) -> None:
        """Train the trial's repeats and tell how it went; a fault of the trial is its result.

        Raises:
            BadData: the data cannot be read, which would fail every trial alike.
        """
        started = time.monotonic()
        ledger = self.search.ledger
        with quiet_optuna():
            try:
                state, value, reason = self._outcome()
            except BaseException:
                ledger.abandon(self.trial)
                raise
            ledger.note(self.trial.number, seconds=round(time.monotonic() - started, 3))
            if reason:
                ledger.note(self.trial.number, reason=reason)
            ledger.study.tell(self.trial, value, state=state, skip_if_finished=True)

    def _outcome(self) -> tuple[optuna.trial.TrialState, float | None, str]:
        """Return state, value and reason."""
        from optuna.trial import TrialState

        try:
            return TrialState.COMPLETE, self._value(), ""
        except Pruned as error:
            return TrialState.PRUNED, None, str(error)
        except BadData:
            raise
        except BenchError as error:
            return TrialState.FAIL, None, str(error)
        except Exception as error:  # a method that breaks under some settings is such a result
            return TrialState.FAIL, None, f"{type(error).__name__}: {error}"

    def _value(self) -> float:
        """Train the repeats in order; return the mean of their validation scores."""
        if isinstance(self.prepared, Exception):
            raise self.prepared
        cells = [with_configuration(cell, self.prepared) for cell in self.search.cells]
        self.trial.set_user_attr("runs", [cell.spec.folder for cell in cells])
        scores: list[float] = []
        for i, cell in enumerate(cells):
            scores.append(self._score(cell, self._watch() if i == 0 else _ignore))
            self.trial.set_user_attr("scores", scores)
        return sum(scores) / len(scores)

    def _score(self, cell: Cell, watch: Watch) -> float:
        """Train one repeat, or find it in the store; return its validation score."""
        folder = self.search.study.run(cell.spec)
        payload = {"cell": cell.to_json(), "path": str(folder.path), **self.search.context}
        _await_others(folder, self.tell)
        self.tell()
        if folder.state == "done":
            for row in folder.history():
                watch(row)
        else:
            run_cell(payload, _silent, watch)
        status = folder.status()
        score = status.get("valid_score")
        if score is None:
            raise BenchError(f"no validation score: {status.get('valid_is', 'not recorded')}")
        return float(score)

    def _watch(self) -> Watch:
        """Report the epochs that validate the whole method, and stop where the pruner says so."""
        n_reported = 0

        def watch(row: Mapping[str, Any]) -> None:
            nonlocal n_reported
            if row.get("valid") is None or row.get("subset") is not None:
                return
            self.trial.report(row["valid"], n_reported)
            n_reported += 1
            if self.trial.should_prune():
                raise Pruned(f"pruned at epoch {row['epoch']}: others were better by then")

        return watch


def _ignore(row: Mapping[str, Any]) -> None:
    """Take no notice of an epoch."""


def with_configuration(cell: Cell, configuration: Configuration) -> Cell:
    """Return a cell with other settings and without test conditions."""
    changes = {
        "method_config": dict(configuration.method_config),
        "recipe": configuration.recipe,
    }
    return replace(cell, spec=cell.spec.model_copy(update=changes), conditions=())


def _silent(share: float) -> None:
    """Take no notice of a share."""


def _await_others(folder: RunFolder, tell: Callable[[], None]) -> None:
    """Wait while another trial of the same settings is at work on the same run."""
    while (status := folder.status())["state"] == "running" and status["pid"] != os.getpid():
        tell()
        time.sleep(POLL_SECONDS)


# --- all searches of a request ----------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """A method that cannot take a dataset, and why."""

    row: str
    dataset: str
    protocol: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """How searches are made of a request."""

    law: Law
    budget: Budget
    shared: bool = False  # one search over all folds
    tune_folds: str = ""  # 0-1 or 0,2; empty: all
    storage: str = JOURNAL

    def searches(self, request: Request) -> Iterator[Search | Refused]:
        """Yield the searches, method by method.

        Raises:
            BenchError: the request cannot be planned, or a fold that is not there.
        """
        from bench.planning import plan

        study = StudyFolder(Path(request.out), request.study)
        for row, dataset, protocol in product(request.methods, request.datasets, request.protocols):
            asked = request.alone(row, dataset, protocol)
            cells = plan(asked).cells
            reason = next((cell.reason for cell in cells if cell.reason), "")
            if reason:
                yield Refused(cells[0].spec.row, dataset, protocol, reason)
                continue
            for scope, fold, chosen in self._parts(cells):
                yield self._search(asked, study, scope, fold, chosen)

    def _parts(self, cells: Sequence[Cell]) -> Iterator[tuple[Scope, int | None, tuple[Cell, ...]]]:
        """Yield the cells of each search."""
        folds = list(dict.fromkeys(cell.spec.fold for cell in cells))
        if self.tune_folds:
            wanted = numbers(self.tune_folds, "--tune-folds")
            for fold in wanted:
                if fold not in folds:
                    raise BadRequest(
                        f"--tune-folds asks for fold {fold}, but the request has the folds "
                        f"{', '.join(map(str, folds))}"
                    )
            folds = list(wanted)
        chosen = tuple(cell for cell in cells if cell.spec.fold in folds)
        if cells[0].spec.n_folds == 1:
            yield "split", None, chosen
        elif self.shared:
            yield "shared", None, chosen
        else:
            for fold in folds:
                yield "fold", fold, tuple(cell for cell in chosen if cell.spec.fold == fold)

    def _search(
        self,
        request: Request,
        study: StudyFolder,
        scope: Scope,
        fold: int | None,
        cells: tuple[Cell, ...],
    ) -> Search:
        spec = cells[0].spec
        (dataset,), (protocol,) = request.datasets, request.protocols
        own = request.settings.get(spec.method, {})
        shared = request.settings.get("recipe", {})
        return Search(
            row=spec.row,
            dataset=dataset,
            protocol=protocol,
            scope=scope,
            fold=fold,
            cells=tuple(replace(cell, conditions=()) for cell in cells),
            fixed={key: spec.method_config[key] for key in own},
            fixed_recipe={key: shared[key] for key in ("lr", "weight_decay") if key in shared},
            law=replace(self.law, warmup=spec.recipe.warmup_epochs),
            study=study,
            context=context_of(request),
            storage=self.storage,
        )


def carry_out(searches: Sequence[Search], budget: Budget, executor: Executor, n_slots: int) -> None:
    """Carry out searches until each has spent its budget, whoever dies meanwhile.

    Raises:
        BenchError: a search cannot go on.
        RuntimeError: a fault of ours; its trace is in the text.
    """
    tasks = [
        _task(search, budget, slot, waits=n_slots == 1)
        for search in searches
        if not is_over(search, budget)
        for slot in range(n_slots)
    ]
    while tasks:
        n_begun = _n_begun(searches)
        died = [each for each in map(_told(searches), executor.run(tasks, fail_fast=False)) if each]
        tasks = [
            _task(each, budget, 0, waits=True) for each in searches if not is_over(each, budget)
        ]
        if tasks and died and _n_begun(searches) == n_begun:
            raise BenchError(f"no trial could be begun: {died[0]}")


def _told(searches: Sequence[Search]) -> Callable[[Outcome], str]:
    """Make what takes how a task ended, and returns why its worker died; empty: it did not."""
    by_name = {search.name: search for search in searches}

    def told(outcome: Outcome) -> str:
        if not outcome.unmarked:
            value_of(outcome)
        if outcome.fault == TIMED_OUT:
            _end_late(by_name[outcome.name.rpartition("#")[0]], outcome.error)
        return outcome.error

    return told


def _end_late(search: Search, reason: str) -> None:
    """Write down that a trial and its run took too long, which their process no longer can."""
    for trial in search.ledger.end_dead(reason):
        for name in trial.user_attrs.get("runs", []):
            folder = search.study.run_named(name)
            if folder.has_spec() and folder.state != "done":
                folder.begin(RunSpec(**folder.spec()), {})
                folder.fail(reason, "")


def _n_begun(searches: Sequence[Search]) -> int:
    """Count the trials that a process has ever taken."""
    every = (trial.state.name for search in searches for trial in search.ledger.trials())
    return sum(state != "WAITING" for state in every)


def is_over(search: Search, budget: Budget) -> bool:
    """Tell whether a search has spent its budget, as far as its trials are over."""
    over = search.ledger.finished()
    return budget.is_spent(len(over), sum(map(seconds_of, over)))


def _task(search: Search, budget: Budget, slot: int, *, waits: bool) -> Task:
    payload = {
        "search": search.to_json(),
        "out": str(search.study.root),
        "study": search.study.name,
        "storage": search.storage,
        "budget": {"n_trials": budget.n_trials, "seconds": budget.seconds},
        "waits": waits,
    }
    return Task(f"{search.name}#{slot}", "search", payload)


@dataclass(frozen=True)
class Done:
    """The searches of a request, and how many of their trials were finished before it."""

    planned: list[Search | Refused]
    n_found: int


def carry_out_plan(
    request: Request, how: Plan, *, jobs: int, quiet: bool, manner: Manner = PLAIN
) -> Done:
    """Make the searches of a request and carry them out, each until its budget is spent.

    Raises:
        BenchError: a space that is empty or contradicts itself, or a request that cannot be
            carried out; nothing is trained then.
    """
    check_jobs(jobs)
    manner = replace(manner, searches=True)
    check_executor(jobs, manner, request)
    planned = list(how.searches(request))
    searches = [each for each in planned if isinstance(each, Search)]
    for each in searches:
        each.space.check()
    for each in searches:
        each.study.create()
        each.write_record(how.budget)
    n_found = sum(len(each.ledger.finished()) for each in searches)
    if not all(is_over(each, how.budget) for each in searches):
        try:
            study = StudyFolder(Path(request.out), request.study)
            with (
                noted(study),
                open_executor(jobs, quiet=quiet, manner=manner, request=request) as executor,
            ):
                carry_out(searches, how.budget, executor, jobs)
        except KeyboardInterrupt:
            for each in searches:
                each.ledger.release()
            raise
    return Done(planned, n_found)


def overhead(request: Request) -> tuple[float, float]:
    """Time a run and the trial of a search that trains the same, for a benchmark.

    Both are carried out in this process after a run that warms it up, each in a study folder of
    its own below the request's.

    Args:
        request: one method, dataset and fold; its study must not be there.

    Returns:
        Seconds of the run, seconds of the trial from asking for it to telling its value.
    """
    study = StudyFolder(Path(request.out), request.study).create()
    search = next(
        each for each in Plan(Law(), Budget(1)).searches(request) if isinstance(each, Search)
    )
    (cell, *_) = search.cells
    seconds = []
    for name in ("warm", "plain"):
        folder = replace(study, name=f"{study.name}-{name}").create().run(cell.spec)
        payload = {"cell": cell.to_json(), "path": str(folder.path), **search.context}
        started = time.perf_counter()
        run_cell(payload, _silent)
        seconds.append(time.perf_counter() - started)
    search.write_record(Budget(1))
    task = _task(replace(search, cells=(cell,)), Budget(1), 0, waits=True)
    started = time.perf_counter()
    work(task.payload, _silent)
    return seconds[1], time.perf_counter() - started
