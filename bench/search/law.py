"""How a search chooses and stops, and what it may spend: all that its trials share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from bench.search.space import quiet_optuna
from bench.seeds import seed_for

if TYPE_CHECKING:
    import optuna

SamplerName = Literal["tpe", "random"]
PrunerName = Literal["median", "halving", "none"]


@dataclass(frozen=True)
class Law:
    """How a search chooses and stops: all that Optuna's versions may set otherwise."""

    sampler: SamplerName = "tpe"
    pruner: PrunerName = "median"
    seed: int = 0
    n_startup_trials: int = 10  # drawn at random before TPE models them
    n_ei_candidates: int = 24
    multivariate: bool = False  # the default of Optuna 4; 5 changed it
    constant_liar: bool = True  # trials at work count as bad, so that two do not ask for the same
    pruner_startup_trials: int = 5  # finished before any is stopped by the median
    warmup: int = 5  # epochs that no trial is stopped in
    reduction_factor: int = 3  # of successive halving

    def make_sampler(self, place: int) -> optuna.samplers.BaseSampler:
        """Make the sampler of one trial, seeded by its place, so that a search can be resumed."""
        import optuna

        seed = seed_for("sampler", self.seed, place) % 2**32
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with quiet_optuna():
            return optuna.samplers.TPESampler(
                n_startup_trials=self.n_startup_trials,
                n_ei_candidates=self.n_ei_candidates,
                multivariate=self.multivariate,
                group=False,
                constant_liar=self.constant_liar,
                seed=seed,
            )

    def make_pruner(self) -> optuna.pruners.BasePruner:
        """Make the pruner."""
        import optuna

        if self.pruner == "none":
            return optuna.pruners.NopPruner()
        if self.pruner == "halving":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=max(1, self.warmup),
                reduction_factor=self.reduction_factor,
                min_early_stopping_rate=0,
                bootstrap_count=0,
            )
        return optuna.pruners.MedianPruner(
            n_startup_trials=self.pruner_startup_trials,
            n_warmup_steps=self.warmup,
            interval_steps=1,
            n_min_trials=1,
        )

    def words(self) -> str:
        """Say it in one sentence's part."""
        sampler = {
            "tpe": f"TPE ({self.n_startup_trials} random first, one parameter at a time)",
            "random": "random",
        }[self.sampler]
        pruner = {
            "none": "none",
            "median": f"median of at least {self.pruner_startup_trials} trials",
            "halving": f"successive halving by {self.reduction_factor}",
        }[self.pruner]
        spared = "" if self.pruner == "none" else f", from epoch {self.warmup} on"
        return f"sampler {sampler}, seed {self.seed}; pruner {pruner}{spared}"

    def to_json(self) -> dict[str, Any]:
        """Return what `Law(**...)` takes."""
        return asdict(self)


@dataclass(frozen=True)
class Budget:
    """What one search may spend; a search stops at the first that is reached."""

    n_trials: int | None = None  # finished ones
    seconds: float | None = None  # of trials, added over processes

    def is_spent(self, n_finished: int, seconds: float) -> bool:
        """Tell whether no further trial may begin."""
        over = self.n_trials is not None and n_finished >= self.n_trials
        return over or (self.seconds is not None and seconds >= self.seconds)
