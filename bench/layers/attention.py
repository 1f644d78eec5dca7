"""Attention from one set of tokens to another, and within one.

Sources: CMML (arXiv 2605.25968), equations 3, 7, 9 and 10, for `CrossAttention`; the official codes
of RedCore and MCMoE for the others.
"""

# B batch, Q queries, T or L tokens, D model width

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from bench.blocks import AttentionStack, attend

AttentionKind = Literal["plain", "mhca"]


class CrossAttention(nn.Module):
    """Cross-attention: `mhca` has heads and projections, `plain` is softmax(Q X^T / sqrt(D)) X."""

    def __init__(self, d_model: int, n_heads: int, kind: AttentionKind = "mhca"):
        super().__init__()
        self.mhca: nn.MultiheadAttention | None = None
        if kind == "mhca":
            self.mhca = nn.MultiheadAttention(d_model, n_heads, batch_first=True)

    def forward(self, query: Tensor, x: Tensor, available: Tensor | None = None) -> Tensor:
        """Attend from (B, Q, D) to (B, L, D), to those tokens that are available, (B, L) bool."""
        if self.mhca is not None:
            return attend(self.mhca, query, x, available)
        allowed = None if available is None else available[:, None, None]
        keys = x[:, None]  # one head
        return F.scaled_dot_product_attention(query[:, None], keys, keys, attn_mask=allowed)[:, 0]


class SandwichLayer(nn.Module):
    """Residual attention and feed-forward, each normalised before and after (RedCore's code)."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.norm_a, self.norm_b, self.norm_c, self.norm_d = (
            nn.LayerNorm(d_model) for _ in range(4)
        )
        self.attention = nn.MultiheadAttention(d_model, n_heads, dropout=0.2, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, 4 * d_model),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(4 * d_model, d_model),
        )

    def forward(self, h: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, D), (B, T) bool to (B, T, D)."""
        x = self.norm_a(h)
        h = h + self.norm_b(attend(self.attention, x, x, valid))
        return h + self.norm_d(self.feed_forward(self.norm_c(h)))


def query_decoder(d_model: int, stack: AttentionStack) -> nn.TransformerDecoder:
    """Build post-norm layers in which queries attend to tokens, and a last norm (MCMoE)."""
    shape = d_model, stack.n_heads, stack.mlp_ratio * d_model, stack.p_drop
    layer = nn.TransformerDecoderLayer(*shape, stack.activation, batch_first=True)
    return nn.TransformerDecoder(layer, stack.n_layers, nn.LayerNorm(d_model))
