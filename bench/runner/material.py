"""What a run works on: where it happens, its data, split and patterns, and who is told of it."""

# N cases, n cases of a condition

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.availability import Subset, subsets
from bench.data import Availability, Dataset, Split
from bench.dataset import checked_dataset
from bench.engine.inference import Ask
from bench.engine.resume import SaveRule
from bench.errors import BadData, BadRequest
from bench.method import Config, Method, ShallowMethod
from bench.patterns import Pattern, test_pattern, training_pattern
from bench.protocol import Condition, Setting, gaps_of
from bench.registry import Registry
from bench.spec import RunSpec
from bench.splits import split_of

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
        loaded = plugin.load(plugin.config_class(**config), context.data_root)
        _datasets[key] = checked_dataset(loaded, name)
    return _datasets[key]


def set_threads(threads: int) -> None:
    """Have torch use so many threads."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


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
