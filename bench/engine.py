"""Train one method: stages, optimiser, schedule, validation and the choice of the checkpoint."""

# N cases, B batch, M modalities, K classes

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.availability import DropoutLaw, Subset
from bench.data import Tokens
from bench.encoders import Inputs
from bench.encoders.augmentation import Augmenter
from bench.errors import BadConfig, BenchError
from bench.inference import Ask, Member, Model, Part, encoded_part, predict, selection_score
from bench.method import Method, Progress, Stage
from bench.seeds import generator_for, seed_for
from bench.spec import Recipe

Log = Callable[[dict[str, Any]], None]
Build = Callable[[Stage | None], Model]  # a new model, seeded; of a fresh stage or of the run


class NonFiniteLoss(BenchError):
    """A loss term left the finite numbers; the run stops."""


@dataclass(frozen=True)
class Training:
    """All that a training needs beside the model and the cases."""

    recipe: Recipe
    selection: tuple[Subset | None, ...]  # conditions whose mean validation AUC is looked at
    seed_keys: tuple[object, ...]  # what the draws of this run depend on: data set, fold, seed
    n_classes: int
    augmenter: Augmenter | None = None  # alters training cases, anew in each epoch


def fit(build: Build, training: Training, train: Part, valid: Part, log: Log) -> list[Member]:
    """Train a method through its stages and return the trained models.

    Args:
        build: makes a seeded model; called once, and again for each fresh stage.
        training: recipe, selection, seeds.
        train: training cases, on the device.
        valid: validation cases, on the device; they choose the weights of each stage.
        log: takes one row per epoch.

    Raises:
        NonFiniteLoss: a loss term is NaN or infinite; names term, epoch and step.
    """
    first = build(None)
    general: list[Member] = []  # the model of the stages that are not fresh
    special: list[Member] = []
    step = 0
    for stage in first.method.stages():
        n_rows = len(rows_of(stage, train))
        if n_rows < 2:
            log({"stage": stage.name, "skipped": f"{n_rows} training cases, it needs 2"})
            continue
        model = build(stage) if stage.fresh else first
        step = _StageRun(model, stage, training, train, valid, log, step).run()
        if stage.fresh:
            special.append(Member(model, stage.subset))
        else:
            general = [Member(first)]
    if not step:
        raise BadConfig("no stage has 2 training cases; give more data or fewer gaps")
    members = general + special
    for member in members:
        _calibrate(member.model, train, valid)
    return members


def _calibrate(model: Model, train: Part, valid: Part) -> None:
    if type(model.method).calibrate is Method.calibrate:
        return
    with torch.no_grad():
        model.method.calibrate(encoded_part(model, train), encoded_part(model, valid))


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


