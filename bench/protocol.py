"""What a protocol is: where missingness is applied, in training and at test, and how much.

A protocol names training settings and test conditions; it never draws a pattern itself.
`bench/patterns.py` draws it from (dataset, level, mechanism, part, repeat) alone, so that every
method sees the same gaps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from bench.availability import Subset, long_subset_name, subset_name, subsets
from bench.data import Dataset
from bench.layout import Heading, TableKind
from bench.spec import Frozen, SelectionRule

Level = Literal["modality", "attribute"]
Mechanism = Literal["mcar", "unequal", "mar", "mnar-value", "mnar-label", "block"]

MECHANISMS: dict[str, str] = {
    "mcar": "completely at random",
    "unequal": "completely at random, at a rate of its own per modality",
    "mar": "at random given another column",
    "mnar-value": "NOT at random: by the own value",
    "mnar-label": "NOT at random: by the label",
    "block": "in blocks: the cells of one table, or the cases of one group, go together",
}


@dataclass(frozen=True)
class Gaps:
    """Which cells are taken away on top of natural gaps.

    `rate` is the share of the cells naturally present in each column that is removed. Patterns are
    nested: what is gone at 10 % is gone at 20 %.
    """

    rate: float
    level: Level = "modality"
    mechanism: Mechanism = "mcar"
    given: str = ""  # the column of `mar` and `block`
    rates: tuple[tuple[str, float], ...] = ()  # of `unequal`: column and its rate
    independent: bool = False  # each cell by its own coin, as the papers do

    @property
    def name(self) -> str:
        """Name the gaps so that equal ones are equal: `attribute-30`, `modality-mar(age)-20`."""
        how = "" if self.mechanism == "mcar" else f"-{self.mechanism}"
        how += f"({self.given})" if self.given else ""
        how += "-independent" if self.independent else ""
        rates = ",".join(f"{name}={rate:g}" for name, rate in self.rates)
        return f"{self.level}{how}-{rates or f'{100 * self.rate:g}'}"

    @property
    def words(self) -> str:
        """Say who loses what."""
        share = ", ".join(f"{name} {percent(rate)}" for name, rate in self.rates)
        share = share or f"{percent(self.rate)} of the present cells of each column"
        return f"{share}; {self.law}"

    @property
    def law(self) -> str:
        """Say what is taken away and how it is chosen, whatever the rate."""
        what = "modalities" if self.level == "modality" else "attributes of the tables"
        drawn = "each cell by its own coin" if self.independent else "exact counts per column"
        relative = ", ".join(f"{name} {rate / self.rate:.4g}" for name, rate in self.rates)
        relative = f" (relative to the rate: {relative})" if relative else ""
        return f"{what}, {self._how}{relative}, {drawn}"

    @property
    def variant(self) -> str:
        """Say the same in a title's length; to be at random is not worth a word there."""
        what = "modalities" if self.level == "modality" else "attributes"
        return what if self.mechanism == "mcar" else f"{what}, {self._how}"

    @property
    def _how(self) -> str:
        return MECHANISMS[self.mechanism] + (f" ({self.given})" if self.given else "")


def percent(rate: float) -> str:
    """Write a share as `30 %`."""
    return f"{100 * rate:g} %"


def rate_of(gaps: Gaps | None) -> float:
    """Return the rate of gaps, 0 without any."""
    return gaps.rate if gaps else 0.0


def gaps_of(value: Mapping[str, Any]) -> Gaps:
    """Rebuild gaps from plain JSON."""
    rates = tuple((name, rate) for name, rate in value["rates"])
    return Gaps(**{**value, "rates": rates})


@dataclass(frozen=True)
class Setting:
    """How training is made incomplete; without gaps natural ones stay as they are."""

    gaps: Gaps | None = None

    @property
    def name(self) -> str:
        """`complete`, or the name of the gaps."""
        return self.gaps.name if self.gaps else "complete"


@dataclass(frozen=True)
class Condition:
    """One test setting, one column of a table.

    With a `subset` only these modalities are kept and only cases that have them all are scored,
    or with `every_case` all of them, from as much of the subset as they have: one that has none of
    it is given the class shares of training, whatever the method. With `gaps` cells are removed and
    all cases are scored. With neither, cases are as they are.
    """

    name: str
    long_name: str
    subset: Subset | None = None
    gaps: Gaps | None = None
    every_case: bool = False


