"""Bring sets of tokens to one vector, or to a fixed number of positions.

Sources: CMML (arXiv 2605.25968), equation 11, for `pool_sets`. The others are ours: they stand for
what SFusion and MCMoE have from the start, positions that correspond.
"""

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


def pool_positions(x: Tensor, valid: Tensor, n_positions: int) -> Tensor:
    """Average the valid tokens of each of P adaptive bins; they overlap if P does not divide T.

    A bin without valid tokens takes the mean of all valid ones; without any it is zero.

    Args:
        x: (B, T, D), finite.
        valid: (B, T) bool.
        n_positions: P.

    Returns:
        (B, P, D).
    """
    n_tokens = x.shape[1]
    token = torch.arange(n_tokens, device=x.device)
    index = torch.arange(n_positions, device=x.device)[:, None]
    first = index * n_tokens // n_positions
    last = -(-(index + 1) * n_tokens // n_positions)  # rounded up, exclusive
    chosen = ((first <= token) & (token < last)) & valid[:, None]  # (B, P, T)
    chosen = torch.where(chosen.any(2, keepdim=True), chosen, valid[:, None])
    return chosen.to(x.dtype) @ x / chosen.sum(2, keepdim=True).clamp(min=1)
