"""How much memory a run needed: of the GPU as torch measures it, of the machine by process."""

from __future__ import annotations

import resource
import sys

import torch


def begin_measuring(device: str) -> None:
    """Forget what earlier runs of this process needed on the GPU, and give their memory back."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: str) -> dict[str, int]:
    """Return the facts of a run about memory.

    Returns:
        `peak_gpu_bytes` that torch reserved since `begin_measuring`, on a GPU alone, and
        `peak_process_bytes`: the most that this process ever held, earlier runs included.
    """
    kilo = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo
    facts = {"peak_process_bytes": most}
    if device.startswith("cuda"):
        facts["peak_gpu_bytes"] = torch.cuda.max_memory_reserved(device)
    return facts
