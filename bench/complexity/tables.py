"""Tables of what each method costs on a dataset: the answer to `bench complexity`."""

# B batch, M modalities

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.availability import long_subset_name, subset_name, subsets
from bench.complexity.counting import Complexity, Cost, measure
from bench.data import Availability, Dataset
from bench.encoders import Inputs, Preprocessor
from bench.errors import BadData, BadRequest, NotApplicable
from bench.method import Method
from bench.reporting.costs import cost_key, keep_costs, requests_of
from bench.request import Request
from bench.runner.cell import Cell as StudyCell
from bench.runner.deep import untrained
from bench.runner.material import Context, Material
from bench.store import StudyFolder
from bench.study.planning import Planner
from bench.tables import DASH, Cell, Column, Footnotes, Row, RowGroup, Table

SHALLOW = "fitted with scikit-learn: there are no layers to count"
MILLISECOND = 1e-3
# the units of each block, the first in which every number shows at least one digit is taken
UNITS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "Parameters": (("M", 1e6), ("k", 1e3), ("", 1.0)),
    "MACs": (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)),
    "Time": (("ms per case", MILLISECOND),),
    "Peak memory": (("MiB", 2.0**20), ("KiB", 2.0**10)),
}
SMALLEST = 0.01  # printed with two digits

Figures = dict[tuple[str, str], float]  # (block, column) -> number without a unit


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    batch_size: int = 1
    n_repeats: int = 20
    per_subset: bool = False

    def __post_init__(self) -> None:
        for flag, value in (("--batch", self.batch_size), ("--repeats", self.n_repeats)):
            if value < 1:
                raise BadRequest(f"{flag} wants a number from 1 on, got {value}")


@dataclass(frozen=True)
class _Measured:
    """One row: a method, and what was found or why nothing was."""

    name: str
    found: Complexity | None = None
    reason: str = ""


def complexity_tables(
    request: Request, effort: Effort, study: StudyFolder | None = None
) -> list[Table]:
    """Measure every method on every dataset of a request: one table per dataset.

    The models are those that `bench run` would train, settings and presets included, on one
    complete case of the dataset. Nothing is trained and no weights are loaded.

    Args:
        request: what would be run.
        effort: how much is measured.
        study: where the numbers are kept for figures; None: nowhere.

    Raises:
        BenchError: an unknown name, key or value, or data that cannot be read.
        Uncounted: a layer of a method cannot be counted.
    """
    once = {"folds": (0,), "seeds": (0,), "protocols": ("all-subsets",), "floor": False}
    planner = Planner(request.model_copy(update=once))
    torch.set_num_threads(request.threads)
    cells: dict[str, list[StudyCell]] = {}
    for cell in planner.study().cells:
        cells.setdefault(cell.spec.dataset, []).append(cell)
    return [_table(each, planner.context, effort, study) for each in cells.values()]


def study_tables(study: StudyFolder, effort: Effort, place: Mapping[str, object]) -> list[Table]:
    """Measure the rows of a study, and keep the numbers in it; see `complexity_tables`.

    Args:
        study: where it lies.
        effort: how much is measured.
        place: device, threads and data folder, where others are wanted than those of the study.
    """
    here = {name: str(value) if name == "data_root" else value for name, value in place.items()}
    return [
        table
        for request in requests_of(study)
        for table in complexity_tables(request.model_copy(update=here), effort, study)
    ]


def _table(
    cells: Sequence[StudyCell], context: Context, effort: Effort, study: StudyFolder | None
) -> Table:
    rows = [_measured(cell, context, effort) for cell in cells]
    if study is not None:
        keep_costs(study, dict(_kept(cells, rows, context, effort)))
    material = Material.of(cells[0].spec, context)
    figures = [_figures(row.found, per_subset=effort.per_subset) for row in rows]
    notes = Footnotes()
    columns, scales = _columns(figures, material.dataset)
    printed = [_row(row, each, scales, notes) for row, each in zip(rows, figures, strict=True)]
    return Table(
        f"Complexity on {material.dataset.name}",
        tuple(columns),
        (RowGroup("", tuple(printed)),),
        tuple(_caption(material, context, effort)),
        notes.as_mapping(),
    )


