"""One call of `bench run`: answer from the store, or plan, carry out, and print the table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import study as studies
from bench.errors import BadRequest
from bench.executors import Executor, Inline, Processes, Task
from bench.leakscan import scan_file
from bench.progress import listener
from bench.reporting import Asked, check_format, print_tables
from bench.request import Request
from bench.store import StudyFolder
from bench.study import Answer, Study


class Session:
    """Carries one request through."""

    def __init__(self, request: Request, *, jobs: int, quiet: bool, output: str):
        check_jobs(jobs)
        check_format(output)
        self.request = request
        self.jobs = jobs
        self.quiet = quiet
        self.output = output

    def run(self, limit: int | None, *, fail_fast: bool) -> int:
        """Train what is missing and print the table; return the exit code."""
        folder = StudyFolder(Path(self.request.out), self.request.study)
        answer = studies.stored_answer(self.request, folder, limit)
        if answer is None:
            with open_executor(self.jobs, quiet=self.quiet) as executor:
                planned = studies.limited(plan_in(executor, self.request), limit)
                self._scan(planned, folder.create(), executor)
                answer = studies.carry_out(
                    self.request, planned, folder, executor, fail_fast=fail_fast
                )
        asked = Asked(answer.folders, answer.layouts, self.request.budget)
        print_tables(folder, asked, self.output)
        self._say(answer, folder)
        return 1 if answer.failed else 0

    def _scan(self, planned: Study, folder: StudyFolder, executor: Executor) -> None:
        """Look for leaks at the head of a study, once per dataset and split."""
        for cell in planned.cells:
            spec = cell.spec.model_dump(mode="json")
            name = scan_file(spec)
            if not folder.has(name):
                payload = {"request": self.request.model_dump(mode="json")}
                task = Task(name, "scan", payload | {"dataset": cell.spec.dataset})
                folder.write_json(name, executor.call(task))

    def dry_run(self, limit: int | None) -> int:
        """Print what would be run, and how long it would take."""
        from bench.outlook import outlook_lines

        folder = StudyFolder(Path(self.request.out), self.request.study)
        with open_executor(self.jobs, quiet=self.quiet) as executor:
            planned = studies.limited(plan_in(executor, self.request), limit)
        print("\n".join(outlook_lines(self.request, planned, folder, self.jobs)))
        return 0

    def _say(self, answer: Answer, folder: StudyFolder) -> None:
        if not self.quiet:
            said = f"{answer.n_trained} runs carried out, {answer.n_found} found finished"
            failed = f", {len(answer.failed)} failed" if answer.failed else ""
            print(f"{said}{failed}; predictions are in {folder.path}", file=sys.stderr)


def check_jobs(jobs: int) -> None:
    """Refuse a number of jobs that cannot be.

    Raises:
        BadRequest: it is below one.
    """
    if jobs < 1:
        raise BadRequest(f"--jobs wants a number from 1 on, got {jobs}")


def plan_in(executor: Executor, request: Request) -> Study:
    """Resolve a request where the runs will be, so that this process imports no torch."""
    return Study.from_json(executor.call(Task("plan", "plan", request.model_dump(mode="json"))))


@contextmanager
def open_executor(jobs: int, *, quiet: bool) -> Iterator[Executor]:
    """Open what carries out tasks, with a progress bar, and close both at the end."""
    bar = listener(quiet=quiet)
    executor = Inline(bar) if jobs == 1 else Processes(jobs, bar)
    try:
        yield executor
    finally:
        bar.close()
        executor.close()
