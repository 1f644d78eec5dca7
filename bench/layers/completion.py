"""What was completed: its names for figures, and losses that ask it to resemble the truth.

Sources: CMML (arXiv 2605.25968), equation 8; the official codes of RedCore and MCMoE.
"""

# B batch, M modalities, T tokens of a modality, D model width

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.blocks import Distance, distance, mean_where
from bench.data import Task


def similarity_loss(
    completed: Sequence[Tensor],
    target: Sequence[Tensor],
    chosen: Sequence[Tensor],
    kind: Distance = "cosine",
) -> Tensor:
    """Average the distance of completed tokens to the true ones (Eq. 8 of CMML).

    The mean runs over the chosen tokens of a modality in a case, then over such pairs; 0 if there
    are none. No gradient reaches the target.

    Args:
        completed: M tensors (B, T_m, D).
        target: M tensors (B, T_m, D).
        chosen: M tensors (B, T_m) bool, tokens that were dropped and are observed.
        kind: see `bench.blocks.distance`.
    """
    totals, n_pairs = [], []
    for x, y, pick in zip(completed, target, chosen, strict=True):
        each = distance(x.float(), y.detach().float(), kind)  # (B, T)
        totals.append(mean_where(each, pick, dim=1).sum())
        n_pairs.append(pick.any(1).sum())
    return torch.stack(totals).sum() / torch.stack(n_pairs).sum().clamp(min=1)


def regression(generated: Tensor, target: Tensor, available: Tensor) -> Tensor:
    """Return REC_m of RedCore, (M,): squared error summed over D, mean over cases with m, or 0.

    Args:
        generated: (B, M, D).
        target: (B, M, D).
        available: (B, M) bool.
    """
    return mean_where((generated - target).square().sum(-1), available)


def kl_per_row(mixed: Tensor, expert: Tensor) -> Tensor:
    """Return MCMoE's divergence (B,): means over T and D of p (log p - log q).

    Args:
        mixed: (B, T, D), what is taught: q is its softmax.
        expert: (B, T, D), what the true tokens give: p is its softmax.
    """
    log_q, log_p = mixed.log_softmax(-1), expert.log_softmax(-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).mean((1, 2))


def guidance(
    encoded: Sequence[Tensor],
    completed: Sequence[Tensor],
    mixed: Sequence[Tensor],
    observed: Tensor,
    kept: Tensor,
    *,
    experts: nn.ModuleList | None,
    detach: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compare generated tokens, and all mixtures, with what the true tokens give (MCMoE).

    Both are summed over a row's modalities and averaged over the batch. They look only at what a
    case truly has: a natural gap keeps its generated tokens, as batch normalisation in the experts
    takes all rows, and its term is left out.

    Args:
        encoded: M tensors (B, T_m, D), the true tokens where observed.
        completed: M tensors (B, T_m, D).
        mixed: M tensors (B, T_m, D), of the completed ones; not read without experts.
        observed: (B, M) bool.
        kept: (B, M) bool, what of it was not hidden.
        experts: M of them, for the divergence; None: it is 0.
        detach: keep gradients from the true tokens.

    Returns:
        The squared error of the hidden, and the divergence of the observed modalities.
    """
    errors, divergences = [], []
    for m, (x, made) in enumerate(zip(encoded, completed, strict=True)):
        true = torch.where(observed[:, m, None, None], x, made)
        true = true.detach() if detach else true
        errors.append((made - true).square().mean((1, 2)))
        if experts is not None:
            own = experts[m](true)
            divergences.append(kl_per_row(mixed[m], own.detach() if detach else own))
    error = (torch.stack(errors, 1) * (observed & ~kept)).sum(1).mean()
    if experts is None:
        return error, torch.zeros_like(error)
    return error, (torch.stack(divergences, 1) * observed).sum(1).mean()


def named_codes(task: Task, codes: Tensor) -> dict[str, Tensor]:
    """Name completed codes (B, M, D) as `Prediction` asks: `completed.<modality>`, (B, 1, D)."""
    return {f"completed.{spec.name}": codes[:, m, None] for m, spec in enumerate(task.modalities)}
