"""The states of token slots: where something is, where something is missing, where nothing belongs.

A slot has one of three states. *There*: valid, in an available modality. *Missing*, so to be
completed: every slot of an absent modality (padding exists only inside a present one), and all
slots of an attribute without any valid slot in a present table. *Padding*: any other invalid slot,
such as the rest of a short sentence.
"""

# B batch, M modalities, T tokens of a modality, L tokens of all modalities, n rows with a gap,
# A attributes, D model width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.data import TokenSpec


@dataclass(frozen=True, eq=False)
class Slots:
    """State of one modality's slots in a batch; a slot that is neither is padding."""

    there: Tensor  # (B, T) bool
    missing: Tensor  # (B, T) bool, to be completed
    rows: Tensor  # (n,) long, the rows with a missing slot

    @classmethod
    def of(cls, there: Tensor, available: Tensor, owner: Tensor) -> Slots:
        """Tell missing slots from padding.

        Args:
            there: (B, T) bool, valid slots of an available modality.
            available: (B,) bool.
            owner: (T, A) float, 1 where a slot belongs to an attribute.
        """
        unobserved = there.to(owner.dtype) @ owner == 0  # (B, A)
        missing = (unobserved.to(owner.dtype) @ owner.T > 0) | ~available[:, None]
        return cls(there, missing, missing.any(1).nonzero()[:, 0])

    @property
    def used(self) -> Tensor:
        """Whether a slot takes part (B, T): it is there, or will be completed."""
        return self.there | self.missing

    def fill(self, x: Tensor, new: Tensor) -> Tensor:
        """Put new tokens (n, T, D) of the rows with gaps into the missing slots of x (B, T, D)."""
        gaps = self.missing[self.rows][..., None]
        return x.index_copy(0, self.rows, torch.where(gaps, new.to(x.dtype), x[self.rows]))


def owner_of_slots(spec: TokenSpec) -> Tensor:
    """Return (T, A) float: 1 where a slot belongs to an attribute."""
    attribute = torch.tensor(spec.attribute or (-1,) * spec.n_tokens)
    n_attributes = max(spec.attribute, default=-1) + 1
    return (attribute[:, None] == torch.arange(n_attributes)).float()


class SlotStates(nn.Module):
    """Tell the state of every slot of every modality."""

    def __init__(self, specs: Sequence[TokenSpec]):
        super().__init__()
        for m, spec in enumerate(specs):
            self.register_buffer(f"owner_{m}", owner_of_slots(spec), persistent=False)

    def forward(self, there: Sequence[Tensor], available: Tensor) -> list[Slots]:
        """Return the slots of M modalities.

        Args:
            there: M entries, (B, T_m) bool, valid slots of an available modality.
            available: (B, M) bool.
        """
        return [
            Slots.of(each, available[:, m], self.get_buffer(f"owner_{m}"))
            for m, each in enumerate(there)
        ]


def used_keys(used: Sequence[Tensor]) -> Tensor | None:
    """Return which tokens of all modalities take part, (B, L) bool; None: all do."""
    keys = torch.cat(list(used), 1)
    return None if bool(keys.all()) else keys
