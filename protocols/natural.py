"""Natural: the gaps that the data has, in training and at test, and no others."""

from __future__ import annotations

from bench.data import Dataset
from bench.protocol import AS_THEY_ARE, Condition, Protocol, Setting


class Natural(Protocol):
    """Train and test on what cases truly have."""

    name = "natural"
    display_name = "Natural gaps"
    table = "single"

    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List the one condition: cases as they are."""
        return [AS_THEY_ARE]

    def words(self) -> list[str]:
        """Say who loses what, and when."""
        return ["training, validation and test: nothing but natural gaps"]


PLUGIN = Natural
