"""`bench ablate`: a method whole and with each of its named switches, all repeats, side by side.

The layout of CMML's Figure 4 and of AlignedFusion's Table 4: a row and a bar per switch, AVG and
every column, with differences to the full method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.errors import BadRequest
from bench.report import Drawing
from bench.request import Request
from bench.study.session import PLAIN, Manner
from bench.tables import Table
from bench.variants.model import Stage, Variant
from bench.variants.records import Record
from bench.variants.tables import Comparison, Series, comparison_table
from bench.variants.workbench import Shown, Workbench, stem

if TYPE_CHECKING:
    from bench.method import Plugin

FULL = "full"


def ablate(request: Request, *, jobs: int, quiet: bool, output: str, manner: Manner = PLAIN) -> int:
    """Train each method whole and with each of its named switches; return the exit code.

    Raises:
        BenchError: a method names no switch, or the request cannot be carried out.
    """
    bench = Workbench(request, jobs=jobs, quiet=quiet, output=output, manner=manner)
    switches = {row: _switches(bench.plugin(row), row) for row in request.methods}
    tables: list[Table] = []
    drawings: list[Drawing] = []
    for row, variants in switches.items():
        record = bench.recorded(Record("ablation", row, (Stage(bench.carry_out(row, variants)),)))
        found, drawn = show_ablation(record)
        tables += found
        drawings += drawn
    return bench.close(tables, drawings)


def _switches(plugin: type[Plugin], row: str) -> list[Variant]:
    name = row.partition(":")[0]
    if not plugin.ablations:
        raise BadRequest(
            f"{name} names no ablation; its file names them as `ablations = "
            '{"w/o PART": {"SETTING": VALUE}}`'
        )
    each = [Variant(label, {name: dict(values)}) for label, values in plugin.ablations.items()]
    return [Variant(FULL), *each]


def ablations(record: Record) -> Iterator[Comparison]:
    """Compare the switches of an ablation with the whole method, in each layout."""
    (stage,) = record.stages
    for layout in stage.done.layouts:
        series = stage.done.series(layout)
        yield Comparison(layout, series[0], tuple(series))


def show_ablation(record: Record) -> Shown:
    """Write, for each layout, a table of all columns and one of the differences; draw the bars."""
    from bench.variants.figures import draw_bars

    row, (stage,) = record.row, record.stages
    tables: list[Table] = []
    drawings: list[Drawing] = []
    for comparison in ablations(record):
        layout, series = comparison.layout, comparison.series
        title = f"{layout.title}: {row}, differences to the full method"
        tables += [
            stage.done.score_table(series, layout, f"{row}, ablation", FULL),
            comparison_table(comparison, title, _switch_sentences(series)),
        ]
        name = stem("ablation", row, layout.dataset, layout.protocol)
        heading = f"{layout.title}: ablation of {row}"
        drawings.append(draw_bars(comparison, "AUC", heading, name))
    return tables, drawings


def _switch_sentences(series: Sequence[Series]) -> list[str]:
    """Say what each switch sets, from the runs themselves."""
    specs = [each.runs[0].spec["method_config"] for each in series if each.runs]
    whole = specs[0] if specs else {}
    said = []
    for each in series[1:]:
        config = each.runs[0].spec["method_config"] if each.runs else {}
        changed = [f"{key} = {config[key]}" for key in config if config[key] != whole.get(key)]
        said.append(f"{each.label}: {', '.join(changed) or 'nothing, it is so already'}")
    return [f"Switches: {'; '.join(said)}."]
