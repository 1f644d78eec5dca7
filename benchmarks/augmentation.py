"""P5: an epoch of cached pictures altered in batches beside one of JPEG files altered by PIL."""

# B batch, H W C height, width, channels

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from bench.data import Dataset, ImageFiles
from bench.encoders import Inputs, Preprocessor, fit_preprocessor
from bench.encoders.augmentation import Augmenter
from bench.request import preset_path, read_yaml
from bench.spec import Augmentation
from benchmarks.arena import Shape, cache_in, made_up
from benchmarks.results import Goal, Result
from benchmarks.turns import CPU, WALL, in_turns, timed

GOALS = {"cpu": Goal("P5", "<=", 0.35), "cuda": Goal("P5", "<=", 0.1)}
STUDY = "cmml-derm7pt"  # whose alterations these are
BATCH = 36
QUALITY = 90  # of the JPEG files, which then have about 70 kB at 768 x 512 pixels
OCTAVES, FALL = 8, 1.6  # of the noise that they show, each weaker than the last by this factor
MEAN, STD = 0.5, 0.25


def measure(
    *, n_turns: int = 5, n_cases: int = 72, width: int = 768, height: int = 512, side: int = 224
) -> Iterator[Result]:
    """Time an epoch of one picture a case up to the normalised batch, on one thread.

    On a CPU it is processor time. Both sides draw shifts, flips, turns, scale and colour alike;
    only ours bends pictures too. A GPU, where there is one, is timed by the clock: the pictures
    are on it from the start, as in a training.

    Args:
        n_turns: epochs of each.
        n_cases: pictures of an epoch.
        width: of a JPEG file, in pixels; Derm7pt's have 768 x 512.
        height: likewise.
        side: pixels that both are scaled to.
    """
    torch.set_num_threads(1)
    settings = Augmentation.model_validate(read_yaml(preset_path(STUDY))["encoder"]["augment"])
    with TemporaryDirectory() as name, cache_in(Path(name, "cache")):
        dataset = _on_disk(Path(name), n_cases, (width, height), side)
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            yield _beside(dataset, settings, side, device, n_turns)


def _beside(
    dataset: Dataset, settings: Augmentation, side: int, device: str, n_turns: int
) -> Result:
    rows = np.arange(dataset.n_cases)
    fitted = fit_preprocessor(dataset, rows, dataset.natural())
    ours, clock = _Cached(dataset, fitted, settings, device), CPU if device == "cpu" else WALL
    pictures = dataset.content["view0"]
    assert isinstance(pictures, ImageFiles)
    paths = [path for path in pictures.paths if path is not None]
    plain = partial(_jpeg_epoch, paths, settings, side, device)
    turns = in_turns(timed(ours.epoch, clock), timed(plain, clock), n_turns)
    what = f"epoch of cached pictures, altered in batches on {device} / JPEG and PIL"
    return Result(GOALS[device], what, turns.ratio, turns.n, turns.times)


def _on_disk(folder: Path, n_cases: int, size: tuple[int, int], side: int) -> Dataset:
    """Write a JPEG file for each case, of as much detail as a photograph has."""
    dataset = made_up(Shape(n_cases, n_pictures=1, side=12))
    paths = tuple(folder / f"{case}.jpg" for case in dataset.cases)
    for i, path in enumerate(paths):
        _cloud(np.random.default_rng(i), size).save(path, quality=QUALITY)
    files = ImageFiles(paths, side, channels=3)
    return replace(dataset, content={"view0": files})


