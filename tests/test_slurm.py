"""Ten cells on a real Slurm, of which one raises, one is killed and one is requeued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

import bench
from bench.store import RunFolder, StudyFolder
from bench.study.cluster import bundles_of
from tests.command_line import included
from tests.slurm_cluster import Cluster, slurm_cluster, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

ROOT = Path(bench.__file__).parents[1]
ROWS = (
    "sleeper:killed", "sleeper:requeued", "explodes", "gated-sum", "concat:dropout", "unimodal:",
    "elementwise-sum", "logistic-meanfill", "logistic-specialist", "pattern-only",
)  # fmt: skip
Found = TypeVar("Found")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("submitit")
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def command(folder: Path, *more: str) -> list[str]:
    """Return the call of `bench run` for the ten cells."""
    config = folder / "cluster.yaml"
    config.write_text(yaml.safe_dump({"at_once": 2, "poll_seconds": 0.5, "time": 30}))
    rows = [part for row in ROWS for part in ("-m", row)]
    return [
        sys.executable, "-m", "bench", "run", *included("sleeper", "explodes", "gated_sum"), *rows,
        "--no-floor", "--folds", "0", "--set", "recipe.epochs=3", "--device", "cpu", "--quiet",
        "--executor", "slurm", "--executor-config", str(config), "--out", str(folder / "results"),
        *more,
    ]  # fmt: skip


def runs(folder: Path) -> dict[str, RunFolder]:
    """Return the runs by row."""
    found = StudyFolder(folder / "results", "main").runs()
    return {run.path.name.partition("-wdbc")[0].replace("+", ":"): run for run in found}


def wait_for(look: Callable[[], Found], what: str, seconds: float = 240) -> Found:
    """Look again and again until there is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


def kill(folder: Path) -> None:
    """Kill the task that waits to be killed, and let its next attempt pass."""
    wait_for((folder / "killed.waiting").exists, "the cell to be killed")
    mark = runs(folder)["sleeper:killed"].mark()
    assert mark is not None
    (folder / "killed.go").touch()
    os.kill(mark["pid"], signal.SIGKILL)


def requeue(folder: Path, cluster: Cluster) -> None:
    """Signal as Slurm does before the time limit; Slurm's pause before a restart is cut short.

    The signal goes to the process, as the daemon of the node sends it: asked through scancel, the
    controller puts it off while other tasks of the array wait.
    """
    wait_for((folder / "requeued.waiting").exists, "the cell to be requeued")
    mark = runs(folder)["sleeper:requeued"].mark()
    assert mark is not None
    os.kill(mark["pid"], signal.SIGUSR2)
    time.sleep(0.5)
    (folder / "requeued.go").touch()
    wait_for(lambda: cluster.states().get(mark["job"]) == "PENDING", "the requeued job")
    cluster.call("scontrol", "update", f"JobId={mark['job']}", "StartTime=now")


@pytest.mark.slow
def test_ten_cells_on_slurm_end_in_the_right_state(cluster: Cluster, tmp_path: Path) -> None:
    environment = {**cluster.environment, "BENCH_TOY_GATE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "output.txt").open("w") as output:
        study = subprocess.Popen(
            command(tmp_path), cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    n_running = [0]
    try:
        kill(tmp_path)
        requeue(tmp_path, cluster)
        while study.poll() is None:
            n_running.append(list(cluster.states().values()).count("RUNNING"))
            time.sleep(0.2)
    finally:
        study.kill()
        study.wait()
    said = (tmp_path / "output.txt").read_text()
    assert study.returncode == 1, said
    status = {row: run.status() for row, run in runs(tmp_path).items()}
    assert len(status) == 10
    failed = {row: each["error"] for row, each in status.items() if each["state"] != "done"}
    assert failed == {"explodes": "RuntimeError: the toy gives up"}
    assert [each["epoch"] for each in status["sleeper:requeued"]["resumed"]] == [1]
    assert max(n_running) <= 2
    assert "explodes [a] | failed" in " ".join(said.split())
    assert not [*tmp_path.rglob("running.json"), *tmp_path.rglob("*.tmp*")]


@pytest.mark.slow
def test_the_variants_of_a_sweep_are_carried_out_on_slurm(cluster: Cluster, tmp_path: Path) -> None:
    config = tmp_path / "cluster.yaml"
    config.write_text(yaml.safe_dump({"at_once": 2, "poll_seconds": 0.5, "time": 30}))
    done = subprocess.run(
        [
            sys.executable, "-m", "bench", "sensitivity", "-m", "elementwise-sum", "--param",
            "reduce=mean", "--folds", "0", "--set", "recipe.epochs=1", "--device", "cpu", "--quiet",
            "--executor", "slurm", "--executor-config", str(config), "--out", str(tmp_path),
        ],
        cwd=ROOT,
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )  # fmt: skip
    assert "sensitivity to reduce" in done.stdout
    study = StudyFolder(tmp_path, "sensitivity")
    submitted = [cell for bundle in bundles_of(study) for cell in bundle.cells]
    assert sorted(submitted) == [run.path.name for run in study.runs()]
    assert [run.state for run in study.runs()] == ["done"] * 2
