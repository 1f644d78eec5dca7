"""Finished, failed and skipped runs of a study, and scores computed from their predictions.

A repeat is a (fold, seed) pair, a place a (training setting, condition) pair: where in a table a
score stands. Scores are never stored: they are computed here, from the stored predictions, each
time that they are printed.
"""

# R repeats, P places, N cases, K classes

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.errors import BadData, BadRequest, unknown
from bench.layout import Layout, LayoutColumn
from bench.metrics import N_BINS, accuracy, auc, balanced_accuracy, brier, ece, macro_f1, nll
from bench.spec import digest
from bench.store import RunFolder, State, StudyFolder, reason_of

if TYPE_CHECKING:
    import pandas as pd

Repeat = tuple[int, int]  # fold, seed
Place = tuple[str, str]  # training setting, condition
CASES = "cases.parquet"
TUNED_RECIPE = ("lr", "weight_decay")  # of the recipe, what a search varies
ROW_KEYS = ("fold", "seed", "split", "pattern", "setting")  # what differs between runs of one row


# --- metrics of tables ------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """A score of predictions, and how tables print it."""

    name: str
    long_name: str
    better: Literal["higher", "lower"]
    score: Callable[[np.ndarray, np.ndarray], tuple[float, bool]]  # value, does it lack a class
    unit: str = "%"
    factor: float = 100.0  # from the score to the unit
    digits: int = 2
    lacking: str = ""  # what a score means where a class has no case


def _plain(score: Callable[[np.ndarray, np.ndarray], float]) -> Callable[..., tuple[float, bool]]:
    """Make a score that no absent class can change one that says so."""
    return lambda label, proba: (score(label, proba), False)


def _by_class(
    score: Callable[[np.ndarray, np.ndarray], float],
) -> Callable[..., tuple[float, bool]]:
    """Make a mean over classes one that says whether a class is absent."""

    def flagged(label: np.ndarray, proba: np.ndarray) -> tuple[float, bool]:
        return score(label, proba), len(np.unique(label)) < proba.shape[1]

    return flagged


def _auc(label: np.ndarray, proba: np.ndarray) -> tuple[float, bool]:
    found = auc(label, proba)
    return found.value, found.flagged


_MEAN = "the mean over the classes there"
_LOSS: Mapping[str, Any] = {"unit": "", "factor": 1.0, "digits": 3}
_BACC = "balanced accuracy, the mean recall of the classes"
_ECE = f"expected calibration error in {N_BINS} equal bins, lower is better"
_BRIER = "Brier score, the squared error summed over the classes, 0 to 2, lower is better"
_NLL = "negative log-likelihood, in nats, lower is better"

METRICS = {
    metric.name: metric
    for metric in (
        Metric("ACC", "accuracy", "higher", _plain(accuracy)),
        Metric("AUC", "area under the ROC curve", "higher", _auc, lacking=_MEAN),
        Metric("BACC", _BACC, "higher", _by_class(balanced_accuracy), lacking=_MEAN),
        Metric(
            "F1",
            "macro F1",
            "higher",
            _by_class(macro_f1),
            lacking="the mean with 0 for that class",
        ),
        Metric("ECE", _ECE, "lower", _plain(ece)),
        Metric("Brier", _BRIER, "lower", _plain(brier), **_LOSS),
        Metric("NLL", _NLL, "lower", _plain(nll), **_LOSS),
    )
}


