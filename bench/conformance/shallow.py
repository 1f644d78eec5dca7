"""The promises of a method that is fitted with scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.availability import subsets
from bench.conformance.examples import MODALITIES, example_features, keep_features
from bench.conformance.promises import TOLERANCE, Broken, settings_keep_to_their_limits
from bench.method import Features, ShallowMethod


def _fitted(plugin: type[ShallowMethod], n_modalities: int) -> tuple[ShallowMethod, Features]:
    features, label = example_features(n_modalities)
    method = plugin(2, plugin.config_class())
    method.fit(features, label, np.ones(len(label)))
    return method, features


def gives_probabilities_for_every_subset(plugin: type[ShallowMethod]) -> str:
    """Give probabilities that sum to one for every subset, and for one case alone."""
    for n_modalities in MODALITIES:
        method, _ = _fitted(plugin, n_modalities)
        complete, _ = example_features(n_modalities, gaps=False)
        for subset in subsets(n_modalities):
            for rows in (np.arange(80), np.array([3])):
                proba = method.predict_proba(keep_features(complete.rows(rows), subset))
                if proba.shape != (len(rows), 2) or not np.allclose(proba.sum(1), 1):
                    raise Broken(f"subset {subset} of {n_modalities}: {proba[:2]}")
    return ""


def rows_do_not_depend_on_each_other(plugin: type[ShallowMethod]) -> str:
    """Predict a row alike alone and among others."""
    method, features = _fitted(plugin, 3)
    together = method.predict_proba(features)
    alone = [method.predict_proba(features.rows(np.array([row]))) for row in range(80)]
    if not np.allclose(together, np.concatenate(alone), atol=TOLERANCE):
        raise Broken("a row's probabilities depend on its batch")
    return ""


def absent_features_have_no_influence(plugin: type[ShallowMethod]) -> str:
    """Give equal probabilities whatever stands in absent modalities and attributes."""
    for n_modalities in MODALITIES:
        method, features = _fitted(plugin, n_modalities)
        expected = method.predict_proba(features)
        noise = np.random.default_rng(5)
        values = tuple(
            np.where(np.isnan(x), 100 * noise.normal(size=x.shape), x) for x in features.values
        )
        if not np.array_equal(method.predict_proba(replace(features, values=values)), expected):
            raise Broken(f"{n_modalities} modalities: noise in what is absent changes the result")
    return "noise"


def arrays_restore_the_method(plugin: type[ShallowMethod]) -> str:
    """Predict alike after a round trip through plain arrays."""
    method, features = _fitted(plugin, 3)
    other = plugin(2, plugin.config_class())
    other.load(method.state())
    if not np.array_equal(other.predict_proba(features), method.predict_proba(features)):
        raise Broken("the probabilities differ after loading")
    return ""


def constant_columns_stay_finite(plugin: type[ShallowMethod]) -> str:
    """Fit finitely when a column is constant and another absent from all cases."""
    features, label = example_features(3)
    first = features.values[0].copy()
    first[:, 0], first[:, 1] = 1.0, np.nan
    features = replace(features, values=(first, *features.values[1:]))
    method = plugin(2, plugin.config_class())
    method.fit(features, label, np.ones(len(label)))
    if not np.isfinite(method.predict_proba(features)).all():
        raise Broken("a constant or empty column gives NaN")
    return ""


SHALLOW_CHECKS = (
    settings_keep_to_their_limits,
    gives_probabilities_for_every_subset,
    rows_do_not_depend_on_each_other,
    absent_features_have_no_influence,
    arrays_restore_the_method,
    constant_columns_stay_finite,
)
