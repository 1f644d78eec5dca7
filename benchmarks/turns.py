"""Time two things in turns, A B A B, so that a load that comes and goes falls on both."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

Clock = Callable[[], float]
Timed = Callable[[], float]  # does its work and returns the seconds that count

WALL: Clock = time.perf_counter
CPU: Clock = time.process_time  # of this process: what others do on the machine is not in it


def children() -> float:
    """Return the processor time of all processes that this one started and waited for."""
    times = os.times()
    return times.children_user + times.children_system


@dataclass(frozen=True)
class Turns:
    """Seconds of two things, turn by turn."""

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def n(self) -> int:
        """The number of turns."""
        return len(self.first)

    @property
    def ratio(self) -> float:
        """Median over the turns of first / second."""
        return median(a / b for a, b in zip(self.first, self.second, strict=True))

    @property
    def times(self) -> str:
        """The medians of both, for a table."""
        return f"{in_words(median(self.first))} / {in_words(median(self.second))}"


def in_turns(first: Timed, second: Timed, n_turns: int) -> Turns:
    """Time both in turns, after one turn that does not count."""
    first(), second()
    pairs = [(first(), second()) for _ in range(n_turns)]
    return Turns(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def seconds(work: Callable[[], object], clock: Clock = WALL) -> float:
    """Return how long some work takes; the collector of garbage starts from a clean table."""
    gc.collect()
    started = clock()
    work()
    return clock() - started


def timed(work: Callable[[], object], clock: Clock = WALL) -> Timed:
    """Make some work a thing that `in_turns` times."""
    return lambda: seconds(work, clock)


def in_words(value: float) -> str:
    """Write seconds with three digits: `57.1 ms`, `2.31 s`."""
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
