"""Probabilities of new cases from a finished run: the answer to `bench predict`.

Nothing is fitted: preprocessing, weights and models come from the run's checkpoint. New cases need
no label; whatever a dataset says of labels is never read. What they lack, they lack.
"""

# N new cases, K classes

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.answers import Answered
from bench.availability import long_subset_name, subset_name
from bench.data import Dataset, Split
from bench.dataset import checked_dataset
from bench.encoders import Preprocessor
from bench.encoders.preprocessing import TableStatistics, VectorStatistics
from bench.errors import BadData, BadRequest, unknown
from bench.patterns import Pattern
from bench.plugin_file import is_manifest
from bench.protocol import Condition
from bench.registry import registry_of
from bench.request import checked, settings_of
from bench.runner.material import Context, Material, Test, resolve_device, set_threads
from bench.runner.runner import load_fitted
from bench.spec import RunSpec
from bench.store import RunFolder, StudyFolder
from bench.study.standing import NO_PLUGINS, own_plugins
from bench.wording import counted

if TYPE_CHECKING:
    import pandas as pd

AS_THEY_ARE = Condition("as they are", "what each case has")


@dataclass(frozen=True)
class NewCases:
    """Where new cases are read, and by what."""

    dataset: str = ""  # a plugin; empty: that of the run
    settings: Mapping[str, Any] | None = None  # of the plugin, over those of the run
    data_root: Path | None = None
    include: tuple[Path, ...] = ()
    override: bool = False
    device: str = "auto"
    threads: int = 1


def find_run(text: str, study: StudyFolder) -> RunFolder:
    """Return a finished run by the path of its folder, or by its name in a study.

    A name may be cut short as long as one run alone begins with it.

    Raises:
        UnknownName: no run has this name.
        BadRequest: several begin with it, or the run is not finished.
    """
    folder = RunFolder(Path(text))
    if not folder.has_spec():
        folder = _named(text, study)
    if folder.state != "done":
        why = folder.reason() or "it has not finished"
        raise BadRequest(f"the run {folder.path.name} has nothing to predict with: {why}")
    return folder


def _named(text: str, study: StudyFolder) -> RunFolder:
    runs = {run.path.name: run for run in study.runs()} if study.exists() else {}
    if text in runs:
        return runs[text]
    found = [name for name in runs if name.startswith(text)]
    if len(found) > 1:
        raise BadRequest(
            f"{len(found)} runs begin with {text!r}, first {found[0]} and {found[1]}; say more"
        )
    if not found:
        raise unknown(f"run of study {study.path}", text, runs)
    return runs[found[0]]


def new_cases(
    folder: RunFolder, dataset: str, data: Path | None, pairs: tuple[str, ...], **place: Any
) -> NewCases:
    """Read what the command line says of new cases.

    Args:
        folder: the run.
        dataset: a plugin; empty: that of the run.
        data: a YAML file, which the plugin `manifest` reads.
        pairs: `DATASET.KEY=VALUE`.
        place: other fields of `NewCases`.

    Raises:
        BadRequest: both a plugin and a file are named, or the file is no YAML file.
        UnknownName: settings are of another dataset.
    """
    if data is not None and dataset:
        raise BadRequest(f"--dataset {dataset} and --data {data} exclude each other; give one")
    if data is not None and not is_manifest(data):
        raise BadRequest(
            f"--data wants a YAML file, got {data}; a dataset by name is --dataset NAME"
        )
    name = "manifest" if data is not None else dataset or folder.spec()["dataset"]
    settings = settings_of(pairs)
    for section in settings:
        if section != name:
            raise unknown("section of settings here", section, [name])
    own = settings.get(name, {}) | ({"file": str(data)} if data is not None else {})
    return NewCases(name, own, **place)


