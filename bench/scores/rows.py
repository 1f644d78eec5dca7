"""Rows of a table: the runs of one configuration, one per training setting and repeat."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.errors import BadRequest
from bench.layout import Layout, LayoutColumn
from bench.scores.results import RunResult
from bench.spec import digest

TUNED_RECIPE = ("lr", "weight_decay")  # of the recipe, what a search varies
ROW_KEYS = ("fold", "seed", "split", "pattern", "setting")  # what differs between runs of one row


@dataclass(frozen=True, eq=False)
class RowRuns:
    """The runs of one configuration, one per training setting and repeat: one row of a table."""

    label: str
    runs: tuple[RunResult, ...]
    differs: str = ""  # in what it differs from rows of the same name

    @property
    def done(self) -> tuple[RunResult, ...]:
        """The finished runs."""
        return tuple(run for run in self.runs if run.state == "done")

    def trained(self, setting: str) -> RowRuns:
        """Return the row with the runs of one training setting alone."""
        return replace(self, runs=tuple(run for run in self.runs if run.setting == setting))

    def of_cases(self, cases: Callable[[RunResult], Collection[str]]) -> RowRuns:
        """Return the row with the predictions of some cases alone, as told for each run."""
        return replace(self, runs=tuple(run.of_cases(cases(run)) for run in self.runs))


def runs_of(results: Iterable[RunResult], layout: Layout) -> list[RunResult]:
    """List the runs that a layout shows, in the order given."""
    trainings = layout.trainings
    return [
        result
        for result in results
        if result.dataset == layout.dataset and result.training in trainings
    ]


def layouts_of(results: Sequence[RunResult]) -> list[Layout]:
    """Lay out runs that no study asked for: a table per dataset and training setting."""
    tables: dict[tuple[str, str], list[RunResult]] = {}
    for result in results:
        tables.setdefault((result.dataset, result.setting), []).append(result)
    return [
        Layout(dataset, "", f"training: {setting}", "subsets", _columns_of(runs))
        for (dataset, setting), runs in tables.items()
    ]


def _columns_of(runs: Sequence[RunResult]) -> tuple[LayoutColumn, ...]:
    conditions = {name: long for run in runs for name, long in run.conditions.items()}
    conditions = conditions or {"-": "no run has finished"}
    return tuple(
        LayoutColumn(*training, name, name, long_name)
        for training in dict.fromkeys(run.training for run in runs)
        for name, long_name in conditions.items()
    )


def rows_of(results: Iterable[RunResult]) -> list[RowRuns]:
    """Sort the runs of one table into rows, in the order given.

    Runs of one name whose configurations differ are never averaged: they become rows `name #1`,
    `name #2`, and `differs` says in what; `name (as-trained)`, `name (complete)` if it is the rule
    by which an epoch was chosen.

    Raises:
        BadRequest: two runs are the same repeat of the same configuration.
    """
    names: dict[str, dict[str, list[RunResult]]] = {}
    for result in results:
        key = _row_key(result.spec)
        names.setdefault(result.row, {}).setdefault(key, []).append(result)
    return [row for name, groups in names.items() for row in _rows_of_name(name, groups)]


def _row_key(spec: Mapping[str, Any]) -> str:
    """Hash what the runs of a row share; one tuned inside each fold has settings for each."""
    kept = {key: value for key, value in spec.items() if key not in ROW_KEYS}
    if spec.get("tuned") == "fold":
        recipe = {k: v for k, v in spec["recipe"].items() if k not in TUNED_RECIPE}
        kept |= {"method_config": {}, "recipe": recipe}
    return digest(kept)


def _rows_of_name(name: str, groups: Mapping[str, list[RunResult]]) -> list[RowRuns]:
    for runs in groups.values():
        repeats = [(run.setting, run.repeat) for run in runs]
        if len(set(repeats)) < len(repeats):
            _, (fold, seed) = next(each for each in repeats if repeats.count(each) > 1)
            raise BadRequest(
                f"{name} on {runs[0].dataset} has several runs of fold {fold}, seed {seed}; name "
                "the runs to be reported, or delete the stale ones"
            )
    if len(groups) == 1:
        return [RowRuns(name, tuple(next(iter(groups.values()))))]
    differing = differing_keys([runs[0].spec for runs in groups.values()])
    if differing == ["selection"]:
        return [
            RowRuns(f"{name} ({runs[0].spec['selection']})", tuple(runs))
            for runs in groups.values()
        ]
    return [
        RowRuns(f"{name} #{i}", tuple(runs), _said(runs[0].spec, differing))
        for i, runs in enumerate(groups.values(), 1)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    joined = f"{prefix}." if prefix else ""
    return {
        path: leaf
        for key, each in value.items()
        for path, leaf in _flat(each, joined + key).items()
    }


def differing_keys(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the dotted keys in which specifications differ, those of its runs left out."""
    flat = [_flat({k: v for k, v in spec.items() if k not in ROW_KEYS}) for spec in specs]
    return [
        key
        for key in dict.fromkeys(key for each in flat for key in each)
        if any(each.get(key) != flat[0].get(key) for each in flat)
    ]


def _said(spec: Mapping[str, Any], keys: Sequence[str]) -> str:
    flat = _flat(spec)
    hashes = ("sources", "fingerprint")  # say that they differ; their digits say nothing to anyone
    return ", ".join(
        f"{key} {str(flat.get(key))[:6]}" if key in hashes else f"{key} = {flat.get(key)}"
        for key in keys
    )
