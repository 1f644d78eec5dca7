"""Made-up cases, and what all methods of a benchmark share: encoders, recipe, preprocessing."""

# N cases

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bench.cache_folder import VARIABLE
from bench.data import Attribute, Dataset, Modality, PictureArray
from bench.encoders import Encoders, Inputs, Preprocessor, fit_preprocessor
from bench.engine.inference import Model, Part
from bench.method import Method, Stage
from bench.registry import Registry
from bench.spec import EncoderConfig, Recipe

N_ATTRIBUTES = 6
WIDTH = 32  # of a vector
IMAGE = "resnet10t"


@dataclass(frozen=True)
class Shape:
    """How many cases of which modalities."""

    n_cases: int
    n_pictures: int = 0
    side: int = 32  # pixels of a picture
    n_vectors: int = 0
    n_tables: int = 0


def made_up(shape: Shape) -> Dataset:
    """Draw complete cases of two classes that every modality tells apart a little."""
    rng = np.random.default_rng(0)
    label = np.arange(shape.n_cases) % 2
    content: dict[str, object] = {}
    modalities: list[Modality] = []
    for i in range(shape.n_pictures):
        size = (shape.n_cases, shape.side, shape.side, 3)
        content[f"view{i}"] = PictureArray(rng.integers(0, 256, size, dtype=np.uint8))
        modalities.append(Modality(f"view{i}", "image", channels=3, encoder="view"))
    for i in range(shape.n_vectors):
        values = rng.normal(label[:, None], 3, (shape.n_cases, WIDTH))
        content[f"vector{i}"] = values.astype(np.float32)
        modalities.append(Modality(f"vector{i}", "vector", width=WIDTH))
    for i in range(shape.n_tables):
        names = [f"a{a}" for a in range(N_ATTRIBUTES)]
        cells = rng.normal(label[:, None], 3, (shape.n_cases, N_ATTRIBUTES))
        content[f"table{i}"] = pd.DataFrame(cells, columns=names)
        modalities.append(Modality(f"table{i}", "table", tuple(map(Attribute, names))))
    return Dataset(
        name="made-up",
        modalities=tuple(modalities),
        classes=("no", "yes"),
        cases=np.arange(shape.n_cases).astype(str),
        label=label,
        group=np.arange(shape.n_cases).astype(str),
        content=content,
        available=np.ones((shape.n_cases, len(modalities)), bool),
        fingerprint="made-up",
    )


@dataclass(frozen=True)
class Arena:
    """One set of cases with the settings that its methods share."""

    dataset: Dataset
    recipe: Recipe
    encoder: EncoderConfig

    @classmethod
    def of(
        cls, shape: Shape, *, image: str = IMAGE, d_model: int = 64, weights: Path | None = None
    ) -> Arena:
        """Draw the cases; all else is the default of a study, but no early stopping.

        Args:
            shape: of the cases.
            image: timm's name of the picture encoder.
            d_model: width shared by all methods.
            weights: file of the encoder's weights, which then stay frozen; None: from scratch.
        """
        recipe = Recipe.model_validate({"d_model": d_model, "patience": 1000})
        encoder: dict[str, object] = {"image": image}
        if weights is not None:
            encoder |= {"weights": str(weights), "frozen": True}
        return cls(made_up(shape), recipe, EncoderConfig.model_validate(encoder))

    @cached_property
    def _preprocessor(self) -> Preprocessor:
        rows = np.arange(self.dataset.n_cases)
        return fit_preprocessor(self.dataset, rows, self.dataset.natural())

    def inputs(self, rows: np.ndarray) -> Inputs:
        """Preprocess these cases."""
        return self._preprocessor.inputs(self.dataset, rows, self.dataset.natural())

    def part(self, rows: np.ndarray) -> Part:
        """Preprocess these cases, with their labels."""
        return Part(self.inputs(rows), torch.as_tensor(self.dataset.label[rows]))

    def builder(self, name: str) -> Callable[[Stage | None], Model]:
        """Return what builds a method with its defaults on the shared encoders, seeded."""
        method_class: type[Method] = Registry().load("method", name)
        config = method_class.config_class()

        def build(stage: Stage | None) -> Model:
            torch.manual_seed(0)
            separate = method_class.separate_encoders(config)
            modalities = self.dataset.modalities
            encoders = Encoders(modalities, self._preprocessor, self.encoder, separate=separate)
            task = encoders.task(self.dataset.classes, self.recipe.d_model)
            return Model(encoders, method_class(task, config))

        return build


def some_weights(image: str, path: Path) -> Path:
    """Write weights of a picture encoder that are as good as any, for what a frozen one costs."""
    import timm

    torch.save(timm.create_model(image, num_classes=0).state_dict(), path)
    return path


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Keep the bench's cache in a folder of ours for a while."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def methods_for(dataset: Dataset) -> list[str]:
    """List the methods that the engine trains and that can take these modalities."""
    registry = Registry()
    kinds = [modality.kind for modality in dataset.modalities]
    loaded = {name: registry.load("method", name) for name in registry.names("method")}
    return [
        name
        for name, plugin in loaded.items()
        if issubclass(plugin, Method) and not plugin.capabilities.refusal(kinds)
    ]
