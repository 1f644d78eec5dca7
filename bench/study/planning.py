"""Resolve a request: load plugins and data, fill in every default, name what cannot run and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.availability import subsets
from bench.data import Dataset
from bench.errors import BadConfig, BadRequest, unknown
from bench.layout import Layout, LayoutColumn
from bench.leakscan import Scan, scan
from bench.method import Config, Method, Plugin
from bench.patterns import pattern_digest, test_pattern, training_pattern
from bench.protocol import Condition, Protocol, Setting, condition_of
from bench.registry import registry_of
from bench.request import Request, checked, encoder_of, preset_path, recipe_of
from bench.runner.cell import Cell
from bench.runner.material import Context, load_dataset, resolve_device, resolve_precision
from bench.sources import code_of_run
from bench.spec import EncoderConfig, Recipe, RunSpec, SelectionRule, digest
from bench.splits import make_split, regrouped
from bench.study.study import Study, joined, stamp_of_file

MAX_SUBSET_MODALITIES = 8  # 255 conditions
MIN_RETRY_BATCH = 4  # cases; a run that needs more memory than that is not helped by halves


def plan(request: Request) -> Study:
    """Resolve a request into cells; imports plugins and torch, loads data, trains nothing.

    Raises:
        BenchError: an unknown name, key or value, or data that cannot be read.
    """
    return joined([Planner(part).study() for part in request.parts()])


def scan_for_leaks(request: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Scan a dataset of a request for leaks; the counterpart of a task."""
    return Arena(Planner(Request(**request)), dataset).scan().to_json()


class Planner:
    """Turns one request into cells."""

    def __init__(self, request: Request):
        self.request = request
        self.registry = registry_of(request.include, request.override)
        root = Path(request.data_root) if request.data_root else None
        device = resolve_device(request.device)
        self.context = Context(self.registry, root, device, request.threads)
        self.precision = resolve_precision(request.precision, device)
        preset_path(request.preset)

    def study(self) -> Study:
        """Resolve every cell, in the order dataset, repeat, method."""
        methods = [self._method(row) for row in self._rows()]
        protocols = [self._protocol(name) for name in self.request.protocols]
        self._check_sections()
        self._check_gaps(protocols)
        cells: list[Cell] = []
        files: list[tuple[str, int, int]] = []
        layouts: list[Layout] = []
        for name in self.request.datasets:
            arena = Arena(self, name)
            cells += arena.cells(methods, protocols)
            files += [(str(path), *_stamp(path)) for path in arena.dataset.files]
            layouts += [arena.layout(protocol) for protocol in protocols]
        return Study(tuple(cells), tuple(files), tuple(layouts))

    def _rows(self) -> Iterator[str]:
        """Expand a method into the rows that a comparison shows: `concat`, `concat:dropout`."""
        for row in self.request.rows:
            name, colon, _ = row.partition(":")
            if colon:
                yield row
                continue
            for preset in self.registry.load("method", name).default_rows:
                yield f"{name}:{preset}" if preset else name

    def _method(self, row: str) -> tuple[str, str, type[Plugin], Config]:
        name, _, preset = row.partition(":")
        plugin = self.registry.load("method", name)
        if preset and preset not in plugin.presets:
            raise unknown(f"preset of {name}", preset, plugin.presets)
        values = dict(plugin.presets.get(self.request.preset, {}))
        values |= plugin.presets.get(preset, {}) if preset else {}
        values |= self.request.settings.get(name, {})
        return name, preset, plugin, checked(plugin.config_class, values, name)

    def _protocol(self, name: str) -> Protocol:
        """Build a protocol; the flags --rates, --level ... go to every one that takes them."""
        plugin: type[Protocol] = self.registry.load("protocol", name)
        fields = plugin.config_class.model_fields
        flags = {key: value for key, value in self.request.gaps.items() if key in fields}
        values = flags | self.request.settings.get(name, {})
        return plugin(checked(plugin.config_class, values, name))

    def _check_sections(self) -> None:
        asked = {row.partition(":")[0] for row in self.request.rows}
        known = {"recipe", "encoder", *asked, *self.request.datasets, *self.request.protocols}
        for section in self.request.settings:
            if section not in known:
                raise BadConfig(str(unknown("section of settings in this study", section, known)))

    def _check_gaps(self, protocols: Sequence[Protocol]) -> None:
        """Refuse a flag that no protocol of the study takes: it would change nothing."""
        taken = {field for each in protocols for field in each.config_class.model_fields}
        for key in self.request.gaps:
            if key not in taken:
                names = ", ".join(self.request.protocols)
                raise BadRequest(
                    f"--{key.replace('_', '-')} means nothing to the protocols asked for "
                    f"({names}); leave it out, or see `bench list protocols` and `bench info NAME`"
                )


