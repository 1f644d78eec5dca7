"""Turn one run specification into a finished run folder; fail as data."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bench import __version__
from bench.availability import Subset, subsets
from bench.data import Availability, Dataset, Split
from bench.encoders import Encoders, Inputs, Preprocessor, fit_preprocessor
from bench.encoders.augmentation import Augmenter, stacked
from bench.encoders.features import FeatureExtractor
from bench.engine import Training, fit
from bench.errors import BadData, BadRequest, GivenUp, NotApplicable, reason_for
from bench.inference import Ask, Member, Model, Part, Scored, predict, selection_score
from bench.method import Config, Method, ShallowMethod, Stage
from bench.patterns import (
    Pattern,
    pattern_words,
    rows_that_serve,
    test_pattern,
    training_pattern,
)
from bench.protocol import Condition, Setting, gaps_of
from bench.registry import Registry
from bench.resume import Checkpoints, Preempted, SaveRule
from bench.seeds import seed_for
from bench.spec import RunSpec
from bench.splits import split_of
from bench.store import RunFolder
from bench.tensor_files import load_tensors, save_tensors

Report = Callable[[float], None]  # takes the share of the run that is done, 0 to 1
Watch = Callable[[Mapping[str, Any]], None]  # takes each row of the history; may raise to stop


@dataclass(frozen=True)
class Hooks:
    """Who is told how a run goes."""

    report: Report = lambda share: None
    watch: Watch = lambda row: None


NO_HOOKS = Hooks()


@dataclass(frozen=True)
class Context:
    """Where runs happen: what is not part of a run's identity."""

    registry: Registry
    data_root: Path | None
    device: str
    threads: int
    saving: SaveRule = field(default_factory=SaveRule)


def execute(
    folder: RunFolder,
    spec: RunSpec,
    conditions: Sequence[Condition],
    context: Context,
    hooks: Hooks = NO_HOOKS,
) -> None:
    """Train if needed, predict the conditions that are not there yet, and mark the folder.

    A fault of the run (user's or ours) is written into the folder and raised again, and so is what
    a hook raises: a run that is stopped has failed, for the reason that the hook gives. One that
    was asked to stop (`bench.resume`) is pending, and `Preempted` is raised.
    """
    if folder.state == "done":
        _add_conditions(folder, spec, conditions, context)
        return
    folder.begin(spec, environment(context))
    checkpoints = Checkpoints(folder, context.saving)
    try:
        facts = _run(folder, spec, conditions, context, hooks, checkpoints)
    except NotApplicable as error:
        folder.skip(str(error))
        raise
    except Preempted:
        folder.release()
        raise
    except Exception as error:
        if isinstance(error, GivenUp):
            checkpoints.discard()
        folder.fail(reason_for(error), traceback.format_exc())
        raise
    checkpoints.discard()
    folder.finish(**facts, **checkpoints.facts())


def _run(
    folder: RunFolder,
    spec: RunSpec,
    conditions: Sequence[Condition],
    context: Context,
    hooks: Hooks,
    checkpoints: Checkpoints,
) -> dict[str, Any]:
    started = time.perf_counter()
    set_threads(context.threads)
    material = Material.of(spec, context)
    if issubclass(material.method_class, ShallowMethod):
        fitted: Deep | Shallow = _shallow(folder, material, context, hooks)
    else:
        fitted = _deep(folder, material, context, hooks, checkpoints)
    trained = time.perf_counter()
    tests = [Test.of(condition, material) for condition in conditions]
    folder.write_predictions(predictions_frame(material, tests, fitted.predict(material, tests)))
    folder.write_availability(availability_frame(material, tests))
    folder.write_frame("cases.parquet", cases_frame(material))
    return {
        "conditions": [condition.name for condition in conditions],
        "long_names": {condition.name: condition.long_name for condition in conditions},
        "classes": list(material.dataset.classes),
        "dropout_law": material.law,
        "gaps": pattern_words(material.pattern),
        "condition_gaps": {test.condition.name: pattern_words(test.pattern) for test in tests},
        "fit_seconds": round(trained - started, 3),
        "predict_seconds": round(time.perf_counter() - trained, 3),
        **fitted.facts,
    }


