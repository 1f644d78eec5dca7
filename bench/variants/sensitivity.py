"""`bench sensitivity --param`: a method at each value of some settings, all repeats.

The layouts of CMML's Figures 6 and 7 and of AlignedFusion's Table 4b: one setting at a time, each
kept at its best before the next is varied, or all combinations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, product
from typing import TYPE_CHECKING, Any, Literal

import yaml

from bench.errors import BadConfig, BadRequest, unknown
from bench.layout import Layout
from bench.report import Drawing
from bench.request import Request
from bench.spec import Recipe
from bench.study.session import PLAIN, Manner
from bench.tables import Table
from bench.variants.model import Done, Parameter, Stage, Variant
from bench.variants.records import Record
from bench.variants.tables import Comparison, Series, comparison_table
from bench.variants.workbench import Shown, Workbench, stem

if TYPE_CHECKING:
    from bench.method import Plugin

Mode = Literal["alone", "sequential", "grid"]
DEFAULT = "default"


def sweep(
    request: Request,
    texts: Sequence[str],
    mode: Mode,
    *,
    jobs: int,
    quiet: bool,
    output: str,
    manner: Manner = PLAIN,
) -> int:
    """Train each method with each value of some settings; return the exit code.

    Args:
        request: what is trained, tested and repeated.
        texts: `memory_size=32,64,128`; a dotted name picks a section: `recipe.lr=1e-3,1e-4`.
        mode: `alone`: one setting at a time, the others at their defaults; `sequential`: in order,
            each kept at the value that is best on validation; `grid`: all combinations.
        jobs: runs at a time.
        quiet: show no progress.
        output: format of the tables.
        manner: how the runs are carried out.

    Raises:
        BenchError: an unknown setting, a value out of its range, or a request that cannot be
            carried out.
    """
    bench = Workbench(request, jobs=jobs, quiet=quiet, output=output, manner=manner)
    parameters = {row: _parameters(texts, row, bench.plugin(row)) for row in request.methods}
    if mode == "sequential" and len(request.datasets) * len(request.protocols) > 1:
        raise BadRequest(
            "--sequential keeps the value that is best on one dataset and one protocol; ask for "
            "one of each, or for the settings one at a time"
        )
    tables: list[Table] = []
    drawings: list[Drawing] = []
    for row, each in parameters.items():
        kind: Mode = "alone" if mode == "grid" and len(each) < 2 else mode
        record = bench.recorded(Record(kind, row, STAGES[kind](bench, row, each)))
        found, drawn = show_sweep(record)
        tables += found
        drawings += drawn
    return bench.close(tables, drawings)


def _parameters(texts: Sequence[str], row: str, plugin: type[Plugin]) -> list[Parameter]:
    found = [_parameter(text, row.partition(":")[0], plugin) for text in texts]
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"--param {name} is given twice; write all its values in one")
    return found


def _parameter(text: str, method: str, plugin: type[Plugin]) -> Parameter:
    name, equals, listing = text.partition("=")
    name = name.strip().replace("-", "_")
    if not (equals and name and listing.strip()):
        raise BadRequest(f"--param wants NAME=VALUE,VALUE,..., got {text!r}")
    section, dot, key = name.rpartition(".")
    own, shared = plugin.config_class.model_fields, Recipe.model_fields
    if not dot:
        section = "recipe" if key in shared and key not in own else method
    section = section.replace("_", "-") if section != "recipe" else section
    if section not in (method, "recipe"):
        raise BadConfig(
            str(unknown("section of settings in this study", section, (method, "recipe")))
        )
    known = shared if section == "recipe" else own
    if key not in known:
        everything = [*own, *(f"recipe.{each}" for each in shared)]
        raise BadConfig(str(unknown(f"setting of {method}", name, everything)))
    return Parameter(name, section, key, _values(name, listing))


def _values(name: str, listing: str) -> tuple[Any, ...]:
    """Read `32,64,mean`, or a YAML list where a value itself has commas."""
    text = listing.strip()
    try:
        read = yaml.safe_load(text if text.startswith("[") else f"[{text}]")
    except (yaml.YAMLError, ValueError):
        raise BadRequest(f"--param {name}: {listing!r} is not a list of YAML values") from None
    values = [_number(name, each) for each in read]
    return tuple(each for i, each in enumerate(values) if each not in values[:i])


def _number(name: str, value: Any) -> Any:
    """Read 1e-4, which YAML takes for a word, as the number that it is.

    Raises:
        BadRequest: it is a number, but not a finite one.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    if not math.isfinite(number):
        raise BadRequest(f"--param {name}: {value!r} is not a finite number; leave it out")
    return number if isinstance(value, str) else value


# --- what is trained --------------------------------------------------------------------------


def _alone(bench: Workbench, row: str, parameters: Sequence[Parameter]) -> tuple[Stage, ...]:
    """Vary one setting at a time around the default."""
    every = [parameter.at(value) for parameter in parameters for value in parameter.values]
    done = bench.carry_out(row, [Variant(DEFAULT), *every])
    return tuple(Stage(done, parameter) for parameter in parameters)


def _sequential(bench: Workbench, row: str, parameters: Sequence[Parameter]) -> tuple[Stage, ...]:
    """Vary one setting after the other, each kept at its best on validation."""
    _check_all(bench, row, parameters)
    base, stages = Variant(DEFAULT), []
    for parameter in parameters:
        every = [parameter.at(value).over(base) for value in parameter.values]
        done = bench.carry_out(row, [base, *every])
        (layout,) = done.layouts
        stages.append(Stage(done, parameter))
        base = _best([base, *every], done.series(layout))
    return tuple(stages)


