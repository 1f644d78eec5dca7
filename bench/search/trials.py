"""The trials of a search, one after the other: what a worker process does for it.

A trial is one run per repeat of the fold in the study's run store, without any test condition; its
value is the mean of their validation scores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadData, BenchError, GivenUp
from bench.runner.cell import Cell, run_cell
from bench.search.law import Budget
from bench.search.search import Search
from bench.search.space import Configuration, Space, quiet_optuna
from bench.store import RunFolder, StudyFolder

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

POLL_SECONDS = 0.2
Report = Callable[[float], None]
Watch = Callable[[Mapping[str, Any]], None]


class Pruned(GivenUp):
    """A run that a search stopped, since others were better at the same epoch."""


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
        _await_others(folder, self.tell)
        self.tell()
        if folder.state == "done" and not folder.damage():
            for row in folder.history():
                watch(row)
        else:
            run_cell(payload_of(self.search, cell), silent, watch)
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


def payload_of(search: Search, cell: Cell) -> dict[str, Any]:
    """Return what `run_cell` takes of a run of a search."""
    path = search.study.run(cell.spec).path
    return {"cell": cell.to_json(), "path": str(path), **search.context}


def damaged_cells(search: Search) -> Iterator[Cell]:
    """Yield the runs of complete trials that have changed since, as they were asked for."""
    for trial in search.ledger.finished():
        names = trial.user_attrs.get("runs", []) if trial.state.name == "COMPLETE" else []
        damaged = [name for name in names if search.study.run_named(name).damage()]
        if damaged:
            configuration = _configuration_of(trial, search.space)
            cells = (with_configuration(cell, configuration) for cell in search.cells)
            yield from (cell for cell in cells if cell.spec.folder in damaged)


def _configuration_of(trial: FrozenTrial, space: Space) -> Configuration:
    from optuna.trial import FixedTrial

    return space.suggest(FixedTrial(trial.params)) if trial.params else space.default


def _ignore(row: Mapping[str, Any]) -> None:
    """Take no notice of an epoch."""


def with_configuration(cell: Cell, configuration: Configuration) -> Cell:
    """Return a cell with other settings and without test conditions."""
    changes = {
        "method_config": dict(configuration.method_config),
        "recipe": configuration.recipe,
    }
    return replace(cell, spec=cell.spec.model_copy(update=changes), conditions=())


def silent(share: float) -> None:
    """Take no notice of a share."""


def _await_others(folder: RunFolder, tell: Callable[[], None]) -> None:
    """Wait while another trial of the same settings is at work on the same run."""
    while (status := folder.status())["state"] == "running" and status["pid"] != os.getpid():
        tell()
        time.sleep(POLL_SECONDS)
