"""One token per attribute of a table: what a method sees that tells "not mentioned" from "absent".

Source: AlignedFusion (MIDL 2026, under review); equation numbers are that paper's.
"""

# B batch, T tokens, N tokens of a set, A attributes, C token width, D model width

from __future__ import annotations

import torch
from einops import einsum
from torch import Tensor, nn

from bench.data import TokenSpec


class TokenSet(nn.Module):
    """Bring one modality to width D: Linear and LayerNorm (eq. 3 and 5).

    A table gives one token per attribute, the mean of the attribute's valid slots; with
    `by_attribute` off, one for the whole table.
    """

    member: Tensor

    def __init__(self, spec: TokenSpec, d_model: int, *, by_attribute: bool = True):
        super().__init__()
        self.is_report = spec.kind == "table"
        self.linear = nn.Linear(spec.d_token, d_model)
        self.norm = nn.LayerNorm(d_model)
        if self.is_report:
            slot = torch.tensor(spec.attribute)  # (T,)
            attribute = torch.arange(spec.n_attributes)
            member = (slot[:, None] == attribute) if by_attribute else (slot >= 0)[:, None]
            self.register_buffer("member", member.float(), persistent=False)  # (T, A)

    def forward(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Gather and project.

        Args:
            values: (B, T, C); what is not valid is never read.
            valid: (B, T) bool.

        Returns:
            tokens (B, N, D), and which of them are observed (B, N) bool.
        """
        values = torch.where(valid[..., None], values, 0.0)
        if self.is_report:
            count = valid.to(values.dtype) @ self.member  # (B, A)
            values = einsum(values, self.member, "b t c, t a -> b a c")
            values = values / count.clamp(min=1)[..., None]
            valid = count > 0
        return self.project(values), valid

    def project(self, features: Tensor) -> Tensor:
        """Map (..., C) to (..., D)."""
        return self.norm(self.linear(features))
