"""Features that modalities share: pull them together, tell the others apart, lend them out.

Source: ShaSpec (CVPR 2023); equation numbers are that paper's, rules are its code's.
"""

# B batch, M modalities, P pairs of modalities, D model width

from __future__ import annotations

from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.blocks import Distance, distance, mean_where

MissingFill = Literal["mean", "first", "zero"]
PairRule = Literal["ring", "all"]


def donor_weights(
    available: Tensor, rule: MissingFill, generator: torch.Generator | None = None
) -> Tensor:
    """Return what each available modality lends to the missing ones, (B, M); see `missing_fill`.

    With a generator, `first` means a random one.
    """
    if rule == "mean":
        return available / available.sum(1, keepdim=True)
    if rule == "zero":
        return torch.zeros_like(available)
    score = available.float()
    if generator is not None:
        score = score * (1 + torch.rand(score.shape, generator=generator).to(score.device))
    return F.one_hot(score.argmax(1), score.shape[1])


def modality_pairs(n_modalities: int, rule: PairRule) -> list[tuple[int, int]]:
    """List the pairs whose shared features are compared; two modalities make one pair."""
    if rule == "all" or n_modalities == 2:
        return list(combinations(range(n_modalities), 2))
    return [(m, (m + 1) % n_modalities) for m in range(n_modalities)]


def alignment(shared: Tensor, available: Tensor, pairs: Tensor, kind: Distance) -> Tensor:
    """Sum over pairs the mean distance of the cases that have both modalities (eq. 8).

    Args:
        shared: (B, M, D), neither side detached.
        available: (B, M) bool; a pair that no case has adds 0.
        pairs: (2, P) long.
        kind: of `bench.blocks.distance`.
    """
    left, right = pairs
    both = available[:, left] & available[:, right]  # (B, P)
    apart = distance(shared[:, left], shared[:, right], kind)  # (B, P)
    return mean_where(apart, both).sum()


def domain_classification(logits: Tensor, available: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of guessing modalities, over the available ones.

    Args:
        logits: (B, M, M), the last axis over the guesses.
        available: (B, M) bool.
        target: (M, M) probability of each guess; the identity tells, 1/M confuses.
    """
    surprise = -(target * logits.log_softmax(-1)).sum(-1)  # (B, M)
    return torch.where(available, surprise, 0.0).sum() / available.sum()
