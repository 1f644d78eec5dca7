"""Nested subsets of what a case has, and the loss by which having more may not be worse.

Source: SimMLM (ICCV 2025), More-vs-Fewer ranking, and its official sampler.
"""

# B batch, M modalities, W rows that wait for a pair

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

N_CANDIDATES = 64  # pairs tried at once; the law accepts at least one of nine
Hinge = Literal["sample", "batch"]


def nested_pair(observed: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw nested subsets of what each row has, by the law of the official sampler.

    That sampler draws two non-empty subsets uniformly until one lies strictly inside the other and
    the first is not the full set. So each nested pair has weight 2 (either may come first), and 1
    if the larger is full. Here each modality falls into neither, `more` alone or both, uniformly;
    a full `more` is kept half the time.

    Args:
        observed: (B, M) bool, at least one True per row.
        generator: CPU generator; the draw does not depend on the device.

    Returns:
        more and fewer, (B, M) bool each; both are the row's `observed` if it has one modality.
    """
    present = observed.cpu()
    more, fewer = present.clone(), present.clone()
    waiting = (present.sum(1) > 1).nonzero().flatten()
    while len(waiting):
        has = present[waiting]  # (W, M)
        state = torch.randint(0, 3, (N_CANDIDATES, *has.shape), generator=generator)
        coin = torch.randint(0, 2, (N_CANDIDATES, len(has)), generator=generator).bool()
        larger, smaller = (state > 0) & has, (state == 2) & has
        is_full = (larger == has).all(2)
        accepted = smaller.any(2) & (larger & ~smaller).any(2) & (~is_full | coin)
        first = accepted.int().argmax(0)  # (W,), the first candidate that the law takes
        drawn, row = accepted.any(0), torch.arange(len(has))
        more[waiting[drawn]] = larger[first, row][drawn]
        fewer[waiting[drawn]] = smaller[first, row][drawn]
        waiting = waiting[~drawn]
    return more.to(observed.device), fewer.to(observed.device)


def more_vs_fewer(
    ce_more: Tensor, ce_fewer: Tensor, paired: Tensor, *, hinge: Hinge
) -> tuple[Tensor, Tensor]:
    """Return the task loss and the unweighted rank loss of a batch of pairs.

    The gradient of the hinge flows through both terms, as in the official code.

    Args:
        ce_more: (B,) cross-entropy with more modalities.
        ce_fewer: (B,) with fewer.
        paired: (B,) bool; False: both are one subset, which counts once.
        hinge: per case, or of the batch means.
    """
    task = (ce_more + torch.where(paired, ce_fewer, 0.0)).mean()
    if hinge == "sample":
        return task, (ce_more - ce_fewer).relu().mean()
    return task, (ce_more.mean() - ce_fewer.mean()).relu()
