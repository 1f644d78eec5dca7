"""Let sets of tokens exchange information, one set per modality, then classify what they hold.

Source: AlignedFusion (MIDL 2026, under review), whose self-attention baseline is `JointAttention`.
"""

# B batch, S sets, N tokens of a set, D model width, K classes

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from bench.blocks import AttentionStack, Head, learned_tokens, masked_mean


class Fusion(nn.Module, ABC):
    """Let the sets exchange information, then classify what they hold.

    `keeps_unknown` says whether an absent table takes part with all its attributes unknown, or is
    left out.
    """

    keeps_unknown: ClassVar[bool]

    @abstractmethod
    def forward(self, sets: Sequence[Tensor], there: Sequence[Tensor]) -> list[Tensor]:
        """Fuse.

        Args:
            sets: S entries, (B, N_s, D).
            there: S entries, (B, N_s) bool, which tokens take part.

        Returns:
            S entries, (B, N_s, D).
        """

    @abstractmethod
    def classify(self, sets: Sequence[Tensor], there: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and the fused vector (B, D) that they come from."""


class JointAttention(Fusion):
    """One stack of self-attention over the tokens of all sets; what is absent is masked out."""

    keeps_unknown = False

    def __init__(self, n_sets: int, d_model: int, n_classes: int, stack: AttentionStack):
        super().__init__()
        self.modality = learned_tokens(n_sets, d_model)
        self.layers = stack.layers(d_model)
        self.head = Head(d_model, d_model, n_classes)

    def forward(self, sets: Sequence[Tensor], there: Sequence[Tensor]) -> list[Tensor]:
        """Fuse; see `Fusion.forward`."""
        x = torch.cat([x + self.modality[s] for s, x in enumerate(sets)], dim=1)
        padding = ~torch.cat(list(there), dim=1)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        return list(x.split([each.shape[1] for each in sets], dim=1))

    def classify(self, sets: Sequence[Tensor], there: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Classify the mean token; see `Fusion.classify`."""
        fused = masked_mean(torch.cat(list(sets), dim=1), torch.cat(list(there), dim=1))
        return self.head(fused), fused
