"""Predict every condition from one encoding of each case, and score a validation part."""

# N cases, b rows of one pass, M modalities, K classes

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.availability import Subset
from bench.data import Tokens
from bench.encoders import Encoders, Inputs
from bench.errors import BadPlugin
from bench.method import EncodedPart, Method, Prediction
from bench.metrics import auc
from bench.patterns import rows_that_serve

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
    cases: tuple[str, ...] = ()  # (N,) names, of training cases that are altered
    altered: Inputs | None = None  # fixed altered copies of all cases, one set below the other

    def __len__(self) -> int:
        return len(self.label)

    def to(self, device: torch.device) -> Part:
        """Return the part on a device."""
        altered = None if self.altered is None else self.altered.to(device)
        return Part(self.inputs.to(device), self.label.to(device), self.cases, altered)


@dataclass(frozen=True, eq=False)
class Ask:
    """One test setting: which cases are predicted, and what may be used of each."""

    rows: np.ndarray  # (n,) indices into the part, ascending
    available: Tensor  # (n, M) bool
    seen: Mapping[int, Tensor] = field(default_factory=dict)  # table -> (n, A) bool; none: all

    @classmethod
    def of_subset(cls, observed: Tensor, subset: Subset | None) -> Ask:
        """Ask for the cases that have a subset, with that subset alone; None: as they are.

        Args:
            observed: (N, M) bool, what the cases of the part have.
            subset: modalities to keep.
        """
        observed = observed.cpu()
        rows = rows_that_serve(observed.numpy(), subset)
        available = observed[rows]
        if subset is not None:
            kept = torch.zeros_like(available)
            kept[:, list(subset)] = True
            available = available & kept
        return cls(rows, available)

    def patterns(self) -> list[tuple[Subset, Tensor]]:
        """List the availability patterns among the rows, each with its places."""
        found, place = self.available.unique(dim=0, return_inverse=True)
        return [
            (tuple(pattern.nonzero().flatten().tolist()), (place == i).nonzero().flatten())
            for i, pattern in enumerate(found)
        ]


@dataclass(frozen=True)
class Scored:
    """Predictions of one ask: which rows it has, and their probabilities."""

    rows: np.ndarray  # (n,) indices into the part
    proba: np.ndarray  # (n, K) float32


def predict(members: Sequence[Member], inputs: Inputs, asks: Sequence[Ask]) -> list[Scored]:
    """Predict every ask, encoding each case once for each member that it needs.

    Args:
        members: trained models; the one that names a case's availability answers for it.
        inputs: N cases with what they truly have.
        asks: what to predict.
    """
    n_classes = members[0].model.method.task.n_classes
    proba = [np.zeros((len(ask.rows), n_classes), np.float32) for ask in asks]
    for each in passes(members, inputs, asks):
        logits = each.predict().logits
        proba[each.ask][each.inside] = logits.float().softmax(1).cpu().numpy()
    return [Scored(ask.rows, out) for ask, out in zip(asks, proba, strict=True)]


@dataclass(frozen=True, eq=False)
class Pass:
    """Some rows of one ask, encoded and blanked as it says, before the model that answers."""

    ask: int  # place among the asks
    inside: np.ndarray  # (b,) places among its rows
    model: Model
    tokens: Sequence[Tokens]
    available: Tensor  # (b, M) bool

    @torch.inference_mode()
    def predict(self) -> Prediction:
        """Run the method on top of the tokens.

        Raises:
            BadPlugin: it gives no row of K logits per case, which could be taken for one.
        """
        method = self.model.method
        prediction: Prediction = method(self.tokens, self.available)
        shape, wanted = tuple(prediction.logits.shape), (len(self.available), method.task.n_classes)
        if shape != wanted:
            raise BadPlugin(f"{method.name}: logits must be (B, K), here {wanted}, got {shape}")
        return prediction


def passes(members: Sequence[Member], inputs: Inputs, asks: Sequence[Ask]) -> Iterator[Pass]:
    """Yield what `predict` predicts, chunk by chunk; the arguments are those of it."""
    served = [_member_of(members, ask) for ask in asks]
    for i, member in enumerate(members):
        mine = [places == i for places in served]
        if not any(each.any() for each in mine):
            continue
        for start, chunk, tokens in _encoded_chunks(member.model, inputs):
            stop = start + len(chunk.observed)
            for a, (ask, places) in enumerate(zip(asks, mine, strict=True)):
                inside = np.flatnonzero(places & (ask.rows >= start) & (ask.rows < stop))
                if len(inside):
                    yield Pass(a, inside, member.model, *_shown(tokens, chunk, ask, inside, start))


def _member_of(members: Sequence[Member], ask: Ask) -> np.ndarray:
    """Return which member answers for each row: (n,) int."""
    answers = np.zeros(len(ask.rows), int)
    if len(members) > 1:
        for pattern, places in ask.patterns():
            answers[places.numpy()] = _best_member(members, pattern)
    return answers


def _best_member(members: Sequence[Member], pattern: Subset) -> int:
    """Find the member of a pattern, else of the largest part of it, else the general one."""
    fitting = [
        (len(member.subset or ()), -i)
        for i, member in enumerate(members)
        if set(member.subset or ()) <= set(pattern)
    ]
    return -max(fitting)[1] if fitting else 0


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
def _shown(
    tokens: Sequence[Tokens], chunk: Inputs, ask: Ask, inside: np.ndarray, start: int
) -> tuple[Sequence[Tokens], Tensor]:
    """Return tokens and availability of the rows of an ask that lie in one chunk."""
    device = chunk.observed.device
    local = torch.as_tensor(ask.rows[inside] - start, device=device)
    if len(local) < len(chunk.observed):
        tokens = [each.rows(local) for each in tokens]
    place = torch.as_tensor(inside)
    available = ask.available[place].to(device)
    seen = {m: cells[place].to(device) for m, cells in ask.seen.items()}
    if seen or not torch.equal(available, chunk.observed[local]):
        tokens = [each.restrict(available[:, m], seen.get(m)) for m, each in enumerate(tokens)]
    return tokens, available


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


def validation_facts(label: np.ndarray, scored: Sequence[Scored]) -> dict[str, Any]:
    """Score a trained method by the rule that chose its weights: what a search looks at.

    It is computed from what would be tested, after the last stage and its calibration.

    Args:
        label: (N,) int of the whole validation part.
        scored: predictions of that part, one per condition of the selection rule.
    """
    if not any(len(each.rows) for each in scored):
        return {"valid_score": None, "valid_is": "no validation case serves"}
    if not all(np.isfinite(each.proba).all() for each in scored):
        return {"valid_score": None, "valid_is": "validation predictions are not finite"}
    score, kind = selection_score(label, scored)
    return {"valid_score": score, "valid_is": kind}


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
