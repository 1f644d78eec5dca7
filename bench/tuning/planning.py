"""Which searches a request asks for: one per method, dataset, protocol and fold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from bench.errors import BadRequest
from bench.request import Request, numbers
from bench.runner.cell import Cell
from bench.search.law import Budget, Law
from bench.search.ledger import JOURNAL
from bench.search.search import Scope, Search
from bench.store import StudyFolder
from bench.study.coordination import context_of


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
        from bench.study.planning import plan

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
