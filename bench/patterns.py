"""Missing patterns: who loses what, drawn once and the same for every method.

The pattern of a case depends on (data set, level, mechanism, part, repeat) and the rate alone. Each
column has an order in which its cells go; a rate takes the first round(rate x cells) of them, so
patterns are nested. A case keeps its last cell: its turn passes to the next case in the order.
"""

# N cases, n cases of a part, A attributes, C columns that can lose cells

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.availability import Subset
from bench.data import Availability, Dataset, Split
from bench.errors import BadRequest, unknown
from bench.protocol import Condition, Gaps, Setting
from bench.seeds import seed_for

STRENGTH = (
    1.5  # of mar and mnar: a cell at the top of its column's ranks is e^3 times as likely to go
)
Repeat = tuple[int, int]  # fold, seed


@dataclass(frozen=True)
class Pattern:
    """Who has what after the gaps, and how the draw went."""

    availability: Availability  # of all N cases
    realised: Mapping[str, float]  # column with present cells -> share of them that is gone
    n_displaced: int = 0  # turns that fell on a case's last cell and passed to another case
    n_empty: int = 0  # scored cases that have nothing and are given the class shares of training


@dataclass(frozen=True, eq=False)
class _Cells:
    """The cells of one part that a level can take away."""

    names: tuple[str, ...]  # (C,)
    place: tuple[tuple[int, int], ...]  # (C,) modality, and attribute or -1
    present: np.ndarray  # (n, C) bool
    fixed: np.ndarray  # (n,) what a case has beside these cells: it cannot be emptied


# --- what settings and conditions ask for -----------------------------------------------------


def training_pattern(dataset: Dataset, setting: Setting, split: Split, repeat: Repeat) -> Pattern:
    """Return who has what under a training setting; the test part keeps what it has.

    Raises:
        BadRequest: the gaps cannot be made on this dataset.
    """
    natural = dataset.natural()
    if setting.gaps is None:
        return Pattern(natural, {})
    drawn = draw(dataset, setting.gaps, natural, split.train, "train", repeat)
    valid = draw(dataset, setting.gaps, drawn.availability, split.valid, "valid", repeat)
    return Pattern(valid.availability, drawn.realised, drawn.n_displaced)


def rows_that_serve(observed: np.ndarray, subset: Subset | None) -> np.ndarray:
    """List the cases that have all modalities of a subset; None asks for any one."""
    if subset is None:
        return np.flatnonzero(observed.any(1))
    return np.flatnonzero(observed[:, list(subset)].all(1))


def test_pattern(
    dataset: Dataset, condition: Condition, split: Split, repeat: Repeat
) -> tuple[np.ndarray, Pattern]:
    """Return the test cases that a condition scores, and who has what in it.

    Raises:
        BadRequest: the gaps cannot be made on this dataset.
    """
    natural = dataset.natural()
    if condition.subset is not None and condition.every_case:
        kept = natural.keep(condition.subset)
        n_empty = int((~kept.modality[split.test].any(1)).sum())
        return split.test, Pattern(kept, {}, n_empty=n_empty)
    rows = split.test[rows_that_serve(natural.modality[split.test], condition.subset)]
    if condition.subset is not None:
        return rows, Pattern(natural.keep(condition.subset), {})
    if condition.gaps is None:
        return rows, Pattern(natural, {})
    return rows, draw(dataset, condition.gaps, natural, rows, "test", repeat)


test_pattern.__test__ = False  # type: ignore[attr-defined]  # its name is not a test's


def pattern_digest(availability: Availability, rows: np.ndarray) -> str:
    """Hash who has what among these cases, in their order."""
    chosen = availability.rows(rows)
    parts = [np.packbits(chosen.modality).tobytes()]
    parts += [np.packbits(chosen.attributes[m]).tobytes() for m in sorted(chosen.attributes)]
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:16]


def pattern_words(pattern: Pattern) -> dict[str, object]:
    """Return what a report should print of a draw: its rates, turns aside, and empty cases."""
    found: dict[str, object] = {
        "realised": dict(pattern.realised),
        "n_displaced": pattern.n_displaced,
    }
    return found | ({"n_empty": pattern.n_empty} if pattern.n_empty else {})


# --- the draw ---------------------------------------------------------------------------------