def _check_all(bench: Workbench, row: str, parameters: Sequence[Parameter]) -> None:
    """Refuse a wrong value of a later setting before the first is trained."""
    from bench.study.planning import plan

    for parameter in parameters:
        for value in parameter.values:
            plan(bench.request_of(row, parameter.at(value)))


def _best(variants: Sequence[Variant], series: Sequence[Series]) -> Variant:
    """Return the variant with the best validation score; the first of equal ones."""
    scores = [-math.inf if math.isnan(each.validation) else each.validation for each in series]
    best = variants[scores.index(max(scores))]
    return replace(best, values=())


def _grid(bench: Workbench, row: str, parameters: Sequence[Parameter]) -> tuple[Stage, ...]:
    """Vary all settings at once."""
    variants = [
        _together([p.at(v) for p, v in zip(parameters, values, strict=True)])
        for values in product(*(parameter.values for parameter in parameters))
    ]
    return (Stage(bench.carry_out(row, [Variant(DEFAULT), *variants])),)


def _together(variants: Sequence[Variant]) -> Variant:
    """Make one variant of several."""
    whole = Variant(", ".join(each.label for each in variants))
    for each in variants:
        whole = replace(
            whole, settings=each.over(whole).settings, values=whole.values + each.values
        )
    return whole


STAGES: Mapping[Mode, Callable[[Workbench, str, Sequence[Parameter]], tuple[Stage, ...]]] = {
    "alone": _alone,
    "sequential": _sequential,
    "grid": _grid,
}


# --- what is shown ----------------------------------------------------------------------------


def show_sweep(record: Record) -> Shown:
    """Write the tables of a sensitivity study and draw it."""
    return _show_grid(record) if record.kind == "grid" else _show_curves(record)


def comparisons(record: Record) -> Iterator[tuple[Stage, Comparison]]:
    """Compare, layout by layout, the values of each setting with the default."""
    for layout in dict.fromkeys(each for stage in record.stages for each in stage.done.layouts):
        for stage in record.stages:
            yield stage, _comparison(layout, stage)


def _comparison(layout: Layout, stage: Stage) -> Comparison:
    """Compare the values of one setting, which may have the default among them."""
    reference, *own = stage.done.series(layout)
    parameter = stage.parameter
    if parameter is None:
        return Comparison(layout, reference, tuple(own))
    own = [each for each in own if (parameter.name,) == tuple(name for name, _ in each.values)]
    usual = parameter.of(reference.runs[0].spec) if reference.runs else None
    suffix = DEFAULT if stage.done.base.label == DEFAULT else "unchanged"
    for i, each in enumerate(own):
        if each.values[-1][1] == usual:
            own[i] = reference = replace(each, label=f"{each.label} ({suffix})")
    return Comparison(layout, reference, tuple(own))


def _show_curves(record: Record) -> Shown:
    """Write a table of all columns, one of AVG per setting, and draw the curves."""
    from bench.variants.figures import draw_curves

    row = record.row
    tables: list[Table] = []
    by_protocol: dict[str, dict[str, dict[str, Comparison]]] = {}
    for layout, pairs in groupby(comparisons(record), lambda pair: pair[1].layout):
        stages = list(pairs)
        every = {each.label: each for _, comparison in stages for each in comparison.everyone}
        done = stages[0][0].done
        default = stages[0][1].reference.label
        tables.append(done.score_table(every.values(), layout, f"{row}, sensitivity", default))
        for stage, comparison in stages:
            assert stage.parameter is not None
            name = stage.parameter.name
            title = f"{layout.title}: {row}, sensitivity to {name}"
            tables.append(comparison_table(comparison, title, _base_sentences(row, stage.done)))
            curves = by_protocol.setdefault(layout.protocol, {})
            curves.setdefault(name, {})[layout.dataset] = comparison
    return tables, [
        draw_curves(
            curves,
            "AUC",
            f"Sensitivity of {row} ({protocol})",
            stem("sensitivity", row, protocol, *curves),
        )
        for protocol, curves in by_protocol.items()
    ]


def _base_sentences(row: str, done: Done) -> list[str]:
    base = done.base
    if base.label == DEFAULT:
        return [f"Everything else of {row} is at its default."]
    kept = [f"{key} = {value}" for each in base.settings.values() for key, value in each.items()]
    return [f"Kept from before, as best on validation: {', '.join(kept)}."]


def _show_grid(record: Record) -> Shown:
    """Write, for each layout, a table of all columns and one of AVG, and draw the map."""
    from bench.variants.figures import draw_grid

    row = record.row
    tables: list[Table] = []
    drawings: list[Drawing] = []
    for stage, comparison in comparisons(record):
        layout = comparison.layout
        names = ", ".join(name for name, _ in comparison.series[0].values)
        title = f"{layout.title}: {row}, grid over {names}"
        tables.append(stage.done.score_table(comparison.everyone, layout, f"{row}, grid", DEFAULT))
        tables.append(comparison_table(comparison, title))
        name = stem("grid", row, layout.dataset, layout.protocol)
        drawings.append(draw_grid(comparison, "AUC", f"{layout.title}: {row}", name))
    return tables, drawings
