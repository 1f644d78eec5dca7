"""Losses that bring features of one class together and keep others apart.

Sources: CMML (arXiv 2605.25968), equations 12 and 13, where it is silent CFCML (arXiv 2603.20016);
the official code of MCMoE for the triplets.
"""

# B batch, Q queries, D model width, K classes

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

Reduction = Literal["mean", "sum"]


def prototype_losses(
    feature: Tensor, label: Tensor, tau: float, pos_reduction: Reduction = "mean"
) -> tuple[Tensor, Tensor]:
    """Contrast cases with class prototypes, and prototypes with cases (Eq. 12 and 13 of CMML).

    A prototype is the mean feature of a class in the batch; gradients flow through it.

    Args:
        feature: (B, D).
        label: (B,) long.
        tau: temperature of the cosines.
        pos_reduction: the positives of a prototype are averaged outside the logarithm (`mean`) or
            summed inside it (`sum`).

    Returns:
        L_scl and L_pcl; both 0 with fewer than two classes in the batch.
    """
    present, label = label.unique(return_inverse=True)
    if len(present) < 2:
        return feature.new_zeros(()), feature.new_zeros(())
    member = F.one_hot(label).to(feature.dtype)  # (B, K)
    count = member.sum(0)  # (K,)
    prototype = F.normalize(member.T @ feature / count[:, None], dim=-1)  # (K, D)
    similarity = F.normalize(feature, dim=-1) @ prototype.T / tau  # (B, K)
    own = torch.eye(len(present), dtype=torch.bool, device=feature.device)
    negative = (prototype @ prototype.T / tau).masked_fill(own, -torch.inf).logsumexp(1)  # (K,)
    if pos_reduction == "sum":
        positive = similarity.masked_fill(member == 0, -torch.inf).logsumexp(0)  # (K,)
        prototype_anchor = F.softplus(negative - positive).mean()
    else:
        each = F.softplus(negative - similarity) * member  # (B, K)
        prototype_anchor = (each.sum(0) / count).mean()
    return F.cross_entropy(similarity, label), prototype_anchor


def batch_hard_triplet(features: Tensor, *, margin: float = 1.0) -> Tensor:
    """Return the batch-hard triplet loss of query features (B, Q, D), by cosine distance (MCMoE).

    The label is the query: mean of relu(hardest positive - hardest negative + margin).
    """
    n_rows, n_queries, _ = features.shape
    flat = F.normalize(rearrange(features, "b q d -> (b q) d"), dim=-1)
    distance = 1.0 - flat @ flat.T
    label = torch.arange(n_queries, device=flat.device).repeat(n_rows)
    same = label[:, None] == label
    itself = torch.eye(len(label), dtype=torch.bool, device=flat.device)
    positive = distance.masked_fill(~same | itself, float("-inf")).amax(1)
    negative = distance.masked_fill(same, float("inf")).amin(1)
    return (positive - negative + margin).relu().mean()
