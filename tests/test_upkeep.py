"""What is said of a study, and how it is ended, retried, cleaned and merged."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.errors import BadRequest
from bench.registry import Registry
from bench.sources import code_of_run
from bench.spec import RunSpec
from bench.store import RUNNING, RunFolder, StudyFolder
from bench.store.claims import process_mark
from bench.study.attendance import attending, noted
from bench.study.cluster import Bundle, write_bundles
from bench.study.merging import merge
from bench.study.standing import staleness, standings, status_lines, watch
from bench.study.upkeep import cancel_lines, waste
from tests.command_line import call, included
from tests.own_data import skin
from tests.test_store import frame, spec


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def finished(study: StudyFolder, of: RunSpec, *conditions: str, p: float = 0.25) -> RunFolder:
    """Store a finished run of these conditions."""
    run = study.run(of)
    run.begin(of, {})
    predictions = frame(*conditions)
    predictions["p_0"], predictions["p_1"] = p, 1 - p
    run.write_predictions(predictions)
    rows = frame(*conditions)[["case", "condition"]]
    run.write_availability(rows.assign(part="test", age=True))
    names = {condition: f"long {condition}" for condition in conditions}
    run.finish(conditions=list(conditions), long_names=names, condition_gaps={})
    return run


def failed(study: StudyFolder, of: RunSpec) -> RunFolder:
    run = study.run(of)
    run.begin(of, {})
    run.fail("the toy gives up\nand more", "trace")
    return run


def interrupted(study: StudyFolder, of: RunSpec) -> RunFolder:
    run = study.run(of)
    run.begin(of, {})
    run.release()
    return run


def at_work(study: StudyFolder, of: RunSpec, **mark: object) -> RunFolder:
    """Mark a run as begun six minutes ago, three epochs of thirty in."""
    run = study.run(of)
    run.begin(of, {})
    started = (datetime.now(UTC) - timedelta(minutes=6)).isoformat(timespec="seconds")
    content = run.read_json(RUNNING) | {"started": started, "epochs": 3} | mark
    run.path_of(RUNNING).write_text(json.dumps(content))
    return run


def queue_of(folder: Path, *lines: str) -> None:
    """Write a squeue that answers with these lines, and a scancel that notes what it is told."""
    for name, text in {
        "squeue": "".join(f"echo '{line}'\n" for line in lines),
        "scancel": f"echo $@ >> {folder}/cancelled\n",
    }.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{text}")
        program.chmod(0o755)


def notes(study: StudyFolder) -> dict[str, tuple[str, str]]:
    """Return state and note by seed."""
    return {each.name.split("-")[3]: (each.state, each.note) for each in standings(study)}


def test_a_study_says_where_every_run_stands(study: StudyFolder) -> None:
    failed(study, spec(seed=1))
    interrupted(study, spec(seed=2))
    at_work(study, spec(seed=3))
    never_begun = spec(seed=4).folder
    study.write_json("study.json", {"requests": {"k": {"cells": [[never_begun, ["0"]]]}}})
    found = notes(study)
    assert found["f0s1"] == ("failed", "the toy gives up")
    assert found["f0s2"] == ("pending", "interrupted")
    assert found["f0s4"] == ("pending", "")
    state, note = found["f0s3"]
    assert state == "running"
    assert note.startswith(f"{os.uname().nodename}, process {os.getpid()}, since ")
    assert note.endswith("(6 min), epoch 3 of 30, at most 54 min left")
    assert list(status_lines(standings(study)))[-1] == "1 failed, 2 pending, 1 running"


def test_a_run_made_with_other_code_is_stale(study: StudyFolder) -> None:
    finished(study, spec(dataset="wdbc"), "0")
    (one,) = standings(study)
    assert (one.state, one.is_stale) == ("done", True)
    assert list(status_lines(standings(study)))[-1] == "1 done, 1 stale"
    (said,) = staleness(study)
    assert said.startswith("note: code that has changed since made 1 of 1 finished run;")


def test_a_run_on_a_manifest_is_stale_by_what_its_request_included(
    study: StudyFolder, tmp_path: Path
) -> None:
    manifest = skin(tmp_path)
    registry = Registry([manifest])
    found = [registry.find("method", "concat"), registry.find("dataset", "skin")]
    now = spec(dataset="skin", seed=4, sources=code_of_run([each.code for each in found]))
    before = spec(dataset="skin", seed=3)
    asked = {"include": [str(manifest), str(tmp_path / "gone.py")]}
    cells = [[of.folder, 1] for of in (before, now)]
    study.write_json("study.json", {"requests": {"key": {"asked": asked, "cells": cells}}})
    for of in (before, now):
        finished(study, of, "0")
    assert [each.is_stale for each in standings(study)] == [True, False]


def test_a_damaged_run_is_named_and_the_others_are_told(study: StudyFolder) -> None:
    failed(study, spec(seed=1))
    failed(study, spec(seed=2)).path_of("status.json").write_text("{")
    assert [state for state, _ in notes(study).values()].count("damaged") == 1


def test_the_queue_of_slurm_tells_what_waits_and_what_is_lost(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_of(tmp_path, "7_0|PENDING|Priority", "7_1|RUNNING|None")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    waits, works, lost = (spec(seed=seed) for seed in (1, 2, 3))
    jobs = {"7_0": waits, "7_1": works, "7_2": lost}
    write_bundles(study, "first", [Bundle(job, (of.folder,)) for job, of in jobs.items()])
    cells = [[of.folder, ["0"]] for of in jobs.values()]
    study.write_json("study.json", {"requests": {"k": {"cells": cells}}})
    at_work(study, works, job="7_1", host="node-1")
    at_work(study, lost, job="7_2", host="node-2")
    found = notes(study)
    assert found["f0s1"] == ("queued", "Slurm: pending (Priority)")
    assert "node-1" in found["f0s2"][1]
    assert "(Slurm job 7_1)" in found["f0s2"][1]
    assert found["f0s3"] == ("pending", "its Slurm job 7_2 is gone; it begins again")


def test_a_damaged_record_of_jobs_hides_no_run_and_keeps_its_logs_while_jobs_are_queued(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_of(tmp_path, "7_0|PENDING|Priority")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    failed(study, spec())
    write_bundles(study, "first", [Bundle("7_0", (spec(seed=1).folder,))])
    (study.path / "slurm" / "first" / "jobs.json").write_bytes(b"{")
    assert [state for state, _ in notes(study).values()] == ["failed"]
    assert waste(study, ["logs"]) == []
    queue_of(tmp_path)
    assert [each.path.name for each in waste(study, ["logs"])] == ["first"]


def test_a_watch_ends_when_nothing_is_open(study: StudyFolder) -> None:
    run = at_work(study, spec())
    pages = watch(study, 0.0)
    assert "1 running" in next(pages)
    run.fail("it gave up", "")
    assert "1 failed" in next(pages)
    assert list(pages) == []


def test_cancel_ends_jobs_and_coordinators(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_of(tmp_path, "7_0|PENDING|Priority")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    write_bundles(study, "first", [Bundle("7_0", ("a",)), Bundle("6_0", ("b",))])
    sleeper = subprocess.Popen(["sleep", "60"])
    born = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[19]
    at_work(study, spec(), pid=sleeper.pid, born=int(born), coordinator=sleeper.pid)
    at_work(study, spec(seed=9), host="node-9", pid=1)
    said = list(cancel_lines(study))
    assert sleeper.wait(10) < 0
    assert (tmp_path / "cancelled").read_text() == "7_0\n"
    assert said == [
        f"ended 1 coordinator: {sleeper.pid} (1 run at work here)",
        "cancelled 1 Slurm job: 7_0",
        "runs are at work on node-9; call this there as well",
    ]


def test_a_coordinator_is_noted_from_its_planning_on_and_can_be_cancelled(
    study: StudyFolder,
) -> None:
    waits = (
        "import time; from pathlib import Path; from signal import *\n"
        "from bench.study.attendance import noted\n"
        "from bench.store import StudyFolder\n"
        "signal(SIGTERM, default_int_handler)\n"
        f"with noted(StudyFolder(Path({str(study.root)!r}), 'first')): time.sleep(60)\n"
    )
    first = StudyFolder(study.root, "first")
    planning = subprocess.Popen([sys.executable, "-c", waits], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not attending(first) and time.monotonic() < deadline:
        time.sleep(0.02)
    said = list(cancel_lines(first))
    assert planning.wait(10) != 0
    assert said == [f"ended 1 coordinator: {planning.pid} (no run at work here)"]
    assert not first.exists()
    with pytest.raises(BadRequest, match="there is no study 'first'"):
        list(cancel_lines(first))


def test_the_note_of_a_killed_coordinator_says_nothing_and_goes_with_the_next(
    study: StudyFolder,
) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    study.write_json("old.coordinator", process_mark() | {"pid": dead.pid, "born": 1})
    (study.path / "cut.coordinator").write_text("{")
    (study.path / "empty.coordinator").write_text("{}")
    assert attending(study) == []
    with noted(study):
        (mine,) = attending(study)
        assert mine["pid"] == os.getpid()
    assert not list(study.path.glob("*.coordinator"))


def test_a_study_whose_planning_fails_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(BadRequest), noted(StudyFolder(tmp_path / "kept" / "a", "b")):
        raise BadRequest("no such method")
    assert list(tmp_path.rglob("*")) == [tmp_path / "kept"]


def test_nothing_at_work_is_said(study: StudyFolder) -> None:
    assert list(cancel_lines(study)) == ["nothing is at work"]


def test_clean_lists_what_is_of_no_use_and_never_what_is_done_or_at_work(
    study: StudyFolder,
) -> None:
    finished(study, spec(seed=0, dataset="unknown"), "0")
    failed(study, spec(seed=1))
    interrupted(study, spec(seed=2))
    at_work(study, spec(seed=3))
    finished(study, spec(seed=4, dataset="wdbc"), "0")
    why = {each.path.name.split("-")[3]: each.why for each in waste(study, ())}
    assert why == {"f0s1": "the toy gives up", "f0s2": "unfinished", "f0s4": "stale"}
    assert [each.why for each in waste(study, ["stale"])] == ["stale"]
    assert waste(study, ["failed"])[0].n_bytes > 100


def test_clean_asks_first(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = failed(study, spec())
    arguments = ("clean", "--out", str(study.root))
    with multiprocessing.Pipe()[0] as pipe, os.fdopen(os.dup(pipe.fileno())) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert call(*arguments) == 2
    assert "say --yes to remove without asking" in capsys.readouterr().err
    assert run.path.is_dir()
    assert call(*arguments, "--yes") == 0
    assert not run.path.exists()
    assert call(*arguments) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_merging_takes_equal_runs_once_and_the_better_attempt(tmp_path: Path) -> None:
    here, there = (StudyFolder(tmp_path, name).create() for name in ("here", "there"))
    finished(here, spec(seed=1), "0")
    finished(there, spec(seed=1), "0", "1")
    failed(here, spec(seed=2))
    finished(there, spec(seed=2), "0")
    interrupted(here, spec(seed=3))
    here.write_json("study.json", {"requests": {"a": {"cells": []}}})
    there.write_json("study.json", {"requests": {"b": {"cells": []}}})
    both = StudyFolder(tmp_path, "both")
    merged = merge([here, there], both)
    assert [(each.taken is not None, each.n_same, each.conflict) for each in merged] == [
        (True, 1, ""),
        (True, 0, ""),
        (False, 0, ""),
    ]
    runs = {run.spec()["seed"]: run for run in both.runs()}
    assert {seed: run.state for seed, run in runs.items()} == {1: "done", 2: "done"}
    assert runs[1].status()["conditions"] == ["0", "1"]
    assert set(runs[1].predictions()["condition"]) == {"0", "1"}
    assert set(both.read_json("study.json")["requests"]) == {"a", "b"}
    again = merge([here, there], both)
    assert [each.conflict for each in again] == ["", "", ""]
    assert not [path for path in both.path.rglob("*") if path.name.startswith(".")]


def test_runs_that_contradict_each_other_are_shown_and_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = (StudyFolder(tmp_path, name).create() for name in ("here", "there"))
    finished(here, spec(seed=1), "0", p=0.25)
    finished(there, spec(seed=1), "0", p=0.75)
    finished(there, spec(seed=2), "0")
    arguments = ("merge", "here", str(there.path), "--into", "both", "--out", str(tmp_path))
    assert call(*arguments) == 1
    said = capsys.readouterr().out
    assert "conflict: concat+dropout-toy-complete-f0s1" in said
    assert "predictions of condition '0' differ between" in said
    assert ": 1 run; " in said
    assert [run.spec()["seed"] for run in StudyFolder(tmp_path, "both").runs()] == [2]


def test_a_study_that_is_not_there_or_is_the_target_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    StudyFolder(tmp_path, "here").create()
    assert call("merge", "here", "gone", "--into", "both", "--out", str(tmp_path)) == 2
    assert call("merge", "here", "--into", "here", "--out", str(tmp_path)) == 2
    assert "cannot be merged into itself" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()


def test_failed_runs_are_retried_as_they_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_TOY_COUNT", str(tmp_path / "gone"))  # where it cannot count
    plugins = included("counted", "shuffled")
    asked = ("-m", "counted", "-d", "shuffled", "--no-floor", "--device", "cpu", "-q")
    assert call("run", *plugins, *asked) == 1
    assert call("retry") == 2
    assert call("retry", "--failed") == 1
    assert "2 runs tried again, 2 failed again" in capsys.readouterr().err
    (tmp_path / "gone").mkdir()
    assert call("retry", "--failed") == 0
    runs = StudyFolder(Path("results"), "main").runs()
    assert [run.state for run in runs] == ["done", "done"]
    assert len(list((tmp_path / "gone").iterdir())) == 2
    shutil.rmtree(runs[0].path)
    assert call("retry", "--failed") == 0  # what was never finished is not its business
    assert not runs[0].path.exists()
