"""Who has what: availability subsets, their names, and random subsets of the observed.

True means present, everywhere. The functions on arrays use numpy; those on tensors import torch
when they are called, so that planning a study costs no torch.
"""

# B batch, M modalities

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Subset = tuple[int, ...]
DropoutLaw = Literal["none", "uniform", "size-uniform", "proper"]


def subsets(n_modalities: int) -> list[Subset]:
    """List the non-empty subsets of M modalities by size, then in order: 2^M - 1 of them."""
    return [
        chosen
        for size in range(1, n_modalities + 1)
        for chosen in combinations(range(n_modalities), size)
    ]


def subset_name(subset: Subset) -> str:
    """Name a subset as the papers do: its sorted modality indices, `0`, `12`, `012`."""
    separator = "" if max(subset) < 10 else "-"
    return separator.join(str(index) for index in sorted(subset))


def long_subset_name(subset: Subset, modalities: Sequence[str]) -> str:
    """Name a subset by its modalities: `clinical+table`."""
    return "+".join(modalities[index] for index in sorted(subset))


def random_subset(observed: Tensor, generator: torch.Generator, law: DropoutLaw) -> Tensor:
    """Draw for each row a non-empty subset of what it has; this can only remove.

    Args:
        observed: (B, M) bool, at least one True per row.
        generator: CPU generator; the draw does not depend on the device.
        law: `none` keeps all; `uniform` is uniform over the 2^n - 1 non-empty subsets of the n
            observed modalities; `size-uniform` draws the size uniformly, then a subset of it;
            `proper` is uniform over the 2^n - 2 of them that lack something, and a row with one
            modality keeps it.

    Returns:
        (B, M) bool on the device of `observed`.
    """
    import torch

    if law == "none":
        return observed
    n_rows, n_modalities = observed.shape
    present = observed.cpu()
    if not present.any(1).all():  # from nothing no subset can be drawn, however long one tries
        raise ValueError("each case needs at least one observed modality to drop others")
    if law in ("uniform", "proper"):
        drawn = torch.randint(0, 2, present.shape, generator=generator).bool() & present
        while (refused := _refused(drawn, present, law)).any():  # keeps the law uniform
            again = torch.randint(0, 2, present.shape, generator=generator).bool() & present
            drawn = torch.where(refused[:, None], again, drawn)
        return drawn.to(observed.device)
    if law == "size-uniform":
        n_observed = present.sum(1)
        size = (torch.rand(n_rows, generator=generator) * n_observed).long() + 1
        score = torch.rand(n_rows, n_modalities, generator=generator).masked_fill(~present, 2.0)
        rank = score.argsort(1).argsort(1)
        return ((rank < size[:, None]) & present).to(observed.device)
    raise ValueError(f"law must be none, uniform, size-uniform or proper, got {law!r}")


def _refused(drawn: Tensor, present: Tensor, law: DropoutLaw) -> Tensor:
    """Say which rows must be drawn again: the empty ones, and the complete ones under `proper`."""
    empty = ~drawn.any(1)
    if law == "uniform":
        return empty
    return empty | ((present.sum(1) > 1) & (drawn == present).all(1))


def check_available(available: Tensor, n_modalities: int) -> None:
    """Refuse an availability that is not (B, M) bool with at least one True per row.

    Raises:
        ValueError: wrong shape or type, or a row without any modality.
    """
    import torch

    if available.ndim != 2 or available.shape[1] != n_modalities or available.dtype != torch.bool:
        raise ValueError(
            f"available must be (B, {n_modalities}) bool, "
            f"got {tuple(available.shape)} {available.dtype}"
        )
    empty = ~available.any(1)
    if empty.any():
        raise ValueError(
            f"each case needs at least one available modality, row {int(empty.nonzero()[0])} "
            "has none; leave such cases out"
        )
