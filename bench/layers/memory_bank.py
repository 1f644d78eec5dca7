"""A memory of tokens that were seen, and what a query reads from it.

Source: CMML (arXiv 2605.25968); equation numbers are that paper's.
"""

# S slots of the memory, n tokens or rows, T tokens of a modality, D model width

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.blocks import STD_TOKEN

MemoryUpdate = Literal["batched", "sequential"]


@dataclass(frozen=True)
class Memory:
    """Size of a bank, and how it changes."""

    n_slots: int
    eta: float = 0.9  # share of a slot that an update keeps
    update: MemoryUpdate = "batched"  # one averaged step, or token by token, which is slow


def nearest_slot(tokens: Tensor, bank: Tensor) -> Tensor:
    """Return for each token (..., D) the index of the slot of (S, D) with the largest cosine."""
    return (tokens @ F.normalize(bank, dim=-1).T).argmax(-1)


def move_slots(bank: Tensor, tokens: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Move each slot one EMA step toward the mean of the tokens nearest to it (Eq. 6, batched).

    Args:
        bank: (S, D).
        tokens: (n, D).
        eta: share of a slot that is kept.

    Returns:
        The moved bank, and the slot (n,) that each token was given to.
    """
    slot = nearest_slot(tokens, bank)
    assigned = F.one_hot(slot, len(bank)).to(bank.dtype)  # (n, S)
    count = assigned.sum(0)[:, None]
    mean = assigned.T @ tokens / count.clamp(min=1)  # a product: index_add has no order on a GPU
    return torch.where(count > 0, eta * bank + (1 - eta) * mean, bank), slot


def move_slots_in_turn(bank: Tensor, tokens: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Move the nearest slot toward one token after the other (Eq. 6 as written); see move_slots."""
    bank, slot = bank.clone(), []
    for token in tokens:
        j = nearest_slot(token, bank)
        bank[j] = eta * bank[j] + (1 - eta) * token
        slot.append(j)
    return bank, torch.stack(slot)


def retrieve(query: Tensor, bank: Tensor) -> Tensor:
    """Read for each query (..., D) a mixture of the slots (S, D): softmax(Q B^T / sqrt(D)) B."""
    return (query @ bank.T / math.sqrt(bank.shape[-1])).softmax(-1) @ bank


class MemoryBank(nn.Module):
    """Memory of one modality's tokens; all of it is buffers, no gradient enters.

    It starts with tokens drawn at random from the first updates; slots not drawn yet take no part.
    Before that, retrieval sees small noise.
    """

    bank: Tensor  # (S, D); the first n_filled slots hold tokens
    hits: Tensor  # (S,) long, how many tokens moved each slot
    n_filled: Tensor  # () long

    def __init__(self, d_model: int, memory: Memory):
        super().__init__()
        self.eta = memory.eta
        self.move = move_slots if memory.update == "batched" else move_slots_in_turn
        self.register_buffer("bank", STD_TOKEN * torch.randn(memory.n_slots, d_model))
        self.register_buffer("hits", torch.zeros(memory.n_slots, dtype=torch.long))
        self.register_buffer("n_filled", torch.tensor(0))

    def forward(self, query: Tensor) -> Tensor:
        """Retrieve for (n, T, D) from the filled slots; from the noise in all while none is."""
        return retrieve(query, self.bank[: int(self.n_filled) or None])

    @torch.no_grad()
    def update(self, tokens: Tensor, generator: torch.Generator) -> None:
        """Fill free slots with tokens drawn from (n, D), then move the filled ones (Eq. 6)."""
        if not len(tokens):
            return
        tokens, start = tokens.to(self.bank.dtype), int(self.n_filled)
        drawn = torch.randperm(len(tokens), generator=generator)[: len(self.bank) - start]
        end = start + len(drawn)
        self.bank[start:end] = tokens[drawn.to(tokens.device)]
        self.n_filled.fill_(end)
        self.bank[:end], slot = self.move(self.bank[:end], tokens, self.eta)
        self.hits += slot.bincount(minlength=len(self.hits))
