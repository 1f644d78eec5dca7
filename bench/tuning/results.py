"""What a search found: its trials, its best and its default, as plain numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.errors import BadData, BadRequest
from bench.search.ledger import JOURNAL, SEARCHES, is_killed, record_of, seconds_of
from bench.search.search import Search
from bench.store import StudyFolder

if TYPE_CHECKING:
    import pandas as pd
    from optuna.trial import FrozenTrial

PERCENT = 100.0


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The trials of a search that keep their place, in order; those of dead processes apart."""

    search: Search
    trials: tuple[FrozenTrial, ...]  # finished
    n_killed: int  # whose parameters were asked again

    @classmethod
    def of(cls, search: Search) -> SearchResult:
        """Read a search."""
        every = search.ledger.trials()
        return cls(search, tuple(search.ledger.finished()), sum(map(is_killed, every)))

    @property
    def label(self) -> str:
        """The row of a table: the method, and the fold if there are several."""
        fold = self.search.fold
        return self.search.row if fold is None else f"{self.search.row}, fold {fold}"

    @cached_property
    def complete(self) -> list[FrozenTrial]:
        """The trials that have a value."""
        return [each for each in self.trials if each.state.name == "COMPLETE"]

    @cached_property
    def counts(self) -> Counter[str]:
        """By state, the number of trials."""
        return Counter(each.state.name for each in self.trials)

    @property
    def seconds(self) -> float:
        """The time of all trials together."""
        return sum(map(seconds_of, self.trials))

    @cached_property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest value, the first of equal ones."""
        return max(self.complete, key=lambda each: (each.value, -each.number), default=None)

    @cached_property
    def default(self) -> FrozenTrial | None:
        """The trial with the default settings, if it is complete."""
        return next((each for each in self.complete if each.user_attrs.get("default")), None)

    @cached_property
    def factor(self) -> float:
        """From a value to what is printed: an AUC in percent; a loss, below 0, stays."""
        return PERCENT if all((each.value or 0.0) >= 0 for each in self.complete) else 1.0

    @property
    def gain(self) -> float | None:
        """How far the default is from the best, in the printed unit."""
        if self.best is None or self.default is None:
            return None
        return self.factor * (value_of(self.best) - value_of(self.default))

    def settings(self, trial: FrozenTrial) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a trial's whole method configuration, and what was searched of the recipe.

        Raises:
            BadData: its run is no longer in the store; names it.
        """
        folder = self.search.study.run_named(trial.user_attrs["runs"][0])
        if not folder.has_spec():
            raise BadData(
                f"the run {folder.path.name} of trial {trial.number} is no longer in the store; "
                "put it back, or search again in another study"
            )
        spec = folder.spec()
        return spec["method_config"], {k: spec["recipe"][k] for k in ("lr", "weight_decay")}

    def frame(self) -> pd.DataFrame:
        """Lay the trials out, a line each, those of dead processes too."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "search": self.search.name,
                    "trial": each.number,
                    "place": each.user_attrs.get("place"),
                    "state": "KILLED" if is_killed(each) else each.state.name,
                    "value": each.value,
                    "seconds": seconds_of(each),
                    "default": bool(each.user_attrs.get("default")),
                    "reason": each.user_attrs.get("reason", ""),
                    "parameters": json.dumps(each.params),
                }
                for each in self.search.ledger.trials()
            ]
        )


def value_of(trial: FrozenTrial) -> float:
    """Return the value of a complete trial."""
    assert trial.value is not None
    return trial.value


def stored_searches(study: StudyFolder, storage: str | None = None) -> list[SearchResult]:
    """Read the newest search of each method and fold of a study, in their order.

    Args:
        study: where they lie.
        storage: the address of their database, if they are not in files.

    Raises:
        BadRequest: the study has none, or they are in a database that is not named.
    """
    records = search_records(study)
    if not records:
        raise BadRequest(
            f"no search is in {str(study.path)!r}; `bench tune` makes one, --study and --out say "
            "where"
        )
    return [SearchResult.of(stored_search(study, record, storage)) for record in records]


def search_records(study: StudyFolder) -> list[dict[str, Any]]:
    """Read what a study notes of its searches: the newest of each method and fold, in their order.

    Raises:
        BadData: a record is damaged; names it.
    """
    newest: dict[tuple[Any, ...], dict[str, Any]] = {}  # of those that an edit made anew
    for path in sorted((study.path / SEARCHES).glob("*.json")):
        record = record_of(study, path.stem)
        key = tuple(record[name] for name in ("row", "dataset", "protocol", "scope", "fold"))
        if key not in newest or newest[key]["at"] <= record["at"]:
            newest[key] = record
    return [newest[key] for key in sorted(newest, key=lambda key: (*key[:-1], key[-1] or 0))]


def stored_search(study: StudyFolder, record: Mapping[str, Any], storage: str | None) -> Search:
    """Rebuild the search of a record.

    Raises:
        BadRequest: it is in a database that is not named.
    """
    if record["storage"] != JOURNAL and storage is None:
        raise BadRequest(
            f"the trials of {record['name']} are in {record['storage']!r}; give its address with "
            "--storage"
        )
    place = JOURNAL if record["storage"] == JOURNAL else str(storage)
    found = Search.from_json(record, study, place)
    return replace(found, stored_as=record["name"], stored_optuna=record["optuna"])


def by_table(results: Sequence[SearchResult]) -> dict[tuple[str, str], list[SearchResult]]:
    """Sort searches by dataset and protocol."""
    tables: dict[tuple[str, str], list[SearchResult]] = {}
    for each in results:
        tables.setdefault((each.search.dataset, each.search.protocol), []).append(each)
    return tables


def by_row(results: Sequence[SearchResult]) -> dict[str, list[SearchResult]]:
    """Sort searches by method."""
    rows: dict[str, list[SearchResult]] = {}
    for each in results:
        rows.setdefault(each.search.row, []).append(each)
    return rows
