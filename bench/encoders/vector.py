"""A vector is one token: its standardised values, as they are."""

# B batch, W vector width

from __future__ import annotations

from torch import Tensor, nn

from bench.encoders.inputs import ModalityInput


class VectorEncoder(nn.Module):
    """Hand a standardised vector on as one token; no parameters."""

    def forward(self, content: ModalityInput) -> Tensor:
        """Return (B, 1, W)."""
        assert content.vector is not None
        return content.vector.unsqueeze(1)
