"""Each fault that the harness is tried with: how it is made, and what must come of it.

A drill works in an empty folder. It makes its fault in a small study and says what `bench` said;
then the fault is over, and the same command must end like a study that never met it, without
touching what was finished.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

from tests.command_line import included, write_toy_release
from tests.faults.process import Said, bench, ended, runs, start

BRIEF = ("--no-floor", "--folds", "0", "--device", "cpu", "--quiet", "--set", "recipe.epochs=3")
STUDY = ("run", *included("mortal"), "-m", "concat:dropout", "-m", "mortal", "-m", "pattern-only",
         *BRIEF)  # fmt: skip
TOY = ("run", *included("toy_release"), "-d", "toy-release", "--data-root", "data",
       "-m", "pattern-only", "-m", "logistic-meanfill", *BRIEF[:-2])  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What came of a fault."""

    said: Said  # by the command that met it
    line: str  # the one line of it: why a request was refused, or why a row failed
    healed: Said | None = None  # by the same command, when the fault was over


@dataclass(frozen=True)
class Drill:
    """One fault."""

    fault: str
    made: str  # how
    make: Callable[[Path], Seen]
    code: int  # exit code of the command that meets it
    says: str  # part of the line
    then: str  # what follows, in words
    command: tuple[str, ...] = STUDY


class Unavailable(Exception):
    """A fault that cannot be made here; its text says why."""


def signal_at(what: str) -> dict[str, str]:
    """Return the environment that makes the mortal method do something in its second epoch."""
    return {"BENCH_TOY_SIGNAL": what}


def failure(folder: Path, method: str = "mortal") -> str:
    """Return why the run of a method failed."""
    return next(run.reason() for run in runs(folder) if run.path.name.startswith(method))


def file_of(folder: Path, name: str, method: str = "concat") -> Path:
    """Return a file of the run of a method."""
    return next(run.path_of(name) for run in runs(folder) if run.path.name.startswith(method))


def flip(path: Path, place: int | None = None) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    """Take all that is in a file."""
    os.truncate(path, 0)


# --- what the study itself does ---------------------------------------------------------------


def method_fails(what: str, *more: str) -> Callable[[Path], Seen]:
    """Have one method do something wrong; its row fails, the rest goes on."""

    def make(folder: Path) -> Seen:
        said = bench(folder, *STUDY, *more, env=signal_at(f"step:{what}"))
        return Seen(said, failure(folder), bench(folder, *STUDY))

    return make


def planning_dies(folder: Path) -> Seen:
    """Kill every worker that plans."""
    said = bench(folder, *STUDY, "--jobs", "2", env=signal_at("import:kill"))
    return Seen(said, said.line, bench(folder, *STUDY))


def coordinator_dies(folder: Path) -> Seen:
    """Kill the process in the middle of a training, and begin it again."""
    every = (*STUDY, "--checkpoint-every", "0")
    said = bench(folder, *every, env=signal_at("step:kill"))
    healed = bench(folder, *every)
    resumed = file_of(folder, "status.json", "mortal").parent
    (place,) = next(run for run in runs(folder) if run.path == resumed).status()["resumed"]
    return Seen(said, f"taken up in epoch {place['epoch']}, step {place['step']}", healed)


def checkpoint_is_damaged(folder: Path) -> Seen:
    """Kill a training, and flip a bit in its last checkpoint."""
    every = (*STUDY, "--checkpoint-every", "0")
    bench(folder, *every, env=signal_at("step:kill"))
    flip(file_of(folder, "resume.pt", "mortal"))
    said = bench(folder, *every)
    status = next(run for run in runs(folder) if "mortal" in run.path.name).status()
    return Seen(said, status["checkpoint_faults"][0], said)


# --- places and disks -------------------------------------------------------------------------


