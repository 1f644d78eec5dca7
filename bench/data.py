"""The data model: what a dataset holds, what a method is told of it, and what it is handed.

A `Dataset` holds the cases as they are. `Task` is what a method may know before training (shapes,
classes, vocabularies; never cases). `Tokens` is one encoded modality of a batch.
"""

# N cases, B batch, M modalities, T tokens of a modality, C token width, A attributes, K classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

ModalityKind = Literal["image", "table", "vector", "volume"]
AttributeKind = Literal["numeric", "categorical"]


@dataclass(frozen=True)
class Attribute:
    """One column of a tabular modality."""

    name: str
    kind: AttributeKind = "numeric"
    categories: tuple[str, ...] = ()  # declared vocabulary; empty: that of the training part
    leak: str = ""  # why this column may give the label away
    template: str = "The {name} of the patient is {value}"


@dataclass(frozen=True)
class Modality:
    """One source of a case. Modalities that name the same `encoder` share it (like pictures)."""

    name: str
    kind: ModalityKind
    attributes: tuple[Attribute, ...] = ()  # of a table
    width: int = 0  # of a vector
    channels: int = 1  # of a picture or volume
    encoder: str = ""  # key of a shared encoder; empty: its own

    @property
    def encoder_key(self) -> str:
        """The key under which its encoder stands."""
        return self.encoder or self.name


class Pictures(Protocol):
    """Pictures of one modality, decoded on demand.

    A frozen dataclass whose field `paths` names the file of each case, as `ImageFiles` has it, is
    kept decoded on disk from one process to the next.
    """

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8 (n, H, W, channels) of these cases; every row must have its picture."""
        ...


@dataclass(frozen=True)
class PictureArray:
    """Pictures that are in memory already: uint8 (N, H, W, channels)."""

    pixels: np.ndarray

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8 (n, H, W, channels)."""
        return self.pixels[rows]


Content = "pd.DataFrame | np.ndarray | Pictures | Volumes"  # volumes: see bench.volumes


@dataclass(frozen=True)
class Availability:
    """Who has what among N cases, at both levels. True = present."""

    modality: np.ndarray  # (N, M) bool
    attributes: dict[int, np.ndarray] = field(default_factory=dict)  # table index -> (N, A) bool

    def rows(self, rows: np.ndarray) -> Availability:
        """Return the availability of these cases."""
        return Availability(
            self.modality[rows], {m: seen[rows] for m, seen in self.attributes.items()}
        )

    def keep(self, subset: Sequence[int]) -> Availability:
        """Return what is left when only these modalities may be used."""
        kept = np.zeros_like(self.modality)
        kept[:, list(subset)] = self.modality[:, list(subset)]
        attributes = {
            m: seen if m in subset else np.zeros_like(seen) for m, seen in self.attributes.items()
        }
        return Availability(kept, attributes)


@dataclass(frozen=True)
class Split:
    """Rows of the three parts of one repeat; the test part is read once, at the end."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Cases with their modalities, labels and groups, as they are in the files."""

    name: str
    modalities: tuple[Modality, ...]
    classes: tuple[str, ...]
    cases: np.ndarray  # (N,) str, unique
    label: np.ndarray  # (N,) int64 in [0, K)
    group: np.ndarray  # (N,) str; cases of one group never part (patient)
    content: Mapping[
        str, object
    ]  # by modality, what `Content` says: table, (N, width) float32, ...
    available: np.ndarray  # (N, M) bool, as in the files
    fingerprint: str  # of the files
    folds: Mapping[int, np.ndarray] = field(default_factory=dict)  # n_folds -> (N,) official fold
    parts: np.ndarray | None = None  # (N,) "train" | "valid" | "test": an official fixed split
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)  # subgroups (site, scanner)
    files: tuple[Path, ...] = ()  # all that was or will be read

    @property
    def n_cases(self) -> int:
        """N."""
        return len(self.cases)

    @property
    def n_modalities(self) -> int:
        """M."""
        return len(self.modalities)

    @property
    def modality_names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(modality.name for modality in self.modalities)

    def table(self, name: str) -> pd.DataFrame:
        """Return the cells of a tabular modality, one column per attribute, NaN where absent."""
        return self.content[name]  # type: ignore[return-value]

    def natural(self) -> Availability:
        """Return what the cases truly have; a table is there when one attribute is."""
        attributes = {
            m: self.table(modality.name).notna().to_numpy() & self.available[:, m, None]
            for m, modality in enumerate(self.modalities)
            if modality.kind == "table"
        }
        observed = self.available.copy()
        for m, seen in attributes.items():
            observed[:, m] &= seen.any(1)
        return Availability(observed, attributes)


