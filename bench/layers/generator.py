"""Generate what is missing from what other modalities have.

Sources: the official codes of RedCore (pooled codes) and MCMoE (tokens).
"""

# B batch, M modalities, T tokens of a modality, S context tokens, D model width

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.blocks import attend, learned_tokens, masked_mean

Widths = tuple[int, int, int]


class CodeGenerator(nn.Module):
    """A cascade of residual autoencoders, separate weights each, and a transition (RedCore)."""

    def __init__(self, d_in: int, d_out: int, widths: Widths, n_autoencoders: int):
        super().__init__()
        self.autoencoders = nn.ModuleList(
            self._autoencoder(d_in, *widths) for _ in range(n_autoencoders)
        )
        self.transition = nn.Sequential(nn.Linear(d_in, d_in), nn.ReLU(), nn.Linear(d_in, d_out))

    @staticmethod
    def _autoencoder(d_in: int, first: int, second: int, latent: int) -> nn.Sequential:
        encoder = [nn.Linear(d_in, first), nn.LeakyReLU(0.01), nn.Linear(first, second)]
        encoder += [nn.LeakyReLU(0.01), nn.Linear(second, latent)]
        decoder = [nn.Linear(latent, second), nn.ReLU(), nn.Linear(second, first)]
        return nn.Sequential(*encoder, *decoder, nn.ReLU(), nn.Linear(first, d_in))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, d_in) to (B, d_out)."""
        out = torch.zeros_like(x)
        for autoencoder in self.autoencoders:
            x = x + out
            out = autoencoder(x)
        return self.transition(x + out)


def generate_from_others(generators: Sequence[nn.Module] | nn.ModuleList, codes: Tensor) -> Tensor:
    """Generate each code from all others in ascending order: (B, M, D) to (B, M, D)."""
    others = [torch.cat([codes[:, :m], codes[:, m + 1 :]], 1) for m in range(codes.shape[1])]
    made = [generate(x.flatten(1)) for generate, x in zip(generators, others, strict=True)]
    return torch.stack(made, 1)


class TokenGenerator(nn.Module):
    """Generate the tokens of one modality from the available ones of the others (MCMoE).

    A query that is not learned is zero, as in the official code: all the tokens that it generates
    are equal, so one is computed and repeated, and the query rows of the first attention's weights
    never learn.
    """

    query: Tensor

    def __init__(self, d_model: int, n_tokens: int, *, n_heads: int, learned_query: bool = False):
        super().__init__()
        self.n_tokens = n_tokens
        self.cross_attn = nn.ModuleList(
            nn.MultiheadAttention(d_model, n_heads, batch_first=True) for _ in range(2)
        )
        self.gate = nn.Linear(2 * d_model, d_model)
        if learned_query:
            self.query = learned_tokens(n_tokens, d_model)
        else:
            self.register_buffer("query", torch.zeros(1, d_model), persistent=False)

    def forward(self, context: Tensor, present: Tensor) -> Tensor:
        """Return tokens (B, T, D) from context tokens (B, S, D) that are present (B, S)."""
        generated = self.attend(self.query.expand(len(context), -1, -1), context, present)
        return generated.expand(-1, self.n_tokens, -1)

    def attend(self, query: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Attend twice, without residual, norm or dropout; gate by the means of both.

        Queries (B, T, D) give tokens (B, T, D); every row needs a present context token.
        """
        for attention in self.cross_attn:
            query = attend(attention, query, context, present)
        means = torch.cat([query.mean(1), masked_mean(context, present)], dim=-1)
        return self.gate(means).sigmoid()[:, None] * query


def generate_missing(
    encoded: Sequence[Tensor], available: Tensor, generators: nn.ModuleList
) -> list[Tensor]:
    """Fill in missing modalities from the available ones, never from filled ones.

    Args:
        encoded: M tensors (B, T_m, D), finite; what is not available is not read.
        available: (B, M) bool.
        generators: M of `TokenGenerator`; none: zeros stand in.

    Returns:
        M tensors (B, T_m, D).
    """
    there = [available[:, m, None] for m in range(len(encoded))]  # (B, 1)
    made: Sequence[Tensor] = [torch.zeros_like(x) for x in encoded]
    if generators:
        context = torch.cat(list(encoded), dim=1)  # (B, S, D)
        slots = [seen.expand(-1, x.shape[1]) for seen, x in zip(there, encoded, strict=True)]
        made = [generate(context, torch.cat(slots, dim=1)) for generate in generators]
    triples = zip(there, encoded, made, strict=True)
    return [torch.where(seen[..., None], x, new) for seen, x, new in triples]
