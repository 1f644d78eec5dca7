"""What a dataset plugin is. A plugin file ends with `PLUGIN = TheClass`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bench.data import Dataset
from bench.spec import Frozen


class DatasetPlugin(ABC):
    """A plugin that loads one dataset; what it declares can be listed without loading it."""

    name: ClassVar[str]
    display_name: ClassVar[str]
    description: ClassVar[str]  # one line
    citation: ClassVar[str]
    licence: ClassVar[str]
    config_class: ClassVar[type[Frozen]] = Frozen
    needs_root: ClassVar[bool] = True  # False: comes with a library, no files to point at
    default_folds: ClassVar[int] = 5  # 1: the official parts; 0: its only official folds
    default_seeds: ClassVar[tuple[int, ...]] = (0,)
    recipe_defaults: ClassVar[Mapping[str, Any]] = {}  # fields of bench.spec.Recipe
    encoder_defaults: ClassVar[Mapping[str, Any]] = {}  # fields of bench.spec.EncoderConfig

    @abstractmethod
    def load(self, config: Any, root: Path | None) -> Dataset:
        """Read the cases; pictures stay on disk until they are asked for.

        Args:
            config: an instance of `config_class`.
            root: the user's data folder as given, or None; see `find_root`.

        Raises:
            BadData: a file is missing or a cell cannot be read as promised.
            BadRequest: files are needed and no folder was given.
        """

    def load_new(self, config: Any, root: Path | None) -> Dataset:
        """Read cases to predict, whose labels nobody knows; as `load` unless a plugin says more.

        Args:
            config: an instance of `config_class`.
            root: as of `load`.

        Raises:
            BadData: as of `load`.
            BadRequest: likewise.
        """
        dataset: Dataset = self.load(config, root)
        return dataset

    def oddities(self, config: Any, root: Path | None) -> Sequence[str]:
        """Say what is odd in the files and was read all the same; `bench prepare` shows it."""
        return ()
