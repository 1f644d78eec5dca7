"""GatedSum: weigh the modalities of each case by a learned gate, and classify their sum.

A gate reads the pooled modality and says how much it counts; the gates of what is available are
made to sum to one, so that any number of modalities gives a sum of the same size.

Source: none; an example of a method in one file of its user's own.
"""

# B batch, M modalities, T_m tokens of modality m, D model width, K classes

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import DropoutLaw, check_available
from bench.blocks import Head, PooledProjection
from bench.data import Task, Tokens
from bench.method import Config, Method, Prediction, Progress


class GatedSumConfig(Config):
    """All values are our choice."""

    dropout: DropoutLaw = Field("uniform", description="modality dropout in training")
    p_drop: float = Field(0.5, ge=0, lt=1, description="dropout of the head")


class GatedSum(Method):
    """Classify the gated sum of the available modalities."""

    name = "gated-sum"
    display_name = "GatedSum"
    config_class = GatedSumConfig

    def __init__(self, task: Task, config: GatedSumConfig):
        super().__init__(task, config)
        self.pool = PooledProjection(task)
        self.gates = nn.ModuleList(nn.Linear(task.d_model, 1) for _ in task.modalities)
        self.head = Head(task.d_model, task.d_model, task.n_classes, p_drop=config.p_drop)

    @classmethod
    def dropout_law(cls, config: GatedSumConfig) -> str:
        """Name the law; it is printed in every table."""
        return config.dropout

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available."""
        check_available(available, self.task.n_modalities)
        pooled = self.pool(tokens, available)  # (B, M, D), zeros where absent
        score = torch.cat([gate(pooled[:, m]) for m, gate in enumerate(self.gates)], 1)  # (B, M)
        weight = score.masked_fill(~available, -torch.inf).softmax(1)  # (B, M), sums to 1
        return Prediction(self.head((weight[..., None] * pooled).sum(1)))

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        kept = progress.drop(observed, self.config.dropout)
        return {"ce": progress.cross_entropy(self(tokens, kept).logits, label)}


PLUGIN = GatedSum
