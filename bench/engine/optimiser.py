"""What a stage of training moves, and by how much: its parameters and the optimiser of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bench.engine.inference import Model
from bench.spec import Recipe


@contextmanager
def only_these_train(model: Model, prefixes: Sequence[str]) -> Iterator[None]:
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


def optimiser_of(model: Model, recipe: Recipe) -> torch.optim.Optimizer:
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
