"""One stage of a training: its epochs and steps, its schedule, validation and chosen weights."""

# B batch, M modalities, K classes

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.availability import DropoutLaw, Subset
from bench.data import Tokens
from bench.encoders import Inputs
from bench.encoders.augmentation import Augmenter
from bench.engine.batches import balanced_order, split_batches
from bench.engine.inference import (
    Ask,
    Member,
    Model,
    Part,
    predict,
    selection_score,
)
from bench.engine.optimiser import only_these_train, optimiser_of
from bench.engine.resume import State, generator_states, set_generator_states
from bench.errors import GivenUp
from bench.method import Progress, Stage
from bench.seeds import generator_for, seed_for
from bench.spec import Recipe

Log = Callable[[dict[str, Any]], None]


class NonFiniteLoss(GivenUp):
    """A loss term left the finite numbers; the run stops."""


@dataclass(frozen=True)
class Training:
    """All that a training needs beside the model and the cases."""

    recipe: Recipe
    selection: tuple[Subset | None, ...]  # conditions whose mean validation AUC is looked at
    seed_keys: tuple[object, ...]  # what the draws of this run depend on: data set, fold, seed
    n_classes: int
    augmenter: Augmenter | None = None  # alters training cases, anew in each epoch


def epochs_of(stage: Stage, recipe: Recipe) -> int:
    """Return the number of epochs of a stage: its share of the budget, at least one."""
    return max(1, round(stage.share_of_epochs * recipe.epochs))


