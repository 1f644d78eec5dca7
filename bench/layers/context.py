"""Complete and align the modalities of a case through context: learned tokens that all can read.

Source: CMML (arXiv 2605.25968); equation numbers are that paper's. It leaves open whether seeds and
context attend with projections (`AttentionKind`), and the residuals, which stand around every
attention here. Tokens that are there stay as they came: the refined ones serve as context.
"""

# B batch, M modalities, T tokens of a modality, L tokens of all modalities, C context tokens,
# n rows with a gap, D model width

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.blocks import learned_tokens
from bench.data import TokenSpec
from bench.layers.attention import AttentionKind, CrossAttention
from bench.layers.autoencoder import CRTA, Cascade
from bench.layers.memory_bank import Memory, MemoryBank
from bench.layers.slots import Slots, SlotStates, used_keys


@dataclass(frozen=True, eq=False)
class Completed:
    """Cases whose missing tokens were completed."""

    tokens: list[Tensor]  # M tensors (B, T_m, D)
    used: list[Tensor]  # M tensors (B, T_m) bool, False for padding
    refined: list[Tensor]  # M tensors (B, T_m, D), what the cascade made of all tokens
    context: Tensor  # (B, C, D), as the cascade left it
    learned_context: Tensor  # (B, C, D), the same for all cases


def n_context_tokens(setting: str | float, n_tokens: Sequence[int]) -> int:
    """Count the context tokens: the mean of the modalities' counts, or a share of their sum."""
    share = 1 / len(n_tokens) if isinstance(setting, str) else setting
    return max(1, math.floor(share * sum(n_tokens) + 0.5))


def cross_attentions(n_modalities: int, d_model: int, n_heads: int) -> nn.ModuleList:
    """Build a cross-attention for each modality."""
    return nn.ModuleList(CrossAttention(d_model, n_heads) for _ in range(n_modalities))


