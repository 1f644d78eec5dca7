"""Training pictures and volumes, altered in batches on the device that they lie on.

All moves of a picture (flips, turns, shift, scale, rotation, bend) are one resampling; what comes
in from outside is the picture's own reflection. Pictures stay uint8 and volumes keep their type, so
that an altered case is as good as one read from a file.
"""

# B batch, n rows that are altered, H W C height, width, channels, Z slices, G control points

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.encoders.draws import Draws, G, bernstein
from bench.encoders.inputs import Inputs, ModalityInput, concatenate
from bench.encoders.pixels import VolumeStatistics
from bench.encoders.preprocessing import Preprocessor
from bench.seeds import seed_for
from bench.spec import Augmentation

CPU_ROWS = 2  # pictures altered at a time on a CPU, so that they stay in its cache
WHITE = 255.0


@dataclass(frozen=True)
class Augmenter:
    """Alters training cases under one setting."""

    settings: Augmentation
    preprocessor: Preprocessor  # gives the moments of volumes
    frozen: bool = False  # pictures stay as they are: their encoder sees them once

    @torch.no_grad()
    def __call__(self, inputs: Inputs, cases: Sequence[str], *keys: object) -> Inputs:
        """Alter the pictures and volumes that are there; everything else is as it was.

        Args:
            inputs: B cases; pictures that were replaced by their tokens stay as they are.
            cases: (B,) their names.
            keys: what the draws depend on beside the case: run, epoch.
        """
        content = list(inputs.content)
        for m, each in enumerate(content):
            seen_anew = each.pictures is not None and not self.frozen
            if seen_anew or each.volumes is not None:
                rows = inputs.observed[:, m].nonzero().flatten()
                names = [cases[row] for row in rows.tolist()]
                content[m] = self._altered(each, m, rows, names, keys)
        return Inputs(tuple(content), inputs.observed)

    def _altered(
        self,
        content: ModalityInput,
        m: int,
        rows: Tensor,
        names: Sequence[str],
        keys: tuple[object, ...],
    ) -> ModalityInput:
        own = "" if self.settings.together else self.preprocessor.modalities[m]
        if content.pictures is not None:
            draws = Draws.of(self.settings, names, *keys, "picture", own)
            return replace(content, pictures=altered_pictures(content.pictures, rows, draws))
        assert content.volumes is not None
        draws = Draws.of(self.settings, names, *keys, "volume", own)
        moments = self.preprocessor.of(m, VolumeStatistics)
        seeds = [seed_for("noise", seed, m) for seed in draws.seeds]  # never one for two volumes
        return replace(
            content, volumes=altered_volumes(content.volumes, rows, draws, moments, seeds)
        )

    def variants(self, inputs: Inputs, cases: Sequence[str]) -> list[Inputs]:
        """Return the fixed altered copies of these cases for a frozen encoder.

        They are the same in every run, so that their tokens are made once.
        """
        alter = replace(self, frozen=False)
        return [alter(inputs, cases, "variant", v) for v in range(self.settings.variants)]


def stacked(parts: Sequence[Inputs]) -> Inputs:
    """Put the cases of several parts below each other."""
    content = zip(*(part.content for part in parts), strict=True)
    return Inputs(
        tuple(concatenate(each) for each in content), torch.cat([part.observed for part in parts])
    )


def altered_pictures(pictures: Tensor, rows: Tensor, draws: Draws) -> Tensor:
    """Alter some of the pictures.

    Args:
        pictures: uint8 (B, H, W, C).
        rows: (n,) those that are there.
        draws: of these n.
    """
    _, height, width, _ = pictures.shape
    maps = draws.maps(height, width)
    moved, coloured = draws.moved(maps), draws.coloured
    out = pictures.clone()
    # rows of one kind together: each kind costs only what it needs
    for move, colour in ((True, True), (True, False), (False, True)):
        places = np.flatnonzero((moved == move) & (coloured == colour))
        size = CPU_ROWS if pictures.device.type == "cpu" else max(1, len(places))
        for start in range(0, len(places), size):
            chunk = places[start : start + size]
            chosen = rows[torch.as_tensor(chunk, device=rows.device)]
            x = pictures[chosen].permute(0, 3, 1, 2)
            x = x.to(torch.float32, memory_format=torch.contiguous_format)  # (n, C, H, W)
            if move:
                x = _resampled(x, maps[chunk], draws.bends[chunk])
            if colour:
                x = _recoloured(x, draws, chunk)
            x = x.round_().clamp_(0, WHITE).permute(0, 2, 3, 1)
            out[chosen] = x.contiguous().to(torch.uint8)  # in this order: bytes are slow to move
    return out


