"""Convolutions over tokens, or with token slots as channels.

Source: the official code of MCMoE for the blocks; resampling is ours.
"""

# B batch, M modalities, C channels, T tokens, D model width

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class TokenConv(nn.Sequential):
    """Layers over (B, C, T), applied to tokens (B, T, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C')."""
        return super().forward(x.mT).mT


def conv_block(
    d_in: int, d_hidden: int, d_out: int, activation: nn.Module, *, kernel: int = 1
) -> TokenConv:
    """Build two normalised convolutions over the tokens; only the first sees neighbours (MCMoE)."""
    return TokenConv(
        nn.Conv1d(d_in, d_hidden, kernel, padding=kernel // 2),
        nn.BatchNorm1d(d_hidden),
        activation,
        nn.Conv1d(d_hidden, d_out, 1),
        nn.BatchNorm1d(d_out),
    )


class Resample(nn.ModuleList):
    """Bring each modality to a number of tokens: a convolution along D, slots as channels."""

    def __init__(self, n_slots: Sequence[int], n_tokens: Sequence[int]):
        pairs = zip(n_slots, n_tokens, strict=True)
        super().__init__(nn.Conv1d(n_in, n_out, 3, padding=1) for n_in, n_out in pairs)

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        """Map M tensors (B, T_in, D), zero where nothing is valid, to (B, T_out, D)."""
        return [resample(each) for resample, each in zip(self, x, strict=True)]