def set_threads(threads: int) -> None:
    """Have torch use so many threads."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Material:
    """What a run works on, derived from its specification."""

    spec: RunSpec
    dataset: Dataset
    split: Split
    pattern: Pattern  # of all cases, after the gaps of the training setting
    method_class: type[Method] | type[ShallowMethod]
    config: Config

    @classmethod
    def of(cls, spec: RunSpec, context: Context) -> Material:
        """Load and check what the specification names."""
        dataset = load_dataset(context, spec.dataset, spec.dataset_config)
        if dataset.fingerprint != spec.fingerprint:
            raise BadData(
                f"{spec.dataset}: the files changed since the study was planned; ask again"
            )
        method_class = context.registry.load("method", spec.method)
        split = split_of(dataset, spec)
        return cls(
            spec,
            dataset,
            split,
            training_pattern(dataset, setting_of(spec.setting), split, (spec.fold, spec.seed)),
            method_class,
            method_class.config_class(**spec.method_config),
        )

    @property
    def availability(self) -> Availability:
        """What all cases have after the gaps of the training setting."""
        return self.pattern.availability

    @property
    def valid_availability(self) -> Availability:
        """What validation looks at: `complete` leaves the training part's gaps out."""
        if self.spec.selection == "complete":
            return self.dataset.natural()
        return self.availability

    @property
    def selection(self) -> tuple[Subset | None, ...]:
        """The conditions whose mean score chooses the weights; None: the cases as they are."""
        if self.spec.selection == "all-subsets":
            return tuple(subsets(self.dataset.n_modalities))
        return (None,)

    @property
    def label(self) -> np.ndarray:
        """(N,) labels of all cases."""
        return self.dataset.label

    @property
    def law(self) -> str:
        """The modality dropout of this run, in words."""
        chosen = self.spec.recipe.train_dropout
        own = self.method_class.dropout_law(self.config)
        if own == "none" or issubclass(self.method_class, ShallowMethod):
            return own
        return own if chosen == "own" else f"{chosen} (the study's)"


@dataclass(frozen=True, eq=False)
class Test:
    """One condition made concrete: its cases and what each has."""

    __test__ = False  # its name is not a test's

    condition: Condition
    rows: np.ndarray  # (n,) of the dataset, ascending
    pattern: Pattern

    @classmethod
    def of(cls, condition: Condition, material: Material) -> Test:
        """Draw the condition's pattern, the same for every method."""
        repeat = (material.spec.fold, material.spec.seed)
        rows, pattern = test_pattern(material.dataset, condition, material.split, repeat)
        return cls(condition, rows, pattern)

    @property
    def has_any(self) -> np.ndarray:
        """(n,) bool, which rows have something; the others are no question to a model."""
        return self.pattern.availability.modality[self.rows].any(1)

    @property
    def asked(self) -> np.ndarray:
        """(m,) of the dataset, ascending: the rows that have something."""
        return self.rows[self.has_any]

    def ask(self, test: np.ndarray) -> Ask:
        """Say what to predict, in places of the test part."""
        seen = self.pattern.availability.rows(self.asked)
        return Ask(
            np.searchsorted(test, self.asked),
            torch.as_tensor(seen.modality),
            {m: torch.as_tensor(cells) for m, cells in seen.attributes.items()},
        )


def setting_of(value: Mapping[str, Any]) -> Setting:
    """Rebuild a training setting from a specification."""
    gaps = value.get("gaps")
    return Setting(gaps_of(gaps)) if gaps else Setting()


_datasets: dict[tuple[object, ...], Dataset] = {}


