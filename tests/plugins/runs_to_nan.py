"""A method whose second term leaves the finite numbers in epoch 1, step 2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bench.data import Task, Tokens
from bench.method import Progress

from .gated_sum import GatedSum, GatedSumConfig


class RunsToNan(GatedSum):
    """Diverge."""

    name = "runs-to-nan"
    display_name = "Runs to NaN"

    def __init__(self, task: Task, config: GatedSumConfig):
        super().__init__(task, config)
        self.n_steps = 0  # of this epoch

    def on_epoch_start(self, progress: Progress) -> None:
        """Count steps from the start of the epoch."""
        self.n_steps = 0

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the cross-entropy, and a term that is NaN once."""
        terms = super().losses(tokens, observed, label, progress)
        diverges = (progress.epoch, self.n_steps) == (1, 2)
        self.n_steps += 1
        return {**terms, "toy": terms["ce"] * (float("nan") if diverges else 0.0)}


PLUGIN = RunsToNan
