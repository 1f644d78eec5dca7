"""`bench prepare DATASET`: load it, say what it holds in one screen, and scan it for leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.availability import subset_name
from bench.leakscan import Scan
from bench.plugin_listing import aligned
from bench.request import Request

if TYPE_CHECKING:
    from bench.data import Dataset

N_PATTERNS = 8  # most frequent availability patterns shown
N_ATTRIBUTES = 8  # best lone attributes shown


def prepare_lines(
    name: str, settings: dict[str, Any], data_root: Path | None, include: list[Path]
) -> Iterator[str]:
    """Describe a dataset: modalities, classes, gaps, leaks.

    Raises:
        BadData: something in the files is wrong; names file, row and column.
    """
    from bench.planning import Arena, Planner

    root = None if data_root is None else str(data_root)
    request = Request(
        methods=(),
        datasets=(name,),
        settings={name: settings},
        data_root=root,
        include=tuple(map(str, include)),
    )
    arena = Arena(Planner(request), name)
    dataset = arena.dataset
    yield f"{name}: {dataset.n_cases} cases, {len(set(dataset.group))} groups"
    counts = Counter(dataset.label.tolist())
    yield "classes: " + ", ".join(f"{label} {counts[k]}" for k, label in enumerate(dataset.classes))
    yield from ["", *_modality_lines(dataset), "", *_pattern_lines(dataset), ""]
    yield from _scan_lines(arena.scan())


def _modality_lines(dataset: Dataset) -> Iterator[str]:
    natural = dataset.natural()
    rows = [("modality", "kind", "absent", "attributes (absent)")]
    for m, modality in enumerate(dataset.modalities):
        absent = (~natural.modality[:, m]).mean()
        cells = natural.attributes.get(m)
        attributes = [] if cells is None else (~cells).mean(0)
        shown = ", ".join(
            f"{attribute.name} {100 * share:.0f} %" if share else attribute.name
            for attribute, share in zip(modality.attributes, attributes, strict=True)
        )
        rows.append((modality.name, modality.kind, f"{100 * absent:.1f} %", shown))
    yield from aligned(rows)


def _pattern_lines(dataset: Dataset) -> Iterator[str]:
    """Say which modalities cases have together, the most frequent first."""
    patterns = Counter(map(tuple, dataset.natural().modality.tolist()))
    rows = [("pattern", "cases", "share", "modalities")]
    for pattern, n_cases in patterns.most_common(N_PATTERNS):
        subset = tuple(m for m, there in enumerate(pattern) if there)
        names = "+".join(dataset.modality_names[m] for m in subset) or "nothing"
        share = f"{100 * n_cases / dataset.n_cases:.1f} %"
        rows.append((subset_name(subset) if subset else "-", str(n_cases), share, names))
    yield from aligned(rows)
    if len(patterns) > N_PATTERNS:
        yield f"and {len(patterns) - N_PATTERNS} rarer patterns"


def _scan_lines(found: Scan) -> Iterator[str]:
    yield f"alone, logistic regression, mean AUC over {found.n_folds} folds:"
    rows = [
        ("  modality flags", f"{100 * found.modality_flags:.1f}", ""),
        ("  attribute flags", f"{100 * found.attribute_flags:.1f}", ""),
    ]
    rows += [
        (f"  {each.name}", f"{100 * each.auc:.1f}", each.note)
        for each in found.attributes[:N_ATTRIBUTES]
    ]
    yield from aligned(rows)
    warnings = found.warnings()
    yield "leaks: " + ("none found" if not warnings else "")
    yield from (f"  {warning}" for warning in warnings)
