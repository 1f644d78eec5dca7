"""Ways to predict every subset of the modalities; all give the same probabilities."""

# B batch, M modalities, K classes

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bench.availability import Subset, subsets
from bench.encoders import Inputs
from bench.engine.inference import Ask, Member, Model, predict


def once(model: Model, inputs: Inputs, asked: Sequence[Subset] = ()) -> list[np.ndarray]:
    """Encode each case once and fuse for each subset, as the bench does: (B, K) per subset.

    Args:
        model: in evaluation mode.
        inputs: complete cases.
        asked: the subsets; empty: all.
    """
    chosen = asked or subsets(inputs.observed.shape[1])
    asks = [Ask.of_subset(inputs.observed, subset) for subset in chosen]
    return [each.proba for each in predict([Member(model)], inputs, asks)]


@torch.inference_mode()
def present_again(model: Model, inputs: Inputs) -> list[np.ndarray]:
    """Encode the present modalities again for each subset."""
    found = []
    for subset in subsets(inputs.observed.shape[1]):
        kept = inputs.restrict(_only(inputs, subset))
        logits = model.method(model.encode(kept), kept.observed).logits
        found.append(logits.softmax(1).numpy())
    return found


@torch.inference_mode()
def zeros_again(model: Model, inputs: Inputs) -> list[np.ndarray]:
    """Encode every modality for each subset, zeros in place of what is absent."""
    found = []
    for subset in subsets(inputs.observed.shape[1]):
        available = _only(inputs, subset)
        filled = Inputs(inputs.restrict(available).content, torch.ones_like(available))
        tokens = [t.restrict(available[:, m]) for m, t in enumerate(model.encode(filled))]
        found.append(model.method(tokens, available).logits.softmax(1).numpy())
    return found


def _only(inputs: Inputs, subset: Subset) -> torch.Tensor:
    """Return the availability (B, M) of these modalities alone."""
    available = torch.zeros_like(inputs.observed)
    available[:, list(subset)] = True
    return available
