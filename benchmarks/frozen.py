"""P4: a second method on the tokens of a frozen encoder calls no encoder and decodes no picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from bench.data import Dataset, ImageFiles, PictureArray
from bench.encoders.picture_cache import PICTURES
from benchmarks.arena import IMAGE, Arena, Shape, cache_in, some_weights
from benchmarks.results import Goal, Result

GOAL = Goal("P4", "=", 0)
FIRST, SECOND = "concat", "cmml"


def measure(*, n_turns: int = 1, n_cases: int = 32, side: int = 64) -> Iterator[Result]:
    """Count encoder calls and decoded pictures over the runs of two methods.

    A count needs no turns: of several, the largest is given.
    """
    counts = np.array([_counts(n_cases, side) for _ in range(n_turns)]).max(0)
    for what, (first, second) in zip(("encoder calls", "decoded pictures"), counts.T, strict=True):
        said = f"{what} of a second method on frozen tokens (the first: {first})"
        yield Result(GOAL, said, int(second), n_turns)


def _counts(n_cases: int, side: int) -> list[tuple[int, int]]:
    """Return encoder calls and decoded pictures of the first method, then of the second."""
    with TemporaryDirectory() as name, cache_in(Path(name, "cache")):
        folder = Path(name)
        shape = Shape(n_cases, n_pictures=2, side=side)
        arena = Arena.of(shape, weights=some_weights(IMAGE, folder / "weights.pt"))
        dataset = _on_disk(arena.dataset, folder, side)
        return [_prepared(replace(arena, dataset=dataset), name) for name in (FIRST, SECOND)]


def _on_disk(dataset: Dataset, folder: Path, side: int) -> Dataset:
    """Write every picture to a file, to be decoded from there."""
    content: dict[str, object] = {}
    for name, pictures in dataset.content.items():
        assert isinstance(pictures, PictureArray)
        paths = tuple(folder / f"{name}-{case}.png" for case in dataset.cases)
        for path, pixels in zip(paths, pictures.pixels, strict=True):
            Image.fromarray(pixels).save(path)
        content[name] = ImageFiles(paths, side, channels=3)
    return replace(dataset, content=content)


def _prepared(arena: Arena, name: str) -> tuple[int, int]:
    """Prepare all cases for a method as a run does; count encoder calls and decoded pictures."""
    n_decoded, n_calls = PICTURES.n_decoded, 0

    def note(*_: object) -> None:
        nonlocal n_calls
        n_calls += 1

    model = arena.builder(name)(None)
    for encoder in model.encoders.children():
        encoder.register_forward_hook(note)
    model.encode(model.encoders.prepare(arena.inputs(np.arange(arena.dataset.n_cases))))
    return n_calls, PICTURES.n_decoded - n_decoded
