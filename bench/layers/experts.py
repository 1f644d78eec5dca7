"""Experts, one per modality, and what weighs them: by token or by case.

Sources: MCMoE (AAAI 2026) by token, SimMLM (ICCV 2025) by case.
"""

# B batch, M modalities and their experts, T tokens, D model width, F width of the gate's features,
# K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from bench.blocks import masked_mean
from bench.data import Task, Tokens

GateKind = Literal["learned", "static", "uniform"]
D_OWN_GATE = 128  # SimMLM's supplement, Table A1


def mix_by_token(h: Tensor, experts: nn.ModuleList, router: nn.Module) -> Tensor:
    """Mix what all experts make of the tokens, by a soft router per token.

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


def mix_by_case(scores: Tensor, expert_logits: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
    """Weigh the available experts by a softmax of their scores.

    Args:
        scores: (B, M) of the gate.
        expert_logits: (B, M, K); content of unavailable experts is never read.
        available: (B, M) bool, at least one True per row.

    Returns:
        logits (B, K), and weights (B, M): sum 1, exactly 0 where not available.
    """
    weights = torch.where(available, scores, float("-inf")).softmax(1)
    kept = torch.where(available[..., None], expert_logits, 0.0)  # 0 * NaN would be NaN
    return (weights[..., None] * kept).sum(1), weights


class Gate(nn.Module):
    """Score the modalities: learned from what is available, learned constants, or all alike.

    Args:
        task: modalities and width.
        kind: where the scores come from.
        own_input: the gate has two-layer networks of its own, on the encoders' tokens.
        factor: first hidden width over D, without networks of its own.
    """

    def __init__(self, task: Task, *, kind: GateKind, own_input: bool, factor: float):
        super().__init__()
        self.kind, M, D = kind, task.n_modalities, task.d_model
        self.own: nn.ModuleList | None = None
        if kind == "static":
            self.constant = nn.Parameter(torch.zeros(M))
        elif kind == "learned" and own_input:
            self.own = nn.ModuleList(_small_network(spec.d_token) for spec in task.modalities)
            self.score: nn.Module = nn.Linear(M * D_OWN_GATE, M)
        elif kind == "learned":
            d_first = max(2, round(factor * D))
            first, second = nn.Linear(M * D, d_first), nn.Linear(d_first, d_first // 2)
            last = nn.Linear(d_first // 2, M)
            self.score = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)

    def features(self, tokens: Sequence[Tokens], pooled: Tensor, available: Tensor) -> Tensor:
        """Return (B, M, F), what the gate knows of each modality: the experts' input or its own."""
        if self.own is None:
            return pooled
        each = [
            network(masked_mean(t.values, t.valid & available[:, m, None]))
            for m, (network, t) in enumerate(zip(self.own, tokens, strict=True))
        ]
        return torch.stack(each, dim=1)

    def forward(self, features: Tensor, available: Tensor) -> Tensor:
        """Score: (B, M, F) and (B, M) bool to (B, M); what is not available is seen as zero."""
        if self.kind == "uniform":
            return torch.zeros_like(available, dtype=features.dtype)
        if self.kind == "static":
            return self.constant.expand(len(features), -1)
        return self.score(torch.where(available[..., None], features, 0.0).flatten(1))


def _small_network(d_token: int) -> nn.Module:
    first, second = nn.Linear(d_token, D_OWN_GATE), nn.Linear(D_OWN_GATE, D_OWN_GATE)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
