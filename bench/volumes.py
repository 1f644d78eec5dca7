"""Volumes of one modality: an array in memory, or one NIfTI or NumPy file per case.

A volume has slices, rows and columns, in this order, and channels last. NIfTI files hold columns
(x), rows (y), slices (z) and perhaps channels; their axes are first brought to the order and
direction of the body (RAS+) by the file's own affine, so that left is left in every case.
"""

# N cases, n rows asked for, D slices, H W rows and columns of a slice, C channels

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bench.errors import BadData

NIFTI = (".nii", ".nii.gz")
NUMPY = ".npy"
Shape = tuple[int, int, int]


class Volumes(Protocol):
    """Volumes of one modality, read on demand."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8 or float (n, D, H, W, channels); every row must have its volume."""
        ...


@dataclass(frozen=True)
class VolumeArray:
    """Volumes that are in memory already: uint8 or float (N, D, H, W, channels)."""

    voxels: np.ndarray

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return (n, D, H, W, channels)."""
        return self.voxels[rows]


@dataclass(frozen=True)
class VolumeFiles:
    """Volume files of one modality, one per case or None: `.nii`, `.nii.gz` or `.npy`.

    All have one shape: resampling and cropping are decisions on the data, made before.
    """

    paths: tuple[Path | None, ...]
    shape: Shape  # slices, rows, columns
    channels: int = 1

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 (n, D, H, W, channels).

        Raises:
            BadData: a volume is missing, damaged, of another shape or not finite; the file is
                named.
        """
        volumes = [read_volume(self.paths[row], self.shape, self.channels) for row in rows]
        shape = (0, *self.shape, self.channels)
        return np.stack(volumes) if volumes else np.zeros(shape, np.float32)


def read_volume(path: Path | None, shape: Shape, channels: int = 1) -> np.ndarray:
    """Return a volume as float32 (D, H, W, channels).

    A NumPy file holds (D, H, W), or (D, H, W, channels).

    Args:
        path: the file; None is refused: absent volumes are not read.
        shape: slices, rows and columns that it must have.
        channels: values of each voxel.

    Raises:
        BadData: no such file, no volume, damaged, of another shape, or NaN or infinity in it; the
            file is named.
        ValueError: no path.
    """
    if path is None:
        raise ValueError("path is None: this case has no volume, read the rows that have one")
    name = path.name.lower()
    read = _numpy if name.endswith(NUMPY) else _nifti
    if not name.endswith((*NIFTI, NUMPY)):
        known = ", ".join((*NIFTI, NUMPY))
        raise BadData(f"{path}: volumes are read from {known} files; convert it to one of them")
    try:
        voxels = read(path, (*shape, channels))
    except FileNotFoundError as error:
        raise BadData(f"{path}: no such volume file; complete the release") from error
    except BadData:
        raise
    except Exception as error:  # the decoders raise many kinds on damaged files
        reason = " ".join(str(error).split())[:160]
        raise BadData(f"{path}: not a readable volume ({reason}); get the file again") from error
    n_wrong = int((~np.isfinite(voxels)).sum())
    if n_wrong:
        raise BadData(f"{path}: {n_wrong} voxels are NaN or infinite in float32; fill them first")
    return voxels


def _numpy(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    # mapped: a header can claim any shape, and only the file's length shows that it lies
    array = np.lib.format.open_memmap(path, mode="r")
    return _checked(path, array, array.shape, shape).reshape(shape)


def _nifti(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise BadData(
            f"{path}: reading NIfTI needs nibabel, which is not installed; "
            "pip install 'missing-modality-bench[formats]'"
        ) from error
    image = nibabel.as_closest_canonical(nibabel.load(path))
    found = (*image.shape[2::-1], *image.shape[3:])
    voxels = _checked(path, image.dataobj, found, shape)
    return voxels.reshape(*voxels.shape[:3], -1).transpose(2, 1, 0, 3)  # x, y, z, C to z, y, x, C


def _checked(
    path: Path, array: object, found: tuple[int, ...], shape: tuple[int, ...]
) -> np.ndarray:
    """Return an array as float32 in its own order, once its shape is as promised.

    Args:
        path: named in errors.
        array: what holds the voxels; read after the shape was looked at.
        found: slices, rows, columns and perhaps channels of the file.
        shape: those promised, with the channels.
    """
    if found != shape and not (shape[3] == 1 and found == shape[:3]):
        sides = " x ".join(map(str, found)) or "a single number"
        wanted = " x ".join(map(str, shape[:3]))
        raise BadData(
            f"{path}: the volume is {sides}, the dataset promises {wanted} (slices x rows x "
            f"columns) and {shape[3]} channel(s); crop, pad or resample it first"
        )
    voxels = np.asanyarray(array)
    if voxels.dtype.kind not in "biuf":
        raise BadData(f"{path}: voxels are {voxels.dtype}; store plain numbers")
    with np.errstate(over="ignore"):  # what float32 cannot hold is found as infinite
        return np.array(voxels, np.float32)  # a copy: mapped files are let go
