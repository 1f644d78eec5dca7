"""An executor that says which task it carries out, and else is the built-in inline."""

from __future__ import annotations

import sys

from bench.executor import Outcome
from bench.executors.inline import Inline


class Aloud(Inline):
    """Carries a task out at each poll and names it."""

    def poll(self) -> list[Outcome]:
        """Carry out the next task."""
        print(f"aloud: {self.waiting[0].name}", file=sys.stderr)
        return super().poll()


PLUGIN = Aloud