def load_dataset(context: Context, name: str, config: Mapping[str, Any]) -> Dataset:
    """Load a dataset once per process."""
    path = context.registry.find("dataset", name).path  # manifests of one name are not one dataset
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    key = (name, path, changed, repr(sorted(config.items())), context.data_root)
    if key not in _datasets:
        plugin = context.registry.load("dataset", name)()
        _datasets[key] = plugin.load(plugin.config_class(**config), context.data_root)
    return _datasets[key]


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "timm", "numpy", "scikit-learn", "pandas", "pyarrow")
    return {"bench": __version__} | {name: version(name) for name in names}


def environment(context: Context) -> dict[str, Any]:
    """Describe versions and hardware: recorded with a run, not part of its identity."""
    on_gpu = context.device.startswith("cuda")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": context.threads,
        "versions": _versions(),
    }


# --- methods trained by the engine ------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Deep:
    """A trained model, or several that share the subsets."""

    members: list[Member]
    preprocessor: Preprocessor
    device: torch.device
    facts: dict[str, Any]

    def predict(self, material: Material, tests: Sequence[Test]) -> list[Scored]:
        """Predict the conditions' cases that have something, encoding each test case once."""
        asks = [test.ask(material.split.test) for test in tests]
        return predict(self.members, self.inputs(material), asks)

    def inputs(self, material: Material) -> Inputs:
        """Return the test part with what its cases truly have, ready for the encoders."""
        natural = material.dataset.natural()
        inputs = self.preprocessor.inputs(material.dataset, material.split.test, natural)
        return self.members[0].model.encoders.prepare(inputs).to(self.device)