class _StageRun:
    """One stage of one training."""

    def __init__(
        self,
        model: Model,
        stage: Stage,
        training: Training,
        train: Part,
        valid: Part,
        log: Log,
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
        self.log = log
        self.n_epochs = epochs_of(stage, training.recipe)
        self.step = first_step
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

    def run(self) -> int:
        """Train all epochs, restore the best weights, return the next step number."""
        torch.manual_seed(seed_for("training", *self.keys))  # nn.Dropout draws from here
        with _only_these_train(self.model, self.stage.parameters):
            optimiser = _optimiser(self.model, self.recipe)
            best, best_state, waited = -math.inf, None, 0
            first = first_judged(self.n_epochs, self.recipe)
            for epoch in range(self.n_epochs):
                row = self._epoch(epoch, optimiser)
                if row["valid"] is None or epoch < first:  # without a best the last weights stay
                    continue
                if row["valid"] > best:
                    best, waited = row["valid"], 0
                    best_state = copy.deepcopy(self.model.state_dict())
                else:
                    waited += 1
                if waited >= self.recipe.patience:
                    break
            if best_state is not None:
                self.model.load_state_dict(best_state)
        return self.step

    def _epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        started = time.perf_counter()
        factor = lr_factor(epoch, self.recipe)
        for group in optimiser.param_groups:
            group["lr"] = self.recipe.lr * group["lr_factor"] * factor
        self.progress = replace(self.progress, epoch=epoch, step=self.step)
        self.model.train()
        self.model.method.on_epoch_start(self.progress)
        means = _mean_terms(self._steps(epoch, optimiser), self.stage.name, epoch)
        valid, score_kind = self._validate(epoch)
        row = {"stage": self.stage.name, "epoch": epoch, "n_epochs": self.n_epochs} | {
            "subset": self.stage.subset,
            "lr": self.recipe.lr * factor,
            "losses": means,
            "valid": valid,
            "valid_is": score_kind,
            "seconds": round(time.perf_counter() - started, 4),
        }
        self.log(row)
        return row

    def _steps(self, epoch: int, optimiser: torch.optim.Optimizer) -> list[dict[str, Tensor]]:
        terms = []
        try:
            for index in self._batches(epoch):
                terms.append(self._step(index, optimiser))
        except Exception:
            _mean_terms(terms, self.stage.name, epoch)  # a loss that was NaN explains what followed
            raise
        return terms

    def _step(self, index: Tensor, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
        self.progress = replace(self.progress, step=self.step)
        optimiser.zero_grad(set_to_none=True)
        tokens, observed = self._encoded(index)
        label = self.train.label[index.to(self.train.label.device)]
        terms = self.model.method.losses(tokens, observed, label, self.progress)
        values = torch.stack(list(terms.values()))  # a copy: a term may be a parameter itself
        values.sum().backward()
        for group in optimiser.param_groups:
            if group["max_grad_norm"] is not None:
                nn.utils.clip_grad_norm_(group["params"], group["max_grad_norm"])
        optimiser.step()
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
            order = _balanced_order(self.train.label.cpu()[rows], generator)
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


def split_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into batches; a last batch of one case joins the one before it."""
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _balanced_order(label: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one epoch in which every class has as many cases as the largest, interleaved."""
    classes = [torch.nonzero(label == k).flatten() for k in label.unique()]
    n_each = max(len(rows) for rows in classes)
    columns = []
    for rows in classes:
        n_rounds = math.ceil(n_each / len(rows))
        drawn = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(n_rounds)]
        columns.append(torch.cat(drawn)[:n_each])
    return torch.stack(columns, 1).flatten()  # (n_each * K,), one case of each class in turn


@contextmanager
def _only_these_train(model: Model, prefixes: Sequence[str]) -> Iterator[None]:
    """Freeze, for one stage, every parameter whose name starts with none of the prefixes.

    Raises:
        ValueError: a prefix names no part of the model.
    """
    parts = [f"{name}." for name, _ in model.named_modules()]
    parts += [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(part.startswith(prefix) for part in parts):
            raise ValueError(f"a stage trains {prefix!r}, but no part of the model begins so")
    frozen = [
        parameter
        for name, parameter in model.named_parameters()
        if prefixes and parameter.requires_grad and not name.startswith(tuple(prefixes))
    ]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def _optimiser(model: Model, recipe: Recipe) -> torch.optim.Optimizer:
    """Build fused Adam: the method's own groups, the encoders, and the rest."""
    groups: list[dict[str, Any]] = []
    taken: set[int] = set()

    def add(parameters: Sequence[nn.Parameter], **settings: Any) -> None:
        chosen = [p for p in parameters if p.requires_grad and id(p) not in taken]
        taken.update(map(id, chosen))
        if chosen:
            groups.append({"params": chosen, "max_grad_norm": None, "lr_factor": 1.0} | settings)

    for group in model.method.parameter_groups():
        decay = recipe.weight_decay if group.weight_decay is None else group.weight_decay
        add(
            group.parameters,
            lr_factor=group.lr_factor,
            weight_decay=decay,
            max_grad_norm=group.max_grad_norm,
        )
    if recipe.encoder_lr_factor != 1.0:  # each group costs a call of its own in every step
        add(list(model.encoders.parameters()), lr_factor=recipe.encoder_lr_factor)
    add(list(model.parameters()))
    return torch.optim.Adam(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)


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
