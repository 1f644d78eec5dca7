"""A training that was ended anywhere goes on from its checkpoint to the same bytes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.engine.engine import fit
from bench.engine.resume import (
    Checkpoints,
    Preempted,
    SaveRule,
    ask_to_stop,
    is_asked_to_stop,
    stopping_on,
)
from bench.engine.stage import NonFiniteLoss, Training
from bench.engine.tensor_files import load_tensors, save_tensors
from bench.errors import BadData, BadRequest
from bench.method import Method, Stage
from bench.protocol import condition_of
from bench.registry import Registry
from bench.request import Request
from bench.runner.cell import Cell
from bench.runner.material import Context, Hooks
from bench.runner.runner import execute
from bench.store import RESUME, RESUME_BEFORE, RESUME_LOG, RunFolder, StudyFolder
from bench.study.planning import plan
from tests.command_line import PLUGINS, call
from tests.test_store import spec
from tests.toy_training import TRAIN, VALID, Toy, builder, dataset, part, recipe

ALWAYS = SaveRule(every_seconds=0)
STEPS = 3  # of an epoch of the toy


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = StudyFolder(tmp_path, "main").run(spec())
    folder.begin(spec(), {})
    return folder


@pytest.fixture(autouse=True)
def _no_stop_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    import bench.engine.resume

    monkeypatch.setattr(bench.engine.resume, "_stop", type(bench.engine.resume._stop)())


class Drawing(Toy):
    """Learn with numbers from every generator, and remember them in a buffer and in weights."""

    stops: tuple[int, ...] = ()  # steps after which the process is asked to stop

    def stages(self) -> list[Stage]:
        return [
            Stage("both", 0.4),
            Stage("alone", 0.3, subset=(1,), fresh=True),
            Stage("nobody", 0.1, cases=lambda observed: observed[:, 0] & False),
            Stage("again", 0.4, parameters=("method.weight",)),
        ]

    def on_epoch_start(self, progress: Any) -> None:
        self.quality.add_(torch.rand((), generator=progress.generator))

    def losses(self, tokens: Any, observed: Tensor, label: Tensor, progress: Any) -> Any:
        noise = torch.rand(()) + torch.rand((), generator=progress.generator)
        loss = noise * (self.weight - label.float().mean()) ** 2
        return {"weight": loss, "other": (self.other - noise) ** 2}

    def after_step(self, progress: Any) -> None:
        self.epoch.add_(self.weight.detach())
        if progress.step in self.stops:
            ask_to_stop()


def trained(
    checkpoints: Checkpoints, method: type[Method] = Drawing, epochs: int = 10
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Train a toy; return the states of its members and the log without times."""
    data = dataset()
    training = Training(recipe(epochs=epochs, lr=0.01), (None,), ("toy", 0), 2)
    log: list[dict[str, Any]] = []
    torch.rand(3)  # whatever was drawn before has no influence
    members = fit(
        builder(data, method), training, part(data, TRAIN), part(data, VALID), log.append,
        checkpoints,
    )  # fmt: skip
    states = [(member.subset, dict(member.model.state_dict())) for member in members]
    return states, [{k: v for k, v in row.items() if k != "seconds"} for row in log]


def assert_alike(found: tuple[list[Any], list[Any]], wanted: tuple[list[Any], list[Any]]) -> None:
    assert found[1] == wanted[1]
    for (subset, state), (other_subset, other) in zip(found[0], wanted[0], strict=True):
        assert subset == other_subset
        assert all(torch.equal(state[name], other[name]) for name in other)


