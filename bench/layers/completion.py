"""What was completed: its names for figures, and losses that ask it to resemble the truth."""

# B batch, M modalities, T tokens of a modality, D model width

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.blocks import Distance, distance, mean_where
from bench.data import Task


def similarity_loss(
    completed: Sequence[Tensor],
    target: Sequence[Tensor],
    chosen: Sequence[Tensor],
    kind: Distance = "cosine",
) -> Tensor:
    """Average the distance of completed tokens to the true ones (Eq. 8 of CMML).

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


def regression(generated: Tensor, target: Tensor, available: Tensor) -> Tensor:
    """Return REC_m of RedCore, (M,): squared error summed over D, mean over cases with m, or 0.

    Args:
        generated: (B, M, D).
        target: (B, M, D).
        available: (B, M) bool.
    """
    return mean_where((generated - target).square().sum(-1), available)


def named_codes(task: Task, codes: Tensor) -> dict[str, Tensor]:
    """Name completed codes (B, M, D) as `Prediction` asks: `completed.<modality>`, (B, 1, D)."""
    return {f"completed.{spec.name}": codes[:, m, None] for m, spec in enumerate(task.modalities)}