def answer(folder: RunFolder, cases: NewCases) -> Answered:
    """Predict new cases from a finished run.

    Raises:
        BenchError: the cases cannot be read, or are not of the kind that the run was trained on.
    """
    spec = RunSpec(**folder.spec())
    study = StudyFolder(folder.path.parents[2], folder.path.parents[1].name)
    plugins = own_plugins(study).get(folder.path.name, NO_PLUGINS)
    registry = registry_of(
        [str(path) for path in dict.fromkeys([*cases.include, *plugins.paths])],
        cases.override or plugins.override,
    )
    context = Context(registry, cases.data_root, resolve_device(cases.device), cases.threads)
    set_threads(cases.threads)
    dataset = _read(spec, cases, context)
    classes = _classes(folder, dataset)
    _check(folder, dataset, len(classes))
    material = _material(spec, replace(dataset, classes=classes), context)
    fitted = _fitted(folder, material, context)
    natural = material.availability
    rows = np.flatnonzero(natural.modality.any(1))
    proba = np.full((dataset.n_cases, len(classes)), np.nan)
    test = Test(AS_THEY_ARE, rows, material.pattern)
    (scored,) = fitted.predict(material, [test])
    proba[rows] = scored.proba
    frame = _frame(dataset, natural.modality, proba, classes)
    header = _header(folder, spec, dataset, natural.modality)
    return Answered(frame, header, tuple(dataset.files))


# --- the cases --------------------------------------------------------------------------------


def _read(spec: RunSpec, cases: NewCases, context: Context) -> Dataset:
    """Load the new cases; the run's own plugin reads them as it did for the run."""
    name = cases.dataset or spec.dataset
    settings = dict(spec.dataset_config) if name == spec.dataset else {}
    plugin = context.registry.load("dataset", name)
    config = checked(plugin.config_class, settings | dict(cases.settings or {}), name)
    return checked_dataset(plugin().load_new(config, context.data_root), name, labelled=False)


def _material(spec: RunSpec, dataset: Dataset, context: Context) -> Material:
    """Say of new cases what a run says of its own: all are tested, with what they have."""
    method_class = context.registry.load("method", spec.method)
    nobody = np.zeros(0, np.int64)
    split = Split(nobody, nobody, np.arange(dataset.n_cases))
    config = checked(method_class.config_class, spec.method_config, spec.method)
    return Material(spec, dataset, split, Pattern(dataset.natural(), {}), method_class, config)


def _fitted(folder: RunFolder, material: Material, context: Context) -> Any:
    try:
        return load_fitted(folder, material, context)
    except (RuntimeError, KeyError) as error:  # of torch: names and shapes that do not fit
        first = str(error).strip().splitlines()[0]
        raise BadRequest(
            f"the checkpoint of {folder.path.name} does not fit the code of "
            f"{material.spec.method} as it is: {first}; use the version that trained it"
        ) from error


def _classes(folder: RunFolder, dataset: Dataset) -> tuple[str, ...]:
    """Return the classes that the run tells apart; runs that note none have the data's."""
    noted = folder.status().get("classes")
    return tuple(noted) if noted else dataset.classes


def _check(folder: RunFolder, dataset: Dataset, n_classes: int) -> None:
    """Refuse cases of another kind than those of the run.

    Raises:
        BadData: names the first thing that differs.
    """
    columns = [name for name in folder.predictions().columns if name.startswith("p_")]
    noted = folder.status().get("classes")
    differs = _other_inputs(folder, dataset)
    if dataset.classes and noted and tuple(noted) != dataset.classes:
        differs = f"classes {_listed(noted)}, not {_listed(dataset.classes)}"
    elif len(columns) != n_classes:
        differs = f"{len(columns)} classes, not {n_classes}"
    if differs:
        raise BadData(
            f"{dataset.name}: the run {folder.path.name} was trained on {differs}; give cases that "
            "are described alike"
        )


def _other_inputs(folder: RunFolder, dataset: Dataset) -> str:
    """Say what of the modalities differs: `modalities a, b, not a`; empty if nothing does."""
    fitted = _preprocessor(folder)
    if fitted.modalities != dataset.modality_names:
        return f"modalities {_listed(fitted.modalities)}, not {_listed(dataset.modality_names)}"
    seen = [name for name in folder.availability().columns if name not in _OWN_COLUMNS]
    new = [each for m in dataset.modalities for each in (m.name, *_cells(m.name, m.attributes))]
    for ours, theirs in zip(seen, new, strict=False):
        if ours != theirs:
            return f"{ours}, where the new cases have {theirs}"
    if len(seen) != len(new):
        return f"{len(seen)} modalities and attributes, not {len(new)}"
    for modality, statistics in zip(dataset.modalities, fitted.statistics, strict=True):
        if modality.kind != statistics.kind:
            return f"{modality.name} as {statistics.kind}, not {modality.kind}"
        if isinstance(statistics, VectorStatistics) and len(statistics.mean) != modality.width:
            return f"{modality.name} of width {len(statistics.mean)}, not {modality.width}"
        if isinstance(statistics, TableStatistics):
            kinds = tuple(each.kind for each in modality.attributes)
            if statistics.kinds != kinds:
                return f"attributes of {modality.name} that are {_listed(statistics.kinds)}"
    return ""