def _resampled(x: Tensor, maps: np.ndarray, bends: np.ndarray) -> Tensor:
    """Take each place of the pictures (n, C, H, W) from where `maps` and `bends` say."""
    height, width = x.shape[2:]
    along = [(2 * torch.arange(side, device=x.device) + 1) / side - 1 for side in (width, height)]
    column, row = along[0], along[1].unsqueeze(1)
    linear = torch.as_tensor(maps, dtype=torch.float32, device=x.device)[..., None, None]
    # by hand: a matrix product may round otherwise in a batch of another size
    grid = linear[:, :, 0] * column + (linear[:, :, 1] * row + linear[:, :, 2])  # (n, 2, H, W)
    if bends.any():
        across = np.einsum("hg,nigk->nihk", bernstein(height), bends)
        free = torch.as_tensor(across, dtype=torch.float32, device=x.device)  # (n, 2, H, G)
        weights = torch.as_tensor(bernstein(width), dtype=torch.float32, device=x.device)
        for k in range(G):
            grid.addcmul_(free[..., k : k + 1], weights[:, k])
    grid = grid.permute(0, 2, 3, 1).contiguous()
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _recoloured(x: Tensor, draws: Draws, places: np.ndarray) -> Tensor:
    """Change the values of pictures (n, C, H, W), 0 to 255."""

    def each(values: np.ndarray) -> Tensor:
        chosen = torch.as_tensor(values[places], dtype=torch.float32, device=x.device)
        return chosen[..., None, None]

    if x.shape[1] == 3 and draws.mixtures is not None:
        mixture = each(draws.mixtures)  # (n, 3, 3, 1, 1)
        y = mixture[:, :, 0] * x[:, :1]
        for k in (1, 2):
            y.addcmul_(mixture[:, :, k], x[:, k : k + 1])
        x = y
    return torch.addcmul(WHITE * each(draws.offsets[:, None]), x, each(draws.factors[:, None]))


def altered_volumes(
    volumes: Tensor,
    rows: Tensor,
    draws: Draws,
    moments: VolumeStatistics,
    seeds: Sequence[int],
) -> Tensor:
    """Alter some of the volumes: crop, flips, noise, erasing, in this order.

    Args:
        volumes: uint8 or float32 (B, Z, H, W, C).
        rows: (n,) those that are there.
        draws: of these n.
        moments: of the training part, for noise and for what is put in the place of the erased.
        seeds: (n,) of the noise.
    """
    sides = volumes.shape[1:4]
    steps, boxes = draws.steps(sides), draws.boxes(sides)
    mean = torch.tensor(moments.mean, dtype=torch.float32, device=volumes.device)
    std = torch.tensor(moments.std, dtype=torch.float32, device=volumes.device)
    out = volumes.clone()
    for i, row in enumerate(rows.tolist()):
        x = _shifted(volumes[row], steps[i])
        axes = [axis for axis, flip in ((2, draws.h_flip[i]), (1, draws.v_flip[i])) if flip]
        x = x.flip(axes).float()
        if draws.noise[i]:
            generator = torch.Generator(x.device).manual_seed(seeds[i])
            white = torch.randn(x.shape, generator=generator, device=x.device)
            x = x + float(draws.noise[i]) * std * white
        (z, z_end), (y, y_end), (c, c_end) = boxes[i]
        x[z:z_end, y:y_end, c:c_end] = mean
        out[row] = x if volumes.is_floating_point() else x.round().clamp(0, WHITE)
    return out


def _shifted(volume: Tensor, steps: np.ndarray) -> Tensor:
    """Move a volume (Z, H, W, C) by whole voxels; what comes in from outside is 0."""
    if not steps.any():
        return volume
    sides = volume.shape[:3]
    to = tuple(slice(max(0, s), side + min(0, s)) for s, side in zip(steps, sides, strict=True))
    of = tuple(slice(max(0, -s), side - max(0, s)) for s, side in zip(steps, sides, strict=True))
    moved = torch.zeros_like(volume)
    moved[to] = volume[of]
    return moved
