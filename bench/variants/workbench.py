"""Runs of one method that differ in a setting: what ablation and sensitivity have in common.

A variant is a set of settings laid over what was asked. The variants of a call are planned together
and carried out as one study: every one has all repeats, a run that two of them share is trained
once, and what the store holds is not trained again. Nothing is trained before every setting of
every variant was found valid.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.executor import Executor
from bench.registry import registry_of
from bench.report import Drawing
from bench.reporting.printing import identity_of, print_built
from bench.request import Request, merge
from bench.store import StudyFolder
from bench.study.attendance import noted
from bench.study.coordination import carry_out_together
from bench.study.session import PLAIN, Manner, check_asked, open_executor, plan_in
from bench.study.study import stored_answer
from bench.tables import Table
from bench.variants.model import Done, Variant
from bench.variants.records import Record
from bench.wording import counted

if TYPE_CHECKING:
    from bench.method import Plugin

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
        check_asked(request, jobs, output, manner)
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
