"""Let sets of tokens exchange information, one set per modality, then classify what they hold.

Source: AlignedFusion (MIDL 2026, under review), whose self-attention baseline is `JointAttention`.
"""

# B batch, S sets, N tokens of a set, D model width, K classes

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bench.blocks import Head, check_heads, learned_tokens, masked_mean, transformer_layer


@dataclass(frozen=True)
class Stack:
    """Layers of pre-norm self-attention: how many, and their shape."""

    n_layers: int
    heads: int
    mlp_ratio: int  # width of the MLP over D
    p_drop: float

    def build(self, d_model: int) -> nn.ModuleList:
        """Build the layers.

        Raises:
            BadConfig: the number of heads does not divide the width.
        """
        check_heads(self.heads, d_model)
        return nn.ModuleList(self._layer(d_model) for _ in range(self.n_layers))

    def _layer(self, d_model: int) -> nn.Module:
        return transformer_layer(
            d_model,
            self.heads,
            mlp_ratio=self.mlp_ratio,
            p_drop=self.p_drop,
            pre_norm=True,
            activation="gelu",
        )


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

    def __init__(self, n_sets: int, d_model: int, n_classes: int, stack: Stack):
        super().__init__()
        self.modality = learned_tokens(n_sets, d_model)
        self.layers = stack.build(d_model)
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
