"""In which order the training cases of an epoch come, and in which batches."""

# K classes

from __future__ import annotations

import math

import torch
from torch import Tensor


def split_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into batches; a last batch of one case joins the one before it."""
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def balanced_order(label: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one epoch in which every class has as many cases as the largest, interleaved."""
    classes = [torch.nonzero(label == k).flatten() for k in label.unique()]
    n_each = max(len(rows) for rows in classes)
    columns = []
    for rows in classes:
        n_rounds = math.ceil(n_each / len(rows))
        drawn = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(n_rounds)]
        columns.append(torch.cat(drawn)[:n_each])
    return torch.stack(columns, 1).flatten()  # (n_each * K,), one case of each class in turn
