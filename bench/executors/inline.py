"""In this process, one task after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from functools import partial

from bench.executor import Executor, Means, Outcome, Task, retry_of
from bench.study.worker import perform


class Inline(Executor):
    """Carries a task out at each `poll`."""

    ends_hangs = False

    def __init__(self, means: Means | None = None):
        super().__init__(means)
        self.waiting: deque[Task] = deque()

    @property
    def n_open(self) -> int:
        """How many tasks wait."""
        return len(self.waiting)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take tasks, carried out in the order given."""
        self.waiting.extend(tasks)

    def poll(self) -> list[Outcome]:
        """Carry out the next task."""
        task = self.waiting.popleft()
        started = time.monotonic()
        outcome = perform(task, partial(self.listener.advanced, task.name))
        again = retry_of(task, outcome)
        if again is not None:
            outcome = perform(again, partial(self.listener.advanced, task.name))
        self.listener.ended(outcome, time.monotonic() - started)
        return [outcome]

    def cancel(self) -> None:
        """Withdraw what waits."""
        self.waiting.clear()

    def close(self) -> None:
        """Nothing is held."""


PLUGIN = Inline
