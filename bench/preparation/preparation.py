"""`bench prepare DATASET`: load and check it, say what it holds in one screen, scan it for leaks.

Every picture and volume is decoded once, which leaves them in the cache, and those that cannot be
used are named together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.availability import subset_name
from bench.errors import BadData, BadRequest, unknown
from bench.leakscan import Scan
from bench.plugins.listing import aligned
from bench.preparation.oddities import oddities
from bench.request import Request

if TYPE_CHECKING:
    from bench.data import Dataset, Modality

N_PATTERNS = 8  # most frequent availability patterns shown
N_ATTRIBUTES = 8  # best lone attributes shown
N_ODDITIES = 12  # shown
N_FAULTS = 10  # files that cannot be used, named before the last line counts them
CHUNK = 64  # pictures or volumes decoded between two steps of the bar


def prepare_lines(
    name: str,
    settings: dict[str, dict[str, Any]],
    data_root: Path | None,
    include: list[Path],
    out: Path,
) -> Iterator[str]:
    """Describe a dataset: modalities, classes, gaps, leaks, oddities; draw its gaps.

    Args:
        name: of the dataset, or the path of a manifest.
        settings: of the dataset, by its name.
        data_root: the folder of its files, or None.
        include: the user's plugins.
        out: folder of all studies; the figure goes into `prepared` there.

    Raises:
        UnknownName: settings of something else.
        BadData: something in the files is wrong; names file, row and column.
    """
    from bench.study.planning import Arena, Planner

    request = Request(
        methods=(),
        datasets=(name,),
        settings=settings,
        data_root=None if data_root is None else str(data_root),
        include=tuple(map(str, include)),
    )
    (name,) = request.datasets
    for section in request.settings:
        if section != name:
            raise unknown("section of settings here", section, [name])
    arena = Arena(Planner(request), name)
    dataset = arena.dataset
    yield f"{name}: {dataset.n_cases} cases, {len(set(dataset.group))} groups; {_splits(dataset)}"
    counts = Counter(dataset.label.tolist())
    yield "classes: " + ", ".join(f"{label} {counts[k]}" for k, label in enumerate(dataset.classes))
    yield from ["", *_modality_lines(dataset), "", *_pattern_lines(dataset), ""]
    faults = list(_unusable(dataset))
    if faults:
        yield from faults[1 : N_FAULTS + 1]
        raise BadData(_counted(faults))
    yield from _scan_lines(arena.scan())
    said = [*arena.plugin().oddities(arena.plugin.config_class(**arena.config), data_root)]
    said += oddities(dataset)
    yield "oddities:" + ("" if said else " none found")
    yield from (f"  {each}" for each in said[:N_ODDITIES])
    if len(said) > N_ODDITIES:
        yield f"  and {len(said) - N_ODDITIES} more"
    yield f"figure: {_figure(dataset, out / 'prepared')}"


def _splits(dataset: Dataset) -> str:
    """Say how the dataset itself is split."""
    if dataset.parts is not None:
        counts = Counter(dataset.parts.tolist())
        return "split " + ", ".join(f"{part} {n}" for part, n in counts.items())
    folds = " or ".join(map(str, sorted(dataset.folds)))
    return f"folds of its own: {folds}" if folds else "no split of its own"


def _unusable(dataset: Dataset) -> Iterator[str]:
    """Decode every picture and volume, and say what is wrong with those that cannot be used."""
    from rich.console import Console
    from rich.progress import track

    from bench.encoders.picture_cache import read_pictures, read_volumes

    present = dataset.available
    chunks = [
        (modality, rows)
        for m, modality in enumerate(dataset.modalities)
        if modality.kind in ("image", "volume")
        for rows in np.array_split(np.flatnonzero(present[:, m]), 1 + present[:, m].sum() // CHUNK)
    ]
    console = Console(stderr=True)
    for modality, rows in track(
        chunks, "files", console=console, transient=True, disable=not console.is_terminal
    ):
        read = read_pictures if modality.kind == "image" else read_volumes
        try:
            read(dataset, modality, rows)
        except BadData:
            yield from _each(dataset, modality, rows, read)


def _each(
    dataset: Dataset, modality: Modality, rows: np.ndarray, read: Callable[..., np.ndarray]
) -> Iterator[str]:
    for row in rows:
        try:
            read(dataset, modality, np.array([row]))
        except BadData as error:
            yield str(error)


def _counted(faults: list[str]) -> str:
    more = f"; {len(faults) - 1} more files cannot be used" if len(faults) > 1 else ""
    return faults[0] + more


def _figure(dataset: Dataset, folder: Path) -> Path:
    """Draw the gaps and return the picture's path.

    Raises:
        BadRequest: the folder cannot be written.
    """
    from bench.figures import write_drawing
    from bench.preparation.pattern_figure import pattern_drawing

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRequest(
            f"{folder} cannot be made ({error.strerror}); name another with --out"
        ) from None
    paths = write_drawing(pattern_drawing(dataset), folder)
    return next(path for path in paths if path.suffix == ".png")


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
