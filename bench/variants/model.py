"""Variants: settings laid over what was asked, the runs of them, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from bench.layout import Layout
from bench.report import ReportOptions
from bench.reporting.printing import tables_of
from bench.request import merge
from bench.scores.results import RunResult, load_results
from bench.scores.significance import Claim
from bench.store import StudyFolder
from bench.tables import Table
from bench.variants.tables import Series


@dataclass(frozen=True)
class Variant:
    """What is changed, and what the tables call it."""

    label: str
    settings: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # section -> values
    values: tuple[tuple[str, Any], ...] = ()  # parameter and value, of a sweep

    def over(self, base: Variant) -> Variant:
        """Return the variant with what another one changes below it."""
        return replace(self, settings=merge(base.settings, self.settings))


@dataclass(frozen=True)
class Parameter:
    """One setting and the values that it is to take."""

    name: str  # as tables print it
    section: str  # a method, or `recipe`
    key: str
    values: tuple[Any, ...]

    def at(self, value: Any) -> Variant:
        """Return the variant with this value."""
        settings = {self.section: {self.key: value}}
        return Variant(f"{self.name} = {value}", settings, ((self.name, value),))

    def of(self, spec: Mapping[str, Any]) -> Any:
        """Return the value that a run had."""
        return spec["recipe" if self.section == "recipe" else "method_config"][self.key]


@dataclass(frozen=True, eq=False)
class Done:
    """Variants that were carried out, the first of which the others are compared with."""

    folder: StudyFolder
    names: tuple[tuple[Variant, tuple[str, ...]], ...]  # of run folders
    layouts: tuple[Layout, ...]
    budget: str  # of training, for captions

    @property
    def base(self) -> Variant:
        """What the others are compared with."""
        return self.names[0][0]

    @cached_property
    def runs(self) -> tuple[tuple[Variant, list[RunResult]], ...]:
        """The runs of each variant, of any state."""
        return tuple((variant, load_results(self.folder, names)) for variant, names in self.names)

    def series(self, layout: Layout) -> list[Series]:
        """List the runs of one layout, by variant."""
        trainings = layout.trainings
        return [
            Series(
                variant.label,
                tuple(
                    run
                    for run in runs
                    if run.dataset == layout.dataset and run.training in trainings
                ),
                variant.values,
            )
            for variant, runs in self.runs
        ]

    def score_table(
        self, series: Iterable[Series], layout: Layout, what: str, reference: str
    ) -> Table:
        """Write every column of the layout, a row per variant, tested against one of them."""
        titled = replace(layout, variant=", ".join(filter(None, [layout.variant, what])))
        options = ReportOptions(preset=self.budget, claim=Claim(reference=reference))
        return tables_of(relabelled(series), [titled], options)[0]


def relabelled(series: Iterable[Series]) -> list[RunResult]:
    """Return the runs of some variants with the variant's name in place of the method's."""
    return [
        replace(run, spec={**run.spec, "method": each.label, "preset": ""})
        for each in series
        for run in each.runs
    ]


@dataclass(frozen=True)
class Stage:
    """Variants that are shown together, and the setting that they are values of, if it is one."""

    done: Done
    parameter: Parameter | None = None
