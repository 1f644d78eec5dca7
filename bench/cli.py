"""The command line. Imports late: `bench --help` and `bench list` touch no plugin and no torch."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import __version__
from bench.errors import BadRequest, BenchError

if TYPE_CHECKING:
    from bench.importance import EvaluatorName
    from bench.request import Request
    from bench.session import Manner, Session
    from bench.significance import Claim
    from bench.store import StudyFolder

Command = Callable[..., int]
Decorator = Callable[[Command], Command]

PATH = click.Path(path_type=Path)


def _joined(*options: Decorator) -> Decorator:
    """Make one decorator of options that several commands share."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):  # so that --help lists them in this order
            command = option(command)
        return command

    return decorate


_include_option = click.option(
    "--include", type=PATH, multiple=True, help="a plugin file or folder of yours; runs its code"
)
_plugin_options = _joined(
    _include_option,
    click.option("--override", is_flag=True, help="let such a plugin take a built-in's name"),
)
_study_options = _joined(
    click.option("--study", default="main", show_default=True, help="name of the study"),
    click.option(
        "--out", type=PATH, default="results", show_default=True, help="folder of all studies"
    ),
)
_format_option = click.option(
    "--format", "output", default="markdown", show_default=True, help="markdown, latex or csv"
)
_metric_option = click.option(
    "--metric",
    multiple=True,
    help="ACC, AUC (both by default), BACC, F1, ECE, Brier or NLL; repeat for several",
)


