"""Forty cases of a table and a vector, encoded, and a method that can be told what to do."""

# B batch

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bench.data import Attribute, Dataset, Modality, Tokens
from bench.encoders import Encoders, fit_preprocessor
from bench.engine.engine import fit
from bench.engine.inference import Model, Part
from bench.engine.stage import Training
from bench.method import Config, Method, Prediction, Progress, Stage
from bench.spec import EncoderConfig, Recipe

N_CASES = 40
TRAIN, VALID = np.arange(24), np.arange(24, N_CASES)


def dataset(label: np.ndarray | None = None, available: np.ndarray | None = None) -> Dataset:
    """Return cases whose vector begins with the label, as -1 and 1; the rest is noise."""
    rng = np.random.default_rng(0)
    label = np.arange(N_CASES) % 2 if label is None else label
    genes = rng.normal(size=(N_CASES, 3)).astype(np.float32)
    genes[:, 0] = 2 * label - 1
    modalities = (
        Modality("clinical", "table", attributes=(Attribute("age"), Attribute("size"))),
        Modality("genes", "vector", width=3),
    )
    frame = pd.DataFrame({"age": rng.normal(60, 10, N_CASES), "size": rng.normal(size=N_CASES)})
    return Dataset(
        name="toy",
        modalities=modalities,
        classes=("benign", "malignant"),
        cases=np.arange(N_CASES).astype(str),
        label=label.astype(np.int64),
        group=np.arange(N_CASES).astype(str),
        content={"clinical": frame, "genes": genes},
        available=np.ones((N_CASES, 2), bool) if available is None else available,
        fingerprint="toy",
    )


class Toy(Method):
    """Answer with the first column of the vector, times `quality`; learn nothing of use.

    What a test wants of it, it overrides in a subclass. `told` collects what the engine told it.
    """

    name = "toy"
    display_name = "Toy"
    config_class = Config
    quality: Tensor
    epoch: Tensor

    def __init__(self, task: Any, config: Config):
        super().__init__(task, config)
        self.weight = nn.Parameter(torch.zeros(()))
        self.other = nn.Parameter(torch.zeros(()))
        self.register_buffer("quality", torch.ones(()))
        self.register_buffer("epoch", torch.full((), -1.0))  # the last one trained
        self.told: list[Progress] = []
        self.labels: list[list[int]] = []

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        score = self.quality * tokens[1].values[:, 0, 0]  # (B,)
        return Prediction(torch.stack([-score, score], 1))

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        self.told.append(progress)
        self.labels.append(label.tolist())
        self.epoch.fill_(progress.epoch)
        return {"weight": self.weight, "other": self.other}  # gradients of one


def builder(
    data: Dataset, method: type[Method] = Toy, config: EncoderConfig | None = None
) -> Callable[[Stage | None], Model]:
    """Return what builds a seeded model of a method on the data."""
    preprocessor = fit_preprocessor(data, TRAIN, data.natural())

    def build(stage: Stage | None) -> Model:
        torch.manual_seed(7)
        encoders = Encoders(data.modalities, preprocessor, config or EncoderConfig(d_attribute=4))
        return Model(encoders, method(encoders.task(data.classes, 8), Config()))

    return build


def part(data: Dataset, rows: np.ndarray) -> Part:
    """Return cases ready for the encoders."""
    preprocessor = fit_preprocessor(data, TRAIN, data.natural())
    inputs = preprocessor.inputs(data, rows, data.natural())
    return Part(inputs, torch.as_tensor(data.label[rows]))


def recipe(**settings: Any) -> Recipe:
    """Return a recipe of constant rate, without decay of weights."""
    plain = {"epochs": 1, "batch_size": 8, "warmup_epochs": 0, "decay_factor": 1.0}
    return Recipe(**{**plain, "weight_decay": 0.0, "lr": 0.1, **settings})


def train(
    method: type[Method] = Toy,
    data: Dataset | None = None,
    *,
    seed: int = 0,
    selection: tuple[tuple[int, ...] | None, ...] = (None,),
    **settings: Any,
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Train a method on the toy cases; return its members (their methods untyped) and the log."""
    data = data or dataset()
    training = Training(recipe(**settings), selection, ("toy", seed), len(data.classes))
    log: list[dict[str, Any]] = []
    members = fit(builder(data, method), training, part(data, TRAIN), part(data, VALID), log.append)
    return members, log
