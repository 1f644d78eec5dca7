"""Preprocessed cases as tensors, with everything that is not observed already blanked."""

# B batch, M modalities, A attributes, W vector width, H W C picture height, width, channels,
# Z slices of a volume

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ModalityInput:
    """One modality of a batch: a table (numbers and codes), a vector, pictures or volumes.

    What it is not is None. Pictures of a frozen encoder may be replaced by their tokens.
    An observed categorical attribute has number 0, so that NaN means unobserved for every kind.
    """

    numbers: Tensor | None = None  # (B, A) float32 standardised, NaN: unobserved
    codes: Tensor | None = None  # (B, A) int64 vocabulary index or quartile, -1: unobserved
    vector: Tensor | None = None  # (B, W) float32 standardised, 0: absent
    pictures: Tensor | None = None  # (B, H, W, C) uint8, 0: absent
    volumes: Tensor | None = None  # (B, Z, H, W, C) uint8 or float32, 0: absent
    tokens: Tensor | None = None  # (B, T, D) of pictures that a frozen encoder saw, 0: absent

    def _map(self, function: Callable[[Tensor], Tensor]) -> ModalityInput:
        return ModalityInput(
            *(None if (x := getattr(self, name)) is None else function(x) for name in _FIELDS)
        )

    def rows(self, index: Tensor) -> ModalityInput:
        """Return the content of these rows of the batch."""
        return self._map(lambda x: x[index])

    def to(self, device: torch.device | str) -> ModalityInput:
        """Return the content on a device."""
        return self._map(lambda x: x.to(device))

    def restrict(self, available: Tensor) -> ModalityInput:
        """Blank the rows in which this modality is not available.

        Args:
            available: (B,) bool.
        """
        return ModalityInput(
            _blank(self.numbers, available, float("nan")),
            _blank(self.codes, available, -1),
            _blank(self.vector, available, 0.0),
            _blank(self.pictures, available, 0),
            _blank(self.volumes, available, 0),
            _blank(self.tokens, available, 0.0),
        )


_FIELDS = tuple(ModalityInput.__dataclass_fields__)


def _blank(x: Tensor | None, available: Tensor, value: float) -> Tensor | None:
    if x is None:
        return None
    absent = ~available.reshape(-1, *[1] * (x.ndim - 1))
    return x.masked_fill(absent, value)


def concatenate(parts: Sequence[ModalityInput]) -> ModalityInput:
    """Stack the rows of modalities that share an encoder, in order."""
    if len(parts) == 1:
        return parts[0]
    return ModalityInput(
        *(
            None
            if getattr(parts[0], name) is None
            else torch.cat([getattr(p, name) for p in parts])
            for name in _FIELDS
        )
    )


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch of preprocessed cases and what each of them has."""

    content: tuple[ModalityInput, ...]  # M
    observed: Tensor  # (B, M) bool

    def rows(self, index: Tensor) -> Inputs:
        """Return these rows of the batch."""
        return Inputs(tuple(each.rows(index) for each in self.content), self.observed[index])

    def to(self, device: torch.device | str) -> Inputs:
        """Return the batch on a device."""
        return Inputs(tuple(each.to(device) for each in self.content), self.observed.to(device))

    def restrict(self, available: Tensor) -> Inputs:
        """Blank what is not available; this can only remove.

        Args:
            available: (B, M) bool.
        """
        content = tuple(each.restrict(available[:, m]) for m, each in enumerate(self.content))
        return Inputs(content, self.observed & available)