def condition_of(value: Mapping[str, Any]) -> Condition:
    """Rebuild a condition from plain JSON."""
    subset, gaps = value["subset"], value["gaps"]
    return Condition(
        value["name"],
        value["long_name"],
        None if subset is None else tuple(subset),
        None if gaps is None else gaps_of(gaps),
        value.get("every_case", False),
    )


EVERY_CASE = "-every"  # ends the name of a subset's condition that scores all cases
AS_THEY_ARE = Condition("as-is", "all that a case has")


class ProtocolConfig(Frozen):
    """Settings of a protocol; those without any take none."""


class RatesConfig(ProtocolConfig):
    """What the rate protocols take."""

    rates: tuple[float, ...] = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), min_length=1, description="shares of cells that are absent"
    )
    level: Level = Field("attribute", description="whole modalities, or attributes of tables")
    mechanism: Mechanism = Field("mcar", description="how cells are chosen")
    given: str = Field("", description="the column of mar and block")
    unequal: dict[str, float] = Field(
        {}, description="of the mechanism unequal: relative rate per modality or attribute"
    )
    independent: bool = Field(False, description="each cell by its own coin")

    @field_validator("rates")
    @classmethod
    def _in_range(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        for rate in rates:
            if not 0 <= rate < 1:
                raise ValueError("a rate is a share of cells, from 0 to below 1")
        return tuple(dict.fromkeys(rates))

    def gaps(self, rate: float) -> Gaps | None:
        """Return the gaps at a rate; None at rate 0."""
        if rate == 0:
            return None
        rates = tuple((name, round(rate * each, 6)) for name, each in sorted(self.unequal.items()))
        return Gaps(rate, self.level, self.mechanism, self.given, rates, self.independent)


class Protocol(ABC):
    """A plugin that says which settings to train and which conditions to test."""

    name: ClassVar[str]
    display_name: ClassVar[str]
    selection: ClassVar[SelectionRule] = "as-trained"
    table: ClassVar[TableKind] = "subsets"
    axis: ClassVar[str] = ""  # what the rates of the columns are shares of, where they are rates
    config_class: ClassVar[type[ProtocolConfig]] = ProtocolConfig
    config: Any  # an instance of config_class

    def __init__(self, config: ProtocolConfig | None = None):
        self.config = self.config_class() if config is None else config

    def settings(self, dataset: Dataset) -> list[Setting]:
        """List the training settings; by default complete training alone."""
        return [Setting()]

    @abstractmethod
    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List the test conditions of a training setting."""

    def heading(self, setting: Setting, condition: Condition) -> Heading:
        """Say how tables head the column of this setting and condition."""
        return Heading(condition.name)

    def gaps(self) -> Gaps | None:
        """Return the gaps that all columns share but for their rate, None if there are none."""
        return None

    def variant(self) -> str:
        """Tell this protocol from itself with other gaps, in the length of a title."""
        gaps = self.gaps()
        return gaps.variant if gaps else ""

    def words(self) -> list[str]:
        """Say in a few lines who loses what, and when."""
        return []


class RatesProtocol(Protocol):
    """A protocol whose columns are missing rates."""

    table = "rates"
    config_class = RatesConfig

    def gaps(self) -> Gaps | None:
        """Return the gaps at the highest rate."""
        return self.config.gaps(max(self.config.rates))


def subset_condition(dataset: Dataset, subset: Subset, *, every_case: bool = False) -> Condition:
    """Build the condition that tests one availability subset."""
    name = subset_name(subset) + (EVERY_CASE if every_case else "")
    long_name = long_subset_name(subset, dataset.modality_names)
    return Condition(name, long_name, subset=subset, every_case=every_case)


def all_subset_conditions(dataset: Dataset, *, every_case: bool = False) -> list[Condition]:
    """List the conditions of every non-empty subset, by size."""
    return [
        subset_condition(dataset, subset, every_case=every_case)
        for subset in subsets(dataset.n_modalities)
    ]


def gaps_condition(gaps: Gaps | None) -> Condition:
    """Build the condition that tests gaps; None tests cases as they are."""
    if gaps is None:
        return AS_THEY_ARE
    return Condition(gaps.name, gaps.words, gaps=gaps)


def rates_in_words(rates: Sequence[float]) -> str:
    """Write rates as `0, 10, 20 %`."""
    return ", ".join(f"{100 * rate:g}" for rate in rates) + " %"
