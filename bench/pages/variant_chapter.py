"""The chapters of a report on ablations and sensitivity studies, from their records and runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from bench.pages.chapter import Chapter
from bench.report import ReportOptions
from bench.reporting.contents import Contents
from bench.reporting.summary import Finding
from bench.scores import captions
from bench.scores.metrics import Metric, metric_named
from bench.scores.results import RunResult
from bench.tables import DASH
from bench.variants.ablation import ablations, show_ablation
from bench.variants.model import Stage, relabelled
from bench.variants.records import Record, without_contained
from bench.variants.sensitivity import comparisons, show_sweep
from bench.variants.tables import TESTS, Comparison, Series, star
from bench.wording import listed

METRIC = "AUC"  # that the summary speaks of, as the figures do
OPEN = (
    "A difference that is not clear is no evidence that a part or a value does not matter: few "
    "repeats leave wide intervals."
)
FLATTERED = (
    "The highest of several test scores is flattered: a value is chosen by the validation score."
)


def variant_chapters(records: Sequence[Record]) -> Iterator[Chapter]:
    """Describe each ablation and each sensitivity study of a study."""
    for i, record in enumerate(without_contained(records), 1):
        show = show_ablation if record.kind == "ablation" else show_sweep
        tables, drawings = show(record)
        series = [
            each for done in record.dones for layout in done.layouts for each in done.series(layout)
        ]
        yield Chapter(
            f"variants{i}",
            _title(record),
            _title(record),
            tuple(_findings(record)),
            tuple(tables),
            tuple(drawings),
            runs=tuple(_once(series)),
            failures=tuple(dict.fromkeys(_failures(record.row, series))),
            contents=tuple(_contents(record)),
        )


def _title(record: Record) -> str:
    if record.kind == "ablation":
        return f"Ablation of {record.row}"
    names = dict.fromkeys(
        name for done in record.dones for variant, _ in done.names for name, _ in variant.values
    )
    manner = {"alone": "", "sequential": ", one after the other", "grid": ", all combinations"}
    return f"Sensitivity of {record.row} to {listed(names)}{manner[record.kind]}"


def _once(series: Sequence[Series]) -> list[RunResult]:
    """List the runs, of which two variants may share one."""
    every = [run for each in series for run in each.runs]
    return list({run.folder.path: run for run in every if run.folder is not None}.values())


def _failures(row: str, series: Sequence[Series]) -> Iterator[tuple[str, str, str]]:
    """List the runs without predictions by variant: which, its state, why."""
    for each in series:
        for run in each.runs:
            if run.state != "done":
                repeat = captions.repeat_name(run.repeat)
                name = f"{row}, {each.label} on {run.dataset}, training {run.setting}, {repeat}"
                yield name, run.state, run.reason or "no reason is noted"


def _contents(record: Record) -> Iterator[Contents]:
    """Lay out the runs of each layout, a row per variant."""
    for done in record.dones:
        for layout in done.layouts:
            variant = ", ".join(filter(None, [layout.variant, record.row]))
            runs = relabelled(done.series(layout))
            yield Contents.of(runs, replace(layout, variant=variant), ReportOptions())


# --- in words ---------------------------------------------------------------------------------


def _findings(record: Record) -> Iterator[Finding]:
    """Say what each table of differences says, and at the end what none of them tells."""
    if record.kind == "ablation":
        told = [
            (f"{comparison.layout.title}: ablation of {record.row}", _judged(comparison))
            for comparison in ablations(record)
        ]
        caution = [OPEN]
    else:
        told = [
            (
                f"{comparison.layout.title}: sensitivity of {record.row} to {_varied(stage)}",
                chain(_range(comparison), _judged(comparison)),
            )
            for stage, comparison in comparisons(record)
        ]
        caution = [OPEN, FLATTERED]
    for i, (title, sentences) in enumerate(told, 1):
        yield Finding(title, (*sentences, *(caution if i == len(told) else [])))


def _varied(stage: Stage) -> str:
    return stage.parameter.name if stage.parameter else "all settings at once"


def _range(comparison: Comparison) -> Iterator[str]:
    """Say between what and what the values lead."""
    metric = metric_named(METRIC)
    means = {each.label: _mean(comparison, each) for each in comparison.series}
    known = {label: mean for label, mean in means.items() if not math.isnan(mean)}
    if len(known) > 1:
        low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
        yield (
            f"AVG {METRIC} goes from {_number(known[low], metric)} ({low}) to "
            f"{_number(known[high], metric)} ({high})."
        )


def _judged(comparison: Comparison) -> Iterator[str]:
    """Say which variants differ from the reference beyond chance, and which have no score."""
    metric = metric_named(METRIC)
    reference = comparison.reference
    there = [each for each in comparison.compared if not math.isnan(_mean(comparison, each))]
    yield f"AVG {METRIC} of {reference.label}: {_number(_mean(comparison, reference), metric)}."
    told = [_difference(comparison, each, metric) for each in there]
    if comparison.design == "single":
        if told:
            yield f"One repeat, so that no difference is tested: {listed(told)}."
    elif told:
        marks = {each.label: _mark(comparison, each, metric) for each in there}
        by_mark = {
            mark: [s for s, each in zip(told, there, strict=True) if marks[each.label] == mark]
            for mark in ("*", "†", "")
        }
        worse, better, unclear = (listed(each) if each else "none" for each in by_mark.values())
        yield (
            f"Clearly worse: {worse}; clearly better: {better}; not told apart from it: {unclear} "
            f"({TESTS[comparison.design]}; Holm over {len(comparison.compared)})."
        )
    empty = [each.label for each in comparison.everyone if not each.done]
    if empty:
        yield f"Without a finished run: {listed(empty)}."


def _mean(comparison: Comparison, series: Series) -> float:
    return comparison.average(series, METRIC).mean


def _mark(comparison: Comparison, series: Series, metric: Metric) -> str:
    key = series.label, METRIC
    marks = star(comparison.differences[key].difference, comparison.adjusted[key], metric)
    return marks[0] if marks else ""


def _difference(comparison: Comparison, series: Series, metric: Metric) -> str:
    found = comparison.differences[series.label, METRIC].difference
    return f"{series.label} ({DASH if math.isnan(found) else _number(found, metric, '+')})"


def _number(value: float, metric: Metric, sign: str = "") -> str:
    return DASH if math.isnan(value) else f"{metric.factor * value:{sign}.{metric.digits}f}"
