"""M-Tr+C-Te: missing in training, complete at test, at a row of rates.

Each rate is a training of its own; what test cases have stays as it is. It asks what a method can
learn from incomplete records.

Source: AlignedFusion paper (2026), table 1(a); the paper drops attributes at 0 to 50 %.
"""

from __future__ import annotations

from bench.data import Dataset
from bench.layout import Heading
from bench.protocol import (
    AS_THEY_ARE,
    Condition,
    RatesProtocol,
    Setting,
    percent,
    rate_of,
    rates_in_words,
)


class MissingTrainCompleteTest(RatesProtocol):
    """Train at each rate, test on what cases have."""

    name = "m-tr+c-te"
    display_name = "M-Tr+C-Te"
    axis = "share of cells absent in training and validation; test cases as they are"

    def settings(self, dataset: Dataset) -> list[Setting]:
        """List one setting per rate."""
        return [Setting(self.config.gaps(rate)) for rate in self.config.rates]

    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List the one condition: cases as they are."""
        return [AS_THEY_ARE]

    def heading(self, setting: Setting, condition: Condition) -> Heading:
        """Head a column by its rate in training."""
        rate = rate_of(setting.gaps)
        return Heading(percent(rate), rate)

    def words(self) -> list[str]:
        """Say who loses what, and when."""
        gaps = self.gaps()
        return [
            f"training and validation at {rates_in_words(self.config.rates)}; at the highest: "
            + (gaps.words if gaps else "nothing but natural gaps"),
            "test: cases as they are",
        ]


PLUGIN = MissingTrainCompleteTest
