"""Finished, failed and skipped runs of a study, as a report sees them."""

# N cases, K classes

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BadData
from bench.store import RunFolder, State, StudyFolder, reason_of

if TYPE_CHECKING:
    import pandas as pd

Repeat = tuple[int, int]  # fold, seed
CASES = "cases.parquet"


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
