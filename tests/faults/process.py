"""`bench` in a process of its own, forked from a server that has imported torch once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.cli import main
from bench.store import RunFolder, StudyFolder

Before = Callable[[], None]  # what is done in the process before `bench` begins
PRELOADED = ["torch", "timm", "pandas", "pyarrow.parquet", "sklearn.linear_model"]
OUT, ERR = "out.txt", "err.txt"


@dataclass(frozen=True)
class Said:
    """How a call of `bench` ended: its exit code, minus the signal if one ended it, and output."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The last line to stderr, which says why a request is refused."""
        return (self.err.strip().splitlines() or [""])[-1]


def start(
    folder: Path,
    arguments: tuple[str, ...],
    *,
    before: Before | None = None,
    env: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Start `bench ARGUMENTS` below a folder."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_carry_out, args=(folder, arguments, before, env or {}))
    process.start()
    return process


def _carry_out(
    folder: Path, arguments: tuple[str, ...], before: Before | None, env: Mapping[str, str]
) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.update(env)
    for name, stream in ((OUT, 1), (ERR, 2)):
        with Path(name).open("w") as output:
            os.dup2(output.fileno(), stream)
    if before is not None:
        before()
    main(list(arguments))


def ended(process: BaseProcess, folder: Path, *, seconds: float = 240) -> Said:
    """Wait for a process and return how it ended."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
    assert process.exitcode is not None
    return Said(process.exitcode, (folder / OUT).read_text(), (folder / ERR).read_text())


def bench(
    folder: Path,
    *arguments: str,
    before: Before | None = None,
    env: Mapping[str, str] | None = None,
) -> Said:
    """Run `bench ARGUMENTS` below a folder to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    return ended(start(folder, arguments, before=before, env=env), folder)


def runs(folder: Path) -> list[RunFolder]:
    """Return the runs of the study below a folder; none if it was never begun."""
    study = StudyFolder(folder / "results", "main")
    return study.runs() if study.exists() else []


def predictions(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the predictions of every finished run, by its name."""
    return {
        run.path.name: run.path_of("predictions.parquet").read_bytes()
        for run in runs(folder)
        if run.state == "done"
    }


def litter(folder: Path) -> list[str]:
    """List what a finished study must not hold: temporary files, marks of work, checkpoints."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in (folder / "results").rglob("*")
        if ".tmp" in path.name
        or path.name in ("probe", "running.json")
        or path.suffix == ".coordinator"
        or path.name.startswith("resume")
        or (path.name.startswith(".") and path.is_file())
    )
