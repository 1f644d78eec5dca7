"""How weights start where a paper's code does not leave that to torch."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def kaiming_start(module: nn.Module) -> None:
    """Start one module as RedCore's code does; for `nn.Module.apply`.

    Linear layers get Kaiming's normal weights and no bias, attention N(0, 1 / D).
    """
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.MultiheadAttention):
        nn.init.normal_(module.in_proj_weight, std=module.embed_dim**-0.5)


def xavier_start(parameters: Iterable[nn.Parameter]) -> None:
    """Start all matrices among these parameters uniformly by Xavier's rule."""
    for parameter in parameters:
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
