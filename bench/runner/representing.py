"""Keep what a trained model makes of its test cases: its checkpoint is evaluated once more.

Nothing is trained and no prediction changes; a run is the same run with and without.
"""

# n cases of a condition, b rows of one pass, M modalities, T tokens, W, D widths

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bench.blocks import masked_mean
from bench.engine.inference import Pass, passes
from bench.method import Method
from bench.protocol import Condition
from bench.runner.deep import Deep
from bench.runner.material import Context, Material, Test, set_threads
from bench.runner.representations import Represented
from bench.runner.runner import load_fitted
from bench.spec import RunSpec
from bench.store import RunFolder


def keep_representations(
    folder: RunFolder, spec: RunSpec, conditions: Sequence[Condition], context: Context
) -> None:
    """Keep the representations of the conditions of a finished run that has not kept them yet.

    A method that shows none, as those fitted with scikit-learn, is noted as asked.
    """
    there = set(folder.kept_conditions())
    new = [condition for condition in conditions if condition.name not in there]
    if not new:
        return
    set_threads(context.threads)
    material = Material.of(spec, context)
    arrays: dict[str, np.ndarray] = {}
    if issubclass(material.method_class, Method):
        fitted = load_fitted(folder, material, context)
        assert isinstance(fitted, Deep)
        tests = [Test.of(condition, material) for condition in new]
        for test, found in zip(tests, represented(fitted, material, tests), strict=True):
            if found.fused is not None or found.completed:
                arrays |= found.arrays(test.condition.name)
    folder.add_representations(arrays, [condition.name for condition in new])


def represented(fitted: Deep, material: Material, tests: Sequence[Test]) -> list[Represented]:
    """Represent the cases of each condition, encoding each case once."""
    asks = [test.ask(material.split.test) for test in tests]
    rows: list[dict[str, np.ndarray]] = [{} for _ in asks]
    for each in passes(fitted.members, fitted.inputs(material), asks):
        n = len(asks[each.ask].rows)
        for name, values in _vectors(each, material.dataset.modality_names).items():
            whole = rows[each.ask].setdefault(name, np.zeros((n, values.shape[1]), np.float32))
            whole[each.inside] = values.cpu().numpy()
    return [
        Represented(
            material.dataset.cases[test.asked],
            material.label[test.asked],
            test.pattern.availability.modality[test.asked],
            found.pop("fused", None),
            {int(name): values for name, values in found.items()},
        )
        for test, found in zip(tests, rows, strict=True)
    ]


@torch.inference_mode()
def _vectors(each: Pass, names: Sequence[str]) -> dict[str, Tensor]:
    """Return `fused` (b, W), and by the number of each completed modality its mean (b, D)."""
    shown = each.predict().representations
    found = {"fused": shown["fused"].float()} if "fused" in shown else {}
    for m, name in enumerate(names):
        tokens = _named(shown, m, name)
        if tokens is not None:
            found[str(m)] = _mean(tokens.float(), each.tokens[m].valid, each.available[:, m])
    return found


def _named(shown: Mapping[str, Tensor], m: int, name: str) -> Tensor | None:
    """Return the completed tokens of a modality, which methods name or number."""
    for key in (f"completed.{name}", f"completed.{m}"):
        if key in shown:
            return shown[key]
    return None


def _mean(tokens: Tensor, valid: Tensor, available: Tensor) -> Tensor:
    """Average the tokens that a case has, or all that were put in their place: (b, D).

    Args:
        tokens: (b, T, D) after completion.
        valid: (b, T) of the encoder; a method may have pooled its tokens to one before.
        available: (b,) bool.
    """
    if tokens.shape[1] != valid.shape[1]:
        return tokens.mean(1)
    return masked_mean(tokens, valid | ~available[:, None])
