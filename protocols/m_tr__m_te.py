"""M-Tr+M-Te: missing in training and at test.

The paper's setting trains at 50 % and tests at 0 to 50 %; `grid` trains at every rate and tests
every rate.

Source: AlignedFusion paper (2026), tables 1(c) and 1(d).
"""

from __future__ import annotations

from pydantic import Field

from bench.data import Dataset
from bench.protocol import (
    Condition,
    Protocol,
    RatesConfig,
    Setting,
    gaps_condition,
    rates_in_words,
)


class MissingBothConfig(RatesConfig):
    """The rates at test, and at which training is done."""

    train_rate: float = Field(0.5, ge=0, lt=1, description="rate in training (the paper: 0.5)")
    grid: bool = Field(False, description="train at every rate instead")


class MissingTrainMissingTest(Protocol):
    """Train at one rate or at all, test at each."""

    name = "m-tr+m-te"
    display_name = "M-Tr+M-Te"
    config_class = MissingBothConfig

    def settings(self, dataset: Dataset) -> list[Setting]:
        """List the paper's setting, or one per rate."""
        rates = self.config.rates if self.config.grid else (self.config.train_rate,)
        return [Setting(self.config.gaps(rate)) for rate in rates]

    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List one condition per rate."""
        return [gaps_condition(self.config.gaps(rate)) for rate in self.config.rates]

    def words(self) -> list[str]:
        """Say who loses what, and when."""
        rates = self.config.rates if self.config.grid else (self.config.train_rate,)
        gaps = self.config.gaps(max(*rates, *self.config.rates))
        return [
            f"training and validation at {rates_in_words(rates)}",
            f"test at {rates_in_words(self.config.rates)}; at the highest: "
            + (gaps.words if gaps else "nothing but natural gaps"),
        ]


PLUGIN = MissingTrainMissingTest
