"""Executors: the contract, the order of tasks, room on GPUs, time limits and lack of memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from bench.errors import BadConfig, BadRequest, is_lack_of_memory
from bench.executor import (
    BUG,
    KILLED_FOR_MEMORY,
    OUT_OF_MEMORY,
    TIMED_OUT,
    WORKER_DIED,
    Executor,
    Means,
    Outcome,
    Task,
    longest_first,
    retry_of,
)
from bench.executors.inline import Inline
from bench.executors.processes import Processes
from bench.executors.slurm import SlurmConfig
from bench.registry import Registry
from bench.request import checked
from bench.store import StudyFolder
from bench.study import gpus
from bench.study.cluster import Job, bundled, queue
from bench.study.gpus import CONTEXT_BYTES, Gpu, next_task
from bench.study.session import Manner, called, open_executor, seconds_of
from bench.study.worker import perform
from tests.command_line import call, included

STUDY = ("-m", "counted", "-d", "shuffled", "--no-floor", "--folds", "0", "--device", "cpu", "-q")


def task(
    name: str, seconds: float | None = None, peak_bytes: int | None = None, **payload: object
) -> Task:
    return Task(name, "run", payload, seconds, peak_bytes)


class Recorded(Executor):
    """Says that every task is over as soon as it is asked; what a user's executor looks like."""

    def __init__(self, means: Means | None = None):
        super().__init__(means)
        self.waiting: list[Task] = []

    @property
    def n_open(self) -> int:
        return len(self.waiting)

    def submit(self, tasks: Sequence[Task]) -> None:
        self.waiting += tasks

    def poll(self) -> list[Outcome]:
        first = self.waiting.pop(0)
        return [Outcome(first.name, "failed" if first.name == "bad" else "")]

    def cancel(self) -> None:
        self.waiting.clear()

    def close(self) -> None:
        """Nothing is held."""


def test_a_run_submits_all_and_polls_until_nothing_is_open() -> None:
    outcomes = list(Recorded().run([task("a"), task("bad"), task("b")], fail_fast=False))
    assert [each.name for each in outcomes] == ["a", "bad", "b"]


def test_fail_fast_cancels_what_has_not_begun() -> None:
    outcomes = list(Recorded().run([task("a"), task("bad"), task("b")], fail_fast=True))
    assert [each.name for each in outcomes] == ["a", "bad"]


def test_the_built_in_executors_are_plugins() -> None:
    registry = Registry()
    assert registry.names("executor") == ["inline", "processes", "slurm"]
    assert registry.load("executor", "inline") is Inline
    assert [each.problem for each in registry.check("executor")] == ["", "", ""]


def test_an_executor_of_the_user_carries_out_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_TOY_COUNT", str(tmp_path))
    plugins = included("counted", "shuffled", "aloud")
    assert call("run", *plugins, *STUDY, "--executor", "aloud") == 0
    assert "aloud: counted-shuffled" in capsys.readouterr().err
    assert call("list", "executors", *plugins) == 0
    assert "aloud [include]" in capsys.readouterr().out


def test_the_longest_tasks_go_first_and_the_unknown_before_them() -> None:
    tasks = [task("short", 1.0), task("new"), task("long", 9.0)]
    assert [each.name for each in longest_first(tasks)] == ["new", "long", "short"]


def test_a_gpu_takes_what_fits_beside_those_at_work() -> None:
    gpu = Gpu("GPU-0", free_bytes=10 * CONTEXT_BYTES)
    big, small = (task(name, None, n * CONTEXT_BYTES) for name, n in (("big", 6), ("small", 1)))
    gpu.give(big)
    assert gpu.has_room(small)
    assert not gpu.has_room(task("as big", None, 6 * CONTEXT_BYTES))
    assert next_task([task("as big", None, 6 * CONTEXT_BYTES), small], gpu) == 1
    gpu.take_back(big)
    assert gpu.has_room(task("as big", None, 6 * CONTEXT_BYTES))


def test_a_run_that_was_never_measured_has_a_gpu_alone() -> None:
    gpu = Gpu("GPU-0", free_bytes=10 * CONTEXT_BYTES)
    assert gpu.has_room(task("new"))
    gpu.give(task("new"))
    assert not gpu.has_room(task("small", None, 1))
    assert next_task([task("small", None, 1)], gpu) is None
    assert next_task([task("small", None, 1, device="cpu")], gpu) == 0


