"""Faults of the user: printed as one line, exit code 2. A traceback is for our own bugs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """A fault of the user; its text says what is wrong, what came and what to do."""


class UnknownName(BenchError):
    """A name that nothing answers to."""


class BadData(BenchError):
    """A dataset whose files or cells cannot be read as promised."""


class Damaged(BadData):
    """A file of the store that is cut off or has changed since it was written; one run's fault."""


class BadConfig(BenchError):
    """A configuration key or value that is not allowed."""


class BadRequest(BenchError):
    """A request that cannot be carried out as asked."""


class Claimed(BadRequest):
    """A run that another process is at work on."""


class ClaimLost(BenchError):
    """A run that another process took over while this one was taken for dead."""


class BadPlugin(BenchError):
    """A plugin file that cannot be used."""


class GivenUp(BenchError):
    """A training that is not worth going on with: its checkpoints are of no use."""


class NotApplicable(BenchError):
    """A method that cannot take this dataset or setting; the cell is skipped with this reason."""


NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")  # as torch words it


def is_lack_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory, of the machine or of a GPU, is exhausted."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY)


def reason_for(error: BaseException) -> str:
    """Say in one line why a run failed."""
    if isinstance(error, BenchError):
        return str(error)
    if is_lack_of_memory(error):
        said = str(error).strip().partition("\n")[0]
        return f"memory ran out ({said}); lower the batch size, or the runs at a time"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def unknown(what: str, name: str, known: Iterable[str]) -> UnknownName:
    """Build the error for an unknown name, with the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        hint = f"did you mean {near[0]}?"
    elif names:
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        hint = f"known: {shown}"
    else:
        hint = "none are known here"
    return UnknownName(f"no {what} is named {name!r}; {hint}")
