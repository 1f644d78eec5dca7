"""Neural blocks that three or more methods share."""

# B batch, M modalities, T tokens, C token width, D model width, K classes

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.data import Task, Tokens


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Average the valid tokens; rows without any give zeros.

    Args:
        x: (B, T, D); content of invalid tokens is never read.
        valid: (B, T) bool.

    Returns:
        (B, D).
    """
    kept = torch.where(valid[..., None], x, 0.0)
    return kept.sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


class Projection(nn.Module):
    """Bring the tokens of every modality to width D: ReLU(Linear(C_m -> D)), one per modality.

    Invalid tokens and those of modalities that are not available come out as zeros, whatever they
    held (NaN included): they are blanked before the product and after it.
    """

    def __init__(self, task: Task):
        super().__init__()
        self.linear = nn.ModuleList(
            nn.Linear(spec.d_token, task.d_model) for spec in task.modalities
        )

    def forward(
        self, tokens: Sequence[Tokens], available: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Project and blank.

        Args:
            tokens: M entries, (B, T_m, C_m).
            available: (B, M) bool.

        Returns:
            M tensors (B, T_m, D), and M token availabilities (B, T_m) bool.
        """
        projected, token_available = [], []
        for m, (linear, each) in enumerate(zip(self.linear, tokens, strict=True)):
            there = each.valid & available[:, m, None]  # (B, T_m)
            x = linear(torch.where(there[..., None], each.values, 0.0)).relu()
            projected.append(torch.where(there[..., None], x, 0.0))  # (B, T_m, D)
            token_available.append(there)
        return projected, token_available


class PooledProjection(nn.Module):
    """Project the tokens of every modality and average those that are there."""

    def __init__(self, task: Task):
        super().__init__()
        self.project = Projection(task)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Tensor:
        """Return (B, M, D), zeros where a modality is absent.

        Args:
            tokens: M entries, (B, T_m, C_m).
            available: (B, M) bool.
        """
        projected, there = self.project(tokens, available)
        return torch.stack([masked_mean(x, v) for x, v in zip(projected, there, strict=True)], 1)


class Head(nn.Module):
    """Classify a pooled vector: Linear, ReLU, Dropout, Linear, the same for the simple methods."""

    def __init__(self, d_in: int, d_hidden: int, n_classes: int, *, p_drop: float = 0.5):
        super().__init__()
        self.hidden = nn.Linear(d_in, d_hidden)
        self.dropout = nn.Dropout(p_drop)
        self.out = nn.Linear(d_hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, d_in) to logits (B, K)."""
        return self.out(self.dropout(self.hidden(x).relu()))
