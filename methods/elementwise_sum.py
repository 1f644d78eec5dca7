"""Element-wise sum: pool each modality, add what is available, classify.

Source: the "Element-wise Sum" rows of "AlignedFusion: Handling Missing Information in Reports and
Inter-Modality Information Imbalance" (2026), tables 1 and 2. The paper gives no sizes.
Departures: modalities are pooled token by token (the paper sums one picture vector and one report
vector); one hidden layer of width D; no modality dropout unless the configuration asks for it.
"""

# B batch, M modalities, D model width

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from bench.availability import DropoutLaw, check_available
from bench.blocks import Head, PooledProjection
from bench.data import Task, Tokens
from bench.method import Config, Method, Prediction, Progress, Reference


class ElementwiseSumConfig(Config):
    """All values are our choice; the paper gives none."""

    reduce: Literal["sum", "mean"] = Field("sum", description="mean keeps the scale under gaps")
    dropout: DropoutLaw = Field("none", description="modality dropout in training")
    p_drop: float = Field(0.5, ge=0, lt=1, description="dropout of the head")


class ElementwiseSum(Method):
    """Add the pooled modalities and classify."""

    name = "elementwise-sum"
    display_name = "Element-wise sum"
    reference = Reference(
        title="AlignedFusion: Handling Missing Information in Reports and "
        "Inter-Modality Information Imbalance",
        authors="Li, Liu, Xu, Schüffler, Navab, Zhou",
        year=2026,
        venue="MIDL (under review)",
    )
    config_class = ElementwiseSumConfig
    presets = {"mean": {"reduce": "mean"}, "dropout": {"dropout": "uniform"}}
    ablations = {"mean": {"reduce": "mean"}, "with modality dropout": {"dropout": "uniform"}}

    def __init__(self, task: Task, config: ElementwiseSumConfig):
        super().__init__(task, config)
        self.pool = PooledProjection(task)
        self.head = Head(task.d_model, task.d_model, task.n_classes, p_drop=config.p_drop)

    @classmethod
    def search_space(cls, trial: Any) -> dict[str, Any]:
        """Suggest the reduction, modality dropout and dropout."""
        return {
            "reduce": trial.suggest_categorical("reduce", ["sum", "mean"]),
            "dropout": trial.suggest_categorical("dropout", ["none", "uniform"]),
            "p_drop": trial.suggest_float("p_drop", 0.0, 0.5),
        }

    @classmethod
    def dropout_law(cls, config: ElementwiseSumConfig) -> str:
        """Name the law."""
        return config.dropout

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from the sum or mean of what is available."""
        check_available(available, self.task.n_modalities)
        fused = self.pool(tokens, available).sum(1)  # (B, D); what is absent adds zeros
        if self.config.reduce == "mean":
            fused = fused / available.sum(1, keepdim=True)
        return Prediction(self.head(fused), {"fused": fused})

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        available = progress.drop(observed, self.config.dropout)
        return {"ce": progress.cross_entropy(self(tokens, available).logits, label)}


PLUGIN = ElementwiseSum
