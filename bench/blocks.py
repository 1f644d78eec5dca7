"""Neural blocks that three or more methods share."""

# B batch, M modalities, T tokens, Q queries, C token width, D model width, K classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data import Task, Tokens
from bench.errors import BadConfig

STD_TOKEN = 0.02  # of learned tokens at the start; ours

Distance = Literal["cosine", "l1", "mse", "kl"]


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


def mean_where(x: Tensor, chosen: Tensor, dim: int = 0) -> Tensor:
    """Average the chosen entries along one axis; 0 where none is chosen.

    Args:
        x: any shape; what is not chosen is never read.
        chosen: bool, the same shape.
        dim: the axis that goes.
    """
    return torch.where(chosen, x, 0.0).sum(dim) / chosen.sum(dim).clamp(min=1)


def distance(x: Tensor, y: Tensor, kind: Distance) -> Tensor:
    """Return the distance (...) of features (..., D) from features (..., D).

    `cosine` is 1 - cos, `l1` and `mse` average over D, `kl` is KL(x || y) of their softmaxes.
    """
    if kind == "cosine":
        return 1 - F.cosine_similarity(x, y, dim=-1)
    if kind == "kl":
        log_x, log_y = x.log_softmax(-1), y.log_softmax(-1)
        return F.kl_div(log_y, log_x, reduction="none", log_target=True).sum(-1)
    return (x - y).abs().mean(-1) if kind == "l1" else (x - y).square().mean(-1)


def learned_tokens(*shape: int) -> nn.Parameter:
    """Make learned tokens, drawn from N(0, 0.02^2)."""
    return nn.Parameter(torch.randn(*shape) * STD_TOKEN)


def check_heads(n_heads: int, width: int, setting: str = "heads") -> None:
    """Refuse a number of attention heads that does not divide the width.

    Raises:
        BadConfig: it does not; the text names the setting, as in `mcmoe: generator_heads`.
    """
    if width % n_heads:
        raise BadConfig(
            f"{setting} must divide the width {width}, got {n_heads}; "
            "choose another number of heads or another width"
        )


def attend(
    attention: nn.Module, query: Tensor, x: Tensor, available: Tensor | None = None
) -> Tensor:
    """Attend from (B, Q, D) to those tokens (B, T, D) that are available: (B, Q, D).

    Args:
        attention: `nn.MultiheadAttention`, built with `batch_first`.
        query: (B, Q, D).
        x: (B, T, D), keys and values.
        available: (B, T) bool, at least one True per row; None: all are.
    """
    ignored = None if available is None else ~available
    return attention(query, x, x, key_padding_mask=ignored, need_weights=False)[0]


@dataclass(frozen=True)
class AttentionStack:
    """Layers of self-attention: how many, and their shape; 12 D^2 + 13 D parameters at ratio 4."""

    n_layers: int
    n_heads: int
    mlp_ratio: int  # width of the MLP over D
    p_drop: float  # of attention, MLP and residuals
    pre_norm: bool = False  # normalise what enters attention and MLP, not what leaves the residual
    activation: Literal["relu", "gelu"] = "relu"

    def layers(self, d_model: int) -> nn.ModuleList:
        """Build layers that start apart.

        Raises:
            BadConfig: the number of heads does not divide the width.
        """
        return nn.ModuleList(self._layer(d_model) for _ in range(self.n_layers))

    def encoder(self, d_model: int, *, last_norm: bool = False) -> nn.TransformerEncoder:
        """Build layers that start alike, copies of one, and perhaps a norm behind them.

        Raises:
            BadConfig: the number of heads does not divide the width.
        """
        norm = nn.LayerNorm(d_model) if last_norm else None
        layer = self._layer(d_model)
        return nn.TransformerEncoder(layer, self.n_layers, norm, enable_nested_tensor=False)

    def _layer(self, d_model: int) -> nn.TransformerEncoderLayer:
        check_heads(self.n_heads, d_model)
        return nn.TransformerEncoderLayer(
            d_model,
            self.n_heads,
            self.mlp_ratio * d_model,
            self.p_drop,
            activation=self.activation,
            batch_first=True,
            norm_first=self.pre_norm,
        )


def blank(tokens: Sequence[Tokens], available: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Blank what may not be read: invalid tokens, and those of absent modalities (NaN included).

    Args:
        tokens: M entries, (B, T_m, C_m).
        available: (B, M) bool.

    Returns:
        M tensors (B, T_m, C_m), zeros where blanked, and M token availabilities (B, T_m) bool.
    """
    there = [each.valid & available[:, m, None] for m, each in enumerate(tokens)]
    pairs = zip(tokens, there, strict=True)
    return [torch.where(seen[..., None], each.values, 0.0) for each, seen in pairs], there


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
        values, there = blank(tokens, available)
        projected = [
            torch.where(seen[..., None], linear(x).relu(), 0.0)  # (B, T_m, D)
            for linear, x, seen in zip(self.linear, values, there, strict=True)
        ]
        return projected, there


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
