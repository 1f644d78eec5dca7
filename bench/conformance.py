"""What every method must keep, written once: run over the registry by the tests and `bench test`.

A method is built on small tasks of 1 to 4 modalities (pictures, tables, vectors; unequal token
counts; unobserved attributes) and held to the promises of the bench, above all that content of an
absent modality or attribute cannot change an output.
"""

# B batch, M modalities, T tokens, C token width, A attributes, K classes

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.availability import subsets
from bench.data import Task, Tokens, TokenSpec
from bench.errors import BenchError
from bench.method import EncodedPart, Features, Method, Plugin, Progress, ShallowMethod
from bench.registry import Registry

N_CASES = 24
N_STEPS = 60
D_MODEL = 16
TOLERANCE = 1e-5  # between a row alone and among others: absolute, and relative to the logit

Planted = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Check:
    """One promise and whether it held."""

    name: str
    passed: bool
    detail: str = ""


class Broken(Exception):
    """A promise that does not hold; its text says how."""


# --- tasks and cases --------------------------------------------------------------------------

PICTURE = TokenSpec("picture", "image", n_tokens=4, d_token=8, attribute=(-1,) * 4)
SECOND = replace(PICTURE, name="second")
VECTOR = TokenSpec("vector", "vector", n_tokens=1, d_token=6, attribute=(-1,))
TABLE = TokenSpec(
    "table",
    "table",
    n_tokens=5,
    d_token=10,
    attribute=tuple(range(5)),
    attribute_names=("age", "sex", "site", "size", "grade"),
    attribute_kinds=("numeric", "categorical", "categorical", "numeric", "numeric"),
    n_codes=(4, 3, 5, 4, 4),
)
MODALITIES = {1: (TABLE,), 2: (PICTURE, TABLE), 3: (PICTURE, VECTOR, TABLE)} | {
    4: (PICTURE, SECOND, VECTOR, TABLE)
}


def example_task(n_modalities: int, d_model: int = D_MODEL) -> Task:
    """Build a task of 1 to 4 modalities with two classes."""
    return Task(MODALITIES[n_modalities], ("no", "yes"), d_model)


@dataclass(frozen=True, eq=False)
class Cases:
    """A batch as the engine hands it to a method."""

    tokens: list[Tokens]
    observed: Tensor  # (B, M) bool
    label: Tensor  # (B,)

    def rows(self, index: Tensor) -> Cases:
        """Return these rows."""
        tokens = [each.rows(index) for each in self.tokens]
        return Cases(tokens, self.observed[index], self.label[index])

    def restrict(self, available: Tensor) -> Cases:
        """Return the cases with less."""
        tokens = [each.restrict(available[:, m]) for m, each in enumerate(self.tokens)]
        return Cases(tokens, available, self.label)


def example_cases(task: Task, n_cases: int = N_CASES, *, gaps: bool = True) -> Cases:
    """Draw cases whose every modality tells the label; with gaps at both levels."""
    generator = torch.Generator().manual_seed(1)
    label = torch.arange(n_cases) % task.n_classes
    observed = torch.ones(n_cases, task.n_modalities, dtype=torch.bool)
    if gaps:
        observed = torch.rand(observed.shape, generator=generator) < 0.7
        observed[~observed.any(1), 0] = True
    tokens = [_example_tokens(spec, label, generator, gaps=gaps) for spec in task.modalities]
    return Cases(tokens, torch.ones_like(observed), label).restrict(observed)


def _example_tokens(
    spec: TokenSpec, label: Tensor, generator: torch.Generator, *, gaps: bool
) -> Tokens:
    B, T, A = len(label), spec.n_tokens, spec.n_attributes
    values = torch.randn(B, T, spec.d_token, generator=generator) + 1.5 * label[:, None, None]
    sizes = torch.tensor(spec.n_codes or [1] * A).long()
    codes = (torch.rand(B, A, generator=generator) * sizes).long()
    numbers = torch.randn(B, A, generator=generator) + label[:, None]
    valid = torch.ones(B, T, dtype=torch.bool)
    if A and gaps:
        seen = torch.rand(B, A, generator=generator) < 0.8
        seen[~seen.any(1), 0] = True
        codes, numbers = codes.masked_fill(~seen, -1), numbers.masked_fill(~seen, float("nan"))
        valid = seen[:, list(spec.attribute)]
        values = values.masked_fill(~valid[..., None], 0.0)
    return Tokens(values, valid, torch.tensor(spec.attribute), codes, numbers)


# --- methods trained by the engine ------------------------------------------------------------


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


# --- methods fitted with scikit-learn ---------------------------------------------------------


def example_features(n_modalities: int, *, gaps: bool = True) -> tuple[Features, np.ndarray]:
    """Draw features of 1 to 4 modalities, the last a table with unobserved attributes."""
    draw = np.random.default_rng(0)
    label = np.arange(80) % 2
    available = np.ones((80, n_modalities), bool)
    if gaps:
        available = draw.random((80, n_modalities)) < 0.7
        available[~available.any(1), 0] = True
    seen = (draw.random((80, 4)) < 0.8) | (not gaps)
    seen[~seen.any(1), 0] = True
    seen &= available[:, -1:]
    values = []
    for m in range(n_modalities):
        x = draw.normal(size=(80, 4)) + 1.5 * label[:, None]
        there = seen if m == n_modalities - 1 else available[:, m, None]
        values.append(np.where(there, x, np.nan))
    columns = [np.full(4, -1)] * (n_modalities - 1) + [np.arange(4)]
    return Features(tuple(values), available, {n_modalities - 1: seen}, tuple(columns)), label


