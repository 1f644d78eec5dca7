"""Progress with time left on stderr; silent when stderr is not a terminal."""

from __future__ import annotations

import sys
from typing import Any

from bench.executor import CLAIMED, Listener, Outcome, Silent


class Bar:
    """A rich progress bar over all runs; a share of a run counts as a share of a step."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.progress: Any = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.bar: Any = None
        self.shares: dict[str, float] = {}
        self.n_done = 0

    def started(self, n_tasks: int) -> None:
        """Show the bar."""
        if n_tasks and self.bar is None:
            self.bar = self.progress.add_task("runs", total=n_tasks)
            self.progress.start()
        elif n_tasks:
            self.progress.update(self.bar, total=self.n_done + n_tasks)

    def advanced(self, name: str, share: float) -> None:
        """Move by a share of a run."""
        self.shares[name] = share
        self._show(name)

    def ended(self, outcome: Outcome, seconds: float) -> None:
        """Count a run as over; name one that failed."""
        self.shares.pop(outcome.name, None)
        self.n_done += outcome.fault != CLAIMED  # whose end is still to come
        if outcome.error and not outcome.unreadable:  # which the study ends with
            self.progress.console.print(f"failed: {outcome.name}: {outcome.error}", markup=False)
        self._show(outcome.name)

    def _show(self, name: str) -> None:
        self.progress.update(
            self.bar, completed=self.n_done + sum(self.shares.values()), description=name[:32]
        )

    def close(self) -> None:
        """Remove the bar."""
        self.progress.stop()


class Lines(Silent):
    """Says on stderr which runs failed, and nothing else."""

    def ended(self, outcome: Outcome, seconds: float) -> None:
        """Name a run that failed."""
        if outcome.error and not outcome.unreadable:  # which the study ends with
            print(f"failed: {outcome.name}: {outcome.error}", file=sys.stderr)

    def close(self) -> None:
        """Nothing is held."""


def listener(*, quiet: bool) -> Bar | Lines:
    """Return a bar on a terminal, lines elsewhere."""
    return Lines() if quiet or not sys.stderr.isatty() else Bar()


__all__ = ["Bar", "Lines", "Listener", "listener"]
