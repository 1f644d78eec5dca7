"""Bring sets of tokens to one vector, or to a fixed number of positions."""

# B batch, M modalities, T tokens of a modality, P positions, D model width

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.blocks import masked_mean

PoolRule = Literal["tokens", "modalities"]


def pool_sets(sets: Sequence[Tensor], used: Sequence[Tensor], by: PoolRule = "tokens") -> Tensor:
    """Average all tokens, or the means of the modalities that have any: (B, D).

    Args:
        sets: M tensors (B, T_m, D).
        used: M tensors (B, T_m) bool.
        by: what counts alike.
    """
    if by == "tokens":
        return masked_mean(torch.cat(list(sets), 1), torch.cat(list(used), 1))
    means = [masked_mean(x, u) for x, u in zip(sets, used, strict=True)]
    there = torch.stack([u.any(1) for u in used], 1)  # (B, M)
    return masked_mean(torch.stack(means, 1), there)


def to_shortest(sets: Sequence[Tensor]) -> list[Tensor]:
    """Average the tokens of longer sets to the length of the shortest: M tensors (B, T, D)."""
    shortest = min(x.shape[1] for x in sets)
    return [F.adaptive_avg_pool1d(x.mT, shortest).mT for x in sets]
