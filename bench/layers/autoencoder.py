"""Refine tokens by a cascade of transformer autoencoders, each with a residual.

Source: CMML (arXiv 2605.25968); equation numbers are that paper's. It leaves open the order of the
norms (pre-norm here), the MLPs and whether a projection follows the attention.
"""

# B batch, L tokens of all modalities

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Cascade:
    """Shape of a cascade."""

    n_stages: int
    d_bottleneck: int
    enc_mlp: int | None  # hidden width, None: no MLP
    dec_mlp: int | None
    out_projection: bool = True  # after the attention
    p_drop: float = 0.1  # in the MLPs


class WidthBlock(nn.Module):
    """Transformer block whose query, key and value projection changes the width.

    The skip starts from the values, as input and output differ in width.
    """

    def __init__(self, d_in: int, d_out: int, *, n_heads: int, d_mlp: int | None, shape: Cascade):
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(d_in)
        self.qkv = nn.Linear(d_in, 3 * d_out)
        self.out = nn.Linear(d_out, d_out) if shape.out_projection else nn.Identity()
        self.mlp: nn.Module | None = None
        if d_mlp is not None:
            self.mlp = nn.Sequential(
                nn.LayerNorm(d_out),
                nn.Linear(d_out, d_mlp),
                nn.GELU(),
                nn.Dropout(shape.p_drop),
                nn.Linear(d_mlp, d_out),
                nn.Dropout(shape.p_drop),
            )

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        """Map (B, L, d_in) to (B, L, d_out); allowed keys (B, 1, 1, L) bool, None: all."""
        qkv = self.qkv(self.norm(x))
        q, k, v = rearrange(qkv, "b l (three h d) -> three b h l d", three=3, h=self.n_heads)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        u = self.out(rearrange(attended, "b h l d -> b l (h d)")) + qkv.chunk(3, -1)[2]
        return u if self.mlp is None else u + self.mlp(u)


class CRTA(nn.Module):
    """Cascade of residual transformer autoencoders: Z_k = Z_(k-1) + Dec(Enc(Z_(k-1))) (Eq. 5)."""

    def __init__(self, d_model: int, n_heads: int, shape: Cascade):
        super().__init__()

        def block(d_in: int, d_out: int, d_mlp: int | None) -> WidthBlock:
            return WidthBlock(d_in, d_out, n_heads=n_heads, d_mlp=d_mlp, shape=shape)

        narrow = shape.d_bottleneck
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for _ in range(shape.n_stages):
            self.encoders.append(block(d_model, narrow, shape.enc_mlp))
            self.decoders.append(block(narrow, d_model, shape.dec_mlp))

    def forward(self, z: Tensor, used: Tensor | None) -> Tensor:
        """Refine (B, L, D); `used` (B, L) bool is False for padding, None: there is none."""
        allowed = None if used is None else used[:, None, None]
        for encode, decode in zip(self.encoders, self.decoders, strict=True):
            z = z + decode(encode(z, allowed), allowed)
        return z