def _deep(
    folder: RunFolder,
    material: Material,
    context: Context,
    hooks: Hooks,
    checkpoints: Checkpoints,
) -> Deep:
    device = torch.device(context.device)
    spec = material.spec
    preprocessor = _preprocessor(material)
    build = _builder(material, preprocessor, device)
    encoders = build(None).encoders if spec.encoder.frozen else None
    parts = _Parts(material, preprocessor, device, encoders)

    n_done = 0

    def log(row: dict[str, Any]) -> None:
        nonlocal n_done
        n_done += 1
        folder.append_history(row)
        folder.heartbeat(epochs=n_done)
        hooks.report(min(1.0, n_done / spec.recipe.epochs))
        hooks.watch(row)

    valid = parts.valid()
    training = _training(material, parts.augmenter)
    members = fit(build, training, parts.train(), valid, log, checkpoints)
    _save(folder, members, preprocessor)
    asks = [Ask.of_subset(valid.inputs.observed, subset) for subset in material.selection]
    facts = validation_facts(material, predict(members, valid.inputs, asks))
    return Deep(members, preprocessor, device, _count_parameters(members) | facts)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Makes the parts of a split that training looks at."""

    material: Material
    preprocessor: Preprocessor
    device: torch.device
    frozen: Encoders | None  # encode once what they can

    @property
    def augmenter(self) -> Augmenter | None:
        """What alters training cases."""
        config = self.material.spec.encoder
        if config.augment is None:
            return None
        return Augmenter(config.augment, self.preprocessor, frozen=config.frozen)

    def train(self) -> Part:
        """Return the training part, with the altered copies that a frozen encoder sees."""
        rows, augmenter = self.material.split.train, self.augmenter
        part = self._part(rows, self.material.availability)
        part = replace(part, cases=tuple(self.material.dataset.cases[rows].tolist()))
        if self.frozen is not None and augmenter is not None and augmenter.settings.variants:
            inputs = self._inputs(rows, self.material.availability)
            copies = augmenter.variants(inputs, part.cases)
            part = replace(part, altered=stacked([self.frozen.prepare(each) for each in copies]))
        return part.to(self.device)

    def valid(self) -> Part:
        """Return the validation part, which nothing alters."""
        part = self._part(self.material.split.valid, self.material.valid_availability)
        return part.to(self.device)

    def _part(self, rows: np.ndarray, availability: Availability) -> Part:
        inputs = self._inputs(rows, availability)
        if self.frozen is not None:
            inputs = self.frozen.prepare(inputs)
        return Part(inputs, torch.as_tensor(self.material.label[rows]))

    def _inputs(self, rows: np.ndarray, availability: Availability) -> Inputs:
        return self.preprocessor.inputs(self.material.dataset, rows, availability)


def _training(material: Material, augmenter: Augmenter | None) -> Training:
    spec = material.spec
    keys = (spec.dataset, spec.fold, spec.n_folds, spec.seed)
    n_classes = len(material.dataset.classes)
    return Training(spec.recipe, material.selection, keys, n_classes, augmenter)


def validation_facts(material: Material, scored: Sequence[Scored]) -> dict[str, Any]:
    """Score a trained method by the rule that chose its weights: what a search looks at.

    It is computed from what would be tested, after the last stage and its calibration.

    Args:
        material: of the run.
        scored: predictions of the validation part, one per condition of the selection rule.
    """
    if not any(len(each.rows) for each in scored):
        return {"valid_score": None, "valid_is": "no validation case serves"}
    if not all(np.isfinite(each.proba).all() for each in scored):
        return {"valid_score": None, "valid_is": "validation predictions are not finite"}
    score, kind = selection_score(material.label[material.split.valid], scored)
    return {"valid_score": score, "valid_is": kind}


def untrained(material: Material, device: torch.device) -> tuple[Model, Preprocessor]:
    """Build the model of a run without pretrained weights, and what prepares its inputs."""
    preprocessor = _preprocessor(material)
    return _builder(material, preprocessor, device, load_weights=False)(None), preprocessor


def _preprocessor(material: Material) -> Preprocessor:
    return fit_preprocessor(
        material.dataset,
        material.split.train,
        material.availability,
        keep_values=bool(material.spec.encoder.text),
    )


def _builder(
    material: Material,
    preprocessor: Preprocessor,
    device: torch.device,
    *,
    load_weights: bool = True,
) -> Callable[[Stage | None], Model]:
    spec, dataset = material.spec, material.dataset
    keys = (spec.dataset, spec.fold, spec.n_folds, spec.seed)
    method_class = material.method_class
    assert issubclass(method_class, Method)

    def build(stage: Stage | None) -> Model:
        name = "" if stage is None else stage.name
        torch.manual_seed(seed_for("encoders", *keys, name))
        separate = method_class.separate_encoders(material.config)
        encoders = Encoders(
            dataset.modalities,
            preprocessor,
            spec.encoder,
            separate=separate,
            load_weights=load_weights,
            device=device,
        )
        torch.manual_seed(seed_for("initialisation", *keys, name))
        task = encoders.task(dataset.classes, spec.recipe.d_model)
        method = method_class(task, material.config)
        autocast = spec.precision == "bf16"
        return Model(encoders, method, autocast=autocast).to(device)

    return build


def _count_parameters(members: Sequence[Member]) -> dict[str, int]:
    every = [p for member in members for p in member.model.parameters()]
    return {
        "n_parameters": sum(p.numel() for p in every),
        "n_trainable": sum(p.numel() for p in every if p.requires_grad),
        "n_models": len(members),
    }


def _save(folder: RunFolder, members: Sequence[Member], preprocessor: Preprocessor) -> None:
    folder.write_json("preprocessor.json", preprocessor.state())
    states = [
        {"subset": list(member.subset) if member.subset else None, "state": _state_of(member.model)}
        for member in members
    ]
    save_tensors(folder.path_of("checkpoint.pt"), states)


def _state_of(model: Model) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in model.state_dict().items()}


def _load_deep(folder: RunFolder, material: Material, context: Context) -> Deep:
    device = torch.device(context.device)
    preprocessor = Preprocessor.from_state(folder.read_json("preprocessor.json"))
    build = _builder(material, preprocessor, device, load_weights=False)  # the checkpoint has them
    members = []
    for saved in load_tensors(folder.path_of("checkpoint.pt"), device):
        model = build(None)
        model.load_state_dict(saved["state"])
        members.append(Member(model, tuple(saved["subset"]) if saved["subset"] else None))
    return Deep(members, preprocessor, device, {})


# --- methods fitted with scikit-learn ---------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shallow:
    """A fitted method and what turns cases into its features."""

    method: ShallowMethod
    extractor: FeatureExtractor
    facts: dict[str, Any]

    def predict(self, material: Material, tests: Sequence[Test]) -> list[Scored]:
        """Predict the conditions' cases that have something."""
        return [
            self.score(material, material.split.test, test.asked, test.pattern.availability)
            for test in tests
        ]

    def score(
        self, material: Material, part: np.ndarray, rows: np.ndarray, seen: Availability
    ) -> Scored:
        """Predict some rows of one part of the split, from what is seen of them."""
        proba = np.zeros((0, len(material.dataset.classes)))
        if len(rows):
            proba = self.method.predict_proba(
                self.extractor.transform(material.dataset, rows, seen)
            )
        return Scored(np.searchsorted(part, rows), proba)

    def validate(self, material: Material) -> list[Scored]:
        """Predict the validation part under each condition of the selection rule."""
        valid, seen = material.split.valid, material.valid_availability
        observed = seen.modality[valid]
        return [
            self.score(
                material,
                valid,
                valid[rows_that_serve(observed, subset)],
                seen if subset is None else seen.keep(subset),
            )
            for subset in material.selection
        ]