_test_options = _joined(
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
_claim_options = _joined(
    click.option("--reference", default="", help="the row that the others are tested against"),
    _test_options,
)


def _name_cache(context: click.Context, option: click.Parameter, folder: Path | None) -> None:
    """Set the folder for this process and its workers, which find it in the environment."""
    if folder is not None:
        os.environ["BENCH_CACHE_DIR"] = str(folder.absolute())


_cache_option = click.option(
    "--cache-dir",
    type=PATH,
    expose_value=False,
    callback=_name_cache,
    help="folder of decoded pictures and frozen tokens",
)

# No option of a request has a default here: those of `bench.request.Request` stand below the
# configuration file, and a default of ours would override it.
_request_options = _joined(
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
    _cache_option,
    _plugin_options,
    _format_option,
)
_study_run_options = _joined(
    _request_options,
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
_executor_options = _joined(
    click.option("--executor", default="", help="inline, processes, slurm; default: by --jobs"),
    click.option("--executor-config", type=PATH, help="YAML file of the executor's settings"),
    click.option("--time-limit", help="of a run: 90s, 30m, 2h; one that takes longer has failed"),
    click.option("--verbose", "-v", is_flag=True, help="a line for every run that ends"),
)
_manner_options = _joined(
    _executor_options,
    click.option("--detach", is_flag=True, help="submit and leave, with an executor that can"),
)
_keep_option = click.option(
    "--keep-representations", is_flag=True, default=None, help="of the test cases, for figures"
)
_run_options = _joined(
    _study_run_options,
    _keep_option,
    click.option("--limit", type=int, help="only so many runs, the first"),
)


class _Command(click.Command):
    """A command of which the list of all says the whole first sentence."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return it, however long: lines are wrapped."""
        return super().get_short_help_str(max(limit, 200))


class _Commands(click.Group):
    command_class = _Command


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
@click.version_option(__version__, message="bench %(version)s")
@click.pass_context
def app(context: click.Context) -> int:
    """Train methods for missing modalities, score every availability pattern, print the table.

    Exit codes: 0 all is there, 1 some runs failed, 2 the request was wrong, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
    return 0


@app.command()
@_run_options
@_manner_options
@click.option("--dry-run", is_flag=True, help="print the runs and stop")
@click.option("--fail-fast", is_flag=True, help="stop at the first failed run")
def run(*, limit: int | None, dry_run: bool, fail_fast: bool, **flags: Any) -> int:
    """Train what is not trained yet, test every condition, print the table."""
    session = _session(**flags)
    return session.dry_run(limit) if dry_run else session.run(limit, fail_fast=fail_fast)


@app.command()
@_run_options
def plan(*, limit: int | None, **flags: Any) -> int:
    """Print what `run` would do with the same flags: runs, states, reasons, time."""
    return _session(**flags).dry_run(limit)


def _session(
    *,
    config: Path | None,
    pairs: tuple[str, ...],
    jobs: int,
    quiet: bool,
    output: str,
    **flags: Any,
) -> Session:
    manner = _manner(flags)
    request = _request(_fields(**flags), config, pairs)
    from bench.session import Session

    return Session(request, jobs=jobs, quiet=quiet, output=output, manner=manner)


def _manner(flags: dict[str, Any]) -> Manner:
    """Take out of the flags how runs are carried out; a command need not have all of them."""
    from bench.session import Manner, seconds_of

    limit = seconds_of(flags.pop("time_limit", None))
    settings = flags.pop("executor_config", None)
    rest = {name: flags.pop(name) for name in ("executor", "detach", "verbose") if name in flags}
    return Manner(settings=settings, time_limit=limit, **rest)


def _fields(
    *,
    split: str | None,
    rates: str | None,
    level: str | None,
    mechanism: str | None,
    given: str | None,
    independent: bool,
    train_rate: float | None,
    every_case: bool,
    out: Path | None,
    **flags: Any,
) -> dict[str, Any]:
    """Turn the flags of a run into fields of a request; None or empty: not given."""
    gaps = {
        "rates": _rates(rates),
        "level": level,
        "mechanism": mechanism,
        "given": given,
        "independent": independent or None,
        "train_rate": train_rate,
        "every_case": every_case or None,
    }
    return flags | {
        "split_by": _split_by(split),
        "gaps": {key: value for key, value in gaps.items() if value is not None},
        "out": str(out) if out else None,
    }


def _split_by(text: str | None) -> str | None:
    """Read `leave-one-group-out=COLUMN`."""
    if text is None:
        return None
    scheme, _, column = text.partition("=")
    if scheme != "leave-one-group-out" or not column:
        raise BadRequest(f"--split wants leave-one-group-out=COLUMN, got {text!r}")
    return column


def _rates(text: str | None) -> list[float] | None:
    """Read `0,0.1,0.3`."""
    if text is None:
        return None
    try:
        return [float(piece) for piece in text.split(",")]
    except ValueError:
        raise BadRequest(f"--rates wants numbers such as 0,0.1,0.3, got {text!r}") from None


def _request(flags: dict[str, Any], config: Path | None, pairs: tuple[str, ...]) -> Request:
    """Lay the flags over the configuration file."""
    from bench import request as requests

    flags = flags | {
        "data_root": str(flags["data_root"]) if flags["data_root"] else None,
        "include": [str(path) for path in flags["include"]],
        "override": flags["override"] or None,
    }

    file = requests.read_config(config) if config else {}
    asked = requests.layered(file, flags, pairs)
    if not asked.get("methods"):
        raise BadRequest("no method is asked for; name one with --method, see `bench list methods`")
    request: Request = requests.checked(requests.Request, asked, "run")
    if not (config and flags["protocols"] and request.gaps):
        return request
    from bench.narrowing import narrowed

    request, said = narrowed(request, flags["gaps"])
    if said:
        print(said, file=sys.stderr)
    return request


@app.command()
@_study_run_options
@_executor_options
@_keep_option
def ablate(**flags: Any) -> int:
    """Train a method whole and with each of its named switches; print the differences."""
    request, carried = _asked("ablation", **flags)
    from bench.ablation import ablate

    return ablate(request, **carried)


@app.command()
@_study_run_options
@_executor_options
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
        from bench.importance import show_searches

        return show_searches(
            _study(flags["out"] or Path("results"), flags["study"]),
            evaluator=importance,
            storage=storage,
            methods=flags["methods"],
            output=flags["output"],
            quiet=flags["quiet"],
        )
    request, carried = _asked("sensitivity", **flags)
    from bench.sensitivity import Mode, sweep

    mode: Mode = "sequential" if sequential else "grid" if grid else "alone"
    return sweep(request, params, mode, **carried)


@app.command()
@_study_run_options
@_executor_options
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
    request, carried = _asked("tuning", **flags)
    from bench.ledger import JOURNAL
    from bench.search_law import Budget, Law
    from bench.search_planning import Plan
    from bench.tuning_report import tune

    law = Law(sampler, pruner, search_seed)  # type: ignore[arg-type]
    n_trials = 20 if trials is None and timeout is None else trials
    how = Plan(law, Budget(n_trials, timeout), shared_search, tune_folds, storage or JOURNAL)
    return tune(request, how, **carried)


def _asked(
    usual_study: str, *, config: Path | None, pairs: tuple[str, ...], **flags: Any
) -> tuple[Request, dict[str, Any]]:
    """Build the request of a command whose study is named after it, and how it is carried out."""
    carried = {key: flags.pop(key) for key in ("jobs", "quiet", "output")}
    carried["manner"] = _manner(flags)
    request = _request(_fields(**flags), config, pairs)
    if "study" not in request.model_fields_set:
        request = request.model_copy(update={"study": usual_study})
    return request, carried


@app.command()
@click.argument("dataset")
@click.option("--set", "pairs", multiple=True, help="DATASET.KEY=VALUE")
@click.option("--data-root", type=PATH, help="folder of the dataset's files")
@click.option("--out", type=PATH, default="results", show_default=True, help="for the figure")
@click.option("--attributes", type=PATH, help="write what reports mention here, to be corrected")
@_cache_option
@_include_option
def prepare(
    dataset: str,
    pairs: tuple[str, ...],
    data_root: Path | None,
    out: Path,
    attributes: Path | None,
    include: tuple[Path, ...],
) -> int:
    """Check a dataset, by name or YAML file; print and draw its modalities, classes and gaps."""
    from bench.preparation import prepare_lines
    from bench.request import settings_of

    for line in prepare_lines(dataset, settings_of(pairs), data_root, list(include), out):
        print(line)
    if attributes is not None:
        from bench.manifest.attribute_tables import write_tables

        for line in write_tables(Path(dataset), data_root, attributes):
            print(line)
    return 0


@app.command("list")
@click.argument("kind", required=False)
@click.option("--check", is_flag=True, help="import each and show why one fails")
@_plugin_options
def list_plugins(kind: str | None, check: bool, include: tuple[Path, ...], override: bool) -> int:
    """List the plugins of a KIND (methods, datasets, protocols, reports, executors) or all."""
    from bench.plugin_listing import list_lines

    for line in list_lines(kind, check=check, include=include, override=override):
        print(line)
    return 0


@app.command()
@click.argument("name")
@_plugin_options
def info(name: str, include: tuple[Path, ...], override: bool) -> int:
    """Print what a plugin says of itself: source, settings, presets, ablations, limits.

    NAME is a plugin, or one of recipe, encoder and augment, which all methods of a study share.
    """
    from bench.plugin_info import info_lines

    for line in info_lines(name, include, override=override):
        print(line)
    return 0


@app.command("test")
@click.argument("name")
@_plugin_options
def check_plugin(name: str, include: tuple[Path, ...], override: bool) -> int:
    """Run the conformance suite on one plugin: a name, or a file of yours."""
    from bench.conformance import run_suite

    return run_suite(name, include, override=override)


@app.command()
@click.argument("kind")
@click.argument("name")
@click.option("--folder", type=PATH, help="where to write it; default: here, or beside the data")
def new(kind: str, name: str, folder: Path | None) -> int:
    """Write a first version: `bench new method NAME`, or `bench new dataset FOLDER` of your data.

    Of a folder with a table, pictures and volumes a YAML file is proposed; nothing is overwritten.
    """
    if kind == "dataset":
        from bench.manifest.proposal import new_dataset
        from bench.registry import Registry

        print(new_dataset(Path(name), folder, Registry().names("dataset")))
        return 0
    from bench.scaffold import new_method

    if kind != "method":
        raise BadRequest(
            f"`bench new` writes a method or a dataset, got {kind!r}; say `bench new method {name}`"
        )
    for path in new_method(name, folder or Path()):
        print(path)
    return 0


@app.command()
@click.argument("action", type=click.Choice(["list", "size", "clear"]), default="list")
@click.option("--kind", default="", help="clear only pictures, tokens, text, answers or statistics")
@_cache_option
def cache(action: str, kind: str) -> int:
    """List what was made once and kept, add it up, or clear it; all can be made again."""
    from bench.cache_folder import cache_folder, clear, entries, in_words
    from bench.plugin_listing import aligned

    if action == "clear":
        print(f"freed {in_words(clear(kind))}")
        return 0
    kept = entries()
    if action == "list":
        lines = aligned([(each.kind, in_words(each.n_bytes), each.name) for each in kept])
        print("\n".join([*lines, str(cache_folder())]))
    print(in_words(sum(each.n_bytes for each in kept)))
    return 0


@app.command()
@_study_options
@click.option("--watch", is_flag=True, help="look again and again, until no run is open")
@click.option(
    "--every",
    type=click.FloatRange(0.1, 86400),
    default=5.0,
    show_default=True,
    help="seconds between looks",
)
def status(study: str, out: Path, *, watch: bool, every: float) -> int:
    """Say of every run of a study what became of it; reads files, and the queue of Slurm."""
    from bench import standing

    folder = _study(out, study)
    for page in standing.watch(folder, every if watch else None):
        if watch:
            click.clear()  # of a terminal alone
        print(page, flush=True)
    return 0


@app.command()
@_study_options
def cancel(study: str, out: Path) -> int:
    """End all work on a study, on this machine and in the queue of Slurm; what is done stays."""
    from bench.upkeep import cancel_lines

    for line in cancel_lines(_study(out, study)):
        print(line)
    return 0


@app.command()
@_study_options
@click.option("--failed", is_flag=True, help="the failed runs: all that there is to retry")
@click.option("--jobs", "-j", default=1, show_default=True, help="runs at a time")
@click.option("--quiet", "-q", is_flag=True, help="no progress")
@_manner_options
def retry(
    study: str,
    out: Path,
    *,
    failed: bool,
    jobs: int,
    quiet: bool,
    **flags: Any,
) -> int:
    """Run the failed runs of a study again, as they were asked for; 1: some failed again."""
    from bench.session import retry_failed

    if not failed:
        raise BadRequest("say what to retry: --failed; `bench run` does what was never finished")
    return retry_failed(_study(out, study), jobs=jobs, quiet=quiet, manner=_manner(flags))


@app.command()
@_study_options
@click.option(
    "--only",
    type=click.Choice(["unfinished", "failed", "stale", "logs"]),
    multiple=True,
    help="repeat for several; default: all four",
)
@click.option("--yes", is_flag=True, help="do not ask")
def clean(study: str, out: Path, *, only: tuple[str, ...], yes: bool) -> int:
    """Remove runs that failed, were interrupted or are stale, and old logs; asks first."""
    from bench.cache_folder import in_words
    from bench.plugin_listing import aligned
    from bench.upkeep import remove, waste

    folder = _study(out, study)
    found = waste(folder, only)
    lines = aligned([(each.path.name, in_words(each.n_bytes), each.why) for each in found])
    print("\n".join(lines) if found else "nothing to remove")
    if found and not yes:
        _ask(f"remove these {len(found)} folders?")
    remove(found)
    folder.sweep()
    return 0


def _ask(question: str) -> None:
    """Ask on the terminal and stop unless the answer is yes.

    Raises:
        BadRequest: nobody is there to answer.
        Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        raise BadRequest("nobody is there to be asked; say --yes to remove without asking")
    click.confirm(question, abort=True, err=True)


@app.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--into", required=True, help="name of the study that takes them")
@click.option(
    "--out", type=PATH, default="results", show_default=True, help="folder of all studies"
)
def merge(sources: tuple[str, ...], into: str, out: Path) -> int:
    """Put runs and searches of SOURCES, names or folders of studies, into one; 1: some are left."""
    from bench.merging import merge, merged_lines
    from bench.search_merging import merge_searches
    from bench.store import StudyFolder

    target = StudyFolder(out, into)
    studies = [_source(out, each) for each in sources]
    merged = [*merge(studies, target), *merge_searches(studies, target)]
    print("\n".join(merged_lines(merged, target)))
    return 1 if any(each.conflict or (each.damaged and not each.taken) for each in merged) else 0


def _source(out: Path, text: str) -> StudyFolder:
    """Find a study by its name below the folder of all, or by its own folder."""
    path = Path(text)
    return _study(path.parent, path.name) if path.is_dir() else _study(out, text)


@app.command()
@_study_options
@_format_option
@_metric_option
@click.option("--condition", multiple=True, help="only this column; repeat for several")
@click.option("--by", default="", help="a column of the dataset: a block of rows per value")
@click.option("--common-cases", is_flag=True, help="only the cases that every column has")
@click.option("--weight", multiple=True, help="CONDITION=PROBABILITY: adds Expected and Worst")
@click.option("--weights", type=PATH, help="YAML file of probabilities by condition")
@click.option("--worst", is_flag=True, help="add each row's worst column")
@click.option("--monotonicity", is_flag=True, help="list where more scores worse")
@click.option("--digits", type=click.IntRange(0, 9), help="number after the point")
@click.option("--published", is_flag=True, help="the papers' printed cells below")
@click.option("--report", "report_name", default="", help="what makes the tables, one of yours too")
@_claim_options
@_plugin_options
def table(
    study: str,
    out: Path,
    output: str,
    metric: tuple[str, ...],
    condition: tuple[str, ...],
    weight: tuple[str, ...],
    weights: Path | None,
    report_name: str,
    include: tuple[Path, ...],
    override: bool,
    **flags: Any,
) -> int:
    """Print the tables of a study from its stored predictions."""
    from bench.report import ReportOptions, weights_of
    from bench.reporting import MadeBy, metrics_of, print_study

    claim, shown = _claim(**flags)
    probabilities = weights_of(weight, weights)
    options = ReportOptions(metrics_of(metric), weights=probabilities, claim=claim, **shown)
    made_by = MadeBy(report_name, include, override)
    print_study(_study(out, study), output, options, condition, made_by)
    return 0


@app.command()
@_study_options
def check(study: str, out: Path) -> int:
    """Check that all asked cells are there and that all rows had the same; 1: there is a fault."""
    from bench import checking

    checks = checking.check(_study(out, study))
    print("\n".join(checking.lines_of(checks)))
    return 1 if any(each.faults for each in checks) else 0


@app.command()
@click.argument("first")
@click.argument("second")
@_study_options
@click.option("--dataset", "-d", default="", help="only this one; default: all")
@_format_option
@_metric_option
@_test_options
def compare(
    first: str,
    second: str,
    study: str,
    out: Path,
    dataset: str,
    output: str,
    metric: tuple[str, ...],
    **flags: Any,
) -> int:
    """Compare two methods, or METHOD@STUDY with METHOD@STUDY: difference, interval, p."""
    from bench.comparing import Side, compared
    from bench.reporting import check_format, metrics_of, print_built

    check_format(output)
    sides = [Side.of(text, out, study) for text in (first, second)]
    claim, _ = _claim(**flags)
    print_built(compared(*sides, dataset=dataset, metrics=metrics_of(metric), claim=claim), output)
    return 0


@app.command()
@click.argument("name", default="curves")
@_study_options
@_metric_option
@click.option("--common-cases", is_flag=True, help="only the cases that every column has")
@_include_option
def figure(
    name: str,
    study: str,
    out: Path,
    metric: tuple[str, ...],
    include: tuple[Path, ...],
    **shown: Any,
) -> int:
    """Draw a study as PDF and PNG, with the numbers as CSV; see `bench list reports`."""
    from bench.report import ReportOptions
    from bench.reporting import metrics_of, write_figures

    options = ReportOptions(metrics_of(metric), **shown)
    for path in write_figures(_study(out, study), name, options, include):
        print(path)
    return 0


@app.command()
@_study_options
@_metric_option
@click.option("--common-cases", is_flag=True, help="only the cases that every column has")
@_claim_options
@_include_option
def report(
    study: str, out: Path, metric: tuple[str, ...], include: tuple[Path, ...], **flags: Any
) -> int:
    """Write a study as one page with its tables, figures and costs; it opens offline."""
    from bench.page import write_report
    from bench.report import ReportOptions
    from bench.reporting import metrics_of

    claim, shown = _claim(**flags)
    options = ReportOptions(metrics_of(metric), claim=claim, **shown)
    print(write_report(_study(out, study), options, include)[0])
    return 0


@app.command()
@_request_options
@click.option("--per-subset", is_flag=True, help="a column for each subset")
@click.option("--batch", default=1, show_default=True, help="cases at a time, for time and memory")
@click.option("--repeats", default=20, show_default=True, help="timed passes; the median counts")
@click.option("--replay", help="rebuild a paper's table: table4")
@click.option(
    "--study", help="measure the rows of this study, and keep the numbers for its figures"
)
@click.option(
    "--out", type=PATH, default="results", show_default=True, help="folder of all studies"
)
def complexity(
    *,
    config: Path | None,
    pairs: tuple[str, ...],
    output: str,
    per_subset: bool,
    batch: int,
    repeats: int,
    replay: str | None,
    study: str | None,
    out: Path,
    **flags: Any,
) -> int:
    """Count parameters, MACs, time and memory of methods on a dataset; train nothing."""
    from bench.reporting import print_built

    effort = (batch, repeats, per_subset)
    if study is not None:
        if flags["methods"] or flags["datasets"]:
            raise BadRequest("--study measures what the study was asked; leave out -m and -d")
        from bench.complexity_tables import Effort, study_tables

        place = {name: flags[name] for name in ("device", "threads", "data_root") if flags[name]}
        print_built(study_tables(_study(out, study), Effort(*effort), place), output)
        return 0

    if replay is not None:
        from bench.table4 import replayed

        print_built([replayed(replay)], output)
        return 0
    request = _request(flags, config, pairs)
    from bench.complexity_tables import Effort, complexity_tables

    print_built(complexity_tables(request, Effort(*effort)), output)
    return 0


@app.command()
@click.argument("run_name", metavar="RUN")
@_study_options
@click.option("--dataset", "-d", default="", help="what reads the new cases; default: as the run")
@click.option("--data", type=PATH, help="YAML file that describes the new cases")
@click.option("--set", "pairs", multiple=True, help="DATASET.KEY=VALUE")
@click.option("--data-root", type=PATH, help="folder of the new cases' files")
@click.option("--to", type=PATH, help="FILE.csv or FILE.parquet; default: CSV to the terminal")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda")
@click.option("--threads", default=1, show_default=True, help="of the process")
@_cache_option
@_plugin_options
def predict(
    run_name: str,
    study: str,
    out: Path,
    dataset: str,
    data: Path | None,
    pairs: tuple[str, ...],
    to: Path | None,
    **place: Any,
) -> int:
    """Predict new cases, whatever they lack, from a finished run.

    RUN is the path of a run's folder, or its name in a study (or how that begins).
    """
    from bench.answers import check_target, csv_lines, write_answer

    check_target(to)
    from bench.predicting import answer, find_run, new_cases
    from bench.store import StudyFolder

    folder = find_run(run_name, StudyFolder(out, study))
    found = answer(folder, new_cases(folder, dataset, data, pairs, **place))
    if to is None:
        print("".join(csv_lines(found)), end="")
    else:
        write_answer(found, to)
    return 0


@app.command()
@click.argument("names", nargs=-1)
@_plugin_options
def cite(names: tuple[str, ...], include: tuple[Path, ...], override: bool) -> int:
    """Print BibTeX of the papers behind methods, with the citations of datasets as notes.

    NAMES are methods and datasets; without any, all are printed.
    """
    from bench.citations import cite_lines

    print("\n".join(cite_lines(names, include, override=override)).strip())
    return 0


def _claim(
    *, test: str, correction: Any, alpha: float, reference: str = "", **others: Any
) -> tuple[Claim, dict[str, Any]]:
    """Check what is asked to be tested; return it and the other flags."""
    from bench.significance import Claim

    return Claim(test, reference, correction, alpha).checked(), others


def _study(out: Path, name: str) -> StudyFolder:
    from bench.store import StudyFolder

    if not (out / name).is_dir():
        raise BadRequest(f"no study is at {out / name}; `bench run` makes one, --out says where")
    return StudyFolder(out, name)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: 0 done, 1 some runs failed, 2 wrong request, 130 interrupted."""
    try:
        with _ended_as_by_ctrl_c():
            code = app.main(arguments, prog_name="bench", standalone_mode=False)
            sys.stdout.flush()
    except BenchError as error:
        code = _refused(str(error))
    except click.ClickException as error:
        code = _refused(_worded(error))
    except (KeyboardInterrupt, click.Abort):
        said = "interrupted; what is finished stays, the same command goes on"
        print(f"bench: {said}", file=sys.stderr)
        code = 130
    except (BrokenPipeError, SystemExit):  # whoever read has enough; click exits at a broken pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code or 0)


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Take SIGTERM, by which `bench cancel` and batch systems end a command, for Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # which alone may hear one
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _refused(reason: str) -> int:
    """Say in one line why a request is refused, and return the exit code of it."""
    print(f"bench: {' '.join(reason.split())}", file=sys.stderr)
    return 2


def _worded(error: click.ClickException) -> str:
    """Word a fault of the command line, with the nearest command or option where one is near."""
    text = " ".join(error.format_message().split()).removesuffix(".")
    text = re.sub(r"\. \(?Did you mean (.*)\?\)?$", r"; did you mean \1?", text)
    text = text[:1].lower() + text[1:]
    return f"{text} see --help" if text.endswith("?") else f"{text}; see --help"


if __name__ == "__main__":
    main()
