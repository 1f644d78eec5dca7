"""M-Tr+M-Te: missing in training and at test.

The paper's setting trains at 50 % and tests at 0 to 50 %; `grid` trains at every rate and tests
every rate.

Source: AlignedFusion paper (2026), tables 1(c) and 1(d).
"""

from __future__ import annotations

from pydantic import Field

from bench.data import Dataset
from bench.layout import Heading
from bench.protocol import (
    Condition,
    Gaps,
    RatesConfig,
    RatesProtocol,
    Setting,
    gaps_condition,
    percent,
    rate_of,
    rates_in_words,
)


class MissingBothConfig(RatesConfig):
    """The rates at test, and at which training is done."""

    train_rate: float = Field(0.5, ge=0, lt=1, description="rate in training (the paper: 0.5)")
    grid: bool = Field(False, description="train at every rate instead")

    @property
    def train_rates(self) -> tuple[float, ...]:
        """The rates of the training settings."""
        return self.rates if self.grid else (self.train_rate,)


class MissingTrainMissingTest(RatesProtocol):
    """Train at one rate or at all, test at each."""

    name = "m-tr+m-te"
    display_name = "M-Tr+M-Te"
    axis = "share of cells absent at test; each block is a training with gaps of its own"
    config_class = MissingBothConfig

    def settings(self, dataset: Dataset) -> list[Setting]:
        """List the paper's setting, or one per rate."""
        return [Setting(self.config.gaps(rate)) for rate in self.config.train_rates]

    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List one condition per rate."""
        return [gaps_condition(self.config.gaps(rate)) for rate in self.config.rates]

    def heading(self, setting: Setting, condition: Condition) -> Heading:
        """Head a column by its rate at test, and a block of them by their rate in training."""
        rate = rate_of(condition.gaps)
        return Heading(percent(rate), rate, f"train {percent(rate_of(setting.gaps))}")

    def gaps(self) -> Gaps | None:
        """Return the gaps at the highest rate of training and test."""
        return self.config.gaps(max(*self.config.train_rates, *self.config.rates))

    def words(self) -> list[str]:
        """Say who loses what, and when."""
        gaps = self.gaps()
        return [
            f"training and validation at {rates_in_words(self.config.train_rates)}",
            f"test at {rates_in_words(self.config.rates)}; at the highest: "
            + (gaps.words if gaps else "nothing but natural gaps"),
        ]


PLUGIN = MissingTrainMissingTest
