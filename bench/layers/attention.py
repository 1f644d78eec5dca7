"""Attention from one set of tokens to another."""

# B batch, Q queries, L tokens, D model width

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from bench.blocks import attend

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
