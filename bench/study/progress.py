"""Progress with time left on stderr; silent when stderr is not a terminal."""

from __future__ import annotations

import sys
from typing import Any

from bench.executor import CLAIMED, Listener, Outcome, Silent


class Bar:
    """A rich progress bar over all runs; a share of a run counts as a share of a step."""

    def __init__(self, *, verbose: bool = False) -> None:
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
        self.verbose = verbose
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
        """Count a run as over; say of it what is to be said."""
        self.shares.pop(outcome.name, None)
        self.n_done += outcome.fault != CLAIMED  # whose end is still to come
        line = _line(outcome, seconds, verbose=self.verbose)
        if line:
            self.progress.console.print(line, markup=False, highlight=False)
        self._show(outcome.name)

    def _show(self, name: str) -> None:
        self.progress.update(
            self.bar, completed=self.n_done + sum(self.shares.values()), description=name[:32]
        )

    def close(self) -> None:
        """Remove the bar."""
        self.progress.stop()


class Lines(Silent):
    """Says on stderr which runs failed; verbose: how every run ended."""

    def __init__(self, *, verbose: bool = False) -> None:
        self.verbose = verbose

    def ended(self, outcome: Outcome, seconds: float) -> None:
        """Say of a run what is to be said."""
        line = _line(outcome, seconds, verbose=self.verbose)
        if line:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is held."""


def _line(outcome: Outcome, seconds: float, *, verbose: bool) -> str:
    """Say how a run ended: a failed one always, any other if asked; empty: nothing."""
    if outcome.fault == CLAIMED:
        return f"at work elsewhere: {outcome.name}" if verbose else ""
    if outcome.unreadable:  # which the study ends with
        return ""
    if outcome.error:
        return f"failed: {outcome.name}: {outcome.error}"
    took = f", {seconds:.1f} s" if seconds else ""  # on a cluster it is not known
    return f"ended: {outcome.name}{took}" if verbose else ""


def listener(*, quiet: bool, verbose: bool = False) -> Bar | Lines:
    """Return a bar on a terminal, lines elsewhere; verbose: a line for every run that ends."""
    if quiet or not sys.stderr.isatty():
        return Lines(verbose=verbose)
    return Bar(verbose=verbose)


__all__ = ["Bar", "Lines", "Listener", "listener"]
