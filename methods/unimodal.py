"""Unimodal: one model per modality; a case takes the best of the modalities that it has.

Best is decided on the validation part, by AUC. Any fusion method should beat this on every subset.
The models share nothing, so each modality has its own encoder, and the sum of their losses trains
each as if it were alone; the weights that are kept are those of one epoch for all of them.

Source: none; the single-modality rows of many papers. Sizes are ours: one hidden layer of width D.
"""

# B batch, M modalities, D model width, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import check_available
from bench.blocks import Head, PooledProjection, mean_where
from bench.data import Task, Tokens
from bench.method import Capabilities, Config, EncodedPart, Method, Prediction, Progress
from bench.metrics import auc


class UnimodalConfig(Config):
    """All values are our choice; no paper gives any."""

    combine: Literal["best", "mean"] = Field(
        "best", description="best available modality on validation, or mean of the probabilities"
    )
    p_drop: float = Field(0.5, ge=0, lt=1, description="dropout of each head")


class Unimodal(Method):
    """Classify by the best single modality that is available."""

    name = "unimodal"
    display_name = "Unimodal"
    config_class = UnimodalConfig
    score: Tensor  # (M,) validation AUC of each modality
    capabilities = Capabilities(separate_encoders=True)
    presets = {"best": {"combine": "best"}, "mean": {"combine": "mean"}}
    ablations = {"mean of probabilities": {"combine": "mean"}}

    def __init__(self, task: Task, config: UnimodalConfig):
        super().__init__(task, config)
        self.pool = PooledProjection(task)
        self.heads = nn.ModuleList(
            Head(task.d_model, task.d_model, task.n_classes, p_drop=config.p_drop)
            for _ in task.modalities
        )
        self.register_buffer("score", torch.zeros(task.n_modalities))

    @classmethod
    def search_space(cls, trial: Any) -> dict[str, Any]:
        """Suggest the dropout of the heads."""
        return {"p_drop": trial.suggest_float("p_drop", 0.0, 0.5)}

    def logits_of_each(self, tokens: Sequence[Tokens], available: Tensor) -> Tensor:
        """Return (B, M, K) logits of the single models; rows without the modality are void."""
        pooled = self.pool(tokens, available)  # (B, M, D)
        return torch.stack([head(pooled[:, m]) for m, head in enumerate(self.heads)], 1)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict by the best available modality, or by the mean of the available ones."""
        check_available(available, self.task.n_modalities)
        logits = self.logits_of_each(tokens, available)  # (B, M, K)
        if self.config.combine == "mean":
            log_proba = logits.log_softmax(2).masked_fill(~available[..., None], -torch.inf)
            return Prediction(log_proba.logsumexp(1) - available.sum(1, keepdim=True).log())
        best = self.score.expand_as(available).masked_fill(~available, -1.0).argmax(1)  # (B,)
        return Prediction(logits[torch.arange(len(best), device=best.device), best])

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of each model over the cases that have its modality."""
        logits = self.logits_of_each(tokens, observed)
        terms = {}
        for m, spec in enumerate(self.task.modalities):
            each = progress.cross_entropy(logits[:, m], label, reduction="none")
            terms[f"ce_{spec.name}"] = mean_where(each, observed[:, m])
        return terms

    def calibrate(self, train: EncodedPart, valid: EncodedPart) -> None:
        """Score each modality on the validation cases that have it."""
        logits = self.logits_of_each(valid.tokens, valid.observed)
        for m in range(self.task.n_modalities):
            rows = valid.observed[:, m]
            proba = logits[rows, m].float().softmax(1).cpu().numpy()
            value = auc(valid.label[rows].cpu().numpy(), proba).value if rows.any() else 0.0
            self.score[m] = torch.nan_to_num(torch.tensor(value), nan=0.0)


PLUGIN = Unimodal
