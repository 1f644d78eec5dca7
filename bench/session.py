"""One call of `bench run`: answer from the store, or plan, carry out, and print the table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import study as studies
from bench.errors import BadRequest
from bench.executors import Inline, Processes, Task
from bench.progress import listener
from bench.request import Request
from bench.store import StudyFolder
from bench.study import Answer, Study

if TYPE_CHECKING:
    from bench.results import RunResult
    from bench.tables import Table

FORMATS = ("markdown", "latex", "csv")


class Session:
    """Carries one request through."""

    def __init__(self, request: Request, *, jobs: int, quiet: bool, output: str):
        if jobs < 1:
            raise BadRequest(f"--jobs wants a number from 1 on, got {jobs}")
        _check_format(output)
        self.request = request
        self.jobs = jobs
        self.quiet = quiet
        self.output = output

    def run(self, limit: int | None, *, fail_fast: bool) -> int:
        """Train what is missing and print the table; return the exit code."""
        folder = StudyFolder(Path(self.request.out), self.request.study)
        answer = studies.stored_answer(self.request, folder, limit)
        if answer is None:
            with self._executor() as executor:
                planned = studies.limited(self._plan(executor), limit)
                answer = studies.carry_out(
                    self.request, planned, folder.create(), executor, fail_fast=fail_fast
                )
        print_tables(folder, answer.folders, self.output, self.request.budget)
        self._say(answer, folder)
        return 1 if answer.failed else 0

    def dry_run(self, limit: int | None) -> int:
        """Print what would be run."""
        from bench.plugin_listing import aligned

        folder = StudyFolder(Path(self.request.out), self.request.study)
        with self._executor() as executor:
            planned = studies.limited(self._plan(executor), limit)
        lines = [("run", "conditions", "state")]
        for cell in planned.cells:
            run = folder.run(cell.spec)
            state = cell.reason and f"not applicable: {cell.reason}"
            state = state or ("done" if cell.is_done(run) else "to do")
            lines.append((cell.spec.folder, str(len(cell.conditions)), state))
        print("\n".join(aligned(lines)))
        return 0

    def _plan(self, executor: Any) -> Study:
        task = Task("plan", "plan", self.request.model_dump(mode="json"))
        return Study.from_json(executor.call(task))

    @contextmanager
    def _executor(self) -> Iterator[Any]:
        bar = listener(quiet=self.quiet)
        executor = Inline(bar) if self.jobs == 1 else Processes(self.jobs, bar)
        try:
            yield executor
        finally:
            bar.close()
            executor.close()

    def _say(self, answer: Answer, folder: StudyFolder) -> None:
        if not self.quiet:
            said = f"{answer.n_trained} runs carried out, {answer.n_found} found finished"
            failed = f", {len(answer.failed)} failed" if answer.failed else ""
            print(f"{said}{failed}; predictions are in {folder.path}", file=sys.stderr)


def _check_format(output: str) -> None:
    if output not in FORMATS:
        raise BadRequest(f"--format wants one of {', '.join(FORMATS)}, got {output!r}")


def print_study(folder: StudyFolder, output: str) -> None:
    """Print the tables of all that was ever asked of a study, in the order of asking."""
    known = folder.read_json("study.json")["requests"] if folder.has("study.json") else {}
    asked = list(known.values())
    names = dict.fromkeys(name for entry in asked for name, _ in entry["cells"])
    budgets = {Request(**entry["asked"]).budget for entry in asked}
    budget = budgets.pop() if len(budgets) == 1 else ""
    print_tables(folder, list(names) or None, output, budget)


def print_tables(
    folder: StudyFolder, names: Sequence[str] | None, output: str, budget: str
) -> None:
    """Print the tables of these runs, in their order, or of all runs of the study."""
    _check_format(output)
    from bench.registry import Registry
    from bench.report import ReportOptions
    from bench.results import load_results

    results: list[RunResult] = load_results(folder, names)
    report = Registry().load("report", "subsets")()
    print_built(report.build(results, ReportOptions(preset=budget)), output)


def print_built(built: Sequence[Table], output: str) -> None:
    """Print tables in a format."""
    _check_format(output)
    from bench import tables

    if output == "csv":
        print("".join(tables.to_csv(each, header=not i) for i, each in enumerate(built)), end="")
        return
    write = tables.to_latex if output == "latex" else tables.to_markdown
    print("\n\n".join(write(each).rstrip() for each in built))