@dataclass(frozen=True)
class TokenSpec:
    """What a method knows of one modality's tokens before it sees any."""

    name: str
    kind: ModalityKind
    n_tokens: int  # T
    d_token: int  # C
    attribute: tuple[int, ...] = ()  # (T,) whose slot a token is; -1: none
    attribute_names: tuple[str, ...] = ()  # (A,)
    attribute_kinds: tuple[AttributeKind, ...] = ()  # (A,)
    n_codes: tuple[int, ...] = ()  # (A,) size of each attribute's vocabulary, or 4 quartiles
    value_tokens: Tensor | None = field(default=None, compare=False)  # (sum of n_codes, C) frozen
    encoder: str = ""  # how the names of its encoder's parameters begin: `encoders.view.`

    @property
    def n_attributes(self) -> int:
        """A."""
        return len(self.attribute_names)


@dataclass(frozen=True)
class Task:
    """What a method is told when it is built: shapes, classes, width; never the cases."""

    modalities: tuple[TokenSpec, ...]
    classes: tuple[str, ...]
    d_model: int  # D, one width for all methods of a study

    @property
    def n_modalities(self) -> int:
        """M."""
        return len(self.modalities)

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.classes)


@dataclass(frozen=True, eq=False)
class Tokens:
    """One encoded modality of a batch. Content of what is not observed is zero, NaN or -1."""

    values: Tensor  # (B, T, C)
    valid: Tensor  # (B, T) bool
    attribute: Tensor  # (T,) long, -1: no attribute's slot
    codes: Tensor  # (B, A) long: vocabulary index or quartile, -1: unobserved
    numbers: Tensor  # (B, A) float: standardised number, NaN: unobserved

    def rows(self, index: Tensor) -> Tokens:
        """Return the tokens of these rows of the batch."""
        return replace(
            self,
            values=self.values[index],
            valid=self.valid[index],
            codes=self.codes[index],
            numbers=self.numbers[index],
        )

    def to(self, device: torch.device | str) -> Tokens:
        """Return the tokens on a device."""
        return Tokens(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def restrict(self, available: Tensor, seen: Tensor | None = None) -> Tokens:
        """Blank the rows in which this modality is not available, and attributes not seen.

        Args:
            available: (B,) bool.
            seen: (B, A) bool, of a table; None: all that was observed.
        """
        row = available[:, None]
        slots, cells = row, row
        if seen is not None:
            cells = seen & row
            slots = cells[:, self.attribute]  # every slot of a table is an attribute's
        return replace(
            self,
            values=self.values.masked_fill(~slots[..., None], 0.0),
            valid=self.valid & slots,
            codes=self.codes.masked_fill(~cells, -1),
            numbers=self.numbers.masked_fill(~cells, float("nan")),
        )


@dataclass(frozen=True)
class ImageFiles:
    """Picture files of one modality, one per case or None, decoded to a square of grey or RGB."""

    paths: tuple[Path | None, ...]
    size: int
    channels: int = 1

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8 (n, size, size, channels).

        Raises:
            BadData: a picture is missing or cannot be decoded; the file is named.
        """
        from bench.pictures import read_picture

        pictures = [read_picture(self.paths[row], self.size, self.channels) for row in rows]
        shape = (0, self.size, self.size, self.channels)
        return np.stack(pictures) if pictures else np.zeros(shape, np.uint8)