def _kept(
    cells: Sequence[StudyCell], rows: Sequence[_Measured], context: Context, effort: Effort
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the key of each measured cell and its numbers for a complete case."""
    for cell, row in zip(cells, rows, strict=True):
        if row.found is not None:
            complete = row.found.complete
            yield (
                cost_key(cell.spec.model_dump(mode="json")),
                {
                    "method": cell.spec.row,
                    "dataset": cell.spec.dataset,
                    "n_parameters": row.found.n_parameters,
                    "macs": complete.macs,
                    "seconds": complete.seconds,
                    "batch_size": effort.batch_size,
                    "device": context.device,
                },
            )


def _measured(cell: StudyCell, context: Context, effort: Effort) -> _Measured:
    """Build and measure the model of one cell."""
    name = cell.spec.row
    if cell.reason:
        return _Measured(name, reason=cell.reason)
    material = Material.of(cell.spec, context)
    if not issubclass(material.method_class, Method):
        return _Measured(name, reason=SHALLOW)
    device = torch.device(context.device)
    try:
        model, preprocessor = untrained(material, device)
    except NotApplicable as error:
        return _Measured(name, reason=str(error))
    inputs = complete_cases(material.dataset, preprocessor, effort.batch_size).to(device)
    n_models = sum(stage.fresh for stage in model.method.stages()) or 1
    full = tuple(range(material.dataset.n_modalities))
    timed = subsets(len(full)) if effort.per_subset else [full]
    found = measure(model, inputs, timed=timed, n_repeats=effort.n_repeats, n_models=n_models)
    return _Measured(name, found)


def complete_cases(dataset: Dataset, preprocessor: Preprocessor, n_cases: int) -> Inputs:
    """Return equal cases that have everything, each modality from the case that has most of it.

    Raises:
        BadData: nobody has one of the modalities.
    """
    natural = dataset.natural()
    first = torch.zeros(n_cases, dtype=torch.long)
    content = []
    for m in range(dataset.n_modalities):
        row = np.array([_donor(dataset, natural, m)])
        content.append(preprocessor.inputs(dataset, row, natural).content[m].rows(first))
    return Inputs(tuple(content), torch.ones(n_cases, dataset.n_modalities, dtype=torch.bool))


def _donor(dataset: Dataset, natural: Availability, m: int) -> int:
    """Find the case with most of a modality, of equals the one that has most in all."""
    has = natural.modality[:, m].astype(int)
    if not has.any():
        raise BadData(f"{dataset.name}: no case has the modality {dataset.modality_names[m]!r}")
    cells = natural.attributes[m].sum(1) if m in natural.attributes else 0
    return int(np.lexsort((natural.modality.sum(1), has * (1 + cells)))[-1])


# --- from numbers to a table ------------------------------------------------------------------


def _figures(found: Complexity | None, *, per_subset: bool) -> Figures:
    """Name the numbers of a row; they are in parameters, MACs, FLOPs, seconds and bytes."""
    if found is None:
        return {}
    sizes = {"trainable": found.n_trainable, "total": found.n_parameters, "method": found.n_method}
    figures = {("Parameters", key): float(value) for key, value in sizes.items()}
    macs = _macs_per_subset(found) if per_subset else _macs(found)
    figures |= {("MACs", key): value for key, value in macs.items()}
    figures |= {("FLOPs", key): 2 * value for key, value in macs.items()}
    for subset, cost in found.costs.items():
        if cost.seconds is not None and cost.peak_bytes is not None:
            key = subset_name(subset) if per_subset else "complete"
            figures["Time", key] = cost.seconds
            figures["Peak memory", key] = float(cost.peak_bytes)
    return figures


def _macs(found: Complexity) -> dict[str, float]:
    every, complete = [cost.macs for cost in found.costs.values()], found.complete
    return {
        "complete": float(complete.macs),
        "method": float(_method_macs(complete)),
        "least": float(min(every)),
        "most": float(max(every)),
    }


def _macs_per_subset(found: Complexity) -> dict[str, float]:
    each = {subset_name(subset): float(cost.macs) for subset, cost in found.costs.items()}
    return each | {"method": float(_method_macs(found.complete))}


def _method_macs(cost: Cost) -> int:
    return cost.macs - cost.encoder_macs


def _columns(
    figures: Sequence[Figures], dataset: Dataset
) -> tuple[list[Column], dict[tuple[str, str], float]]:
    """Lay out the columns that any row has, and what each divides its numbers by."""
    places = list(dict.fromkeys(place for each in figures for place in each))
    places.sort(key=lambda place: _BLOCKS.index(place[0]))
    long = {
        subset_name(subset): long_subset_name(subset, dataset.modality_names)
        for subset in subsets(dataset.n_modalities)
    }
    columns, scales = [], {}
    for block, key in places:
        unit, scales[block, key] = _unit(block, figures)
        columns.append(Column(key, key, block, long.get(key, key), unit, better="neither"))
    return columns, scales


_BLOCKS = ("Parameters", "MACs", "FLOPs", "Time", "Peak memory")


def _unit(block: str, figures: Sequence[Figures]) -> tuple[str, float]:
    """Choose the largest unit in which no number of a block is printed as zero."""
    block = "MACs" if block == "FLOPs" else block  # one unit for both
    values = [value for each in figures for (name, _), value in each.items() if name == block]
    least = min((value for value in values if value > 0), default=0.0)
    for unit in UNITS[block]:
        if least / unit[1] >= SMALLEST:
            return unit
    return UNITS[block][-1]


def _row(
    row: _Measured, figures: Figures, scales: Mapping[tuple[str, str], float], notes: Footnotes
) -> Row:
    if row.found is None:
        cells = [Cell(text="n/a") for _ in scales]
        return Row(row.name, tuple(cells), (notes.mark(row.reason),))
    return Row(
        row.name,
        tuple(
            Cell(figures[place] / scale) if place in figures else Cell(text=DASH)
            for place, scale in scales.items()
        ),
    )


def _caption(material: Material, context: Context, effort: Effort) -> Iterator[str]:
    spec, n_subsets = material.spec, len(subsets(material.dataset.n_modalities))
    yield (
        f"One complete case; width {spec.recipe.d_model}, "
        f"{len(material.dataset.classes)} classes, preset and settings as in a run."
    )
    yield (
        "Parameters: 'method' is what the shared encoders do not hold; the copies of a method that "
        "trains one model per subset are summed."
    )
    yield (
        "MACs: multiply-accumulates per case in matrix products, convolutions and attention, "
        "encoders included; 'method' is without them. FLOPs are 2 MACs; papers often print MACs "
        "and call them FLOPs. What is fitted without gradients after training is not counted."
    )
    if effort.per_subset:
        yield "A column of digits is a subset of the modalities; what is absent is not encoded."
    else:
        yield f"'least' and 'most' are over the {n_subsets} subsets; what is absent is not encoded."
    yield (
        f"Time: median of {effort.n_repeats} passes over a batch of {effort.batch_size}, "
        f"{context.device}, {context.threads} thread{'s' * (context.threads > 1)}, "
        f"{spec.precision}."
    )
    how = "the allocator's peak" if context.device == "cuda" else "live tensors added up"
    yield f"Peak memory: of that batch beside weights and inputs, {how}."