def limit_files() -> None:
    """Let no file of this process grow beyond 40 kB, as a quota does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))


def file_limit(folder: Path) -> Seen:
    """Run under a limit that the weights exceed."""
    said = bench(folder, *STUDY, before=limit_files)
    return Seen(said, failure(folder), bench(folder, *STUDY))


def full_disk(size: str) -> Callable[[Path], Seen]:
    """Run on a file system that is too small."""

    def make(folder: Path) -> Seen:
        small = folder / "small"
        small.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            raise Unavailable("mounting a small file system needs the rights to")
        try:
            said = bench(folder, *STUDY, "--out", "small")
            return Seen(said, said.line, bench(folder, *STUDY))
        finally:
            subprocess.run(["umount", "--lazy", str(small)], check=False)

    return make


def read_only(folder: Path) -> Seen:
    """Name a place that cannot be written."""
    out = "/sys/results" if os.geteuid() == 0 else "locked/results"
    (folder / "locked").mkdir(parents=True)
    (folder / "locked").chmod(0o555)
    said = bench(folder, *STUDY, "--out", out)
    return Seen(said, said.line, bench(folder, *STUDY))


# --- files of the store -----------------------------------------------------------------------


def damaged(name: str, harm: Callable[[Path], None]) -> Callable[[Path], Seen]:
    """Harm a file of a finished run, and ask again."""

    def make(folder: Path) -> Seen:
        bench(folder, *STUDY)
        harm(file_of(folder, name))
        said = bench(folder, *STUDY)
        return Seen(said, said.line, said)

    return make


def study_is_damaged(folder: Path) -> Seen:
    """Cut the file of the study in half, ask again, and do what the line says."""
    bench(folder, *STUDY)
    path = folder / "results" / "main" / "study.json"
    cut(path)
    said = bench(folder, *STUDY)
    path.unlink()
    return Seen(said, said.line, bench(folder, *STUDY))


def weights_are_damaged(folder: Path) -> Seen:
    """Flip a bit in the weights of a finished run, and ask it for further conditions."""
    bench(folder, *STUDY, *included("singles"), "-p", "singles")
    flip(file_of(folder, "checkpoint.pt"))
    said = bench(folder, *STUDY)
    return Seen(said, said.line, said)


# --- clocks and data --------------------------------------------------------------------------


class JumpingClock(datetime):
    """A clock that is a day ahead, then a day behind."""

    n_looks = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """Return a time that is wrong by a day."""
        cls.n_looks += 1
        return datetime.now(tz) + timedelta(days=1 if cls.n_looks % 2 else -1)


def set_clocks() -> None:
    """Let the wall clock of this process jump."""
    from bench.store import claims

    vars(claims)["datetime"] = JumpingClock
    truth = time.time
    time.time = lambda: truth() + 86400 * (-1) ** int(truth() * 10)


def jumping_clock(folder: Path) -> Seen:
    """Run while the wall clock jumps by days."""
    said = bench(folder, *STUDY, before=set_clocks)
    return Seen(said, "", said)


def data_changed(folder: Path) -> Seen:
    """Change a cell of the data of a finished study, and ask again."""
    write_toy_release(folder / "data")
    assert bench(folder, *TOY).code == 0
    table = folder / "data" / "cases.csv"
    before, names = table.read_text(), {run.path.name for run in runs(folder)}
    table.write_text(before.replace("c3,malignant,43", "c3,malignant,44"))
    said = bench(folder, *TOY)
    after = {run.path.name for run in runs(folder)}
    table.write_text(before)
    line = f"{len(names)} runs of the old data, {len(after - names)} of the new"
    return Seen(said, line, bench(folder, *TOY))


def data_changes(folder: Path) -> Seen:
    """Change a cell of the data while the study is at work."""
    write_toy_release(folder / "data")
    process = start(folder, TOY, before=change_after_planning)
    said = ended(process, folder)
    return Seen(said, said.line, bench(folder, *TOY))


def change_after_planning() -> None:
    """Change the data as soon as the study is planned, as another process may."""
    from bench.runner import material
    from bench.study import session
    from bench.study.coordination import carry_out

    def late(*args: object, **kwargs: object) -> object:
        table = Path("data", "cases.csv")
        table.write_text(table.read_text().replace("c3,malignant,43", "c3,malignant,44"))
        material._datasets.clear()
        return carry_out(*args, **kwargs)  # type: ignore[arg-type]

    vars(session)["carry_out"] = late


# --- the list ---------------------------------------------------------------------------------

AGAIN = "the same command repeats that run alone"
MENDED = "that run alone is carried out again, at once; `bench status` and tables say `damaged`"
DRILLS = (
    Drill("an error in a plugin", "a method raises in its second epoch", method_fails("raise"),
          1, "RuntimeError: the toy gives up", f"a failed row, the others are done; {AGAIN}"),
    Drill("a hang in a plugin", "a method sleeps for ever, `--time-limit 10s`",
          method_fails("hang", "--time-limit", "10s"),
          1, "time", f"a failed row, the others are done; {AGAIN}"),
    Drill("a worker dies by a signal", "SIGKILL in the second epoch, `--jobs 2`",
          method_fails("kill", "--jobs", "2"),
          1, "signal SIGKILL", f"a failed row and a new worker; {AGAIN}"),
    Drill("workers die while they plan", "SIGKILL in the import of a plugin, `--jobs 2`",
          planning_dies, 2, "planning the study failed twice", "refused, after a second worker"),
    Drill("memory is exhausted", "a gigabyte more than `ulimit -v` allows",
          method_fails("memory", "--jobs", "2"),
          1, "memory ran out", f"a failed row, the others are done; {AGAIN}"),
    Drill("the coordinator is killed", "SIGKILL in the second epoch", coordinator_dies,
          -signal.SIGKILL, "taken up in epoch 1, step", "the same command goes on"),
    Drill("a checkpoint of a training has a flipped bit", "after such a SIGKILL",
          checkpoint_is_damaged, 0, "is damaged", "the training goes on from the one before"),
    Drill("a quota is used up", "`ulimit -f`, which the weights exceed", file_limit,
          1, "cannot write", f"a failed row; {AGAIN}"),
    Drill("the disk is filled by weights", "a file system of 100 kB", full_disk("100k"),
          1, "no space left on device", "a failed row; with room, the same command repeats it"),
    Drill("the disk is full", "a file system of 12 kB", full_disk("12k"),
          2, "no space left on device", "refused; with room, the same command goes on"),
    Drill("the folder is read-only", "a folder without rights to write", read_only,
          2, "cannot write", "refused before anything is trained"),
    Drill("predictions are cut off", "half of predictions.parquet",
          damaged("predictions.parquet", cut), 0, "is damaged", MENDED),
    Drill("predictions have a flipped bit", "in the middle of predictions.parquet",
          damaged("predictions.parquet", flip), 0, "is damaged", MENDED),
    Drill("a status is cut off", "half of status.json", damaged("status.json", cut),
          0, "is damaged", MENDED),
    Drill("a status has a flipped bit", "in the middle of status.json",
          damaged("status.json", flip), 0, "is damaged", MENDED),
    Drill("a specification is empty", "nothing in spec.json, as after a power cut",
          damaged("spec.json", emptied), 0, "is damaged", MENDED),
    Drill("the study's file is cut off", "half of study.json", study_is_damaged,
          2, "delete that file", "file deleted: every run is found finished"),
    Drill("weights of a finished run have a flipped bit",
          "in the middle of checkpoint.pt, then further conditions are asked for",
          weights_are_damaged, 0, "is damaged", MENDED),
    Drill("the clock jumps", "by two days, at every look", jumping_clock,
          0, "", "nothing happens"),
    Drill("data change between runs", "one cell of a table", data_changed,
          0, "2 runs of the old data, 2 of the new", "another fingerprint: runs of their own", TOY),
    Drill("data change while a study runs", "one cell, after planning", data_changes,
          2, "the files changed since the study was planned", "refused; ask again", TOY),
)  # fmt: skip
