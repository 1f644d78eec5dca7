"""Finished, failed and skipped runs of a study, and scores computed from their predictions.

A repeat is a (fold, seed) pair. Scores are never stored: they are computed here, from the stored
predictions, each time that they are printed.
"""

# R repeats, C conditions, N cases, K classes

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.errors import BadRequest, unknown
from bench.metrics import accuracy, auc
from bench.spec import digest
from bench.store import RunFolder, State, StudyFolder, reason_of

if TYPE_CHECKING:
    import pandas as pd

Repeat = tuple[int, int]  # fold, seed
REPEAT_KEYS = ("fold", "seed", "split", "pattern")  # what differs between repeats of one row


# --- metrics of tables ------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """A score of predictions that tables print times 100."""

    name: str
    long_name: str
    better: Literal["higher", "lower"]
    score: Callable[[np.ndarray, np.ndarray], tuple[float, bool]]  # value, is a class undefined


def _accuracy(label: np.ndarray, proba: np.ndarray) -> tuple[float, bool]:
    return accuracy(label, proba), False


def _auc(label: np.ndarray, proba: np.ndarray) -> tuple[float, bool]:
    found = auc(label, proba)
    return found.value, found.flagged


METRICS = {
    "ACC": Metric("ACC", "accuracy", "higher", _accuracy),
    "AUC": Metric("AUC", "area under the ROC curve", "higher", _auc),
}


