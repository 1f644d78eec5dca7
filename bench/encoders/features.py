"""Features for scikit-learn methods: one float matrix per modality, from the same cases and gaps.

Table: standardised numbers and one-hot codes. Vector: standardised. Picture: grey values of a
32 x 32 copy, brought to at most 40 principal components, standardised. Volume: the same with a copy
of at most 8 x 16 x 16 block means.
"""

# N cases, B rows asked for, A attributes, W feature width, P components, V values of a small copy
# of a picture or volume

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d, interpolate

from bench.data import Availability, Dataset
from bench.encoders.inputs import ModalityInput
from bench.encoders.preprocessing import Preprocessor, TableStatistics, fit_preprocessor
from bench.method import Features

SIDE = 32  # pixels of the grey copy
BLOCKS = (8, 16, 16)  # at most, of the copy of a volume: slices, rows, columns
N_COMPONENTS = 40
NEGLIGIBLE = 1e-5  # share of the first component's deviation below which one is rounding
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, weights of red, green and blue in grey


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of the small copies of one modality in training, and their scale."""

    mean: np.ndarray  # (V,) float64
    axes: np.ndarray  # (P, V), orthonormal
    scale: np.ndarray  # (P,) standard deviation of each component in the training part

    @staticmethod
    def fit(grey: np.ndarray) -> Components:
        """Fit on the training part, fewer than 40 components if it spans fewer.

        Args:
            grey: (n, V) values of the small copies.
        """
        if not len(grey) or (grey == grey[0]).all():  # nothing to span
            width = grey.shape[1]
            mean = grey[0] if len(grey) else np.zeros(width)
            return Components(mean, np.zeros((0, width)), np.zeros(0))
        from sklearn.decomposition import PCA

        # n centred pictures span n - 1 directions; the rest would be rounding, blown up to 1
        n_components = min(N_COMPONENTS, len(grey) - 1, grey.shape[1])
        solver = "full" if len(grey) < grey.shape[1] else "covariance_eigh"  # the faster one
        pca = PCA(n_components, svd_solver=solver).fit(grey)
        scale = pca.transform(grey).std(0)
        kept = scale > NEGLIGIBLE * scale.max()
        return Components(pca.mean_, pca.components_[kept], scale[kept])

    def transform(self, grey: np.ndarray) -> np.ndarray:
        """Return (n, P), of unit variance in the training part."""
        return (grey - self.mean) @ self.axes.T / self.scale


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """What turns cases into features; everything in it was fitted on the training part."""

    preprocessor: Preprocessor
    components: Mapping[int, Components]  # by index of a picture modality

    @classmethod
    def fit(
        cls, dataset: Dataset, rows: np.ndarray, availability: Availability
    ) -> FeatureExtractor:
        """Fit on the observed cells of the training part.

        Args:
            dataset: the cases.
            rows: (B,) int, the training part.
            availability: what ALL N cases have, after the protocol's gaps.

        Raises:
            BadData: an observed cell, vector, picture or volume that cannot be read.
        """
        preprocessor = fit_preprocessor(dataset, rows, availability)
        inputs = preprocessor.inputs(dataset, rows, availability)
        components = {
            m: Components.fit(_small(inputs.content[m], availability.modality[rows, m]))
            for m, modality in enumerate(dataset.modalities)
            if modality.kind in ("image", "volume")
        }
        return cls(preprocessor, components)

    def transform(self, dataset: Dataset, rows: np.ndarray, availability: Availability) -> Features:
        """Return the features of some cases, NaN where something is absent.

        Args:
            dataset: the cases.
            rows: (B,) int, the cases asked for.
            availability: what ALL N cases have; only observed content is read.
        """
        inputs = self.preprocessor.inputs(dataset, rows, availability)
        present = availability.modality[rows]
        values = tuple(
            self._values(m, content, present[:, m]) for m, content in enumerate(inputs.content)
        )
        attributes = {
            m: seen[rows] & present[:, m, None] for m, seen in availability.attributes.items()
        }
        columns = tuple(self._column_attribute(m, each) for m, each in enumerate(values))
        return Features(values, present, attributes, columns)

    def _values(self, m: int, content: ModalityInput, present: np.ndarray) -> np.ndarray:
        if content.codes is not None:
            return _table_values(content, self.preprocessor.of(m, TableStatistics))
        if content.vector is not None:
            read = content.vector.numpy()[present].astype(np.float64)
        else:
            read = self.components[m].transform(_small(content, present))
        values = np.full((len(present), read.shape[1]), np.nan)
        values[present] = read
        return values

    def _column_attribute(self, m: int, values: np.ndarray) -> np.ndarray:
        fitted = self.preprocessor.statistics[m]
        if not isinstance(fitted, TableStatistics):
            return np.full(values.shape[1], -1)
        return np.repeat(np.arange(len(fitted.attributes)), _widths(fitted))

    def state(self) -> dict[str, np.ndarray]:
        """Return all that was fitted, as plain arrays."""
        arrays = {"preprocessor": np.array(json.dumps(self.preprocessor.state()))}
        for m, each in self.components.items():
            arrays |= {f"{m}.{name}": getattr(each, name) for name in _COMPONENT_FIELDS}
        return arrays

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> FeatureExtractor:
        """Restore what `state` gave."""
        preprocessor = Preprocessor.from_state(json.loads(str(state["preprocessor"])))
        indices = [int(name.removesuffix(".mean")) for name in state if name.endswith(".mean")]
        components = {
            m: Components(*(state[f"{m}.{name}"] for name in _COMPONENT_FIELDS)) for m in indices
        }
        return cls(preprocessor, components)


_COMPONENT_FIELDS = ("mean", "axes", "scale")


def _widths(fitted: TableStatistics) -> list[int]:
    """Count the columns of each attribute: one per number, one per word of a vocabulary.

    The reserved code has none: a value never seen in training is all zeros.
    """
    return [1 if each.kind == "numeric" else each.n_codes - 1 for each in fitted.attributes]


def _table_values(content: ModalityInput, fitted: TableStatistics) -> np.ndarray:
    """Return (B, W) float64, every column of an unobserved attribute NaN."""
    assert content.numbers is not None
    assert content.codes is not None
    numbers, codes = content.numbers.numpy().astype(np.float64), content.codes.numpy()
    columns = [np.zeros((len(codes), 0))]
    for a, each in enumerate(fitted.attributes):
        if each.kind == "numeric":
            columns.append(numbers[:, [a]])
        else:
            one_hot = (codes[:, [a]] == np.arange(1, each.n_codes)).astype(np.float64)
            one_hot[codes[:, a] < 0] = np.nan
            columns.append(one_hot)
    return np.concatenate(columns, axis=1)


def _small(content: ModalityInput, present: np.ndarray) -> np.ndarray:
    """Return small copies of the present pictures or volumes: float64 (n, V)."""
    chosen = torch.from_numpy(present)
    if content.volumes is not None:
        return _block_means(content.volumes[chosen])
    assert content.pictures is not None
    return _grey(content.pictures[chosen])


def _block_means(volumes: Tensor) -> np.ndarray:
    """Average volumes (n, D, H, W, C) over their channels and blocks of voxels: (n, V)."""
    D, H, W = (min(pair) for pair in zip(BLOCKS, volumes.shape[1:4], strict=True))
    if not len(volumes):  # pooling refuses an empty batch
        return np.zeros((0, D * H * W))
    means = [adaptive_avg_pool3d(volume.float().mean(-1)[None], (D, H, W)) for volume in volumes]
    return torch.stack(means).flatten(1).double().numpy()


def _grey(pictures: Tensor) -> np.ndarray:
    """Bring pictures (n, H, W, C) to (n, SIDE * SIDE) grey values in [0, 1]."""
    pictures = pictures.permute(0, 3, 1, 2)
    n_channels = pictures.shape[1]
    weights = torch.tensor(LUMA if n_channels == 3 else (1 / n_channels,) * n_channels)
    grey = (pictures.float() / 255.0 * weights.view(1, -1, 1, 1)).sum(1, keepdim=True)
    if not len(grey):  # interpolate refuses an empty batch
        return np.zeros((0, SIDE * SIDE))
    small = interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)
    return small.flatten(1).double().numpy()
