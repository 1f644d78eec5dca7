"""Each modality alone, trained as for all subsets."""

from __future__ import annotations

from bench.data import Dataset
from bench.protocol import Condition, Protocol, Setting, subset_condition


class Singles(Protocol):
    """Test the subsets of one modality."""

    name = "singles"
    display_name = "Single modalities"
    selection = "all-subsets"

    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List one condition per modality."""
        return [subset_condition(dataset, (m,)) for m in range(dataset.n_modalities)]


PLUGIN = Singles