def _shallow(folder: RunFolder, material: Material, context: Context, hooks: Hooks) -> Shallow:
    dataset, train = material.dataset, material.split.train
    extractor = FeatureExtractor.fit(dataset, train, material.availability)
    features = extractor.transform(dataset, train, material.availability)
    method = _new_shallow(material)
    label = material.label[train]
    method.fit(features, label, case_weight(label, balanced=material.spec.recipe.balance != "none"))
    hooks.report(1.0)
    state = {f"method.{name}": array for name, array in method.state().items()}
    state |= {f"features.{name}": array for name, array in extractor.state().items()}
    folder.write_arrays("checkpoint.npz", state)
    counts = {"n_parameters": 0, "n_trainable": 0, "n_models": 1}
    fitted = Shallow(method, extractor, counts)
    return replace(fitted, facts=counts | validation_facts(material, fitted.validate(material)))


def _new_shallow(material: Material) -> ShallowMethod:
    assert issubclass(material.method_class, ShallowMethod)
    return material.method_class(len(material.dataset.classes), material.config)


def case_weight(label: np.ndarray, *, balanced: bool) -> np.ndarray:
    """Weigh cases so that every class counts alike, mean 1; ones if not balanced."""
    if not balanced:
        return np.ones(len(label))
    counts = np.bincount(label)
    return len(label) / ((counts > 0).sum() * counts[label])


