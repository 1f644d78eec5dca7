"""Commands that train: run, plan, ablate, sensitivity, tune."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.commands.options import (
    command,
    executor_options,
    keep_option,
    manner_options,
    run_options,
    study_run_options,
)
from bench.commands.requests import asked_of, session_of, study_of
from bench.errors import BadRequest

if TYPE_CHECKING:
    from bench.tuning.importance import EvaluatorName


@command()
@run_options
@manner_options
@click.option("--dry-run", is_flag=True, help="print the runs and stop")
@click.option("--fail-fast", is_flag=True, help="stop at the first failed run")
def run(*, limit: int | None, dry_run: bool, fail_fast: bool, **flags: Any) -> int:
    """Train what is not trained yet, test every condition, print the table."""
    session = session_of(**flags)
    return session.dry_run(limit) if dry_run else session.run(limit, fail_fast=fail_fast)


@command()
@run_options
def plan(*, limit: int | None, **flags: Any) -> int:
    """Print what `run` would do with the same flags: runs, states, reasons, time."""
    return session_of(**flags).dry_run(limit)


@command()
@study_run_options
@executor_options
@keep_option
def ablate(**flags: Any) -> int:
    """Train a method whole and with each of its named switches; print the differences."""
    request, carried = asked_of("ablation", **flags)
    from bench.variants.ablation import ablate

    return ablate(request, **carried)


@command()
@study_run_options
@executor_options
@click.option("--param", "params", multiple=True, help="NAME=VALUE,VALUE,...: repeat for several")
@click.option("--sequential", is_flag=True, help="keep the best of each before the next is varied")
@click.option("--grid", is_flag=True, help="all combinations of the values")
@click.option(
    "--importance",
    type=click.Choice(["ped-anova", "fanova"]),
    default="ped-anova",
    show_default=True,
    help="how a search's parameters are weighed",
)
@click.option("--storage", help="address of the searches' database, if they are not in files")
def sensitivity(
    *,
    params: tuple[str, ...],
    sequential: bool,
    grid: bool,
    importance: EvaluatorName,
    storage: str | None,
    **flags: Any,
) -> int:
    """Train a method at each value of some settings, one at a time; print and draw the scores.

    With --study NAME and without --param: what the settings of its finished searches do, and which
    method needs tuning.
    """
    if sequential and grid:
        raise BadRequest("--sequential and --grid exclude each other; give one of them")
    if not params and not flags["study"]:
        raise BadRequest(
            "nothing is varied; name a setting with --param memory_size=32,64,128, or a study of "
            "searches with --study"
        )
    if not params:
        from bench.tuning.importance import show_searches

        return show_searches(
            study_of(flags["out"] or Path("results"), flags["study"]),
            evaluator=importance,
            storage=storage,
            methods=flags["methods"],
            output=flags["output"],
            quiet=flags["quiet"],
        )
    request, carried = asked_of("sensitivity", **flags)
    from bench.variants.sensitivity import Mode, sweep

    mode: Mode = "sequential" if sequential else "grid" if grid else "alone"
    return sweep(request, params, mode, **carried)


@command()
@study_run_options
@executor_options
@click.option("--trials", type=click.IntRange(min=1), help="of each method; default: 20")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="seconds of trials of each method, added over processes",
)
@click.option(
    "--budget",
    type=click.Choice(["equal"]),
    help="refuse a budget that could give one method more trials and another more time",
)
@click.option("--shared-search", is_flag=True, help="one search for all folds; marked in reports")
@click.option("--tune-folds", default="", help="search only in these folds: 0-1 or 0,2")
@click.option("--sampler", type=click.Choice(["tpe", "random"]), default="tpe", show_default=True)
@click.option(
    "--pruner",
    type=click.Choice(["median", "halving", "none"]),
    default="median",
    show_default=True,
)
@click.option("--search-seed", default=0, show_default=True, help="of the sampler")
@click.option("--storage", help="address of an Optuna database; default: a file per search")
def tune(
    *,
    trials: int | None,
    timeout: float | None,
    budget: str | None,
    shared_search: bool,
    tune_folds: str,
    sampler: str,
    pruner: str,
    search_seed: int,
    storage: str | None,
    **flags: Any,
) -> int:
    """Search a method's settings on validation, inside each fold; write the best as YAML."""
    if budget == "equal" and trials is not None and timeout is not None:
        raise BadRequest(
            "--budget equal takes --trials or --timeout, not both: a slow method would stop at "
            "the time and a fast one at the number of trials"
        )
    if timeout is not None and not math.isfinite(timeout):
        raise BadRequest(
            f"--timeout wants a number of seconds, got {timeout}; leave it out for any"
        )
    request, carried = asked_of("tuning", **flags)
    from bench.search.law import Budget, Law
    from bench.search.ledger import JOURNAL
    from bench.tuning.planning import Plan
    from bench.tuning.report import tune

    law = Law(sampler, pruner, search_seed)  # type: ignore[arg-type]
    n_trials = 20 if trials is None and timeout is None else trials
    how = Plan(law, Budget(n_trials, timeout), shared_search, tune_folds, storage or JOURNAL)
    return tune(request, how, **carried)
