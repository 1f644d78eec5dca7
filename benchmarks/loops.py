"""A training by the engine, and the loop that anyone would write around the same modules."""

# B batch, M modalities, T tokens, C token width

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count, pairwise
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from bench.data import Tokens
from bench.encoders import Inputs
from bench.engine.batches import split_batches
from bench.engine.engine import fit
from bench.engine.inference import Model, Part
from bench.engine.stage import Training, epochs_of, rows_of
from bench.method import Progress, Stage
from bench.spec import Recipe
from benchmarks.arena import Arena
from benchmarks.turns import CPU

N_VALID = 2  # the engine validates after every epoch, the plain loop does not: two cases cost least
MAX_EPOCHS = 20
Fetch = Callable[[Tensor], Sequence[Tokens]]  # rows of a batch (B,) -> its tokens
Fetcher = Callable[[Model, Inputs], Fetch]


def encoded(model: Model, inputs: Inputs) -> Fetch:
    """Encode each batch through the shared encoders, as the engine does."""
    return lambda index: model.encode(inputs.rows(index))


def ready(model: Model, inputs: Inputs) -> Fetch:
    """Take rows of tokens that were encoded once, before the training."""
    with torch.no_grad():
        tokens = model.encode(inputs)
    return lambda index: [each.rows(index) for each in tokens]


def bare_pictures(model: Model, inputs: Inputs) -> Fetch:
    """Call the one encoder of all pictures on the whole batch and dress what comes as tokens."""
    (encoder,) = model.encoders.children()

    def fetch(index: Tensor) -> list[Tokens]:
        parts = [each.rows(index) for each in inputs.content]
        pictures = torch.cat([each.pictures for each in parts if each.pictures is not None])
        values = encoder(replace(parts[0], pictures=pictures)).split(len(index))  # M x (B, T, C)
        n_tokens = values[0].shape[1]
        valid = torch.ones(len(index), n_tokens, dtype=torch.bool)
        owner, none = torch.full((n_tokens,), -1), torch.zeros(len(index), 0)
        return [Tokens(each, valid, owner, none.long(), none) for each in values]

    return fetch


@dataclass
class Marks:
    """The processor's time at the end of each epoch, by stage."""

    at: dict[str, list[float]] = field(default_factory=dict)

    def set(self, stage: str) -> None:
        """Note that an epoch of a stage is over."""
        self.at.setdefault(stage, []).append(CPU())

    @property
    def seconds(self) -> float:
        """The median epoch of each stage, its first left out; all stages summed."""
        return sum(median(b - a for a, b in pairwise(marks)) for marks in self.at.values())


@dataclass(frozen=True)
class Loops:
    """The training of one method, by the engine or plainly.

    Every stage has a first epoch, which is not timed, and at least so many more, which are.
    """

    arena: Arena
    method: str
    n_timed: int = 1

    def sized(self, enough: float) -> Loops:
        """Return the loops with so many epochs that the timed ones take about this many seconds."""
        n_timed = max(1, min(MAX_EPOCHS, math.ceil(enough / self.plain())))
        return replace(self, n_timed=n_timed)

    @cached_property
    def recipe(self) -> Recipe:
        """The arena's recipe with the shortest budget that gives each stage its epochs."""
        stages = self.arena.builder(self.method)(None).method.stages()
        recipe = self.arena.recipe
        epochs = count(1 + self.n_timed)
        recipes = (recipe.model_copy(update={"epochs": each}) for each in epochs)
        return next(
            each
            for each in recipes
            if min(epochs_of(stage, each) for stage in stages) > self.n_timed
        )

    def engine(self) -> float:
        """Train by `bench.engine.engine.fit`; return the seconds of an epoch."""
        marks = Marks()
        training = Training(self.recipe, (None,), ("made-up",), len(self.arena.dataset.classes))
        fit(
            self.arena.builder(self.method),
            training,
            self._training_part,
            self.arena.part(np.arange(N_VALID)),
            lambda row: marks.set(row["stage"]),
        )
        return marks.seconds

    def plain(self, fetcher: Fetcher = encoded) -> float:
        """Train by the loop below; return the seconds of an epoch."""
        marks = Marks()
        build = self.arena.builder(self.method)
        first = build(None)
        for stage in first.method.stages():
            model = build(stage) if stage.fresh else first
            _train(model, stage, self.recipe, self._training_part, fetcher, marks)
        return marks.seconds

    @cached_property
    def _training_part(self) -> Part:
        return self.arena.part(np.arange(N_VALID, self.arena.dataset.n_cases))


def _train(
    model: Model, stage: Stage, recipe: Recipe, part: Part, fetcher: Fetcher, marks: Marks
) -> None:
    """Train one stage: no validation, no log, no checkpoint, no check of the losses."""
    inputs = _of_stage(part.inputs, stage)
    rows = torch.as_tensor(rows_of(stage, part))
    frozen = _freeze_all_but(model, stage)
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(chosen, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    fetch = fetcher(model, inputs)
    n_epochs = epochs_of(stage, recipe)
    progress = Progress(stage.name, 0, 0, n_epochs, torch.Generator().manual_seed(0))
    model.train()
    for epoch in range(n_epochs):
        progress = replace(progress, epoch=epoch)
        model.method.on_epoch_start(progress)
        for index in split_batches(rows[torch.randperm(len(rows))], recipe.batch_size):
            progress = replace(progress, step=progress.step + 1)
            optimiser.zero_grad(set_to_none=True)
            observed, label = inputs.observed[index], part.label[index]
            terms = model.method.losses(fetch(index), observed, label, progress)
            torch.stack(list(terms.values())).sum().backward()
            _clip(model)
            optimiser.step()
            model.method.after_step(progress)
        marks.set(stage.name)
    for parameter in frozen:
        parameter.requires_grad_(True)


def _of_stage(inputs: Inputs, stage: Stage) -> Inputs:
    if stage.subset is None:
        return inputs
    kept = torch.zeros_like(inputs.observed)
    kept[:, list(stage.subset)] = True
    return inputs.restrict(kept)


def _freeze_all_but(model: Model, stage: Stage) -> list[nn.Parameter]:
    """Freeze what a stage does not train and return it."""
    frozen = [
        parameter
        for name, parameter in model.named_parameters()
        if stage.parameters and parameter.requires_grad and not name.startswith(stage.parameters)
    ]
    for parameter in frozen:
        parameter.requires_grad_(False)
    return frozen


def _clip(model: Model) -> None:
    for group in model.method.parameter_groups():
        if group.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(group.parameters, group.max_grad_norm)
