"""Guess the attributes that are not observed from the tokens around them.

Source: AlignedFusion (MIDL 2026, under review); equation numbers are that paper's. Its equation 10,
a cross-entropy between embeddings, is read as soft labels over the values of an attribute.
"""

# B batch, A attributes, V values of an attribute, C token width, D model width

from __future__ import annotations

from typing import Literal

import torch
from einops import einsum
from torch import Tensor, nn
from torch.nn import functional as F

from bench.blocks import distance
from bench.data import TokenSpec
from bench.layers.attribute_tokens import TokenSet

Target = Literal["soft_label", "mse", "cosine"]


class Reconstruction(nn.Module):
    """Predict every attribute of a table at its own position, which holds no trace of it (eq. 10).

    One linear head per attribute: logits over its values, or for `mse` and `cosine` its token.

    Args:
        spec: of the table.
        d_model: D.
        target: what is guessed, and how its error is measured.
        gives_tokens: whether `tokens` will be asked for; soft labels then need the values' vectors.
    """

    index: Tensor
    padding: Tensor

    def __init__(
        self,
        spec: TokenSpec,
        d_model: int,
        *,
        target: Target = "soft_label",
        gives_tokens: bool = True,
    ):
        super().__init__()
        self.target = target
        n_values = [max(1, n) for n in spec.n_codes]
        sizes = n_values if self.target == "soft_label" else [d_model] * spec.n_attributes
        self.linear = nn.Linear(d_model, sum(sizes))  # the heads, one below the other
        size, column = torch.tensor(sizes), torch.arange(max(sizes))
        padding = column >= size[:, None]  # (A, V)
        index = ((size.cumsum(0) - size)[:, None] + column).masked_fill(padding, 0)
        self.register_buffer("padding", padding, persistent=False)
        self.register_buffer("index", index, persistent=False)
        if self.target == "soft_label" and gives_tokens:
            self.values = _value_features(spec, sum(n_values))  # (all V, C)

    def forward(self, x: Tensor) -> Tensor:
        """Map fused tokens (B, A, D) to guesses (B, A, V), -inf beyond an attribute's values."""
        weight = self.linear.weight[self.index]  # (A, V, D)
        guess = einsum(x, weight, "b a d, a v d -> b a v") + self.linear.bias[self.index]
        return guess.masked_fill(self.padding, float("-inf"))

    def tokens(self, guess: Tensor, token_set: TokenSet) -> Tensor:
        """Return the reconstructed tokens (B, A, D), of soft labels the mean of the values'."""
        if self.target != "soft_label":
            return guess
        embedding = token_set.project(self.values)[self.index]  # (A, V, D), e_{i,v}
        return einsum(guess.softmax(-1), embedding, "b a v, a v d -> b a d")

    def error(self, guess: Tensor, codes: Tensor, tokens: Tensor) -> Tensor:
        """Return the error of each guess.

        Args:
            guess: (B, A, V).
            codes: (B, A) long, the true values.
            tokens: (B, A, D), the true tokens; they are not trained to be guessed easily.

        Returns:
            (B, A).
        """
        if self.target == "soft_label":
            return F.cross_entropy(guess.mT, codes, reduction="none")
        return distance(guess, tokens.detach(), self.target)


def _value_features(spec: TokenSpec, n_values: int) -> Tensor:
    """Return the frozen features of all values (all V, C), or learned ones where there are none."""
    if spec.value_tokens is None:
        return nn.Parameter(torch.randn(n_values, spec.d_token))
    if spec.value_tokens.shape != (n_values, spec.d_token):
        raise ValueError(
            f"value_tokens of {spec.name} must be ({n_values}, {spec.d_token}), one row per "
            f"attribute and value in order, got {tuple(spec.value_tokens.shape)}"
        )
    return nn.Buffer(spec.value_tokens.detach().float(), persistent=False)
