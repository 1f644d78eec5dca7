"""Words for numbers and lists, wherever something is said to a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

N_NAMED = 10  # files or names that an error lists before it says how many more there are
HARD = ("epoch",)  # a ch that is spoken as k


def counted(n: int, word: str) -> str:
    """Write a number with its word: `1 seed`, `3 epochs`, `2 searches`."""
    plural = "es" if word.endswith("ch") and word not in HARD else "s"
    return f"{n} {word}" if n == 1 else f"{n} {word}{plural}"


def listed(names: Iterable[str]) -> str:
    """Join names: `a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def some_of(names: Sequence[str]) -> str:
    """Write out a list of names, cut after the first ten."""
    more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
    return ", ".join(names[:N_NAMED]) + more
