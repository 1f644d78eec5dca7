"""A real Swin-T from scratch with CMML behind it, for what depends on the encoder's share."""

from __future__ import annotations

import numpy as np

from bench.encoders import Inputs
from bench.inference import Model
from benchmarks.arena import Arena, Shape

SWIN = "swin_tiny_patch4_window7_224"
D_MODEL = 128


def swin(n_modalities: int, n_cases: int, side: int = 224, image: str = "") -> tuple[Model, Inputs]:
    """Build the model in evaluation mode, and cases of as many pictures as there are modalities."""
    shape = Shape(n_cases, n_pictures=n_modalities, side=side)
    arena = Arena.of(shape, image=image or SWIN, d_model=D_MODEL)
    return arena.builder("cmml")(None).eval(), arena.inputs(np.arange(n_cases))
