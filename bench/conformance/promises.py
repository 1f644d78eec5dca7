"""A promise of a method: whether it held, and how closely numbers must agree."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE = 1e-5  # between a row alone and among others: absolute, and relative to the logit


@dataclass(frozen=True)
class Check:
    """One promise and whether it held."""

    name: str
    passed: bool
    detail: str = ""


class Broken(Exception):
    """A promise that does not hold; its text says how."""
