"""Train one method, stage by stage, so that an interrupted training can go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bench.engine.inference import Member, Model, Part, encoded_part
from bench.engine.resume import NEVER, Checkpoints, State
from bench.engine.stage import Log, StageRun, Training, Watch, rows_of
from bench.errors import BadConfig
from bench.method import Method, Stage

Build = Callable[[Stage | None], Model]  # a new model, seeded; of a fresh stage or of the run


def fit(
    build: Build,
    training: Training,
    train: Part,
    valid: Part,
    log: Log,
    checkpoints: Checkpoints = NEVER,
) -> list[Member]:
    """Train a method through its stages and return the trained models.

    Args:
        build: makes a seeded model; called once, and again for each fresh stage.
        training: recipe, selection, seeds.
        train: training cases, on the device.
        valid: validation cases, on the device; they choose the weights of each stage.
        log: takes one row per epoch; those of an earlier attempt are given to it again.
        checkpoints: of this training; it goes on from the last of them.

    Raises:
        NonFiniteLoss: a loss term is NaN or infinite; names term, epoch and step.
        Preempted: the process was asked to stop; the checkpoint is written.
    """
    members = _Course(build, training, train, valid, log, checkpoints).run()
    for member in members:
        _calibrate(member.model, train, valid)
    return members


class _Course:
    """The way of one training through its stages, and the state in which it can be left."""

    def __init__(
        self,
        build: Build,
        training: Training,
        train: Part,
        valid: Part,
        log: Log,
        checkpoints: Checkpoints,
    ):
        self.build = build
        self.training = training
        self.train = train
        self.valid = valid
        self.log = log
        self.checkpoints = checkpoints
        self.first = build(None)
        self.stages = self.first.method.stages()
        self.fresh: dict[int, Model] = {}  # by the place of their stage
        self.has_general = False  # a stage that is not fresh was trained
        self.rows: list[dict[str, Any]] = []  # of the log
        self.place = 0  # of the stage at work
        self.current: StageRun | None = None

    def run(self) -> list[Member]:
        """Train what is left to train and return the models."""
        saved = self.checkpoints.load()
        step = 0 if saved is None else self._restore(saved)
        while self.place < len(self.stages):
            step = self._stage(step, saved)
            saved = None
            self.place += 1
        if not step:
            raise BadConfig("no stage has 2 training cases; give more data or fewer gaps")
        general = [Member(self.first)] if self.has_general else []
        fresh = [Member(model, self.stages[i].subset) for i, model in self.fresh.items()]
        return general + fresh

    def _stage(self, step: int, saved: State | None) -> int:
        """Train one stage, from its saved state if there is one; return the next step."""
        stage = self.stages[self.place]
        n_rows = len(rows_of(stage, self.train))
        if n_rows < 2:
            self._note({"stage": stage.name, "skipped": f"{n_rows} training cases, it needs 2"})
            return step
        if stage.fresh and saved is None:
            self.fresh[self.place] = self.build(stage)
        self.has_general |= not stage.fresh
        model = self.fresh[self.place] if stage.fresh else self.first
        watch = Watch(self._note, self._offer, self._stop_if_asked)
        self.current = StageRun(model, stage, self.training, self.train, self.valid, watch, step)
        return self.current.run(None if saved is None else saved["stage"])

    def _note(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.log(row)

    def _offer(self) -> None:
        self.checkpoints.offer(self.state)

    def _stop_if_asked(self) -> None:
        self.checkpoints.stop_if_asked(self.state)

    def state(self) -> State:
        """Return all that the rest of the training depends on."""
        assert self.current is not None
        return {
            "rows": self.rows,
            "place": self.place,
            "has_general": self.has_general,
            "first": dict(self.first.state_dict()),
            "fresh": {i: dict(model.state_dict()) for i, model in self.fresh.items()},
            "step": self.current.step,
            "stage": self.current.state(),
        }

    def _restore(self, saved: State) -> int:
        """Take up a saved state, but for that of the stage at work; return the next step."""
        self.place = saved["place"]
        self.has_general = saved["has_general"]
        self.first.load_state_dict(saved["first"])
        for i, state in saved["fresh"].items():
            self.fresh[i] = self.build(self.stages[i])
            self.fresh[i].load_state_dict(state)
        for row in saved["rows"]:
            self._note(row)
        stage = saved["stage"]
        name = self.stages[self.place].name
        self.checkpoints.note_resumed(stage=name, epoch=stage["epoch"], step=saved["step"])
        return int(saved["step"])


def _calibrate(model: Model, train: Part, valid: Part) -> None:
    if type(model.method).calibrate is Method.calibrate:
        return
    with torch.no_grad():
        model.method.calibrate(encoded_part(model, train), encoded_part(model, valid))
