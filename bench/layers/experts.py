"""Experts, and what weighs them: by token or by case."""

# B batch, M modalities and their experts, T tokens, D model width

from __future__ import annotations

import torch
from torch import Tensor, nn


def mix_by_token(h: Tensor, experts: nn.ModuleList, router: nn.Module) -> Tensor:
    """Mix what all experts make of the tokens, by a soft router per token (MCMoE).

    Args:
        h: (B, T, D).
        experts: M of them, (B, T, D) to (B, T, D).
        router: (B, T, D) to (B, T, M).

    Returns:
        (B, T, D).
    """
    weights = router(h).softmax(-1)  # (B, T, M)
    made = torch.stack([expert(h) for expert in experts], dim=2)  # (B, T, M, D)
    return (weights[..., None] * made).sum(2)