def draw(
    dataset: Dataset,
    gaps: Gaps,
    natural: Availability,
    rows: np.ndarray,
    part: str,
    repeat: Repeat,
) -> Pattern:
    """Take cells away from some cases.

    Args:
        dataset: the cases.
        gaps: rate, level, mechanism.
        natural: who has what before, of all N cases.
        rows: (n,) the cases of the part.
        part: `train`, `valid` or `test`.
        repeat: fold and seed.

    Raises:
        BadRequest: an unknown column, nothing to remove, or a rate that would empty cases.
    """
    cells = _cells(dataset, gaps, natural, rows)
    rates = _rates(gaps, cells)
    n_units = len(cells.names) + int(cells.fixed.max(initial=0))
    if max(rates) > (n_units - 1) / n_units + 1e-9:
        raise BadRequest(
            f"{dataset.name}: a rate of {max(rates):g} leaves some cases without anything, each "
            f"keeps one of {n_units}; ask for at most {(n_units - 1) / n_units:.3g}"
        )
    how = f"{gaps.mechanism}({gaps.given})"
    seed = seed_for("pattern", dataset.name, gaps.level, how, part, *repeat)
    generator = np.random.default_rng(seed)
    uniform = _uniform(dataset, gaps, cells, rows, generator)  # (n, C)
    weight = _weight(dataset, gaps, cells, rows)  # (n, C)
    if gaps.independent:
        removed, n_displaced = _by_coin(cells, rates, uniform, weight), 0
    else:
        key = -np.log(uniform) / weight  # smaller goes earlier: sampling without replacement
        removed, n_displaced = _by_order(dataset.name, cells, rates, key)
    return Pattern(
        _without(dataset, natural, rows, cells, removed), _realised(cells, removed), n_displaced
    )


def _cells(dataset: Dataset, gaps: Gaps, natural: Availability, rows: np.ndarray) -> _Cells:
    modality = natural.modality[rows]
    if gaps.level == "modality":
        names = dataset.modality_names
        place = tuple((m, -1) for m in range(len(names)))
        return _Cells(names, place, modality, np.zeros(len(rows), int))
    tables = sorted(natural.attributes)
    if not tables:
        raise BadRequest(
            f"{dataset.name} has no table, so no attributes can be missing; use level modality"
        )
    place = tuple((m, a) for m in tables for a in range(len(dataset.modalities[m].attributes)))
    names = tuple(
        f"{dataset.modalities[m].name}.{dataset.modalities[m].attributes[a].name}" for m, a in place
    )
    present = np.concatenate([natural.attributes[m][rows] for m in tables], axis=1)
    others = [m for m in range(dataset.n_modalities) if m not in tables]
    return _Cells(names, place, present, modality[:, others].sum(1))


def _rates(gaps: Gaps, cells: _Cells) -> list[float]:
    """Return the rate of each column."""
    if gaps.mechanism != "unequal":
        return [gaps.rate] * len(cells.names)
    if not gaps.rates:
        raise BadRequest("the mechanism unequal needs a relative rate per column (`unequal`)")
    rates = dict(gaps.rates)
    for name in rates:
        if name not in cells.names:
            raise unknown(f"{gaps.level} to remove", name, cells.names)
    return [rates.get(name, 0.0) for name in cells.names]


