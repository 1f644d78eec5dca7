"""Small tasks, cases and features that methods are held to their promises on."""

# B batch, M modalities, T tokens, C token width, A attributes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bench.data import Task, Tokens, TokenSpec
from bench.method import Features

N_CASES = 24
D_MODEL = 16

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


def keep_features(features: Features, subset: Sequence[int]) -> Features:
    """Blank all modalities outside a subset."""
    kept = np.isin(np.arange(len(features.values)), subset)
    return Features(
        tuple(np.where(kept[m], x, np.nan) for m, x in enumerate(features.values)),
        features.available & kept,
        {m: seen & kept[m] for m, seen in features.attributes.items()},
        features.column_attribute,
    )
