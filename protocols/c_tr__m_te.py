"""C-Tr+M-Te: complete in training, missing at test, at a row of rates.

One training serves all rates. It asks how a method that was built on complete records bears the
gaps of the clinic.

Source: AlignedFusion paper (2026), table 1(b); the paper drops attributes at 0 to 50 %.
"""

from __future__ import annotations

from bench.data import Dataset
from bench.layout import Heading
from bench.protocol import (
    Condition,
    RatesProtocol,
    Setting,
    gaps_condition,
    percent,
    rate_of,
    rates_in_words,
)


class CompleteTrainMissingTest(RatesProtocol):
    """Train on what cases have, test at each rate."""

    name = "c-tr+m-te"
    display_name = "C-Tr+M-Te"
    axis = "share of cells absent at test; training and validation as the cases are"

    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List one condition per rate."""
        return [gaps_condition(self.config.gaps(rate)) for rate in self.config.rates]

    def heading(self, setting: Setting, condition: Condition) -> Heading:
        """Head a column by its rate at test."""
        rate = rate_of(condition.gaps)
        return Heading(percent(rate), rate)

    def words(self) -> list[str]:
        """Say who loses what, and when."""
        gaps = self.gaps()
        return [
            "training and validation: nothing but natural gaps",
            f"test at {rates_in_words(self.config.rates)}; at the highest: "
            + (gaps.words if gaps else "nothing but natural gaps"),
        ]


PLUGIN = CompleteTrainMissingTest
