"""Pictures and volumes: channel moments of the training part, and tensors with the gaps blank."""

# N cases, B rows asked for

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import numpy as np
import torch

from bench.data import Availability, Dataset, Modality
from bench.encoders.inputs import ModalityInput
from bench.encoders.picture_cache import read_pictures, read_volumes
from bench.errors import BadData
from bench.spec import Frozen

CHUNK = 256  # pictures summed at a time
VOLUME_CHUNK = 8
WHITE = 255.0

Read = Callable[[Dataset, Modality, np.ndarray], np.ndarray]


class PictureStatistics(Frozen):
    """Size of the pictures, and moments of each channel over all pictures of one encoder key."""

    kind: Literal["image"] = "image"
    shape: tuple[int, int, int]  # height, width, channels
    mean: tuple[float, ...]  # in [0, 1]
    std: tuple[float, ...]


class VolumeStatistics(Frozen):
    """Size of the volumes, and moments of each channel over all volumes of one encoder key."""

    kind: Literal["volume"] = "volume"
    shape: tuple[int, int, int, int]  # slices, rows, columns, channels
    mean: tuple[float, ...]  # in the files' own unit
    std: tuple[float, ...]


P = TypeVar("P", PictureStatistics, VolumeStatistics)


def fit_pictures(
    dataset: Dataset, members: tuple[int, ...], rows: np.ndarray, availability: Availability
) -> dict[int, PictureStatistics]:
    """Pool the channel moments of the modalities that share an encoder, exactly, in integers.

    Args:
        dataset: the cases.
        members: indices of these modalities.
        rows: (B,) int, the training part.
        availability: what ALL N cases have.
    """
    n_channels = dataset.modalities[members[0]].channels
    n_pixels = 0
    total, squares = np.zeros(n_channels, np.int64), np.zeros(n_channels, np.int64)
    for chunk in _training_chunks(read_pictures, CHUNK, dataset, members, rows, availability):
        pixels = chunk.astype(np.int64)
        n_pixels += len(pixels)
        total += pixels.sum(0)
        squares += (pixels**2).sum(0)
    mean = total / max(n_pixels, 1) / WHITE
    variance = squares / max(n_pixels, 1) / WHITE**2 - mean**2
    constant = n_pixels * squares == total**2  # also without any picture
    std = np.sqrt(np.where(constant, 1.0, variance))
    return _statistics(PictureStatistics, read_pictures, dataset, members, mean, std)


def fit_volumes(
    dataset: Dataset, members: tuple[int, ...], rows: np.ndarray, availability: Availability
) -> dict[int, VolumeStatistics]:
    """Pool the channel moments of the modalities that share an encoder; see `fit_pictures`.

    Moments of parts are merged as by Chan, Golub and LeVeque (1983), who lose no digits.
    """
    n_channels = dataset.modalities[members[0]].channels
    n_voxels = 0
    mean, squares = np.zeros(n_channels), np.zeros(n_channels)  # of deviations from the mean
    for chunk in _training_chunks(read_volumes, VOLUME_CHUNK, dataset, members, rows, availability):
        voxels = chunk.astype(np.float64)
        share = len(voxels) / (n_voxels + len(voxels))
        apart = voxels.mean(0) - mean
        mean = mean + share * apart
        squares += ((voxels - voxels.mean(0)) ** 2).sum(0) + share * n_voxels * apart**2
        n_voxels += len(voxels)
    std = np.sqrt(squares / max(n_voxels, 1))
    std = np.where(std > 1e-6 * np.abs(mean), std, 1.0)  # below, a constant and its rounding
    return _statistics(VolumeStatistics, read_volumes, dataset, members, mean, std)


def _training_chunks(
    read: Read,
    n_rows: int,
    dataset: Dataset,
    members: tuple[int, ...],
    rows: np.ndarray,
    availability: Availability,
) -> Iterator[np.ndarray]:
    """Yield what the training part has of these modalities, a few rows at a time: (n, channels)."""
    for m in members:
        modality = dataset.modalities[m]
        present = rows[availability.modality[rows, m]]
        for start in range(0, len(present), n_rows):
            values = read(dataset, modality, present[start : start + n_rows])
            yield values.reshape(-1, modality.channels)


def _statistics(
    kind: type[P],
    read: Read,
    dataset: Dataset,
    members: tuple[int, ...],
    mean: np.ndarray,
    std: np.ndarray,
) -> dict[int, P]:
    return {
        m: kind(
            shape=_empty(read, dataset, dataset.modalities[m]).shape[1:],
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
        )
        for m in members
    }


def _empty(read: Read, dataset: Dataset, modality: Modality) -> np.ndarray:
    """Return (0, ...) of the shape and type of the modality's rows; nothing is decoded."""
    return read(dataset, modality, np.zeros(0, np.int64))


def picture_input(
    dataset: Dataset,
    modality: Modality,
    fitted: PictureStatistics,
    rows: np.ndarray,
    present: np.ndarray,
) -> ModalityInput:
    """Return the pictures of these cases, zeros where absent; only present ones are read.

    Args:
        dataset: the cases.
        modality: which one of theirs.
        fitted: on the training part.
        rows: (B,) int, the cases asked for.
        present: (B,) bool.

    Raises:
        BadData: the pictures have another size than those of the training part.
    """
    return ModalityInput(pictures=_rows(read_pictures, dataset, modality, fitted, rows, present))


def volume_input(
    dataset: Dataset,
    modality: Modality,
    fitted: VolumeStatistics,
    rows: np.ndarray,
    present: np.ndarray,
) -> ModalityInput:
    """Return the volumes of these cases, zeros where absent; see `picture_input`."""
    return ModalityInput(volumes=_rows(read_volumes, dataset, modality, fitted, rows, present))


def _rows(
    read: Read,
    dataset: Dataset,
    modality: Modality,
    fitted: PictureStatistics | VolumeStatistics,
    rows: np.ndarray,
    present: np.ndarray,
) -> torch.Tensor:
    values = np.zeros((len(rows), *fitted.shape), _empty(read, dataset, modality).dtype)
    if present.any():
        found = read(dataset, modality, rows[present])
        if found.shape[1:] != fitted.shape:
            what = "pictures" if modality.kind == "image" else "volumes"
            raise BadData(
                f"{dataset.name}: {what} of {modality.name!r} are {found.shape[1:]}, the run was "
                f"trained on {fitted.shape}; load the dataset with the same size"
            )
        values[present] = found
    return torch.from_numpy(values)