def _fitted(plugin: type[ShallowMethod], n_modalities: int) -> tuple[ShallowMethod, Features]:
    features, label = example_features(n_modalities)
    method = plugin(2, plugin.config_class())
    method.fit(features, label, np.ones(len(label)))
    return method, features


def keep_features(features: Features, subset: Sequence[int]) -> Features:
    """Blank all modalities outside a subset."""
    kept = np.isin(np.arange(len(features.values)), subset)
    return Features(
        tuple(np.where(kept[m], x, np.nan) for m, x in enumerate(features.values)),
        features.available & kept,
        {m: seen & kept[m] for m, seen in features.attributes.items()},
        features.column_attribute,
    )


def gives_probabilities_for_every_subset(plugin: type[ShallowMethod]) -> str:
    """Give probabilities that sum to one for every subset, and for one case alone."""
    for n_modalities in MODALITIES:
        method, _ = _fitted(plugin, n_modalities)
        complete, _ = example_features(n_modalities, gaps=False)
        for subset in subsets(n_modalities):
            for rows in (np.arange(80), np.array([3])):
                proba = method.predict_proba(keep_features(complete.rows(rows), subset))
                if proba.shape != (len(rows), 2) or not np.allclose(proba.sum(1), 1):
                    raise Broken(f"subset {subset} of {n_modalities}: {proba[:2]}")
    return ""


def rows_do_not_depend_on_each_other(plugin: type[ShallowMethod]) -> str:
    """Predict a row alike alone and among others."""
    method, features = _fitted(plugin, 3)
    together = method.predict_proba(features)
    alone = [method.predict_proba(features.rows(np.array([row]))) for row in range(80)]
    if not np.allclose(together, np.concatenate(alone), atol=TOLERANCE):
        raise Broken("a row's probabilities depend on its batch")
    return ""


def absent_features_have_no_influence(plugin: type[ShallowMethod]) -> str:
    """Give equal probabilities whatever stands in absent modalities and attributes."""
    for n_modalities in MODALITIES:
        method, features = _fitted(plugin, n_modalities)
        expected = method.predict_proba(features)
        noise = np.random.default_rng(5)
        values = tuple(
            np.where(np.isnan(x), 100 * noise.normal(size=x.shape), x) for x in features.values
        )
        if not np.array_equal(method.predict_proba(replace(features, values=values)), expected):
            raise Broken(f"{n_modalities} modalities: noise in what is absent changes the result")
    return "noise"


def arrays_restore_the_method(plugin: type[ShallowMethod]) -> str:
    """Predict alike after a round trip through plain arrays."""
    method, features = _fitted(plugin, 3)
    other = plugin(2, plugin.config_class())
    other.load(method.state())
    if not np.array_equal(other.predict_proba(features), method.predict_proba(features)):
        raise Broken("the probabilities differ after loading")
    return ""


def constant_columns_stay_finite(plugin: type[ShallowMethod]) -> str:
    """Fit finitely when a column is constant and another absent from all cases."""
    features, label = example_features(3)
    first = features.values[0].copy()
    first[:, 0], first[:, 1] = 1.0, np.nan
    features = replace(features, values=(first, *features.values[1:]))
    method = plugin(2, plugin.config_class())
    method.fit(features, label, np.ones(len(label)))
    if not np.isfinite(method.predict_proba(features)).all():
        raise Broken("a constant or empty column gives NaN")
    return ""


SHALLOW_CHECKS = (
    gives_probabilities_for_every_subset,
    rows_do_not_depend_on_each_other,
    absent_features_have_no_influence,
    arrays_restore_the_method,
    constant_columns_stay_finite,
)


# --- the suite --------------------------------------------------------------------------------


def check_method(plugin: type[Plugin]) -> list[Check]:
    """Hold one method to every promise."""
    checks: Sequence[Any] = METHOD_CHECKS if issubclass(plugin, Method) else SHALLOW_CHECKS
    return [_check(check, plugin) for check in checks]


def _check(check: Callable[[Any], str], plugin: type[Plugin]) -> Check:
    name = check.__name__.replace("_", " ")
    try:
        return Check(name, True, check(plugin))
    except Broken as broken:
        return Check(name, False, str(broken))
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def run_suite(name: str, include: Sequence[Path], *, override: bool) -> int:
    """Check one plugin by name or file and print a line for each promise; 1 if one is broken."""
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise BenchError(f"no plugin file is at {name!r}; give a method's name or a path")
        include, name = [*include, path], path.stem.replace("_", "-")
    plugin = Registry(include, override=override).load("method", name)
    checks = check_method(plugin)
    for check in checks:
        detail = f" ({check.detail})" if check.detail else ""
        print(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}{detail}")
    n_failed = sum(not check.passed for check in checks)
    print(f"{name}: {len(checks) - n_failed} of {len(checks)} promises kept")
    return 1 if n_failed else 0
