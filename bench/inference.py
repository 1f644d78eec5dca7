"""Predict every condition from one encoding of each case, and score a validation part."""

# N cases, B batch, M modalities, K classes

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bench.availability import Subset
from bench.data import Tokens
from bench.encoders import Encoders, Inputs
from bench.method import EncodedPart, Method
from bench.metrics import auc

CHUNK = 256  # cases encoded at a time in evaluation


class Model(nn.Module):
    """The shared encoders and one method on top of them."""

    def __init__(self, encoders: Encoders, method: Method, *, autocast: bool = False):
        super().__init__()
        self.encoders = encoders
        self.method = method
        self.autocast = autocast

    def encode(self, inputs: Inputs) -> tuple[Tokens, ...]:
        """Encode what is observed; bf16 inside the encoders where the study says so."""
        if not self.autocast:
            return self.encoders(inputs)
        with torch.autocast(inputs.observed.device.type, torch.bfloat16):
            tokens = self.encoders(inputs)
        return tuple(Tokens(t.values.float(), *_rest(t)) for t in tokens)


def _rest(tokens: Tokens) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tokens.valid, tokens.attribute, tokens.codes, tokens.numbers


@dataclass(frozen=True, eq=False)
class Member:
    """A trained model, and the one subset it answers for; None: every subset."""

    model: Model
    subset: Subset | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """Cases of one part of a split, ready for the encoders."""

    inputs: Inputs
    label: Tensor  # (N,) long

    def __len__(self) -> int:
        return len(self.label)

    def to(self, device: torch.device) -> Part:
        """Return the part on a device."""
        return Part(self.inputs.to(device), self.label.to(device))


@dataclass(frozen=True)
class Scored:
    """Predictions of one condition: which rows it has, and their probabilities."""

    rows: np.ndarray  # (n,) indices into the part
    proba: np.ndarray  # (n, K) float32


def rows_that_serve(observed: np.ndarray, subset: Subset | None) -> np.ndarray:
    """List the cases that have all modalities of a subset; None asks for nothing."""
    if subset is None:
        return np.arange(len(observed))
    return np.flatnonzero(observed[:, list(subset)].all(1))


def predict(
    members: Sequence[Member], inputs: Inputs, conditions: Sequence[Subset | None]
) -> list[Scored]:
    """Predict every condition, encoding each case once for each member that needs it.

    Args:
        members: trained models; the one that names a condition's subset answers for it.
        inputs: N cases with what they truly have.
        conditions: subsets to keep, or None for all that a case has.
    """
    observed = inputs.observed.cpu().numpy()
    wanted = [rows_that_serve(observed, subset) for subset in conditions]
    n_classes = members[0].model.method.task.n_classes
    proba = [np.zeros((len(rows), n_classes), np.float32) for rows in wanted]
    for member, mine in _by_member(members, conditions):
        for start, chunk, tokens in _encoded_chunks(member.model, inputs):
            stop = start + len(chunk.observed)
            for c in mine:
                inside = (wanted[c] >= start) & (wanted[c] < stop)
                if inside.any():
                    local = torch.as_tensor(wanted[c][inside] - start)
                    proba[c][inside] = _forward(member.model, tokens, chunk, local, conditions[c])
    return [Scored(rows, p) for rows, p in zip(wanted, proba, strict=True)]


def _by_member(
    members: Sequence[Member], conditions: Sequence[Subset | None]
) -> Iterator[tuple[Member, list[int]]]:
    named = {member.subset for member in members if member.subset is not None}
    for member in members:
        mine = [
            c
            for c, subset in enumerate(conditions)
            if subset == member.subset or (member.subset is None and subset not in named)
        ]
        if mine:
            yield member, mine


def _encoded_chunks(
    model: Model, inputs: Inputs
) -> Iterator[tuple[int, Inputs, tuple[Tokens, ...]]]:
    model.eval()
    n_cases = len(inputs.observed)
    for start in range(0, n_cases, CHUNK):
        index = torch.arange(start, min(start + CHUNK, n_cases), device=inputs.observed.device)
        chunk = inputs.rows(index)
        with torch.inference_mode():
            tokens = model.encode(chunk)
        yield start, chunk, tokens


@torch.inference_mode()
def _forward(
    model: Model, tokens: Sequence[Tokens], chunk: Inputs, rows: Tensor, subset: Subset | None
) -> np.ndarray:
    if len(rows) < len(chunk.observed):
        rows = rows.to(chunk.observed.device)
        tokens = [each.rows(rows) for each in tokens]
        available = chunk.observed[rows]
    else:
        available = chunk.observed
    if subset is not None:
        kept = torch.zeros_like(available)
        kept[:, list(subset)] = True
        available = available & kept
        tokens = [each.restrict(available[:, m]) for m, each in enumerate(tokens)]
    logits = model.method(tokens, available).logits
    return logits.float().softmax(1).cpu().numpy()


def encoded_part(model: Model, part: Part) -> EncodedPart:
    """Encode a whole part for what a method fits without gradients."""
    chunks = [tokens for _, _, tokens in _encoded_chunks(model, part.inputs)]
    tokens = tuple(_concatenate(each) for each in zip(*chunks, strict=True))
    return EncodedPart(tokens, part.inputs.observed, part.label)


def _concatenate(chunks: Sequence[Tokens]) -> Tokens:
    def join(name: str) -> Tensor:
        return torch.cat([getattr(chunk, name) for chunk in chunks])

    return Tokens(
        join("values"), join("valid"), chunks[0].attribute, join("codes"), join("numbers")
    )


def selection_score(label: np.ndarray, scored: Sequence[Scored]) -> tuple[float, str]:
    """Score a validation part: mean AUC over the conditions, or minus the loss where undefined.

    Args:
        label: (N,) int of the whole part.
        scored: predictions per condition; conditions without cases are left out.

    Returns:
        The score (higher is better) and what it is: `auc` or `minus loss`.
    """
    filled = [each for each in scored if len(each.rows)]
    aucs = [auc(label[each.rows], each.proba) for each in filled]
    if not any(each.undefined for each in aucs):
        return float(np.mean([each.value for each in aucs])), "auc"
    losses = [
        -np.log(np.clip(each.proba[np.arange(len(each.rows)), label[each.rows]], 1e-12, 1)).mean()
        for each in filled
    ]
    return -float(np.mean(losses)), "minus loss"