def test_gpus_are_those_that_the_driver_lists_and_the_process_may_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-aa, 1000'\necho '1, GPU-bb, [N/A]'\n"
                       "echo '2, GPU-cc, 2000'\n")  # fmt: skip
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [(each.name, each.free_bytes >> 20) for each in gpus.gpus()] == [
        ("GPU-aa", 1000),
        ("GPU-cc", 2000),
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert [each.name for each in gpus.gpus()] == ["GPU-cc"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpus.gpus() == []


@pytest.mark.parametrize("fault", [OUT_OF_MEMORY, KILLED_FOR_MEMORY])
def test_a_lack_of_memory_is_retried_once_with_a_smaller_batch(fault: str) -> None:
    first = task("a", None, 9, retry_batch=32)
    again = retry_of(first, Outcome("a", "no memory", fault))
    assert again is not None
    assert again.payload["smaller"] == {"batch_size": 32, "because": "no memory"}
    assert again.peak_bytes is None
    assert retry_of(again, Outcome("a", "no memory", fault)) is None


@pytest.mark.parametrize("fault", [WORKER_DIED, TIMED_OUT, BUG, ""])
def test_no_other_fault_is_retried(fault: str) -> None:
    assert retry_of(task("a", retry_batch=32), Outcome("a", "why", fault)) is None
    assert retry_of(task("a", retry_batch=None), Outcome("a", "why", OUT_OF_MEMORY)) is None


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error: Exception, lacks: bool) -> None:
    assert is_lack_of_memory(error) is lacks


def test_a_task_of_a_kind_that_fails_is_an_outcome() -> None:
    outcome = perform(Task("plan", "plan", {"methods": ["no-such-method"]}), lambda share: None)
    assert outcome.fault == "UnknownName"
    assert "did you mean" in outcome.error or "known:" in outcome.error


@pytest.mark.slow
def test_a_run_beyond_the_time_limit_is_ended_and_the_next_goes_on(tmp_path: Path) -> None:
    plugin = tmp_path / "endless.py"
    plugin.write_text(
        "import time\n"
        "from bench.dataset import DatasetPlugin\n"
        "time.sleep(600)\n"
        "class Endless(DatasetPlugin): ...\n"
        "PLUGIN = Endless\n"
    )
    asked = {"methods": ["pattern-only"], "datasets": ["endless"], "include": [str(plugin)]}
    with closing(Processes(Means(jobs=1, time_limit=0.5))) as executor:
        with pytest.raises(Exception, match="no method is named"):
            called(executor, Task("plan", "plan", {"methods": ["no-such-method"]}))  # imports torch
        pid = executor.slots[0].process.pid
        (outcome,) = executor.run([Task("hang", "plan", asked)], fail_fast=False)
        assert (outcome.fault, outcome.unmarked) == (TIMED_OUT, True)
        assert "longer than the time limit of 0.5 seconds" in outcome.error
        assert executor.slots[0].process.pid != pid
        with pytest.raises(Exception, match="no method is named"):
            called(executor, Task("plan", "plan", {"methods": ["no-such-method"]}))


def planning_kills(folder: Path, times: int) -> tuple[str, ...]:
    """Write a dataset whose import kills its process so many times; return the call of its study.

    Whoever survives it is refused the study in one line.
    """
    plugin = folder / "deadly.py"
    plugin.write_text(
        "import os, pathlib, signal\n"
        "from bench.dataset import DatasetPlugin\n"
        f"deaths = pathlib.Path({str(folder)!r}, 'deaths')\n"
        "n = int(deaths.read_text()) if deaths.exists() else 0\n"
        "deaths.write_text(str(n + 1))\n"
        f"n < {times} and os.kill(os.getpid(), signal.SIGKILL)\n"
        "raise ImportError('the toy survived')\n"
        "class Deadly(DatasetPlugin): ...\n"
        "PLUGIN = Deadly\n"
    )
    return ("run", "--include", str(plugin), "-m", "pattern-only", "-d", "deadly", "--jobs", "2",
            "-q", "--no-floor")  # fmt: skip


@pytest.mark.parametrize(
    ("times", "error"),
    [(1, "the toy survived"), (9, "planning the study failed twice: the worker process ended by")],
)
@pytest.mark.slow
def test_a_worker_that_dies_while_it_plans_is_replaced_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    times: int,
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*planning_kills(tmp_path, times)) == 2
    said = capsys.readouterr().err
    assert error in said
    assert said.count("\n") == 1
    assert (tmp_path / "deaths").read_text() == "2"
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, None), ("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400)]
)
def test_a_time_limit_is_read(text: str | None, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1h", "soon", "inf", "nan", "h"])
def test_a_wrong_time_limit_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="--time-limit wants a time such as"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("manner", "error"),
    [
        (Manner("inline", time_limit=9.0), "inline cannot end a run at a time limit"),
        (Manner("inline", detach=True), "ends with this process; leave --detach out"),
        (Manner("inlin"), "no executor is named 'inlin'; did you mean inline?"),
    ],
)
def test_what_an_executor_cannot_do_is_refused(manner: Manner, error: str) -> None:
    with (
        pytest.raises(Exception, match=error.replace("?", r"\?")),
        open_executor(1, quiet=True, manner=manner),
    ):
        pass


