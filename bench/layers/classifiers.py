"""Classifiers with several hidden layers, as in the official codes of RedCore and FusionM4Net."""

# B batch, K classes

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class Classifier(nn.Module):
    """Two hidden layers with dropout, then logits (RedCore)."""

    def __init__(self, d_in: int, d_hidden: int, n_classes: int, *, p_drop: float):
        super().__init__()
        first, second = nn.Linear(d_in, d_hidden), nn.Linear(d_hidden, d_hidden)
        self.hidden = nn.Sequential(
            first, nn.ReLU(), nn.Dropout(p_drop), second, nn.ReLU(), nn.Dropout(p_drop)
        )
        self.out = nn.Linear(d_hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, d_in) to logits (B, K)."""
        return self.out(self.hidden(x))


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation; fewer than two rows take the running statistics and leave no trace."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, width); B may be 0."""
        if not self.training or len(x) > 1:
            return super().forward(x)
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)


def branch(d_in: int, n_classes: int, *, widths: Sequence[int], p_drop: float) -> nn.Sequential:
    """Build hidden layers with normalisation, Swish and dropout, then logits (FusionM4Net)."""
    layers: list[nn.Module] = []
    for d_out in widths:
        layers += [nn.Linear(d_in, d_out), RowNorm(d_out), nn.SiLU(), nn.Dropout(p_drop)]
        d_in = d_out
    return nn.Sequential(*layers, nn.Linear(d_in, n_classes))
