"""One call of `bench run`: answer from the store, or plan, carry out, and print the table."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BadRequest
from bench.executor import Executor, Means, Task, value_of
from bench.leakscan import scan_file
from bench.registry import registry_of
from bench.reporting.printing import Asked, check_format, print_tables
from bench.request import Request, checked, read_yaml
from bench.spec import Frozen
from bench.store import StudyFolder
from bench.study.attendance import noted
from bench.study.coordination import carry_out, retried
from bench.study.progress import listener
from bench.study.study import Answer, Study, limited, stored_answer
from bench.wording import counted

UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Manner:
    """How runs are carried out, which changes no number."""

    executor: str = ""  # empty: in this process for one job, in processes for more
    settings: Path | None = None  # YAML file of the executor's
    time_limit: float | None = None  # seconds of a run
    detach: bool = False  # leave once everything is submitted
    verbose: bool = False  # say on stderr how every run ended
    searches: bool = False  # the tasks are searches, not runs

    def name(self, jobs: int) -> str:
        """Name the executor; a hang in this process could not be ended."""
        alone = jobs == 1 and self.time_limit is None
        return self.executor or ("inline" if alone else "processes")


PLAIN = Manner()


class Session:
    """Carries one request through."""

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
        self.manner = manner
        self.request = request
        self.jobs = jobs
        self.quiet = quiet
        self.output = output

    def run(self, limit: int | None, *, fail_fast: bool) -> int:
        """Train what is missing and print the table; return the exit code."""
        folder = StudyFolder(Path(self.request.out), self.request.study)
        answer = stored_answer(self.request, folder, limit)
        if answer is None:
            with noted(folder), self._executor() as executor:
                planned = limited(plan_in(executor, self.request), limit)
                self._warn(planned)
                self._scan(planned, folder.create(), executor)
                answer = carry_out(self.request, planned, folder, executor, fail_fast=fail_fast)
            if answer.n_left:
                return self._leave(answer, folder)
        else:
            with suppress(OSError, BadRequest):  # a folder that may only be read stays as it is
                folder.sweep()
        asked = Asked(answer.folders, answer.layouts, self.request.budget)
        print_tables(folder, asked, self.output)
        self._say(answer, folder)
        return 1 if answer.failed else 0

    def _executor(self) -> AbstractContextManager[Executor]:
        return open_executor(self.jobs, quiet=self.quiet, manner=self.manner, request=self.request)

    def _warn(self, planned: Study) -> None:
        from bench.study.outlook import remarks

        if not self.quiet:
            print("".join(f"{line}\n" for line in remarks(planned)), end="", file=sys.stderr)

    def _leave(self, answer: Answer, folder: StudyFolder) -> int:
        """Say what goes on without this process; the table is for a later call."""
        print(
            f"submitted: {counted(answer.n_left, 'run')}, which the cluster goes on with; `bench "
            f"status --study {folder.name} --out {folder.root}` says how far they are, and the "
            "same command without --detach prints the table",
            file=sys.stderr,
        )
        return 1 if answer.failed else 0

    def _scan(self, planned: Study, folder: StudyFolder, executor: Executor) -> None:
        """Look for leaks at the head of a study, once per dataset and split."""
        for cell in planned.cells:
            spec = cell.spec.model_dump(mode="json")
            name = scan_file(spec)
            if not folder.read_if_whole(name):
                payload = {"request": self.request.model_dump(mode="json")}
                task = Task(name, "scan", payload | {"dataset": cell.spec.dataset})
                folder.write_json(name, called(executor, task))

    def dry_run(self, limit: int | None) -> int:
        """Print what would be run, and how long it would take."""
        from bench.study.outlook import outlook_lines

        folder = StudyFolder(Path(self.request.out), self.request.study)
        with self._executor() as executor:
            planned = limited(plan_in(executor, self.request), limit)
        print("\n".join(outlook_lines(self.request, planned, folder, self.jobs)))
        return 0

    def _say(self, answer: Answer, folder: StudyFolder) -> None:
        for damage in answer.mended:
            print(f"mended: {damage.partition('; ')[0]}", file=sys.stderr)
        if not self.quiet:
            n_declined = sum(folder.run_named(name).state == "skipped" for name in answer.folders)
            said = [
                f"{counted(answer.n_trained, 'run')} carried out",
                f"{answer.n_found - n_declined} found finished",
                f"{n_declined} not applicable" if n_declined else "",
                f"{len(answer.failed)} failed" if answer.failed else "",
            ]
            print(
                f"{', '.join(filter(None, said))}; predictions are in {folder.path}",
                file=sys.stderr,
            )


def retry_failed(study: StudyFolder, *, jobs: int, quiet: bool, manner: Manner = PLAIN) -> int:
    """Carry out the failed and damaged runs of all requests of a study again; return the exit code.

    Raises:
        BadRequest: nothing has failed, or the code behind what failed has changed.
    """
    check_jobs(jobs)
    failed = {run.path.name for run in study.runs() if run.state == "failed" or run.damage()}
    known = study.read_json("study.json")["requests"] if study.has("study.json") else {}
    wanted = [each for each in known.values() if failed & {name for name, _ in each["cells"]}]
    answers = []
    for entry in wanted:
        asked = Request(**entry["asked"] | {"out": str(study.root), "study": study.name})
        with (
            noted(study),
            open_executor(jobs, quiet=quiet, manner=manner, request=asked) as executor,
        ):
            planned = plan_in(executor, asked)
            cells = tuple(cell for cell in planned.cells if cell.spec.folder in failed)
            answers.append(retried(asked, cells, study, executor))
        failed -= {cell.spec.folder for cell in cells}
    n_tried = sum(len(answer) for answer in answers)
    again = [outcome for answer in answers for outcome in answer if outcome.error]
    _say_retried(n_tried, len(again), len(failed), quiet=quiet)
    return 1 if again or failed else 0


def _say_retried(n_tried: int, n_again: int, n_left: int, *, quiet: bool) -> None:
    left = f"; {n_left} were asked for by other code or data, see `bench run`" if n_left else ""
    if not quiet or left:
        print(
            f"{counted(n_tried, 'run')} tried again, {n_again} failed again{left}", file=sys.stderr
        )


def check_asked(request: Request, jobs: int, output: str, manner: Manner) -> None:
    """Refuse what cannot be done before anything is, and where nothing is left to be done too.

    Raises:
        BenchError: says which of jobs, format and executor it is.
    """
    check_jobs(jobs)
    check_format(output)
    if manner != PLAIN:
        check_executor(jobs, manner, request)


def check_jobs(jobs: int) -> None:
    """Refuse a number of jobs that cannot be.

    Raises:
        BadRequest: it is below one.
    """
    if jobs < 1:
        raise BadRequest(f"--jobs wants a number from 1 on, got {jobs}")


def check_executor(jobs: int, manner: Manner, request: Request) -> None:
    """Refuse an executor that cannot do what is asked of it, or settings that it does not have.

    Raises:
        UnknownName: there is no such executor.
        BenchError: says what it cannot do, or which setting is wrong.
    """
    _settings(_plugin(manner.name(jobs), manner, request), manner.settings)


def _plugin(name: str, manner: Manner, request: Request | None) -> type[Executor]:
    registry = registry_of(*((request.include, request.override) if request else ((), False)))
    plugin: type[Executor] = registry.load("executor", name)
    if manner.time_limit is not None and not plugin.ends_hangs:
        raise BadRequest(
            f"the executor {name} cannot end a run at a time limit; leave --time-limit out, or say "
            "--executor processes"
        )
    if manner.detach and not plugin.detaches:
        raise BadRequest(
            f"what the executor {name} carries out ends with this process; leave --detach out"
        )
    if manner.searches and not plugin.searches:
        raise BadRequest(
            f"the executor {name} carries out runs that are known from the start, which trials are "
            "not; say --executor processes, on each machine that is to take part in the search"
        )
    return plugin


def _settings(plugin: type[Executor], path: Path | None) -> Frozen:
    values = read_yaml(path) if path else {}
    settings = checked(plugin.config_class, values, plugin.name)
    assert isinstance(settings, Frozen)
    return settings


def seconds_of(text: str | None) -> float | None:
    """Read a time limit: `90` or `90s`, `30m`, `2h`.

    Raises:
        BadRequest: it is no such time, or zero.
    """
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        seconds = float(number) * UNITS[unit]
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise BadRequest(f"--time-limit wants a time such as 90s, 30m or 2h, got {text!r}")
    return seconds


def plan_in(executor: Executor, request: Request) -> Study:
    """Resolve a request where the runs will be, so that this process imports no torch if it can."""
    return Study.from_json(called(executor, Task("plan", "plan", request.model_dump(mode="json"))))


def called(executor: Executor, task: Task) -> Any:
    """Return the value of one task, carried out by an executor or, if it has no place, here.

    Raises:
        BenchError: the task failed.
    """
    outcome = executor.call(task)
    if outcome is None:
        from bench.study.worker import perform

        outcome = perform(task, lambda share: None)
    return value_of(outcome)


@contextmanager
def open_executor(
    jobs: int, *, quiet: bool, manner: Manner = PLAIN, request: Request | None = None
) -> Iterator[Executor]:
    """Open what carries out tasks, with a progress bar, and close both at the end.

    Args:
        jobs: tasks at a time, for an executor of this machine.
        quiet: without a progress bar.
        manner: which executor, and how.
        request: tells the plugins to include and the folder of the study; None: neither is needed.

    Raises:
        UnknownName: there is no such executor.
        BadRequest: it cannot do what is asked of it.
    """
    plugin = _plugin(manner.name(jobs), manner, request)
    bar = listener(quiet=quiet, verbose=manner.verbose)
    place = Path(request.out, request.study) if request else Means().place
    settings = _settings(plugin, manner.settings)
    executor = plugin(Means(jobs, bar, place, settings, manner.time_limit, manner.detach))
    try:
        yield executor
    finally:
        bar.close()
        executor.close()
