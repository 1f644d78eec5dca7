"""The options of the commands, in the groups that several share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

Command = Callable[..., int]
Decorator = Callable[[Command], Command]

PATH = click.Path(path_type=Path)


class LongHelp(click.Command):
    """A command of which the list of all says the whole first sentence."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return it, however long: lines are wrapped."""
        return super().get_short_help_str(max(limit, 200))


command = partial(click.command, cls=LongHelp)


def joined(*options: Decorator) -> Decorator:
    """Make one decorator of options that several commands share."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):  # so that --help lists them in this order
            command = option(command)
        return command

    return decorate


include_option = click.option(
    "--include", type=PATH, multiple=True, help="a plugin file or folder of yours; runs its code"
)
plugin_options = joined(
    include_option,
    click.option("--override", is_flag=True, help="let such a plugin take a built-in's name"),
)
study_options = joined(
    click.option("--study", default="main", show_default=True, help="name of the study"),
    click.option(
        "--out", type=PATH, default="results", show_default=True, help="folder of all studies"
    ),
)
format_option = click.option(
    "--format", "output", default="markdown", show_default=True, help="markdown, latex or csv"
)
metric_option = click.option(
    "--metric",
    multiple=True,
    help="ACC, AUC (both by default), BACC, F1, ECE, Brier or NLL; repeat for several",
)
test_options = joined(
    click.option(
        "--test",
        default="auto",
        show_default=True,
        help="auto (by the design), none, obuchowski-rockette, bootstrap, corrected-t, "
        "signed-rank, sign-flip, delong, mcnemar or wilcoxon-subsets",
    ),
    click.option(
        "--correction",
        default="holm",
        show_default=True,
        help="holm, holm-sidak, hommel, bonferroni, bh, by or none",
    ),
    click.option("--alpha", default=0.05, show_default=True, help="level of significance"),
)
claim_options = joined(
    click.option("--reference", default="", help="the row that the others are tested against"),
    test_options,
)


def _name_cache(context: click.Context, option: click.Parameter, folder: Path | None) -> None:
    """Set the folder for this process and its workers, which find it in the environment."""
    if folder is not None:
        os.environ["BENCH_CACHE_DIR"] = str(folder.absolute())


cache_option = click.option(
    "--cache-dir",
    type=PATH,
    expose_value=False,
    callback=_name_cache,
    help="folder of decoded pictures and frozen tokens",
)
# No option of a request has a default here: those of `bench.request.Request` stand below the
# configuration file, and a default of ours would override it.
request_options = joined(
    click.option("--method", "-m", "methods", multiple=True, help="NAME or NAME:PRESET; repeat"),
    click.option(
        "--dataset",
        "-d",
        "datasets",
        multiple=True,
        help="NAME or a YAML file of yours; repeat; default: wdbc",
    ),
    click.option("--preset", help="size of all: quick (default) or paper"),
    click.option(
        "--config",
        type=PATH,
        help="YAML file under the flags, or a paper's study, such as cmml-derm7pt",
    ),
    click.option(
        "--set",
        "pairs",
        multiple=True,
        help="SECTION.KEY=VALUE of recipe, encoder, a method, dataset or protocol; see `bench info "
        "SECTION`",
    ),
    click.option("--precision", help="auto (default), float32 or bf16"),
    click.option("--device", help="auto (default), cpu or cuda"),
    click.option("--threads", type=int, help="threads of each process; default: 1"),
    click.option("--data-root", type=PATH, help="folder of the dataset's files"),
    cache_option,
    plugin_options,
    format_option,
)
study_run_options = joined(
    request_options,
    click.option(
        "--protocol", "-p", "protocols", multiple=True, help="NAME; repeat; default: all-subsets"
    ),
    click.option("--folds", help="0-4 or 0,2; default: all"),
    click.option("--n-folds", type=int, help="number of folds"),
    click.option("--seeds", help="0-2 or 0,7; default: the dataset's"),
    click.option("--split", help="leave-one-group-out=COLUMN: fold k tests its k-th value"),
    click.option("--rates", help="missing rates: 0,0.1,0.3"),
    click.option("--level", help="what is missing: modality or attribute"),
    click.option("--mechanism", help="mcar, unequal, mar, mnar-value, mnar-label or block"),
    click.option("--given", help="the column of mar and block"),
    click.option("--independent", is_flag=True, help="draw each cell by its own coin"),
    click.option("--train-rate", type=float, help="missing rate in training"),
    click.option(
        "--every-case", is_flag=True, help="score all cases in each subset, from what they have"
    ),
    click.option("--balance", help="of classes: none (default), weights or batches"),
    click.option("--train-dropout", help="of modalities: own (default), none or uniform"),
    click.option(
        "--selection",
        help="how epochs are chosen: all-subsets, as-trained, complete; default: the protocol's",
    ),
    click.option("--floor/--no-floor", default=None, help="the shallow floor; default: with it"),
    click.option("--out", type=PATH, help="folder of all studies; default: results"),
    click.option("--study", help="name of the study; default: main, or the command's own"),
    click.option(
        "--checkpoint-every",
        type=click.FloatRange(min=0),
        help="seconds between checkpoints of a training; default: 30; 0: after every epoch",
    ),
    click.option(
        "--keep-checkpoints", is_flag=True, default=None, help="keep them when a run is done"
    ),
    click.option("--jobs", "-j", default=1, show_default=True, help="runs at a time"),
    click.option("--quiet", "-q", is_flag=True, help="no progress"),
)
executor_options = joined(
    click.option("--executor", default="", help="inline, processes, slurm; default: by --jobs"),
    click.option("--executor-config", type=PATH, help="YAML file of the executor's settings"),
    click.option("--time-limit", help="of a run: 90s, 30m, 2h; one that takes longer has failed"),
    click.option("--verbose", "-v", is_flag=True, help="a line for every run that ends"),
)
manner_options = joined(
    executor_options,
    click.option("--detach", is_flag=True, help="submit and leave, with an executor that can"),
)
keep_option = click.option(
    "--keep-representations", is_flag=True, default=None, help="of the test cases, for figures"
)
run_options = joined(
    study_run_options,
    keep_option,
    click.option("--limit", type=int, help="only so many runs, the first"),
)