# --- runs -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RunResult:
    """One run as a report sees it."""

    spec: Mapping[str, Any]
    state: State
    facts: Mapping[str, Any]  # all of status.json
    predictions: pd.DataFrame | None  # case, condition, label, p_0 ...; of finished runs
    folder: RunFolder | None = None  # where its other files lie

    @property
    def row(self) -> str:
        """The name of its row in a table: `concat:dropout`."""
        preset, tuned = self.spec.get("preset"), self.spec.get("tuned")
        name = f"{self.spec['method']}:{preset}" if preset else self.spec["method"]
        return f"{name} (tuned)" if tuned else name

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.spec["dataset"]

    @property
    def setting(self) -> str:
        """The training setting's name."""
        return self.spec["setting"]["name"]

    @property
    def training(self) -> tuple[str, str]:
        """The training setting and the rule by which an epoch was chosen."""
        return self.setting, self.spec["selection"]

    @property
    def repeat(self) -> Repeat:
        """Its fold and seed."""
        return self.spec["fold"], self.spec["seed"]

    @property
    def reason(self) -> str:
        """Why it failed or was skipped, in one line; empty in the other states."""
        return reason_of(self.facts)

    @cached_property
    def subgroups(self) -> dict[str, dict[str, str]]:
        """By column of the dataset that tells subgroups: case -> value.

        Raises:
            BadData: the file is damaged; names it.
        """
        if self.folder is None or not self.folder.path_of(CASES).is_file():
            return {}
        frame = self.folder.read_frame(CASES).astype(str)
        return {
            name.removeprefix("column."): dict(zip(frame["case"], frame[name], strict=True))
            for name in frame.columns
            if name.startswith("column.")
        }

    def of_cases(self, cases: Collection[str]) -> RunResult:
        """Return the run with the predictions of these cases alone."""
        if self.predictions is None:
            return self
        kept = self.predictions[self.predictions["case"].isin(cases)]
        facts = {**self.facts, "conditions": list(self.conditions)}
        return replace(self, predictions=kept, facts=facts)

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
        frame = self.predictions
        case, label = frame["case"].to_numpy(str), frame["label"].to_numpy(np.int64)
        columns = [name for name in frame.columns if name.startswith("p_")]
        proba = frame[columns].to_numpy(np.float64)
        condition = frame["condition"].to_numpy(str)
        names = dict.fromkeys(condition.tolist())
        rows = {name: np.flatnonzero(condition == name) for name in names}
        return {name: (case[each], label[each], proba[each]) for name, each in rows.items()}


def load_results(
    study: StudyFolder,
    names: Sequence[str] | None = None,
    *,
    select: Callable[[RunFolder], bool] | None = None,
) -> list[RunResult]:
    """Read the runs of a study that were ever begun and say what they are.

    A finished run whose files are damaged has the state `damaged` and no predictions. One that
    cannot even be told what it is, its `spec.json` being damaged, is in no table: `unreadable`.

    Args:
        study: where they lie.
        names: run folders in the order wanted; None: all of the study, by name.
        select: keeps the folders for which it is true.

    Raises:
        BadRequest: there is no such study.
    """
    folders = study.runs() if names is None else [study.run_named(name) for name in names]
    return [
        load_result(folder)
        for folder in folders
        if folder.has_spec() and not unreadable(folder) and (select is None or select(folder))
    ]


def unreadable(folder: RunFolder) -> str:
    """Say why nobody can tell what a run is; empty if it can be told."""
    try:
        folder.spec()
    except BadData as error:
        return str(error)
    return ""


def load_result(folder: RunFolder) -> RunResult:
    """Read one run.

    Raises:
        BadData: `spec.json` is damaged.
    """
    facts, damage = folder.status(), folder.damage()
    if damage:
        facts = {"state": "damaged", "error": damage}
    predictions = folder.predictions() if facts["state"] == "done" else None
    return RunResult(folder.spec(), facts["state"], facts, predictions, folder)


