"""A real Swin-T with CMML behind it, for what depends on the encoder's share of the work."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.encoders import Inputs
from bench.engine.inference import Model
from benchmarks.arena import Arena, Shape

SWIN = "swin_tiny_patch4_window7_224"
D_MODEL = 128


def swin(
    n_modalities: int, n_cases: int, side: int = 224, image: str = "", weights: Path | None = None
) -> tuple[Model, Inputs]:
    """Build the model in evaluation mode, and cases of as many pictures as there are modalities.

    Args:
        n_modalities: pictures of a case.
        n_cases: how many there are.
        side: pixels of a picture.
        image: another timm model in place of Swin-T.
        weights: file of its weights, which then stay frozen; None: from scratch.
    """
    shape = Shape(n_cases, n_pictures=n_modalities, side=side)
    arena = Arena.of(shape, image=image or SWIN, d_model=D_MODEL, weights=weights)
    return arena.builder("cmml")(None).eval(), arena.inputs(np.arange(n_cases))
