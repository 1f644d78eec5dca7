"""All subsets: train on all that the cases have, test every non-empty subset of modalities.

A case is scored in the subsets that it can serve: one whose own record lacks a modality has no
part in the columns that need it. `train_rate` makes training incomplete too.
"""

from __future__ import annotations

from pydantic import Field

from bench.data import Dataset
from bench.protocol import (
    Condition,
    Gaps,
    Level,
    Protocol,
    ProtocolConfig,
    Setting,
    all_subset_conditions,
)


class AllSubsetsConfig(ProtocolConfig):
    """Missingness in training; none by default."""

    train_rate: float = Field(0.0, ge=0, lt=1, description="share of cells absent in training")
    level: Level = Field("modality", description="what is absent in training")


class AllSubsets(Protocol):
    """Complete training (natural gaps stay), every availability subset at test."""

    name = "all-subsets"
    display_name = "All subsets"
    selection = "all-subsets"
    config_class = AllSubsetsConfig

    def settings(self, dataset: Dataset) -> list[Setting]:
        """List the one setting: complete, or at the training rate."""
        return [Setting(self.gaps())]

    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List the 2^M - 1 subsets."""
        return all_subset_conditions(dataset)

    def gaps(self) -> Gaps | None:
        """Return the gaps of training."""
        rate = self.config.train_rate
        return Gaps(rate, self.config.level) if rate else None

    def variant(self) -> str:
        """Name the training setting, unless it is the usual one."""
        gaps = self.gaps()
        return f"training: {gaps.name}" if gaps else ""

    def words(self) -> list[str]:
        """Say who loses what, and when."""
        gaps = self.gaps()
        return [
            f"training and validation lack: {gaps.words if gaps else 'nothing but natural gaps'}",
            "test: every non-empty subset of the modalities, for the cases that have it",
        ]


PLUGIN = AllSubsets
