"""A promise of a method: whether it held, and how closely numbers must agree."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import BadConfig
from bench.method import Plugin
from bench.request import checked

TOLERANCE = 1e-5  # between a row alone and among others: absolute, and relative to the logit


@dataclass(frozen=True)
class Check:
    """One promise and whether it held."""

    name: str
    passed: bool
    detail: str = ""


class Broken(Exception):
    """A promise that does not hold; its text says how."""


def settings_keep_to_their_limits(plugin: type[Plugin]) -> str:
    """Take the defaults, each preset and each ablation as settings, and name their law."""
    named = {f"preset {name!r}": values for name, values in plugin.presets.items()}
    named |= {f"ablation {name!r}": values for name, values in plugin.ablations.items()}
    for what, values in {"defaults": {}, **named}.items():
        try:
            config = checked(plugin.config_class, values, plugin.name)
        except BadConfig as error:
            raise Broken(f"{what}: {error}") from None
        if not isinstance(law := plugin.dropout_law(config), str):
            raise Broken(f"{what}: dropout_law must return words, got {law!r}")
    return f"{len(named)} presets and ablations"
