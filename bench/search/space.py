"""What a search varies: a method's own space, and the shared part of the training recipe.

A method declares its space by asking an Optuna trial (`Plugin.search_space`). What the user fixes
with `--set` or a configuration file is handed to the method without asking, so that it is no
parameter of the search.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from bench.errors import BadConfig, BadRequest, BenchError
from bench.request import checked
from bench.spec import Recipe

if TYPE_CHECKING:
    from bench.method import Plugin

LR = (1e-5, 1e-2)  # around the presets, wide enough for the ranges that the papers' sheets give
WEIGHT_DECAY = (1e-6, 1e-2)
N_PROBES = 8  # configurations drawn to check a space before anything is trained
MAX_COMBINATIONS = 256  # of choices that are looked through for the default


@dataclass(frozen=True)
class Configuration:
    """What one trial trains with."""

    method_config: Mapping[str, Any]
    recipe: Recipe


@dataclass(frozen=True, eq=False)
class Space:
    """The space of one search, around the configuration that the request gives."""

    plugin: type[Plugin]
    default: Configuration
    fixed: Mapping[str, Any]  # of the method, by the user
    fixed_recipe: Mapping[str, Any]  # of the recipe, by the user
    is_trained: bool  # by the engine, with the recipe

    def suggest(self, trial: Any) -> Configuration:
        """Ask a trial for one configuration.

        Raises:
            BadConfig: the method refuses what its space suggests.
            ValueError: the space contradicts itself, as Optuna says it.
        """
        name = self.plugin.name
        own = self.plugin.search_space(Suggestions(trial, self.fixed))  # type: ignore[arg-type]
        values = {**self.default.method_config, **own, **self.fixed}
        config = checked(self.plugin.config_class, values, name).model_dump(mode="json")
        shared = self._suggest_recipe(Suggestions(trial, self.fixed_recipe, prefix="recipe."))
        recipe = {**self.default.recipe.model_dump(), **shared}
        return Configuration(config, checked(Recipe, recipe, "recipe"))

    def _suggest_recipe(self, trial: Suggestions) -> dict[str, float]:
        if not self.is_trained:
            return {}
        return {
            "lr": trial.suggest_float("lr", *LR, log=True),
            "weight_decay": trial.suggest_float("weight_decay", *WEIGHT_DECAY, log=True),
        }

    def check(self) -> None:
        """Refuse a space that is empty or contradicts itself, before anything is trained.

        Raises:
            BadRequest: there is nothing to search.
            BadConfig: the space contradicts itself or the method's configuration.
        """
        import optuna

        with quiet_optuna():
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
            for _ in range(N_PROBES):
                trial = study.ask()
                try:
                    self.suggest(trial)
                except BenchError:
                    raise
                except Exception as error:
                    said = " ".join(str(error).split())
                    raise BadConfig(
                        f"the search space of {self.plugin.name} contradicts itself: "
                        f"{type(error).__name__}: {said}; mend its search_space"
                    ) from error
                if not trial.params:
                    raise BadRequest(
                        f"{self.plugin.name} has nothing to search: its search_space asks for no "
                        "value, or all of them are fixed by --set; leave it out, or free a setting"
                    )

    def default_params(self) -> dict[str, Any] | None:
        """Return the parameters that give the default; None if it lies outside the space.

        A parameter that is no setting of its own (a ratio of two widths) is looked for among its
        choices.
        """
        known = {**self.default.method_config}
        known |= {f"recipe.{key}": value for key, value in self.default.recipe.model_dump().items()}
        first = _Probe(known, {})
        self._matches(first)
        combinations = product(*first.unknown.values())
        for values in islice(combinations, MAX_COMBINATIONS):
            probe = _Probe(known, dict(zip(first.unknown, values, strict=True)))
            if self._matches(probe) and not probe.outside:
                return probe.params
        return None

    def _matches(self, probe: _Probe) -> bool:
        try:
            return self.suggest(probe) == self.default
        except (BadConfig, ValueError):
            return False


@dataclass(frozen=True, eq=False)
class Suggestions:
    """The trial as a method sees it: what is fixed is answered, the rest is asked.

    It has the `suggest_` methods of `optuna.Trial`; anything else is the trial's own.
    """

    trial: Any
    fixed: Mapping[str, Any]
    prefix: str = ""  # of the parameters' names

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trial, name)

    def suggest_float(self, name: str, low: float, high: float, **law: Any) -> float:
        """Suggest a real number; see `optuna.Trial.suggest_float`."""
        return self._ask("suggest_float", name, low, high, **law)

    def suggest_int(self, name: str, low: int, high: int, **law: Any) -> int:
        """Suggest a whole number; see `optuna.Trial.suggest_int`."""
        return self._ask("suggest_int", name, low, high, **law)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Suggest a choice; see `optuna.Trial.suggest_categorical`."""
        return self._ask("suggest_categorical", name, choices)

    def _ask(self, kind: str, name: str, *arguments: Any, **law: Any) -> Any:
        if name in self.fixed:
            return self.fixed[name]
        return getattr(self.trial, kind)(self.prefix + name, *arguments, **law)


@dataclass(eq=False)
class _Probe:
    """Answers with the defaults, and remembers which parameters have none."""

    known: Mapping[str, Any]
    chosen: Mapping[str, Any]
    params: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, Sequence[Any]] = field(default_factory=dict)  # name -> what to try
    outside: list[str] = field(default_factory=list)  # defaults that are not in their range

    def suggest_float(self, name: str, low: float, high: float, **law: Any) -> Any:
        """Answer with the default, if it lies between the bounds."""
        value = self.known.get(name, self.chosen.get(name, low))
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name not in self.known:
            self.unknown[name] = (low, high)
        elif not (is_number and low <= value <= high):
            self.outside.append(name)
            value = low
        self.params[name] = value
        return value

    suggest_int = suggest_float

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Answer with the default, if it is one of the choices."""
        value = self.known.get(name, self.chosen.get(name, choices[0]))
        if name not in self.known:
            self.unknown[name] = choices
        elif value not in choices:
            self.outside.append(name)
            value = choices[0]
        self.params[name] = value
        return value


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's own log, and its warnings of features that may change, from the screen."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