# --- runs -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RunResult:
    """One run as a report sees it."""

    spec: Mapping[str, Any]
    state: State
    facts: Mapping[str, Any]  # all of status.json
    predictions: pd.DataFrame | None  # case, condition, label, p_0 ...; of finished runs

    @property
    def row(self) -> str:
        """The name of its row in a table: `concat:dropout`."""
        preset = self.spec.get("preset")
        return f"{self.spec['method']}:{preset}" if preset else self.spec["method"]

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.spec["dataset"]

    @property
    def setting(self) -> str:
        """The training setting's name."""
        return self.spec["setting"]["name"]

    @property
    def repeat(self) -> Repeat:
        """Its fold and seed."""
        return self.spec["fold"], self.spec["seed"]

    @property
    def reason(self) -> str:
        """Why it failed or was skipped, in one line; empty in the other states."""
        return reason_of(self.facts)

    @cached_property
    def conditions(self) -> dict[str, str]:
        """The conditions that it was asked, in order, with their long names."""
        there: Iterable[str] = (
            [] if self.predictions is None else self.predictions["condition"].unique()
        )
        names = dict.fromkeys([*self.facts.get("conditions", []), *there])
        long_names = self.facts.get("long_names", {})
        return {name: long_names.get(name, name) for name in names}

    @cached_property
    def parts(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """By condition with cases: case (N,) str, label (N,) int, probabilities (N, K)."""
        if self.predictions is None:
            return {}
        proba = [name for name in self.predictions.columns if name.startswith("p_")]
        return {
            str(name): (
                part["case"].to_numpy(str),
                part["label"].to_numpy(np.int64),
                part[proba].to_numpy(np.float64),
            )
            for name, part in self.predictions.groupby("condition", sort=False)
        }


def load_results(
    study: StudyFolder,
    names: Sequence[str] | None = None,
    *,
    select: Callable[[RunFolder], bool] | None = None,
) -> list[RunResult]:
    """Read the runs of a study that were ever begun.

    Args:
        study: where they lie.
        names: run folders in the order wanted; None: all of the study, by name.
        select: keeps the folders for which it is true.

    Raises:
        BadRequest: there is no such study.
        BadData: a file is damaged; names it.
    """
    folders = study.runs() if names is None else [study.run_named(name) for name in names]
    return [
        load_result(folder)
        for folder in folders
        if folder.has_spec() and (select is None or select(folder))
    ]


def load_result(folder: RunFolder) -> RunResult:
    """Read one run.

    Raises:
        BadData: a file is damaged; names it.
    """
    facts = folder.status()
    predictions = folder.predictions() if facts["state"] == "done" else None
    return RunResult(folder.spec(), facts["state"], facts, predictions)


# --- rows -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RowRuns:
    """The repeats of one configuration: one row of a table."""

    label: str
    runs: tuple[RunResult, ...]  # one per repeat
    differs: str = ""  # in what it differs from rows of the same name

    @property
    def done(self) -> tuple[RunResult, ...]:
        """The finished runs."""
        return tuple(run for run in self.runs if run.state == "done")


def by_table(results: Iterable[RunResult]) -> dict[tuple[str, str], list[RunResult]]:
    """Sort runs into one list per dataset and training setting, in the order given."""
    tables: dict[tuple[str, str], list[RunResult]] = {}
    for result in results:
        tables.setdefault((result.dataset, result.setting), []).append(result)
    return tables


def rows_of(results: Iterable[RunResult]) -> list[RowRuns]:
    """Sort the runs of one table into rows, in the order given.

    Runs of one name whose configurations differ are never averaged: they become rows `name #1`,
    `name #2`, and `differs` says in what.

    Raises:
        BadRequest: two runs are the same repeat of the same configuration.
    """
    names: dict[str, dict[str, list[RunResult]]] = {}
    for result in results:
        key = digest({k: v for k, v in result.spec.items() if k not in REPEAT_KEYS})
        names.setdefault(result.row, {}).setdefault(key, []).append(result)
    return [row for name, groups in names.items() for row in _rows_of_name(name, groups)]


def _rows_of_name(name: str, groups: Mapping[str, list[RunResult]]) -> list[RowRuns]:
    for runs in groups.values():
        repeats = [run.repeat for run in runs]
        if len(set(repeats)) < len(repeats):
            fold, seed = next(each for each in repeats if repeats.count(each) > 1)
            raise BadRequest(
                f"{name} on {runs[0].dataset} has several runs of fold {fold}, seed {seed}; name "
                "the runs to be reported, or delete the stale ones"
            )
    if len(groups) == 1:
        return [RowRuns(name, tuple(next(iter(groups.values()))))]
    differing = differing_keys([runs[0].spec for runs in groups.values()])
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
    """List the dotted keys in which specifications differ, those of the repeat left out."""
    flat = [_flat(spec) for spec in specs]
    return [
        key
        for key in dict.fromkeys(key for each in flat for key in each)
        if key not in REPEAT_KEYS and any(each.get(key) != flat[0].get(key) for each in flat)
    ]


def _said(spec: Mapping[str, Any], keys: Sequence[str]) -> str:
    flat = _flat(spec)
    hashes = ("sources", "fingerprint")  # say that they differ; their digits say nothing to anyone
    return ", ".join(
        f"{key} {str(flat.get(key))[:6]}" if key in hashes else f"{key} = {flat.get(key)}"
        for key in keys
    )


# --- scores -----------------------------------------------------------------------------------


def metric_named(name: str) -> Metric:
    """Return a metric of tables.

    Raises:
        UnknownName: there is none of this name.
    """
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def scores(result: RunResult, metrics: Sequence[str] = ("ACC", "AUC")) -> pd.DataFrame:
    """Score one run.

    Returns:
        One row per condition and metric: condition, metric, value (a fraction in [0, 1], NaN where
        undefined), n (cases), flagged (a class has no case, or no case of another class).
    """
    import pandas as pd

    rows = []
    for condition in result.conditions:
        for name in metrics:
            n, value, flagged = _score(result, condition, metric_named(name))
            rows.append((condition, name, value, n, flagged))
    return pd.DataFrame(rows, columns=["condition", "metric", "value", "n", "flagged"])


def _score(result: RunResult, condition: str, metric: Metric) -> tuple[int, float, bool]:
    if condition not in result.parts:
        return 0, float("nan"), False
    case, label, proba = result.parts[condition]
    value, flagged = metric.score(label, proba)
    return len(case), value, flagged


@dataclass(frozen=True)
class Summary:
    """A mean over repeats and what it leaves out."""

    mean: float  # NaN without a defined repeat
    spread: float | None  # sample SD (ddof=1) over repeats; None below two
    n_repeats: int  # averaged
    undefined: tuple[Repeat, ...] = ()  # left out: no value there
    flagged: tuple[Repeat, ...] = ()  # averaged, although a class is undefined there


def summarise(values: np.ndarray, flagged: np.ndarray, repeats: Sequence[Repeat]) -> Summary:
    """Average over repeats, saying which have no value and which are flagged.

    Args:
        values: (R,) scores, NaN where undefined.
        flagged: (R,) bool.
        repeats: R pairs.
    """
    defined = ~np.isnan(values)
    used = values[defined]
    each = list(zip(repeats, defined.tolist(), flagged.tolist(), strict=True))
    return Summary(
        float(used.mean()) if len(used) else float("nan"),
        float(used.std(ddof=1)) if len(used) > 1 else None,
        len(used),
        tuple(repeat for repeat, is_defined, _ in each if not is_defined),
        tuple(repeat for repeat, is_defined, is_flagged in each if is_defined and is_flagged),
    )


@dataclass(frozen=True, eq=False)
class ScoreGrid:
    """The scores of one row's finished runs."""

    repeats: tuple[Repeat, ...]
    conditions: tuple[str, ...]
    values: Mapping[str, np.ndarray]  # metric -> (R, C) in [0, 1], NaN where undefined
    flagged: Mapping[str, np.ndarray]  # metric -> (R, C) bool
    n_cases: Mapping[str, int]  # condition -> distinct cases over the repeats

    def cell(self, metric: str, condition: str) -> Summary:
        """Average one condition over the repeats."""
        c = self.conditions.index(condition)
        return summarise(self.values[metric][:, c], self.flagged[metric][:, c], self.repeats)

    def average(self, metric: str, conditions: Sequence[str]) -> Summary:
        """Average each repeat's mean over these conditions: the column AVG.

        A repeat in which one of them is undefined is left out: its mean would be of other columns.
        """
        if not conditions:
            values, flagged = np.full(len(self.repeats), np.nan), np.zeros(len(self.repeats), bool)
        else:
            chosen = [self.conditions.index(condition) for condition in conditions]
            values = np.mean(self.values[metric][:, chosen], axis=1)  # NaN if one is undefined
            flagged = np.asarray(self.flagged[metric][:, chosen].any(axis=1))
        return summarise(values, flagged, self.repeats)

    def has_value(self, metric: str, condition: str) -> bool:
        """Tell whether any repeat has a score there."""
        return not np.isnan(self.values[metric][:, self.conditions.index(condition)]).all()


def score_grid(
    runs: Sequence[RunResult], conditions: Sequence[str], metrics: Sequence[str] = ("ACC", "AUC")
) -> ScoreGrid:
    """Score the finished runs of one row under these conditions."""
    shape = (len(runs), len(conditions))
    values = {name: np.full(shape, np.nan) for name in metrics}
    flagged = {name: np.zeros(shape, bool) for name in metrics}
    for name in metrics:
        metric = metric_named(name)
        for r, run in enumerate(runs):
            for c, condition in enumerate(conditions):
                _, values[name][r, c], flagged[name][r, c] = _score(run, condition, metric)
    return ScoreGrid(
        tuple(run.repeat for run in runs),
        tuple(conditions),
        values,
        flagged,
        {condition: len(cases_scored(runs, condition)) for condition in conditions},
    )


def cases_scored(runs: Iterable[RunResult], condition: str | None = None) -> set[str]:
    """Return the distinct cases that were scored over the runs, under one condition or any."""
    return {
        case
        for run in runs
        for name, (cases, _, _) in run.parts.items()
        if condition is None or name == condition
        for case in cases.tolist()
    }


def constant_conditions(runs: Sequence[RunResult]) -> list[str]:
    """List the conditions in which every run gives all its cases one and the same probability.

    Its AUC there is exactly one half: all pairs are ties. Conditions with one case do not count.
    """
    if not runs:
        return []
    shared = [name for name in runs[0].parts if all(name in run.parts for run in runs)]
    return [name for name in shared if all(_is_constant(run.parts[name][2]) for run in runs)]


def _is_constant(proba: np.ndarray) -> bool:
    return len(proba) > 1 and bool((proba == proba[0]).all())