def _uniform(
    dataset: Dataset, gaps: Gaps, cells: _Cells, rows: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Draw a number in (0, 1) for each cell; cells of one block share it but for a tie-break."""
    own = 1.0 - generator.random(cells.present.shape)  # in (0, 1], whatever the rate
    if gaps.mechanism != "block":
        return own
    if gaps.level == "attribute":  # a case's cells of one table go together
        tables = [m for m, _ in cells.place]
        first = [tables.index(m) for m in tables]
        shared = own[:, first]
    else:  # the cases of one group lose a modality together
        _, block = np.unique(_blocks(dataset, gaps, rows), return_inverse=True)
        shared = (1.0 - generator.random((block.max() + 1, len(cells.names))))[block]
    return np.clip(shared * (1 - 1e-6) + own * 1e-6, 1e-12, 1.0)


def _blocks(dataset: Dataset, gaps: Gaps, rows: np.ndarray) -> np.ndarray:
    if gaps.given:
        return _column(dataset, gaps.given)[rows]
    if len(np.unique(dataset.group)) == dataset.n_cases:
        raise BadRequest(
            f"{dataset.name} has no groups of several cases; name the column whose values are the "
            f"blocks with `given` ({', '.join(dataset.columns) or 'the dataset has none'})"
        )
    return dataset.group[rows]


def _weight(dataset: Dataset, gaps: Gaps, cells: _Cells, rows: np.ndarray) -> np.ndarray:
    """Return how much likelier than others each cell is to go: (n, C), 1 at random."""
    shape = cells.present.shape
    if gaps.mechanism == "mar":
        if not gaps.given:
            raise BadRequest("the mechanism mar needs the column that it depends on (`given`)")
        rank = _rank(_column(dataset, gaps.given)[rows])
        return np.exp(STRENGTH * np.broadcast_to(rank[:, None], shape))
    if gaps.mechanism == "mnar-label":
        rank = _rank(dataset.label[rows])
        return np.exp(STRENGTH * np.broadcast_to(rank[:, None], shape))
    if gaps.mechanism == "mnar-value":
        return np.exp(STRENGTH * _own_value_ranks(dataset, gaps, cells, rows))
    return np.ones(shape)


def _own_value_ranks(dataset: Dataset, gaps: Gaps, cells: _Cells, rows: np.ndarray) -> np.ndarray:
    if gaps.level != "attribute":
        raise BadRequest(
            "a whole modality has no value of its own; use mnar-value at level attribute"
        )
    ranks = np.zeros(cells.present.shape)
    for c, (m, a) in enumerate(cells.place):
        modality = dataset.modalities[m]
        column = dataset.table(modality.name)[modality.attributes[a].name]
        ranks[:, c] = _rank(column.to_numpy()[rows])
    return ranks


def _column(dataset: Dataset, name: str) -> np.ndarray:
    """Return a column by name: a subgroup column, or an attribute of a table."""
    if name in dataset.columns:
        return dataset.columns[name]
    for modality in dataset.modalities:
        if name in (attribute.name for attribute in modality.attributes):
            return dataset.table(modality.name)[name].to_numpy()
    attributes = [each.name for modality in dataset.modalities for each in modality.attributes]
    raise unknown(f"column of {dataset.name}", name, [*dataset.columns, *attributes])


def _rank(values: np.ndarray) -> np.ndarray:
    """Return ranks scaled to -1 ... 1, ties at their mean, absent values in the middle: (n,)."""
    import pandas as pd

    series = pd.Series(values)
    if not pd.api.types.is_numeric_dtype(series):
        series = pd.Series(pd.factorize(series.astype("string"), sort=True)[0]).replace(-1, np.nan)
    rank = series.rank().to_numpy(float, na_value=np.nan)
    n = np.isfinite(rank).sum()
    return np.nan_to_num((2 * rank - n - 1) / max(n - 1, 1), nan=0.0)


def _by_coin(
    cells: _Cells, rates: Sequence[float], uniform: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Remove each present cell by its own coin; an emptied case gets its last cell back."""
    mean = np.where(cells.present, weight, np.nan)
    mean = np.nan_to_num(np.nanmean(mean, 0), nan=1.0) if len(weight) else np.ones(len(rates))
    removed = cells.present & (uniform < np.asarray(rates) * weight / mean)
    empty = (cells.present & ~removed).sum(1) + cells.fixed == 0
    last = np.where(cells.present, uniform / weight, -1.0).argmax(1)
    removed[empty, last[empty]] = False
    return removed


def _by_order(
    dataset: str, cells: _Cells, rates: Sequence[float], key: np.ndarray
) -> tuple[np.ndarray, int]:
    """Remove exactly round(rate x present cells) of each column, column after column in turn."""
    n_present = cells.present.sum(0)
    wanted = [round(rate * int(n)) for rate, n in zip(rates, n_present, strict=True)]
    left = cells.present.sum(1) + cells.fixed
    removed = np.zeros_like(cells.present)
    queues = [
        iter(
            np.flatnonzero(cells.present[:, c])[key[cells.present[:, c], c].argsort(kind="stable")]
        )
        for c in range(len(rates))
    ]
    n_displaced, lacking = 0, 0
    for c in _turns(wanted, n_present, rates):
        for row in queues[c]:
            if left[row] > 1:
                removed[row, c] = True
                left[row] -= 1
                break
            n_displaced += 1
        else:
            lacking += 1
    if lacking > 1:  # one cell can be a matter of rounding: 4 + 4 of 7 cases with two modalities
        raise BadRequest(
            f"{dataset}: {max(rates):g} of the present cells cannot go without emptying cases, "
            f"{lacking} of {sum(wanted)} are too many; ask for a lower rate"
        )
    return removed, n_displaced


def _turns(wanted: Sequence[int], n_present: np.ndarray, rates: Sequence[float]) -> list[int]:
    """Order the removals so that those of a lower rate come first, whatever rate is asked for."""
    highest = max(rates) or 1.0
    turns = [
        ((i + 0.5) / (n_present[c] * rates[c] / highest), c)
        for c, n in enumerate(wanted)
        for i in range(n)
    ]
    return [c for _, c in sorted(turns)]


def _without(
    dataset: Dataset, natural: Availability, rows: np.ndarray, cells: _Cells, removed: np.ndarray
) -> Availability:
    modality = natural.modality.copy()
    attributes = {m: seen.copy() for m, seen in natural.attributes.items()}
    for c, (m, a) in enumerate(cells.place):
        gone = rows[removed[:, c]]
        if a < 0:
            modality[gone, m] = False
            if m in attributes:
                attributes[m][gone] = False
        else:
            attributes[m][gone, a] = False
    for m, seen in attributes.items():
        modality[:, m] &= seen.any(1)
    return Availability(modality, attributes)


def _realised(cells: _Cells, removed: np.ndarray) -> dict[str, float]:
    n_present = cells.present.sum(0)
    return {
        name: float(removed[:, c].sum() / n_present[c])
        for c, name in enumerate(cells.names)
        if n_present[c]
    }
