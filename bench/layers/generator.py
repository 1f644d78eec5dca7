"""Generate what is missing from what other modalities have."""

# B batch, M modalities, D model width

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

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