def _load_shallow(folder: RunFolder, material: Material, context: Context) -> Shallow:
    state = folder.read_arrays("checkpoint.npz")

    def below(prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    method = _new_shallow(material)
    method.load(below("method."))
    return Shallow(method, FeatureExtractor.from_state(below("features.")), {})


def load_fitted(folder: RunFolder, material: Material, context: Context) -> Deep | Shallow:
    """Load what a finished run trained."""
    loader = _load_shallow if issubclass(material.method_class, ShallowMethod) else _load_deep
    return loader(folder, material, context)


# --- predictions ------------------------------------------------------------------------------


def _add_conditions(
    folder: RunFolder, spec: RunSpec, conditions: Sequence[Condition], context: Context
) -> None:
    """Predict, from the checkpoint, the conditions that a finished run lacks."""
    there = set(folder.status()["conditions"])
    new = [condition for condition in conditions if condition.name not in there]
    if not new:
        return
    set_threads(context.threads)
    material = Material.of(spec, context)
    fitted = load_fitted(folder, material, context)
    tests = [Test.of(condition, material) for condition in new]
    folder.add_availability(availability_frame(material, tests))
    folder.add_predictions(
        predictions_frame(material, tests, fitted.predict(material, tests)),
        {each.name: each.long_name for each in new},
        condition_gaps={test.condition.name: pattern_words(test.pattern) for test in tests},
    )


def predictions_frame(
    material: Material, tests: Sequence[Test], scored: Sequence[Scored]
) -> pd.DataFrame:
    """Lay predictions out: case, condition, label, p_0 ... p_{K-1}.

    A case that has nothing in its condition gets the class shares of training.
    """
    n_classes = len(material.dataset.classes)
    rows = np.concatenate([np.zeros(0, int), *(test.rows for test in tests)])
    shares = np.bincount(material.label[material.split.train], minlength=n_classes)
    proba = np.tile(shares / shares.sum(), (len(rows), 1))
    asked = np.concatenate([np.zeros(0, bool), *(test.has_any for test in tests)])
    proba[asked] = np.concatenate(
        [np.zeros((0, n_classes)), *(each.proba.reshape(-1, n_classes) for each in scored)]
    )
    frame = pd.DataFrame({"case": material.dataset.cases[rows]})
    frame["condition"] = [test.condition.name for test in tests for _ in test.rows]
    frame["label"] = material.label[rows]
    for k in range(n_classes):
        frame[f"p_{k}"] = proba[:, k].astype(np.float32)
    return frame


def availability_frame(material: Material, tests: Sequence[Test]) -> pd.DataFrame:
    """Lay out who has what: case, part, condition, a column per modality and per attribute.

    The parts `train` and `valid` have no condition; `test` has one block per condition with gaps
    and one, without a name, of what the cases truly have.
    """
    dataset, split = material.dataset, material.split
    blocks = [("train", "", split.train, material.availability)]
    blocks += [("valid", "", split.valid, material.valid_availability)]
    blocks += [("test", "", split.test, dataset.natural())]
    blocks += [
        ("test", test.condition.name, test.rows, test.pattern.availability)
        for test in tests
        if test.condition.gaps is not None
    ]
    return pd.concat([_availability_block(dataset, *block) for block in blocks], ignore_index=True)


def _availability_block(
    dataset: Dataset, part: str, condition: str, rows: np.ndarray, availability: Availability
) -> pd.DataFrame:
    seen = availability.rows(rows)
    columns: dict[str, Any] = {"case": dataset.cases[rows], "part": part, "condition": condition}
    for m, modality in enumerate(dataset.modalities):
        columns[modality.name] = seen.modality[:, m]
        for a, attribute in enumerate(modality.attributes):
            columns[f"{modality.name}.{attribute.name}"] = seen.attributes[m][:, a]
    return pd.DataFrame(columns)


def cases_frame(material: Material) -> pd.DataFrame:
    """Lay out the test cases: case, label, group, and the columns that tell subgroups."""
    dataset, test = material.dataset, material.split.test
    columns: dict[str, Any] = {
        "case": dataset.cases[test],
        "label": dataset.label[test],
        "group": dataset.group[test],
    }
    columns |= {f"column.{name}": values[test] for name, values in dataset.columns.items()}
    return pd.DataFrame(columns)


def resolve_device(asked: str) -> str:
    """Turn `auto` into a device; refuse one that is not there.

    Raises:
        BadRequest: cuda is asked for and absent.
    """
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise BadRequest("--device cuda: this machine has no CUDA device; use --device cpu or auto")
    return "cuda" if there and asked != "cpu" else "cpu"


def resolve_precision(asked: str, device: str) -> str:
    """Turn `auto` into bf16 where the device is a GPU that has it, else float32."""
    if asked != "auto":
        return asked
    return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
