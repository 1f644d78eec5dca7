"""All subsets: train on all that the cases have, test every non-empty subset of modalities.

A case is scored in the subsets that it can serve: one whose own record lacks a modality has no
part in the columns that need it. With `every_case` it has: each column scores all test cases, from
as much of the subset as they have. `train_rate` makes training incomplete too.
"""

from __future__ import annotations

from pydantic import Field

from bench.data import Dataset
from bench.layout import Heading
from bench.protocol import (
    EVERY_CASE,
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
    every_case: bool = Field(
        False,
        description="score all cases in each column, from what they have of the subset; one that "
        "has none of it is given the class shares of training",
    )


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
        return all_subset_conditions(dataset, every_case=self.config.every_case)

    def heading(self, setting: Setting, condition: Condition) -> Heading:
        """Head a column with its subset, whoever is scored."""
        return Heading(condition.name.removesuffix(EVERY_CASE))

    def gaps(self) -> Gaps | None:
        """Return the gaps of training."""
        rate = self.config.train_rate
        return Gaps(rate, self.config.level) if rate else None

    def variant(self) -> str:
        """Name the training setting and the cases, unless they are the usual ones."""
        gaps = self.gaps()
        said = [f"training: {gaps.name}"] if gaps else []
        return ", ".join(said + ["every case"] * self.config.every_case)

    def words(self) -> list[str]:
        """Say who loses what, and when."""
        gaps = self.gaps()
        scored = "the cases that have it"
        if self.config.every_case:
            scored = "all cases, from what they have of it; without any, the shares of training"
        return [
            f"training and validation lack: {gaps.words if gaps else 'nothing but natural gaps'}",
            f"test: every non-empty subset of the modalities, for {scored}",
        ]


PLUGIN = AllSubsets
