"""Fuse decisions: weigh the logits of several networks, and search the weights on held-out cases.

Source: FusionM4Net (Medical Image Analysis 76, 2022), schemes 1 and 2, and its official code. Ours:
the step of the grid, and which of equally good weights are taken (the nearest to equal).
"""

# B batch, N branches, G candidates, K classes

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import torch
from torch import Tensor


def fuse(logits: Tensor, there: Tensor, weights: Tensor) -> Tensor:
    """Return P1: the softmax of the weighted logits of the branches that are there.

    Args:
        logits: (B, N, K); those of absent branches are never read.
        there: (B, N) bool.
        weights: (N,), not negative.

    Returns:
        (B, K) probabilities; zeros in a row without any branch.
    """
    share = renormalised(there, weights)
    mixed = (share[..., None] * torch.where(there[..., None], logits, 0.0)).sum(1)
    return torch.where(there.any(1, keepdim=True), mixed.softmax(1), 0.0)


def renormalised(there: Tensor, weights: Tensor) -> Tensor:
    """Return each row's branch weights (B, N): 0 where absent, sum 1 where any branch is there."""
    kept = there * weights
    kept = torch.where(kept.sum(1, keepdim=True) > 0, kept, there.to(kept.dtype))
    return kept / kept.sum(1, keepdim=True).clamp(min=1e-6)


def weight_grid(n_branches: int, n_steps: int) -> Iterator[tuple[float, ...]]:
    """List all weights that are multiples of 1 / n_steps and sum to 1, nearest to equal first."""
    bars = combinations(range(n_steps + n_branches - 1), n_branches - 1)
    cuts = [np.diff((-1, *bar, n_steps + n_branches - 1)) - 1 for bar in bars]
    for cut in sorted(cuts, key=lambda steps: int((steps**2).sum())):
        yield tuple(float(step) / n_steps for step in cut)


def best_weights(logits: Tensor, there: Tensor, label: Tensor, *, n_steps: int) -> Tensor:
    """Return the branch weights (N,) of the highest accuracy on a grid; see `fuse`."""
    grid = list(weight_grid(logits.shape[1], n_steps))
    candidates = torch.tensor(grid, device=logits.device)  # (G, N)
    correct = [(fuse(logits, there, each).argmax(1) == label).sum() for each in candidates]
    return candidates[torch.stack(correct).argmax()]


def best_share(first: Tensor, second: Tensor, label: Tensor, *, n_shares: int) -> Tensor:
    """Return the share of the first in the mix of the highest accuracy (scheme 2).

    Args:
        first: (B, K) probabilities.
        second: (B, K) probabilities.
        label: (B,) long.
        n_shares: candidates from 0 to 1; of equally good ones the nearest to one half is taken.
    """
    shares = torch.linspace(0, 1, n_shares, device=first.device).to(first)
    shares = shares[(shares - 0.5).abs().argsort(stable=True)]
    correct = [
        ((share * first + (1 - share) * second).argmax(1) == label).sum() for share in shares
    ]
    return shares[torch.stack(correct).argmax()]