# --- rows -------------------------------------------------------------------------------------


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
        One row per condition and metric: condition, metric, value (not in percent, NaN where
        undefined), n (cases), flagged (a mean over classes that lacks one).
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
    flagged: tuple[Repeat, ...] = ()  # averaged, although a class is absent there


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
    places: tuple[Place, ...]
    values: Mapping[str, np.ndarray]  # metric -> (R, P), NaN where undefined or not run
    flagged: Mapping[str, np.ndarray]  # metric -> (R, P) bool
    is_run: np.ndarray  # (R, P) bool
    n_cases: Mapping[Place, int]  # distinct cases over the repeats

    def cell(self, metric: str, place: Place) -> Summary:
        """Average one place over the repeats that were run there."""
        return self.average(metric, [place])

    def average(
        self, metric: str, places: Sequence[Place], weights: Sequence[float] | None = None
    ) -> Summary:
        """Average each repeat's mean over these places: the column AVG.

        A repeat in which one of them is undefined is left out: its mean would be of other columns.

        Args:
            metric: its name.
            places: P of them.
            weights: (P,) that sum to 1; None: all the same.
        """
        chosen = [self.places.index(place) for place in places]
        ran = np.asarray(self.is_run[:, chosen].all(axis=1), bool)
        repeats = [repeat for repeat, is_there in zip(self.repeats, ran, strict=True) if is_there]
        if not chosen:
            return summarise(np.full(len(repeats), np.nan), np.zeros(len(repeats), bool), repeats)
        values = self.values[metric][ran][:, chosen]  # NaN in a mean if one is undefined
        means = values.mean(axis=1) if weights is None else values @ np.asarray(weights)
        flagged = np.asarray(self.flagged[metric][ran][:, chosen].any(axis=1), bool)
        return summarise(means, flagged, repeats)

    def unfinished(self, places: Sequence[Place]) -> list[Repeat]:
        """List the repeats that were run at some of these places only."""
        ran = self.is_run[:, [self.places.index(place) for place in places]]
        partly = np.asarray(ran.any(axis=1) & ~ran.all(axis=1), bool)
        return [repeat for repeat, is_partly in zip(self.repeats, partly, strict=True) if is_partly]

    def has_value(self, metric: str, place: Place) -> bool:
        """Tell whether any repeat has a score there."""
        return not np.isnan(self.values[metric][:, self.places.index(place)]).all()


def score_grid(
    runs: Sequence[RunResult], places: Sequence[Place], metrics: Sequence[str] = ("ACC", "AUC")
) -> ScoreGrid:
    """Score the finished runs of one row at these places."""
    by_training = {(run.setting, run.repeat): run for run in runs}
    repeats = tuple(dict.fromkeys(run.repeat for run in runs))
    shape = (len(repeats), len(places))
    values = {name: np.full(shape, np.nan) for name in metrics}
    flagged = {name: np.zeros(shape, bool) for name in metrics}
    is_run = np.zeros(shape, bool)
    for r, repeat in enumerate(repeats):
        for p, (setting, condition) in enumerate(places):
            run = by_training.get((setting, repeat))
            if run is None:
                continue
            is_run[r, p] = True
            for name in metrics:
                found = _score(run, condition, metric_named(name))
                _, values[name][r, p], flagged[name][r, p] = found
    n_cases = {place: len(cases_scored(runs, place)) for place in places}
    return ScoreGrid(repeats, tuple(places), values, flagged, is_run, n_cases)


def cases_scored(runs: Iterable[RunResult], place: Place | None = None) -> set[str]:
    """Return the distinct cases that were scored over the runs, at one place or any."""
    return {
        case
        for run in runs
        for condition, (cases, _, _) in run.parts.items()
        if place is None or place == (run.setting, condition)
        for case in cases.tolist()
    }


def common_cases(runs: Iterable[RunResult], places: Collection[Place]) -> dict[Repeat, set[str]]:
    """Return, for each repeat, the cases that every run scored at every place that has cases."""
    parts: dict[Repeat, dict[Place, set[str]]] = {}
    settings: dict[Repeat, set[str]] = {}
    for run in runs:
        settings.setdefault(run.repeat, set()).add(run.setting)
        for condition, (cases, _, _) in run.parts.items():
            if (place := (run.setting, condition)) in places:
                found = parts.setdefault(run.repeat, {}).setdefault(place, set(cases.tolist()))
                found.intersection_update(cases.tolist())
    with_cases = {place for by_place in parts.values() for place in by_place}
    return {
        repeat: set.intersection(
            *(by_place.get(place, set()) for place in with_cases if place[0] in settings[repeat])
        )
        for repeat, by_place in parts.items()
    }


def constant_places(runs: Sequence[RunResult], places: Sequence[Place]) -> list[Place]:
    """List the places at which every run gives all its cases one and the same probability.

    Its AUC there is exactly one half: all pairs are ties. Places with one case do not count.
    """
    return [place for place in places if _are_constant(runs, place)]


def _are_constant(runs: Sequence[RunResult], place: Place) -> bool:
    setting, condition = place
    there = [run for run in runs if run.setting == setting]
    return bool(there) and all(
        condition in run.parts and _is_constant(run.parts[condition][2]) for run in there
    )


def _is_constant(proba: np.ndarray) -> bool:
    return len(proba) > 1 and bool((proba == proba[0]).all())
