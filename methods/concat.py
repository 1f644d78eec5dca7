"""Zero-fill concatenation: pool each modality, fill what is absent, concatenate, classify.

The plainest network that can take any availability. `concat` trains on all that a case has, so
that an incomplete test case is out of its distribution; `concat:dropout` also drops modalities in
training. Both are rows of a comparison: the first is the usual weak reference, the second is what
a new method has to beat.

Source: none; the baseline of many papers. Sizes are ours: one hidden layer of width D.
"""

# B batch, M modalities, D model width

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import DropoutLaw, check_available
from bench.blocks import Head, PooledProjection
from bench.data import Task, Tokens
from bench.method import Config, EncodedPart, Method, Prediction, Progress


class ConcatConfig(Config):
    """All values are our choice; no paper gives any."""

    fill: Literal["zero", "train_mean", "learned"] = Field(
        "zero", description="what stands for an absent modality"
    )
    dropout: DropoutLaw = Field("none", description="modality dropout in training")
    p_drop: float = Field(0.5, ge=0, lt=1, description="dropout of the head")


class Concat(Method):
    """Concatenate the pooled modalities and classify."""

    name = "concat"
    display_name = "Concat"
    config_class = ConcatConfig
    presets = {"dropout": {"dropout": "uniform"}, "complete": {"dropout": "none"}}
    ablations = {
        "mean fill": {"fill": "train_mean"},
        "learned fill": {"fill": "learned"},
        "with modality dropout": {"dropout": "uniform"},
    }
    default_rows = ("", "dropout")

    def __init__(self, task: Task, config: ConcatConfig):
        super().__init__(task, config)
        D, M = task.d_model, task.n_modalities
        self.pool = PooledProjection(task)
        if config.fill == "learned":
            self.fill = nn.Parameter(torch.zeros(M, D))
        elif config.fill == "train_mean":
            self.register_buffer("fill", torch.zeros(M, D))
        self.head = Head(M * D, D, task.n_classes, p_drop=config.p_drop)

    @classmethod
    def search_space(cls, trial: Any) -> dict[str, Any]:
        """Suggest fill, modality dropout and dropout."""
        return {
            "fill": trial.suggest_categorical("fill", ["zero", "train_mean", "learned"]),
            "dropout": trial.suggest_categorical("dropout", ["none", "uniform"]),
            "p_drop": trial.suggest_float("p_drop", 0.0, 0.5),
        }

    @classmethod
    def dropout_law(cls, config: ConcatConfig) -> str:
        """Name the law."""
        return config.dropout

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available, with the fill in place of the rest."""
        check_available(available, self.task.n_modalities)
        pooled = self.pool(tokens, available)  # (B, M, D)
        if self.config.fill != "zero":
            pooled = torch.where(available[..., None], pooled, self.fill)
        fused = pooled.flatten(1)  # (B, M * D)
        return Prediction(self.head(fused), {"fused": fused})

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        available = progress.drop(observed, self.config.dropout)
        logits = self(tokens, available).logits
        return {"ce": progress.cross_entropy(logits, label)}

    def calibrate(self, train: EncodedPart, valid: EncodedPart) -> None:
        """Take the mean pooled vector of each modality over the training cases that have it."""
        if self.config.fill != "train_mean":
            return
        pooled = self.pool(train.tokens, train.observed)  # (N, M, D)
        n_observed = train.observed.sum(0).clamp(min=1)  # (M,)
        self.fill.copy_((pooled * train.observed[..., None]).sum(0) / n_observed[:, None])


PLUGIN = Concat
