"""Commands that show what a study found: table, check, compare, figure, report, complexity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.commands.options import (
    PATH,
    claim_options,
    command,
    format_option,
    include_option,
    metric_option,
    plugin_options,
    request_options,
    study_options,
    test_options,
)
from bench.commands.requests import claim_of, request_of, study_of
from bench.errors import BadRequest


@command()
@study_options
@format_option
@metric_option
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
@claim_options
@plugin_options
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
    from bench.reporting.printing import MadeBy, metrics_of, print_study

    claim, shown = claim_of(**flags)
    probabilities = weights_of(weight, weights)
    options = ReportOptions(metrics_of(metric), weights=probabilities, claim=claim, **shown)
    made_by = MadeBy(report_name, include, override)
    print_study(study_of(out, study), output, options, condition, made_by)
    return 0


@command()
@study_options
def check(study: str, out: Path) -> int:
    """Check that all asked cells are there and that all rows had the same; 1: there is a fault."""
    from bench.reporting import checking
    from bench.study.standing import staleness

    folder = study_of(out, study)
    checks = checking.check(folder)
    print("\n".join([*checking.lines_of(checks), *staleness(folder)]))
    return 1 if any(each.faults for each in checks) else 0


@command()
@click.argument("first")
@click.argument("second")
@study_options
@click.option("--dataset", "-d", default="", help="only this one; default: all")
@format_option
@metric_option
@test_options
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
    from bench.reporting.comparing import Side, compared
    from bench.reporting.printing import check_format, metrics_of, print_built

    check_format(output)
    sides = [Side.of(text, out, study) for text in (first, second)]
    claim, _ = claim_of(**flags)
    print_built(compared(*sides, dataset=dataset, metrics=metrics_of(metric), claim=claim), output)
    return 0


@command()
@click.argument("name", default="curves")
@study_options
@metric_option
@click.option("--common-cases", is_flag=True, help="only the cases that every column has")
@include_option
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
    from bench.reporting.printing import metrics_of, write_figures

    options = ReportOptions(metrics_of(metric), **shown)
    for path in write_figures(study_of(out, study), name, options, include):
        print(path)
    return 0


@command()
@study_options
@metric_option
@click.option("--common-cases", is_flag=True, help="only the cases that every column has")
@claim_options
@include_option
def report(
    study: str, out: Path, metric: tuple[str, ...], include: tuple[Path, ...], **flags: Any
) -> int:
    """Write a study as one page with its tables, figures and costs; it opens offline."""
    from bench.pages.page import write_report
    from bench.report import ReportOptions
    from bench.reporting.printing import metrics_of

    claim, shown = claim_of(**flags)
    options = ReportOptions(metrics_of(metric), claim=claim, **shown)
    print(write_report(study_of(out, study), options, include)[0])
    return 0


@command()
@request_options
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
    from bench.reporting.printing import print_built

    effort = (batch, repeats, per_subset)
    if study is not None:
        if flags["methods"] or flags["datasets"]:
            raise BadRequest("--study measures what the study was asked; leave out -m and -d")
        from bench.complexity.tables import Effort, study_tables

        place = {name: flags[name] for name in ("device", "threads", "data_root") if flags[name]}
        print_built(study_tables(study_of(out, study), Effort(*effort), place), output)
        return 0

    if replay is not None:
        from bench.complexity.table4 import replayed

        print_built([replayed(replay)], output)
        return 0
    request = request_of(flags, config, pairs)
    from bench.complexity.tables import Effort, complexity_tables

    print_built(complexity_tables(request, Effort(*effort)), output)
    return 0
