"""Positions that are not learned, as in the official codes of SFusion and MCMoE."""

# T positions, D model width

from __future__ import annotations

import torch
from torch import Tensor


def sinusoidal_table(
    n_positions: int, d_model: int, *, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Return the sinusoidal table (T, D): sin at even and cos at odd channels.

    Value (t, j) is sin or cos of t / 10000^(2 floor(j / 2) / D).

    Args:
        n_positions: T.
        d_model: D.
        dtype: what it is computed in, before it is rounded to float32.
    """
    position = torch.arange(n_positions, dtype=dtype)[:, None]
    channel = torch.arange(d_model, dtype=dtype)
    angle = position / 10000 ** (2 * (channel / 2).floor() / d_model)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()
