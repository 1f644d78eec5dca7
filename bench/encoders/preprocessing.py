"""Preprocessing fitted on the observed cells of the training part, and applied with the gaps.

What is not observed is never read: its cells come out as NaN, -1 or 0, whatever they hold.
"""

# N cases, B rows asked for, M modalities, A attributes, W vector width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from bench.data import Attribute, AttributeKind, Availability, Dataset, Modality
from bench.encoders.inputs import Inputs, ModalityInput
from bench.encoders.pixels import (
    PictureStatistics,
    VolumeStatistics,
    fit_pictures,
    fit_volumes,
    picture_input,
    volume_input,
)
from bench.errors import BadData
from bench.spec import Frozen

N_QUARTILES = 4
MAX_VALUES = 512  # distinct values of a number that get a sentence each


class NumericStatistics(Frozen):
    """A number of a table: moments and quartile edges of its observed training cells.

    `values` are those that sentences are written for, ascending, where asked for: all distinct
    ones, or the percentiles where there are more than `MAX_VALUES`.
    """

    kind: Literal["numeric"] = "numeric"
    mean: float
    std: float
    edges: tuple[float, float, float]
    values: tuple[float, ...] | None = None

    @property
    def n_codes(self) -> int:
        """Codes are quartiles of the training part."""
        return N_QUARTILES

    def encode(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return standardised numbers, and quartiles that hold their upper edge."""
        return (cells - self.mean) / self.std, np.searchsorted(self.edges, cells, side="left")


class CategoricalStatistics(Frozen):
    """A category of a table: its vocabulary, and which of it the training part holds."""

    kind: Literal["categorical"] = "categorical"
    vocabulary: tuple[str, ...]
    seen: tuple[bool, ...]

    @property
    def n_codes(self) -> int:
        """Code 0 stands for every value that training never saw."""
        return 1 + len(self.vocabulary)

    def encode(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return zeros, and codes: 1 + place in the vocabulary, 0 if training never saw it."""
        known = {
            value: 1 + place
            for place, (value, seen) in enumerate(zip(self.vocabulary, self.seen, strict=True))
            if seen
        }
        codes = np.array([known.get(value, 0) for value in cells], np.int64)
        return np.zeros(len(cells)), codes


AttributeStatistics = Annotated[
    NumericStatistics | CategoricalStatistics, Field(discriminator="kind")
]


class TableStatistics(Frozen):
    """What was fitted on a table."""

    kind: Literal["table"] = "table"
    attributes: tuple[AttributeStatistics, ...]

    @property
    def kinds(self) -> tuple[AttributeKind, ...]:
        """The kind of each attribute."""
        return tuple(each.kind for each in self.attributes)

    @property
    def n_codes(self) -> tuple[int, ...]:
        """The vocabulary size of each attribute, the reserved code included; 4 for a number."""
        return tuple(each.n_codes for each in self.attributes)


class VectorStatistics(Frozen):
    """Moments of each column of a vector."""

    kind: Literal["vector"] = "vector"
    mean: tuple[float, ...]
    std: tuple[float, ...]


Statistics = Annotated[
    TableStatistics | VectorStatistics | PictureStatistics | VolumeStatistics,
    Field(discriminator="kind"),
]
S = TypeVar("S", TableStatistics, VectorStatistics, PictureStatistics, VolumeStatistics)


class Preprocessor(Frozen):
    """All that was fitted on the training part of one run."""

    modalities: tuple[str, ...]
    statistics: tuple[Statistics, ...]

    def of(self, m: int, kind: type[S]) -> S:
        """Return what was fitted on modality m, which must be of this kind.

        Raises:
            ValueError: the modality is of another kind.
        """
        statistics = self.statistics[m]
        if not isinstance(statistics, kind):
            raise ValueError(f"modality {self.modalities[m]!r} is a {statistics.kind}")
        return statistics

    def inputs(self, dataset: Dataset, rows: np.ndarray, availability: Availability) -> Inputs:
        """Preprocess some cases, blanking what they do not have.

        Args:
            dataset: the cases.
            rows: (B,) int, the cases asked for.
            availability: what ALL N cases have; only observed cells and pictures are read.

        Raises:
            BadData: a cell that cannot be read, or a dataset with other modalities.
        """
        if dataset.modality_names != self.modalities:
            raise BadData(
                f"{dataset.name}: the preprocessing was fitted on the modalities "
                f"{', '.join(self.modalities)}, the data have {', '.join(dataset.modality_names)}; "
                "give the data that the run was trained on"
            )
        content = tuple(
            _modality_input(dataset, m, statistics, rows, availability)
            for m, statistics in enumerate(self.statistics)
        )
        return Inputs(content, torch.from_numpy(availability.modality[rows].copy()))

    def state(self) -> dict[str, Any]:
        """Return all that was fitted as JSON values."""
        return self.model_dump(mode="json")

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Preprocessor:
        """Restore what `state` gave."""
        return cls.model_validate(state)


def encoder_groups(modalities: Sequence[Modality]) -> dict[str, tuple[int, ...]]:
    """List the modalities under each encoder key, in order.

    Raises:
        BadData: tables or vectors share a key, or pictures or volumes of different channels.
    """
    groups: dict[str, tuple[int, ...]] = {}
    for m, modality in enumerate(modalities):
        groups[modality.encoder_key] = (*groups.get(modality.encoder_key, ()), m)
    for key, members in groups.items():
        kinds = {(modalities[m].kind, modalities[m].channels) for m in members}
        shareable = len(kinds) == 1 and modalities[members[0]].kind in ("image", "volume")
        if len(members) > 1 and not shareable:
            names = ", ".join(f"{modalities[m].name} ({modalities[m].kind})" for m in members)
            raise BadData(
                f"encoder {key!r} is shared by {names}; only pictures, or only volumes, "
                "with the same channels can share one; give the others their own"
            )
    return groups


def fit_preprocessor(
    dataset: Dataset,
    rows: np.ndarray,
    availability: Availability,
    *,
    keep_values: bool = False,
) -> Preprocessor:
    """Fit on the observed cells of the training part.

    Args:
        dataset: the cases.
        rows: (B,) int, the training part.
        availability: what ALL N cases have, after the protocol's gaps.
        keep_values: keep the values of numbers, for tables that are read as sentences.

    Raises:
        BadData: an observed cell, vector, picture or volume that cannot be read.
    """
    fitted: dict[int, Statistics] = {}
    for members in encoder_groups(dataset.modalities).values():
        kind = dataset.modalities[members[0]].kind
        if kind == "image":
            fitted |= fit_pictures(dataset, members, rows, availability)
        elif kind == "volume":
            fitted |= fit_volumes(dataset, members, rows, availability)
        else:
            fit = _fit_vector if kind == "vector" else partial(_fit_table, keep_values=keep_values)
            fitted[members[0]] = fit(dataset, members[0], rows, availability)
    statistics = tuple(fitted[m] for m in range(dataset.n_modalities))
    return Preprocessor(modalities=dataset.modality_names, statistics=statistics)


# tables


def _observed_cells(availability: Availability, m: int, rows: np.ndarray) -> np.ndarray:
    """Return (B, A) bool: an attribute of an absent table is not observed."""
    return availability.attributes[m][rows] & availability.modality[rows, m, None]


def _read_cells(
    dataset: Dataset, modality: Modality, attribute: Attribute, rows: np.ndarray
) -> np.ndarray:
    """Return float64 numbers or strings of observed cells.

    Raises:
        BadData: a cell is empty, or is not a finite number where one is promised.
    """
    column = dataset.table(modality.name)[attribute.name].iloc[rows]
    place, values = pd.factorize(column)  # each distinct value is read once
    if attribute.kind == "numeric":
        read = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(np.float64)
        wrong = ~np.isfinite(read)
    else:
        read = np.array([_as_text(value) for value in values], dtype=object)
        wrong = np.zeros(len(read), bool)
    if wrong.any() or (place < 0).any():
        what = f"'{values[wrong.argmax()]}'" if wrong.any() else "nothing"
        raise BadData(
            f"{dataset.name}: attribute {attribute.name!r} of {modality.name!r} is {attribute.kind}"
            f" and holds {what} in an observed cell; clean the table or change the declared kind"
        )
    return read[place]


def _as_text(value: object) -> str:
    """Name a category; 1.0 is named 1, since a gap turns a column of integers into floats."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _fit_table(
    dataset: Dataset,
    m: int,
    rows: np.ndarray,
    availability: Availability,
    *,
    keep_values: bool,
) -> TableStatistics:
    modality = dataset.modalities[m]
    observed = _observed_cells(availability, m, rows)
    fitted: list[AttributeStatistics] = []
    for a, attribute in enumerate(modality.attributes):
        cells = _read_cells(dataset, modality, attribute, rows[observed[:, a]])
        if attribute.kind == "numeric":
            fitted.append(_fit_numbers(cells, keep_values=keep_values))
        else:
            fitted.append(_fit_categories(cells, attribute.categories))
    return TableStatistics(attributes=tuple(fitted))


def _fit_numbers(cells: np.ndarray, *, keep_values: bool) -> NumericStatistics:
    values = _distinct(cells) if keep_values else None
    if not len(cells):
        return NumericStatistics(mean=0.0, std=1.0, edges=(0.0, 0.0, 0.0), values=values)
    mean, std = _moments(cells[:, None])
    low, middle, high = np.quantile(cells, (0.25, 0.5, 0.75)).tolist()
    return NumericStatistics(mean=mean[0], std=std[0], edges=(low, middle, high), values=values)


def _distinct(cells: np.ndarray) -> tuple[float, ...]:
    """Return the distinct numbers, ascending; of very many the percentiles that occur."""
    values = np.unique(cells)
    if len(values) > MAX_VALUES:
        values = np.unique(np.quantile(cells, np.linspace(0, 1, 101), method="nearest"))
    return tuple(values.tolist())


def _fit_categories(cells: np.ndarray, declared: tuple[str, ...]) -> CategoricalStatistics:
    held = set(cells)
    vocabulary = declared or tuple(sorted(held))
    return CategoricalStatistics(
        vocabulary=vocabulary, seen=tuple(value in held for value in vocabulary)
    )


def _moments(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per column; 1 stands for that of a constant column.

    Constant is asked of the values: rounding gives a constant column a deviation of 1e-17. One
    whose numbers are so small that their squares are 0 counts as constant too.
    """
    if not len(x):
        return (0.0,) * x.shape[1], (1.0,) * x.shape[1]
    std = x.std(0)
    constant = (x.min(0) == x.max(0)) | (std == 0)
    return tuple(x.mean(0).tolist()), tuple(np.where(constant, 1.0, std).tolist())


def _table_input(
    dataset: Dataset,
    modality: Modality,
    fitted: TableStatistics,
    rows: np.ndarray,
    seen: np.ndarray,
) -> ModalityInput:
    numbers = np.full(seen.shape, np.nan, np.float32)
    codes = np.full(seen.shape, -1, np.int64)
    for a, attribute in enumerate(modality.attributes):
        there = seen[:, a]
        cells = _read_cells(dataset, modality, attribute, rows[there])
        numbers[there, a], codes[there, a] = fitted.attributes[a].encode(cells)
    return ModalityInput(numbers=torch.from_numpy(numbers), codes=torch.from_numpy(codes))


# vectors


def _read_vectors(dataset: Dataset, modality: Modality, rows: np.ndarray) -> np.ndarray:
    """Return float64 (n, W) of present vectors.

    Raises:
        BadData: another width than declared, or a value that is not finite.
    """
    vectors = np.asarray(dataset.content[modality.name])[rows].astype(np.float64)
    if vectors.ndim != 2 or vectors.shape[1] != modality.width:
        raise BadData(
            f"{dataset.name}: vectors of {modality.name!r} must be (n, {modality.width}), "
            f"got {vectors.shape}; mend the declared width or the files"
        )
    finite = np.isfinite(vectors).all(1)
    if not finite.all():
        first = str(dataset.cases[rows[finite.argmin()]])
        raise BadData(
            f"{dataset.name}: {(~finite).sum()} present vectors of {modality.name!r} hold NaN or "
            f"infinity; first: case {first!r}; declare such vectors absent or fill them"
        )
    return vectors


def _fit_vector(
    dataset: Dataset, m: int, rows: np.ndarray, availability: Availability
) -> VectorStatistics:
    present = rows[availability.modality[rows, m]]
    mean, std = _moments(_read_vectors(dataset, dataset.modalities[m], present))
    return VectorStatistics(mean=mean, std=std)


def _vector_input(
    dataset: Dataset,
    modality: Modality,
    fitted: VectorStatistics,
    rows: np.ndarray,
    present: np.ndarray,
) -> ModalityInput:
    values = np.zeros((len(rows), modality.width), np.float32)
    vectors = _read_vectors(dataset, modality, rows[present])
    values[present] = (vectors - np.array(fitted.mean)) / np.array(fitted.std)
    return ModalityInput(vector=torch.from_numpy(values))


def _modality_input(
    dataset: Dataset, m: int, fitted: Statistics, rows: np.ndarray, availability: Availability
) -> ModalityInput:
    modality = dataset.modalities[m]
    present = availability.modality[rows, m]
    if isinstance(fitted, TableStatistics):
        seen = _observed_cells(availability, m, rows)
        return _table_input(dataset, modality, fitted, rows, seen)
    if isinstance(fitted, VectorStatistics):
        return _vector_input(dataset, modality, fitted, rows, present)
    if isinstance(fitted, VolumeStatistics):
        return volume_input(dataset, modality, fitted, rows, present)
    return picture_input(dataset, modality, fitted, rows, present)