class ContextCompletion(nn.Module):
    """Complete missing tokens from the case, the context and a memory (Eq. 3-7).

    Args:
        specs: of the M modalities.
        d_model: D.
        n_heads: of all attention with projections.
        n_context: see `n_context_tokens`; None: no context tokens.
        start: how seeds attend to the available tokens of the case.
        cascade: what refines the tokens; None: missing tokens are learned constants.
        memory: what enriches them; None: nothing.
    """

    context: nn.Parameter | None

    def __init__(
        self,
        specs: Sequence[TokenSpec],
        d_model: int,
        *,
        n_heads: int,
        n_context: str | float | None = "mean",
        start: AttentionKind = "plain",
        cascade: Cascade | None = None,
        memory: Memory | None = None,
    ):
        super().__init__()
        n_tokens = [spec.n_tokens for spec in specs]
        self.slots = SlotStates(specs)
        self.seeds = nn.ParameterList(learned_tokens(n, d_model) for n in n_tokens)  # S_m
        self.position = nn.ParameterList(learned_tokens(n, d_model) for n in n_tokens)  # P_m
        self.modal_type = learned_tokens(len(specs), d_model)  # T_m
        self.state = nn.ParameterList(learned_tokens(2, n, d_model) for n in n_tokens)  # V_m
        self.context = None  # G
        if n_context is not None:
            self.context = learned_tokens(n_context_tokens(n_context, n_tokens), d_model)
        self.crta: CRTA | None = None
        if cascade is not None:
            self.initial_attention = CrossAttention(d_model, n_heads, start)
            self.crta = CRTA(d_model, n_heads, cascade)
        self.banks: nn.ModuleList | None = None
        if memory is not None:
            self.banks = nn.ModuleList(MemoryBank(d_model, memory) for _ in specs)
            self.memory_attention = cross_attentions(len(specs), d_model, n_heads)

    def forward(self, x: Sequence[Tensor], there: Sequence[Tensor], available: Tensor) -> Completed:
        """Complete.

        Args:
            x: M tensors (B, T_m, D), 0 where a token is not there.
            there: M tensors (B, T_m) bool, valid tokens of an available modality.
            available: (B, M) bool.
        """
        slots = self.slots(there, available)
        used = [each.used for each in slots]
        case = torch.cat(list(x), 1), torch.cat(list(there), 1)
        started = [each.fill(x[m], self.start(m, each.rows, *case)) for m, each in enumerate(slots)]
        embedded = [self.embed(m, started[m], each) for m, each in enumerate(slots)]
        context, *refined = self.refine([self.learned(x[0]), *embedded], used_keys(used))
        tokens = [
            each.fill(x[m], self.recall(m, refined[m][each.rows], each.missing[each.rows]))
            for m, each in enumerate(slots)
        ]
        return Completed(tokens, used, refined, context, self.learned(x[0]))

    def learned(self, x: Tensor) -> Tensor:
        """Return the learned context for the cases of x: (B, C, D), C is 0 if there is none."""
        if self.context is None:
            return x[:, :0]
        return self.context.expand(len(x), -1, -1)

    def start(self, m: int, rows: Tensor, tokens: Tensor, there: Tensor) -> Tensor:
        """Start tokens (n, T, D) from seeds that look at what is there in these rows (Eq. 3)."""
        new = self.seeds[m].expand(len(rows), -1, -1)
        if self.crta is None or not len(rows):
            return new
        return self.initial_attention(new, tokens[rows], there[rows])

    def embed(self, m: int, x: Tensor, slots: Slots) -> Tensor:
        """Add position, modal type, and whether a token is there or missing (Eq. 4)."""
        there, missing = self.state[m]
        state = torch.where(slots.there[..., None], there, missing)  # (B, T, D)
        return x + (self.position[m] + self.modal_type[m]) + state

    def refine(self, sets: Sequence[Tensor], keys: Tensor | None) -> Sequence[Tensor]:
        """Run the cascade over [context | all modalities] (Eq. 5) and split what comes out."""
        sizes = [each.shape[1] for each in sets]
        z = torch.cat(list(sets), 1)  # (B, C + L, D)
        if self.crta is not None:
            z = self.crta(z, None if keys is None else F.pad(keys, (sizes[0], 0), value=True))
        return z.split(sizes, 1)

    def recall(self, m: int, new: Tensor, missing: Tensor) -> Tensor:
        """Enrich (n, T, D) from what its missing tokens, (n, T) bool, find in memory (Eq. 7)."""
        if self.banks is None or not len(new):
            return new
        return new + self.memory_attention[m](new, self.banks[m](new), missing)

    def remember(
        self, x: Sequence[Tensor], there: Sequence[Tensor], generator: torch.Generator
    ) -> None:
        """Feed the banks, if any, with tokens of M modalities that are there (Eq. 6).

        Args:
            x: M tensors (B, T_m, D), detached.
            there: M tensors (B, T_m) bool.
            generator: CPU generator.
        """
        for m, bank in enumerate(self.banks or ()):
            assert isinstance(bank, MemoryBank)
            bank.update(x[m][there[m]], generator)


class ContextAlignment(nn.Module):
    """Let every modality attend to a reference made for the case (Eq. 9-10).

    Args:
        n_modalities: M.
        d_model: D.
        n_heads: of all attention with projections.
        reference: how the context attends to the case; None: the reference is the learned context.
    """

    def __init__(
        self, n_modalities: int, d_model: int, *, n_heads: int, reference: AttentionKind | None
    ):
        super().__init__()
        self.attention = cross_attentions(n_modalities, d_model, n_heads)
        self.reference_attention: CrossAttention | None = None
        if reference is not None:
            self.reference_attention = CrossAttention(d_model, n_heads, reference)

    def forward(self, case: Completed) -> list[Tensor]:
        """Return the aligned tokens, M tensors (B, T_m, D)."""
        reference = self.reference(case)
        pairs = zip(self.attention, case.tokens, strict=True)
        return [x + attend(x, reference) for attend, x in pairs]

    def reference(self, case: Completed) -> Tensor:
        """Adapt the context to the case (Eq. 9): (B, C, D)."""
        if self.reference_attention is None:
            return case.learned_context
        refined, keys = torch.cat(case.refined, 1), used_keys(case.used)
        return case.context + self.reference_attention(case.context, refined, keys)
