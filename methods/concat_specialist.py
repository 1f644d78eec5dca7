"""Concat specialist: the network of `concat`, trained for each availability subset alone.

It shows what robustness costs: a method that serves all subsets with one model is compared with a
model per subset that never saw another. Each specialist has its own encoders and its own full
budget of epochs, so a study pays for 2^M - 1 trainings; the report names the surplus.

Source: none; the comparison that reviewers ask for.
"""

# B batch, M modalities, D model width

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from bench.availability import Subset, check_available, subset_name, subsets
from bench.blocks import Head, PooledProjection
from bench.data import Task, Tokens
from bench.method import Capabilities, Config, Method, Prediction, Progress, Stage


class ConcatSpecialistConfig(Config):
    """All values are our choice; no paper gives any."""

    share: float = Field(1.0, gt=0, description="of the budget's epochs, for each specialist")
    p_drop: float = Field(0.5, ge=0, lt=1, description="dropout of the head")


class ConcatSpecialist(Method):
    """One concatenation network per subset."""

    name = "concat-specialist"
    display_name = "Concat specialist"
    config_class = ConcatSpecialistConfig
    capabilities = Capabilities(
        max_modalities=5, reason="one training per subset, 31 at five modalities"
    )

    def __init__(self, task: Task, config: ConcatSpecialistConfig):
        super().__init__(task, config)
        self.pool = PooledProjection(task)
        d_in = task.n_modalities * task.d_model
        self.head = Head(d_in, task.d_model, task.n_classes, p_drop=config.p_drop)
        self.subset_of = {
            f"subset {subset_name(subset)}": subset for subset in subsets(task.n_modalities)
        }

    @classmethod
    def search_space(cls, trial: Any) -> dict[str, Any]:
        """Suggest the dropout of the head."""
        return {"p_drop": trial.suggest_float("p_drop", 0.0, 0.5)}

    def stages(self) -> list[Stage]:
        """List one fresh training per subset, on the cases that have it."""
        return [
            Stage(name, self.config.share, cases=partial(_have, subset), subset=subset, fresh=True)
            for name, subset in self.subset_of.items()
        ]

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from the concatenated modalities, zeros where absent."""
        check_available(available, self.task.n_modalities)
        fused = self.pool(tokens, available).flatten(1)  # (B, M * D)
        return Prediction(self.head(fused), {"fused": fused})

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of the stage's subset; cases that lack it have no part."""
        kept = torch.zeros_like(observed[0])
        kept[list(self.subset_of[progress.stage])] = True
        serves = observed[:, kept].all(1)
        if not serves.any():
            return {"ce": self.head.out.bias.sum() * 0.0}
        chosen = [each.rows(serves) for each in tokens]
        logits = self(chosen, observed[serves] & kept).logits
        return {"ce": progress.cross_entropy(logits, label[serves])}


def _have(subset: Subset, observed: np.ndarray) -> np.ndarray:
    """Say which cases have all modalities of a subset: (N,) bool."""
    return np.all(observed[:, list(subset)], axis=1)


PLUGIN = ConcatSpecialist