def lr_factor(epoch: int, recipe: Recipe) -> float:
    """Return the schedule's factor: linear warm-up, then step decay."""
    if epoch < recipe.warmup_epochs:
        return (epoch + 1) / recipe.warmup_epochs
    return recipe.decay_factor ** ((epoch - recipe.warmup_epochs) // recipe.decay_every)


def first_judged(n_epochs: int, recipe: Recipe) -> int:
    """Return the first epoch whose weights can be chosen: none of the warm-up, if more follow.

    A ranking can be right by luck before anything is learned, with probabilities that are not.
    """
    return recipe.warmup_epochs if n_epochs > recipe.warmup_epochs else 0


@dataclass(frozen=True)
class Watch:
    """Who is told how a stage goes."""

    log: Log  # takes a row after each epoch
    on_epoch_end: Callable[[], None]  # may save the state
    on_step_end: Callable[[], None]  # may save the state and end the training


class StageRun:
    """One stage of one training."""

    optimiser: torch.optim.Optimizer

    def __init__(
        self,
        model: Model,
        stage: Stage,
        training: Training,
        train: Part,
        valid: Part,
        watch: Watch,
        first_step: int,
    ):
        self.model = model
        self.stage = stage
        self.recipe = training.recipe
        self.keys = (*training.seed_keys, stage.name)
        self.rows = rows_of(stage, train)
        self.train = _kept(train, stage.subset)
        self.valid = _kept(valid, stage.subset)
        self.augmenter = training.augmenter
        self.tokens = self._tokens_of_all_epochs()
        self.valid_label = valid.label.cpu().numpy()
        selection = training.selection if stage.subset is None else (stage.subset,)
        self.asks = [Ask.of_subset(self.valid.inputs.observed, subset) for subset in selection]
        self.watch = watch
        self.n_epochs = epochs_of(stage, training.recipe)
        self.step = first_step
        self.epoch = 0
        self.terms: list[dict[str, Tensor]] = []  # of the steps of this epoch
        self.best, self.waited = -math.inf, 0
        self.best_state: dict[str, Tensor] | None = None
        label = train.label[torch.as_tensor(self.rows, device=train.label.device)]
        self.counts = torch.bincount(label, minlength=training.n_classes)  # (K,)
        self.progress = Progress(
            stage=stage.name,
            epoch=0,
            step=first_step,
            n_epochs=self.n_epochs,
            generator=generator_for("method", *self.keys),
            dropout=_study_law(self.recipe),
            class_weight=self._class_weight(),
        )

    def _tokens_of_all_epochs(self) -> Sequence[Tokens] | None:
        """Encode the training cases once, if no epoch would encode them otherwise."""
        if not self.model.encoders.are_done(self._source):
            return None
        with torch.no_grad():
            return self.model.encode(self._source)

    @property
    def _source(self) -> Inputs:
        """What training looks at: the altered copies of its cases, if there are any."""
        return self.train.inputs if self.train.altered is None else self.train.altered

    def _class_weight(self) -> Tensor | None:
        if self.recipe.balance != "weights":
            return None
        present = self.counts > 0
        weight = self.counts.sum() / (present.sum() * self.counts.clamp(min=1))
        return torch.where(present, weight, 0.0)  # (K,), mean 1 over the cases

    def run(self, saved: State | None = None) -> int:
        """Train the epochs that are left, restore the best weights, return the next step."""
        torch.manual_seed(seed_for("training", *self.keys))  # nn.Dropout draws from here
        with only_these_train(self.model, self.stage.parameters):
            self.optimiser = optimiser_of(self.model, self.recipe)
            if saved is not None:
                self._restore(saved)
            while self.epoch < self.n_epochs and self.waited < self.recipe.patience:
                self._judge(self._epoch()["valid"])
                self.epoch += 1
                self.watch.on_epoch_end()
            if self.best_state is not None:
                self.model.load_state_dict(self.best_state)
        return self.step

    def state(self) -> State:
        """Return what the rest of the stage depends on, beside the model."""
        return {
            "epoch": self.epoch,
            "terms": self.terms,
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "best_state": self.best_state,
            "waited": self.waited,
            "generator": self.progress.generator.get_state(),
            "generators": generator_states(self.train.label.device),
        }

    def _restore(self, saved: State) -> None:
        device = self.train.label.device
        self.epoch = saved["epoch"]
        self.terms = [{k: term.to(device) for k, term in step.items()} for step in saved["terms"]]
        self.best, self.waited = saved["best"], saved["waited"]
        self.best_state = saved["best_state"]
        self.optimiser.load_state_dict(saved["optimiser"])
        self.progress.generator.set_state(saved["generator"])
        set_generator_states(saved["generators"], device)

    def _judge(self, score: float | None) -> None:
        """Keep the weights if they are the best, else wait; without a best the last stay."""
        if score is None or self.epoch < first_judged(self.n_epochs, self.recipe):
            return
        if score > self.best:
            self.best, self.waited = score, 0
            self.best_state = copy.deepcopy(dict(self.model.state_dict()))
        else:
            self.waited += 1

    def _epoch(self) -> dict[str, Any]:
        started = time.perf_counter()
        factor = lr_factor(self.epoch, self.recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.lr * group["lr_factor"] * factor
        self.progress = replace(self.progress, epoch=self.epoch, step=self.step)
        self.model.train()
        if not self.terms:  # else the epoch was left after some steps, and is taken up
            self.model.method.on_epoch_start(self.progress)
        self._steps()
        means = _mean_terms(self.terms, self.stage.name, self.epoch)
        self.terms = []
        valid, score_kind = self._validate(self.epoch)
        row = {"stage": self.stage.name, "epoch": self.epoch, "n_epochs": self.n_epochs} | {
            "subset": self.stage.subset,
            "lr": self.recipe.lr * factor,
            "losses": means,
            "valid": valid,
            "valid_is": score_kind,
            "seconds": round(time.perf_counter() - started, 4),
        }
        self.watch.log(row)
        return row

    def _steps(self) -> None:
        n_done = len(self.terms)
        try:
            for index in islice(self._batches(self.epoch), n_done, None):
                self.terms.append(self._step(index))
                self.watch.on_step_end()
        except Exception:
            _mean_terms(self.terms, self.stage.name, self.epoch)  # a NaN explains what followed
            raise

    def _step(self, index: Tensor) -> dict[str, Tensor]:
        self.progress = replace(self.progress, step=self.step)
        self.optimiser.zero_grad(set_to_none=True)
        tokens, observed = self._encoded(index)
        label = self.train.label[index.to(self.train.label.device)]
        terms = self.model.method.losses(tokens, observed, label, self.progress)
        values = torch.stack(list(terms.values()))  # a copy: a term may be a parameter itself
        values.sum().backward()
        for group in self.optimiser.param_groups:
            if group["max_grad_norm"] is not None:
                nn.utils.clip_grad_norm_(group["params"], group["max_grad_norm"])
        self.optimiser.step()
        self.model.method.after_step(self.progress)
        self.step += 1
        return dict(zip(terms, values.detach().unbind(), strict=True))

    def _encoded(self, index: Tensor) -> tuple[Sequence[Tokens], Tensor]:
        """Return the tokens of a batch (B,) and what its cases have: (B, M) bool."""
        place = self._places(index).to(self.train.label.device)
        if self.tokens is not None:
            return [each.rows(place) for each in self.tokens], self._source.observed[place]
        batch = self._source.rows(place)
        if self.augmenter is not None and self.train.altered is None:
            names = [self.train.cases[row] for row in index.tolist()]
            batch = self.augmenter(batch, names, *self.keys, self.progress.epoch)
        return self.model.encode(batch), batch.observed

    def _places(self, index: Tensor) -> Tensor:
        """Return where the cases (B,) of a batch stand, of altered copies one each by its draw."""
        if self.train.altered is None:
            return index
        n_cases, epoch = len(self.train), self.progress.epoch
        n_copies = len(self.train.altered.observed) // n_cases
        names = [self.train.cases[row] for row in index.tolist()]
        drawn = [seed_for("variant", *self.keys, epoch, name) % n_copies for name in names]
        return index + n_cases * torch.tensor(drawn)

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        generator = generator_for("order", *self.keys, epoch)
        rows = torch.as_tensor(self.rows)
        if self.recipe.balance == "batches":
            order = balanced_order(self.train.label.cpu()[rows], generator)
        else:
            order = torch.randperm(len(rows), generator=generator)
        yield from split_batches(rows[order], self.recipe.batch_size)

    @torch.no_grad()
    def _validate(self, epoch: int) -> tuple[float | None, str]:
        """Return the score that chooses the weights and what it is; None: nothing to choose by."""
        scored = predict([Member(self.model)], self.valid.inputs, self.asks)
        if not any(len(each.rows) for each in scored):
            return None, "no validation case serves"
        if not all(np.isfinite(each.proba).all() for each in scored):
            raise NonFiniteLoss(
                f"validation predictions are not finite in stage {self.stage.name!r}, after epoch "
                f"{epoch}; lower the learning rate or check the inputs"
            )
        return selection_score(self.valid_label, scored)


def _study_law(recipe: Recipe) -> DropoutLaw | None:
    return None if recipe.train_dropout == "own" else recipe.train_dropout


def rows_of(stage: Stage, train: Part) -> np.ndarray:
    """List the training cases of a stage."""
    observed = train.inputs.observed.cpu().numpy()
    chosen = observed.any(1)
    if stage.cases is not None:
        chosen &= stage.cases(observed)
    return np.flatnonzero(chosen)


def _kept(part: Part, subset: Subset | None) -> Part:
    """Leave a stage's own modalities, so that no encoder of another is run in it."""
    if subset is None:
        return part

    def restricted(inputs: Inputs) -> Inputs:
        kept = torch.zeros_like(inputs.observed)
        kept[:, list(subset)] = True
        return inputs.restrict(kept)

    altered = None if part.altered is None else restricted(part.altered)
    return replace(part, inputs=restricted(part.inputs), altered=altered)


def _mean_terms(terms: list[dict[str, Tensor]], stage: str, epoch: int) -> dict[str, float]:
    """Average each named term over the steps of an epoch; refuse what is not finite."""
    means: dict[str, float] = {}
    wrong: list[tuple[int, str, float]] = []  # step, name, value
    for name in sorted({name for step in terms for name in step}):
        there = [s for s, step in enumerate(terms) if name in step]
        values = torch.stack([terms[s][name] for s in there]).float().cpu()
        places = (~values.isfinite()).nonzero().flatten().tolist()
        wrong += [(there[i], name, values[i].item()) for i in places]
        means[name] = float(np.mean(values.tolist()))
    if wrong:
        s, name, value = min(wrong)  # the earliest: what follows it is its consequence
        raise NonFiniteLoss(
            f"loss term {name!r} is {value} in stage {stage!r}, epoch {epoch}, step {s}; "
            "lower the learning rate or check the inputs"
        )
    return means
