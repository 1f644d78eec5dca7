"""Losses that ask what was completed to resemble what was hidden."""

# B batch, M modalities, T tokens of a modality, D model width

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.blocks import Distance, distance, mean_where


def similarity_loss(
    completed: Sequence[Tensor],
    target: Sequence[Tensor],
    chosen: Sequence[Tensor],
    kind: Distance = "cosine",
) -> Tensor:
    """Average the distance of completed tokens to the true ones (Eq. 8).

    The mean runs over the chosen tokens of a modality in a case, then over such pairs; 0 if there
    are none. No gradient reaches the target.

    Args:
        completed: M tensors (B, T_m, D).
        target: M tensors (B, T_m, D).
        chosen: M tensors (B, T_m) bool, tokens that were dropped and are observed.
        kind: see `bench.blocks.distance`.
    """
    totals, n_pairs = [], []
    for x, y, pick in zip(completed, target, chosen, strict=True):
        each = distance(x.float(), y.detach().float(), kind)  # (B, T)
        totals.append(mean_where(each, pick, dim=1).sum())
        n_pairs.append(pick.any(1).sum())
    return torch.stack(totals).sum() / torch.stack(n_pairs).sum().clamp(min=1)
