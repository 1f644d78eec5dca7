"""Commands for data: prepare, cache, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.commands.options import (
    PATH,
    cache_option,
    command,
    include_option,
    plugin_options,
    study_options,
)


@command()
@click.argument("dataset")
@click.option("--set", "pairs", multiple=True, help="DATASET.KEY=VALUE")
@click.option("--data-root", type=PATH, help="folder of the dataset's files")
@click.option("--out", type=PATH, default="results", show_default=True, help="for the figure")
@click.option("--attributes", type=PATH, help="write what reports mention here, to be corrected")
@cache_option
@include_option
def prepare(
    dataset: str,
    pairs: tuple[str, ...],
    data_root: Path | None,
    out: Path,
    attributes: Path | None,
    include: tuple[Path, ...],
) -> int:
    """Check a dataset, by name or YAML file; print and draw its modalities, classes and gaps."""
    from bench.preparation.preparation import prepare_lines
    from bench.request import settings_of

    for line in prepare_lines(dataset, settings_of(pairs), data_root, list(include), out):
        print(line)
    if attributes is not None:
        from bench.manifest.attribute_tables import write_tables

        for line in write_tables(Path(dataset), data_root, attributes):
            print(line)
    return 0


@command()
@click.argument("action", type=click.Choice(["list", "size", "clear"]), default="list")
@click.option("--kind", default="", help="clear only pictures, tokens, text, answers or statistics")
@cache_option
def cache(action: str, kind: str) -> int:
    """List what was made once and kept, add it up, or clear it; all can be made again."""
    from bench.cache_folder import cache_folder, clear, entries, in_words
    from bench.plugins.listing import aligned

    if action == "clear":
        print(f"freed {in_words(clear(kind))}")
        return 0
    kept = entries()
    if action == "list":
        lines = aligned([(each.kind, in_words(each.n_bytes), each.name) for each in kept])
        print("\n".join([*lines, str(cache_folder())]))
    print(in_words(sum(each.n_bytes for each in kept)))
    return 0


@command()
@click.argument("run_name", metavar="RUN")
@study_options
@click.option("--dataset", "-d", default="", help="what reads the new cases; default: as the run")
@click.option("--data", type=PATH, help="YAML file that describes the new cases")
@click.option("--set", "pairs", multiple=True, help="DATASET.KEY=VALUE")
@click.option("--data-root", type=PATH, help="folder of the new cases' files")
@click.option("--to", type=PATH, help="FILE.csv or FILE.parquet; default: CSV to the terminal")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda")
@click.option("--threads", default=1, show_default=True, help="of the process")
@cache_option
@plugin_options
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
