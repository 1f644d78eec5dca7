"""A method that raises in its first training step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bench.data import Tokens
from bench.method import Progress

from .gated_sum import GatedSum


class Explodes(GatedSum):
    """Fail as a method with a mistake does."""

    name = "explodes"
    display_name = "Explodes"

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Raise."""
        raise RuntimeError("the toy gives up")


PLUGIN = Explodes