def test_a_wrong_executor_is_refused_where_all_runs_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("run", "-m", "pattern-only", "--no-floor", "--folds", "0", "-q")
    assert call(*asked) == 0
    assert call(*asked, "--executor", "inlin") == 2
    assert "no executor is named 'inlin'" in capsys.readouterr().err


def test_slurm_without_its_commands_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert call("run", "-m", "concat", "--executor", "slurm") == 2
    said = capsys.readouterr().err
    assert "the executor slurm finds no sbatch here" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_an_unknown_setting_of_an_executor_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cluster.yaml").write_text("partitoin: gpu\n")
    arguments = ("run", "-m", "concat", "--executor", "slurm", "--executor-config", "cluster.yaml")
    assert call(*arguments) == 2
    assert "did you mean partition?" in capsys.readouterr().err


def test_the_settings_of_an_executor_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("info", "slurm") == 0
    said = capsys.readouterr().out
    assert "settings (in the YAML file of --executor-config)" in said
    assert "  bundle_minutes" in said


def test_the_resources_of_a_method_are_checked_before_anything_is_planned() -> None:
    config = checked(SlurmConfig, {"resources": {"cmml": {"gpus": 2, "memory": None}}}, "slurm")
    assert config.resources["cmml"].model_dump(exclude_unset=True) == {"gpus": 2, "memory": None}
    with pytest.raises(BadConfig, match=r"slurm\.resources\.cmml\.gpu: .* got 2; see"):
        checked(SlurmConfig, {"resources": {"cmml": {"gpu": 2}}}, "slurm")


def test_short_tasks_share_a_job_and_unknown_ones_do_not() -> None:
    tasks = [task("a", 50.0), task("b", 40.0), task("c", 30.0), task("new"), task("long", 500.0)]
    names = [[each.name for each in bundle] for bundle in bundled(tasks, 100.0)]
    assert names == [["long"], ["a", "b"], ["c"], ["new"]]


def test_the_queue_is_read_from_squeue_and_no_answer_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    assert queue() is None
    program = tmp_path / "squeue"
    program.write_text("#!/bin/sh\necho '7_0|RUNNING|None'\necho '7_1|PENDING|Priority'\n")
    program.chmod(0o755)
    jobs = queue()
    assert jobs == {"7_0": Job("RUNNING", "None"), "7_1": Job("PENDING", "Priority")}
    assert [each.in_words for each in jobs.values()] == ["running", "pending (Priority)"]
    program.write_text("#!/bin/sh\nexit 1\n")
    assert queue() is None


def test_a_run_that_memory_does_not_suffice_for_is_trained_with_half_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = (
        "run", *included("greedy"), "-m", "greedy", "--no-floor", "--folds", "0", "--device", "cpu",
        "--set", "recipe.epochs=1", "-q",
    )  # fmt: skip
    assert call(*asked, "--set", "recipe.batch_size=32") == 0
    (run,) = StudyFolder(Path("results"), "main").runs()
    assert run.status()["smaller_batch"] == {
        "batch_size": 16,
        "because": "memory ran out (no memory for 32 cases); lower the batch size, or the runs at "
        "a time",
    }
    assert run.spec()["recipe"]["batch_size"] == 32
    said = " ".join(capsys.readouterr().out.split())
    assert "batches of 16 where memory did not suffice for 32" in said
    assert call(*asked, "--set", "recipe.batch_size=128") == 1
    assert "no memory for 64 cases" in capsys.readouterr().err
