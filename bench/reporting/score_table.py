"""The table of scores that reports share: rows by the columns of a layout, AVG and its kin beside.

What has no number says why: a word in its place, a dash with a footnote, never a gap. A report
adds the sentences of its caption that are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bench.layout import Layout, LayoutColumn
from bench.report import ReportOptions
from bench.reporting.contents import AVERAGE, EXPECTED, EXTRAS, WORST, Contents, Part
from bench.reporting.published import CAPTION, PrintedColumn, published_groups
from bench.reporting.score_rows import rows_of_part
from bench.scores import captions, significance
from bench.scores.metrics import Metric, metric_named
from bench.scores.monotonicity import pairs_sentence
from bench.scores.results import RunResult
from bench.scores.scoring import cases_scored
from bench.scores.subgroups import subgroups_of
from bench.tables import Column, RowGroup, Table, mark_best


def score_table(
    results: Sequence[RunResult],
    layout: Layout,
    options: ReportOptions,
    explain: Callable[[Contents], list[str]],
) -> Table:
    """Make the table of a layout.

    Args:
        results: runs of any state, in the order in which their rows are wanted.
        layout: the columns.
        options: what was asked.
        explain: writes the sentences of the caption that explain this report's columns.

    Raises:
        UnknownName: a metric, or a column of subgroups, that is not there.
        BadRequest: two runs are the same repeat of the same configuration.
    """
    contents = Contents.of(results, layout, options)
    parts = [Part.of(contents, each) for each in subgroups_of(contents.rows, options.by)]
    columns = tuple(_columns(contents, parts[0]))
    groups = tuple(
        RowGroup(part.subgroup.title, mark_best(rows_of_part(part), columns)) for part in parts
    )
    caption = _caption(contents, parts[0], explain(contents))
    printed = published(contents) if options.published else []
    if printed:
        groups = (*groups, *printed)
        caption = (*caption, CAPTION)
    elif options.published:
        caption = (*caption, "No published cells are of this dataset, task and protocol.")
    return Table(contents.layout.title, columns, groups, caption, contents.notes.as_mapping())


def published(contents: Contents) -> list[RowGroup]:
    """Make the rows of the papers' printed cells that belong beside these."""
    columns: list[PrintedColumn] = []
    for metric in contents.options.metrics:
        for block, members in contents.blocks.items():
            columns += [(metric, column) for column in members]
            columns += [(metric, name) for name in contents.extras(block)]
    return published_groups(contents.layout, columns, _n_classes(contents), contents.notes)


def _columns(contents: Contents, whole: Part) -> Iterator[Column]:
    for name in contents.options.metrics:
        metric = metric_named(name)
        for block, members in contents.blocks.items():
            averaged = whole.averaged[name, block]
            for column in members:
                why = "" if column in averaged else _why_empty(contents, column)
                yield Column(
                    column.condition,
                    column.header,
                    name,
                    long_header=column.long_name,
                    unit=metric.unit,
                    n=contents.n_cases[column.place],
                    better=metric.better,
                    marks=(contents.notes.mark(why),) if why else (),
                    block=block,
                    training=column.setting,
                )
            for extra in contents.extras(block):
                yield _extra_column(extra, metric, block)


def _extra_column(name: str, metric: Metric, block: str) -> Column:
    return Column(
        name,
        name,
        metric.name,
        long_header=EXTRAS[name],
        unit=metric.unit,
        better=metric.better,
        block=block,
    )


def _why_empty(contents: Contents, column: LayoutColumn) -> str:
    """Say why no row has a score in a column; nothing if no run has finished."""
    trained = [run for run in contents.done if run.setting == column.setting]
    if not any(column.condition in run.conditions for run in trained):
        return ""
    if not contents.n_cases[column.place]:
        return f"Column {column.name} has no test cases and is left out of {AVERAGE}."
    return (
        f"The cases of column {column.name} are of one class in every repeat, so that the AUC is "
        f"undefined; it is left out of {AVERAGE}."
    )


def _caption(contents: Contents, whole: Part, explanation: Sequence[str]) -> tuple[str, ...]:
    rows, options = contents.rows, contents.options
    extras = {extra for block in contents.blocks for extra in contents.extras(block)}
    in_blocks = len(contents.blocks) > 1
    n_repeats = len(contents.repeats)
    sentences = [
        captions.metrics_sentence(options.metrics, _n_classes(contents)),
        captions.repeats_sentence(contents.repeats),
        captions.average_sentence(n_repeats, in_blocks=in_blocks) if AVERAGE in extras else "",
        captions.expected_sentence(options.weights, fits=EXPECTED in extras)
        if options.weights
        else "",
        captions.worst_sentence(options.metrics) if WORST in extras else "",
        "Best bold, second underlined, on unrounded means.",
        *_tests(whole),
        captions.cases_sentence(contents.cases.values()),
        captions.common_cases_sentence(len(cases_scored(contents.done)))
        if options.common_cases
        else "",
        *explanation,
        captions.budget_sentence(rows, options.preset),
        captions.tuning_sentence(rows),
        captions.selection_sentence(rows),
        captions.dropout_sentence(rows),
        captions.arena_sentence(rows),
        captions.leaks_sentence(options.leaks.get(contents.layout.dataset)),
    ]
    if "AUC" in options.metrics:
        sentences += captions.constant_sentences(rows, contents.columns)
    if options.monotonicity:
        sentences.append(pairs_sentence(contents.columns))
    return tuple(sentence for sentence in sentences if sentence)


def _tests(whole: Part) -> list[str]:
    """Say what was tested."""
    sentences = significance.sentences(list(whole.families.values()))
    if sentences and whole.contents.options.by:
        sentences.append("Subgroups are not tested.")
    is_wanted = whole.contents.options.claim.test != "none" and len(whole.contents.rows) > 1
    if not sentences and is_wanted and len(whole.contents.repeats) == 1:
        sentences.append("No test: one repeat cannot tell how much training varies.")
    return sentences


def _n_classes(contents: Contents) -> int:
    """Return K, 0 if no run has predictions."""
    widths = (p.shape[1] for run in contents.done for _, _, p in run.parts.values())
    return next(widths, 0)
