"""The first modality alone, trained as for all subsets."""

from __future__ import annotations

from bench.data import Dataset
from bench.protocol import Condition, Protocol, Setting, subset_condition


class FirstAlone(Protocol):
    """Test one subset."""

    name = "first-alone"
    display_name = "First modality alone"
    selection = "all-subsets"

    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List the one condition."""
        return [subset_condition(dataset, (0,))]


PLUGIN = FirstAlone
