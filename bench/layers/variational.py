"""Variational codes: a modality as a Gaussian (variational information bottleneck).

Source: the official code of RedCore (AAAI 2024).
"""

# B batch, M modalities, T tokens, W token width, D model width

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.blocks import masked_mean
from bench.layers.attention import SandwichLayer


class TokenEncoder(nn.Module):
    """Tokens -> mean and log-variance of a Gaussian code; not variational: the mean alone."""

    def __init__(
        self, d_in: int, d_model: int, *, n_heads: int, n_layers: int, variational: bool = True
    ):
        super().__init__()
        self.embed = nn.Linear(d_in, d_model)
        self.blocks = nn.ModuleList(SandwichLayer(d_model, n_heads) for _ in range(n_layers))
        self.code = nn.Linear(d_model, 2 * d_model if variational else d_model)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, W), (B, T) bool to [mu | logvar], (B, 2 D); rows without tokens are alike."""
        pooled = x.new_zeros(len(x), self.embed.out_features)
        rows = valid.any(1).nonzero()[:, 0]
        if len(rows):  # attention refuses an empty batch, and nobody reads absent rows
            pooled = pooled.index_put((rows,), self._pool(x[rows], valid[rows]).to(pooled.dtype))
        return self.code(pooled.sigmoid())

    def _pool(self, x: Tensor, valid: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h, valid)
        return masked_mean(h, valid)


def draw(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Draw codes from Gaussians of any shape, so that gradients reach mean and log-variance."""
    return mean + torch.randn_like(mean) * (log_variance / 2).exp()


def divergence(mean: Tensor, log_variance: Tensor, available: Tensor) -> Tensor:
    """Return 2 KL(code || N(0, I)), summed over what is available, divided by B.

    Args:
        mean: (B, M, D).
        log_variance: (B, M, D).
        available: (B, M) bool.
    """
    twice = (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)  # (B, M)
    return torch.where(available, twice, 0.0).sum() / len(mean)
