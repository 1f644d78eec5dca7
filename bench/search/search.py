"""What a search is: a method on a dataset and protocol, and all that decides its trials.

It lies inside one fold: it sees that fold's training and validation part, and what it finds serves
that fold only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from bench.files import explained
from bench.registry import registry_of
from bench.runner.cell import Cell
from bench.search.law import Budget, Law
from bench.search.ledger import JOURNAL, SEARCHES, Ledger, shown_storage
from bench.search.space import Configuration, Space
from bench.spec import digest
from bench.store import StudyFolder

Scope = Literal["fold", "split", "shared"]


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
        with explained(self.folder):
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
