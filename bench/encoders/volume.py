"""Volumes to tokens: one token per place of the last map of a 3-D network.

`conv3d` is a plain network of four convolutions, each of which halves the volume; `nnmamba` halves
it as often, so that both give as many tokens of the same width (24 x 128 x 128: 128 of 128).
"""

# B batch, Z H W slices, rows and columns, C channels, T tokens, D token width

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.encoders.inputs import ModalityInput
from bench.encoders.nnmamba import NNMamba
from bench.encoders.pixels import VolumeStatistics
from bench.spec import EncoderConfig

WIDTHS = (16, 32, 64, 128)


class VolumeEncoder(nn.Module):
    """A 3-D network trained from scratch on volumes standardised by the training part's moments."""

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: VolumeStatistics, config: EncoderConfig):
        super().__init__()
        *sides, n_channels = statistics.shape
        for name in ("mean", "std"):
            moment = torch.tensor(getattr(statistics, name), dtype=torch.float32)
            self.register_buffer(name, moment.view(-1, 1, 1, 1), persistent=False)
        self.model = NNMamba(n_channels) if config.volume == "nnmamba" else convolutions(n_channels)
        for _ in WIDTHS:
            sides = [(side + 1) // 2 for side in sides]
        self.n_tokens, self.d_token = sides[0] * sides[1] * sides[2], WIDTHS[-1]

    def forward(self, content: ModalityInput) -> Tensor:
        """Return (B, T, D) of volumes (B, Z, H, W, C)."""
        assert content.volumes is not None
        x = content.volumes.permute(0, 4, 1, 2, 3).float()  # (B, C, Z, H, W)
        return self.model((x - self.mean) / self.std).flatten(2).mT


def convolutions(n_channels: int) -> nn.Sequential:
    """Build four convolutions of stride 2, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for d_in, d_out in zip((n_channels, *WIDTHS), WIDTHS, strict=False):
        layers += [nn.Conv3d(d_in, d_out, 3, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm3d(d_out), nn.ReLU()]
    return nn.Sequential(*layers)