def _cloud(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Draw a picture whose detail falls with its frequency: noise of several octaves."""
    total = np.full((size[1], size[0], 3), 128.0)
    for octave in range(OCTAVES):
        noise = rng.integers(0, 256, (2 * 2**octave, 3 * 2**octave, 3), dtype=np.uint8)
        smooth = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        total += (np.asarray(smooth) - 128.0) / FALL**octave
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


@dataclass
class _Cached:
    """Epochs as a training has them: from the mapped file, or from what lies on the GPU."""

    dataset: Dataset
    fitted: Preprocessor
    settings: Augmentation
    device: str
    n_epochs: int = 0

    def __post_init__(self) -> None:
        everything = self._inputs(np.arange(self.dataset.n_cases))  # decoded here, once
        self.on_device = None if self.device == "cpu" else everything.to(self.device)

    def _inputs(self, rows: np.ndarray) -> Inputs:
        return self.fitted.inputs(self.dataset, rows, self.dataset.natural())

    def _batch(self, rows: np.ndarray) -> Inputs:
        if self.on_device is None:
            return self._inputs(rows)
        return self.on_device.rows(torch.as_tensor(rows, device=self.device))

    def epoch(self) -> None:
        """Read, alter and normalise every picture once."""
        augmenter = Augmenter(self.settings, self.fitted)
        self.n_epochs += 1
        for rows in np.array_split(np.arange(self.dataset.n_cases), self._n_batches):
            names = self.dataset.cases[rows].tolist()
            (content,) = augmenter(self._batch(rows), names, self.n_epochs).content
            assert content.pictures is not None
            _normalised(content.pictures)
        _finish(self.device)

    @property
    def _n_batches(self) -> int:
        return max(1, round(self.dataset.n_cases / BATCH))


def _normalised(pictures: Tensor) -> Tensor:
    """Return what an encoder takes: (B, C, H, W) of uint8 (B, H, W, C)."""
    return pictures.permute(0, 3, 1, 2).float().div_(255).sub_(MEAN).div_(STD)


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _jpeg_epoch(paths: list[Path], settings: Augmentation, side: int, device: str) -> None:
    """Decode, scale, alter and normalise every file once, picture by picture."""
    for start in range(0, len(paths), BATCH):
        read = [np.asarray(_by_pil(path, settings, side)) for path in paths[start : start + BATCH]]
        _normalised(torch.from_numpy(np.stack(read)).to(device))
    _finish(device)


def _by_pil(path: Path, settings: Augmentation, side: int) -> Image.Image:
    with Image.open(path) as file:
        image = file.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    if random.random() >= settings.p:
        return image
    transpose = Image.Transpose
    steps: list[tuple[float, Callable[[Image.Image], Image.Image]]] = [
        (settings.p_h_flip, lambda x: x.transpose(transpose.FLIP_LEFT_RIGHT)),
        (settings.p_v_flip, lambda x: x.transpose(transpose.FLIP_TOP_BOTTOM)),
        (settings.p_quarter_turn, lambda x: x.transpose(transpose.ROTATE_90)),
        (settings.p_move, partial(_moved, settings=settings)),
        (settings.p_colour, partial(_recoloured, settings=settings)),
    ]
    for p, step in steps:
        if random.random() < p:
            image = step(image)
    return image


def _moved(image: Image.Image, settings: Augmentation) -> Image.Image:
    angle = random.uniform(-settings.rotate, settings.rotate)
    factor = 1 + random.uniform(-settings.scale, settings.scale)
    shift = [random.uniform(-settings.shift, settings.shift) * side for side in image.size]
    cos, sin = np.cos(np.radians(angle)) / factor, np.sin(np.radians(angle)) / factor
    x, y = (side / 2 for side in image.size)
    across = (cos, -sin, x - cos * (x + shift[0]) + sin * (y + shift[1]))
    down = (sin, cos, y - sin * (x + shift[0]) - cos * (y + shift[1]))
    affine, smooth = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return image.transform(image.size, affine, (*across, *down), resample=smooth)


def _recoloured(image: Image.Image, settings: Augmentation) -> Image.Image:
    for enhance, strength in (
        (ImageEnhance.Brightness, settings.brightness),
        (ImageEnhance.Contrast, settings.contrast),
    ):
        image = enhance(image).enhance(1 + random.uniform(-strength, strength))
    return image
