"""Classifiers with two hidden layers."""

# B batch, K classes

from __future__ import annotations

from torch import Tensor, nn


class Classifier(nn.Module):
    """Two hidden layers with dropout, then logits."""

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
