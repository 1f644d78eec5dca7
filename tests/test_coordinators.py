"""Several coordinators on one study: each cell is done once, and what dies leaves no lock."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from bench.cli import main
from bench.errors import Claimed, ClaimLost
from bench.store import RUNNING, Finished, RunFolder, StudyFolder
from bench.store.claims import SILENCE_SECONDS
from tests.command_line import included
from tests.test_store import frame, spec

HOST = os.uname().nodename
STUDY = (
    "run", *included("counted", "shuffled"), "-m", "counted", "-d", "shuffled", "--no-floor",
    "--seeds", "0-19", "--quiet",
)  # fmt: skip


def forkserver() -> ForkServerContext:
    """Return processes that are forked from one that has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "timm", "pandas", "pyarrow.parquet", "sklearn.linear_model"]
    )
    return context


def coordinate(folder: Path, arguments: tuple[str, ...]) -> None:
    """Run a study in this process."""
    os.chdir(folder)
    os.environ["BENCH_TOY_COUNT"] = str(folder / "trainings")
    main(list(arguments))


def coordinators(folder: Path, n: int) -> Sequence[BaseProcess]:
    """Start so many coordinators on one study at once."""
    (folder / "trainings").mkdir(exist_ok=True)
    context = forkserver()
    started = [context.Process(target=coordinate, args=(folder, STUDY)) for _ in range(n)]
    for each in started:
        each.start()
    return started


def litter(folder: Path) -> list[str]:
    """List temporary files, claims and tokens."""
    return [
        path.name
        for path in folder.rglob("*")
        if path.name in (RUNNING, "probe") or path.name.startswith(".")
    ]


@pytest.mark.slow
def test_two_coordinators_do_forty_cells_with_forty_trainings(tmp_path: Path) -> None:
    both = coordinators(tmp_path, 2)
    for each in both:
        each.join(240)
    assert [each.exitcode for each in both] == [0, 0]
    runs = StudyFolder(tmp_path / "results", "main").runs()
    assert [run.state for run in runs] == ["done"] * 40

    assert len(list((tmp_path / "trainings").iterdir())) == 40
    assert litter(tmp_path / "results") == []


@pytest.mark.slow
def test_what_a_killed_coordinator_had_is_taken_over_by_the_other(tmp_path: Path) -> None:
    first, second = coordinators(tmp_path, 2)
    study = StudyFolder(tmp_path / "results", "main")
    deadline = time.monotonic() + 120
    while not study.exists() or sum(run.state == "done" for run in study.runs()) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    second.join(240)
    assert second.exitcode == 0
    assert [run.state for run in study.runs()] == ["done"] * 40
    assert len(list((tmp_path / "trainings").iterdir())) <= 41  # one may have died in its training
    coordinate_again = forkserver().Process(target=coordinate, args=(tmp_path, STUDY))
    coordinate_again.start()
    coordinate_again.join(120)
    assert litter(tmp_path / "results") == []


def stale_mark(folder: RunFolder) -> None:
    """Put the mark of a process that has ended."""
    folder.path.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(["true"])
    process.wait()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    mark = {"host": HOST, "pid": process.pid, "born": 1, "started": now, "beat": now}
    folder.path_of(RUNNING).write_text(json.dumps(mark | {"coordinator": process.pid}))


def test_a_stale_claim_is_taken_over_by_exactly_one(tmp_path: Path) -> None:
    path = tmp_path / "run"
    for _ in range(5):
        stale_mark(RunFolder(path))
        context = forkserver()
        start, results = context.Barrier(4), context.SimpleQueue()
        claimants = [context.Process(target=claim, args=(path, start, results)) for _ in range(4)]
        for each in claimants:
            each.start()
        won = [results.get() for _ in claimants]
        for each in claimants:
            each.join()
        assert sorted(won) == ["claimed"] * 3 + ["took it"]
        assert [each.name for each in path.iterdir() if each.name.startswith(".")] == []
        path.joinpath(RUNNING).unlink()


def claim(path: Path, start: threading.Barrier, results: multiprocessing.SimpleQueue) -> None:
    """Try to begin a run at the same moment as others; wait until all have tried."""
    start.wait(10)
    try:
        RunFolder(path).begin(spec(), {})
        results.put("took it")
    except Claimed:
        results.put("claimed")
    start.wait(10)


def test_a_claim_of_another_host_is_stale_when_both_clocks_say_so(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    stale_mark(run)
    path = run.path_of(RUNNING)
    long_ago = datetime.now(UTC) - timedelta(seconds=2 * SILENCE_SECONDS)
    mark = run.read_json(RUNNING) | {"host": "elsewhere", "beat": long_ago.isoformat()}
    path.write_text(json.dumps(mark))
    with pytest.raises(Claimed, match="at work in process"):
        run.begin(spec(), {})  # its clock may be wrong: the file is fresh
    os.utime(path, (time.time() - 2 * SILENCE_SECONDS,) * 2)
    run.begin(spec(), {})
    assert run.status()["host"] == HOST
    assert [each.name for each in run.path.iterdir() if each.name.startswith(".")] == []


def test_an_attempt_that_was_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin(spec(), {})
    mark = run.read_json(RUNNING) | {"host": "elsewhere", "pid": 1}
    run.path_of(RUNNING).write_text(json.dumps(mark))
    with pytest.raises(ClaimLost, match="another process took it over"):
        run.heartbeat(epochs=1)
    with pytest.raises(ClaimLost, match="taken over"):
        run.finish()
    with pytest.raises(ClaimLost, match="taken over"):
        run.fail("it was slow", "")
    assert not run.path_of("status.json").exists()


def test_a_run_that_another_finished_cannot_be_begun(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin(spec(), {})
    run.write_predictions(frame("0"))
    run.finish(conditions=["0"], long_names={"0": "a"})
    with pytest.raises(Finished):
        RunFolder(run.path).begin(spec(), {})
    assert litter(tmp_path) == []


def test_a_held_run_is_let_go_at_the_end(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin(spec(), {})
    run.finish()
    with run.held():
        assert run.path_of(RUNNING).exists()
        assert run.state == "done"
    assert litter(tmp_path) == []


def test_temporary_files_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path, "main").create()
    folder = study.runs_path / "run"
    folder.mkdir()
    stale_mark(RunFolder(folder))
    dead = RunFolder(folder).read_json(RUNNING)["pid"]
    left = folder / f".running.{HOST}-{dead}-0123abcd.tmp.json"
    living = folder / f".spec.{HOST}-{os.getpid()}-0123abcd.tmp.json"
    left.touch()
    living.touch()
    study.sweep()
    assert not left.exists()
    assert living.exists()


def test_the_mark_of_who_died_at_the_end_of_a_run_is_swept(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path, "main").create()
    ended, at_work = RunFolder(study.runs_path / "ended"), RunFolder(study.runs_path / "at-work")
    for run in (ended, at_work):
        run.begin(spec(), {})
        run.finish()
    stale_mark(ended)
    with at_work.held():
        study.sweep()
        assert at_work.path_of(RUNNING).exists()
    assert ended.state == "done"
    assert litter(tmp_path) == []
