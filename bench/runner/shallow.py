"""Fit, save, load and ask a method of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.data import Availability
from bench.encoders.features import FeatureExtractor
from bench.engine.inference import Scored, validation_facts
from bench.method import ShallowMethod
from bench.patterns import rows_that_serve
from bench.runner.material import Material, Test
from bench.store import RunFolder


@dataclass(frozen=True, eq=False)
class Shallow:
    """A fitted method and what turns cases into its features."""

    method: ShallowMethod
    extractor: FeatureExtractor
    facts: dict[str, Any]

    def predict(self, material: Material, tests: Sequence[Test]) -> list[Scored]:
        """Predict the conditions' cases that have something."""
        return [
            self.score(material, material.split.test, test.asked, test.pattern.availability)
            for test in tests
        ]

    def score(
        self, material: Material, part: np.ndarray, rows: np.ndarray, seen: Availability
    ) -> Scored:
        """Predict some rows of one part of the split, from what is seen of them."""
        proba = np.zeros((0, len(material.dataset.classes)))
        if len(rows):
            proba = self.method.predict_proba(
                self.extractor.transform(material.dataset, rows, seen)
            )
        return Scored(np.searchsorted(part, rows), proba)

    def validate(self, material: Material) -> list[Scored]:
        """Predict the validation part under each condition of the selection rule."""
        valid, seen = material.split.valid, material.valid_availability
        observed = seen.modality[valid]
        return [
            self.score(
                material,
                valid,
                valid[rows_that_serve(observed, subset)],
                seen if subset is None else seen.keep(subset),
            )
            for subset in material.selection
        ]


def train_shallow(folder: RunFolder, material: Material) -> Shallow:
    """Fit, write what was fitted into the folder, and score the validation part."""
    dataset, train = material.dataset, material.split.train
    extractor = FeatureExtractor.fit(dataset, train, material.availability)
    features = extractor.transform(dataset, train, material.availability)
    method = _new_shallow(material)
    label = material.label[train]
    method.fit(features, label, case_weight(label, balanced=material.spec.recipe.balance != "none"))
    state = {f"method.{name}": array for name, array in method.state().items()}
    state |= {f"features.{name}": array for name, array in extractor.state().items()}
    folder.write_arrays("checkpoint.npz", state)
    counts = {"n_parameters": 0, "n_trainable": 0, "n_models": 1}
    fitted = Shallow(method, extractor, counts)
    valid_label = material.label[material.split.valid]
    facts = validation_facts(valid_label, fitted.validate(material))
    return replace(fitted, facts=counts | facts)


def _new_shallow(material: Material) -> ShallowMethod:
    assert issubclass(material.method_class, ShallowMethod)
    return material.method_class(len(material.dataset.classes), material.config)


def case_weight(label: np.ndarray, *, balanced: bool) -> np.ndarray:
    """Weigh cases so that every class counts alike, mean 1; ones if not balanced."""
    if not balanced:
        return np.ones(len(label))
    counts = np.bincount(label)
    return len(label) / ((counts > 0).sum() * counts[label])


def load_shallow(folder: RunFolder, material: Material) -> Shallow:
    """Load what a finished run fitted."""
    state = folder.read_arrays("checkpoint.npz")

    def below(prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    method = _new_shallow(material)
    method.load(below("method."))
    return Shallow(method, FeatureExtractor.from_state(below("features.")), {})
