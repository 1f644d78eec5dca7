"""`bench sensitivity --param`: a method at each value of some settings, all repeats.

The layouts of CMML's Figures 6 and 7 and of AlignedFusion's Table 4b: one setting at a time, each
kept at its best before the next is varied, or all combinations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import yaml

from bench.errors import BadConfig, BadRequest, unknown
from bench.layout import Layout
from bench.report import Drawing
from bench.request import Request
from bench.spec import Recipe
from bench.study import plan
from bench.tables import Table
from bench.variant_tables import Comparison, Series, comparison_table
from bench.variants import Variant, Workbench, stem

if TYPE_CHECKING:
    from bench.method import Plugin

Mode = Literal["alone", "sequential", "grid"]
DEFAULT = "default"


@dataclass(frozen=True)
class Parameter:
    """One setting and the values that it is to take."""

    name: str  # as tables print it
    section: str  # a method, or `recipe`
    key: str
    values: tuple[Any, ...]

    def at(self, value: Any) -> Variant:
        """Return the variant with this value."""
        settings = {self.section: {self.key: value}}
        return Variant(f"{self.name} = {value}", settings, ((self.name, value),))

    def of(self, spec: Mapping[str, Any]) -> Any:
        """Return the value that a run had."""
        return spec["recipe" if self.section == "recipe" else "method_config"][self.key]


def sweep(
    request: Request, texts: Sequence[str], mode: Mode, *, jobs: int, quiet: bool, output: str
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

    Raises:
        BenchError: an unknown setting, a value out of its range, or a request that cannot be
            carried out.
    """
    bench = Workbench(request, jobs=jobs, quiet=quiet, output=output)
    parameters = {row: _parameters(texts, row, bench.plugin(row)) for row in request.methods}
    if mode == "sequential" and len(request.datasets) * len(request.protocols) > 1:
        raise BadRequest(
            "--sequential keeps the value that is best on one dataset and one protocol; ask for "
            "one of each, or for the settings one at a time"
        )
    modes = {"alone": _alone, "sequential": _sequential, "grid": _grid}
    tables: list[Table] = []
    drawings: list[Drawing] = []
    for row, each in parameters.items():
        found, drawn = modes[mode](bench, row, each)
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


Drawn = tuple[list[Table], list[Drawing]]


def _alone(bench: Workbench, row: str, parameters: Sequence[Parameter]) -> Drawn:
    """Vary one setting at a time around the default."""
    base = Variant(DEFAULT)
    every = [parameter.at(value) for parameter in parameters for value in parameter.values]
    done = bench.carry_out(row, [base, *every])
    series = {layout: done.series(layout) for layout in done.layouts}
    stages = [(parameter, base, series) for parameter in parameters]
    return _show(bench, row, stages)


def _sequential(bench: Workbench, row: str, parameters: Sequence[Parameter]) -> Drawn:
    """Vary one setting after the other, each kept at its best on validation."""
    _check_all(bench, row, parameters)
    base, stages = Variant(DEFAULT), []
    for parameter in parameters:
        every = [parameter.at(value).over(base) for value in parameter.values]
        done = bench.carry_out(row, [base, *every])
        (layout,) = done.layouts
        series = done.series(layout)
        stages.append((parameter, base, {layout: series}))
        base = _best([base, *every], series)
    return _show(bench, row, stages)


def _check_all(bench: Workbench, row: str, parameters: Sequence[Parameter]) -> None:
    """Refuse a wrong value of a later setting before the first is trained."""
    for parameter in parameters:
        for value in parameter.values:
            plan(bench.request_of(row, parameter.at(value)))


def _best(variants: Sequence[Variant], series: Sequence[Series]) -> Variant:
    """Return the variant with the best validation score; the first of equal ones."""
    scores = [-math.inf if math.isnan(each.validation) else each.validation for each in series]
    best = variants[scores.index(max(scores))]
    return replace(best, values=())


Stage = tuple[Parameter, Variant, Mapping[Layout, Sequence[Series]]]


def _show(bench: Workbench, row: str, stages: Sequence[Stage]) -> Drawn:
    """Write a table of all columns, one of AVG per setting, and draw the curves."""
    from bench.variant_figures import draw_curves

    tables: list[Table] = []
    drawings: list[Drawing] = []
    by_protocol: dict[str, dict[str, dict[str, Comparison]]] = {}
    for layout in dict.fromkeys(layout for _, _, series in stages for layout in series):
        chosen = [_stage_comparison(layout, *stage) for stage in stages]
        every = {each.label: each for comparison in chosen for each in comparison.everyone}
        tables.append(bench.score_table(every.values(), layout, f"{row}, sensitivity"))
        for (parameter, base, _), comparison in zip(stages, chosen, strict=True):
            title = f"{layout.title}: {row}, sensitivity to {parameter.name}"
            tables.append(comparison_table(comparison, title, _base_sentences(row, base)))
            curves = by_protocol.setdefault(layout.protocol, {})
            curves.setdefault(parameter.name, {})[layout.dataset] = comparison
    for protocol, curves in by_protocol.items():
        name = stem("sensitivity", row, protocol, *curves)
        drawings.append(draw_curves(curves, "AUC", f"Sensitivity of {row} ({protocol})", name))
    return tables, drawings


def _stage_comparison(
    layout: Layout, parameter: Parameter, base: Variant, series: Mapping[Layout, Sequence[Series]]
) -> Comparison:
    """Compare the values of one setting with its default, which may be one of them."""
    reference = next(each for each in series[layout] if each.label == base.label)
    own = [each for each in series[layout] if (parameter.name,) == tuple(k for k, _ in each.values)]
    usual = parameter.of(reference.runs[0].spec) if reference.runs else None
    suffix = DEFAULT if base.label == DEFAULT else "unchanged"
    for i, each in enumerate(own):
        if each.values[-1][1] == usual:
            own[i] = reference = replace(each, label=f"{each.label} ({suffix})")
    return Comparison(layout, reference, tuple(own))


def _base_sentences(row: str, base: Variant) -> list[str]:
    if base.label == DEFAULT:
        return [f"Everything else of {row} is at its default."]
    kept = [f"{key} = {value}" for each in base.settings.values() for key, value in each.items()]
    return [f"Kept from before, as best on validation: {', '.join(kept)}."]


def _grid(bench: Workbench, row: str, parameters: Sequence[Parameter]) -> Drawn:
    """Vary all settings at once."""
    from bench.variant_figures import draw_grid

    if len(parameters) < 2:
        return _alone(bench, row, parameters)
    variants = [
        _together([p.at(v) for p, v in zip(parameters, values, strict=True)])
        for values in product(*(parameter.values for parameter in parameters))
    ]
    done = bench.carry_out(row, [Variant(DEFAULT), *variants])
    tables: list[Table] = []
    drawings: list[Drawing] = []
    for layout in done.layouts:
        reference, *series = done.series(layout)
        comparison = Comparison(layout, reference, tuple(series))
        title = f"{layout.title}: {row}, grid over {', '.join(each.name for each in parameters)}"
        tables.append(bench.score_table([reference, *series], layout, f"{row}, grid"))
        tables.append(comparison_table(comparison, title))
        name = stem("grid", row, layout.dataset, layout.protocol)
        drawings.append(draw_grid(comparison, "AUC", f"{layout.title}: {row}", name))
    return tables, drawings


def _together(variants: Sequence[Variant]) -> Variant:
    """Make one variant of several."""
    whole = Variant(", ".join(each.label for each in variants))
    for each in variants:
        whole = replace(
            whole, settings=each.over(whole).settings, values=whole.values + each.values
        )
    return whole
