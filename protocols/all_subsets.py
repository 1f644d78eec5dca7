"""All subsets: train on all that the cases have, test every non-empty subset of modalities."""

from __future__ import annotations

from bench.data import Dataset
from bench.protocol import Condition, Protocol, Setting, all_subset_conditions


class AllSubsets(Protocol):
    """Complete training (natural gaps stay), every availability subset at test."""

    name = "all-subsets"
    display_name = "All subsets"
    selection = "all-subsets"

    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List the 2^M - 1 subsets."""
        return all_subset_conditions(dataset)


PLUGIN = AllSubsets
