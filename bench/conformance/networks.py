"""The promises of a method that is trained by the engine."""

# B batch, M modalities, T tokens, C token width, A attributes, K classes

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.availability import subsets
from bench.conformance.examples import MODALITIES, N_CASES, Cases, example_cases, example_task
from bench.conformance.promises import TOLERANCE, Broken, settings_keep_to_their_limits
from bench.data import Task, Tokens
from bench.method import EncodedPart, Method, Plugin, Progress

N_STEPS = 60

Planted = Callable[[Tensor], Tensor]


def build(plugin: type[Method], task: Task, **changes: Any) -> Method:
    """Build a method with a fixed seed and its own defaults."""
    torch.manual_seed(0)
    return plugin(task, plugin.config_class(**changes))


def train(method: Method, cases: Cases, n_steps: int = N_STEPS) -> list[float]:
    """Train through all stages with Adam and return the loss of each step."""
    totals: list[float] = []
    stages = method.stages()
    generator = torch.Generator().manual_seed(2)
    method.train()
    for stage in stages:
        optimiser = torch.optim.Adam(method.parameters(), lr=3e-3)
        per_stage = max(2, n_steps // len(stages))
        for step in range(per_stage):
            # Thirty epochs whatever the number of steps, so that what starts late is reached.
            epoch = step * 30 // per_stage
            progress = Progress(stage.name, epoch, len(totals), 30, generator)
            method.on_epoch_start(progress)
            optimiser.zero_grad()
            terms = method.losses(cases.tokens, cases.observed, cases.label, progress)
            _check_terms(terms)
            total = torch.stack(list(terms.values())).sum()
            total.backward()
            optimiser.step()
            method.after_step(progress)
            totals.append(total.item())
    return totals


def calibrated(method: Method, cases: Cases) -> Method:
    """Fit what needs no gradient, and return the method in evaluation mode."""
    method.eval()
    part = EncodedPart(tuple(cases.tokens), cases.observed, cases.label)
    with torch.no_grad():
        method.calibrate(part, part)
    return method


@torch.no_grad()
def logits_of(method: Method, cases: Cases) -> Tensor:
    """Return (B, K) logits in evaluation mode."""
    return method.eval()(cases.tokens, cases.observed).logits


def _check_terms(terms: dict[str, Tensor]) -> None:
    if not terms:
        raise Broken("losses returns no term")
    for name, term in terms.items():
        if term.ndim or not term.isfinite():
            raise Broken(f"loss term {name!r} is {term.detach()}, it must be one finite number")


def _tasks(plugin: type[Plugin]) -> Iterator[Task]:
    for n_modalities in MODALITIES:
        task = example_task(n_modalities)
        if not plugin.capabilities.refusal([spec.kind for spec in task.modalities]):
            yield task


def _trained(plugin: type[Method], task: Task, n_steps: int = 6) -> tuple[Method, Cases]:
    cases = example_cases(task)
    method = build(plugin, task)
    train(method, cases, n_steps)
    return calibrated(method, cases), cases


def predicts_every_subset(plugin: type[Method]) -> str:
    """Give finite logits for every subset, for a batch and for one case alone."""
    n_subsets = 0
    for task in _tasks(plugin):
        method, _ = _trained(plugin, task)
        cases = example_cases(task, gaps=False)
        for subset in subsets(task.n_modalities):
            kept = torch.zeros_like(cases.observed)
            kept[:, list(subset)] = True
            for part in (cases.restrict(kept), cases.rows(torch.tensor([0])).restrict(kept[:1])):
                logits = logits_of(method, part)
                shape = (len(part.label), task.n_classes)
                if tuple(logits.shape) != shape or not logits.isfinite().all():
                    raise Broken(f"subset {subset} of {task.n_modalities}: logits {logits}")
            n_subsets += 1
    return f"{n_subsets} subsets"


def batch_mates_have_no_influence(plugin: type[Method]) -> str:
    """Predict a row alike alone, among others, and in another order."""
    worst = 0.0
    for task in _tasks(plugin):
        method, cases = _trained(plugin, task)
        together = logits_of(method, cases)
        order = torch.arange(N_CASES).flip(0)
        turned = logits_of(method, cases.rows(order)).flip(0)
        alone = [logits_of(method, cases.rows(torch.tensor([row]))) for row in range(N_CASES)]
        allowed = TOLERANCE * (1 + together.abs())  # float32 holds logits of 100 to 1e-5 only
        for other in (turned, torch.cat(alone)):
            difference = (together - other).abs()
            worst = max(worst, float(difference.max()))
            if (difference > allowed).any():
                raise Broken(f"{task.n_modalities} modalities: logits differ by {worst:.2g}")
    return f"largest difference {worst:.1g}"


def absent_content_has_no_influence(plugin: type[Method]) -> str:
    """Give bit-equal logits whatever stands in absent modalities and attributes."""
    for task in _tasks(plugin):
        method, cases = _trained(plugin, task)
        complete = example_cases(task, gaps=False)
        for subset in subsets(task.n_modalities):
            kept = torch.zeros_like(complete.observed)
            kept[:, list(subset)] = True
            _compare_planted(method, complete.restrict(kept), f"subset {subset}")
        _compare_planted(method, cases, "rows of different patterns")
    return "noise, NaN and other cases' values"


def _compare_planted(method: Method, cases: Cases, where: str) -> None:
    expected = logits_of(method, cases)
    for name, planted in PLANTS.items():
        tokens = [plant(each, cases.observed[:, m], planted) for m, each in enumerate(cases.tokens)]
        if not torch.equal(logits_of(method, replace(cases, tokens=tokens)), expected):
            raise Broken(f"{where}: {name} in what is absent changes the logits")


PLANTS: dict[str, Planted] = {
    "noise": lambda x: torch.randn(x.shape) * 100,
    "NaN": lambda x: torch.full(x.shape, float("nan")),
    "other cases' values": lambda x: x.float().roll(1, 0) + 1,
}


def plant(tokens: Tokens, available: Tensor, planted: Planted) -> Tokens:
    """Put content into every absent or unobserved place of one modality.

    Args:
        tokens: (B, T, C) of the modality.
        available: (B,) bool; in rows that are False everything is replaced.
        planted: makes the content from the tensor that it replaces.
    """
    there = tokens.valid & available[:, None]  # (B, T)
    seen = (tokens.codes >= 0) & available[:, None]  # (B, A)
    codes = planted(tokens.codes).nan_to_num(nan=2.0).long().abs() % 3
    return replace(
        tokens,
        values=torch.where(there[..., None], tokens.values, planted(tokens.values)),
        codes=torch.where(seen, tokens.codes, codes),
        numbers=torch.where(seen, tokens.numbers, planted(tokens.numbers)),
    )


def loss_falls(plugin: type[Method]) -> str:
    """Lower the loss within sixty steps on cases that every modality tells apart."""
    for task in _tasks(plugin):
        method = build(plugin, task)
        part = example_cases(task, gaps=False)
        stages = len(method.stages())
        totals = train(method, part, N_STEPS * stages)
        stage = totals[: len(totals) // stages]
        first, last = float(np.mean(stage[:5])), float(np.mean(stage[-5:]))
        if not last < first:
            raise Broken(f"{task.n_modalities} modalities: loss {first:.3f} -> {last:.3f}")
    return f"last task {first:.3f} -> {last:.3f}"


def every_parameter_learns(plugin: type[Method]) -> str:
    """Give every trainable parameter a gradient in some pattern and stage."""
    n_listed = 0
    for task in _tasks(plugin):
        method = build(plugin, task)
        still = {name for name, p in method.named_parameters() if p.requires_grad}
        still -= set(method.shift_invariant)
        for gaps in (True, False):
            cases = example_cases(task, 2 * N_CASES, gaps=gaps)
            still -= _names_with_gradient(method, cases)
        if still and task.n_modalities > 1:
            raise Broken(f"{task.n_modalities} modalities: no gradient in {sorted(still)[:5]}")
        n_listed = len(method.shift_invariant)
    return f"{n_listed} listed as shift-invariant" if n_listed else "all"


def _names_with_gradient(method: Method, cases: Cases) -> set[str]:
    method.train()
    generator = torch.Generator().manual_seed(3)
    reached = set()
    for stage in method.stages():
        for step in range(8):
            method.zero_grad()
            progress = Progress(stage.name, step * 4, step, 32, generator)
            method.on_epoch_start(progress)
            terms = method.losses(cases.tokens, cases.observed, cases.label, progress)
            torch.stack(list(terms.values())).sum().backward()
            method.after_step(progress)
            reached |= {
                name
                for name, p in method.named_parameters()
                if p.grad is not None and bool(p.grad.abs().max() > 0)
            }
    return reached


def validation_changes_no_buffer(plugin: type[Method]) -> str:
    """Leave every buffer as it is in evaluation mode, losses included."""
    for task in _tasks(plugin):
        method, cases = _trained(plugin, task)
        before = {name: buffer.clone() for name, buffer in method.named_buffers()}
        logits_of(method, cases)
        progress = Progress(method.stages()[-1].name, 20, 99, 30, torch.Generator().manual_seed(4))
        with torch.no_grad():
            method.losses(cases.tokens, cases.observed, cases.label, progress)
        for name, buffer in method.named_buffers():
            if not torch.equal(buffer.nan_to_num(), before[name].nan_to_num()):
                raise Broken(f"{task.n_modalities} modalities: buffer {name} changed")
    return ""


def same_seed_gives_same_numbers(plugin: type[Method]) -> str:
    """Train twice with one seed and get equal losses and logits."""
    task = list(_tasks(plugin))[-1]
    cases = example_cases(task)
    outcomes = []
    for _ in range(2):
        method = build(plugin, task)
        outcomes.append((train(method, cases, 10), logits_of(calibrated(method, cases), cases)))
    if outcomes[0][0] != outcomes[1][0] or not torch.equal(outcomes[0][1], outcomes[1][1]):
        raise Broken("two trainings with one seed differ")
    return ""


def saved_and_loaded_predicts_alike(plugin: type[Method]) -> str:
    """Give the same logits after a round trip through the state."""
    for task in _tasks(plugin):
        method, cases = _trained(plugin, task)
        torch.manual_seed(99)
        other = plugin(task, plugin.config_class())
        other.load_state_dict(method.state_dict())
        if not torch.equal(logits_of(other, cases), logits_of(method, cases)):
            raise Broken(f"{task.n_modalities} modalities: logits differ after loading")
    return ""


def constant_and_missing_columns_stay_finite(plugin: type[Method]) -> str:
    """Train finitely on constant content, and on batches without one of the modalities."""
    for task in _tasks(plugin):
        cases = example_cases(task)
        flat = [replace(each, values=torch.ones_like(each.values)) for each in cases.tokens]
        train(build(plugin, task), replace(cases, tokens=flat).restrict(cases.observed), 6)
        if task.n_modalities > 1:
            lacking = cases.observed.clone()
            lacking[:, 0] = False
            lacking[~lacking.any(1), 1] = True
            complete = example_cases(task, gaps=False)
            train(build(plugin, task), complete.restrict(lacking), 6)
    return ""


def empty_pattern_is_refused(plugin: type[Method]) -> str:
    """Refuse a row without any modality, clearly."""
    task = list(_tasks(plugin))[-1]
    method, cases = _trained(plugin, task)
    observed = cases.observed.clone()
    observed[0] = False
    try:
        logits_of(method, replace(cases, observed=observed))
    except ValueError as error:
        return str(error)
    raise Broken("a row without any modality was predicted; call check_available first")


METHOD_CHECKS = (
    settings_keep_to_their_limits,
    predicts_every_subset,
    batch_mates_have_no_influence,
    absent_content_has_no_influence,
    loss_falls,
    every_parameter_learns,
    validation_changes_no_buffer,
    same_seed_gives_same_numbers,
    saved_and_loaded_predicts_alike,
    constant_and_missing_columns_stay_finite,
    empty_pattern_is_refused,
)
