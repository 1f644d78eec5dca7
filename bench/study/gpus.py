"""The GPUs of this machine, and which runs have room on them; asks nvidia-smi, imports no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.executor import Task

CONTEXT_BYTES = 700 * 2**20  # what CUDA takes of a GPU beside a process's tensors
SPARE = 0.95  # share of the free memory that is given away
QUERY = ("--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits")


@dataclass
class Gpu:
    """One GPU: how much of its memory was free at the start, and who was promised what of it."""

    name: str  # as CUDA_VISIBLE_DEVICES takes it
    free_bytes: int
    promised: dict[str, int | None] = field(default_factory=dict)  # task -> bytes; None: unknown

    def has_room(self, task: Task) -> bool:
        """Say whether a task fits beside those at work; an unknown one is measured alone."""
        if not self.promised:
            return True
        needs = [_with_context(each) for each in (*self.promised.values(), task.peak_bytes)]
        return None not in needs and sum(filter(None, needs)) <= SPARE * self.free_bytes

    def give(self, task: Task) -> None:
        """Promise a task what it needs."""
        self.promised[task.name] = task.peak_bytes

    def take_back(self, task: Task) -> None:
        """Free what a task was promised."""
        self.promised.pop(task.name, None)


def _with_context(n_bytes: int | None) -> int | None:
    return None if n_bytes is None else n_bytes + CONTEXT_BYTES


def uses_gpu(task: Task) -> bool:
    """Say whether a task takes a GPU where there is one."""
    return task.kind == "run" and task.payload.get("device") != "cpu"


def gpus() -> list[Gpu]:
    """List the GPUs that this process may use; none where there is no nvidia-smi or none works."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        done = subprocess.run(
            [command, *QUERY], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    found = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    named = [(index, uuid, free) for index, uuid, free in found if free.isdecimal()]
    return [Gpu(uuid, int(free) * 2**20) for index, uuid, free in named if _is_visible(index, uuid)]


def _is_visible(index: str, uuid: str) -> bool:
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return True
    names = [name.strip() for name in allowed.split(",")]
    return index in names or any(name and uuid.startswith(name) for name in names)


def next_task(waiting: Sequence[Task], gpu: Gpu | None) -> int | None:
    """Return the place of the first waiting task that a slot can take at once; None: none can."""
    for i, task in enumerate(waiting):
        if gpu is None or not uses_gpu(task) or gpu.has_room(task):
            return i
    return None
