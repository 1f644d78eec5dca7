"""The command line. Imports late: `bench --help` and `bench list` touch no plugin and no torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench import __version__
from bench.errors import BadRequest, BenchError

if TYPE_CHECKING:
    from bench.request import Request
    from bench.store import StudyFolder

# The base of the command line's faults: of typer's own copy of click, or of the installed one.
CommandLineFault: type[Exception] = next(
    each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException"
)

app = typer.Typer(
    name="bench",
    help="Train methods for missing modalities, score every availability pattern, print the table.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Include = Annotated[
    list[Path] | None,
    typer.Option("--include", help="a plugin file or folder of yours; runs its code"),
]
Override = Annotated[bool, typer.Option("--override", help="let it take a built-in's name")]
Out = Annotated[Path, typer.Option("--out", help="folder of all studies")]
StudyName = Annotated[str, typer.Option("--study", help="name of the study below --out")]


@app.command()
def run(
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="NAME or NAME:PRESET")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option("--dataset", "-d")] = None,
    protocol: Annotated[list[str] | None, typer.Option("--protocol", "-p")] = None,
    preset: Annotated[str | None, typer.Option(help="quick (default) or another size")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file under the flags")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE")] = None,
    folds: Annotated[str | None, typer.Option(help="0-4 or 0,2; default: all")] = None,
    n_folds: Annotated[int | None, typer.Option(help="number of folds")] = None,
    seeds: Annotated[str | None, typer.Option(help="0-2 or 0,7; default: the dataset's")] = None,
    split: Annotated[
        str | None, typer.Option(help="leave-one-group-out=COLUMN: fold k tests its k-th value")
    ] = None,
    rates: Annotated[str | None, typer.Option(help="missing rates: 0,0.1,0.3")] = None,
    level: Annotated[
        str | None, typer.Option(help="what is missing: modality or attribute")
    ] = None,
    mechanism: Annotated[
        str | None, typer.Option(help="mcar, unequal, mar, mnar-value, mnar-label or block")
    ] = None,
    given: Annotated[str | None, typer.Option(help="the column of mar and block")] = None,
    independent: Annotated[
        bool | None, typer.Option("--independent", help="each cell by its own coin")
    ] = None,
    train_rate: Annotated[float | None, typer.Option(help="missing in training")] = None,
    balance: Annotated[str | None, typer.Option(help="none, weights or batches")] = None,
    train_dropout: Annotated[str | None, typer.Option(help="own, none or uniform")] = None,
    selection: Annotated[str | None, typer.Option(help="all-subsets, as-trained, complete")] = None,
    precision: Annotated[str | None, typer.Option(help="auto (default), float32, bf16")] = None,
    device: Annotated[str | None, typer.Option(help="auto (default), cpu, cuda")] = None,
    threads: Annotated[int | None, typer.Option(help="threads of each process; default 1")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="runs at a time")] = 1,
    floor: Annotated[bool | None, typer.Option(help="add the shallow floor (default)")] = None,
    data_root: Annotated[Path | None, typer.Option(help="folder of the dataset's files")] = None,
    include: Include = None,
    override: Override = False,
    out: Annotated[
        Path | None, typer.Option(help="folder of all studies; default: results")
    ] = None,
    study: Annotated[str | None, typer.Option(help="name of the study; default: main")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the runs and stop")] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="stop at the first failed run")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="only the first runs")] = None,
    output: Annotated[str, typer.Option("--format", help="markdown, latex or csv")] = "markdown",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress")] = False,
) -> int:
    """Train what is not trained yet, test every condition, print the table."""
    flags: dict[str, Any] = {
        "methods": method, "datasets": dataset, "protocols": protocol, "preset": preset,
        "folds": folds, "n_folds": n_folds, "seeds": seeds, "balance": balance,
        "train_dropout": train_dropout, "selection": selection, "precision": precision,
        "device": device, "threads": threads, "floor": floor,
        "data_root": str(data_root) if data_root else None,
        "include": [str(path) for path in include or ()], "override": override or None,
        "out": str(out) if out else None, "study": study,
    }  # fmt: skip
    flags["split_by"] = _split_by(split)
    gaps = {"rates": _rates(rates), "level": level, "mechanism": mechanism, "given": given,
            "independent": independent, "train_rate": train_rate}  # fmt: skip
    flags["gaps"] = {key: value for key, value in gaps.items() if value is not None}
    request = _request(flags, config, set_ or [])
    from bench.session import Session

    session = Session(request, jobs=jobs, quiet=quiet, output=output)
    if dry_run:
        return session.dry_run(limit)
    return session.run(limit, fail_fast=fail_fast)


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


def _request(flags: dict[str, Any], config: Path | None, pairs: list[str]) -> Request:
    """Lay the flags over the configuration file."""
    from bench import request as requests

    file = requests.read_yaml(config) if config else {}
    asked = {key: file[key] for key in file if key not in requests.SECTIONS}
    for key in ("method", "dataset", "protocol"):  # a file may say either
        if key in asked:
            value = asked.pop(key)
            asked[f"{key}s"] = [value] if isinstance(value, str) else value
    asked |= {key: value for key, value in flags.items() if value not in (None, [], (), {})}
    for key in ("folds", "seeds"):
        if isinstance(asked.get(key), str):
            asked[key] = requests.numbers(asked[key], f"--{key}")
    if not asked.get("methods"):
        raise BadRequest("no method is asked for; name one with --method, see `bench list methods`")
    settings = requests.merge(requests.settings_of_file(file), requests.settings_of(tuple(pairs)))
    return requests.checked(requests.Request, asked | {"settings": settings}, "run")


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def plan(context: typer.Context) -> int:
    """Print what `run` would do with the same flags: runs, states, reasons, time."""
    return int(app(["run", *context.args, "--dry-run"], standalone_mode=False) or 0)


@app.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help="name of a dataset")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="DATASET.KEY=VALUE")] = None,
    data_root: Annotated[Path | None, typer.Option(help="folder of the dataset's files")] = None,
    include: Include = None,
) -> int:
    """Check a dataset and print its modalities, classes, gaps and leaks."""
    from bench.preparation import prepare_lines
    from bench.request import settings_of

    settings = settings_of(tuple(set_ or ())).get(dataset, {})
    for line in prepare_lines(dataset, settings, data_root, include or []):
        print(line)
    return 0


@app.command("list")
def list_plugins(
    kind: Annotated[
        str | None, typer.Argument(help="methods, datasets, protocols, reports")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="import each and show why one fails")
    ] = False,
    include: Include = None,
    override: Override = False,
) -> int:
    """List the plugins by reading their files."""
    from bench.plugin_listing import list_lines

    for line in list_lines(kind, check=check, include=include or [], override=override):
        print(line)
    return 0


@app.command()
def info(name: str, include: Include = None, override: Override = False) -> int:
    """Print what a plugin says of itself: source, settings, presets, ablations, limits."""
    from bench.plugin_info import info_lines

    for line in info_lines(name, include or [], override=override):
        print(line)
    return 0


@app.command("test")
def check_plugin(name: str, include: Include = None, override: Override = False) -> int:
    """Run the conformance suite on one plugin: a name, or a file of yours."""
    from bench.conformance import run_suite

    return run_suite(name, include or [], override=override)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="method")],
    name: Annotated[str, typer.Argument(help="name of the plugin")],
    folder: Annotated[Path, typer.Option(help="where to write it")] = Path("."),
) -> int:
    """Write a working plugin and its test, to be changed."""
    from bench.scaffold import new_method

    if kind != "method":
        raise BadRequest(
            f"`bench new` writes a method, got {kind!r}; say `bench new method {name}`"
        )
    for path in new_method(name, folder):
        print(path)
    return 0


@app.command()
def status(study: StudyName = "main", out: Out = Path("results")) -> int:
    """Say of every run of a study what became of it; reads files only."""
    from bench.plugin_listing import aligned

    folder = _study(out, study)
    runs = folder.runs()
    print("\n".join(aligned([(each.path.name, each.state, each.reason()) for each in runs])))
    counts = {state: sum(each.state == state for each in runs) for state in
              ("done", "running", "pending", "failed", "skipped")}  # fmt: skip
    print(", ".join(f"{n} {state}" for state, n in counts.items() if n) or "no runs")
    return 0


@app.command()
def table(
    study: StudyName = "main",
    out: Out = Path("results"),
    output: Annotated[str, typer.Option("--format", help="markdown, latex or csv")] = "markdown",
) -> int:
    """Print the tables of a study from its stored predictions."""
    from bench.reporting import print_study

    print_study(_study(out, study), output)
    return 0


@app.command()
def complexity(
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="NAME or NAME:PRESET")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option("--dataset", "-d")] = None,
    preset: Annotated[str | None, typer.Option(help="quick (default) or another size")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file under the flags")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE")] = None,
    per_subset: Annotated[bool, typer.Option(help="a column for each subset")] = False,
    batch: Annotated[int, typer.Option(help="cases at a time, for time and memory")] = 1,
    repeats: Annotated[int, typer.Option(help="timed passes; the median counts")] = 20,
    replay: Annotated[str | None, typer.Option(help="rebuild a paper's table: table4")] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or bf16")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Annotated[int, typer.Option(help="threads of this process")] = 1,
    data_root: Annotated[Path | None, typer.Option(help="folder of the dataset's files")] = None,
    include: Include = None,
    override: Override = False,
    output: Annotated[str, typer.Option("--format", help="markdown, latex or csv")] = "markdown",
) -> int:
    """Count parameters, MACs, time and memory of methods on a dataset; train nothing."""
    from bench.reporting import print_built

    if replay is not None:
        from bench.table4 import replayed

        print_built([replayed(replay)], output)
        return 0
    flags = {
        "methods": method, "datasets": dataset, "preset": preset, "precision": precision,
        "device": device, "threads": threads, "data_root": str(data_root) if data_root else None,
        "include": [str(path) for path in include or ()], "override": override,
    }  # fmt: skip
    request = _request(flags, config, set_ or [])
    from bench.complexity_tables import Effort, complexity_tables

    print_built(complexity_tables(request, Effort(batch, repeats, per_subset)), output)
    return 0


@app.command()
def cite(
    names: Annotated[
        list[str] | None, typer.Argument(help="methods and datasets; default: all")
    ] = None,
    include: Include = None,
    override: Override = False,
) -> int:
    """Print BibTeX of the papers behind methods, with the citations of datasets as notes."""
    from bench.citations import cite_lines

    print("\n".join(cite_lines(names or [], include or [], override=override)).strip())
    return 0


def _study(out: Path, name: str) -> StudyFolder:
    from bench.store import StudyFolder

    if not (out / name).is_dir():
        raise BadRequest(f"no study is at {out / name}; `bench run` makes one, --out says where")
    return StudyFolder(out, name)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"bench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print it and stop")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: 0 done, 1 some runs failed, 2 wrong request, 130 interrupted."""
    try:
        code = app(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except BenchError as error:
        code = _refused(str(error))
    except CommandLineFault as error:
        code = _refused(_worded(error))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except (BrokenPipeError, SystemExit):  # whoever read has enough; typer exits at a broken pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if code == 130:
        said = "interrupted; what is finished stays, the same command goes on"
        print(f"bench: {said}", file=sys.stderr)
    sys.exit(code or 0)


def _refused(reason: str) -> int:
    """Say in one line why a request is refused, and return the exit code of it."""
    print(f"bench: {' '.join(reason.split())}", file=sys.stderr)
    return 2


def _worded(error: Any) -> str:
    """Word a fault of the command line, with the nearest command or option where one is near."""
    text = " ".join(error.format_message().split()).removesuffix(".")
    return text[:1].lower() + text[1:] + "; see --help"


if __name__ == "__main__":
    main()