def _stamp(path: Path) -> tuple[int, int]:
    size, at = stamp_of_file(str(path)) or (0, 0)
    return size, at


class Arena:
    """One dataset with the recipe, encoders and repeats that all its methods share."""

    def __init__(self, planner: Planner, name: str):
        self.planner = planner
        self.name = name
        request = planner.request
        self.plugin = planner.registry.load("dataset", name)
        config = checked(self.plugin.config_class, request.settings.get(name, {}), name)
        self.config: dict[str, Any] = config.model_dump(mode="json")
        self.dataset: Dataset = load_dataset(planner.context, name, self.config)
        self.recipe: Recipe = recipe_of(request, self.plugin.recipe_defaults)
        self.encoder: EncoderConfig = encoder_of(request, self.plugin.encoder_defaults)
        self.split_by = request.split_by
        self.split_on = regrouped(self.dataset, self.split_by)
        self.n_folds = request.n_folds or self.plugin.default_folds or max(self.dataset.folds)
        if self.split_by:
            (self.n_folds,) = self.split_on.folds
        self.repeats = self._repeats()

    def _repeats(self) -> list[tuple[int, int]]:
        request = self.planner.request
        folds = request.folds if request.folds is not None else tuple(range(self.n_folds))
        for fold in folds:
            if fold >= self.n_folds:
                raise BadRequest(
                    f"--folds asks for fold {fold}, but {self.name} has {self.n_folds} folds "
                    f"(0-{self.n_folds - 1}); --n-folds changes their number"
                )
        seeds = request.seeds if request.seeds is not None else self.plugin.default_seeds
        return [(fold, seed) for fold in folds for seed in seeds]

    def cells(
        self, methods: list[tuple[str, str, type[Plugin], Config]], protocols: list[Protocol]
    ) -> Iterator[Cell]:
        """List the cells; a training that several protocols share appears once."""
        for setting, rule, conditions in self._trainings(protocols):
            for fold, seed in self.repeats:
                share = self.recipe.valid_share
                split = make_split(self.split_on, fold, self.n_folds, seed, share)
                pattern = training_pattern(self.dataset, setting, split, (fold, seed))
                for condition in conditions:  # what cannot be drawn is refused before any run
                    test_pattern(self.dataset, condition_of(condition), split, (fold, seed))
                fitted_on = np.concatenate([split.train, split.valid])
                common = {
                    "dataset": self.name,
                    "dataset_config": self.config,
                    "encoder": self.encoder,
                    "recipe": self.recipe,
                    "setting": _setting_json(setting),
                    "fold": fold,
                    "n_folds": self.n_folds,
                    "split_by": self.split_by,
                    "seed": seed,
                    "selection": rule,
                    "precision": self.planner.precision,
                    "fingerprint": self.dataset.fingerprint,
                    "split": digest([part.tolist() for part in vars(split).values()])[:16],
                    "pattern": pattern_digest(pattern.availability, fitted_on),
                }
                for method in methods:
                    yield self._cell(method, common, conditions)

    def _cell(
        self,
        method: tuple[str, str, type[Plugin], Config],
        common: dict[str, Any],
        conditions: tuple[dict[str, Any], ...],
    ) -> Cell:
        name, preset, plugin, config = method
        request = self.planner.request
        asked = {row.partition(":")[0] for row in request.methods}  # the floor is not tuned
        spec = RunSpec(
            method=name,
            preset=preset,
            method_config=config.model_dump(mode="json"),
            sources=self._sources(name),
            tuned=request.tuned if name in asked else "",
            **common,
        )
        reason, half = self._why_not(plugin, common["setting"]), self.recipe.batch_size // 2
        smaller = issubclass(plugin, Method) and plugin.capabilities.smaller_batch
        smaller = smaller and half >= MIN_RETRY_BATCH
        return Cell(spec, conditions, reason, half if smaller else None)

    def _why_not(self, plugin: type[Plugin], setting: Mapping[str, Any]) -> str:
        """Say why a method cannot take this dataset or setting; empty if it can."""
        can, gaps = plugin.capabilities, setting["gaps"]
        because = f" ({can.reason})" if can.reason else ""
        if gaps is not None and can.needs_complete_training:
            return f"needs complete training data, this setting is {setting['name']}{because}"
        if gaps is not None and gaps["level"] == "attribute" and not can.attribute_level:
            return f"cannot take attribute-level gaps{because}"
        return can.refusal([modality.kind for modality in self.dataset.modalities])

    def _sources(self, method: str) -> str:
        """Hash the code that the numbers depend on."""
        registry = self.planner.registry
        found = [registry.find("method", method), registry.find("dataset", self.name)]
        return code_of_run([each.code for each in found])

    def _trainings(
        self, protocols: list[Protocol]
    ) -> list[tuple[Setting, str, tuple[dict[str, Any], ...]]]:
        """Merge the protocols' settings: one training serves all conditions that share it."""
        merged: dict[tuple[Setting, str], dict[str, Condition]] = {}
        for protocol in protocols:
            if protocol.name == "all-subsets" and self.dataset.n_modalities > MAX_SUBSET_MODALITIES:
                raise BadRequest(
                    f"{self.name} has {self.dataset.n_modalities} modalities, so all-subsets would "
                    f"test {len(subsets(self.dataset.n_modalities))} subsets; "
                    f"the limit is {MAX_SUBSET_MODALITIES} modalities"
                )
            rule = self._rule(protocol)
            for setting in protocol.settings(self.dataset):
                conditions = protocol.conditions(self.dataset, setting)
                merged.setdefault((setting, rule), {}).update({c.name: c for c in conditions})
        return [
            (setting, rule, tuple(asdict(c) for c in conditions.values()))
            for (setting, rule), conditions in merged.items()
        ]

    def _rule(self, protocol: Protocol) -> SelectionRule:
        return self.planner.request.selection or protocol.selection

    def scan(self) -> Scan:
        """Scan the dataset for leaks, on the folds of this study."""
        seed, share = self.repeats[0][1], self.recipe.valid_share
        folds = range(self.n_folds)
        splits = [make_split(self.split_on, fold, self.n_folds, seed, share) for fold in folds]
        return scan(self.dataset, splits)

    def layout(self, protocol: Protocol) -> Layout:
        """Say which trainings and conditions the protocol's table shows."""
        rule, gaps = self._rule(protocol), protocol.gaps()
        columns = tuple(
            _layout_column(protocol, rule, setting, condition)
            for setting in protocol.settings(self.dataset)
            for condition in protocol.conditions(self.dataset, setting)
        )
        return Layout(
            self.name,
            protocol.name,
            protocol.display_name,
            protocol.table,
            columns,
            protocol.variant(),
            protocol.axis,
            gaps.law if gaps else "",
        )


def _layout_column(
    protocol: Protocol, rule: SelectionRule, setting: Setting, condition: Condition
) -> LayoutColumn:
    heading = protocol.heading(setting, condition)
    return LayoutColumn(
        setting.name,
        rule,
        condition.name,
        heading.header,
        condition.long_name,
        heading.rate,
        heading.block,
        condition.subset,
    )


def _setting_json(setting: Setting) -> dict[str, Any]:
    return {"name": setting.name} | asdict(setting)
