"""Weigh losses so that the modality that lags behind counts most.

A modality whose smoothed loss is below the average has a relative advantage and loses weight. An
explicit step moves the weights, no gradient of gradients. All state is buffers.

Source: the official code of RedCore (AAAI 2024). There the smoothed losses keep the graph of every
step; here they are detached, eta stops growing, a mean of 0 gives advantages of 0, and a modality
that no case of the batch has keeps its smoothed loss (there 0/0: NaN for ever).
"""

# M modalities

from __future__ import annotations

import torch
from torch import Tensor, nn

ETA_GROWTH, ETA_EVERY, ETA_MAX = 1.5, 500, 1e6  # official; the last is ours, against overflow
BETA_FLOOR = 0.1  # official, before beta is normalised


class RelativeAdvantage(nn.Module):
    """The weights beta of the regression losses, and what moves them.

    Args:
        n_modalities: M.
        smoothing: share of a new loss in the smoothed one.
        interval: steps between updates of beta.
        eta: step of beta, before the growth at step 0.
    """

    error: Tensor
    beta: Tensor
    eta: Tensor
    step: Tensor

    def __init__(
        self, n_modalities: int, *, smoothing: float = 0.7, interval: int = 3, eta: float = 0.1
    ):
        super().__init__()
        self.smoothing = smoothing
        self.interval = interval
        self.register_buffer("error", torch.zeros(n_modalities))
        self.register_buffer("beta", torch.ones(n_modalities))
        self.register_buffer("eta", torch.tensor(eta))
        self.register_buffer("step", torch.tensor(0))

    def forward(self, error: Tensor, present: Tensor) -> Tensor:
        """Return the weighted sum of the losses; in training the fresh beta weighs them.

        Args:
            error: (M,) losses of this step.
            present: (M,) bool, which modalities any case of the batch has.
        """
        if self.training:
            self.update(error, present)
        return (self.beta * error).sum()

    def advantage(self) -> Tensor:
        """Return how far each smoothed loss lies below their mean, relative to it; sums to 0."""
        mean = self.error.mean()
        return (mean - self.error) / torch.where(mean > 0, mean, 1.0)

    @torch.no_grad()
    def update(self, error: Tensor, present: Tensor) -> None:
        """Smooth the losses, let eta grow when due, move beta when due, in this order."""
        smoothed = self.error.lerp(error.to(self.error.dtype), self.smoothing)
        self.error = torch.where(present, smoothed, self.error)
        grown = (self.eta * ETA_GROWTH).clamp(max=ETA_MAX)
        self.eta = torch.where(self.step % ETA_EVERY == 0, grown, self.eta)
        moved = (self.beta - self.eta * self.advantage()).clamp(min=BETA_FLOOR)
        self.beta = torch.where(self.step % self.interval == 0, moved / moved.norm(), self.beta)
        self.step = self.step + 1
