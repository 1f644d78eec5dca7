"""A study that is killed or interrupted anywhere: the same command again gives the same bytes.

The studies run in processes of their own, forked from a server that has imported torch once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from bench.cli import main
from bench.liveness import is_alive
from bench.store import RunFolder, StudyFolder
from tests.command_line import included, snapshot

INTERRUPTED = "bench: interrupted; what is finished stays, the same command goes on\n"
HOST = os.uname().nodename
STUDY = (
    "run", *included("mortal"), "-m", "concat:dropout", "-m", "mortal", "-m", "pattern-only",
    "--no-floor", "--folds", "0", "--set", "recipe.epochs=3", "--quiet",
)  # fmt: skip


def carry_out(folder: Path, arguments: tuple[str, ...], at: str) -> None:
    """Run a study in this process, which a signal ends at the given moment."""
    os.setsid()  # a group of its own, and Ctrl-C heard, as in a terminal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    with Path("output.txt").open("w") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    moment, _, file = at.partition(":")
    if moment == "write":
        end_in_writing(file)
    elif moment == "start":
        threading.Thread(target=interrupt_at_start, daemon=True).start()
    else:
        os.environ["BENCH_TOY_SIGNAL"] = at
    main(list(arguments))


def interrupt_at_start() -> None:
    """Press Ctrl-C while the workers start."""
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.01)
    time.sleep(0.3)
    os.killpg(os.getpgrp(), signal.SIGINT)


def end_in_writing(file: str) -> None:
    """Kill this process when half of a file of the mortal run or the study is written."""
    replace = os.replace

    def half(source: Path, target: Path) -> None:
        if (
            target.name == file
            and "pattern-only" not in str(target)
            and "concat" not in str(target)
        ):
            os.truncate(source, Path(source).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = half  # type: ignore[assignment]


def study(folder: Path, *more: str, at: str = "") -> int:
    """Run the study below a folder in a process; return its exit code, -9 if it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "timm", "pandas", "pyarrow.parquet", "sklearn.linear_model"]
    )
    process = context.Process(target=carry_out, args=(folder, (*STUDY, *more), at))
    process.start()
    process.join(240)
    assert process.exitcode is not None
    return process.exitcode


def runs(folder: Path) -> dict[str, RunFolder]:
    """Return the runs by method."""
    folders = StudyFolder(folder / "results", "main").runs()
    return {run.path.name.partition("-wdbc")[0]: run for run in folders}


def predictions(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the predictions by method."""
    return {
        name: (run.path / "predictions.parquet").read_bytes() for name, run in runs(folder).items()
    }


def litter(folder: Path) -> list[str]:
    """List what a finished study must not hold: temporary files and marks of work."""
    return [
        path.name
        for path in folder.rglob("*")
        if ".tmp" in path.name or path.name in ("probe", "running.json")
    ]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the predictions of the study that nothing interrupts."""
    folder = tmp_path_factory.mktemp("straight")
    assert study(folder) == 0, (folder / "output.txt").read_text()
    assert litter(folder) == []
    return predictions(folder)


def assert_it_ends_alike(folder: Path, straight: dict[str, bytes]) -> None:
    """Run the study again to its end and compare; what was finished is not touched."""
    finished = [run.path for run in runs(folder).values() if run.state == "done"]
    before = [snapshot(path) for path in finished]
    assert study(folder) == 0, (folder / "output.txt").read_text()
    assert [snapshot(path) for path in finished] == before
    assert predictions(folder) == straight
    assert litter(folder) == []


@pytest.mark.parametrize(
    "at",
    [
        "epoch:kill",
        "step:kill",
        "write:checkpoint.pt",
        "write:predictions.parquet",
        "write:status.json",
    ],
)
def test_a_killed_study_goes_on_to_the_same_bytes(
    tmp_path: Path, straight: dict[str, bytes], at: str
) -> None:
    assert study(tmp_path, at=at) == -signal.SIGKILL
    states = {name: run.state for name, run in runs(tmp_path).items()}
    assert states == {"concat+dropout": "done", "mortal": "pending"}
    assert_it_ends_alike(tmp_path, straight)


def test_a_study_killed_while_it_notes_its_request_has_begun_nothing(
    tmp_path: Path, straight: dict[str, bytes]
) -> None:
    assert study(tmp_path, at="write:study.json") == -signal.SIGKILL
    assert runs(tmp_path) == {}
    assert len(litter(tmp_path)) == 1
    assert_it_ends_alike(tmp_path, straight)


@pytest.mark.parametrize("at", ["step:interrupt", "step:terminate"])
def test_an_interrupted_study_says_so_and_goes_on(
    tmp_path: Path, straight: dict[str, bytes], at: str
) -> None:
    assert study(tmp_path, at=at) == 130
    assert (tmp_path / "output.txt").read_text().lstrip() == INTERRUPTED
    assert runs(tmp_path)["mortal"].state == "pending"
    assert_it_ends_alike(tmp_path, straight)


def test_an_interrupt_while_workers_start_is_one_line(tmp_path: Path) -> None:
    assert study(tmp_path, "--jobs", "2", at="start:interrupt") == 130
    assert (tmp_path / "output.txt").read_text().lstrip() == INTERRUPTED


@pytest.mark.slow
def test_an_interrupt_ends_all_workers(tmp_path: Path, straight: dict[str, bytes]) -> None:
    assert study(tmp_path, "--jobs", "2", at="step:interrupt") == 130
    assert (tmp_path / "output.txt").read_text().lstrip() == INTERRUPTED
    assert runs(tmp_path)["mortal"].state == "pending"
    assert_it_ends_alike(tmp_path, straight)


@pytest.mark.slow
def test_a_killed_worker_is_a_failed_run_and_the_study_goes_on(
    tmp_path: Path, straight: dict[str, bytes]
) -> None:
    assert study(tmp_path, "--jobs", "2", at="step:kill") == 1
    status = {name: run.status() for name, run in runs(tmp_path).items()}
    states = {name: each["state"] for name, each in status.items()}
    assert states == {"concat+dropout": "done", "mortal": "failed", "pattern-only": "done"}
    assert "ended by signal SIGKILL; out of memory is the usual cause" in status["mortal"]["error"]
    assert "mortal [a] | failed" in " ".join((tmp_path / "output.txt").read_text().split())
    assert_it_ends_alike(tmp_path, straight)


@pytest.mark.slow
def test_a_killed_coordinator_leaves_no_worker_that_writes_on(
    tmp_path: Path, straight: dict[str, bytes]
) -> None:
    assert study(tmp_path, "--jobs", "2", at="step:kill-parent") == -signal.SIGKILL
    mark = runs(tmp_path)["mortal"].read_json("running.json")
    deadline = time.monotonic() + 10
    while is_alive(mark["pid"], HOST, mark["born"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert runs(tmp_path)["mortal"].state == "pending"
    assert_it_ends_alike(tmp_path, straight)
