"""A method that finds out while it is built that it cannot take the data."""

from __future__ import annotations

from bench.data import Task
from bench.errors import NotApplicable

from .gated_sum import GatedSum, GatedSumConfig


class Declines(GatedSum):
    """Take no tables."""

    name = "declines"
    display_name = "Declines"

    def __init__(self, task: Task, config: GatedSumConfig):
        raise NotApplicable("the toy takes no tables")


PLUGIN = Declines
