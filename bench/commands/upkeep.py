"""Commands for what is at work and for what lies there: status, cancel, retry, clean, merge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.commands.options import PATH, command, manner_options, study_options
from bench.commands.requests import manner_of, study_of
from bench.errors import BadRequest

if TYPE_CHECKING:
    from bench.store import StudyFolder


@command()
@study_options
@click.option("--watch", is_flag=True, help="look again and again, until no run is open")
@click.option(
    "--every",
    type=click.FloatRange(0.1, 86400),
    default=5.0,
    show_default=True,
    help="seconds between looks",
)
def status(study: str, out: Path, *, watch: bool, every: float) -> int:
    """Say of every run of a study what became of it; reads files, and the queue of Slurm."""
    from bench.study import standing

    folder = study_of(out, study)
    for page in standing.watch(folder, every if watch else None):
        if watch:
            click.clear()  # of a terminal alone
        print(page, flush=True)
    return 0


@command()
@study_options
def cancel(study: str, out: Path) -> int:
    """End all work on a study, on this machine and in the queue of Slurm; what is done stays."""
    from bench.study.upkeep import cancel_lines

    for line in cancel_lines(study_of(out, study)):
        print(line)
    return 0


@command()
@study_options
@click.option("--failed", is_flag=True, help="the failed runs: all that there is to retry")
@click.option("--jobs", "-j", default=1, show_default=True, help="runs at a time")
@click.option("--quiet", "-q", is_flag=True, help="no progress")
@manner_options
def retry(
    study: str,
    out: Path,
    *,
    failed: bool,
    jobs: int,
    quiet: bool,
    **flags: Any,
) -> int:
    """Run the failed runs of a study again, as they were asked for; 1: some failed again."""
    from bench.study.session import retry_failed

    if not failed:
        raise BadRequest("say what to retry: --failed; `bench run` does what was never finished")
    return retry_failed(study_of(out, study), jobs=jobs, quiet=quiet, manner=manner_of(flags))


@command()
@study_options
@click.option(
    "--only",
    type=click.Choice(["unfinished", "failed", "stale", "logs"]),
    multiple=True,
    help="repeat for several; default: all four",
)
@click.option("--yes", is_flag=True, help="do not ask")
def clean(study: str, out: Path, *, only: tuple[str, ...], yes: bool) -> int:
    """Remove runs that failed, were interrupted or are stale, and old logs; asks first."""
    from bench.cache_folder import in_words
    from bench.plugins.listing import aligned
    from bench.study.upkeep import remove, waste

    folder = study_of(out, study)
    found = waste(folder, only)
    lines = aligned([(each.path.name, in_words(each.n_bytes), each.why) for each in found])
    print("\n".join(lines) if found else "nothing to remove")
    if found and not yes:
        _ask(f"remove these {len(found)} folders?")
    remove(found)
    folder.sweep()
    return 0


def _ask(question: str) -> None:
    """Ask on the terminal and stop unless the answer is yes.

    Raises:
        BadRequest: nobody is there to answer.
        Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        raise BadRequest("nobody is there to be asked; say --yes to remove without asking")
    click.confirm(question, abort=True, err=True)


@command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--into", required=True, help="name of the study that takes them")
@click.option(
    "--out", type=PATH, default="results", show_default=True, help="folder of all studies"
)
def merge(sources: tuple[str, ...], into: str, out: Path) -> int:
    """Put runs and searches of SOURCES, names or folders of studies, into one; 1: some are left."""
    from bench.store import StudyFolder
    from bench.study.merging import merge, merged_lines
    from bench.tuning.merging import merge_searches

    target = StudyFolder(out, into)
    studies = [_source(out, each) for each in sources]
    merged = [*merge(studies, target), *merge_searches(studies, target)]
    print("\n".join(merged_lines(merged, target)))
    return 1 if any(each.conflict or (each.damaged and not each.taken) for each in merged) else 0


def _source(out: Path, text: str) -> StudyFolder:
    """Find a study by its name below the folder of all, or by its own folder."""
    path = Path(text)
    return study_of(path.parent, path.name) if path.is_dir() else study_of(out, text)