_OWN_COLUMNS = ("case", "part", "condition")  # of the file of availability


def _cells(modality: str, attributes: Sequence[Any]) -> list[str]:
    return [f"{modality}.{attribute.name}" for attribute in attributes]


def _preprocessor(folder: RunFolder) -> Preprocessor:
    if folder.path_of("preprocessor.json").is_file():
        return Preprocessor.from_state(folder.read_json("preprocessor.json"))
    with np.load(folder.path_of("checkpoint.npz"), allow_pickle=False) as saved:
        return Preprocessor.from_state(json.loads(str(saved["features.preprocessor"])))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names))


# --- the answer -------------------------------------------------------------------------------


def _frame(
    dataset: Dataset, available: np.ndarray, proba: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    import pandas as pd

    there = ~np.isnan(proba).any(1)
    best = np.where(there, np.nan_to_num(proba).argmax(1), -1)
    frame = pd.DataFrame({"case": dataset.cases})
    frame["available"] = [
        subset_name(tuple(np.flatnonzero(row).tolist())) if row.any() else "" for row in available
    ]
    frame["predicted"] = [classes[k] if k >= 0 else "" for k in best]
    for k, name in enumerate(classes):
        frame[f"p_{name}"] = proba[:, k].astype(np.float32)
    return frame


def _header(
    folder: RunFolder, spec: RunSpec, dataset: Dataset, available: np.ndarray
) -> dict[str, Any]:
    """Say what the run was trained on, what it has seen, and what the new cases have."""
    facts, names = folder.status(), dataset.modality_names
    seen = _patterns_of_training(folder, names)
    new = _patterns(available)
    unseen = [each for each in new if each and each not in seen]
    return {
        "run": folder.path.name,
        "method": spec.row,
        "trained on": f"{spec.dataset}, fold {spec.fold} of {spec.n_folds}, seed {spec.seed}",
        "training setting": _setting(spec.setting),
        "modalities dropped in training": facts.get("dropout_law", "not noted"),
        "model selection": spec.selection,
        "modalities": "; ".join(f"{m} = {name}" for m, name in enumerate(names)),
        "patterns in training": _counted(seen, names),
        "new cases": f"{dataset.n_cases} of {dataset.name}",
        "patterns of the new cases": _counted(new, names),
        "patterns that no training case had": _counted({each: new[each] for each in unseen}, names),
        "named as training or validation cases": counted(_n_known(folder, dataset), "case"),
        "without any modality": f"{counted(new.get((), 0), 'case')}, not predicted",
    }


def _n_known(folder: RunFolder, dataset: Dataset) -> int:
    """Count the cases whose names the run was fitted on: their predictions tell nothing."""
    frame = folder.availability()
    fitted_on = frame[frame["part"].isin(["train", "valid"])]["case"]
    return int(np.isin(dataset.cases.astype(str), fitted_on.to_numpy(str)).sum())


def _setting(setting: Mapping[str, Any]) -> str:
    gaps = setting.get("gaps")
    if not gaps:
        return f"{setting['name']}: training cases keep what they have"
    return f"{setting['name']}: {json.dumps(gaps, sort_keys=True)}"


def _patterns_of_training(folder: RunFolder, names: Sequence[str]) -> Counter[tuple[int, ...]]:
    frame = folder.availability()
    train = frame[frame["part"] == "train"]
    return _patterns(train[list(names)].to_numpy(bool))


def _patterns(available: np.ndarray) -> Counter[tuple[int, ...]]:
    """Count who has what, most frequent first."""
    found = Counter(tuple(np.flatnonzero(row).tolist()) for row in available)
    return Counter(dict(found.most_common()))


def _counted(patterns: Mapping[tuple[int, ...], int], names: Sequence[str]) -> str:
    said = [
        f"{subset_name(each)} ({long_subset_name(each, names)}) {n}"
        for each, n in patterns.items()
        if each
    ]
    return "; ".join(said) or "none"