@pytest.mark.parametrize("step", [0, 1, 2, 11, 12, 19, 22, 32])
def test_a_training_stopped_after_any_step_ends_alike(
    run: RunFolder, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = trained(Checkpoints(None))
    assert [row["stage"] for row in straight[1]].count("alone") == 3
    monkeypatch.setattr(Drawing, "stops", (step,))
    with pytest.raises(Preempted), stopping_on(signal.SIGUSR1):
        trained(Checkpoints(run))
    monkeypatch.setattr(Drawing, "stops", ())
    checkpoints = Checkpoints(run)
    assert_alike(trained(checkpoints), straight)
    assert [place["step"] for place in checkpoints.resumed] == [step + 1]


def test_a_training_may_be_stopped_many_times(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = trained(Checkpoints(None))
    stops = (0, 4, 5, 13, 25)
    monkeypatch.setattr(Drawing, "stops", stops)
    for _ in stops:
        with pytest.raises(Preempted), stopping_on(signal.SIGUSR1):
            trained(Checkpoints(run))
    last = Checkpoints(run)
    assert_alike(trained(last), straight)
    places = [(place["stage"], place["epoch"]) for place in last.facts()["resumed"]]
    assert places == [("both", 0), ("both", 1), ("both", 1), ("alone", 0), ("again", 1)]


class Ends(Exception):
    """Stands for whatever ends a process."""


def ended_after(run: RunFolder, n_rows: int, rule: SaveRule) -> None:
    """Train, with an end of the process while it writes a row of the log."""
    data = dataset()
    training = Training(recipe(epochs=10, lr=0.01), (None,), ("toy", 0), 2)
    rows = []

    def log(row: dict[str, Any]) -> None:
        rows.append(row)
        if len(rows) == n_rows:
            raise Ends

    with pytest.raises(Ends):
        fit(
            builder(data, Drawing), training, part(data, TRAIN), part(data, VALID), log,
            Checkpoints(run, rule),
        )  # fmt: skip


@pytest.mark.parametrize("n_rows", [2, 3, 5, 6, 9, 10])
def test_a_training_that_was_killed_goes_on_after_its_last_epoch(
    run: RunFolder, n_rows: int
) -> None:
    ended_after(run, n_rows, ALWAYS)
    assert_alike(trained(Checkpoints(run)), trained(Checkpoints(None)))


def test_a_short_training_writes_no_checkpoint(run: RunFolder) -> None:
    ended_after(run, 9, SaveRule())
    assert not run.path_of(RESUME).exists()


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "flipped": lambda content: flip(content, len(content) // 2),
    "no archive": lambda content: b"PK" + bytes(100),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(run: RunFolder, damage: str) -> None:
    ended_after(run, 5, ALWAYS)
    path = run.path_of(RESUME)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    checkpoints = Checkpoints(run)
    assert_alike(trained(checkpoints), trained(Checkpoints(None)))
    assert [place["step"] for place in checkpoints.resumed] == [3 * STEPS]
    (fault,) = checkpoints.faults
    assert RESUME in fault
    assert "is damaged" in fault


def test_without_a_whole_checkpoint_the_training_begins_anew_and_says_so(run: RunFolder) -> None:
    ended_after(run, 5, ALWAYS)
    for name in (RESUME, RESUME_BEFORE):
        run.path_of(name).write_bytes(b"damaged")
    run.path_of(RESUME_LOG).write_bytes(b"{")
    checkpoints = Checkpoints(run)
    assert_alike(trained(checkpoints), trained(Checkpoints(None)))
    assert checkpoints.resumed == []
    assert len(checkpoints.faults) == 2


def test_any_flipped_bit_of_a_file_of_tensors_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    value: Any = {"weight": torch.arange(6.0), "name": "a", "epochs": (1, None)}
    save_tensors(path, value)
    content = path.read_bytes()
    n_noticed = 0
    for place in range(0, len(content), 11):
        path.write_bytes(flip(content, place))
        try:
            found = load_tensors(path)
        except BadData:
            n_noticed += 1
            continue
        assert torch.equal(found["weight"], value["weight"])
        assert found["epochs"] == (1, None)
    assert n_noticed > 20


def test_a_checkpoint_of_another_torch_is_left(run: RunFolder) -> None:
    save_tensors(run.path_of(RESUME), {"format": 1, "torch": "0.4", "state": {}})
    checkpoints = Checkpoints(run)
    assert checkpoints.load() is None
    assert "by torch 0.4, not" in checkpoints.faults[0]


def test_a_file_of_tensors_that_holds_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": Path("x")}, tmp_path / "x.pt")
    with pytest.raises(BadData, match="Weights only load failed"):
        load_tensors(tmp_path / "x.pt")


def test_a_full_disk_does_not_end_a_training_that_need_not_stop(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, content: Any) -> int:
        if ".resume." in path.name:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    checkpoints = Checkpoints(run, ALWAYS)
    assert_alike(trained(checkpoints), trained(Checkpoints(None)))
    (fault,) = checkpoints.facts()["checkpoint_faults"]
    assert "no space left on device" in fault
    ask_to_stop()
    with pytest.raises(BadRequest, match="no space left"):
        trained(checkpoints)


def test_saving_takes_a_twentieth_of_the_time_at_most(run: RunFolder) -> None:
    checkpoints = Checkpoints(run, SaveRule(every_seconds=0.01))

    def slow() -> dict[str, Any]:
        time.sleep(0.05)
        return {}

    time.sleep(0.01)
    checkpoints.offer(slow)
    time.sleep(0.02)
    checkpoints.offer(lambda: pytest.fail("that was 40 % of the time"))


def test_signals_ask_to_stop_and_are_given_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with stopping_on(signal.SIGUSR1):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert is_asked_to_stop()
    assert not is_asked_to_stop()
    assert signal.getsignal(signal.SIGUSR1) == before


# --- whole runs -------------------------------------------------------------------------------

REGISTRY = Registry([PLUGINS / "planted.py"])


def cells(method: str, **settings: Any) -> list[Cell]:
    """Plan the rows of a method on a small dataset of pictures, a table and a vector."""
    brief = {"epochs": 2, "batch_size": 16, "d_model": 16, "warmup_epochs": 0}
    request = Request(
        methods=(method,),
        datasets=("planted",),
        folds=(0,),
        floor=False,
        device="cpu",
        settings={"recipe": {**brief, **settings}},
        include=(str(PLUGINS / "planted.py"),),
    )
    return [cell for cell in plan(request).cells if not cell.reason]


def carry_out(folder: RunFolder, cell: Cell, rule: SaveRule, stop_after: int = 0) -> None:
    """Carry out a cell; ask it to stop after so many epochs."""
    n_rows = 0

    def watch(row: Mapping[str, Any]) -> None:
        nonlocal n_rows
        n_rows += 1
        if n_rows == stop_after:
            ask_to_stop()

    conditions = [condition_of(condition) for condition in cell.conditions]
    context = Context(REGISTRY, None, "cpu", 1, rule)
    execute(folder, cell.spec, conditions, context, Hooks(watch=watch))


def losses(run: RunFolder) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]


@pytest.mark.parametrize("method", REGISTRY.names("method"))
def test_a_run_of_every_method_goes_on_to_the_same_bytes(tmp_path: Path, method: str) -> None:
    for cell in cells(method)[:1]:
        straight, stopped = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "stopped")
        carry_out(straight, cell, SaveRule())
        if not straight.path_of("checkpoint.pt").exists():
            pytest.skip("fitted at once, without epochs")
        with pytest.raises(Preempted), stopping_on(signal.SIGUSR1):
            carry_out(stopped, cell, SaveRule(), stop_after=1)
        assert stopped.state == "pending"
        carry_out(stopped, cell, SaveRule())
        assert losses(stopped) == losses(straight)
        for name in ("predictions.parquet", "checkpoint.pt"):
            assert stopped.path_of(name).read_bytes() == straight.path_of(name).read_bytes()
        assert len(stopped.status()["resumed"]) == 1
        assert "resumed" not in straight.status()
        assert not list(stopped.path.glob("resume*"))


def test_checkpoints_are_kept_when_that_is_asked_for(tmp_path: Path) -> None:
    (cell,) = cells("concat:dropout")
    run = RunFolder(tmp_path / "kept")
    carry_out(run, cell, SaveRule(every_seconds=0, keep=True))
    assert run.state == "done"
    assert {path.name for path in run.path.glob("resume*")} == {RESUME, RESUME_BEFORE}


def test_a_loss_that_is_not_finite_leaves_nothing_to_go_on_from(tmp_path: Path) -> None:
    (cell,) = cells("concat:dropout", lr=1e30)
    run = RunFolder(tmp_path / "nan")
    with pytest.raises(NonFiniteLoss):
        carry_out(run, cell, ALWAYS)
    assert run.state == "failed"
    assert not list(run.path.glob("resume*"))


def test_the_command_line_says_how_often_is_saved_and_what_is_kept(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    study = ("run", "-m", "concat:dropout", "--no-floor", "--folds", "0", "--out", out, "-q")
    brief = ("--set", "recipe.epochs=2")
    assert call(*study, *brief, "--checkpoint-every", "0", "--keep-checkpoints") == 0
    (run,) = StudyFolder(tmp_path / "out", "main").runs()
    assert run.path_of(RESUME).exists()
    assert call(*study, *brief) == 0
    assert run.path_of(RESUME).exists()
    assert len(StudyFolder(tmp_path / "out", "main").read_json("study.json")["requests"]) == 1
