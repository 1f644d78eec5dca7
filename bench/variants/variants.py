"""Runs of one method that differ in a setting: what ablation and sensitivity have in common.

A variant is a set of settings laid over what was asked. The variants of a call are planned together
and carried out as one study: every one has all repeats, a run that two of them share is trained
once, and what the store holds is not trained again. Nothing is trained before every setting of
every variant was found valid.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.executor import Executor
from bench.layout import Layout
from bench.registry import registry_of
from bench.report import Drawing, ReportOptions
from bench.reporting.printing import check_format, identity_of, print_built, tables_of
from bench.request import Request, merge
from bench.scores.results import RunResult, load_results
from bench.scores.significance import Claim
from bench.store import StudyFolder
from bench.studies.attendance import noted
from bench.studies.coordination import carry_out_together
from bench.studies.session import PLAIN, Manner, check_jobs, open_executor, plan_in
from bench.studies.study import stored_answer
from bench.tables import Table
from bench.variants.tables import Series
from bench.wording import counted

if TYPE_CHECKING:
    from bench.method import Plugin
    from bench.variants.records import Record


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


Shown = tuple[list[Table], list[Drawing]]


class Workbench:
    """Carries variants out in one study, and prints and draws what came of them."""

    def __init__(
        self,
        request: Request,
        *,
        jobs: int,
        quiet: bool,
        output: str,
        manner: Manner = PLAIN,
    ):
        check_jobs(jobs)
        check_format(output)
        self.request = request
        self.folder = StudyFolder(Path(request.out), request.study)
        self.registry = registry_of(request.include, request.override)
        self.jobs = jobs
        self.manner = manner
        self.quiet = quiet
        self.output = output
        self.n_trained = self.n_failed = 0
        self.asked: dict[str, list[str]] = {}  # by row, the identities of its requests

    def plugin(self, row: str) -> type[Plugin]:
        """Return the method of a row."""
        found: type[Plugin] = self.registry.load("method", row.partition(":")[0])
        return found

    def carry_out(self, row: str, variants: Sequence[Variant]) -> Done:
        """Train what is missing of a method's variants, each with all repeats.

        Raises:
            BenchError: a setting that is not there or a value that it cannot take, before anything
                is trained; or data that cannot be read.
        """
        requests = [self.request_of(row, variant) for variant in variants]
        asked = [identity_of(each.model_dump(mode="json")) for each in requests]
        self.asked.setdefault(row, []).extend(asked)
        found = {i: stored_answer(each, self.folder, None) for i, each in enumerate(requests)}
        names = {i: answer.folders for i, answer in found.items() if answer}
        layouts = [answer.layouts for answer in found.values() if answer]
        if len(names) < len(requests):
            with noted(self.folder), self._executor() as executor:
                planned = {
                    i: plan_in(executor, r) for i, r in enumerate(requests) if i not in names
                }
                parts = [(requests[i], study) for i, study in planned.items()]
                folder = self.folder.create()
                answer = carry_out_together(parts, folder, executor, fail_fast=False)
            names |= {i: tuple(c.spec.folder for c in s.cells) for i, s in planned.items()}
            layouts.append(answer.layouts)
            self.n_trained += answer.n_trained
            self.n_failed += len(answer.failed)
        every = tuple(names[i] for i in range(len(requests)))
        named = tuple(zip(variants, every, strict=True))
        return Done(self.folder, named, layouts[0], self.request.budget)

    def _executor(self) -> AbstractContextManager[Executor]:
        return open_executor(self.jobs, quiet=self.quiet, manner=self.manner, request=self.request)

    def request_of(self, row: str, variant: Variant) -> Request:
        """Return what is asked of one variant."""
        asked = self.request.alone(row)
        settings = merge(asked.settings, variant.settings)
        return asked.model_copy(update={"settings": settings})

    def recorded(self, record: Record) -> Record:
        """Keep in the study what was carried out of a row, so that a report can show it."""
        whole = replace(record, asked=tuple(self.asked[record.row]))
        whole.write(self.folder)
        return whole

    def close(self, tables: Sequence[Table], drawings: Sequence[Drawing]) -> int:
        """Print tables, save figures, say what was done; return the exit code."""
        from bench.figures import write_drawing

        print_built(tables, self.output)
        folder = self.folder.create().reports_path
        paths = [path for each in drawings for path in write_drawing(each, folder)]
        if not self.quiet:
            said = [f"{counted(self.n_trained, 'run')} carried out"]
            said += [f"{self.n_failed} failed"] if self.n_failed else []
            said += [f"figures: {', '.join(str(p) for p in paths if p.suffix == '.pdf')}"]
            print("; ".join(said), file=sys.stderr)
        return 1 if self.n_failed else 0


def stem(*names: str) -> str:
    """Make the name of a figure's files."""
    return "-".join(names).replace(":", "+")
