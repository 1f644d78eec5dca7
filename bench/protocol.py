"""What a protocol is: where missingness is applied, in training and at test, and how much.

A protocol names training settings and test conditions; it never draws a pattern itself.
`bench/patterns.py` draws it from (dataset, level, mechanism, part, repeat) alone, so that every method sees the same gaps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from bench.availability import Subset, long_subset_name, subset_name, subsets
from bench.data import Dataset

SelectionRule = Literal["all-subsets", "as-trained", "complete"]


@dataclass(frozen=True)
class Setting:
    """How training is made incomplete; `complete` leaves natural gaps as they are."""

    name: str = "complete"


@dataclass(frozen=True)
class Condition:
    """One test setting: one column of a table. `subset` keeps only these modalities."""

    name: str
    long_name: str
    subset: Subset


class Protocol(ABC):
    """A plugin that says which settings to train and which conditions to test."""

    name: ClassVar[str]
    display_name: ClassVar[str]
    selection: ClassVar[SelectionRule] = "as-trained"

    def settings(self, dataset: Dataset) -> list[Setting]:
        """List the training settings; by default complete training alone."""
        return [Setting()]

    @abstractmethod
    def conditions(self, dataset: Dataset, setting: Setting) -> list[Condition]:
        """List the test conditions of a training setting."""


def subset_condition(dataset: Dataset, subset: Subset) -> Condition:
    """Build the condition that tests one availability subset."""
    return Condition(subset_name(subset), long_subset_name(subset, dataset.modality_names), subset)


def all_subset_conditions(dataset: Dataset) -> list[Condition]:
    """List the conditions of every non-empty subset, by size."""
    return [subset_condition(dataset, subset) for subset in subsets(dataset.n_modalities)]
